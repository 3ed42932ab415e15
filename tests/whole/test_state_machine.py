"""Random sequences of commands on real containers. What is told here of the run is printed at its end."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from whole.random_commands import Action
from whole.state_machine import Broken, Machine, from_text, machine, shorter, to_text
from whole.told_again import EDITS, Step

pytestmark = pytest.mark.requires_kernel("nftables fib")

#: Two hosts side by side, one for each of the two cores that a small machine has.
WORKERS = 2
STEPS = 20_000
#: Kinds of command x what became of it x running or stopped, as many as have been met in each run so far, less some.
TRANSITIONS = 85
#: What each changing command has to have met.
OUTCOMES = ("done", "refused", "dry-run", "refused by the kernel")

IS_EXPLORING = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"


@pytest.mark.time_limit(1800)
def test_after_each_of_many_random_commands_kernel_store_and_lists_are_as_they_should_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seeds = [random.SystemRandom().randrange(2**32) if IS_EXPLORING else number + 1 for number in range(WORKERS)]
    reports = [tmp_path / str(seed) for seed in seeds]
    workers = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "whole.state_machine", "--seed", str(seed)),
                *("--steps", str(STEPS // WORKERS), "--report", str(report)),
            ],
            cwd=Path(__file__).parent.parent,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for seed, report in zip(seeds, reports, strict=True)
    ]
    said = [worker.communicate()[0] for worker in workers]
    assert all(worker.returncode == 0 for worker in workers), "\n".join(said)

    covered: Counter[tuple[str, str, str]] = Counter()
    for report in reports:
        for *key, count in json.loads(report.read_text())["covered"]:
            covered[(key[0], key[1], key[2])] += count
    with capsys.disabled():
        print(f"\n{covered.total()} random commands, {len(covered)} transitions:")
        for (verb, outcome, state), count in sorted(covered.items()):
            print(f"{count:7} {verb}: {outcome}, {state}")
    assert covered.total() >= STEPS
    assert len(covered) >= TRANSITIONS
    met = {(verb, outcome) for verb, outcome, state in covered if state == "running"}
    assert {(verb, outcome) for verb in EDITS for outcome in OUTCOMES} - met == set()
    assert {"daemon died", "kill daemon", "by hand", "restart daemon"} <= {outcome for _, outcome, _ in covered}


# --- it would be noticed -----------------------------------------------------------------------------------------

NEW = Action("do", Step("ct netif new routed", (("--via", "10.100.0.0/30"), ("--via", "fd00:1::/126")), ("a", "eth0")))
ASSIGN = Action("do", Step("ct netif ip add", (), ("a", "eth0", "1.2.3.4", "2001:db8:2::4")))
START = Action("do", Step("ct start", (), ("a",)))


def test_the_machine_notices_whatever_is_not_as_it_should_be() -> None:
    with machine() as made:
        for each in (NEW, ASSIGN, START):
            made.perform(each)
        link = made.world.containers["a"].learned[made.world.containers["a"].interfaces[0].number].link
        inside = ("nsenter", f"--net=/proc/{made.host.init_pid('a')}/ns/net", "ip")

        def on_host(*words: str) -> None:
            made.host.ip(made.host.H, *words)

        def in_guest(*words: str) -> None:
            made.host.in_namespace(made.host.H, *inside, *words)

        for act, words, back in (
            (on_host, "route del 1.2.3.4/32", "route add 1.2.3.4/32 via 10.100.0.2 dev LINK proto 111"),
            (on_host, "neigh del 10.100.0.2 dev LINK", None),
            (on_host, "addr add 10.9.9.9/32 dev LINK", "addr del 10.9.9.9/32 dev LINK"),
            (on_host, "link set LINK mtu 1400", "link set LINK mtu 1500"),
            (in_guest, "addr del 1.2.3.4/32 dev eth0", None),
            (in_guest, "route del default", None),
        ):
            act(*words.replace("LINK", link).split())
            with pytest.raises(Broken):
                made.check()
            if back is None:
                made.perform(Action("do", Step("ct restart", (("-k", None),), ("a",))))
                inside = ("nsenter", f"--net=/proc/{made.host.init_pid('a')}/ns/net", "ip")
            else:
                act(*back.replace("LINK", link).split())
            made.check(whole=True)
        made.world.containers["a"].interfaces = ()
        with pytest.raises(Broken):
            made.check()


def test_the_machine_notices_an_answer_that_is_not_the_right_one() -> None:
    with machine() as made:
        made.perform(NEW)
        made.perform(ASSIGN)
        _lie(made)

        with pytest.raises(Broken, match="should be done"):
            made.perform(ASSIGN)


def _lie(made: Machine) -> None:
    """Let it believe that no address is assigned."""
    container = made.world.containers["a"]
    interface = container.interfaces[0]
    container.interfaces = (type(interface)(interface.name, interface.vias, number=interface.number),)


def test_a_sequence_is_made_as_short_as_it_can_be_and_can_be_kept() -> None:
    steps = [
        Action("do", Step("ct netif ip add", (), ("a", "eth0", f"1.2.3.{n}", f"1.2.3.{n + 100}"))) for n in range(90)
    ]

    def fails(actions: list[Action]) -> bool:
        words = [word for each in actions if each.step for word in each.step.words]
        return "1.2.3.17" in words and "1.2.3.180" in words

    few = shorter(steps, lambda actions: fails(list(actions)), 60)

    assert [each.step.words[2:] for each in few if each.step] == [("1.2.3.17",), ("1.2.3.180",)]
    assert from_text(to_text(few)) == few
