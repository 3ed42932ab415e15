"""An authority on addresses above this host, in a process of its own: slow, refusing, failing, killed."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from whole.bare_daemon import BARE
from whole.host import Result, Settled, Topology, wait_until

PROGRAM = Path(__file__).with_name("authority_process.py")

ADD = ("ct", "netif", "ip", "add")
WEB, DB = ("web", "eth0"), ("db", "eth0")


class AuthorityAbove:
    def __init__(self, directory: Path) -> None:
        self.socket, self._state, self._log = directory / "authority.sock", directory / "state", directory / "log"
        self._log.touch()
        self._process: subprocess.Popen[bytes] | None = None
        self.behave()

    def behave(self, **how: Any) -> None:
        """Do as is said from the next question on."""
        new = self._state.with_suffix(".new")
        new.write_text(json.dumps(how))
        new.replace(self._state)

    def start(self) -> None:
        words = map(str, (PROGRAM, self.socket, self._state, self._log))
        self._process = subprocess.Popen([sys.executable, *words])
        wait_until(self.socket.exists, "the authority listens")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            self.socket.unlink(missing_ok=True)

    def heard(self, *asks: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self._log.read_text().splitlines()]
        return [each for each in lines if not asks or each["ask"] in asks]

    def forget(self) -> None:
        self._log.write_text("")

    def wait_until_asked(self, network: str, *, times: int = 1) -> None:
        """Wait until so many claims of a network have arrived, answered or not."""
        file = self._log.with_suffix(".asked")

        def are_there() -> bool:
            asked = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
            return len([each for each in asked if each["ask"] == "claim" and network in each["networks"]]) >= times

        wait_until(are_there, f"{network} is asked for")

    def wait_for(self, ask: str, count: int = 1) -> dict[str, Any]:
        wait_until(lambda: len(self.heard(ask)) >= count, f"the authority hears {ask}", seconds=20)
        return self.heard(ask)[-1]


@pytest.fixture
def above(tmp_path: Path) -> Iterator[AuthorityAbove]:
    authority = AuthorityAbove(tmp_path)
    authority.start()
    yield authority
    authority.kill()


@pytest.fixture
def below(above: AuthorityAbove) -> Iterator[Topology]:
    """A host with an authority above it, on which `web` and `db` run."""
    with Topology(program=BARE, settings=f'[authority]\nsocket = "{above.socket}"\ntimeout = 20\n') as topology:
        above.wait_for("settle")
        topology.new_container("web", via=["10.100.10.100/30"])
        topology.new_container("db", via=["10.100.10.104/30"])
        above.wait_for("keep", 2)
        above.forget()
        yield topology


class Later:
    """A command that is given in a thread."""

    def __init__(self, host: Topology, *argv: str) -> None:
        self.result: Result | None = None

        def run() -> None:
            self.result = host.osctl(*argv, check=False)

        self._thread = threading.Thread(target=run)
        self._thread.start()

    def wait(self) -> Result:
        self._thread.join()
        assert self.result is not None
        return self.result


def test_what_is_granted_is_kept_and_what_goes_is_released(below: Topology, above: AuthorityAbove) -> None:
    below.osctl(*ADD, *WEB, "1.2.3.4")

    (claim,) = above.heard("claim")
    (held,) = claim["holdings"]
    assert (held["network"], held["kind"], held["label"], claim["reserve"]) == (
        "1.2.3.4/32", "route", "eth0 of web", True,
    )  # fmt: skip
    (row,) = below.osctl_json("net", "who", "1.2.3.4")
    assert held["holder"] == row["uuid"]
    assert "1.2.3.4/32" in above.wait_for("keep")["held"]
    below.osctl("ct", "netif", "ip", "del", *WEB, "1.2.3.4")
    assert above.wait_for("release")["networks"] == ["1.2.3.4/32"]
    below.osctl("ct", "netif", "rename", *WEB, "wan0")
    below.osctl("ct", "netif", "set", "--mtu", "1400", "web", "wan0")
    assert len(above.heard("claim")) == 1, "nothing new is claimed"


def test_a_slow_one_stalls_who_asks_it_and_nobody_else(below: Topology, above: AuthorityAbove) -> None:
    above.behave(delay={"1.2.3.4/32": 4})
    slow = Later(below, *ADD, *WEB, "1.2.3.4")
    above.wait_until_asked("1.2.3.4/32")

    for number in range(5, 9):
        below.osctl(*ADD, *DB, f"1.2.3.{number}")
    below.osctl("ct", "netif", "set", "--mtu", "1400", *WEB)

    assert slow.result is None, "others are answered meanwhile"
    assert slow.wait().status == 0
    assert [each["addr"] for each in below.osctl_json("ct", "netif", "ip", "ls", *WEB)] == ["1.2.3.4/32"]


def test_what_another_host_holds_is_refused_by_name(below: Topology, above: AuthorityAbove) -> None:
    above.behave(held={"1.2.3.4/32": "eth0 of mail on host b"})
    nothing_changes = Settled(below, running=["web", "db"])

    assert nothing_changes.refusal(*ADD, *WEB, "1.2.3.4") == "1.2.3.4/32: held by eth0 of mail on host b"
    assert nothing_changes.refusal(*ADD, "--dry-run", *WEB, "1.2.3.4") == "1.2.3.4/32: held by eth0 of mail on host b"
    below.osctl(*ADD, "--dry-run", *WEB, "1.2.3.5")
    assert [each["reserve"] for each in above.heard("claim")] == [True, False, False]
    # What this host refuses itself, nobody else is asked for.
    assert "is an address of the host" in nothing_changes.refusal(*ADD, *WEB, "192.0.2.1")
    assert len(above.heard("claim")) == 3


def test_without_it_nothing_is_claimed_and_everything_else_goes_on(below: Topology, above: AuthorityAbove) -> None:
    below.osctl(*ADD, *WEB, "1.2.3.4")
    above.wait_for("keep")
    above.behave(error="the database is read-only")
    nothing_changes = Settled(below, running=["web", "db"])
    says = f"the authority on addresses at {above.socket}: "
    assert nothing_changes.refusal(*ADD, *WEB, "1.2.3.5") == f"{says}the database is read-only"
    above.kill()
    assert nothing_changes.refusal(*ADD, *WEB, "1.2.3.5") == f"{says}No such file or directory"

    below.osctl("ct", "netif", "ip", "del", *WEB, "1.2.3.4")
    below.osctl("ct", "restart", "web")

    above.behave()
    above.forget()
    above.start()
    assert above.wait_for("release")["networks"] == ["1.2.3.4/32"], "it hears of it when it is back"
    below.osctl(*ADD, *WEB, "1.2.3.5")


def test_one_that_dies_after_a_grant_hears_of_the_save_when_it_is_back(below: Topology, above: AuthorityAbove) -> None:
    above.behave(delay={"": 1})
    slow = Later(below, *ADD, *WEB, "1.2.3.4")
    above.wait_for("claim")
    above.kill()

    result = slow.wait()

    # The answer may have been on its way, or not: then nothing has changed.
    above.behave()
    above.forget()
    above.start()
    if result.status == 0:
        assert above.wait_for("keep")["reservation"] == "r1" or above.heard("keep")
    assert bool(below.osctl_json("ct", "netif", "ip", "ls", *WEB)) is (result.status == 0)
    below.osctl(*ADD, *WEB, "1.2.3.9")


def test_what_a_daemon_that_died_had_reserved_is_forgotten(below: Topology, above: AuthorityAbove) -> None:
    above.behave(kill=below.daemon_pid)
    assert below.osctl(*ADD, *WEB, "1.2.3.4", check=False).status != 0
    below.bury_daemon()
    assert above.heard("claim")[-1]["reserved"] == ["1.2.3.4/32"]

    above.behave()
    below.start_daemon()

    settled = above.wait_for("settle")
    assert settled["reserved"] == []
    assert settled["held"] == ["10.100.10.100/30", "10.100.10.104/30"]
    below.osctl(*ADD, *DB, "1.2.3.4")


def test_an_edit_that_needs_more_in_its_turn_begins_anew(below: Topology, above: AuthorityAbove) -> None:
    below.osctl(*ADD, *WEB, "1.2.3.4")
    above.wait_for("keep")
    above.forget()
    above.behave(delay={"1.2.3.4/32": 3})
    slow = Later(below, "ct", "netif", "ip", "move", *WEB, *DB, "all")
    above.wait_until_asked("1.2.3.4/32", times=2)

    below.osctl(*ADD, *WEB, "1.2.3.5")

    assert slow.wait().status == 0
    # To begin anew is no failure.
    assert {each["result"] for each in below.osctl_json("history", "--all")} == {"done"}
    assert [each["addr"] for each in below.osctl_json("ct", "netif", "ip", "ls", *DB)] == ["1.2.3.4/32", "1.2.3.5/32"]
    claimed = [each["networks"] for each in above.heard("claim")]
    assert claimed == [["1.2.3.5/32"], ["1.2.3.4/32"], ["1.2.3.4/32", "1.2.3.5/32"]]
    above.wait_for("give-back")
    above.wait_for("keep")
    wait_until(lambda: above.heard()[-1]["reserved"] == [], "nothing stays reserved")


# --- K5 -----------------------------------------------------------------------------------------------------------


def test_what_others_hold_since_comes_up_parked_and_is_taken_when_they_have_given_it_up(
    below: Topology, above: AuthorityAbove
) -> None:
    below.osctl(*ADD, *WEB, "1.2.3.4", "1.2.3.5")
    veth = below.veth("web")

    def routed() -> list[str]:
        return [each["dst"] for each in below.ip_json(below.H, "route", "show", "dev", veth, "proto", "111")]

    assert routed() == ["1.2.3.4", "1.2.3.5"]
    above.wait_for("keep")
    # As after a backup of the state directory was put back: the authority knows better.
    above.behave(lost=["1.2.3.4/32"], held={"1.2.3.4/32": "eth0 of mail on host b"})

    below.restart_daemon()

    def states() -> dict[str, str]:
        return {each["network"]: each["state"] for each in below.osctl_json("net", "ls", "web")}

    wait_until(lambda: states()["1.2.3.4/32"] == "parked", "it is known what others hold")
    assert states() == {"1.2.3.4/32": "parked", "1.2.3.5/32": "wanted", "10.100.10.100/30": "wanted"}
    assert routed() == ["1.2.3.5"]
    assert below.osctl("net", "reconcile").stdout == "nothing to repair\n"
    nothing_changes = Settled(below, running=["web", "db"])
    take = ("ct", "netif", "take", *WEB)
    assert nothing_changes.refusal(*take, "all") == "1.2.3.4/32: held by eth0 of mail on host b"
    assert "1.2.3.5: neither parked nor on standby on eth0 of web" in nothing_changes.refusal(*take, "1.2.3.5")
    # Who was refused before it was anybody's turn is kept, too.
    tried = [each for each in below.osctl_json("history", "--all") if each["command"].endswith("take web eth0 all")]
    assert [each["result"] for each in tried] == ["1.2.3.4/32: held by eth0 of mail on host b"]
    below.osctl("ct", "restart", "web")
    assert routed() == ["1.2.3.5"]

    above.behave()
    below.osctl(*take, "1.2.3.4")

    assert routed() == ["1.2.3.4", "1.2.3.5"]
    assert below.ping(below.R, "1.2.3.4") == 3
    assert {each["state"] for each in below.osctl_json("net", "ls", "web")} == {"wanted"}


def routes_among(held: list[str]) -> list[str]:
    return [each for each in held if each.startswith("1.2.3.")]


def test_what_is_put_on_standby_is_free_for_others_and_asked_for_again(below: Topology, above: AuthorityAbove) -> None:
    below.osctl(*ADD, *WEB, "1.2.3.4", "1.2.3.5")
    above.wait_for("keep")

    below.osctl("ct", "netif", "standby", *WEB, "1.2.3.4")

    above.wait_for("release")
    assert routes_among(above.wait_for("release")["held"]) == ["1.2.3.5/32"]
    above.forget()
    below.restart_daemon()
    assert routes_among(above.wait_for("settle")["held"]) == ["1.2.3.5/32"]
    above.behave(held={"1.2.3.4/32": "eth0 of mail on host b"})
    nothing_changes = Settled(below, running=["web", "db"])
    assert nothing_changes.refusal("ct", "netif", "take", *WEB, "all") == "1.2.3.4/32: held by eth0 of mail on host b"
    above.behave()
    below.osctl("ct", "netif", "take", *WEB, "all")
    assert below.ping(below.R, "1.2.3.4") == 3


def test_what_an_authority_grants_has_its_epoch(below: Topology, above: AuthorityAbove) -> None:
    above.behave(epoch=41)

    below.osctl(*ADD, *WEB, "1.2.3.4")

    assert [each["epoch"] for each in below.osctl_json("net", "who", "1.2.3.4")] == [41]


def test_what_is_parked_and_deleted_is_not_parked_when_it_comes_again(below: Topology, above: AuthorityAbove) -> None:
    below.osctl(*ADD, *WEB, "1.2.3.4")
    above.wait_for("keep")
    above.behave(lost=["1.2.3.4/32"])
    below.restart_daemon()
    wait_until(lambda: below.osctl_json("net", "who", "1.2.3.4")[0]["state"] == "parked", "it is parked")
    above.behave()

    below.osctl("ct", "netif", "ip", "del", *WEB, "1.2.3.4")
    below.osctl(*ADD, *WEB, "1.2.3.4")

    assert [each["state"] for each in below.osctl_json("net", "who", "1.2.3.4")] == ["wanted"]
