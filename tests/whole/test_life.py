"""A container's life: made, started, used, rebooted from inside, ended, deleted; and what a crash leaves of it."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import re
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from whole.debian_images import debian_image
from whole.host import BIN, Result, Topology, differences, run, wait_until

VIAS = ["10.100.10.100/30", "fd00:1::/126"]
ADDRESSES = ["1.2.3.4", "2001:db8:2::4"]


def new_web(host: Topology) -> str:
    return host.new_container("web", via=VIAS, addresses=ADDRESSES)


def state(host: Topology, name: str = "web") -> str:
    return str(host.osctl_json("ct", "show", name)["state"])


def answers(host: Topology) -> bool:
    return all(host.ping(host.R, address) == 3 for address in ADDRESSES)


def ask(host: Topology, command: str) -> None:
    """Let the guest's root run what ends the guest; whether it lives to see its end is open."""
    host.guest("web", "sh", "-c", command, check=False)


def failure(host: Topology, *argv: str) -> str:
    """Run a command that may say what it is doing and then fails, in one line."""
    result = host.osctl(*argv, check=False)
    assert result.status == 1, result
    assert re.fullmatch(r"error: [^\n]+\n", result.stderr), result
    return result.stderr


def execute(host: Topology, *argv: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """`osctl ct exec` with bytes on all streams."""
    return subprocess.run(
        [str(BIN / "osctl"), "--socket", str(host.socket), "ct", "exec", *argv],
        input=data,
        capture_output=True,
        timeout=60,
        check=False,
    )


def processes_inside(pid: int) -> set[str]:
    """What runs in the namespace of process ids that a process is in."""
    inside = os.stat(f"/proc/{pid}/ns/pid").st_ino
    found = set()
    for each in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if os.stat(f"/proc/{each}/ns/pid").st_ino == inside:
                found.add(Path(f"/proc/{each}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip())
    return found


def traces(host: Topology) -> set[str]:
    """What is left of containers: cgroups that their LXC configurations named, mounts and files of their lives."""
    mounts = {line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()}
    return {each for each in mounts if each.startswith(str(host.directory))} | {
        str(each) for each in (host.run_dir / "lxc").rglob("*")
    }


def monitor_of(init_pid: int) -> int:
    return int(Path(f"/proc/{init_pid}/stat").read_text().rpartition(")")[2].split()[1])


# --- start, stop, restart ----------------------------------------------------------------------------------------


def test_fifty_starts_and_stops_end_where_they_began(host: Topology) -> None:
    new_web(host)
    running = host.comparable_state("web")
    host.osctl("ct", "stop", "web")
    stopped, left = host.comparable_state(), traces(host)

    for number in range(50):
        host.osctl("ct", "start", "web")
        if number % 10 == 9:
            assert not differences(running, host.comparable_state("web"))
        host.osctl("ct", "stop", *(("-k",) if number % 2 else ()), "web")
        if number % 10 == 9:
            assert not differences(stopped, host.comparable_state())
            assert traces(host) == left

    assert not any("osweb" in line for lines in stopped.values() for line in lines)


def test_start_and_stop_say_yes_to_what_is_so_already_and_restart_gives_a_new_life(host: Topology) -> None:
    new_web(host)
    first = host.init_pid("web")
    host.osctl("ct", "start", "web")
    assert host.init_pid("web") == first

    for options in ((), ("-k",)):
        host.osctl("ct", "restart", *options, "web")
        assert host.init_pid("web") != first
        assert answers(host)

    host.osctl("ct", "stop", "web")
    host.osctl("ct", "stop", "web")
    assert state(host) == "stopped"
    host.osctl("ct", "restart", "web")
    assert state(host) == "running"
    assert answers(host)


def test_stop_asks_first_waits_as_long_as_it_is_told_and_then_kills_or_fails(host: Topology) -> None:
    new_web(host)
    host.guest(
        "web", "sh", "-c", "rm /sbin/poweroff && printf '#!/bin/sh\\n' >/sbin/poweroff && chmod +x /sbin/poweroff"
    )
    pid = host.init_pid("web")

    for words in (("stop", "--dont-kill"), ("restart", "--dont-kill"), ("restart", "--reboot")):
        begun = time.monotonic()
        assert "1 s" in failure(host, "ct", *words, "-t", "1", "web")
        assert time.monotonic() - begun >= 1
        assert (state(host), host.init_pid("web")) == ("running", pid)
    assert answers(host)

    begun = time.monotonic()
    host.osctl("ct", "stop", "-t", "1", "web")
    assert time.monotonic() - begun >= 1
    assert state(host) == "stopped"

    host.osctl("ct", "start", "web")
    host.osctl("ct", "stop", "-k", "-t", "1000", "web")  # the test's own time limit would end it
    assert state(host) == "stopped"
    assert host.refusal("ct", "stop", "--kill", "--dont-kill", "web", status=64)
    assert host.refusal("ct", "stop", "-t", "soon", "web", status=64)
    assert "nobody" in host.refusal("ct", "stop", "nobody")


def test_a_stop_does_not_wait_for_one_that_has_more_patience_or_gives_up(host: Topology) -> None:
    new_web(host)
    deaf = "rm /sbin/poweroff && printf '#!/bin/sh\n' >/sbin/poweroff && chmod +x /sbin/poweroff"
    host.guest("web", "sh", "-c", deaf)
    for first, second, status in (
        (("-t", "1000"), ("-k",), 0),
        (("--dont-kill", "-t", "1"), ("-t", "3"), 1),
    ):
        host.osctl("ct", "start", "web")
        with ThreadPoolExecutor(1) as background:
            other = background.submit(host.osctl, "ct", "stop", *first, "web", check=False)
            wait_until(lambda: state(host) == "stopping", "it is asked")

            host.osctl("ct", "stop", *second, "web")

            assert state(host) == "stopped"
            assert other.result().status == status


def test_a_running_container_is_deleted_by_force_only_and_then_completely(host: Topology) -> None:
    host.new_container("first")  # the host forwards from then on
    host.delete_containers()
    empty, files = host.comparable_state(), set(host.state_dir.rglob("*"))
    new_web(host)
    before = host.comparable_state("web")

    said = host.refusal("ct", "del", "web")

    assert "web" in said
    assert "running" in said
    assert not differences(before, host.comparable_state("web"))
    host.osctl("ct", "del", "-f", "web")
    assert host.osctl_json("ct", "ls") == []
    assert not differences(empty, host.comparable_state())
    assert {each for each in host.state_dir.rglob("*") if "web" in str(each)} == set()
    assert not {each for each in host.run_dir.rglob("*") if "web" in str(each)}
    assert len(set(host.state_dir.rglob("*")) - files) <= 5  # directories for what comes next
    assert host.stored()["holding"] == host.stored()["container"] == []
    new_web(host)
    assert answers(host)


# --- from inside -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["reboot", "/sbin/reboot", "reboot -f"])
def test_a_guest_that_reboots_itself_comes_back_with_its_network(host: Topology, command: str) -> None:
    new_web(host)
    before, pid = host.comparable_state("web"), host.init_pid("web")
    host.guest("web", "touch", "/kept")

    ask(host, command)

    wait_until(lambda: host.has_rebooted("web", since=pid), "it runs again", seconds=20)
    assert not differences(before, host.comparable_state("web"))
    assert answers(host)
    assert host.guest("web", "ls", "/kept").stdout == "/kept\n"


@pytest.mark.parametrize("command", ["/sbin/poweroff", "halt", "poweroff -f"])
def test_a_guest_that_ends_itself_is_stopped_and_can_be_started(host: Topology, command: str) -> None:
    new_web(host)
    host.osctl("ct", "stop", "web")
    stopped = host.comparable_state()
    host.osctl("ct", "start", "web")

    ask(host, command)

    wait_until(lambda: state(host) == "stopped", "it is stopped", seconds=20)
    assert not differences(stopped, host.comparable_state())
    host.osctl("ct", "start", "web")
    assert answers(host)


# --- crashes -----------------------------------------------------------------------------------------------------


def test_a_guest_that_reboots_while_the_daemon_is_down_runs_again_when_it_is_back(host: Topology) -> None:
    new_web(host)
    before, pid = host.comparable_state("web"), host.init_pid("web")
    with subprocess.Popen(
        [str(BIN / "osctl"), "--socket", str(host.socket), "ct", "exec", "web", "sh", "-c", "read go; reboot"],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as client:
        wait_until(lambda: any("read go" in each for each in processes_inside(pid)), "it waits for our word")
        host.kill_daemon()
        client.communicate(b"go\n", timeout=20)
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "its first life is over", seconds=20)

    host.start_daemon()

    wait_until(lambda: host.has_rebooted("web", since=pid), "it runs again")
    assert not differences(before, host.comparable_state("web"))
    assert answers(host)


@pytest.mark.parametrize("how", ["init", "monitor", "both"])
@pytest.mark.parametrize("is_daemon_there", [True, False])
def test_a_container_that_dies_is_collected_and_starts_again(
    host: Topology, how: str, *, is_daemon_there: bool
) -> None:
    new_web(host)
    running, pid = host.comparable_state("web"), host.init_pid("web")
    monitor = monitor_of(pid)
    host.osctl("ct", "new", "--distribution", "busybox", "other")
    before, cgroups = traces(host), [each for each in host.cgroups() if each.exists()]
    assert cgroups
    if not is_daemon_there:
        host.kill_daemon()

    for name, each in (("monitor", monitor), ("init", pid)):
        if how in (name, "both"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "its first process is dead")
    if not is_daemon_there:
        host.start_daemon()

    wait_until(lambda: state(host) == "stopped", "it shows as stopped")
    assert not any("osweb" in line for lines in host.comparable_state().values() for line in lines)
    wait_until(lambda: len(traces(host)) < len(before), "what was mounted for it is gone")
    assert not [each for each in traces(host) if "/web" in each]
    assert not [each for each in cgroups if each.exists()]
    host.osctl("ct", "start", "web")
    assert not differences(running, host.comparable_state("web"))
    assert answers(host)


# --- commands inside ---------------------------------------------------------------------------------------------


def test_a_command_inside_has_the_callers_streams_whatever_bytes_go_through_them(shared: Topology) -> None:
    new_web(shared)
    data = random.Random(1).randbytes(5_000_000)

    echoed = execute(shared, "web", "cat", data=data)
    assert (echoed.returncode, echoed.stdout == data, echoed.stderr) == (0, True, b"")
    both = execute(shared, "web", "sh", "-c", "cat >&2; echo out", data=b"\0\xff\r\n")
    assert (both.stdout, both.stderr) == (b"out\n", b"\0\xff\r\n")
    assert execute(shared, "web", "wc", "-c").stdout == b"0\n"
    counted = execute(shared, "web", "head", "-c", "3000000", "/dev/zero")
    assert counted.stdout == bytes(3_000_000)
    words = ["-j", "--pool", "x", "--", "a b", "", "$HOME", "\u00e4"]
    assert execute(shared, "web", "printf", "%s\\n", *words).stdout.decode().split("\n")[:-1] == words


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("exit 0", 0),
        ("exit 37", 37),
        ("exit 255", 255),
        ("kill -TERM $$", 128 + signal.SIGTERM),
        ("kill -KILL $$", 128 + signal.SIGKILL),
        ("kill -INT $$", 128 + signal.SIGINT),
        ("nosuchcommand", 127),
        ("/etc/passwd", 126),
    ],
)
def test_the_exit_status_is_that_of_the_command(shared: Topology, command: str, status: int) -> None:
    shared.new_container("web")

    assert execute(shared, "web", "sh", "-c", command).returncode == status


def test_a_command_that_cannot_be_run_at_all_says_so(shared: Topology) -> None:
    shared.new_container("web")
    assert execute(shared, "web", "/nosuch").returncode == 127
    assert execute(shared, "web", "/etc/passwd").returncode == 126
    shared.osctl("ct", "stop", "web")
    assert "not running" in shared.refusal("ct", "exec", "web", "true") or "stopped" in shared.refusal(
        "ct", "exec", "web", "true"
    )
    assert "nobody" in shared.refusal("ct", "exec", "nobody", "true")
    assert shared.refusal("ct", "exec", "web", status=64)


def test_a_command_ends_with_its_reader_and_with_its_caller(shared: Topology) -> None:
    shared.new_container("web")
    pid = shared.init_pid("web")

    run("sh", "-c", f"{BIN}/osctl --socket {shared.socket} ct exec web yes | head -n 1 >/dev/null", seconds=20)
    wait_until(lambda: not any(each.startswith("yes") for each in processes_inside(pid)), "`yes` has ended")

    for number in (signal.SIGINT, signal.SIGKILL):
        with subprocess.Popen(
            [str(BIN / "osctl"), "--socket", str(shared.socket), "ct", "exec", "web", "sleep", "1000"],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as client:
            wait_until(lambda: "sleep 1000" in processes_inside(pid), "it sleeps")
            client.send_signal(number)
            client.wait(timeout=20)
        wait_until(lambda: "sleep 1000" not in processes_inside(pid), "it has ended")
    assert shared.osctl("ping").status == 0


# --- new ---------------------------------------------------------------------------------------------------------


def archive_of(host: Topology, directory: Path) -> Path:
    """A plain tar archive of a busybox root that has a file of its own; a container `model` has it, too."""
    host.osctl("ct", "new", "--distribution", "busybox", "model")
    root = host.state_dir / "ct" / "model" / "rootfs"
    (root / "etc" / "mark").write_text("from the archive\n")
    os.chown(root / "etc" / "mark", 1000, 1001)
    file = directory / "root.tar"
    run("tar", "-C", str(root), "--numeric-owner", "-cf", str(file), ".")
    return file


@pytest.fixture
def archive(shared: Topology, tmp_path: Path) -> Path:
    return archive_of(shared, tmp_path)


def check_from_archive(host: Topology, name: str) -> None:
    host.osctl("ct", "netif", "new", "routed", "--via", VIAS[0], "--via", VIAS[1], name, "eth0")
    host.osctl("ct", "netif", "ip", "add", name, "eth0", *ADDRESSES)
    host.osctl("ct", "start", name)
    assert host.guest(name, "cat", "/etc/mark").stdout == "from the archive\n"
    assert host.guest(name, "stat", "-c", "%u %g", "/etc/mark").stdout == "1000 1001\n"
    assert answers(host)
    host.osctl("ct", "del", "-f", name)


@pytest.mark.parametrize("compressor", ["cat", "gzip", "xz", "zstd", "bzip2"])
def test_a_container_is_made_from_an_archive_however_it_is_compressed(
    shared: Topology, archive: Path, compressor: str
) -> None:
    packed = archive.with_name("packed")
    run("sh", "-c", f'{compressor} <"$1" >"$2"', "sh", str(archive), str(packed))

    shared.osctl("ct", "new", "--from-archive", str(packed), "web")

    check_from_archive(shared, "web")


def test_an_archive_is_opened_by_the_caller_where_the_caller_is(shared: Topology, archive: Path) -> None:
    osctl = f"{BIN}/osctl --socket {shared.socket} ct new --from-archive"
    hidden = archive.parent / "hidden"
    hidden.mkdir()
    # Only the caller's mount namespace has the file; a pipe has no name anywhere.
    run(
        "unshare",
        "-m",
        "sh",
        "-c",
        f"mount -t tmpfs none {hidden} && cp {archive} {hidden}/a && {osctl} {hidden}/a web",
    )
    check_from_archive(shared, "web")
    run("sh", "-c", f"cd {archive.parent} && {osctl} {archive.name} web")
    check_from_archive(shared, "web")
    run("sh", "-c", f"gzip <{archive} | {osctl} /dev/stdin web")
    check_from_archive(shared, "web")


def test_a_container_that_cannot_be_made_leaves_nothing(host: Topology, tmp_path: Path) -> None:
    archive = archive_of(host, tmp_path)
    broken, short, empty = (archive.with_name(name) for name in ("broken", "short", "empty"))
    broken.write_bytes(b"this is no archive" * 1000)
    short.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])  # in the middle of busybox
    empty.write_bytes(b"")
    gzipped = archive.with_name("short.gz")
    run("sh", "-c", f"gzip <{archive} | head -c 50000 >{gzipped}")

    def kept() -> tuple[set[Path], object]:
        # Documents are mirrored in their own time.
        return {each for each in host.state_dir.rglob("*") if ".json" not in each.name}, host.stored()

    before = kept()

    for file in (broken, short, empty, gzipped, archive.parent, archive.with_name("missing")):
        said = failure(host, "ct", "new", "--from-archive", str(file), "web")
        assert "web" in said or str(file) in said or "archive" in said
        assert kept() == before, said
    assert str(archive.with_name("missing")) in said
    for source in (("--distribution", "busybox"), ("--from-archive", str(archive))):
        assert "model" in failure(host, "ct", "new", *source, "model")
    senseless: tuple[tuple[str, ...], ...] = (
        ("web",),
        ("--distribution", "plan9", "web"),
        ("--distribution", "busybox", "a/b"),
    )
    for words in senseless:
        assert failure(host, "ct", "new", *words)
    assert host.refusal("ct", "new", "--distribution", "busybox", status=64)
    assert kept() == before
    host.osctl("ct", "new", "--from-archive", str(archive), "web")
    check_from_archive(host, "web")


def test_a_caller_that_goes_away_while_a_container_is_made_leaves_nothing(host: Topology, tmp_path: Path) -> None:
    before = host.stored()
    slow = tmp_path / "slow"
    os.mkfifo(slow)
    with (
        subprocess.Popen(
            [str(BIN / "osctl"), "--socket", str(host.socket), "ct", "new", "--from-archive", str(slow), "web"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as client,
        slow.open("wb") as writer,
    ):
        writer.write(b"half a header")
        writer.flush()
        wait_until(lambda: list((host.state_dir / "building").glob("*")), "it is being made")
        client.kill()
        client.wait()
        wait_until(lambda: not list((host.state_dir / "building").glob("*")), "what was begun is gone")
    assert host.osctl_json("ct", "ls") == []
    assert host.stored() == before
    host.osctl("ct", "new", "--distribution", "busybox", "web")


def test_a_daemon_that_is_killed_while_containers_come_and_go_leaves_whole_ones_only(
    host: Topology, tmp_path: Path
) -> None:
    slow = tmp_path / "slow"
    os.mkfifo(slow)
    with (
        subprocess.Popen(
            [str(BIN / "osctl"), "--socket", str(host.socket), "ct", "new", "--from-archive", str(slow), "web"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as client,
        slow.open("wb") as writer,
    ):
        writer.write(b"half a header")
        writer.flush()
        wait_until(lambda: list((host.state_dir / "building").glob("*")), "it is being made")
        host.kill_daemon()
        assert client.wait(timeout=10) == 1
    host.start_daemon()
    assert not list((host.state_dir / "building").glob("*"))
    assert host.osctl_json("ct", "ls") == []

    for milliseconds in (10, 20, 30, 45, 60):
        if not host.osctl_json("ct", "ls"):
            new_web(host)
        with subprocess.Popen(
            [str(BIN / "osctl"), "--socket", str(host.socket), "ct", "del", "-f", "web"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as client:
            with contextlib.suppress(subprocess.TimeoutExpired):
                client.wait(milliseconds / 1000)
            host.kill_daemon()
            status = client.wait(timeout=10)
        host.start_daemon()
        there = [each["id"] for each in host.osctl_json("ct", "ls")]
        assert there == [each.name for each in (host.state_dir / "ct").iterdir()]
        assert not there or status != 0
        assert not list((host.state_dir / "trash").glob("*"))
        if there:
            host.osctl("ct", "start", "web")
            assert answers(host)
        assert there or not any("osweb" in line for lines in host.comparable_state().values() for line in lines)


# --- ids ---------------------------------------------------------------------------------------------------------


def offset(host: Topology, name: str) -> int:
    """The id on the host of a container's root, as the kernel says."""
    lines = Path(f"/proc/{host.init_pid(name)}/uid_map").read_text().split()
    assert lines[0] == "0"
    assert lines[2] == "65536"
    assert Path(f"/proc/{host.init_pid(name)}/gid_map").read_text().split() == lines
    return int(lines[1])


def test_each_container_has_ids_of_its_own_unless_it_shares_those_of_a_user(host: Topology) -> None:
    for name, options in (("one", ()), ("two", ()), ("three", ("--user", "joe")), ("four", ("--user", "joe"))):
        host.osctl("ct", "new", "--distribution", "busybox", *options, name)
        host.osctl("ct", "start", name)

    offsets = {name: offset(host, name) for name in ("one", "two", "three", "four")}

    assert offsets["three"] == offsets["four"]
    ranges = sorted({offsets["one"], offsets["two"], offsets["three"]})
    assert len(ranges) == 3
    assert all(second - first >= 65536 for first, second in itertools.pairwise(ranges))
    assert ranges[0] >= 65536
    for name, each in offsets.items():
        assert os.stat(f"/proc/{host.init_pid(name)}").st_uid == each
        assert host.osctl_json("ct", "show", name)["uid_offset"] == each
        # On disk, ids are those that the guest sees: the mount translates.
        host.guest(name, "sh", "-c", "touch /made && chown 1000:1001 /made")
        made = (host.state_dir / "ct" / name / "rootfs" / "made").stat()
        assert (made.st_uid, made.st_gid) == (1000, 1001)
        assert host.guest(name, "stat", "-c", "%u %g", "/", "/made").stdout == "0 0\n1000 1001\n"
    # What is root inside is nobody outside.
    assert host.guest("one", "sh", "-c", "echo 1 >/proc/sys/kernel/sysrq", check=False).status != 0
    host.restart_daemon()
    assert {name: offset(host, name) for name in offsets} == offsets


# --- a guest with systemd ----------------------------------------------------------------------------------------

@pytest.fixture(scope="session")
def debian() -> Path:
    """A Debian root with systemd."""
    return debian_image("systemd")


def booted(host: Topology) -> bool:
    said: Result = host.guest("web", "systemctl", "is-system-running", check=False)
    return said.stdout.strip() in ("running", "degraded")


@pytest.mark.time_limit(720)
def test_a_debian_guest_boots_reboots_and_powers_off_with_its_network(host: Topology, debian: Path) -> None:
    host.osctl("ct", "new", "--from-archive", str(debian), "web", seconds=120)
    host.osctl("ct", "netif", "new", "routed", "--via", VIAS[0], "--via", VIAS[1], "web", "eth0")
    host.osctl("ct", "netif", "ip", "add", "web", "eth0", *ADDRESSES)
    host.osctl("ct", "start", "web")
    first = host.init_pid("web")
    assert answers(host)
    wait_until(lambda: booted(host), "it has booted", seconds=60)
    assert answers(host)
    before = host.comparable_state("web")
    assert not [line for line in before["web addresses"] if "1.2.3.4" not in line and '"lo"' not in line]

    ask(host, "systemctl reboot")
    wait_until(lambda: host.has_rebooted("web", since=first), "it runs again", seconds=60)
    assert answers(host)
    wait_until(lambda: booted(host), "it has booted again", seconds=60)
    assert answers(host)
    assert not differences(before, host.comparable_state("web"))
    host.osctl("ct", "netif", "ip", "add", "web", "eth0", "1.2.3.5")
    assert host.ping(host.R, "1.2.3.5") == 3
    out = execute(host, "web", "sh", "-c", "getent hosts localhost; cat /etc/hostname").stdout
    assert b"web" in out

    ask(host, "systemctl poweroff")
    wait_until(lambda: state(host) == "stopped", "it is stopped", seconds=60)
    host.osctl("ct", "start", "web")
    assert answers(host)
    host.osctl("ct", "stop", "web")
    assert state(host) == "stopped"
