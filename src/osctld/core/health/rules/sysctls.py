"""Kernel settings: those that come back at boot, reverse path filters, limits."""

from __future__ import annotations

import re
from collections.abc import Iterator

from osctld.core.health.facts import HealthFacts, SysctlLine
from osctld.core.health.finding import Finding, Severity

#: Where a setting goes that has to override those of packages: in sysctl.d(5) the last file by name wins.
OVERRIDES = "/etc/sysctl.d/zz-osctl.conf"
#: Approximate number of inotify instances of a guest with systemd; counted against root, who created the user
#: namespaces.
_INOTIFY_INSTANCES = 8
#: Entries of the kernel's neighbour table for each interface, about: two versions, and as many that are not permanent.
_NEIGHBOURS = 4


def boot(facts: HealthFacts) -> Iterator[Finding]:
    uplinks = {f"net/ipv4/conf/{each.name}/forwarding" for each in facts.host.uplinks}
    all_forwarding = {"net/ipv4/ip_forward", "net/ipv4/conf/all/forwarding", "net/ipv6/conf/all/forwarding"}
    wrong = dict.fromkeys(uplinks | all_forwarding, ("0", "1"))
    wrong["net/ipv4/conf/all/rp_filter"] = ("2", "0")
    last = {each.path: each for each in facts.sysctl_lines}
    for path, each in sorted(last.items()):
        bad, good = wrong.get(path, ("", ""))
        if each.value == bad and bad:
            yield Finding(
                Severity.WARNING,
                "reset-at-boot",
                f"{each.file}:{each.line} sets {path.replace('/', '.')} to {bad}",
                "it is applied at boot, and whenever sysctl --system is run",
                (_mend_line(each, good),),
            )


def _mend_line(line: SysctlLine, good: str) -> str:
    if re.search(r"(?:^|/)(?:usr/)?lib/sysctl\.d/|(?:^|/)run/sysctl\.d/", line.file):
        # A package's file comes back with its next version.
        return f"echo '{name(line.path)} = {good}' >> {OVERRIDES}"
    return f"sed -i '{line.line}s/^/# /' {line.file}"


def reverse_path(facts: HealthFacts) -> Iterator[Finding]:
    present = facts.sysctls.get("net/ipv4/conf/all/rp_filter", "0")
    if present == "2":
        yield Finding(
            Severity.WARNING,
            "rp-filter",
            "net.ipv4.conf.all.rp_filter is 2",
            "this makes the kernel's own source check loose on every link, and leaves only that of the packet filter",
            ("sysctl -w net.ipv4.conf.all.rp_filter=0",),
        )
    elif present == "1" and (facts.has_container_with_several or 4 in facts.permitted_versions):
        yield Finding(
            Severity.ERROR,
            "rp-filter",
            "net.ipv4.conf.all.rp_filter is 1",
            "a container with several interfaces may answer from the address of one through another; such packets are "
            "dropped"
            if facts.has_container_with_several
            else "packets from an additional allowed source have no route back to the container; they are dropped",
            ("sysctl -w net.ipv4.conf.all.rp_filter=0",),
        )


def limits(facts: HealthFacts) -> Iterator[Finding]:
    wanted = {
        "net/ipv4/neigh/default/gc_thresh3": facts.interfaces * _NEIGHBOURS,
        "net/ipv6/neigh/default/gc_thresh3": facts.interfaces * _NEIGHBOURS,
        "fs/inotify/max_user_instances": facts.containers * _INOTIFY_INSTANCES,
    }
    for path, least in wanted.items():
        present = facts.sysctls.get(path, "")
        if present.isdigit() and int(present) < least:
            is_inotify = path.startswith("fs/")
            count = f"{facts.containers} containers" if is_inotify else f"{facts.interfaces} interfaces"
            yield Finding(
                Severity.WARNING,
                "low-limit",
                f"{path.replace('/', '.')} is {present}, for {count}",
                "programs inside will fail to watch files" if is_inotify else "new neighbours may be refused",
                (f"sysctl -w {name(path)}={_round_up(least)}", keep(path, _round_up(least))),
            )


def _round_up(least: int) -> int:
    return 1 << max(10, (least * 2 - 1).bit_length())


def keep(path: str, value: int) -> str:
    """The command that makes a setting last beyond the next boot."""
    return f"echo '{name(path)} = {value}' >> {OVERRIDES}"


def name(path: str) -> str:
    """A setting as sysctl(8) takes it, also where the name of a link has dots."""
    return path if "." in path else path.replace("/", ".")
