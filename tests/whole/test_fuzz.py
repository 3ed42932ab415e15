"""Whatever clients send: the daemon answers everything in time, never by a traceback, and neither dies nor grows.

`./dev fuzz [NUMBER]` sends 100,000 requests, CI fewer. Each is drawn by hypothesis; one that went wrong is told as the
bytes that were sent.
"""

from __future__ import annotations

import array
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as some

from whole.fuzzed_daemon import FUZZED
from whole.fuzzed_requests import ENDLESS, client_arguments, lines
from whole.host import BIN, Topology

#: Requests, and in how many of them at a time they are drawn.
NUMBER = int(os.environ.get("OSCTL_FUZZ") or 2000)
BATCH = 20
#: One of so many is given to the client as a process instead.
PROCESSES = 100
#: Seconds in which any of them has to be answered, on a machine with other work.
LONGEST = 20.0
#: Bytes that the daemon's memory may grow by after the first part of them, whatever their number.
GROWTH = 16 << 20
#: A user and group without a name.
READER = 4501


class Silence(AssertionError):
    """No answer in time."""


class Fuzzer:
    """Sends lines on connections of two users, and looks at what comes back."""

    def __init__(self, host: Topology) -> None:
        self.host = host
        self.sent = 0
        self.slowest = (0.0, b"")
        self.kinds: Counter[str] = Counter()
        self._buffers: dict[socket.socket, bytes] = {}
        self._connections: dict[bool, socket.socket | None] = {False: None, True: None}

    # --- one request ------------------------------------------------------------------------------------------------

    def send(self, line: bytes, *, is_reader: bool) -> None:
        connection = self._connection(is_reader)
        begun = time.monotonic()
        try:
            connection.sendall(line + b"\n")
            if any(each in line for each in ENDLESS):
                self._leave(is_reader, after=0.01)
            else:
                self._follow(connection, line, is_reader=is_reader)
        except (ConnectionError, EOFError):
            self._leave(is_reader)
        except TimeoutError:
            raise Silence(f"no answer within {LONGEST} s: {line[:500]!r}") from None
        took = time.monotonic() - begun
        self.slowest = max(self.slowest, (took, line[:300]))
        self.sent += 1

    def _follow(self, connection: socket.socket, line: bytes, *, is_reader: bool) -> None:
        """Read until the last word on a request, and give what is asked for."""
        if b'"signal"' in line:  # perhaps no answer is owed: until the one to another request
            connection.sendall(b'{"cmd": "self_ping"}\n')
            while self._read(connection).get("response") != "pong":
                pass
            return
        given = 0
        while True:
            answer = self._read(connection)
            if "need" in answer:
                given += 1
                if given > 3:
                    raise EOFError
                self._give(connection, answer["need"])
            elif answer.get("response") == "continue":
                for _ in range(3):
                    _send_descriptor(connection, b"\0")
            elif "progress" not in answer and "print" not in answer and "stop" not in answer:
                break
        if is_reader:
            assert not answer.get("changed"), f"a reader changed something: {line!r}"
        self._note(answer, line)

    def _note(self, answer: dict[str, Any], line: bytes) -> None:
        text = json.dumps(answer)
        assert "internal error" not in text, f"{line!r}: {text[:500]}"
        response = answer.get("response")
        if not answer["status"]:
            self.kinds[str(answer["code"])] += 1
        elif isinstance(response, dict) and "exit" in response:
            self.kinds[f"exit {response['exit']}"] += 1
            assert response["stderr"].count("\n") <= 1 or "usage" in response["stderr"], response["stderr"]
        else:
            self.kinds["data"] += 1

    def _give(self, connection: socket.socket, need: str) -> None:
        match need:
            case "stdin":
                connection.sendall(b'{"stdin": "1.2.3.4 1.2.3.5 nonsense"}\n')
            case "text":
                connection.sendall(b'{"text": "route replace 1.2.3.4/32 via 192.0.2.1 proto static\\nnonsense"}\n')
            case "file":
                _send_descriptor(connection, b'{"descriptors": 1}\n')
            case _:
                connection.sendall(b'{"error": "none"}\n')

    # --- connections ------------------------------------------------------------------------------------------------

    def _connection(self, is_reader: bool) -> socket.socket:
        connection = self._connections[is_reader]
        if connection is None:
            connection = self._connections[is_reader] = _connect(self.host.socket, is_reader=is_reader)
            connection.settimeout(LONGEST)
            self._buffers[connection] = b""
            self._read(connection)  # the greeting
        return connection

    def _read(self, connection: socket.socket) -> dict[str, Any]:
        buffer = self._buffers[connection]
        while b"\n" not in buffer:
            chunk = connection.recv(1 << 16)
            if not chunk:
                raise EOFError
            buffer += chunk
        line, _, self._buffers[connection] = buffer.partition(b"\n")
        message = json.loads(line)
        assert isinstance(message, dict)
        return message

    def _leave(self, is_reader: bool, *, after: float = 0) -> None:
        time.sleep(after)
        connection = self._connections[is_reader]
        if connection is not None:
            self._buffers.pop(connection, None)
            connection.close()
        self._connections[is_reader] = None

    def close(self) -> None:
        for is_reader in (False, True):
            self._leave(is_reader)

    # --- the daemon -------------------------------------------------------------------------------------------------

    def tidy(self) -> None:
        """A host as at the beginning: one container with an interface, running."""
        self.host.osctl("self", "shutdown", "--abort", check=False)  # somebody may have shut down
        self.host.delete_containers()
        self.host.new_container("web", via=["10.100.0.0/30", "fd00:1::/126"], addresses=["1.2.3.1"])

    def weigh(self) -> int:
        """Resident bytes of the daemon, after it had its minute's look at everything."""
        self.host.osctl("net", "reconcile")
        text = Path(f"/proc/{self.host.daemon_pid}/status").read_text()
        match = re.search(r"VmRSS:\s+(\d+) kB", text)
        assert match is not None
        return int(match[1]) << 10


def _send_descriptor(connection: socket.socket, beside: bytes) -> None:
    null = os.open("/dev/null", os.O_RDWR)
    try:
        connection.sendmsg([beside], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [null]))])
    finally:
        os.close(null)


#: Connects as another user, and hands the connection back: it keeps the credentials of who made it.
_OTHER_USER = """
import socket, sys
own = socket.socket(fileno=0)
one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
one.connect(sys.argv[1])
socket.send_fds(own, [b"x"], [one.fileno()])
"""


def _connect(path: Path, *, is_reader: bool) -> socket.socket:
    if not is_reader:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.connect(str(path))
        return connection
    ours, theirs = socket.socketpair()
    with ours, theirs:
        subprocess.run(
            [sys.executable, "-c", _OTHER_USER, str(path)],
            stdin=theirs.fileno(), user=READER, group=READER, extra_groups=[], check=True,
        )  # fmt: skip
        _, descriptors, _, _ = socket.recv_fds(ours, 10, 1)
    return socket.socket(fileno=descriptors[0])


@pytest.fixture
def fuzzer() -> Iterator[Fuzzer]:
    with Topology(settings=f'[socket]\nread_only_group = "{READER}"\n', program=FUZZED) as host:
        made = Fuzzer(host)
        made.tidy()
        yield made
        made.close()


@pytest.mark.time_limit(3 * 3600 if NUMBER > 10_000 else 300)
def test_no_request_ends_the_daemon_or_makes_it_grow_or_wait(fuzzer: Fuzzer) -> None:
    """Batches of lines; each tenth batch is a reader's, after which nothing may be different."""
    weights: list[int] = []
    batches = max(1, NUMBER // BATCH)

    @settings(
        max_examples=batches, deadline=None, database=None, phases=[Phase.generate], derandomize="CI" in os.environ,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(some.lists(lines(), min_size=BATCH, max_size=BATCH), some.integers(0, 9))
    def send(batch: list[bytes], chance: int) -> None:
        is_reader = chance == 0
        before = fuzzer.host.stored() if is_reader else None
        for line in batch:
            fuzzer.send(line, is_reader=is_reader)
        if is_reader:
            assert fuzzer.host.stored() == before
        if fuzzer.sent % 1000 < BATCH:
            fuzzer.tidy()
            weights.append(fuzzer.weigh())
            if NUMBER > 10_000:
                print(f"{fuzzer.sent} sent, {weights[-1] >> 10} KiB", file=sys.__stderr__, flush=True)

    begun = time.monotonic()
    send()
    took = time.monotonic() - begun

    fuzzer.tidy()
    weights.append(fuzzer.weigh())
    told = f"{fuzzer.sent} requests in {took:.0f} s; slowest {fuzzer.slowest}; {dict(fuzzer.kinds.most_common())}"
    print(f"{told}; KiB: {[each >> 10 for each in weights]}")
    assert fuzzer.sent >= NUMBER * 0.9
    assert len(fuzzer.kinds) > 8, told  # it met more than one kind of refusal, and was not always refused
    assert fuzzer.kinds["data"] + fuzzer.kinds["exit 0"] > fuzzer.sent / 50, told
    assert "Traceback" not in fuzzer.host.log_text()
    assert fuzzer.host.osctl("ping").stdout == "pong\n"
    assert weights[-1] - weights[len(weights) // 5] < GROWTH, told


@pytest.mark.time_limit(3 * 3600 if NUMBER > 10_000 else 300)
def test_no_argument_vector_gives_the_client_a_traceback(fuzzer: Fuzzer) -> None:
    statuses: Counter[int] = Counter()

    @settings(
        max_examples=max(40, NUMBER // PROCESSES), deadline=None, database=None, phases=[Phase.generate],
        derandomize="CI" in os.environ, suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(client_arguments())
    def run(words: list[bytes]) -> None:
        if any(each in b" ".join(words) for each in ENDLESS):
            return
        done = subprocess.run(
            [os.fsencode(BIN / "osctl"), *words], stdin=subprocess.DEVNULL, capture_output=True, timeout=LONGEST,
            check=False, cwd="/", env={**os.environ, "OSCTL_SOCKET": str(fuzzer.host.socket)},
        )  # fmt: skip
        statuses[done.returncode] += 1
        assert b"Traceback" not in done.stderr, (words, done.stderr)
        assert b"internal error" not in done.stderr, (words, done.stderr)
        if done.returncode:
            assert 0 < done.returncode < 128, (words, done)
            is_told = done.stderr.startswith(b"error: ") or b'"error"' in done.stderr
            assert is_told or done.returncode == 127, (words, done)

    run()

    print(dict(statuses))
    assert len(statuses) >= 3
    assert "Traceback" not in fuzzer.host.log_text()
