"""`osctl ct exec --run-container`: a command in a stopped container, which is stopped again and as it was."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from whole.host import BIN, ROUTER_4, Topology, differences, wait_until


@pytest.fixture
def stopped(shared: Topology) -> Topology:
    """The host of this file, with a stopped container `web`."""
    shared.new_container("web", via=["10.100.10.100/30", "fd00:1::/126"], addresses=["1.2.3.4"], start=False)
    return shared


def state(host: Topology) -> str:
    return str(host.osctl_json("ct", "show", "web")["state"])


def root_of(host: Topology) -> Path:
    return Path(host.osctl_json("ct", "show", "web")["rootfs"])


@contextlib.contextmanager
def begun(host: Topology, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """A command in the stopped container that has begun and goes on."""
    client = subprocess.Popen(
        [str(BIN / "osctl"), "--socket", str(host.socket), "ct", "exec", *options, "web", "sh", "-c",
         "echo up; exec sleep 1000"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert client.stdout is not None
    try:
        assert client.stdout.readline() == b"up\n"
        yield client
    finally:
        client.kill()
        client.wait()
        client.stdout.close()
    wait_until(lambda: state(host) == "stopped", "stopped again")


def test_a_command_runs_in_a_stopped_container_that_is_then_as_it_was(stopped: Topology) -> None:
    before = stopped.comparable_state(), stopped.stored()
    about = stopped.osctl_json("ct", "show", "web")

    script = "ls /sys/class/net; cat; exit 7"
    done = stopped.osctl("ct", "exec", "-r", "web", "sh", "-c", script, stdin="given\n", check=False)

    assert (done.status, done.stdout.split(), done.stderr) == (7, ["lo", "given"], "")
    assert stopped.osctl_json("ct", "show", "web") == about
    assert about["state"] == "stopped"
    assert not differences(before[0], stopped.comparable_state())
    assert stopped.stored() == before[1]


def test_what_the_command_changes_in_the_root_directory_stays_and_nothing_else_does(stopped: Topology) -> None:
    root = root_of(stopped)
    before = {each.relative_to(root) for each in root.rglob("*")}

    stopped.osctl("ct", "exec", "-r", "web", "touch", "/root/made")

    after = {each.relative_to(root) for each in root.rglob("*")}
    assert after - before == {Path("root/made")}
    assert before <= after


def test_its_interfaces_are_there_only_when_they_are_asked_for(stopped: Topology) -> None:
    before = stopped.comparable_state()

    assert stopped.osctl("ct", "exec", "-r", "-n", "web", "ping", "-c", "1", "-W", "2", ROUTER_4).status == 0
    assert "1.2.3.4" in stopped.osctl("ct", "exec", "-r", "-n", "web", "ip", "addr").stdout
    assert "eth0" not in stopped.osctl("ct", "exec", "-r", "web", "ip", "addr").stdout

    assert not [each for each in stopped.ip_json(stopped.H, "route") if each["dst"] == "1.2.3.4"]
    assert stopped.comparable_state().keys() == before.keys()


def test_a_container_in_which_such_a_command_runs_is_not_started(stopped: Topology) -> None:
    with begun(stopped, "-r"):
        assert "a command of ct exec --run-container is running in it" in stopped.refusal("-q", "ct", "start", "web")
        assert "a command of ct exec --run-container is running in it" in stopped.refusal(
            "ct", "exec", "-r", "web", "true"
        )
        assert "is running" in stopped.refusal("-q", "ct", "del", "web")

    stopped.osctl("ct", "start", "web")
    assert stopped.osctl("ct", "exec", "-r", "web", "cat", "/proc/1/comm").stdout == "init\n"


def test_it_is_stopped_when_its_client_goes_away_or_somebody_stops_it(stopped: Topology) -> None:
    with begun(stopped, "-r", "-n"):
        assert stopped.ping(stopped.R, "1.2.3.4") == 3
    assert stopped.ping(stopped.R, "1.2.3.4", count=1) == 0

    with begun(stopped, "-r") as client:
        stopped.osctl("ct", "stop", "web")
        assert client.wait(timeout=20) != 0
    assert not stopped.osctl_json("ct", "show", "web")["wanted"]


def test_an_edit_meets_what_is_there(stopped: Topology) -> None:
    with begun(stopped, "-r", "-n"):
        stopped.osctl("ct", "netif", "ip", "add", "web", "1.2.3.5")
        assert stopped.ping(stopped.R, "1.2.3.5") == 3
    with begun(stopped, "-r"):
        planned = stopped.osctl("ct", "netif", "ip", "add", "--dry-run", "web", "1.2.3.6").stdout
        stopped.osctl("ct", "netif", "ip", "del", "web", "1.2.3.5")
    assert planned == "# on the host\nnft add element inet osctl stopped4 '{ 1.2.3.6/32 }'\n"
    stopped.osctl("ct", "start", "web")
    assert stopped.ping(stopped.R, "1.2.3.5", count=1) == 0
    assert stopped.ping(stopped.R, "1.2.3.4") == 3


def test_a_guest_that_does_not_boot_is_repaired(stopped: Topology) -> None:
    init = root_of(stopped) / "sbin/init"
    target = init.readlink()
    init.unlink()
    assert stopped.osctl("ct", "start", "web", check=False).status == 1

    stopped.osctl("ct", "exec", "-r", "web", "ln", "-s", str(target), "/sbin/init")

    stopped.osctl("ct", "start", "web")


def test_the_network_alone_cannot_be_asked_for(stopped: Topology) -> None:
    refused = stopped.refusal_without_trace("ct", "exec", "-n", "web", "true", status=64)

    assert refused == "--network requires --run-container"
    assert "not running" in stopped.refusal_without_trace("ct", "exec", "web", "true")


def test_such_a_command_ends_with_its_daemon_and_the_container_is_found_stopped() -> None:
    with Topology() as host:
        host.new_container("web", via=["10.100.10.100/30"], addresses=["1.2.3.4"], start=False)
        before = host.comparable_state()
        with begun(host, "-r", "-n"):
            host.kill_daemon()
            host.start_daemon()
            assert state(host) == "stopped"
        assert not host.osctl_json("ct", "show", "web")["wanted"]
        assert host.comparable_state().keys() == before.keys()
        host.osctl("ct", "start", "web")
        assert host.ping(host.R, "1.2.3.4") == 3
