"""Who comes in, as what, and how much of the daemon they may take."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from osctl.client import connect
from osctld.core.access import Access
from osctld.core.command import Command, GlobalOptions, Reply, Text
from osctld.server.door import Limits, peer_of
from osctld.server.ports import Caller
from server.client import CLIENT, environment
from server.serving import PATIENCE, PONG, Running, Talk, open_descriptors, wait_until

OPERATORS, READERS, OTHERS = 4201, 4202, 4203
USER = 4200

Serving = Callable[..., Running]


@pytest.fixture
def serving(directory: Path) -> Iterator[Serving]:
    """Make a server of these groups and limits."""
    made: list[Running] = []

    def start(access: Access | None = None, limits: Limits | None = None) -> Running:
        running = Running(directory / "s", access=access, limits=limits)
        running.start()
        made.append(running)
        return running

    yield start
    for each in made:
        each.stop()


def both_groups() -> Access:
    return Access(operators=OPERATORS, readers=READERS)


def osctl_as(groups: Sequence[int], path: Path, *argv: str, user: int = USER) -> tuple[int, str, str]:
    """Run the client as a user that is in no file, with these supplementary groups."""
    done = subprocess.run(
        [*CLIENT, *argv],
        capture_output=True, text=True, timeout=PATIENCE, check=False, env=environment(path), cwd="/",
        user=user, group=user, extra_groups=list(groups), stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


# --- roles --------------------------------------------------------------------------------------------------------


def test_without_a_setting_the_kernel_keeps_everybody_but_root_out(serving: Serving) -> None:
    server = serving()

    assert stat.S_IMODE(server.path.stat().st_mode) == 0o600
    status, stdout, stderr = osctl_as([0, OPERATORS], server.path, "ping")
    assert (status, stdout) == (77, "")
    assert stderr == f"error: cannot connect to osctld at {server.path}: Permission denied\n"
    assert osctl_as([], server.path, "ping", user=0)[0] == 0


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_a_group_is_let_in_by_the_files_mode_whatever_the_umask(directory: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        server = Running(directory / "s", access=Access(operators=OPERATORS))
        server.start()
    finally:
        os.umask(before)
    try:
        told = server.path.stat()
        assert (stat.S_IMODE(told.st_mode), told.st_gid) == (0o660, OPERATORS)
        assert osctl_as([OPERATORS], server.path, "ct", "start", "web") == (0, "pong\n", "")
        assert osctl_as([OTHERS], server.path, "ct", "start", "web")[0] == 77
    finally:
        server.stop()


def test_a_supplementary_group_counts_like_the_primary_one(serving: Serving) -> None:
    server = serving(both_groups())

    assert osctl_as([], server.path, "ct", "start", "web", user=OPERATORS) == (0, "pong\n", "")
    assert osctl_as([OTHERS, OPERATORS], server.path, "ct", "start", "web") == (0, "pong\n", "")


def test_hundreds_of_groups_are_all_looked_at(serving: Serving) -> None:
    server = serving(both_groups())

    many = [*range(10_000, 10_600), OPERATORS]

    assert osctl_as(many, server.path, "ct", "start", "web") == (0, "pong\n", "")
    assert osctl_as(many[:-1], server.path, "ct", "start", "web")[0] == 77


def test_a_reader_looks_and_is_refused_all_else_in_one_line(serving: Serving) -> None:
    server = serving(both_groups())

    assert osctl_as([READERS], server.path, "ping") == (0, "pong\n", "")
    assert osctl_as([READERS], server.path, "ct", "ls") == (0, "pong\n", "")
    assert osctl_as([READERS], server.path, "ct", "start", "--help")[0] == 0
    for argv in (["ct", "start", "web"], ["ct", "exec", "web", "id"], ["ct", "start", "web", "--dry-run"]):
        status, stdout, stderr = osctl_as([READERS], server.path, *argv)
        assert (status, stdout) == (77, "")
        assert stderr == (
            f"error: permission denied: '{' '.join(argv[:2])}' is not available to members of the read-only group\n"
        )
    assert [each.words for each in server.fake.commands] == [("ping",), ("ct", "ls")]


def test_a_reader_that_is_in_the_other_group_too_does_everything(serving: Serving) -> None:
    server = serving(both_groups())

    assert osctl_as([READERS, OPERATORS], server.path, "ct", "start", "web")[0] == 0


def test_a_stranger_is_told_like_one_whom_the_kernel_keeps_out(serving: Serving) -> None:
    server = serving(both_groups())

    assert stat.S_IMODE(server.path.stat().st_mode) == 0o666
    assert osctl_as([OTHERS], server.path, "ping") == (
        *(77, ""),
        f"error: cannot connect to osctld at {server.path}: Permission denied\n",
    )
    assert osctl_as([OTHERS], server.path, "ct", "frob")[0] == 64
    assert osctl_as([OTHERS], server.path, "--complete", "ct", "") == (77, "", "")
    assert server.fake.commands == []


SCRIPT = """
import json, sys
import osctl.client
try:
    with osctl.client.connect(sys.argv[1]) as daemon:
        print(json.dumps(daemon.call(sys.argv[2], **json.loads(sys.argv[3]))))
except (osctl.client.RequestFailed, PermissionError) as error:
    print(json.dumps([type(error).__name__, getattr(error, "code", ""), str(error)]))
"""


def call_as(groups: Sequence[int], path: Path, request: str, **opts: Any) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(path), request, json.dumps(opts)],
        capture_output=True, text=True, timeout=PATIENCE, check=True, env=environment(), cwd="/",
        user=USER, group=USER, extra_groups=list(groups),
    )  # fmt: skip
    return json.loads(done.stdout)


def test_programs_have_the_same_roles(serving: Serving) -> None:
    server = serving(both_groups())

    assert call_as([READERS], server.path, "ct_show", container="web") == ["pong"]
    assert call_as([READERS], server.path, "ct_list") is None  # a text, in the original's shape
    for request, opts in (
        ("ct_start", {"container": "web"}),
        ("ct_start", {"id": "web"}),
        ("ct_exec", {"id": "web", "cmd": ["id"]}),
        ("netif_set", {"id": "web", "name": "eth0", "dry_run": True}),
    ):
        name, code, message = call_as([READERS], server.path, request, **opts)
        assert (name, code) == ("RequestFailed", "permission-denied")
        assert message.startswith("permission denied: ")
    assert call_as([OTHERS], server.path, "ct_list")[0] == "PermissionError"


def test_who_connected_counts_and_not_who_was_given_the_connection() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        peer = peer_of(ours)

    assert peer.user == os.geteuid()
    assert peer.groups == {os.getegid(), *os.getgroups()}


# --- how many -----------------------------------------------------------------------------------------------------

#: Connects as often as told, says what it got each time, and stays until its input ends.
HOLDER = """
import socket, sys
held = []
for _ in range(int(sys.argv[2])):
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    one.connect(sys.argv[1])
    held.append(one)
    print(one.makefile().readline(), end="", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def holding(path: Path, count: int, *, user: int) -> Iterator[list[dict[str, Any]]]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path), str(count)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, user=user, group=user, extra_groups=[READERS],
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield [json.loads(process.stdout.readline()) for _ in range(count)]
    finally:
        process.stdin.close()
        process.wait(PATIENCE)
        process.stdout.close()


def test_one_user_has_so_many_connections_and_others_still_come_in(serving: Serving) -> None:
    server = serving(both_groups(), Limits(connections_per_user=3))

    with holding(server.path, 5, user=USER) as greetings:
        assert ["version" in each for each in greetings] == [True, True, True, False, False]
        assert greetings[3]["code"] == "too-many-connections"
        assert greetings[3]["message"] == (
            f"user {USER} already has the maximum of 3 connections to osctld (socket.connections_per_user)"
        )
        status, stdout, stderr = osctl_as([READERS], server.path, "ping")
        assert (status, stdout) == (1, "")
        assert stderr.startswith(f"error: user {USER} already has the maximum of 3 connections")
        assert osctl_as([READERS], server.path, "ping", user=USER + 50)[0] == 0

    wait_until(lambda: osctl_as([READERS], server.path, "ping")[0] == 0)


def test_a_part_of_all_connections_is_kept_for_root(serving: Serving) -> None:
    server = serving(both_groups(), Limits(connections=8, connections_per_user=100))

    with holding(server.path, 8, user=USER) as greetings:
        assert sum("version" in each for each in greetings) == 6
        with contextlib.ExitStack() as mine:
            for _ in range(2):
                assert mine.enter_context(server.connect()).ping() == PONG
            with pytest.raises(ConnectionRefusedError, match="osctld already has the maximum of 8 connections"):
                connect(str(server.path))


def test_many_who_are_turned_away_leave_nothing(serving: Serving) -> None:
    server = serving(both_groups(), Limits(connections_per_user=1))
    before = open_descriptors()

    with holding(server.path, 300, user=USER) as greetings:
        assert sum("version" in each for each in greetings) == 1

    wait_until(lambda: open_descriptors() <= before)
    assert osctl_as([READERS], server.path, "ping")[0] == 0


#: Connects so many times, asks everywhere for the same at once, and takes the answers.
MANY_VIEWS = """
import socket, sys
talks = []
for _ in range(int(sys.argv[2])):
    talks.append(socket.socket(socket.AF_UNIX))
    talks[-1].connect(sys.argv[1])
    talks[-1].recv(1 << 16)
for talk in talks:
    talk.sendall(b'{"cmd": "ct_ls"}\\n')
print("sent", flush=True)
for talk in talks:
    assert b"pong" in talk.recv(1 << 16)
"""


def test_others_have_their_turn_between_two_of_many_views_of_readers(serving: Serving) -> None:
    server = serving(both_groups())
    order: list[str] = []
    are_sent = threading.Event()

    async def perform(command: Command, _options: GlobalOptions, _caller: Caller) -> Reply:
        order.append(type(command).__name__)
        are_sent.wait(PATIENCE)  # a view is reckoned where everybody waits
        return Text(("pong",))

    server.fake.perform = perform  # type: ignore[assignment,method-assign]
    with (
        server.connect() as root,
        subprocess.Popen(
            [sys.executable, "-c", MANY_VIEWS, str(server.path), "12"],
            user=USER, group=USER, extra_groups=[READERS], stdout=subprocess.PIPE, cwd="/",
        ) as readers,
    ):  # fmt: skip
        assert readers.stdout is not None
        assert readers.stdout.readline() == b"sent\n"
        root.request("self_ping")

        are_sent.set()

        assert root.read() == PONG
        assert readers.wait(PATIENCE) == 0
    assert len(order) == 13
    assert order.index("SelfPing") <= 3


# --- how long -----------------------------------------------------------------------------------------------------


def test_a_request_that_is_not_completed_in_time_is_answered_and_the_connection_closed(serving: Serving) -> None:
    server = serving(limits=Limits(request_seconds=0.3))

    with server.connect() as slow, server.connect() as idle:
        slow.send(b'{"cmd": "self_ping"')
        assert slow.read() == {
            "status": False, "message": "request not complete within 0.3 s",
            "code": "too-slow", "subject": "", "holder": "",
        }  # fmt: skip
        with pytest.raises((EOFError, ConnectionResetError)):
            slow.read()
        assert idle.ping() == PONG  # it had begun nothing


def test_a_byte_now_and_then_does_not_make_a_request_last(serving: Serving) -> None:
    server = serving(limits=Limits(request_seconds=0.5))

    with server.connect() as slow:

        def is_closed() -> bool:
            time.sleep(0.02)
            try:
                slow.send(b" ")
            except (BrokenPipeError, ConnectionResetError):
                return True
            return False

        wait_until(is_closed)


def test_a_request_behind_one_that_takes_long_is_not_too_slow(serving: Serving) -> None:
    server = serving(limits=Limits(request_seconds=0.3))
    release = threading.Event()

    async def performing(_: Caller) -> Reply:
        await asyncio.to_thread(release.wait, PATIENCE)
        return Text(("done",))

    server.fake.performing = performing
    with server.connect() as talk:
        talk.request("ping")
        talk.send(b'{"cmd": "self_ping"')
        assert server.fake.started.wait(PATIENCE)
        time.sleep(0.6)  # longer than a request may take: it does not count while the first is performed
        release.set()
        assert talk.read()["response"] == ["done"]
        talk.send(b"}\n")
        assert talk.read() == PONG


def test_whoever_takes_none_of_an_answer_is_left_after_a_while(
    serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    server = serving(limits=Limits(answer_seconds=0.3))

    async def performing(_: Caller) -> Reply:
        return Text(("x" * 1_000_000,) * 20)

    server.fake.performing = performing
    before = open_descriptors()
    with Talk(server.path) as dead:
        dead.request("ping")
        wait_until(lambda: open_descriptors() <= before + 1)  # the server's end is closed, ours not
    assert "does not read its answer" in caplog.text


def test_an_answer_that_is_taken_slowly_arrives_whole(serving: Serving) -> None:
    server = serving(limits=Limits(answer_seconds=0.5))

    async def performing(_: Caller) -> Reply:
        return Text(("x" * 1_000_000,) * 4)

    server.fake.performing = performing
    with Talk(server.path) as slow:
        slow.request("ping")
        taken = 0
        while taken < 4_000_000:  # a second and more altogether
            taken += len(slow.socket.recv(100_000))
            time.sleep(0.03)


def test_answers_that_one_user_leaves_untaken_are_kept_up_to_a_limit(
    serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    server = serving(both_groups(), Limits(answer_bytes_per_user=3_000_000))

    async def performing(_: Caller) -> Reply:
        return Text(("x" * 1_000_000,) * 2)

    server.fake.performing = performing
    script = """
import socket, sys
held = []
for _ in range(10):
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    one.connect(sys.argv[1])
    one.sendall(b'{"cmd": "ping"}\\n')
    held.append(one)
print("sent", flush=True)
sys.stdin.read()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(server.path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, user=USER, group=USER, extra_groups=[READERS],
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"sent\n"
        wait_until(lambda: caplog.text.count("has too much unread output") == 9)
    finally:
        process.stdin.close()
        process.wait(PATIENCE)
        process.stdout.close()


def test_a_reader_may_not_send_as_much_as_others(serving: Serving) -> None:
    server = serving(both_groups(), Limits(longest_line_of_reader=1000))

    words = ["x" * 2000]

    status, _, stderr = osctl_as([READERS], server.path, "ct", "show", *words)
    assert (status, stderr) == (1, "error: request is longer than 1000 bytes\n")
    assert osctl_as([OPERATORS], server.path, "ct", "show", *words)[0] == 0
