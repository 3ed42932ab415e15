"""Guests of several kinds on a whole host."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from machine.containers import ADDRESS_6, SYSTEMD, answers, is_content, new_container
from machine.host_level import OLD_CGROUPS
from machine.laboratory.machine import Machine, Machines


def test_guests_with_systemd_and_with_busybox_are_reached_and_come_back_after_a_reboot(machine: Machine) -> None:
    new_container(machine, "web")
    address = new_container(machine, "debian", number=1, archive=SYSTEMD)
    machine.wait_until(
        "osctl ct exec debian systemctl is-system-running | grep -E 'running|degraded'", "the guest has booted", 300
    )
    answers(machine, ADDRESS_6)

    machine.reboot()

    answers(machine, address, 300)
    answers(machine, timeout_seconds=180)
    machine.wait_until(
        "osctl ct exec debian systemctl is-system-running | grep -E 'running|degraded'", "the guest has booted", 300
    )
    listed = json.loads(machine.run("osctl -j ct ls").output)
    assert {each["id"]: each["state"] for each in listed} == {"web": "running", "debian": "running"}


def test_the_network_tool_of_a_guest_keeps_what_it_finds(machine: Machine) -> None:
    address = new_container(machine, "debian", archive=SYSTEMD)
    root = "/var/lib/osctl/ct/debian/rootfs"
    # Of a tenant: it matches all links.
    machine.run(f"printf '[Match]\\nName=*\\n[Network]\\nDHCP=yes\\n' >{root}/etc/systemd/network/01-all.network")
    machine.wait_until("osctl ct exec debian systemctl is-active dbus", "the guest runs", 300)
    machine.run("osctl ct exec debian systemctl enable --now systemd-networkd", 120)
    machine.run("osctl ct netif ip add debian eth0 1.2.3.200")
    machine.wait_until(f"grep 1.2.3.200/32 {root}/etc/systemd/network/00-osctl-eth0.network", "the file is written")

    machine.run("osctl ct exec debian systemctl restart systemd-networkd", 120)
    for each in (address, "1.2.3.200", ADDRESS_6):
        answers(machine, each)
    assert machine.run("osctl ct guest-files diff debian").output == ""

    machine.reboot()

    for each in (address, "1.2.3.200", ADDRESS_6):
        answers(machine, each, 300)
    machine.wait_until("osctl ct exec debian systemctl is-active systemd-networkd", "networkd runs", 300)
    answers(machine, "1.2.3.200")


def test_a_host_with_the_old_layout_of_cgroups_runs_containers(machines: Machines) -> None:
    machine = machines.start(kernel_arguments=OLD_CGROUPS)
    assert machine.run("stat -f -c %T /sys/fs/cgroup").output == "tmpfs\n"

    new_container(machine)

    answers(machine)
    answers(machine, ADDRESS_6)
    machine.run("osctl ct exec web true")
    machine.run("osctl ct stop web && osctl ct start web", 120)
    answers(machine)
    is_content(machine)


@pytest.mark.time_limit(3600)
def test_two_hundred_containers_come_back_after_a_reboot(
    machine: Machine, record_property: Callable[[str, object], None]
) -> None:
    addresses = [new_container(machine, f"c{number}", number=number) for number in range(200)]

    machine.reboot(timeout_seconds=1800)

    # From the kernel's start: emulated, so the figure is told rather than demanded.
    machine.put("/root/addresses", "\n".join(addresses))
    machine.wait_until("xargs -a /root/addresses -P 8 -n 1 ping -q -c 1 -w 2 >/dev/null", "all of them answer", 1800)
    uptime = float(machine.run("cut -d ' ' -f 1 /proc/uptime").output)
    begun = float(machine.run("systemctl show -P ExecMainStartTimestampMonotonic osctld").output) / 1e6
    took = f"{uptime - begun:.0f} s"
    record_property("told", f"{machine.release.name}: 200 containers answered {took} after osctld began")
