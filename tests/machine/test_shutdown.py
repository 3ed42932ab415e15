"""The host goes down, however it does: guests power off before it, and come back with it."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from machine.containers import SYSTEMD, answers, new_container, pings
from machine.host_level import OLD_CGROUPS
from machine.laboratory.machine import Machine, Machines
from machine.laboratory.qemu import SLOWNESS

#: Seconds that a host may take for its shutdown beside what its guests take for theirs.
OWN_SECONDS = 10.0
ROOT = "/var/lib/osctl/ct"

BUSYBOX_START = """\
#!/bin/sh
(
    trap 'echo clean >>/ended; exit' TERM
    while :; do sleep 1; done
) &
"""
SYSTEMD_UNIT = """\
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStop=/bin/sh -c 'echo clean >>/ended'
"""


def add_busybox(machine: Machine, name: str = "web", *, number: int = 0) -> str:
    """A guest that notes in /ended when it is asked to end; its address."""
    address = new_container(machine, name, number=number)
    machine.put(f"{ROOT}/{name}/rootfs/etc/rc.local", BUSYBOX_START, 0o755)
    machine.run(f"osctl ct restart {name}")
    return address


def add_systemd(machine: Machine, name: str = "debian", *, number: int = 1) -> str:
    """The same with systemd."""
    address = new_container(machine, name, number=number, archive=SYSTEMD)
    machine.put(f"{ROOT}/{name}/rootfs/etc/systemd/system/ended.service", SYSTEMD_UNIT)
    machine.wait_until(
        f"osctl ct exec {name} systemctl is-system-running | grep -E 'running|degraded'", "the guest has booted", 300
    )
    machine.run(f"osctl ct exec {name} systemctl daemon-reload && osctl ct exec {name} systemctl start ended")
    return address


def clean_ends(machine: Machine, name: str) -> int:
    """How often a guest has noted that it ended cleanly."""
    return machine.run(f"cat {ROOT}/{name}/rootfs/ended 2>/dev/null", check=False).output.count("clean\n")


def seconds_of_stop(machine: Machine) -> tuple[float, dict[str, float]]:
    """How long the unit took on the boot before, by the journal, and each guest's part of that."""
    said = machine.run("journalctl -b -1 -o short-monotonic -u osctl-shutdown --no-pager").output
    times = [float(each) for each in re.findall(r"(?m)^\[ *(\d+\.\d+)\].*(?:Stopping|Stopped) .*osctl", said)]
    assert len(times) >= 2, said
    told = machine.run("journalctl -b -1 -o cat -u osctld --no-pager").output
    guests = {name: float(each) for name, each in re.findall(r"(\S+): stopped after ([\d.]+) s", told)}
    return times[-1] - times[-2], guests


@pytest.mark.time_limit(1500)
def test_guests_power_off_cleanly_before_the_host_does_and_come_back_with_it(
    machine: Machine, record_property: Callable[[str, object], None]
) -> None:
    addresses = [add_busybox(machine), add_systemd(machine)]
    machine.run("lxc-freeze -P $(dirname $(dirname $(find /run/osctl* -path '*/web/config'))) -n web")

    took = machine.poweroff()
    machine.power_on()

    for address in addresses:
        answers(machine, address, timeout_seconds=300)
    stop, guests = seconds_of_stop(machine)
    assert (clean_ends(machine, "web"), clean_ends(machine, "debian")) == (1, 1)
    assert guests.keys() == {"web", "debian"}
    theirs = max(guests.values())
    assert took - theirs < OWN_SECONDS * SLOWNESS
    parts = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in guests.items())
    figures = f"off {took:.1f} s after the command, emulated; osctl-shutdown.service {stop:.1f} s; guests: {parts}"
    record_property("told", f"{machine.release.name}: {figures}")
    before = machine.run("journalctl -b -1 --no-pager").output
    assert "shutdown: all containers have stopped" in before
    assert "Killing process" not in before
    assert "reconcile:" not in before  # what goes with the guests is nobody's mistake
    # The table and forwarding are made with each boot, and nobody had taken them.
    assert "WARNING" not in machine.run("journalctl -b -u osctld --no-pager").output


@pytest.mark.time_limit(1800)
def test_guests_power_off_cleanly_with_a_dead_daemon_without_the_unit_and_when_units_are_skipped(
    machine: Machine,
) -> None:
    address = add_busybox(machine)

    for number, way in enumerate(
        (
            "systemctl kill --signal KILL osctld; systemctl reboot",
            "systemctl stop osctld; systemctl reboot",
            "systemctl stop osctl-shutdown; systemctl reboot",
            "systemctl --force reboot",
        ),
        start=1,
    ):
        machine.reboot(command=way)

        answers(machine, address, timeout_seconds=300)
        assert clean_ends(machine, "web") == number, way
        assert machine.run("osctl ct show -H -o wanted web").output.strip() in ("true", "yes")


@pytest.mark.ci
def test_restarts_and_stops_of_both_units_stop_nobody(machine: Machine) -> None:
    add_busybox(machine)
    going_on = pings(machine)

    machine.run(
        """
        set -e
        systemctl restart osctl-shutdown
        systemctl stop osctl-shutdown
        systemctl restart osctld
        systemctl is-active osctl-shutdown
        systemctl daemon-reexec
        systemctl restart osctld osctl-shutdown
        systemctl stop osctld
        systemctl restart osctl-shutdown
        systemctl start osctld
        """,
        300,
    )

    assert going_on.end()[1] == []
    assert clean_ends(machine, "web") == 0
    said = machine.run("journalctl -b -u osctl-shutdown").output
    assert "the host is not going down; containers keep running" in said


#: As a unit that no shutdown stops: it cancels one when containers are on their way down, and sees to the agent again.
CANCEL = """\
until [ -e /var/lib/osctl/shutdown ]; do sleep 0.2; done
osctl self status -H -o shutdown >/root/status
osctl ct start other >/root/refusal 2>&1
systemctl cancel
sleep 1
systemctl start laboratory-agent.service
echo 'the agent is back' >/dev/ttyS0
"""


def test_a_poweroff_that_is_cancelled_starts_again_what_it_stopped(machine: Machine) -> None:
    address = add_busybox(machine)
    machine.run("osctl ct new --distribution busybox other")
    slow = f"{ROOT}/web/rootfs/etc/init.d/rcK"
    machine.run(f"sed -i '1a sleep 20' {slow} && osctl ct restart web", 120)
    machine.put("/root/cancel", CANCEL)
    machine.run("systemd-run --quiet --property DefaultDependencies=no --unit cancel bash /root/cancel")

    machine.run("(sleep 0.2; systemctl poweroff) >/dev/null 2>&1 &")
    machine.wait_for_console("the agent is back")

    machine.wait_until("test ! -e /var/lib/osctl/shutdown", "the mark is lifted", 120)
    machine.wait_until("osctl ct show -H -o state web | grep running", "it runs again", 120)
    answers(machine, address)
    assert "the host has been going down since" in machine.run("cat /root/status").output
    assert "not started: the host has been going down since" in machine.run("cat /root/refusal").output
    assert "the host's shutdown was cancelled" in machine.run("journalctl -b -u osctld").output


@pytest.mark.time_limit(1500)
def test_the_old_layout_of_cgroups_makes_no_difference_and_the_kernel_s_command_line_can_forbid_starts(
    machines: Machines,
) -> None:
    machine = machines.start(kernel_arguments=OLD_CGROUPS)
    add_busybox(machine)
    machine.run("lxc-freeze -P $(dirname $(dirname $(find /run/osctl* -path '*/web/config'))) -n web")

    machine.poweroff()
    machine.power_on(kernel_arguments="osctl.autostart=off")

    assert clean_ends(machine, "web") == 1
    machine.wait_until("journalctl -b -u osctld | grep -F 'osctl.autostart=off'", "it is said")
    assert machine.run("osctl ct show -H -o state,wanted web").output.split() == ["stopped", "true"]
