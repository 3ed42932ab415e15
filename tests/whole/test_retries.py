"""Starts that nobody waits for, after a boot of the host or of the guest: what failed is tried again."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from osctld.lifecycle.retries import PAUSES
from whole.host import Topology, stays, wait_until
from whole.reboots import reboot, state, wanted


@pytest.fixture
def web() -> Iterator[Topology]:
    """A host on which `web` runs and, beside it, `db`."""
    with Topology() as host:
        host.new_container("web", via=["10.100.10.100/30"], addresses=["1.2.3.4"])
        host.new_container("db", via=["10.100.10.104/30"], addresses=["1.2.3.5"])
        yield host


def root_of(host: Topology) -> Path:
    return host.state_dir / "ct/web/rootfs"


def is_told(host: Topology) -> bool:
    return "web: not started, to be tried again in" in host.log_text()


def test_what_does_not_start_after_a_boot_of_the_host_is_tried_again(web: Topology) -> None:
    root = root_of(web)
    away = root.rename(root.with_name("away"))
    reboot(web, "web", "db")
    wait_until(lambda: is_told(web), "its start has failed")
    wait_until(lambda: state(web, "db") == "running", "the other one runs")
    assert (state(web, "web"), wanted(web, "web")) == ("stopped", True)

    away.rename(root)

    wait_until(lambda: state(web, "web") == "running", "it runs after all")
    assert web.ping(web.R, "1.2.3.4") == 3


def test_what_does_not_start_after_a_reboot_from_inside_is_tried_again(web: Topology) -> None:
    root = root_of(web)
    away = root.rename(root.with_name("away"))
    web.osctl("ct", "exec", "web", "reboot", "-f", check=False)
    wait_until(lambda: is_told(web), "its start has failed")
    assert (state(web, "web"), wanted(web, "web")) == ("stopped", True)

    away.rename(root)

    wait_until(lambda: state(web, "web") == "running", "it runs after all")
    assert web.ping(web.R, "1.2.3.4") == 3
    assert web.ping(web.R, "1.2.3.5") == 3


def test_what_is_stopped_meanwhile_is_not_tried_again(web: Topology) -> None:
    root = root_of(web)
    away = root.rename(root.with_name("away"))
    reboot(web, "web", "db")
    wait_until(lambda: is_told(web), "its start has failed")

    web.osctl("ct", "stop", "web")
    away.rename(root)

    assert wanted(web, "web") is False
    stays(lambda: state(web, "web") == "stopped", PAUSES[0] + 2)


def test_what_has_not_started_yet_is_started_by_the_next_daemon(web: Topology) -> None:
    root = root_of(web)
    away = root.rename(root.with_name("away"))
    web.osctl("ct", "exec", "web", "reboot", "-f", check=False)
    wait_until(lambda: is_told(web), "its start has failed")

    web.kill_daemon()
    away.rename(root)
    web.start_daemon()

    wait_until(lambda: state(web, "web") == "running", "the next daemon has started it")
    assert wanted(web, "web")
    assert web.ping(web.R, "1.2.3.4") == 3


def test_what_ended_while_there_was_no_daemon_is_not_brought_back(web: Topology) -> None:
    """After a reboot that went well, too: its start is over."""
    web.osctl("ct", "exec", "web", "reboot", "-f", check=False)
    wait_until(lambda: "rebooting" in web.log_text() and state(web, "web") == "running", "it runs again")
    init = web.init_pid("web")

    web.kill_daemon()
    os.kill(init, signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{init}").exists(), "it has ended")
    web.start_daemon()

    assert (state(web, "web"), wanted(web, "web")) == ("stopped", False)
    stays(lambda: state(web, "web") == "stopped", 2)
