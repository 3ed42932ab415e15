"""Network tools inside a real guest: what they do at boot and when they are restarted keeps what osctld configured.

All of them are in one Debian guest, and all of them run, with configurations of a tenant that match its interface.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from whole.debian_images import debian_image
from whole.host import Topology, wait_until

VIAS = ["10.100.10.100/30", "fd00:1::/126"]
#: In the order in which they were installed first, netctl being started by hand.
TOOLS = ("iproute2", "ifupdown", "network-manager", "netctl", "connman", "dhcpcd5", "netplan.io")
MATCHES_ALL = "[Match]\nName=*\n[Network]\nDHCP=yes\n"
#: Of a tenant. Each would take the addresses of eth0 away, sooner or later.
TENANT = {
    "etc/systemd/network/01-all.network": MATCHES_ALL,
    "etc/netplan/10-all.yaml": "network: {version: 2, ethernets: {all: {match: {name: 'e*'}, dhcp4: true}}}\n",
    "etc/network/interfaces": "auto lo\niface lo inet loopback\n\nauto eth0\niface eth0 inet dhcp\n",
    "etc/netctl/wan": "Interface=eth0\nConnection=ethernet\nIP=dhcp\n",
}
#: Commands after which everything must be as it was.
RESTARTS = (
    "systemctl restart systemd-networkd",
    "netplan generate && systemctl restart systemd-networkd",
    "systemctl reload systemd-networkd",
    "systemctl restart networking",
    "ifup -a && ifdown -a && ifup -a",
    "systemctl restart NetworkManager",
    "nmcli device reapply {netif} || true",
    "systemctl restart connman",
    "systemctl restart dhcpcd",
    "systemctl stop connman dhcpcd NetworkManager networking systemd-networkd",
    "systemctl start connman dhcpcd NetworkManager networking systemd-networkd",
)
#: Seconds in which a tool would have done what it does.
SETTLING = 2.0


def network(host: Topology, netif: str = "eth0") -> list[tuple[object, ...]]:
    """Addresses and default routes inside, without link-local ones."""
    links = host.guest_ip_json("web", "addr", "show", "dev", netif)
    addresses = [
        ("address", f"{each['local']}/{each['prefixlen']}", each["scope"], each.get("deprecated", False))
        for each in links[0]["addr_info"]
        if not each["local"].startswith("fe80:")
    ]
    routes = [
        ("default", each["gateway"], each["prefsrc"], each["protocol"], each.get("metric", 0))
        for version in ("-4", "-6")
        for each in host.guest_ip_json("web", version, "route", "show", "default")
    ]
    return sorted([*addresses, *routes])


def wanted(*addresses: str) -> list[tuple[object, ...]]:
    return sorted(
        [
            ("address", "10.100.10.102/30", "link", False),
            ("address", "fd00:1::2/126", "global", True),
            *(("address", f"{each}/{128 if ':' in each else 32}", "global", False) for each in addresses),
            ("default", "10.100.10.101", next(each for each in addresses if ":" not in each), "static", 0),
            ("default", "fd00:1::1", next(each for each in addresses if ":" in each), "static", 16),
        ]
    )


def wait_booted(host: Topology) -> None:
    def is_booted() -> bool:
        said = host.guest("web", "systemctl", "is-system-running", check=False).stdout.strip()
        return said in ("running", "degraded")

    wait_until(is_booted, "the guest has booted", seconds=120)


def assert_stays(host: Topology, expected: Sequence[tuple[object, ...]], netif: str = "eth0", *, after: str) -> None:
    end = time.monotonic() + SETTLING
    while time.monotonic() < end:
        assert (after, network(host, netif)) == (after, expected)
        time.sleep(0.05)
    assert host.ping(host.R, "1.2.3.4") == host.ping(host.R, "2001:db8:2::4") == 3, after


def wait_stable(host: Topology, expected: Sequence[tuple[object, ...]], netif: str = "eth0") -> None:
    """Wait until it is so for a while: networkd takes away and adds again what is right, when it takes a link over."""
    since = time.monotonic()

    def is_stable() -> bool:
        nonlocal since
        if network(host, netif) != expected:
            since = time.monotonic()
        return time.monotonic() - since > SETTLING

    wait_until(is_stable, f"the network stays as wanted: {expected}", seconds=30)


def assert_comes_back(host: Topology, expected: Sequence[tuple[object, ...]], netif: str = "eth0") -> None:
    host.guest("web", "sh", "-c", f"systemctl reload systemd-networkd && networkctl reconfigure {netif}")
    wait_stable(host, expected, netif)


def make(host: Topology, image: Path, files: Mapping[str, str]) -> Path:
    """A stopped container of an archive, with an interface and with files of its tenant; its root directory."""
    host.osctl("ct", "new", "--from-archive", str(image), "web", seconds=240)
    options = [word for each in VIAS for word in ("--via", each)]
    host.osctl("ct", "netif", "new", "routed", *options, "web", "eth0")
    host.osctl("ct", "netif", "ip", "add", "web", "eth0", "1.2.3.4", "2001:db8:2::4")
    root = host.state_dir / "ct/web/rootfs"
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


@pytest.fixture
def root(host: Topology) -> Path:
    """The root of a container with all tools, and with what the tenant wrote for them."""
    image = debian_image("network-tools", *TOOLS)
    root = make(host, image, TENANT)
    wants = root / "etc/systemd/system/multi-user.target.wants/systemd-networkd.service"
    wants.symlink_to("/lib/systemd/system/systemd-networkd.service")
    return root


@pytest.mark.time_limit(2400)
def test_tools_inside_keep_what_they_find_at_boot_at_a_restart_and_after_changes(host: Topology, root: Path) -> None:
    host.osctl("ct", "start", "web")
    wait_booted(host)
    assert_stays(host, wanted("1.2.3.4", "2001:db8:2::4"), after="the boot")
    assert host.osctl("ct", "guest-files", "diff", "web").stdout == ""
    host.guest("web", "systemctl", "is-active", "systemd-networkd", "NetworkManager", "connman", "dhcpcd", "networking")

    for each in RESTARTS:
        host.guest("web", "sh", "-c", each.format(netif="eth0"))
        assert_stays(host, wanted("1.2.3.4", "2001:db8:2::4"), after=each)
    assert_comes_back(host, wanted("1.2.3.4", "2001:db8:2::4"))
    host.guest("web", "netctl", "start", "wan")
    assert_stays(host, wanted("1.2.3.4", "2001:db8:2::4"), after="netctl")

    file = root / "etc/systemd/network/00-osctl-eth0.network"
    host.osctl("ct", "netif", "ip", "add", "web", "eth0", "1.2.3.5")
    wait_until(lambda: "1.2.3.5" in file.read_text(), "the file is written")
    wait_until(lambda: "1.2.3.5" in (root / "etc/network/interfaces").read_text(), "the other one, too")
    host.osctl("ct", "netif", "rename", "web", "eth0", "wan0")
    wait_until(lambda: not file.exists(), "the file has another name")
    for each in (RESTARTS[0], *RESTARTS[2:6]):
        host.guest("web", "sh", "-c", each.format(netif="wan0"))
        assert_stays(host, wanted("1.2.3.4", "1.2.3.5", "2001:db8:2::4"), "wan0", after=each)
    assert_comes_back(host, wanted("1.2.3.4", "1.2.3.5", "2001:db8:2::4"), "wan0")

    before = host.init_pid("web")
    host.guest("web", "systemctl", "reboot", check=False)
    wait_until(lambda: host.has_rebooted("web", since=before), "the guest has rebooted", seconds=120)
    wait_booted(host)
    assert_stays(host, wanted("1.2.3.4", "1.2.3.5", "2001:db8:2::4"), "wan0", after="a reboot")


@pytest.mark.time_limit(1200)
def test_without_these_files_the_tools_take_the_addresses_away(host: Topology, root: Path) -> None:
    host.osctl("ct", "set", "guest-files", "web", "off")

    host.osctl("ct", "start", "web")

    wait_until(lambda: network(host) != wanted("1.2.3.4", "2001:db8:2::4"), "they are gone", seconds=120)
    assert {path: (root / path).read_text() for path in TENANT} == TENANT


@pytest.mark.time_limit(1800)
@pytest.mark.parametrize("tool", ["ifupdown-ng", "ifupdown2"])
def test_other_tools_that_read_interfaces_keep_what_they_find(host: Topology, tool: str) -> None:
    make(host, debian_image(tool, "iproute2", tool), {"etc/network/interfaces": TENANT["etc/network/interfaces"]})

    host.osctl("ct", "start", "web")
    wait_booted(host)

    expected = wanted("1.2.3.4", "2001:db8:2::4")
    assert_stays(host, expected, after="the boot")
    for each in ("ifup -a", "ifdown -a", "ifup -a", "ifup eth0"):
        host.guest("web", "sh", "-c", each)
        assert_stays(host, expected, after=each)


@pytest.mark.time_limit(1800)
@pytest.mark.parametrize("tool", ["NetworkManager", "systemd-networkd"])
def test_a_tool_does_not_take_over_an_interface_that_is_added_while_it_runs(host: Topology, tool: str) -> None:
    files = {} if tool == "NetworkManager" else {"etc/systemd/network/01-all.network": MATCHES_ALL}
    root = make(host, debian_image("network-tools", *TOOLS), files)
    wants = root / "etc/systemd/system/multi-user.target.wants"
    for each in ("NetworkManager", "connman", "dhcpcd", "networking"):
        (wants / f"{each}.service").unlink()
    (wants / f"{tool}.service").symlink_to(f"/lib/systemd/system/{tool}.service")
    host.osctl("ct", "start", "web")
    wait_booted(host)
    host.guest("web", "systemctl", "is-active", tool)

    host.osctl("ct", "netif", "new", "routed", "--via", "10.100.10.104/30", "--via", "fd00:2::/126", "web", "eth1")

    expected = [
        *(("address", "10.100.10.106/30", "global", False), ("address", "fd00:2::2/126", "global", False)),
        *(each for each in wanted("1.2.3.4", "2001:db8:2::4") if each[0] == "default"),
        *(("default", "10.100.10.105", "10.100.10.106", "static", 100),),
        *(("default", "fd00:2::1", "fd00:2::2", "static", 116),),
    ]
    wait_stable(host, sorted(expected), "eth1")
