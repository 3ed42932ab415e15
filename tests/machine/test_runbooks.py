"""docs/runbooks.md: each command in it, in its order, in the situation that it is for."""

from __future__ import annotations

import re
from pathlib import Path

from machine.containers import ADDRESS_6, answers, new_container, pings
from machine.laboratory.checkout import ROOT
from machine.laboratory.hand import Done
from machine.laboratory.machine import Machine
from older_store import SCHEMA_2

PAGE = (ROOT / "docs/runbooks.md").read_text()
STORE = "/var/lib/osctl/osctl.sqlite"


def blocks(heading: str) -> list[str]:
    """The commands of a section, one string for each fenced block."""
    (section,) = re.findall(rf"(?ms)^## {re.escape(heading)}$(.*?)(?=^## |\Z)", PAGE)
    return re.findall(r"(?ms)^```sh\n(.*?)^```$", section)


def run(machine: Machine, heading: str, number: int) -> Done:
    """Run one block as it stands, and stop at the first command that fails."""
    return machine.run(f"set -e\n{blocks(heading)[number]}", 300)


def test_each_block_of_the_page_is_run_by_one_of_these_tests() -> None:
    """Needs no machine."""
    headings = re.findall(r"(?m)^## (.*)$", PAGE)
    there = {(heading, number) for heading in headings for number in range(len(blocks(heading)))}
    called = re.findall(r'run\(machine, "([^"]+)", (\d+)\)', Path(__file__).read_text())

    assert {(heading, int(number)) for heading, number in called} == there
    assert len(there) >= 10


def test_a_damaged_store_is_rebuilt_and_no_ping_is_lost(machine: Machine) -> None:
    address = new_container(machine)
    run(machine, "Before anything happens", 0)
    assert "containers: 1" in run(machine, "What is wrong?", 0).output
    going = pings(machine, address)
    run(machine, "What is wrong?", 1)
    machine.wait_until("test -s /var/lib/osctl/ct/web/container.json", "the document is written beside the root")
    machine.run(f"systemctl stop osctld; dd if=/dev/urandom of={STORE} bs=4096 count=2 conv=notrunc; rm -f {STORE}-*")
    machine.run("systemctl start osctld", check=False)
    assert f"error: {STORE} cannot be" in machine.run("journalctl -u osctld -o cat --no-pager").output

    said = run(machine, "The store is damaged", 0)
    run(machine, "The store is damaged", 1)

    assert "web" in said.output
    answered, lost = going.end()
    assert answered > 10
    assert lost == []
    machine.run("osctl ct netif ip add web eth0 1.2.3.99 && ping -c 1 -w 10 1.2.3.99")


def test_an_attacked_address_is_blocked_over_a_reboot_and_reached_again(machine: Machine) -> None:
    address = new_container(machine)
    answers(machine, address)

    said = run(machine, "An address is attacked", 0)

    assert "1.2.3.4/32" in said.output
    assert machine.run(f"ping -c 1 -w 2 {address}", check=False).status != 0
    machine.reboot()
    machine.wait_until("osctl ct wait web running", "it is started again")
    answers(machine, ADDRESS_6)
    assert machine.run(f"ping -c 1 -w 2 {address}", check=False).status != 0
    run(machine, "An address is attacked", 1)
    answers(machine, address)


def test_a_version_is_rolled_back_to_the_store_before_it(machine: Machine) -> None:
    address = new_container(machine)
    going = pings(machine, address)
    # As a version before ours leaves it: ours copies that, and brings it to its own schema.
    machine.put("/root/older.sql", SCHEMA_2)
    older = f"import sqlite3; sqlite3.connect('{STORE}').executescript(open('/root/older.sql').read())"
    machine.run(f'systemctl stop osctld && python3 -c "{older}" && systemctl start osctld && test -s {STORE}.schema2')

    run(machine, "Roll a version back", 0)
    schema = f"import sqlite3; print(*sqlite3.connect('{STORE}').execute('PRAGMA user_version').fetchone())"
    assert machine.run(f'python3 -c "{schema}"').output == "2\n"
    said = run(machine, "Roll a version back", 1)

    assert "web" in said.output
    answered, lost = going.end()
    assert answered > 10
    assert lost == []


def test_all_containers_are_stopped_for_work_on_the_host_and_started_again(machine: Machine) -> None:
    address = new_container(machine)

    run(machine, "Work on the host", 0)
    assert machine.run("osctl ct show -H -o state web").output.strip() == "stopped"
    assert machine.run("osctl ct start web", check=False).status == 1
    run(machine, "Work on the host", 1)

    answers(machine, address)


def test_a_full_disk_is_survived(machine: Machine) -> None:
    address = new_container(machine)
    going = pings(machine, address)
    machine.run(
        "fallocate -l $(df --output=avail -B1 /var/lib/osctl | tail -1) /var/lib/filler || true;"
        "dd if=/dev/zero of=/var/lib/filler2 bs=4096 || true"
    )
    refused = machine.run("osctl ct new --distribution busybox more", check=False)
    assert refused.status == 1
    assert re.search(r"^error: .*(No space left|full)", refused.output, re.MULTILINE), refused

    run(machine, "The disk is full", 0)
    run(machine, "The disk is full", 1)
    machine.run("rm /var/lib/filler /var/lib/filler2")
    run(machine, "The disk is full", 2)

    machine.run("osctl ct new --distribution busybox more")
    answered, lost = going.end()
    assert answered > 10
    assert lost == []


def test_a_new_machine_takes_the_place_of_a_dead_host(machine: Machine) -> None:
    address = new_container(machine)
    run(machine, "Before anything happens", 0)
    # The dead host: its root directories come from a copy of files, its store from the copy of the runbook.
    machine.run(
        """
        set -e
        tar --numeric-owner --xattrs -C /var/lib/osctl -cf /root/roots.tar ct
        osctl ct del -f web; systemctl stop osctld; rm -rf /var/lib/osctl /run/osctl; systemctl start osctld
        test "$(osctl ct ls -H)" = ""
        mkdir -p /var/lib/osctl/ct && tar --numeric-owner --xattrs -C /var/lib/osctl -xpf /root/roots.tar
        """,
        300,
    )

    run(machine, "A host is dead", 0)

    answers(machine, address)
