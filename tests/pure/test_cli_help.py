"""Help, and what else is said without a daemon."""

from __future__ import annotations

import json

import pytest

from osctld.cli.__main__ import answer
from osctld.cli.catalogue import Group, catalogue
from osctld.cli.help import render, summary
from osctld.cli.interpret import interpret, refusal
from osctld.cli.parse import Invocation, signature
from osctld.cli.version import told
from osctld.core.command import Argument, Command
from osctld.core.errors import Conflict, Refused
from osctld.core.wire import CliResponse


def places(group: Group) -> list[Group | type[Command]]:
    found: list[Group | type[Command]] = [group]
    for child in group.children.values():
        found.extend(places(child) if isinstance(child, Group) else [child])
    return found


PLACES = places(catalogue())


@pytest.mark.parametrize("place", PLACES, ids=lambda place: "-".join(place.words) or "root")
def test_help_fits_the_terminal_and_leaves_nothing_out(place: Group | type[Command]) -> None:
    for columns in (60, 80, 200):
        text = render(place.words, columns=columns)

        assert text.startswith(f"usage: {' '.join(('osctl', *place.words))}")
        assert max(map(len, text.splitlines())) <= columns
        assert "global options:" in text
        assert text.endswith("\n")
        assert not text.endswith("\n\n")
        assert "\n\n\n" not in text
        if isinstance(place, Group):
            assert all(f"  {word}" in text for word in place.children)
        else:
            declared = signature(place)
            assert all(f"<{each.metavar}>" in text for each in declared.arguments)
            for each in declared.options:
                assert not isinstance(each.declaration, Argument)
                assert all(name.removeprefix("--") in text for name in each.declaration.names)


def test_every_group_and_command_says_what_it_is_about() -> None:
    assert [place.words for place in PLACES if not summary(place)] == []


def test_help_of_a_command_shows_how_to_call_it() -> None:
    text = render(("ct", "netif", "ip", "add"))

    assert text.splitlines()[0] == "usage: osctl ct netif ip add [options] <ct> [<netif>] [<addr>...]"
    assert "\n  --[no-]route  " in text
    assert "\n  --route-as NETWORK  " in text
    assert "\n  --socket PATH  " in text


def test_help_goes_to_standard_output_and_is_a_success() -> None:
    response = interpret(["help", "ct", "netif"], columns=80)

    assert response == CliResponse(stdout=render(("ct", "netif"), columns=80), stderr="", exit=0)


def test_a_usage_error_is_one_line_on_standard_error() -> None:
    assert interpret(["ct", "ls", "--frob"]) == CliResponse(
        stdout="", stderr="error: unknown option: --frob\n", exit=64
    )


def test_a_missing_subcommand_shows_the_help_of_that_level_on_standard_error() -> None:
    response = interpret(["ct", "netif"])

    assert isinstance(response, CliResponse)
    assert response.exit == 64
    assert response.stdout == ""
    assert response.stderr == f"error: command 'ct netif' requires a subcommand\n\n{render(('ct', 'netif'))}"


def test_the_version_is_printed() -> None:
    assert interpret(["--version"]) == CliResponse(stdout=f"{told('osctl')}\n")


def test_a_command_line_that_makes_sense_is_left_to_the_daemon() -> None:
    assert isinstance(interpret(["ping"]), Invocation)


def test_an_error_stays_one_line_and_cannot_drive_the_terminal() -> None:
    error = Refused("'a\nb\x1b[2J' is odd")

    assert refusal(error) == CliResponse(stderr="error: 'a b\\x1b[2J' is odd\n", exit=1)


def test_an_error_is_one_line_of_json_for_programs() -> None:
    error = Conflict("1.2.3.4/32 is routed to eth0 of web", code="conflict", subject="1.2.3.4/32", holder="eth0 of web")

    response = refusal(error, is_json=True)

    assert json.loads(response.stderr) == {
        "error": "1.2.3.4/32 is routed to eth0 of web",
        "code": "conflict",
        "subject": "1.2.3.4/32",
        "holder": "eth0 of web",
    }
    assert response.stderr.count("\n") == 1
    assert response.exit == 1


@pytest.mark.parametrize(("argv", "is_json"), [(["-j", "frob"], True), (["frob", "--json"], True), (["frob"], False)])
def test_words_that_make_no_sense_are_told_as_json_when_they_ask_for_it(argv: list[str], is_json: bool) -> None:
    response = interpret(argv)

    assert isinstance(response, CliResponse)
    assert response.stderr.startswith('{"error":') is is_json
    assert response.exit == 64


@pytest.mark.parametrize(("status", "code"), [("69", "no-daemon"), ("77", "not-permitted")])
def test_a_program_is_told_apart_whether_there_is_no_daemon_or_it_may_not_talk_to_it(status: str, code: str) -> None:
    response = answer(["--unavailable", status, "says why", "-j", "ping"], columns=80)

    assert response.stderr == f'{{"error":"says why","code":"{code}","subject":"","holder":""}}\n'
    assert response.exit == int(status)


@pytest.mark.parametrize(
    ("argv", "status", "out", "err"),
    [
        (["ping"], 69, "", "error: no daemon\n"),
        (["ct", "ls", "--frob"], 64, "", "error: unknown option: --frob\n"),
        (["--version"], 0, f"{told('osctl')}\n", ""),
        (["history", "-L"], 0, "time\ntime_iso\nepoch\npool\nuser\nlogin\nprocess\nresult\ncommand\n", ""),
        (["help", "ping"], 0, render(("ping",), columns=80), ""),
    ],
)
def test_without_a_daemon_the_words_are_looked_at_first(argv: list[str], status: int, out: str, err: str) -> None:
    response = answer(["--unavailable", "69", "no daemon", *argv], columns=80)

    assert response == CliResponse(stdout=out, stderr=err, exit=status)
