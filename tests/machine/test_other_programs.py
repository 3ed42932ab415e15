"""Programs that manage a host's network and its firewall leave containers alone, or are found out."""

from __future__ import annotations

import json

from machine.containers import ADDRESS_6, answers, is_content, new_container, pings
from machine.laboratory.machine import Machine, Machines
from machine.laboratory.qemu import Card

#: From beyond the host to a port of a container where nobody listens. By TCP: ufw lets pings through as it comes.
FROM_BEYOND = """
ip netns exec world python3 -c '
import socket
try:
    socket.create_connection(("1.2.3.4", 9), 5)
except ConnectionRefusedError:
    pass
'
"""
INSTALL = "DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends"


def nothing_is_lost_by(machine: Machine, *commands: str) -> None:
    """Each command, while both addresses of a container are pinged."""
    both = [pings(machine), pings(machine, ADDRESS_6)]
    for command in commands:
        machine.run(command, 180)
    machine.run("sleep 2")
    for each in both:
        answered, lost = each.end()
        assert answered > 5
        assert lost == []


def test_networkd_that_manages_every_link_keeps_off_those_of_containers(machines: Machines) -> None:
    machine = machines.start(cards=[Card()])
    machine.put("/etc/systemd/network/50-all.network", "[Match]\nName=*\n\n[Network]\nDHCP=yes\nIPv6AcceptRA=yes\n")
    machine.run("systemctl enable --now systemd-networkd")
    # A card that reaches nothing is leased an address, and told of no gateway.
    machine.wait_until(f"ip addr show dev {machine.link_name()} | grep -q 10.0.2.15", "networkd has a lease")
    new_container(machine)

    nothing_is_lost_by(
        machine,
        "systemctl restart systemd-networkd",
        "networkctl reload",
        f"networkctl reconfigure {machine.link_name()}",
    )

    told = machine.run("networkctl list --no-legend --no-pager").output
    (ours,) = [line.split() for line in told.splitlines() if " osweb" in line]
    assert ours[-1] == "unmanaged"
    # What it does to the routes of others on links that it manages is told, and its restart loses nothing either.
    found = json.loads(machine.run("osctl -j self check", check=False).output)
    (routes,) = [each for each in found if each["code"] == "networkd-routes"]
    nothing_is_lost_by(machine, *routes["commands"])
    is_content(machine)


def test_network_manager_keeps_off_the_links_of_containers(machines: Machines) -> None:
    machine = machines.start(cards=[Card()])
    machine.run(f"{INSTALL} network-manager", 600)
    machine.wait_until("nmcli -t -f STATE general | grep -q ^connected", "NetworkManager is up")
    new_container(machine)

    nothing_is_lost_by(machine, "systemctl restart NetworkManager", "nmcli general reload", "nmcli device status")

    states = dict(
        line.split(":")[:2] for line in machine.run("nmcli -t -f DEVICE,STATE device").output.splitlines() if line
    )
    assert states["osweb-eth0"] == "unmanaged"
    is_content(machine)


def test_a_host_with_ifupdown_and_inet6_auto_keeps_its_address_and_default_route(machines: Machines) -> None:
    machine = machines.start(cards=[Card()])
    machine.run(f"{INSTALL} ifupdown isc-dhcp-client", 600)
    link = machine.link_name()
    both = f"iface {link} inet dhcp\niface {link} inet6 auto\n"
    machine.put("/etc/network/interfaces", f"auto lo\niface lo inet loopback\nauto {link}\n{both}")
    machine.run("ifup -a --force || true", 180)
    machine.wait_until(f"ip -6 route show default dev {link} | grep -q ra", "an advertisement has come")
    new_container(machine)
    answers(machine)

    machine.reboot()

    answers(machine, timeout_seconds=180)
    answers(machine, ADDRESS_6)
    machine.wait_until(f"ip -6 route show default dev {link} | grep -q ra", "the host has its default route again")
    assert "fec0::" in machine.run(f"ip -6 addr show dev {link} scope site").output


def test_a_flushed_firewall_is_back_before_a_ping_is_lost(machine: Machine) -> None:
    new_container(machine)

    nothing_is_lost_by(
        machine,
        "nft flush ruleset",
        "systemctl start nftables",
        "systemctl reload nftables",
        "systemctl restart nftables",
        "systemctl stop nftables",
    )

    machine.wait_until("nft list table inet osctl", "the table is back")
    is_content(machine)


def test_firewalld_is_found_and_the_commands_that_are_printed_mend_it(machine: Machine) -> None:
    machine.run(f"{INSTALL} firewalld && systemctl start firewalld", 600)
    new_container(machine)

    the_printed_commands_mend(machine, "firewalld")


def test_ufw_is_found_and_the_commands_that_are_printed_mend_it(machine: Machine) -> None:
    machine.run(f"{INSTALL} ufw && ufw --force enable", 600)
    new_container(machine)

    the_printed_commands_mend(machine, "ufw")


def test_dockers_policy_is_found_and_the_commands_that_are_printed_mend_it(machine: Machine) -> None:
    new_container(machine)
    # What docker does to a host when it starts.
    machine.run(
        "set -e; for tool in iptables ip6tables; do $tool -N DOCKER-USER; $tool -A DOCKER-USER -j RETURN; "
        "$tool -A FORWARD -j DOCKER-USER; $tool -P FORWARD DROP; done"
    )

    the_printed_commands_mend(machine, "docker")


def the_printed_commands_mend(machine: Machine, maker: str) -> None:
    """What `self check` says is done; then it is content, and somebody beyond the host gets through."""
    machine.run(
        """
        set -e
        ip netns add world
        ip link add uplink type veth peer name eth0 netns world
        ip addr add 192.0.2.1/24 dev uplink
        ip link set uplink up
        ip -n world addr add 192.0.2.2/24 dev eth0
        ip -n world link set eth0 up
        ip -n world route add default via 192.0.2.1
        """
    )
    answers(machine)
    found = json.loads(machine.run("osctl -j self check", check=False).output)
    assert [each for each in found if maker in each["why"]] != []
    assert machine.run(FROM_BEYOND, check=False).status == 1

    for finding in found:
        for command in finding["commands"]:
            machine.run(command, 60)

    is_content(machine)
    machine.run(FROM_BEYOND)
