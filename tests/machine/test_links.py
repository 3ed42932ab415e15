"""Kinds of links that not every kernel has: masters that somebody gives to a link of ours, and uplinks of the host."""

from __future__ import annotations

import json
from typing import Any

import pytest

from machine.containers import ADDRESS, ADDRESS_6, answers, is_content, new_container, pings
from machine.laboratory.machine import Machine

#: A machine beyond the host, in a network namespace of its own, with two cables to it.
FAR = """
set -e
ip netns add far
ip -n far link set lo up
ip netns exec far sysctl -qw net.ipv6.conf.default.accept_dad=0
for number in 0 1; do
    ip link add cable$number type veth peer name cable$number netns far
    ip link set cable$number up
    ip -n far link set cable$number up
done
"""
BY_VLAN = """
for where in "" "-n far"; do
    ip $where link add link cable0 name up0 type vlan id 7
done
"""
BY_BOND = """
for where in "" "-n far"; do
    ip $where link add up0 type bond mode active-backup
    for number in 0 1; do
        ip $where link set cable$number down
        ip $where link set cable$number master up0
    done
done
"""
#: The host's default routes lead through up0 from then on, and those of the machine beyond to the containers.
ADDRESSES = """
ip link set up0 up
ip -n far link set up0 up
ip addr add 198.51.100.1/24 dev up0
ip addr add 2001:db8:51::1/64 dev up0 nodad
ip -n far addr add 198.51.100.2/24 dev up0
ip -n far addr add 2001:db8:51::2/64 dev up0 nodad
ip route replace default via 198.51.100.2
ip route replace ::/0 via 2001:db8:51::2
ip -n far route add 1.2.3.0/24 via 198.51.100.1
ip -n far route add 2001:db8:2::/48 via 2001:db8:51::1
"""


def host_link(machine: Machine, container: str = "web") -> str:
    shown = json.loads(machine.run(f"osctl -j ct netif show {container} eth0").output)
    return str(shown["veth"])


def master_of(machine: Machine, link: str) -> str | None:
    (shown,) = json.loads(machine.run(f"ip -j link show {link}").output)
    found: str | None = shown.get("master")
    return found


def found_ports(machine: Machine) -> list[dict[str, Any]]:
    findings = json.loads(machine.run("osctl -j self check", check=False).output)
    return [each for each in findings if each["code"] == "bridge-port"]


def test_a_link_that_is_put_into_a_bond_is_taken_out_of_it(machine: Machine) -> None:
    new_container(machine)
    other = pings(machine, new_container(machine, "other", number=1))
    link = host_link(machine)

    # A bond takes links only that are down.
    machine.run(
        f"ip link add bond0 type bond mode active-backup && ip link set {link} down && ip link set {link} master bond0"
    )

    machine.wait_until(f"! ip -d link show {link} | grep -q 'master bond0'", "it is taken out")
    for each in (ADDRESS, ADDRESS_6):
        answers(machine, each)
    assert other.end()[1] == []
    is_content(machine)


def test_a_link_that_is_put_into_a_vrf_is_left_there_and_found_with_the_command_that_mends_it(machine: Machine) -> None:
    new_container(machine)
    other = pings(machine, new_container(machine, "other", number=1))
    link = host_link(machine)
    machine.run(f"ip link add vrf1 type vrf table 50 && ip link set vrf1 up && ip link set {link} master vrf1")

    machine.wait_until("osctl -j self check | grep -q bridge-port", "it is found")
    machine.run("osctl net reconcile", check=False)
    assert master_of(machine, link) == "vrf1"
    (found,) = found_ports(machine)
    assert found["what"] == f"{link} is a port of vrf1 (vrf)"

    for command in found["commands"]:
        machine.run(command)
    for each in (ADDRESS, ADDRESS_6):
        answers(machine, each)
    assert found_ports(machine) == []
    assert other.end()[1] == []


@pytest.mark.parametrize("kind", ["vlan", "bond"])
def test_containers_are_reached_by_an_uplink_of_each_kind(machine: Machine, kind: str) -> None:
    made = {"vlan": BY_VLAN, "bond": BY_BOND}[kind]
    new_container(machine)

    machine.run(FAR + made + ADDRESSES)

    for each in (ADDRESS, ADDRESS_6):
        machine.wait_until(f"ip netns exec far ping -c 1 -w 2 {each}", f"{each} answers beyond the {kind}")
    machine.run("systemctl restart osctld")
    for each in (ADDRESS, ADDRESS_6):
        machine.wait_until(f"ip netns exec far ping -c 1 -w 2 {each}", f"{each} answers beyond the {kind}")
    is_content(machine)


def test_a_guest_that_puts_its_link_into_a_vrf_of_its_own_and_takes_it_out_again_is_reached(machine: Machine) -> None:
    new_container(machine)
    inside = f"nsenter --net --target {json.loads(machine.run('osctl -j ct show web').output)['init_pid']}"

    machine.run(
        f"{inside} sh -c 'ip link add vrf1 type vrf table 50; ip link set vrf1 up; ip link set eth0 master vrf1'"
    )
    machine.run("osctl net reconcile", check=False)

    machine.run(f"{inside} ip link set eth0 nomaster")
    machine.run("osctl net reconcile", check=False)
    for each in (ADDRESS, ADDRESS_6):
        answers(machine, each)
