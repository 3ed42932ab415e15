"""The daemon comes and goes; its containers do not notice."""

from __future__ import annotations

import pytest

from machine.containers import ADDRESS_6, answers, new_container, pings
from machine.laboratory.machine import Machine


@pytest.mark.ci
def test_no_ping_is_lost_while_the_daemon_is_restarted_stopped_started_and_killed(machine: Machine) -> None:
    address = new_container(machine)
    both = [pings(machine, address), pings(machine, ADDRESS_6)]

    machine.run("systemctl restart osctld")
    machine.run("systemctl stop osctld && sleep 2 && systemctl start osctld")
    for _ in range(3):
        before = machine.run("systemctl show -P MainPID osctld").output
        machine.run("systemctl kill --kill-whom=main --signal KILL osctld")
        machine.wait_until(
            f'test "$(systemctl show -P MainPID osctld)" -ne {int(before)} && osctl ct ls', "another daemon answers"
        )
    machine.run("systemctl daemon-reload && systemctl daemon-reexec && systemctl restart osctld")

    for each in both:
        answered, lost = each.end()
        assert answered > 20
        assert lost == []
    assert machine.run("osctl ct ls").output.count("running") == 1
    assert "running" in machine.run("systemctl is-system-running").output


def test_a_stopped_daemon_leaves_no_warning_and_a_new_one_finds_all_containers(machine: Machine) -> None:
    for number, name in enumerate(("one", "two", "three")):
        new_container(machine, name, number=number)
    before = machine.run("osctl -j ct ls | tee /dev/stderr; ip route show proto 111; nft list table inet osctl").output

    machine.run("systemctl restart osctld")

    after = machine.run("osctl -j ct ls | tee /dev/stderr; ip route show proto 111; nft list table inet osctl").output
    assert [line for line in after.splitlines() if " dev " in line] == [
        line for line in before.splitlines() if " dev " in line
    ]
    for number in range(3):
        answers(machine, f"1.2.3.{4 + number}")
    assert machine.run("journalctl -u osctld -p warning --no-pager -q").output == ""
