"""The daemon as a service: what it tells its manager, what its children inherit, and how a start fails."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from whole.bare_daemon import BARE
from whole.hanging_daemon import HANGING
from whole.host import BIN, Result, Topology, run

OSCTLD = str(BIN / "osctld")


# --- what the service manager is told -----------------------------------------------------------------------------


@contextlib.contextmanager
def manager() -> Iterator[tuple[str, socket.socket]]:
    """The socket of a service manager: its path and itself."""
    directory = Path(tempfile.mkdtemp(prefix="osct-"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(directory / "notify"))
        receiver.settimeout(20)
        try:
            yield str(directory / "notify"), receiver
        finally:
            shutil.rmtree(directory)


def wait_for(receiver: socket.socket, what: bytes) -> None:
    while receiver.recv(1000) != what:
        pass


def test_the_manager_is_told_that_the_loop_turns_and_nothing_when_it_hangs() -> None:
    with manager() as (path, receiver), Topology(program=HANGING, start_daemon=False) as host:
        host.expects_traceback = True
        host.start_daemon(environment={"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "400000"})
        wait_for(receiver, b"READY=1")
        for _ in range(5):
            wait_for(receiver, b"WATCHDOG=1")

        os.kill(host.daemon_pid, signal.SIGUSR2)
        time.sleep(0.5)  # what was under way
        receiver.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while receiver.recv(1000):
                pass
        receiver.settimeout(2)  # five times as long as the manager's patience
        with pytest.raises(TimeoutError):
            receiver.recv(1000)

        os.kill(host.daemon_pid, signal.SIGABRT)  # as the manager does then
        host.bury_daemon()
        told = r"Fatal Python error: Aborted.*hanging_daemon\.py\", line \d+ in _hang"
        assert re.search(told, host.log_text(), re.DOTALL)


def test_a_watchdog_that_is_somebody_elses_is_not_fed() -> None:
    with manager() as (path, receiver), Topology(program=BARE, start_daemon=False) as host:
        host.start_daemon(
            environment={"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "100000", "WATCHDOG_PID": str(os.getpid())}
        )
        wait_for(receiver, b"READY=1")
        receiver.settimeout(1)
        with pytest.raises(TimeoutError):
            receiver.recv(1000)
        assert host.stop_daemon() == 0


# --- what children inherit ----------------------------------------------------------------------------------------


def limits(pid: int | str) -> tuple[str, str]:
    """Soft and hard limit of descriptors."""
    text = Path(f"/proc/{pid}/limits").read_text()
    match = re.search(r"^Max open files +(\S+) +(\S+)", text, re.MULTILINE)
    assert match is not None
    return match[1], match[2]


def test_the_daemon_takes_all_descriptors_and_guests_have_the_usual_limit() -> None:
    with Topology(program=("prlimit", "--nofile=1000:4000", OSCTLD)) as host:
        host.new_container("web")

        assert limits(host.daemon_pid) == ("4000", "4000")
        assert limits(host.init_pid("web")) == ("1024", "4000")
        assert host.guest("web", "sh", "-c", "ulimit -Sn; ulimit -Hn").stdout == "1024\n4000\n"


# --- starts that fail ---------------------------------------------------------------------------------------------


def start(host: Topology, *more: str, program: tuple[str, ...] = BARE) -> Result:
    """Start the daemon on the host of the test as a program that has to end by itself.

    Not on the machine: some ends come only after the packet filter was set.
    """
    return host.in_namespace(host.H, *program, *host.daemon_arguments, *more, check=False)


def assert_one_line(done: Result, pattern: str, *, status: int = 1) -> None:
    assert (done.status, done.stdout) == (status, ""), done
    assert re.fullmatch(rf"error: {pattern}\n", done.stderr), done.stderr
    assert done.stderr.count("\n") == 1


@pytest.fixture
def down() -> Iterator[Topology]:
    with Topology(start_daemon=False) as host:
        yield host


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("[host\n", r"\S+osctld.toml: .*line 1.*"),
        ("[host]\nuplink = 1\n", r"\S+osctld.toml:2: unknown setting 'host.uplink'"),
        ("[routes]\nipv6_metric = -1\n", r"\S+osctld.toml:2: routes.ipv6_metric: -1 is not .*"),
        ("[socket]\nconnections = 1\n", r"\S+osctld.toml:2: socket.connections: 1 is less than 8"),
        ("\udcff", r"\S+osctld.toml: .*can't decode byte 0xff.*"),
    ],
)
def test_bad_settings_are_refused_with_file_and_line(down: Topology, text: str, pattern: str) -> None:
    down.config.write_bytes(text.encode(errors="surrogateescape"))

    assert_one_line(start(down), pattern)
    assert not down.state_dir.exists()


def test_settings_that_are_not_there_or_no_file_are_refused(down: Topology) -> None:
    down.config.unlink()
    assert_one_line(start(down), rf"{down.config}: no such file")
    down.config.mkdir()
    assert_one_line(start(down), rf"{down.config}: .*Is a directory.*")


def test_a_second_daemon_is_refused_and_the_first_goes_on() -> None:
    with Topology(program=BARE) as host:
        assert_one_line(start(host), rf"{host.state_dir}: in use by another osctld, process {host.daemon_pid}")
        other = ("--state-dir", str(host.directory / "other"))
        assert_one_line(start(host, *other), rf"{host.run_dir}: in use by another osctld, process {host.daemon_pid}")

        assert host.osctl("ping").stdout == "pong\n"


def test_a_store_that_is_damaged_is_refused_and_left_as_it_is(down: Topology) -> None:
    down.state_dir.mkdir()
    store = down.state_dir / "osctl.sqlite"
    store.write_bytes(b"this is no database, " * 1000)
    before = store.read_bytes()

    assert_one_line(start(down), rf"{store}: cannot be opened: file is not a database.*")
    assert store.read_bytes() == before


def test_a_store_of_a_newer_version_is_refused(down: Topology) -> None:
    down.start_daemon()
    assert down.stop_daemon() == 0
    with contextlib.closing(sqlite3.connect(down.state_dir / "osctl.sqlite")) as store:
        store.execute("PRAGMA user_version = 99")
        store.commit()

    assert_one_line(start(down), r".*99.*")


@pytest.mark.parametrize("name", ["state", "run"])
def test_a_place_that_cannot_be_used_is_named(down: Topology, name: str) -> None:
    place = down.directory / name
    place.write_text("a file")

    assert_one_line(start(down), rf"{place}\S*: (File exists|Not a directory)")


def test_a_lock_that_cannot_be_taken_is_named(down: Topology) -> None:
    lock = down.state_dir / "osctld.lock"
    lock.mkdir(parents=True)

    assert_one_line(start(down), rf"{lock}: Is a directory")


def test_what_is_in_the_sockets_place_is_named(down: Topology) -> None:
    (down.run_dir / "osctld.sock").mkdir(parents=True)

    done = start(down)

    assert done.status == 1
    assert done.stderr.splitlines()[-1] == f"error: '{down.run_dir}/osctld.sock': exists and is not a socket"
    assert "Traceback" not in done.stderr


def test_somebody_who_is_not_root_is_told() -> None:
    done = run("setpriv", "--reuid=4400", "--regid=4400", "--clear-groups", OSCTLD, check=False)

    assert_one_line(done, r"osctld must be started by root, not by user 4400", status=77)


def test_a_capability_that_is_missing_is_named(down: Topology) -> None:
    done = start(down, program=("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", OSCTLD))

    assert_one_line(done, r"osctld lacks CAP_NET_ADMIN, required for links, routes and the packet filter", status=77)


def test_a_host_without_lxc_is_told_which_package_to_install(down: Topology) -> None:
    hidden = 'mount --bind /dev/null /usr/bin/lxc-start && exec "$@"'

    done = start(down, program=("unshare", "--mount", "sh", "-c", hidden, "sh", OSCTLD))

    assert_one_line(done, r"program 'lxc-start' is missing; install lxc")


def test_a_host_without_nftables_is_told_which_package_to_install(down: Topology) -> None:
    library = next(Path("/usr/lib").rglob("libnftables.so.1"))
    hidden = f'mount --bind /dev/null {library.resolve()} && exec "$@"'

    done = start(down, program=("unshare", "--mount", "sh", "-c", hidden, "sh", OSCTLD))

    assert_one_line(done, r"libnftables\.so\.1 is missing; install nftables")


def test_words_that_make_no_sense_are_a_usage_error() -> None:
    assert_one_line(run(OSCTLD, "--frob", check=False), r"unknown argument: --frob \(usage: .*\)", status=64)
    assert run(sys.executable, "-m", "osctld", "--version", check=False).status == 0
