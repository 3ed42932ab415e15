"""`osctl self metrics`: what `osctl status` says, and what was counted, as Prometheus takes it."""

from __future__ import annotations

import contextlib
import re
import shlex
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from whole.bare_daemon import BARE
from whole.host import BIN, WORLD_4, WORLD_6, Topology, wait_until
from whole.prometheus import Family, check_by_tools, parse

ROOT = Path(__file__).parent.parent.parent
VIAS = ["10.100.10.100/30", "fd00:1::/126"]

pytestmark = pytest.mark.requires_kernel("nftables fib")


@pytest.fixture
def web() -> Iterator[Topology]:
    """A host on which `web` and `other` run."""
    with Topology(program=BARE) as host:
        host.new_container("web", via=VIAS, addresses=["1.2.3.4", "2001:db8:2::4"])
        host.new_container("other", via=["10.100.10.104/30", "fd00:2::/126"], addresses=["1.2.3.5"])
        yield host


def metrics(host: Topology) -> Mapping[str, Family]:
    return parse(host.osctl("self", "metrics").stdout)


def test_all_that_is_told_is_in_prometheus_own_format(web: Topology) -> None:
    web.ip(web.H, "route", "replace", "blackhole", "1.2.3.4")
    wait_until(lambda: metrics(web)["osctl_status"].value() == 1, "it is told", seconds=30)

    text = web.osctl("self", "metrics").stdout

    assert len(parse(text)) >= 15
    assert check_by_tools(text) != []


def test_a_host_without_containers_is_told_of_too() -> None:
    with Topology(program=BARE) as host:
        text = host.osctl("self", "metrics").stdout

        found = parse(text)
        check_by_tools(text)
        assert found["osctl_status"].value() == 0
        assert found["osctl_containers"].value(state="running") == 0


def test_the_verdict_and_each_state_are_there_before_and_after_something_happens(web: Topology) -> None:
    before = metrics(web)
    assert before["osctl_status"].value() == 0
    assert before["osctl_troubles"].value(state="null-routed", severity="warning") == 0
    assert "osctl_trouble_since_timestamp_seconds" not in before
    started = time.time()

    web.ip(web.H, "-6", "route", "add", "blackhole", "2001:db8:2::4")

    wait_until(lambda: metrics(web)["osctl_status"].value() == 1, "it is told", seconds=30)
    after = metrics(web)
    assert after["osctl_troubles"].value(state="null-routed", severity="warning") == 1
    since = after["osctl_trouble_since_timestamp_seconds"].value(
        container="web", interface="eth0", address="2001:db8:2::4", state="null-routed"
    )
    assert started - 1 <= since <= time.time()


def test_what_there_is_is_counted_by_state(web: Topology) -> None:
    web.osctl("ct", "stop", "-k", "other")

    found = metrics(web)

    assert found["osctl_containers"].value(state="running") == 1
    assert found["osctl_containers"].value(state="stopped") == 1
    assert found["osctl_wanted_containers"].value() == 1
    assert found["osctl_interfaces"].value() == 2
    assert found["osctl_addresses"].value() == 3
    assert found["osctl_interface_info"].value(container="web", interface="eth0", device=web.veth("web")) == 1
    assert found["osctl_start_time_seconds"].value() <= time.time()
    assert 0 <= time.time() - found["osctl_last_reconcile_timestamp_seconds"].value() < 300


@pytest.mark.parametrize("version", [4, 6])
def test_dropped_packets_are_counted_of_the_interface_that_sent_them_alone(web: Topology, version: int) -> None:
    def dropped(container: str) -> float:
        family = metrics(web)["osctl_interface_dropped_packets_total"]
        return family.value(container=container, interface="eth0", reason="forged source")

    assert (dropped("web"), dropped("other")) == (0, 0)

    forged = {4: "203.0.113.99", 6: "2001:db8:77::99"}[version]
    nodad = ["nodad"] if version == 6 else []
    web.in_guest_network("web", "ip", "addr", "add", forged, "dev", "eth0", *nodad)
    argv = ["ping", "-n", "-c", "3", "-i", "0.05", "-W", "1", "-I", forged, {4: WORLD_4, 6: WORLD_6}[version]]
    web.in_guest_network("web", *argv, check=False)

    wait_until(lambda: dropped("web") == 3, "they are counted", seconds=30)
    assert dropped("other") == 0


def test_what_the_daemon_repaired_is_counted(web: Topology) -> None:
    before = metrics(web)["osctl_mended_total"].value()

    web.ip(web.H, "route", "del", "1.2.3.4")

    wait_until(lambda: metrics(web)["osctl_mended_total"].value() == before + 1, "it is counted", seconds=30)


@pytest.fixture
def client_in_path(web: Topology) -> str:
    """A PATH by which `osctl` is a client of this host."""
    directory = web.directory / "bin"
    directory.mkdir()
    (directory / "osctl").write_text(f'#!/bin/sh\nexec {BIN / "osctl"} --socket {web.socket} "$@"\n')
    (directory / "osctl").chmod(0o755)
    return f"{directory}:/usr/bin:/bin"


def command_of_unit(name: str) -> list[str]:
    """What the manual says that a unit runs, as words: systemd's quotes are a shell's, too."""
    blocks = re.findall(r"```\n(.*?)```", (ROOT / "docs/osctld.md").read_text(), re.DOTALL)
    (unit,) = [each for each in blocks if each.startswith(f"# /etc/systemd/system/{name}\n")]
    (line,) = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    assert not set(line) & set("%\\"), "nothing that systemd would read in another way"
    return shlex.split(line)


@contextlib.contextmanager
def answering(command: Sequence[str], path: str) -> Iterator[str]:
    """The address at which a command answers each connection on its standard streams, as systemd starts it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    process = subprocess.Popen(
        [
            *("systemd-socket-activate", f"--listen=127.0.0.1:{port}", "--accept", "--inetd", f"--setenv=PATH={path}"),
            *command,
        ],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield f"http://127.0.0.1:{port}/metrics"
    finally:
        process.terminate()
        process.wait(timeout=30)


def test_a_scrape_is_answered_by_the_unit_that_the_manual_shows(client_in_path: str) -> None:
    with answering(command_of_unit("osctl-metrics@.service"), client_in_path) as address:

        def answer() -> str:
            try:
                with urllib.request.urlopen(address, timeout=30) as response:
                    assert response.status == 200
                    assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
                    text: str = response.read().decode()
                    return text
            except (ConnectionError, urllib.error.URLError):
                return ""  # it listens soon

        first = wait_until(answer, "a scrape is answered", seconds=30)

        assert parse(first)["osctl_status"].value() == 0
        assert all(answer() for _ in range(10))


def test_the_file_of_the_textfile_collector_is_whole_or_not_there(web: Topology, client_in_path: str) -> None:
    place = "/var/lib/prometheus/node-exporter"
    command = command_of_unit("osctl-metrics.service")
    assert place in command[-1]
    directory = web.directory / "collector"
    directory.mkdir()

    def write() -> list[str]:
        words = [each.replace(place, str(directory)) for each in command]
        subprocess.run(words, check=False, timeout=60, env={"PATH": client_in_path})
        return [each.name for each in directory.iterdir()]

    assert write() == ["osctl.prom"]
    parse((directory / "osctl.prom").read_text())
    web.stop_daemon()
    assert write() == []  # rather than what was true once
    web.start_daemon()
