"""Another container, with which nothing is wrong: whatever happens to the first, of this one nothing changes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from whole.host import Topology, differences, wait_until

ADDRESSES = ("1.2.3.200", "2001:db8:2::200")
VIAS = ("10.100.99.0/30", "fd00:99::/126")


class Bystander:
    """It is there, running, from the moment that this is made."""

    addresses = ADDRESSES

    def __init__(self, host: Topology, name: str = "bystander") -> None:
        self.name = name
        self._host = host
        host.new_container(name, via=VIAS, addresses=ADDRESSES)
        self._link = host.veth(name)

    def _state(self) -> dict[str, list[str]]:
        """Its first process, its counters, its network inside, and what the host has on its link."""
        host = self._host
        shown = host.osctl_json("ct", "netif", "show", self.name, "eth0")
        return {
            "process": [str(host.init_pid(self.name))],
            # A guest asks for routers when it likes, which is counted.
            "shown": [f"{name} {value}" for name, value in shown.items() if name != "dropped_neighbours"],
            "host": sorted(
                line
                for section, lines in host.comparable_state(self.name).items()
                for line in lines
                if section.startswith(self.name) or (not section.endswith("nftables") and self._link in line)
            ),
        }

    def _is_reached(self) -> bool:
        return all(self._host.ping(self._host.R, each, count=1) == 1 for each in ADDRESSES)

    @contextlib.contextmanager
    def unharmed(self) -> Iterator[None]:
        """What happens in the block, and with what else is on the host, changes nothing of it: neither while the block
        ends, nor afterwards."""
        wait_until(self._is_reached, f"{self.name} is reached before")
        before = self._state()
        yield
        assert self._is_reached(), f"{self.name} is not reached"
        found = differences(before, self._state())
        assert not found, "\n".join((f"{self.name} is not as it was:", *found))
