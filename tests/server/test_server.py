"""The server: what it answers, to whom, and that nothing ends it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import random
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from osctl.client import Client
from osctld.cli.version import BUILD, VERSION, told
from osctld.commands.ct_netif_ip_add import CtNetifIpAdd
from osctld.core.command import ActCommand, Column, ExitStatus, GlobalOptions, Listing, Reply, Text
from osctld.core.errors import Conflict, Refused
from osctld.core.events import Event, EventFilter
from osctld.protocol.families.event import EventSubscribe
from osctld.server.door import Limits
from osctld.server.ports import Caller
from server.serving import PATIENCE, PONG, Running, Talk, open_descriptors, wait_until

LONGEST_LINE = Limits().longest_line
NOT_JSON = "syntax error, expected a valid JSON"


def cli(talk: Talk, *argv: str, **more: Any) -> Any:
    talk.request("cli", argv=list(argv), **more)
    return talk.read()


def failed(message: str, *, code: str, subject: str = "", holder: str = "") -> dict[str, Any]:
    return {"status": False, "message": message, "code": code, "subject": subject, "holder": holder}


def answered(stdout: str = "", stderr: str = "", status: int = 0) -> dict[str, Any]:
    return {"status": True, "response": {"stdout": stdout, "stderr": stderr, "exit": status}}


# --- the socket ---------------------------------------------------------------------------------------------------


def test_the_socket_is_for_its_owner_alone_whatever_the_umask(directory: Path) -> None:
    before = os.umask(0)
    running = Running(directory / "s")
    try:
        running.start()
        mode = os.stat(running.path).st_mode
    finally:
        os.umask(before)
        running.stop()

    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600


def test_the_socket_of_a_dead_daemon_is_replaced(directory: Path) -> None:
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(directory / "s"))
    dead.close()

    running = Running(directory / "s")
    running.start()

    with running.connect() as talk:
        assert talk.ping() == PONG
    running.stop()


def test_a_file_in_the_way_is_left_alone_and_named(directory: Path) -> None:
    (directory / "s").write_text("precious")

    with pytest.raises(Refused, match=r": exists and is not a socket$"):
        Running(directory / "s").start()

    assert (directory / "s").read_text() == "precious"


def test_a_path_that_is_too_long_is_refused_in_words(directory: Path) -> None:
    with pytest.raises(Refused, match=r": too long for a socket \(at most 107 bytes\)$"):
        Running(directory / ("s" * 108)).start()


def test_the_socket_is_gone_when_the_server_is(server: Running) -> None:
    server.stop()

    assert not server.path.exists()


def test_the_socket_of_a_successor_is_left_alone(server: Running) -> None:
    server.path.unlink()
    server.path.write_text("a successor's")

    server.stop()

    assert server.path.read_text() == "a successor's"


# --- requests -----------------------------------------------------------------------------------------------------


def test_the_server_speaks_first_and_answers_requests_in_order(server: Running) -> None:
    with server.connect() as talk:
        assert talk.greeting == {"version": VERSION, "build": BUILD}
        talk.send(b'{"cmd":"self_ping"}\n{"cmd":"nonsense","opts":{}}\n{"cmd":"self_ping","opts":null}\n')

        assert [talk.read() for _ in range(3)] == [
            PONG,
            failed("Unsupported command 'nonsense'", code="unknown-command", subject="nonsense"),
            PONG,
        ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"", NOT_JSON),
        (b"nonsense", NOT_JSON),
        (b'{"cmd":', NOT_JSON),
        (b"\xff\xfe", NOT_JSON),
        (b"[" * 100_000, NOT_JSON),
        (b"[" * 100_000 + b'"\\ud800"', NOT_JSON),
        (b"9" * 100_000, None),
        (b"[1]", "expected a JSON object"),
        (b"null", "expected a JSON object"),
        (b"{}", "cmd: expected the name of a request"),
        (b'{"cmd":1}', "cmd: expected the name of a request"),
        (b'{"cmd":"self_ping","opts":[]}', "opts: expected an object"),
        (b'{"cmd":"\\ud800"}', "Unsupported command '\\ud800'"),
        (b'{"cmd":"' + b"x" * 1000 + b'"}', f"Unsupported command '{'x' * 100}...'"),
        (b'{"cmd":"cli","opts":{"\\ud800":1}}', None),
        (b'{"cmd":"cli","opts":{}}', "cli: Object missing required field `argv`"),
        (b'{"cmd":"cli","opts":{"argv":"ct"}}', "cli: Expected `array`, got `str` - at `$.argv`"),
    ],
)
def test_what_is_not_a_request_is_answered_and_the_connection_lives(
    server: Running, line: bytes, message: str | None
) -> None:
    with server.connect() as talk:
        answer = talk.ask(line)

        assert answer["status"] is False
        assert message is None or answer["message"] == message
        assert talk.ping() == PONG


def test_a_line_without_an_end_is_answered_and_the_connection_closed(server: Running) -> None:
    with server.connect() as talk:
        with contextlib.suppress(ConnectionError):  # closed before all was sent; the answer is there nevertheless
            talk.send(b"x" * (LONGEST_LINE + (1 << 20)))

        assert talk.read() == failed(f"request is longer than {LONGEST_LINE} bytes", code="too-long")
    with server.connect() as talk:
        assert talk.ping() == PONG


def test_a_long_line_that_ends_is_read(server: Running) -> None:
    with server.connect() as talk:
        talk.request("self_ping", cli="x" * (LONGEST_LINE - 1000))

        assert talk.read() == PONG


def test_half_a_request_and_an_end_is_forgotten(server: Running) -> None:
    before = open_descriptors()
    with server.connect() as talk:
        talk.send(b'{"cmd":"self_')

    with server.connect() as talk:
        assert talk.ping() == PONG
    wait_until(lambda: open_descriptors() == before)


def test_a_client_that_shut_its_sending_side_still_gets_its_answer(server: Running) -> None:
    with server.connect() as talk:
        talk.send(b'{"cmd":"self_ping"}\n')
        talk.socket.shutdown(socket.SHUT_WR)

        assert talk.read() == PONG
        with pytest.raises(EOFError):
            talk.read()


def test_ten_thousand_random_requests_leave_it_alive(server: Running) -> None:
    chance = random.Random(20)
    words = ["cmd", "opts", "cli", "argv", "self_ping", "ct", "ls", "-o", "--help", "\ud800", "", 7, None, True, [], {}]

    def scrap(depth: int = 0) -> Any:
        kind = chance.randrange(4 if depth < 3 else 1)
        if kind == 1:
            return [scrap(depth + 1) for _ in range(chance.randrange(4))]
        if kind == 2:
            return {str(chance.choice(words)): scrap(depth + 1) for _ in range(chance.randrange(4))}
        if kind == 3:
            return {"cmd": chance.choice(["cli", "self_ping", "x"]), "opts": {"argv": scrap(depth + 1)}}
        return chance.choice(words)

    def line() -> bytes:
        if chance.random() < 0.3:
            return chance.randbytes(chance.randrange(60)).replace(b"\n", b" ")
        text = json.dumps(scrap()).encode()
        return text[: chance.randrange(len(text) + 1)] if chance.random() < 0.3 else text

    talk = server.connect()
    for number in range(10_000):
        answer = talk.ask(line())
        assert answer["status"] in (True, False)
        if number % 500 == 499:  # go away in the middle of something
            talk.send(line())
            talk.close()
            talk = server.connect()

    assert talk.ping() == PONG
    talk.close()


# --- command lines ------------------------------------------------------------------------------------------------


def test_words_become_a_command_and_the_reply_text(server: Running) -> None:
    with server.connect() as talk:
        assert cli(talk, "ct", "netif", "ip", "add", "web", "eth0", "1.2.3.4", "--no-route", "-q") == answered("pong\n")

    assert server.fake.commands == [CtNetifIpAdd(container="web", netif="eth0", addresses=("1.2.3.4",), route=False)]
    assert server.fake.options == [GlobalOptions(quiet=True)]


def test_help_and_errors_in_the_words_never_reach_the_performer(server: Running) -> None:
    with server.connect() as talk:
        assert cli(talk, "--version") == answered(f"{told('osctl', 'unknown', 'unknown')}\n{told('osctld')}\n")
        assert cli(talk, "frob")["response"]["exit"] == 64
        assert max(map(len, cli(talk, "help", "ct", columns=60)["response"]["stdout"].splitlines())) <= 60

    assert server.fake.commands == []


@pytest.mark.parametrize(
    ("argv", "terminal", "cell"),
    [
        (("ct", "ls"), {"stdout_is_terminal": True, "terminal_type": "xterm"}, "\x1b[32mrunning \x1b[0m"),
        (("ct", "ls", "--no-color"), {"stdout_is_terminal": True, "terminal_type": "xterm"}, "running "),
        (("ct", "ls"), {"stdout_is_terminal": True, "terminal_type": "dumb"}, "running "),
        (("ct", "ls"), {"terminal_type": "xterm"}, "running "),
    ],
)
def test_only_a_terminal_that_knows_colours_is_shown_some(
    server: Running, argv: tuple[str, ...], terminal: dict[str, Any], cell: str
) -> None:
    async def performing(_: Caller) -> Reply:
        return Listing((Column("state", marks={"running": "good"}),), ("state",), ({"state": "running"},))

    server.fake.performing = performing
    with server.connect() as talk:
        assert cli(talk, *argv, **terminal) == answered(f"STATE   \n{cell}\n")


def test_words_that_are_not_utf_8_are_refused_in_words(server: Running) -> None:
    with server.connect() as talk:
        assert cli(talk, "ct", "show", "caf\udce9") == answered(
            stderr="error: argument 'caf\\udce9' is not valid UTF-8\n", status=64
        )


def test_a_refusal_is_one_line_on_standard_error_with_its_status(server: Running) -> None:
    async def performing(_: Caller) -> Reply:
        raise Conflict("1.2.3.4/32 is routed to eth0\nof web01")

    server.fake.performing = performing
    with server.connect() as talk:
        assert cli(talk, "ping") == answered(stderr="error: 1.2.3.4/32 is routed to eth0 of web01\n", status=1)
        as_json = cli(talk, "-j", "ping")["response"]

    assert (as_json["stdout"], as_json["exit"]) == ("", 1)
    assert json.loads(as_json["stderr"]) == {
        "error": "1.2.3.4/32 is routed to eth0 of web01",
        "code": "conflict",
        "subject": "",
        "holder": "",
    }


def test_a_mistake_in_a_command_is_logged_and_the_daemon_lives(
    server: Running, caplog: pytest.LogCaptureFixture
) -> None:
    async def performing(_: Caller) -> Reply:
        raise KeyError("veth")

    server.fake.performing = performing
    with server.connect() as talk:
        assert cli(talk, "ping") == answered(
            stderr="error: internal error (KeyError: 'veth'), see the log of osctld\n", status=1
        )
        assert talk.ping() == PONG

    assert "Traceback" in caplog.text
    assert "KeyError: 'veth'" in caplog.text


def test_an_exit_status_is_handed_on(server: Running) -> None:
    async def performing(_: Caller) -> Reply:
        return ExitStatus(42)

    server.fake.performing = performing
    with server.connect() as talk:
        assert cli(talk, "ct", "exec", "web", "false") == answered(status=42)


@pytest.mark.parametrize(("argv", "is_told"), [(["ping"], True), (["-q", "ping"], False), (["-j", "ping"], False)])
def test_progress_arrives_before_the_end_unless_unwanted(server: Running, argv: list[str], is_told: bool) -> None:
    async def performing(caller: Caller) -> Reply:
        caller.progress("building the root directory")
        return Text()

    server.fake.performing = performing
    with server.connect() as talk:
        talk.request("cli", argv=argv)
        if is_told:
            assert talk.read() == {"status": True, "progress": "building the root directory"}
        assert talk.read() == answered()


# --- what a program gives -----------------------------------------------------------------------------------------


def send_io(talk: Talk, descriptor: int, octet: bytes = b"\0") -> None:
    socket.send_fds(talk.socket, [octet], [descriptor])


async def speaking(caller: Caller) -> Reply:
    """A program that says in capitals what it is given."""
    stdin, stdout, stderr = await caller.descriptors()
    os.write(stdout, os.read(stdin, 100).upper())
    os.write(stderr, b"done")
    return ExitStatus(7)


@pytest.fixture
def pipes() -> Iterator[tuple[tuple[int, int], ...]]:
    """Three, each with its end for reading and its end for writing; the first one has words in it."""
    made = tuple(os.pipe() for _ in range(3))
    os.write(made[0][1], b"words")
    yield made
    for each in itertools.chain(*made):
        os.close(each)


@pytest.mark.parametrize("octet", [b"\0", b"\n", b"{"])
def test_three_descriptors_come_each_with_a_byte_and_the_answer_before_they_are_closed(
    server: Running, pipes: tuple[tuple[int, int], ...], octet: bytes
) -> None:
    stdin, stdout, stderr = pipes
    server.fake.performing = speaking
    with server.connect() as talk:
        before = open_descriptors()
        talk.request("ct_exec", id="web", cmd=["x"])
        assert talk.read() == {"status": True, "response": "continue"}
        for each in (stdin[0], stdout[1], stderr[1]):
            send_io(talk, each, octet)

        assert os.read(stdout[0], 100) == b"WORDS"
        assert os.read(stderr[0], 100) == b"done"
        assert talk.read() == {"status": True, "response": {"exitstatus": 7}}
        assert open_descriptors() == before + 3
        assert talk.ping() == PONG
        wait_until(lambda: open_descriptors() == before)


def test_a_program_that_takes_nothing_and_asks_nothing_more_has_its_descriptors_closed_all_the_same(
    server: Running, pipes: tuple[tuple[int, int], ...]
) -> None:
    """After 3 seconds it is answered, after 10 more its pipes end."""
    stdin, stdout, stderr = pipes
    server.fake.performing = speaking
    with server.connect() as talk:
        before = open_descriptors()
        talk.request("ct_exec", id="web", cmd=["x"])
        talk.read()
        for each in (stdin[0], stdout[1], stderr[1]):
            send_io(talk, each)

        assert talk.read() == {"status": True, "response": {"exitstatus": 7}}
        assert open_descriptors() == before + 3
        wait_until(lambda: open_descriptors() == before)
        assert talk.ping() == PONG
    assert os.read(stdout[0], 100) == b"WORDS"
    assert os.read(stderr[0], 100) == b"done"


def test_bytes_without_descriptors_are_refused(server: Running) -> None:
    async def performing(caller: Caller) -> Reply:
        await caller.descriptors()
        raise AssertionError

    server.fake.performing = performing
    with server.connect() as talk:
        before = open_descriptors()
        talk.request("ct_exec", id="web", cmd=["x"])
        talk.read()
        send_io(talk, 0)
        talk.send(b"ab")

        assert talk.read() == failed("the client sent 1 descriptors instead of 3", code="bad-descriptors")
        wait_until(lambda: open_descriptors() == before)
        assert talk.ping() == PONG


def test_a_program_that_leaves_instead_of_giving_leaks_nothing(server: Running) -> None:
    async def performing(caller: Caller) -> Reply:
        await caller.descriptors()
        raise AssertionError

    server.fake.performing = performing
    before = open_descriptors()
    with server.connect() as talk:
        talk.request("ct_exec", id="web", cmd=["x"])
        talk.read()
        send_io(talk, 0)

    assert server.fake.cancelled.wait(PATIENCE)
    wait_until(lambda: open_descriptors() == before)


def test_a_file_is_opened_for_a_program_of_the_daemons_own_user(server: Running, directory: Path) -> None:
    (directory / "archive").write_bytes(b"content")
    os.mkfifo(directory / "fifo")
    path = str(directory / "archive")

    async def performing(caller: Caller) -> Reply:
        descriptor = await caller.open_file(path)
        assert os.get_blocking(descriptor)
        return Text((os.read(descriptor, 100).decode(),))

    server.fake.performing = performing
    with server.connect() as talk:
        before = open_descriptors()
        talk.request("ping")
        assert talk.read() == {"status": True, "response": ["content"]}
        for path, reason in (
            ("archive", "the path is not absolute"),
            (str(directory), "Is a directory"),
            (f"{directory}/none", "No such file or directory"),
            ("/tmp/\0", "embedded null byte"),
        ):
            talk.request("ping")
            answer = talk.read()
            assert (answer["code"], answer["subject"]) == ("file", path)
            assert answer["message"].endswith(reason)
        wait_until(lambda: open_descriptors() == before)


def test_an_archive_may_come_as_a_descriptor(server: Running) -> None:
    async def performing(caller: Caller) -> Reply:
        return Text((os.read(await caller.open_file("-"), 100).decode(),))

    server.fake.performing = performing
    reading, writing = os.pipe()
    os.write(writing, b"content")
    with server.connect() as talk:
        talk.request("ping")
        assert talk.read() == {"status": True, "response": "continue"}
        send_io(talk, reading)
        assert talk.read() == {"status": True, "response": ["content"]}
    os.close(reading)
    os.close(writing)


def test_a_mistake_in_a_request_is_logged_and_told_as_an_internal_error(
    server: Running, caplog: pytest.LogCaptureFixture
) -> None:
    async def performing(_: Caller) -> Reply:
        raise KeyError("veth")

    server.fake.performing = performing
    with server.connect() as talk:
        talk.request("ping", cli="osctl ping")
        assert talk.read() == failed("internal error (KeyError: 'veth'), see the log of osctld", code="internal")
        assert talk.ping() == PONG

    assert "a request failed: osctl ping" in caplog.text


def test_what_a_program_typed_is_its_command_line_else_what_it_asked_for(server: Running) -> None:
    async def performing(caller: Caller) -> Reply:
        return Text((caller.asked.command_line,))

    server.fake.performing = performing
    with server.connect() as talk:
        for opts, line in (
            ({"cli": "osctl ct ls"}, "osctl ct ls"),
            ({"cli": "a\nb\udc80"}, "a\\nb\\udc80"),
            ({"cli": 7, "pool": "default"}, 'ping {"cli":7,"pool":"default"}'),
            ({"cli": " "}, 'ping {"cli":" "}'),
        ):
            talk.request("ping", **opts)
            assert talk.read()["response"] == [line]


# --- events -------------------------------------------------------------------------------------------------------

STATE = Event(7, 1.5, "state", {"pool": "default", "id": "web", "state": "running"})
ROUTE = Event(8, 2.5, "ct_netif_route", {"action": "add", "addr": "1.2.3.4/32", "more": None})


async def two_events_and_no_end(caller: Caller) -> Reply:
    caller.watching()
    for event in (STATE, ROUTE):
        await caller.event(event)
    await asyncio.Event().wait()
    raise AssertionError


def test_a_program_gets_each_event_as_an_answer_after_it_subscribed(server: Running) -> None:
    server.fake.performing = two_events_and_no_end

    with Client.connect(str(server.path)) as client:
        events = client.events("state", "ct_netif_route", id=["web", "db"])
        assert [(each.sequence, each.type, each.opts) for each in (next(events), next(events))] == [
            (7, "state", STATE.opts),
            (8, "ct_netif_route", ROUTE.opts),
        ]

    (command,) = server.fake.commands
    assert isinstance(command, ActCommand)
    wanted = EventFilter(types=("state", "ct_netif_route"), opts={"id": ["web", "db"]})
    assert command == EventSubscribe(type=wanted.types, opts=wanted.opts)
    assert server.fake.cancelled.wait(PATIENCE)


def test_a_person_gets_each_event_as_a_line(server: Running) -> None:
    server.fake.performing = two_events_and_no_end

    with server.connect() as talk:
        talk.request("cli", argv=["ping"])
        assert [talk.read() for _ in range(2)] == [
            {"status": True, "print": "state default web running\n"},
            {"status": True, "print": "ct_netif_route action=add addr=1.2.3.4/32 more=null\n"},
        ]
    with server.connect() as talk:
        talk.request("cli", argv=["-j", "ping"])
        assert json.loads(talk.read()["print"]) == {
            "sequence": 7, "time": 1.5, "type": "state", "opts": {"pool": "default", "id": "web", "state": "running"},
        }  # fmt: skip


def test_whoever_watches_does_not_delay_the_end(server: Running) -> None:
    server.fake.performing = two_events_and_no_end
    server.grace_seconds = 10 * PATIENCE

    with server.connect() as talk:
        talk.request("event_subscribe")
        assert talk.read()["response"] == "subscribed"
        assert talk.read()["response"]["type"] == "state"

        server.stop()

        assert server.fake.cancelled.is_set()


def test_events_wait_for_a_reader_that_does_not_read(server: Running) -> None:
    told = 0

    async def performing(caller: Caller) -> Reply:
        nonlocal told
        caller.watching()
        while True:
            await caller.event(Event(told, 0.0, "state", {"filler": "x" * 100_000}))
            told += 1

    server.fake.performing = performing
    with server.connect() as deaf, server.connect() as talk:
        deaf.request("event_subscribe")
        wait_until(server.fake.started.is_set)
        for _ in range(20):
            assert talk.ping() == PONG

        assert told < 1000


# --- many clients -------------------------------------------------------------------------------------------------


def test_clients_that_do_nothing_or_do_not_read_delay_nobody(server: Running) -> None:
    async def performing(_: Caller) -> Reply:
        return Text(("x" * 5_000_000,))

    server.fake.performing = performing
    idle = [server.connect() for _ in range(50)]
    deaf = server.connect()
    for _ in range(3):
        deaf.request("cli", argv=["ping"])
    wait_until(server.fake.started.is_set)

    with server.connect() as talk:
        assert talk.ping() == PONG
    for each in (*idle, deaf):
        each.close()


def test_a_client_that_goes_away_cancels_its_command_and_leaks_nothing(server: Running) -> None:
    async def performing(caller: Caller) -> Reply:
        await caller.descriptors()
        server.fake.started.set()
        await asyncio.Event().wait()
        raise AssertionError

    server.fake.performing = performing
    before = open_descriptors()
    with server.connect() as talk:
        talk.request("cli", argv=["ping"])
        assert talk.read() == {"status": True, "need": "descriptors"}
        socket.send_fds(talk.socket, [b'{"descriptors":3}\n'], [0, 1, 2])
        wait_until(lambda: open_descriptors() == before + 5)

    assert server.fake.cancelled.wait(PATIENCE)
    wait_until(lambda: open_descriptors() == before)


def test_a_client_that_leaves_after_it_ended_its_side_or_sent_too_much_is_noticed(server: Running) -> None:
    async def performing(_: Caller) -> Reply:
        server.fake.started.set()
        await asyncio.Event().wait()
        raise AssertionError

    def end_its_side(connection: socket.socket) -> None:
        connection.shutdown(socket.SHUT_WR)

    def send_until_nobody_reads(connection: socket.socket) -> None:
        connection.settimeout(0.5)
        with pytest.raises(TimeoutError):
            connection.sendall(b'{"cmd":"self_ping"}\n' * (1 << 20))

    server.fake.performing = performing
    before = open_descriptors()
    for what in (end_its_side, send_until_nobody_reads):
        server.fake.started.clear()
        server.fake.cancelled.clear()
        with server.connect() as talk:
            talk.request("cli", argv=["ping"])
            assert server.fake.started.wait(PATIENCE)
            what(talk.socket)
            with server.connect() as another:
                assert another.ping() == PONG
            assert not server.fake.cancelled.is_set()

        assert server.fake.cancelled.wait(PATIENCE), what
        wait_until(lambda: open_descriptors() == before)


# --- what only the client can give --------------------------------------------------------------------------------


def test_a_dash_is_replaced_by_the_words_of_the_callers_standard_input(server: Running) -> None:
    with server.connect() as talk:
        talk.request("cli", argv=["ct", "netif", "ip", "add", "web", "eth0", "-"])
        assert talk.read() == {"status": True, "need": "stdin"}
        assert talk.ask(b'{"stdin":"1.1.1.1\\n2.2.2.2 3.3.3.3"}') == answered("pong\n")

    (command,) = server.fake.commands
    assert isinstance(command, CtNetifIpAdd)
    assert command.addresses == ("1.1.1.1", "2.2.2.2", "3.3.3.3")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b'{"stdin":" "}', "argument <addr>: - given, but standard input is empty"),
        (b'{"stdin":"caf\\udce9"}', "standard input is not valid UTF-8"),
        (b'{"stdin":1}', "the client passed no standard input"),
        (b"{}", "the client passed no standard input"),
        (b"[]", "the client answered 'stdin' with something other than an object"),
        (b"x", "the client answered 'stdin' with something other than JSON"),
    ],
)
def test_standard_input_that_cannot_be_used_is_refused(server: Running, answer: bytes, message: str) -> None:
    with server.connect() as talk:
        talk.request("cli", argv=["ct", "netif", "ip", "add", "web", "eth0", "-"])
        talk.read()
        response = talk.ask(answer)["response"]

        assert response["stderr"] == f"error: {message}\n"
        assert response["exit"] in (1, 64)
        assert talk.ping() == PONG
    assert server.fake.commands == []


def test_descriptors_reach_the_command_and_are_closed_after_it(server: Running) -> None:
    inherited: list[bool] = []

    async def performing(caller: Caller) -> Reply:
        stdin, stdout, stderr = await caller.descriptors()
        assert await caller.descriptors() == (stdin, stdout, stderr)
        inherited.extend(map(os.get_inheritable, (stdin, stdout, stderr)))
        os.write(stdout, os.read(stdin, 100).upper())
        os.write(stderr, b"done")
        return ExitStatus(7)

    server.fake.performing = performing
    ours, theirs = zip(*(os.pipe() for _ in range(3)), strict=True)
    os.write(theirs[0], b"words")
    with server.connect() as talk:
        before = open_descriptors()
        talk.request("cli", argv=["ct", "exec", "web", "x"])
        assert talk.read() == {"status": True, "need": "descriptors"}
        socket.send_fds(talk.socket, [b'{"descriptors":3}\n'], [ours[0], theirs[1], theirs[2]])

        assert talk.read() == answered(status=7)
        wait_until(lambda: open_descriptors() == before)
    assert os.read(ours[1], 100) == b"WORDS"
    assert os.read(ours[2], 100) == b"done"
    assert inherited == [False] * 3
    for each in (*ours, *theirs):
        os.close(each)


def test_descriptors_that_nobody_asked_for_are_closed(server: Running) -> None:
    with server.connect() as talk:
        before = open_descriptors()
        socket.send_fds(talk.socket, [b'{"cmd":"self_ping"}\n'], [0, 1, 2])

        assert talk.read() == PONG
        wait_until(lambda: open_descriptors() == before)


def test_too_few_descriptors_are_refused(server: Running) -> None:
    async def performing(caller: Caller) -> Reply:
        await caller.descriptors()
        raise AssertionError

    server.fake.performing = performing
    with server.connect() as talk:
        before = open_descriptors()
        talk.request("cli", argv=["ping"])
        talk.read()
        socket.send_fds(talk.socket, [b'{"descriptors":3}\n'], [0, 1])

        assert talk.read() == answered(
            stderr="error: the client sent 2 descriptors for 'descriptors' instead of 3\n", status=1
        )
        wait_until(lambda: open_descriptors() == before)


# --- the end ------------------------------------------------------------------------------------------------------


def test_a_running_request_is_finished_when_the_server_closes(server: Running) -> None:
    release = asyncio.Event()

    async def performing(_: Caller) -> Reply:
        await release.wait()
        return Text(("late",))

    server.fake.performing = performing
    server.grace_seconds = PATIENCE
    idle = server.connect()
    with server.connect() as talk:
        talk.request("cli", argv=["ping"])
        wait_until(server.fake.started.is_set)
        server.begin_to_stop()
        with pytest.raises(EOFError):
            idle.read()
        server.loop.call_soon_threadsafe(release.set)

        assert talk.read() == answered("late\n")
        with pytest.raises(EOFError):
            talk.read()
    idle.close()


def test_a_request_that_does_not_end_is_cancelled_after_the_grace(server: Running) -> None:
    async def performing(_: Caller) -> Reply:
        await asyncio.Event().wait()
        raise AssertionError

    server.fake.performing = performing
    server.grace_seconds = 0.1
    with server.connect() as talk:
        talk.request("cli", argv=["ping"])
        wait_until(server.fake.started.is_set)

        server.stop()

        assert server.fake.cancelled.is_set()
        with pytest.raises(EOFError):
            talk.read()


# --- signals ------------------------------------------------------------------------------------------------------


def test_signals_of_a_client_reach_its_command_and_requests_keep_their_turn(server: Running) -> None:
    async def performing(caller: Caller) -> Reply:
        await caller.descriptors()
        numbers = [await caller.next_signal() for _ in range(3)]
        caller.may_stop()
        return Text((f"{numbers} {caller.terminal_type}",))

    server.fake.performing = performing
    with server.connect() as talk:
        talk.request("cli", argv=["ct", "exec", "web", "x"], terminal_type="vt100")
        assert talk.read() == {"status": True, "need": "descriptors"}
        socket.send_fds(talk.socket, [b'{"descriptors":3}\n'], [0, 1, 2])
        talk.send(b'{"signal":2}\n{"cmd":"self_ping"}\n{"signal": 15}\n')
        talk.send(b'{"signal":0}\n{"signal":65}\n{"signal":10}\n')

        assert talk.read() == {"status": True, "stop": True}
        assert talk.read() == answered("[2, 15, 10] vt100\n")
        assert talk.read() == PONG
        for _ in range(2):  # what is no signal is no request either
            assert talk.read()["status"] is False
        assert talk.ping() == PONG


def test_a_signal_that_comes_after_the_end_of_its_command_is_dropped(server: Running) -> None:
    with server.connect() as talk:
        talk.send(b'{"signal":15}\n')

        assert talk.ping() == PONG


def test_a_program_that_gave_its_descriptors_may_send_signals_too(server: Running) -> None:
    async def performing(caller: Caller) -> Reply:
        await caller.descriptors()
        return ExitStatus(await caller.next_signal())

    server.fake.performing = performing
    with server.connect() as talk:
        assert talk.ask(b'{"cmd":"ct_exec","opts":{"id":"web","cmd":["x"]}}')["response"] == "continue"
        for descriptor in (0, 1, 2):
            socket.send_fds(talk.socket, [b"\0"], [descriptor])

        assert talk.ask(b'{"signal":15}') == {"status": True, "response": {"exitstatus": 15}}
