"""Users of the host who are not root: what the two groups may, and that nothing secret is told.

No user or group is made: the kernel knows numbers alone.
"""

from __future__ import annotations

import json
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from osctl.client import connect
from whole.bare_daemon import BARE
from whole.host import BIN, Result, Topology, differences, run, wait_until
from whole.original_client import OriginalClient

OPERATORS, READERS = 4301, 4302
USER = 4300
SETTINGS = f'[socket]\ngroup = "{OPERATORS}"\nread_only_group = "{READERS}"\nconnections_per_user = 20\n'


@pytest.fixture(scope="module")
def web() -> Iterator[Topology]:
    """One host for all tests of the file, on which `web` runs, with users and groups at its door."""
    with Topology(settings=SETTINGS, program=BARE) as host:
        host.new_container("web", via=["10.100.10.100/30"])
        yield host


def osctl_as(host: Topology, groups: Sequence[int], *argv: str) -> Result:
    """Run the client as a user of no file with these supplementary groups."""
    identity = (f"--reuid={USER}", f"--regid={USER}", "--groups=" + ",".join(map(str, groups or [USER])))
    return run(
        "setpriv", *identity, "--inh-caps=-all", str(BIN / "osctl"), "--socket", str(host.socket), *argv, check=False
    )


def test_somebody_of_no_group_is_denied_with_a_status_of_its_own(web: Topology) -> None:
    before = web.stored()

    for argv in (["ct", "ls"], ["ct", "start", "web"], ["ping"]):
        denied = osctl_as(web, [], *argv)
        assert denied.status == 77
        assert denied.stdout == ""
        assert denied.stderr == f"error: cannot connect to osctld at {web.socket}: Permission denied\n"
    assert osctl_as(web, [], "help").status == 0  # help needs no daemon

    assert web.stored() == before


READING = (
    *(["ping"], ["ct", "ls"], ["ct", "show", "web"], ["ct", "netif", "ls"], ["ct", "netif", "show", "web", "eth0"]),
    *(["ct", "netif", "ip", "ls", "web"], ["ct", "netif", "route", "ls", "web"]),
    *(["ct", "netif", "source", "ls", "web"],),
    *(["self", "status"], ["history"], ["ct", "wait", "web", "running"], ["help"], ["--version"]),
    *(["--complete", "ct", "show", ""], ["-j", "ct", "ls"]),
)
CHANGING = (
    *(["ct", "new", "--distribution", "busybox", "new"], ["ct", "del", "-f", "web"], ["ct", "stop", "web"]),
    *(["ct", "exec", "web", "true"], ["ct", "netif", "ip", "add", "web", "eth0", "1.2.3.4"], ["net", "reconcile"]),
    *(["ct", "netif", "del", "web", "eth0"], ["--dry-run", "ct", "netif", "ip", "add", "web", "eth0", "1.2.3.4"]),
    *(["ct", "netif", "set", "web", "eth0", "--mtu", "1400"], ["ct", "restart", "web"], ["ct", "start", "web"]),
)


@pytest.mark.parametrize("argv", READING, ids=" ".join)
def test_a_reader_is_answered_as_root_is(web: Topology, argv: list[str]) -> None:
    told = osctl_as(web, [READERS], *argv)

    def steady(result: Result) -> Result:
        return Result(result.status, re.sub(r"uptime.*", "", result.stdout), result.stderr)

    assert told.status == 0, told
    assert steady(told) == steady(web.osctl(*argv))


def test_a_reader_may_check_the_host(web: Topology) -> None:
    told = osctl_as(web, [READERS], "-j", "self", "check")

    assert told.stderr == ""
    assert json.loads(told.stdout) == web.osctl_json("self", "check") if told.status == 0 else told.status == 1


@pytest.mark.parametrize("argv", CHANGING, ids=" ".join)
def test_a_reader_changes_nothing(web: Topology, argv: list[str]) -> None:
    before = (web.stored(), web.comparable_state("web"))

    denied = osctl_as(web, [READERS], *argv)

    assert (denied.status, denied.stdout) == (77, "")
    words = re.fullmatch(r"error: permission denied: '([a-z ]+)' is not available to members of .*\n", denied.stderr)
    assert words is not None
    assert words[1] in " ".join(argv)
    assert web.stored() == before[0]
    assert not differences(before[1], web.comparable_state("web"))


def test_a_member_of_the_other_group_does_what_root_does(web: Topology) -> None:
    done = osctl_as(web, [OPERATORS], "ct", "netif", "ip", "add", "web", "eth0", "1.2.3.4")
    told = osctl_as(web, [OPERATORS], "ct", "exec", "web", "echo", "inside")
    undone = osctl_as(web, [OPERATORS], "ct", "netif", "ip", "del", "web", "eth0", "1.2.3.4")

    assert (done.status, told, undone.status) == (0, Result(0, "inside\n", ""), 0)
    assert "osctl ct netif ip add web eth0 1.2.3.4" in web.osctl("history").stdout


def test_neither_events_nor_history_nor_log_tell_what_runs_inside(web: Topology) -> None:
    identity = (f"--reuid={USER}", f"--regid={USER}", f"--groups={READERS}")
    monitor = subprocess.Popen(
        ["setpriv", *identity, str(BIN / "osctl"), "--socket", str(web.socket), "-j", "monitor"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert monitor.stdout is not None
    try:

        def is_watching() -> bool:
            # It is, once it is told of a command that we make for that.
            web.osctl("ct", "netif", "ip", "add", "web", "eth0", "1.2.3.9")
            web.osctl("ct", "netif", "ip", "del", "web", "eth0", "1.2.3.9")
            return _has_said_something(monitor)

        wait_until(is_watching, "the monitor watches", seconds=30)
        web.osctl("ct", "exec", "web", "echo", "-pSECRET")
        with connect(str(web.socket)) as daemon:
            assert daemon.execute("web", ["echo", "-pSECRET"]) == 0
        with OriginalClient(web.socket) as original:
            assert original.execute("web", "echo", "-pSECRET").status == 0
        web.osctl("ct", "netif", "ip", "add", "web", "eth0", "1.2.3.77")
        told = ""
        while "1.2.3.77" not in told:
            told += monitor.stdout.readline()
    finally:
        monitor.terminate()
        monitor.wait(10)
        monitor.stdout.close()
        web.osctl("ct", "netif", "ip", "del", "web", "eth0", "1.2.3.77")

    assert told.count('"ct_exec"') >= 6, told  # begun and ended, three times
    assert "SECRET" not in told
    assert "SECRET" not in web.osctl("history").stdout
    assert "SECRET" not in web.log_text()


def _has_said_something(process: subprocess.Popen[str]) -> bool:
    assert process.stdout is not None
    return bool(select.select([process.stdout], [], [], 0.5)[0])


def test_readers_who_ask_without_end_and_do_not_read_delay_nobody_else(web: Topology) -> None:
    """Each connection that a user may have asks for everything there is, again and again, and takes no answer."""
    requests = b"".join(
        json.dumps({"cmd": name, "opts": {}}).encode() + b"\n" for name in ("history", "self_check", "ct_ls") * 100
    )
    script = (
        "import socket, sys\nheld = []\n"
        "for _ in range(20):\n"
        "    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)\n"
        "    one.connect(sys.argv[1])\n    one.setblocking(False)\n"
        f"    one.send({requests!r})\n    held.append(one)\n"
        "print('sent', flush=True)\nsys.stdin.read()\n"
    )
    crowd = subprocess.Popen(
        ["setpriv", f"--reuid={USER}", f"--regid={USER}", f"--groups={READERS}", sys.executable, "-c", script,
         str(web.socket)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert crowd.stdin is not None
    assert crowd.stdout is not None
    try:
        assert crowd.stdout.readline() == b"sent\n"
        began = time.monotonic()
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda each: web.osctl(*each), [
                ["ct", "netif", "ip", "add", "web", "eth0", "1.2.3.5"], ["ct", "ls"],
                ["ct", "netif", "ip", "del", "web", "eth0", "1.2.3.5"], ["history"],
            ]))  # fmt: skip
        took = time.monotonic() - began
    finally:
        crowd.stdin.close()
        crowd.wait(10)
        crowd.stdout.close()

    assert took < 10
    assert web.osctl("ping").stdout == "pong\n"


@pytest.mark.parametrize("key", ["group", "read_only_group"])
def test_a_group_that_there_is_not_is_refused_at_the_start(key: str) -> None:
    with Topology(settings=f'[socket]\n{key} = "nosuchgroup"\n', program=BARE, start_daemon=False) as host:
        done = run(*host.program, *host.daemon_arguments, check=False)

    assert (done.status, done.stdout) == (1, "")
    assert done.stderr == f"error: socket.{key} = 'nosuchgroup': group not found\n"
