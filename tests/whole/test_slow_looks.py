"""Looks that take long, asked for by many at a time: whoever changes something waits for one of them at most."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import osctl.client
from whole.host import Topology, wait_until
from whole.slow_daemon import SLOW
from whole.watched_daemon import WATCHED, WORK

#: More than the daemon has threads for (concurrent.futures.ThreadPoolExecutor: 32 at most), and less than a user may.
MANY = 40


@pytest.fixture
def held() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="osctl-test-") as directory:
        yield Path(directory, "looks")


def begun(held: Path) -> int:
    told = held.with_name(f"{held.name}.begun")
    return len(told.read_text().splitlines()) if told.exists() else 0


def ask(host: Topology, request: str) -> object:
    with osctl.client.connect(str(host.socket)) as client:
        return client.call(request)


def test_a_container_starts_while_many_have_the_host_checked(held: Path) -> None:
    with Topology(program=(*SLOW, str(held))) as host, ThreadPoolExecutor(MANY) as pool:
        host.new_container("web", start=False)
        held.write_text("0")
        try:
            checks = [pool.submit(ask, host, "self_check") for _ in range(MANY)]
            wait_until(lambda: begun(held) >= 2, "checks are under way")

            host.osctl("ct", "start", "web", seconds=20)

            assert begun(held) == 2
        finally:
            held.unlink()
        for each in checks:
            each.result(60)


def test_a_change_is_saved_after_one_of_many_looks_into_the_history(held: Path) -> None:
    with Topology(program=(*SLOW, str(held))) as host, ThreadPoolExecutor(MANY + 1) as pool:
        host.new_container("web", start=False)
        held.write_text("0")
        try:
            looks = [pool.submit(ask, host, "history") for _ in range(MANY)]
            wait_until(lambda: begun(held) == 1, "one is under way")
            with osctl.client.connect(str(host.socket)) as client:
                events = client.events("management", state="run")
                change = pool.submit(host.osctl, "ct", "set", "autostart", "web")
                assert any(each.opts["cmd"] == "ct_set_autostart" for each in events)

            # One after another comes to its end, until the change has had its turn.
            ended = 0
            while not change.done():
                ended += 1
                held.write_text(str(ended))
                wait_until(lambda: begun(held) > ended or change.done(), "the next one is under way")  # noqa: B023

            change.result()
            assert ended < MANY / 4
        finally:
            held.unlink()
        for each in looks:
            each.result(60)


def test_what_is_done_about_many_networks_is_done_beside_the_loop_that_answers_others(held: Path) -> None:
    with Topology(program=(*WATCHED, str(held))) as host:
        host.new_container("web", via=["10.100.10.100/30", "fd00:1::/126"])
        lines = "".join(f"20.0.{n >> 8}.{n & 255}\n" for n in range(3000))
        where = ("web", "eth0")
        host.osctl("ct", "netif", "route", "add", *where, "-", stdin=lines)
        held.write_text("")  # the first one was small: it had no networks yet but those that were typed

        host.osctl("ct", "netif", "ip", "add", *where, "1.2.3.4")
        host.osctl("--dry-run", "ct", "netif", "set", "--via", "10.100.10.108/30", *where)
        host.osctl("ct", "netif", "route", "ls", *where)
        host.osctl("-j", "ct", "netif", "show", *where)
        host.osctl("net", "who", "20.0.0.0/8")
        host.osctl("ct", "netif", "route", "del", *where, "-", stdin=lines[: len(lines) // 2])
        host.osctl("ct", "netif", "route", "add", *where, "-", stdin=lines[: len(lines) // 2])

        told = set(held.read_text().splitlines()) - {"table loop"}  # the others' answers are a line, or none
        assert told == {f"{name} aside" for name, _, _ in WORK}
