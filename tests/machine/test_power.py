"""The power: switched off, and cut in the middle of work."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest

from machine.containers import ADDRESS_6, answers, is_content, new_container
from machine.laboratory.machine import Machine

CUTS = 3
ACKNOWLEDGED = r"acknowledged (\S+)\.\s"


def test_a_machine_that_was_switched_off_has_its_containers_again(
    machine: Machine, record_property: Callable[[str, object], None]
) -> None:
    new_container(machine)

    took = machine.poweroff()
    machine.power_on()

    answers(machine, timeout_seconds=180)
    answers(machine, ADDRESS_6)
    assert "running" in machine.run("systemctl is-system-running --wait", check=False).output
    record_property("told", f"{machine.release.name}: off {took:.0f} s after the command, emulated")


#: Adds an address after the other, and says on the console, which no power cut takes back, what was acknowledged.
CHANGES = """
import subprocess
with open('/dev/ttyS0', 'w') as console:
    for number in range(200):
        address = f'10.{cut}.0.{number}'
        subprocess.run(['osctl', 'ct', 'netif', 'ip', 'add', 'web', 'eth0', address], check=True)
        print(f'acknowledged {address}.', file=console, flush=True)
"""
#: Makes a container after the other, likewise: in turn of busybox and of an archive.
CREATIONS = """
import subprocess
with open('/dev/ttyS0', 'w') as console:
    for number in range(200):
        name = f'c{cut}-{number}'
        root = ['--distribution', 'busybox'] if number % 2 == 0 else ['--from-archive', '/root/root.tar']
        subprocess.run(['osctl', 'ct', 'new', *root, name], check=True)
        print(f'acknowledged {name}.', file=console, flush=True)
"""


#: Of a new container: each file with its content, and all names with their modes and owners.
CONTENTS = """
cd /var/lib/osctl/ct/{}/rootfs
{{ find . -type f -exec sha256sum {{}} +; find . -printf '%p %M %U %G %l\\n'; }} | sort | sha256sum
"""


def cut_in_the_middle_of(machine: Machine, program: str, cut: int, *, after: int) -> list[str]:
    """Pull the plug when so many things were acknowledged; all that were."""
    machine.put("/root/program.py", f"cut = {cut}\n{program}")
    before = len(machine.console())
    machine.start("python3 /root/program.py")
    machine.wait_for_console(ACKNOWLEDGED, times=after, since=before, timeout_seconds=300)
    machine.power_cut()
    acknowledged = re.findall(ACKNOWLEDGED, machine.console()[before:])
    machine.power_on()
    machine.wait_until("osctl ct ls", "the daemon answers", 180)
    return acknowledged


@pytest.mark.time_limit(1800)
def test_what_was_acknowledged_before_a_power_cut_is_there_and_nothing_else(machine: Machine) -> None:
    new_container(machine)
    machine.run("sync")  # the container itself is not what is asked about here
    acknowledged: set[str] = set()

    for cut in range(1, 1 + CUTS):
        said = cut_in_the_middle_of(machine, CHANGES, cut, after=20 * cut)
        assert len(said) >= 20 * cut
        acknowledged |= set(said)

        answers(machine, timeout_seconds=180)
        routed = set(re.findall(r"(?m)^(10\.\d+\.0\.\d+) via", machine.run("ip route show proto 111").output))
        listed = set(re.findall(r"10\.\d+\.0\.\d+", machine.run("osctl -j ct netif ip ls web eth0").output))
        assert routed == listed
        assert acknowledged <= listed
        # What was asked for and not answered yet may be there as well: one, for each cut.
        assert len(listed - acknowledged) <= cut
        acknowledged = listed
    is_content(machine)


@pytest.mark.time_limit(1800)
def test_each_container_that_was_acknowledged_before_a_power_cut_is_whole_and_starts(machine: Machine) -> None:
    machine.run("osctl ct new --distribution busybox pattern")
    machine.run("tar --create --file /root/root.tar --directory /var/lib/osctl/ct/pattern/rootfs . && sync")
    whole = machine.run(CONTENTS.format("pattern")).output
    machine.run("osctl ct del pattern")
    there: set[str] = set()
    for cut in range(1, 1 + CUTS):
        acknowledged = set(cut_in_the_middle_of(machine, CREATIONS, cut, after=5))

        listed = {each["id"] for each in json.loads(machine.run("osctl -j ct ls").output)}
        assert there | acknowledged <= listed
        assert len(listed - there - acknowledged) <= 1
        there = listed
        for name in acknowledged:
            assert machine.run(CONTENTS.format(name)).output == whole, name
            machine.run(f"osctl ct start {name} && osctl ct exec {name} true && osctl ct stop {name}", 180)
        # Neither record nor files of what was not acknowledged: the rest of a root directory would be in its way.
        roots = set(machine.run("ls /var/lib/osctl/ct").output.split())
        assert roots == listed
