"""Random sequences of commands on real containers. What is told here of the run is printed at its end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from pathlib import Path

import hypothesis
import pytest

from hypothesis_profiles import PROFILE
from kernel_capabilities import has_kernel_capability
from whole import state_machine, told_again
from whole.random_commands import Action
from whole.state_machine import SETTINGS, Broken, Kept, Machine, Transition
from whole.told_again import EDITS, Foreign, ForeignRule, No, Step

pytestmark = pytest.mark.requires_kernel("nftables fib")

#: Two hosts side by side, one for each of the two cores that a small machine has.
WORKERS = 2
STEPS = 20_000
#: Kinds of command x what became of it x running or stopped, as many as have been met in each run so far, less some.
TRANSITIONS = 115
#: What each changing command has to have met.
OUTCOMES = ("done", "refused", "dry-run", "refused by the kernel")


@pytest.mark.time_limit(1800)
def test_after_each_of_many_random_commands_kernel_store_and_lists_are_as_they_should_be(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    # Without a seed hypothesis looks where nobody has looked; with one it gives one answer for one commit.
    seeds: list[int | None] = [None if PROFILE == "thorough" else number + 1 for number in range(WORKERS)]
    reports = [tmp_path / str(number) for number in range(WORKERS)]
    workers = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "whole.state_machine", *([] if seed is None else ["--seed", str(seed)])),
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
    try:
        said = [worker.communicate()[0] for worker in workers]
    finally:
        # When the test is interrupted: a worker then takes its host away.
        for worker in workers:
            worker.terminate()
            worker.wait()
    assert all(worker.returncode == 0 for worker in workers), "\n".join(said)

    covered: Counter[Transition] = Counter()
    for report in reports:
        for *key, count in json.loads(report.read_text())["covered"]:
            covered[(key[0], key[1], key[2])] += count
    lines = [f"{count:7} {verb}: {outcome}, {state}" for (verb, outcome, state), count in sorted(covered.items())]
    record_property("told", "\n".join((f"{covered.total()} random commands, {len(covered)} transitions:", *lines)))
    assert covered.total() >= STEPS
    assert len(covered) >= TRANSITIONS
    met = {(verb, outcome) for verb, outcome, state in covered if state == "running"}
    assert {(verb, outcome) for verb in EDITS for outcome in OUTCOMES} - met == set()
    outcomes = {outcome for _, outcome, _ in covered}
    assert {"daemon died", "kill daemon", "by hand", "restart daemon", "host address"} <= outcomes
    assert {"foreign route gone", "foreign rule", "foreign rule gone"} <= outcomes
    assert {f"{each} route that ours yields to" for each in ("unicast", "blackhole")} <= outcomes
    assert "foreign master" in outcomes or not has_kernel_capability("bridge")


# --- it would be noticed -----------------------------------------------------------------------------------------

NEW = Action("do", Step("ct netif new routed", (("--via", "10.100.0.0/30"), ("--via", "fd00:1::/126")), ("a", "eth0")))
ASSIGN = Action("do", Step("ct netif ip add", (), ("a", "eth0", "1.2.3.4", "2001:db8:2::4")))
START = Action("do", Step("ct start", (), ("a",)))


@pytest.fixture
def made() -> Iterator[Machine]:
    with Kept() as kept:
        yield kept.machine


def test_the_machine_notices_whatever_is_not_as_it_should_be(made: Machine) -> None:
    for each in (NEW, ASSIGN, START):
        made.perform(each)
    container = made.world.containers["a"]
    link = container.learned[container.interfaces[0].number].link

    for words in (
        "route del 1.2.3.4/32",
        f"neigh del 10.100.0.2 dev {link}",
        f"addr add 10.9.9.9/32 dev {link}",
        f"link set {link} mtu 1400",
        "guest addr del 1.2.3.4/32 dev eth0",
        "guest route del default",
    ):
        # Without the daemon, which might mend it before anybody looks.
        inside = ("nsenter", f"--net=/proc/{made.host.init_pid('a')}/ns/net", "ip")
        made.stop_daemon()
        if words.startswith("guest "):
            made.host.in_namespace(made.host.H, *inside, *words.split()[1:])
        else:
            made.host.ip(made.host.H, *words.split())
        with pytest.raises(Broken):
            made.check()
        made.host.start_daemon()
        made.perform(Action("do", Step("ct restart", (("-k", None),), ("a",))))
        made.check(whole=True)
    container.interfaces = ()
    with pytest.raises(Broken):
        made.check()


@pytest.mark.parametrize(
    "foreign", [Foreign(ip_network("1.2.3.4/32"), "blackhole", 50), Foreign(ip_network("1.2.3.4/32"), "unicast", 0)]
)
def test_the_machine_notices_when_nothing_yields_to_what_somebody_else_has(made: Machine, foreign: Foreign) -> None:
    for each in (NEW, ASSIGN, START):
        made.perform(each)
    made.check(whole=True)

    # Let it believe that somebody else's route is there, to which the daemon cannot have yielded.
    made.world.foreign[foreign.network, foreign.metric] = foreign

    with pytest.raises(Broken) as caught:
        made.check()
    missing, surplus = str(caught.value).splitlines()[1:]
    assert (missing[:2], surplus.split()[:3]) == ("- ", ["+", "route", "1.2.3.4/32"])
    with pytest.raises(Broken, match="show a eth0"):
        made.check_shown(Action("do", Step("ct netif show", (), ("a", "eth0"))))


def test_the_machine_notices_when_what_a_rule_hides_is_not_in_the_packet_filter(made: Machine) -> None:
    for each in (NEW, ASSIGN, START):
        made.perform(each)

    made.world.rule = ForeignRule(ip_network("1.2.3.4/32"), is_host_s=True)

    with pytest.raises(Broken, match="what rules hide"):
        made.check(whole=True)


def test_the_machine_notices_an_answer_that_is_not_the_right_one(made: Machine) -> None:
    made.perform(NEW)
    made.perform(ASSIGN)
    # Let it believe that no address is assigned.
    container = made.world.containers["a"]
    interface = container.interfaces[0]
    container.interfaces = (type(interface)(interface.name, interface.vias, number=interface.number),)

    with pytest.raises(Broken, match="should be done"):
        made.perform(ASSIGN)


@pytest.mark.time_limit(180)
def test_a_sequence_that_fails_is_made_short_and_told_as_command_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise No("whatever it is")

    # What osctld does right is wrong by this.
    monkeypatch.setitem(told_again.EDITS, "ct netif ip del", refuse)

    with pytest.raises(Broken, match="should be refused: whatever it is") as caught:
        state_machine.run(1000, 1, settings=hypothesis.settings(SETTINGS, stateful_step_count=10, database=None))

    told = "".join(traceback.format_exception_only(caught.value))
    after = told.partition("\nafter:\n")[2].partition("\n\n")[0].splitlines()
    edits = [line for line in after if not line.startswith("osctl ct start")]
    assert edits[0].startswith("osctl ct netif new routed")
    assert edits[-1].startswith("osctl ct netif ip del")
    assert len(edits) <= 4, told
    assert f"state.command(action={edits[-1]})" in told
