"""A host with containers hears routers, whoever manages its links and whenever they come: QEMU's network advertises."""

from __future__ import annotations

import pytest

from machine.containers import ADDRESS, answers, is_content, new_container
from machine.laboratory.machine import Machine, Machines
from machine.laboratory.qemu import Card

INSTALL = "DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends"


def hears_routers(machine: Machine, link: str) -> None:
    """Wait until a link has an address and a default route that were advertised."""
    has_address = f"ip -6 addr show dev {link} | grep -q 'inet6 fec0:.* dynamic'"
    has_default_route = f"ip -6 route show default dev {link} | grep -q 'proto ra'"
    machine.wait_until(f"{has_address} && {has_default_route}", f"{link} has an address and a default route")
    assert machine.run("cat /proc/sys/net/ipv6/conf/all/forwarding").output == "1\n"


def accept_ra(machine: Machine, link: str) -> str:
    return machine.run(f"cat /proc/sys/net/ipv6/conf/{link}/accept_ra").output.strip()


def test_a_carrier_that_comes_after_osctld_brings_the_hosts_own_ipv6(machines: Machines) -> None:
    machine = machines.start(cards=[Card(has_carrier=False)])
    link = machine.link_name()
    machine.run(f"ip link set {link} up")
    new_container(machine)
    assert accept_ra(machine, link) == "2"

    machine.set_link(True)

    hears_routers(machine, link)
    # The cable is pulled out and put in again, and another card is plugged in, which udev renames.
    machine.set_link(False)
    machine.set_link(True)
    machine.add_card(Card(id="card1"))
    other = machine.link_name("card1")
    machine.run(f"ip link set {other} up")
    hears_routers(machine, other)
    hears_routers(machine, link)
    is_content(machine)


def test_links_on_links_hear_routers(machines: Machines) -> None:
    machine = machines.start(cards=[Card(), Card(id="card1")])
    first, second = machine.link_name(), machine.link_name("card1")
    new_container(machine)

    machine.run(
        f"""
        set -e
        ip link add br0 type bridge
        ip link set {first} master br0
        ip link set {first} up
        ip link set br0 up
        ip link add bond0 type bond mode active-backup
        ip link set {second} down
        ip link set {second} master bond0
        ip link set bond0 up
        ip link add link {first} name {first}.7 type vlan id 7
        ip link add link bond0 name mac0 type macvlan mode bridge
        ip link set mac0 up
        """
    )

    for each in ("br0", "bond0", "mac0"):
        hears_routers(machine, each)
    assert accept_ra(machine, f"{first}.7") == "2"
    is_content(machine)


def test_a_host_that_boots_before_its_network_is_there_has_ipv6_and_its_containers(machines: Machines) -> None:
    machine = machines.start(cards=[Card()])
    machine.run(f"{INSTALL} ifupdown", 600)
    link = machine.link_name()
    # accept_ra as `inet6 dhcp` has it.
    machine.put(
        "/etc/network/interfaces",
        f"auto lo\niface lo inet loopback\nauto {link}\niface {link} inet6 static\n"
        "address fd00:77::2/64\naccept_ra 1\nautoconf 1\n",
    )
    new_container(machine)
    machine.set_link(False)

    machine.reboot()
    answers(machine, ADDRESS, timeout_seconds=180)
    machine.set_link(True)

    hears_routers(machine, link)
    # Forced: without a carrier ifup gave up at boot, and left the address.
    machine.run(f"ifdown --force {link}; ifup {link}", 180)
    hears_routers(machine, link)
    is_content(machine)


@pytest.mark.parametrize("program", ["networkd", "NetworkManager", "dhcpcd"])
def test_who_listens_to_routers_by_itself_goes_on_and_the_kernel_keeps_out(machines: Machines, program: str) -> None:
    machine = machines.start(cards=[Card()])
    link = machine.link_name()
    new_container(machine)
    match program:
        case "networkd":
            network = f"[Match]\nName={link}\n\n[Network]\nDHCP=yes\nIPv6AcceptRA=yes\n"
            machine.put("/etc/systemd/network/50-all.network", network)
            machine.run("systemctl enable --now systemd-networkd")
        case "NetworkManager":
            machine.run(f"{INSTALL} network-manager", 600)
        case "dhcpcd":
            machine.run(f"{INSTALL} dhcpcd || {INSTALL} dhcpcd5", 600)
            machine.run("systemctl enable --now dhcpcd || systemctl enable --now dhcpcd5")
    has_default_route = f"ip -6 route show default dev {link} | grep -q via"
    machine.wait_until(has_default_route, "it has heard a router")
    machine.set_link(False)

    machine.reboot()
    answers(machine, ADDRESS, timeout_seconds=180)
    machine.set_link(True)

    machine.wait_until(has_default_route, "it has heard a router again")
    assert accept_ra(machine, link) == "0"
    assert machine.run("cat /proc/sys/net/ipv6/conf/all/forwarding").output == "1\n"


def test_a_host_without_containers_is_left_alone_over_a_reboot(machines: Machines) -> None:
    machine = machines.start(cards=[Card()])
    link = machine.link_name()
    settings = "grep -rs . /proc/sys/net/ipv4/conf/*/forwarding /proc/sys/net/ipv6/conf/*/{forwarding,accept_ra}"
    told = machine.run(f"systemctl stop osctld; {settings}").output

    machine.reboot()
    machine.wait_until("osctl net reconcile", "osctld answers")

    assert machine.run(settings).output == told
    assert accept_ra(machine, link) == "1"
    is_content(machine)


def test_low_limits_are_found_and_the_printed_commands_mend_them(machine: Machine) -> None:
    new_container(machine)
    machine.run(
        "sysctl -w net.ipv4.neigh.default.gc_thresh3=1 net.ipv6.neigh.default.gc_thresh3=1 "
        "fs.inotify.max_user_instances=4"
    )
    found = machine.run("osctl self check -H -o code").output.split()
    assert [each for each in found if each != "old-kernel"] == ["low-limit"] * 3

    # As a person would paste it.
    machine.run("osctl self check -H -o commands >/root/mend && sh -e /root/mend")

    is_content(machine)
    machine.reboot()
    is_content(machine)
