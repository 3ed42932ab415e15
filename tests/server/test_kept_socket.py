"""The listening socket outlives a daemon: its service manager keeps it, and who calls meanwhile waits."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.serving import PONG, Running, Talk

SOURCES = str(Path(__file__).parents[2] / "src")
TELLING = """
from osctld.shell.service_manager import take_kept_sockets
import os
for name, each in take_kept_sockets().items():
    print(name, each.getsockname(), each.get_inheritable(), sorted(n for n in os.environ if n.startswith("LISTEN_")))
"""


@pytest.fixture
def kept(server: Running) -> Iterator[socket.socket]:
    """What a service manager holds of a running server's socket."""
    with server.server.listener.dup() as held:
        server.server.is_kept = True
        yield held


def test_who_calls_while_the_daemon_is_restarted_is_answered_by_the_next_one(
    server: Running, kept: socket.socket
) -> None:
    name = server.server.name
    server.stop()
    early = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    early.connect(str(server.path))
    early.sendall(b'{"cmd":"self_ping","opts":{}}\n')

    following = Running(server.path)
    following.kept = {name: kept.dup()}
    following.start()
    try:
        assert following.server.name == name
        with early, early.makefile("rb") as answers:
            assert b'"version"' in answers.readline()
            assert b'"pong"' in answers.readline()
    finally:
        following.stop()

    assert not server.path.exists()  # nobody was told to keep it this time


@pytest.mark.parametrize("is_replaced", [False, True], ids=["its file is gone", "its file is another socket's"])
def test_a_kept_socket_that_nobody_can_reach_any_more_is_replaced(
    server: Running, kept: socket.socket, is_replaced: bool
) -> None:
    name = server.server.name
    server.stop()
    server.path.rename(server.path.with_name("away"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        if is_replaced:
            other.bind(str(server.path))

    following = Running(server.path)
    of_no_use = kept.dup()
    following.kept = {name: of_no_use}
    following.start()
    try:
        assert following.server.name != name
        assert of_no_use.fileno() == -1
        with Talk(server.path) as talk:
            assert talk.ping() == PONG
    finally:
        following.stop()


def test_kept_sockets_are_those_of_this_process_and_of_none_that_it_starts(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as first:
        first.bind(str(tmp_path / "first"))
        listen = {"LISTEN_FDS": "1", "LISTEN_FDNAMES": "osctld-1"}

        def told(process: str) -> str:
            script = f'exec 3<&{first.fileno()} && LISTEN_PID={process} exec "$0" -c "$1"'
            return subprocess.run(
                ["bash", "-c", script, sys.executable, TELLING],
                env={**os.environ, **listen, "PYTHONPATH": SOURCES},
                pass_fds=(first.fileno(),),
                capture_output=True, text=True, check=True, timeout=30,
            ).stdout  # fmt: skip

        assert told("$$") == f"osctld-1 {tmp_path / 'first'} False []\n"
        assert told("1") == ""
