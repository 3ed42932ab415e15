"""What was installed goes; what is the operator's stays, running."""

from __future__ import annotations

from machine.containers import ADDRESS, new_container, pings
from machine.host_level import CHANGED, HOST_LEVEL, UNTOUCHED
from machine.laboratory.machine import CHECKOUT, Machine

#: The checkout, and what the operator keeps.
BESIDE = "\\( -path /root -o -path /var/lib/osctl -o -path /var/log \\) -prune"


def test_uninstall_takes_away_all_that_install_brought_and_leaves_containers_running(machine: Machine) -> None:
    new_container(machine)
    going_on = pings(machine, ADDRESS)

    said = machine.run(f"cd {CHECKOUT} && ./dev uninstall", 300).output

    stay = "osctl: containers are running: forwarding, accept_ra and the packet filter stay until the next boot\n"
    assert stay in said
    machine.run("sleep 2")
    answered, lost = going_on.end()
    assert answered > 5
    assert lost == []
    assert machine.run(f"find / -xdev {BESIDE} -o -name '*osctl*' -print").output == ""
    assert machine.run("systemctl status osctld", check=False).status == 4
    assert machine.run("command -v osctl osctld", check=False).output == ""
    assert machine.run("ls /var/lib/osctl/ct/web/rootfs/bin/busybox").output != ""

    machine.run(f"cd {CHECKOUT} && ./dev install", 600)

    assert machine.run("osctl ct ls").output.count("running") == 1
    machine.run(f"ping -c 1 -w 5 {ADDRESS}")


def test_uninstall_puts_back_what_was_changed_on_the_host_when_no_container_runs(machine: Machine) -> None:
    new_container(machine)
    assert machine.run(HOST_LEVEL).output == CHANGED
    machine.run("osctl ct stop -k web", 120)

    said = machine.run(f"cd {CHECKOUT} && ./dev uninstall", 300).output

    assert "containers are running" not in said
    assert machine.run(HOST_LEVEL).output == UNTOUCHED
