"""Containers in a machine, and whether they answer without a gap."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from machine.laboratory.machine import Machine

ADDRESS = "1.2.3.4"
ADDRESS_6 = "2001:db8:2::4"
#: The archive of a guest with systemd.
SYSTEMD = "/opt/guests/debian.tar.zst"


def new_container(machine: Machine, name: str = "web", *, number: int = 0, archive: str = "") -> str:
    """A container with an address of each version, started; its IPv4 address. `number` is below 200."""
    address = f"1.2.{3 + number // 200}.{4 + number}"
    via = 4 * number
    root = f"--from-archive {archive}" if archive else "--distribution busybox"
    machine.run(
        f"""
        set -e
        osctl ct new {root} {name}
        osctl ct netif new routed --via 10.100.{via // 256}.{via % 256}/30 --via fd00:10:{number:x}::/126 {name} eth0
        osctl ct netif ip add {name} eth0 {address}/32 2001:db8:2::{4 + number:x}
        osctl ct start {name}
        """,
        300,
    )
    return address


def answers(machine: Machine, address: str = ADDRESS, timeout_seconds: float = 120) -> None:
    """Wait until an address answers. Raises MachineError when it does not."""
    machine.wait_until(f"ping -c 1 -w 2 {address}", f"{address} answers", timeout_seconds)


def is_content(machine: Machine) -> None:
    """`self check` finds nothing but, on Debian 12, what its kernel cannot do."""
    found = json.loads(machine.run("osctl -j self check", check=False).output)
    assert [each for each in found if each["code"] != "old-kernel"] == []


@dataclass(frozen=True)
class Pings:
    """Pings that go on in the machine, five a second; each unit has a name."""

    machine: Machine
    name: str

    def end(self) -> tuple[int, list[int]]:
        """How many were answered, and the numbers of those before the last one that were not."""
        self.machine.run(f"systemctl kill --signal INT {self.name}; sleep 0.5")
        said = self.machine.run(f"cat /run/{self.name}.log").output
        numbers = {int(each) for each in re.findall(r"bytes from .*icmp_seq=(\d+)", said)}
        if not numbers:
            return 0, [1]
        return len(numbers), sorted(set(range(1, max(numbers) + 1)) - numbers)


def pings(machine: Machine, address: str = ADDRESS) -> Pings:
    """Begin to ping an address that answers."""
    answers(machine, address)
    name = f"pings-{address.replace('.', '-').replace(':', '-')}"
    log = f"/run/{name}.log"
    machine.run(
        f"rm -f {log}; systemd-run --quiet --collect --unit {name} -p StandardOutput=file:{log} ping -i 0.2 {address}"
    )
    machine.wait_until(f"grep -q icmp_seq=3 {log}", "pings are answered")
    return Pings(machine, name)
