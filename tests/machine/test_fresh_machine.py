"""A machine that had nothing of ours: what the README says is enough."""

from __future__ import annotations

import re

import pytest

from machine.containers import is_content
from machine.laboratory.checkout import ROOT
from machine.laboratory.machine import CHECKOUT, Machine
from machine.laboratory.qemu import SLOWNESS


def example() -> str:
    """The README's commands that make a container with an address and start it."""
    lines = re.findall(r"(?m)^# (osctl .*)$", (ROOT / "README.md").read_text())
    return "\n".join(["set -e", *lines[: lines.index("osctl ct start myct01") + 1]])


@pytest.mark.time_limit(1500)
def test_a_fresh_machine_is_installed_by_one_command_and_the_readmes_example_works(bare: Machine) -> None:
    bare.put_checkout()

    bare.run(f"cd {CHECKOUT} && ./dev install", 1200)
    bare.run(example(), 300)

    assert "0% packet loss" in bare.run("ping -c 3 -w 30 1.2.3.4").output
    is_content(bare)
    assert bare.run("systemctl is-active osctld").output == "active\n"
    assert bare.run("systemctl is-enabled osctld").output == "enabled\n"
    assert bare.run("systemctl --failed --plain --no-legend").output == ""
    assert bare.run("systemctl is-enabled lxc.service lxc-net.service", check=False).output == "disabled\ndisabled\n"


@pytest.mark.ci
def test_an_address_answers_again_after_a_reboot_of_the_host(machine: Machine) -> None:
    machine.run(example(), 120)

    machine.reboot()

    machine.wait_until("ping -c 1 -w 2 1.2.3.4", "the container answers after the reboot", 180)
    assert machine.run("systemctl --failed --plain --no-legend").output == ""


def test_the_demo_shows_a_container_that_is_reached(machine: Machine) -> None:
    shown = machine.run(f"cd {CHECKOUT} && OSCTL_TESTS_SLOWNESS={SLOWNESS} ./dev demo", 300).output

    assert "1.2.3.4" in shown
