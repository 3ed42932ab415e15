"""The daemon killed at each system call of each changing command: all of it or nothing, and what was answered is kept.

`./dev kills` tries each call, before it begins and after it is done. Here, some of them: others on each day.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

import osctl.client
from whole.bare_daemon import BARE
from whole.bridges import make_bridge, plug_router_in
from whole.host import BIN, Topology, differences, run

ASSASSIN = str(Path(__file__).with_name("assassin.py"))

#: Try each call; else one of so many.
IS_WHOLE = bool(os.environ.get("OSCTL_KILLS"))
ONE_OF = 40

VIAS = ("--via", "10.100.10.100/30", "--via", "fd00:1::/126")
VIAS_2 = ("--via", "10.100.10.104/30", "--via", "fd00:2::/126")

#: What differs each time that the same is made anew.
_ANEW = (
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"), "UUID"),
    (re.compile(r"\b02(:[0-9a-f]{2}){5}\b"), "MAC"),
    (re.compile(r"\bfe80::[0-9a-f]+:[0-9a-f]+:[0-9a-f]+:[0-9a-f]+\b"), "LINK-LOCAL"),
    (re.compile(r'"serial": ?\d+'), "SERIAL"),
    (re.compile(r'"generation": ?\d+'), "GENERATION"),
)


class Change(NamedTuple):
    """A command, what undoes it, and what may be there in between when it was not answered."""

    command: str
    undo: tuple[str, ...]
    between: tuple[str, ...] = ()


#: `web` runs and `db` does not; each has an interface.
CHANGES = (
    Change("ct new --distribution busybox shop", ("ct del shop",)),
    Change("ct del db", ("ct new --distribution busybox db", "ct netif new routed --via 10.100.10.96/30 db eth0")),
    Change(
        "ct del -f web",
        (
            "ct new --distribution busybox web",
            f"ct netif new routed {' '.join(VIAS)} web eth0",
            "ct netif ip add web eth0 1.2.3.4 2001:db8:2::4",
            "ct start web",
        ),
        between=("ct stop -k web",),
    ),
    Change("ct start db", ("ct stop -k db",)),
    Change("ct stop -k web", ("ct start web",)),
    Change("ct restart -k web", (), between=("ct stop -k web",)),
    Change("ct set nesting db", ("ct unset nesting db",)),
    Change("ct set guest-files db report", ("ct set guest-files db write",)),
    Change("ct set autostart --priority 3 db", ("ct unset autostart db",)),
    Change(f"ct netif new routed {' '.join(VIAS_2)} web eth1", ("ct netif del web eth1",)),
    Change("ct netif new bridge --link br0 web eth1", ("ct netif del web eth1",)),
    Change("ct netif set --link br1 web lan0", ("ct netif set --link br0 web lan0",)),
    Change(
        "ct netif del web eth0",
        (f"ct netif new routed {' '.join(VIAS)} web eth0", "ct netif ip add web eth0 1.2.3.4 2001:db8:2::4"),
    ),
    Change("ct netif rename web eth0 lan0", ("ct netif rename web lan0 eth0",)),
    Change("ct netif set --mtu 1400 web eth0", ("ct netif set --mtu 1500 web eth0",)),
    Change("ct netif ip add web eth0 1.2.3.5 2001:db8:2::5", ("ct netif ip del web eth0 1.2.3.5 2001:db8:2::5",)),
    Change("ct netif ip del web eth0 1.2.3.8", ("ct netif ip add web eth0 1.2.3.8",)),
    Change("ct netif ip add db eth0 1.2.3.6", ("ct netif ip del db eth0 1.2.3.6",)),
    Change("ct netif ip move web eth0 db eth0 1.2.3.9", ("ct netif ip move db eth0 web eth0 1.2.3.9",)),
    Change("ct netif route add web eth0 10.5.5.0/24", ("ct netif route del web eth0 10.5.5.0/24",)),
    Change("ct netif source add web eth0 203.0.113.0/24", ("ct netif source del web eth0 203.0.113.0/24",)),
    Change("net block 1.2.3.4 2001:db8:2::4", ("net unblock 1.2.3.4 2001:db8:2::4",)),
    Change("net unblock 1.2.3.4", ("net block 1.2.3.4",)),
    Change("self restore {copy}", ("ct netif ip add db eth0 1.2.3.7",)),
)

#: Before a change.
PREPARED = {
    "ct netif ip del web eth0 1.2.3.8": ("ct netif ip add web eth0 1.2.3.8",),
    "ct netif ip move web eth0 db eth0 1.2.3.9": ("ct netif ip add web eth0 1.2.3.9",),
    "net unblock 1.2.3.4": ("net block 1.2.3.4",),
    "self restore {copy}": ("ct netif ip add db eth0 1.2.3.7",),
    "ct netif set --mtu 1400 web eth0": ("ct netif set --mtu 1500 web eth0",),
    "ct netif set --link br1 web lan0": ("ct netif new bridge --link br0 web lan0",),
}


@pytest.fixture
def web() -> Iterator[Topology]:
    """A host on which `web` runs, and `db` does not."""
    with Topology(program=BARE) as topology:
        for number, bridge in enumerate(("br0", "br1")):
            make_bridge(topology, bridge, mac=f"02:00:00:00:b{number}:00")
            plug_router_in(topology, bridge, link=f"lan{number}")  # it has a carrier whoever comes and goes
        topology.new_container("web", via=VIAS[1::2], addresses=("1.2.3.4", "2001:db8:2::4"))
        topology.new_container("db", via=("10.100.10.96/30",), start=False)
        yield topology


class State(NamedTuple):
    """What is wanted, and what the kernel holds."""

    wanted: str
    kernel: Mapping[str, Sequence[str]]


def state(host: Topology) -> State:
    with osctl.client.connect(str(host.socket)) as daemon:
        lives = {each["id"]: each["state"] for each in daemon.call("ct_ls")}
    stored = host.stored()
    documents = [json.loads(document) for _, document in stored["container"]]
    # Numbers of rows and of changes grow by what is tried again.
    uuids = {number: uuid for number, uuid, _ in stored["holder"]}
    # Not how often they changed hands: to do it once more counts once more.
    holdings = sorted(repr((*row[:4], uuids[row[4]], row[6])) for row in stored["holding"])
    wanted = [lives, documents, holdings, sorted(row[0] for row in stored["block"])]
    kernel = host.comparable_state(*(name for name, each in lives.items() if each == "running"))
    return State(
        _comparable(json.dumps(wanted, sort_keys=True)),
        {name: sorted(_comparable(each) for each in lines if " counter" not in each) for name, lines in kernel.items()},
    )


def _comparable(text: str) -> str:
    for pattern, instead in _ANEW:
        text = pattern.sub(instead, text)
    return text


class Deed(NamedTuple):
    """Where the daemon was killed, empty when there are not so many calls; and how the client ended."""

    place: str
    status: int


def kill_at(host: Topology, number: int, when: str, argv: Sequence[str]) -> Deed:
    """Run a command, and have the daemon killed at its system call of that number."""
    with subprocess.Popen(
        [sys.executable, ASSASSIN, str(host.daemon_pid), str(number), when],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as assassin:
        assert assassin.stdout is not None
        assert assassin.stdin is not None
        assert assassin.stdout.readline() == "ready\n"
        result = host.osctl(*argv, check=False)
        assassin.stdin.close()
        said = assassin.stdout.readline().strip()
        assert assassin.wait(timeout=30) == 0
    if said.startswith("over "):
        return Deed("", result.status)
    host.bury_daemon()
    return Deed(f"{said}, call {number}", result.status)


def leftovers(host: Topology) -> list[str]:
    places = (host.state_dir / "building", host.state_dir / "trash")
    return [f"{place.name}/{each.name}" for place in places for each in place.iterdir()]


@pytest.mark.time_limit(3600)
@pytest.mark.parametrize("change", CHANGES, ids=lambda each: each.command.partition(" {")[0].replace(" ", "-")[:40])
def test_after_a_kill_at_any_system_call_all_of_a_change_is_there_or_nothing(
    web: Topology, change: Change, tmp_path: Path
) -> None:
    copy = str(tmp_path / "copy")
    web.osctl("self", "backup", copy)
    argv = change.command.format(copy=copy).split()
    for each in PREPARED.get(change.command, ()):
        web.osctl(*each.split())
    old = state(web)
    between = _after(web, change.between, ("ct start web",))
    web.osctl(*argv)
    new = state(web)
    _undo(web, change)
    assert state(web) == old
    assert (new == old) == (change.command.startswith("ct restart"))
    deaths: list[str] = []
    offset = int(time.time() / 86400) % ONE_OF
    number, step = (1, 1) if IS_WHOLE else (1 + offset % 6, ONE_OF)
    while True:
        place = ""
        for when in ("before", "after") if IS_WHOLE else (("before", "after")[(number + offset) % 2],):
            place, status = kill_at(web, number, when, argv)
            if not place:
                assert status == 0
                break
            deaths.append(place)
            web.start_daemon()
            _assert_whole(web, f"{change.command}: killed {place}, status {status}", status, (old, new, *between))
            # To where it began, whatever is there now.
            now = state(web)
            if between and now.wanted == between[0].wanted:
                web.osctl("ct", "start", "web")
            elif now.wanted != old.wanted:
                _undo(web, change)
        if not place:
            break
        number += step
    assert len(deaths) >= (10 if IS_WHOLE else 1), deaths


def _after(host: Topology, commands: Sequence[str], back: Sequence[str]) -> list[State]:
    """What may be in between; the host is as before then."""
    if not commands:
        return []
    for each in commands:
        host.osctl(*each.split())
    found = state(host)
    for each in back:
        host.osctl(*each.split())
    return [found]


def _undo(host: Topology, change: Change) -> None:
    for each in change.undo:
        host.osctl(*each.split())


def _assert_whole(host: Topology, what: str, status: int, states: Sequence[State]) -> None:
    now = state(host)
    allowed = states[1:2] if status == 0 else states
    fitting = [each for each in allowed if each.wanted == now.wanted]
    assert fitting, (what, now.wanted, *(each.wanted for each in allowed))
    changed = differences(fitting[0].kernel, now.kernel)
    assert not changed, (what, *changed)
    assert leftovers(host) == [], what
    containers = {name for name, _ in host.stored()["container"]}
    assert {each.name for each in (host.state_dir / "ct").iterdir()} == containers, what
    checked = run(str(BIN / "osctld"), *host.daemon_arguments, "--check", check=False)
    assert checked.status == 0, (what, checked)
