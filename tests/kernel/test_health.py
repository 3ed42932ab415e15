"""What `self check` reads from files of the host, and the commands that mend them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from osctld.core.config.host import Host
from osctld.core.config.settings import Settings
from osctld.core.health.facts import HealthFacts
from osctld.core.health.finding import Finding
from osctld.core.health.findings import findings
from osctld.core.health.rules.sysctls import OVERRIDES
from osctld.core.plan.kernel_state import HostFacts, Uplink
from osctld.shell.health.facts import gather_facts, sysctl_lines

UPLINK = Uplink("eth0", 1500, True)
PRESENT = HostFacts(uplinks=(UPLINK,), has_ipv6_forwarding=True)
HOST = Host(uuid="3f0d6a44-95b1-4b9e-8f4d-6f1c6a1d5f00", settings=Settings())


def write(root: Path, name: str, text: str) -> Path:
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def of_code(root: Path, code: str) -> list[Finding]:
    facts = gather_facts(PRESENT, HOST, root=root)
    return [each for each in findings(facts) if each.code == code]


def mend(finding: Finding, root: Path) -> None:
    """Run the commands on the files below `root`, without those that speak to services."""
    for command in finding.commands:
        if command.split()[0] not in ("networkctl", "systemctl", "nmcli"):
            # Commands on files that were found name them as they are, below the root.
            below = re.sub(r" (/etc/(?:sysctl\.d|systemd|NetworkManager)/)", rf" {root}\1", command)
            subprocess.run(["sh", "-ec", below], check=True, timeout=10)


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("etc/sysctl.d/50-own.conf", "net.ipv4.ip_forward = 0"),
        ("etc/sysctl.conf", "net.ipv4.ip_forward=0"),
        ("etc/sysctl.d/50-own.conf", "-net/ipv6/conf/all/forwarding = 0"),
        ("etc/sysctl.d/50-own.conf", "net.ipv4.conf.eth0.forwarding = 0"),
        ("usr/lib/sysctl.d/50-package.conf", "net.ipv4.conf.all.rp_filter = 2"),
        ("run/sysctl.d/50-generated.conf", "net.ipv4.conf.all.forwarding = 0"),
    ],
)
def test_a_file_that_switches_forwarding_off_at_boot_is_found_and_mended(tmp_path: Path, file: str, line: str) -> None:
    (tmp_path / "etc/sysctl.d").mkdir(parents=True)
    write(tmp_path, file, f"# a comment\nkernel.panic = 10\n{line}\n")

    (finding,) = of_code(tmp_path, "reset-at-boot")

    assert f"{tmp_path / file}:3" in finding.what
    mend(finding, tmp_path)
    assert of_code(tmp_path, "reset-at-boot") == []
    assert (tmp_path / OVERRIDES[1:]).exists() == (not file.startswith("etc/"))


def test_only_the_setting_that_is_applied_last_counts(tmp_path: Path) -> None:
    write(tmp_path, "usr/lib/sysctl.d/10-first.conf", "net.ipv4.ip_forward = 0\nnet.ipv6.conf.all.forwarding = 0\n")
    write(tmp_path, "etc/sysctl.d/90-last.conf", "net.ipv4.ip_forward = 1\n")
    write(tmp_path, "etc/sysctl.d/10-first.conf", "; net.ipv4.ip_forward = 0\nnet.ipv4.conf.*.rp_filter = 2\n")

    assert of_code(tmp_path, "reset-at-boot") == []
    assert [(each.path, each.value) for each in sysctl_lines(tmp_path)] == [("net/ipv4/ip_forward", "1")]


def test_names_of_links_with_dots_are_read_in_either_spelling(tmp_path: Path) -> None:
    write(tmp_path, "etc/sysctl.d/a.conf", "net.ipv4.conf.eth0/7.forwarding=0\nnet/ipv4/conf/eth0.8/forwarding = 1\n")

    assert [each.path for each in sysctl_lines(tmp_path)] == [
        "net/ipv4/conf/eth0.7/forwarding",
        "net/ipv4/conf/eth0.8/forwarding",
    ]


def test_networkd_is_told_to_leave_our_links_and_routes_alone(tmp_path: Path) -> None:
    write(tmp_path, "run/systemd/netif/state", "OPER_STATE=routable\n")
    write(tmp_path, "etc/systemd/networkd.conf", "[Network]\n#ManageForeignRoutes=no\n")
    (tmp_path / "etc/systemd/network").mkdir()
    (links,) = of_code(tmp_path, "networkd")
    (routes,) = of_code(tmp_path, "networkd-routes")
    assert "ManageForeignRoutes=yes" in routes.what

    mend(links, tmp_path)
    mend(routes, tmp_path)

    assert of_code(tmp_path, "networkd") == of_code(tmp_path, "networkd-routes") == []
    written = (tmp_path / "etc/systemd/network/05-osctl.network").read_text()
    assert written == "[Match]\nName=os*\n\n[Link]\nUnmanaged=yes\n"


def test_network_manager_is_told_to_leave_our_links_alone(tmp_path: Path) -> None:
    (tmp_path / "run/NetworkManager").mkdir(parents=True)
    (tmp_path / "etc/NetworkManager/conf.d").mkdir(parents=True)
    (finding,) = of_code(tmp_path, "network-manager")

    mend(finding, tmp_path)

    assert of_code(tmp_path, "network-manager") == []


def test_a_host_without_those_programs_needs_none_of_it(tmp_path: Path) -> None:
    codes = {each.code for each in findings(gather_facts(PRESENT, HOST, root=tmp_path))}

    assert codes & {"networkd", "networkd-routes", "network-manager", "reset-at-boot"} == set()


@pytest.mark.parametrize(
    ("path", "facts", "wanted"),
    [
        ("net/ipv4/neigh/default/gc_thresh3", HealthFacts(PRESENT, (6, 6), 111, interfaces=300), 4096),
        ("net/ipv6/neigh/default/gc_thresh3", HealthFacts(PRESENT, (6, 6), 111, interfaces=1000), 8192),
        ("fs/inotify/max_user_instances", HealthFacts(PRESENT, (6, 6), 111, containers=200), 4096),
    ],
)
def test_limits_are_compared_with_what_there_is(path: str, facts: HealthFacts, wanted: int) -> None:
    def with_value(value: int) -> list[Finding]:
        sysctls = {path: str(value)}
        return [each for each in findings(_replaced(facts, sysctls)) if each.code == "low-limit"]

    (finding,) = with_value(1024)

    assert finding.commands[0] == f"sysctl -w {path.replace('/', '.')}={wanted}"
    assert with_value(wanted) == []


def _replaced(facts: HealthFacts, sysctls: dict[str, str]) -> HealthFacts:
    return HealthFacts(facts.host, facts.kernel, facts.link_group, facts.containers, facts.interfaces, sysctls=sysctls)


def test_what_is_missing_is_named_with_its_package() -> None:
    facts = HealthFacts(PRESENT, (6, 1), 111, missing_programs=("lxc-start", "xz", "busybox"))

    missing, xz, busybox, kernel = findings(facts)

    assert (missing.severity, missing.commands) == ("error", ("apt-get install --no-install-recommends lxc",))
    assert (busybox.severity, busybox.commands) == (
        "warning",
        ("apt-get install --no-install-recommends busybox-static",),
    )
    assert (xz.severity, xz.commands) == ("warning", ("apt-get install --no-install-recommends xz-utils",))
    assert (kernel.severity, kernel.code) == ("note", "old-kernel")


def test_what_a_package_brings_below_usr_lib_counts(tmp_path: Path) -> None:
    for directory in ("run/systemd/netif/state", "run/NetworkManager"):
        (tmp_path / directory).mkdir(parents=True)
    write(tmp_path, "usr/lib/systemd/network/05-osctl.network", "")
    write(tmp_path, "usr/lib/udev/rules.d/70-osctl.rules", "")

    assert of_code(tmp_path, "networkd") == of_code(tmp_path, "network-manager") == []


def test_a_package_beside_an_installation_from_source_is_found(tmp_path: Path) -> None:
    (tmp_path / "usr/lib/osctl").mkdir(parents=True)
    assert of_code(tmp_path, "two-installations") == []

    (tmp_path / "usr/local/lib/osctl").mkdir(parents=True)

    (finding,) = of_code(tmp_path, "two-installations")
    assert "/usr/local/lib/osctl" in finding.what
    assert finding.commands == ("./dev uninstall", "systemctl enable --now osctld")
