"""Look at what the host is set to: settings, files, rule sets, programs.

What it means is said in `osctld.core.health.findings`.

Nothing is executed, so that a look costs milliseconds and disturbs nobody.
"""

from __future__ import annotations

import configparser
import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from osctld.core.authority.host_networks import HostSpace, Use
from osctld.core.authority.null_routes import Yielded
from osctld.core.config.host import Host
from osctld.core.health.facts import SYSCTLS, HealthFacts, SysctlLine
from osctld.core.health.programs import DECOMPRESSORS, NEEDED
from osctld.core.health.rules.link_managers import NETWORK_MANAGER_FILE, NETWORKD_FILE
from osctld.core.health.rules.requirements import INSTALLATIONS, LOADAVGS
from osctld.core.plan.kernel_state import HostFacts
from osctld.shell.health.legacy_iptables import legacy_forwarding
from osctld.shell.kernel.nftables import Nftables
from osctld.shell.lxc import apparmor
from osctld.shell.process.subprocesses import is_installed

#: In the order of precedence: a file hides those of its name in the directories behind (sysctl.d(5)).
_SYSCTL_DIRECTORIES = ("etc/sysctl.d", "run/sysctl.d", "usr/local/lib/sysctl.d", "usr/lib/sysctl.d", "lib/sysctl.d")
#: What is looked for: all but what only hosts with AppArmor need, and what no Debian lacks.
_PROGRAMS = (*NEEDED, *DECOMPRESSORS, "busybox")
_ASSIGNMENT = re.compile(r"\s*-?\s*([^#;=\s][^=\s]*)\s*=\s*(.*?)\s*")
_NETWORKD_DIRECTORIES = ("usr/lib/systemd", "usr/local/lib/systemd", "run/systemd", "etc/systemd")


#: A host that uses nothing.
EMPTY = HostSpace()


def gather_facts(
    present: HostFacts,
    host: Host,
    *,
    space: HostSpace = EMPTY,
    yielded: tuple[tuple[str, Yielded], ...] = (),
    root: Path = Path("/"),
) -> HealthFacts:
    """Everything that `osctld.core.health.findings` asks about; `space` is what links of others use, `root` where the
    files of the host are.

    Raises Unavailable when nftables cannot be read.
    """
    interfaces = [len(each.interfaces) for each in host.containers.values()]
    return HealthFacts(
        host=present,
        yielded=yielded,
        kernel=_kernel_version(),
        link_group=host.settings.host.link_group,
        containers=len(interfaces),
        interfaces=sum(interfaces),
        has_container_with_several=any(count > 1 for count in interfaces),
        permitted_versions=frozenset(
            source.network.version
            for container in host.containers.values()
            for each in container.interfaces
            for source in each.permissions()
        ),
        manages_forwarding=host.settings.host.manage_forwarding,
        networked=frozenset(
            each.link for each in space if each.network.version == 4 and each.use in (Use.CONNECTED, Use.STATIC)
        ),
        names_uplinks=host.settings.host.uplinks is not None,
        sysctls=dict(_present_sysctls()),
        sysctl_lines=tuple(sysctl_lines(root)),
        ruleset=_ruleset(),
        legacy=legacy_forwarding(),
        missing_programs=tuple(each for each in _PROGRAMS if not is_installed(each)),
        apparmor=apparmor.look(),
        requires_apparmor=host.settings.confinement.apparmor == "required",
        runs_networkd=(root / "run/systemd/netif/state").exists(),
        settings_of_networkd=_networkd_settings(root),
        runs_network_manager=(root / "run/NetworkManager").exists(),
        files=frozenset(
            each
            for each in (
                *(*INSTALLATIONS, NETWORKD_FILE, NETWORK_MANAGER_FILE, LOADAVGS),
                "/etc/udev/rules.d/70-osctl.rules",
            )
            # A package has below /usr/lib what an operator, or an installation from source, has below /etc.
            if (root / each[1:]).exists() or (root / each.replace("/etc/", "/usr/lib/", 1)[1:]).exists()
        ),
    )


def _kernel_version() -> tuple[int, int]:
    major, minor = re.findall(r"\d+", os.uname().release)[:2]
    return int(major), int(minor)


def _present_sysctls() -> Iterator[tuple[str, str]]:
    for path in SYSCTLS:
        # Not every namespace has them all.
        with contextlib.suppress(OSError):
            yield path, Path("/proc/sys", path).read_text().strip()


def _ruleset() -> tuple[dict[str, object], ...]:
    nftables = Nftables()
    try:
        return tuple(nftables.list("list ruleset", terse=True) or ())
    finally:
        nftables.close()


def sysctl_lines(root: Path) -> Iterator[SysctlLine]:
    """The settings that are applied at boot, in order; patterns and exclusions are omitted."""
    files: dict[str, Path] = {}
    for directory in _SYSCTL_DIRECTORIES:
        for file in sorted((root / directory).glob("*.conf")):
            files.setdefault(file.name, file)
    ordered = [file for _, file in sorted(files.items())]
    own = root / "etc/sysctl.conf"
    # Debian links it among the others; `sysctl --system` reads it last in any case.
    if own.exists() and own.resolve() not in [each.resolve() for each in ordered]:
        ordered.append(own)
    for file in ordered:
        try:
            lines = file.read_text(errors="replace").splitlines()
        except OSError:
            continue  # a link to nowhere, or /dev/null: a name that hides others
        for number, line in enumerate(lines, start=1):
            found = _ASSIGNMENT.fullmatch(line)
            if found is not None and "*" not in found[1]:
                yield SysctlLine(str(file.resolve()), number, _path(found[1]), found[2])


def _path(name: str) -> str:
    """A setting's path: what separates first, separates; the other one is then a dot or slash of a link's name."""
    first = re.search(r"[./]", name)
    if first is not None and first[0] == ".":
        return name.translate(str.maketrans("./", "/."))
    return name


def _networkd_settings(root: Path) -> dict[str, str]:
    """The section [Network] of networkd.conf with all its additions, the last word on each key."""
    settings: dict[str, str] = {}
    additions: dict[str, Path] = {}
    for directory in _NETWORKD_DIRECTORIES:
        for file in (root / directory / "networkd.conf.d").glob("*.conf"):
            additions[file.name] = file
    for file in (root / "etc/systemd/networkd.conf", *(file for _, file in sorted(additions.items()))):
        parser = configparser.RawConfigParser(strict=False, interpolation=None)
        parser.optionxform = str  # type: ignore[assignment,method-assign]  # keys keep their case
        with contextlib.suppress(OSError, configparser.Error):
            parser.read_string(file.read_text(errors="replace"))
            if parser.has_section("Network"):
                settings.update(parser.items("Network"))
    return settings
