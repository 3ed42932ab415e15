"""Containers that run are wanted: they come back after a boot of the host, and only then."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import osctl.client
from whole.bare_daemon import BARE, power_off
from whole.bare_daemon import reboot as power_reboot
from whole.held_daemon import HELD
from whole.host import Topology, wait_until
from whole.reboots import reboot, state, wanted


def kernel_of(host: Topology, *names: str) -> dict[str, list[str]]:
    """All but the uplink, which is another one after a boot: its MAC address is the kernel's choice."""
    state = host.comparable_state(*names)
    return {section: [each for each in lines if '"up0"' not in each] for section, lines in state.items()}


def test_start_makes_a_container_wanted_and_stop_or_a_poweroff_from_inside_end_that() -> None:
    with Topology(program=BARE) as host:
        host.new_container("web", start=False)
        seen = [wanted(host, "web")]

        host.osctl("ct", "start", "web")
        seen.append(wanted(host, "web"))
        host.osctl("ct", "restart", "web")
        seen.append(wanted(host, "web"))
        host.osctl("ct", "stop", "web")
        seen.append(wanted(host, "web"))
        host.osctl("ct", "start", "web")
        power_off(host.run_dir, "web")

        wait_until(lambda: state(host, "web") == "stopped", "it powers off")
        wait_until(lambda: not wanted(host, "web"), "it is not wanted any more")
        assert seen == [False, True, True, False]


def test_a_container_that_is_stopped_while_it_reboots_stays_stopped() -> None:
    with tempfile.TemporaryDirectory(prefix="osct-") as directory:
        hold = Path(directory, "hold")
        with Topology(program=(*HELD, str(hold))) as host:
            host.new_container("web", via=["10.100.10.100/30"])
            host.new_container("busy", via=["10.100.10.104/30"])
            # More than the daemon would do without a thread, which is what can be held.
            networks = "\n".join(f"10.{128 + (each >> 8)}.{each & 255}.0/24" for each in range(200))
            argv = ("ct", "netif", "route", "add", "busy", "eth0", "-")
            with ThreadPoolExecutor(2) as background, osctl.client.connect(str(host.socket)) as daemon:
                hold.touch()
                try:
                    change = background.submit(host.osctl, *argv, stdin=networks)
                    wait_until(hold.with_name("hold.held").exists, "the change is under way")
                    pid = host.init_pid("web")
                    power_reboot(host.run_dir, "web")
                    # What is left of a life is cleared away when the change that is under way is done.
                    wait_until(lambda: not Path(f"/proc/{pid}/ns/net").exists(), "it is going down")
                    begun = daemon.events("management", state="run")
                    stop = background.submit(host.osctl, "ct", "stop", "web")
                    assert next(begun).opts["cmd"] == "ct_stop"
                finally:
                    hold.unlink()
                change.result()
                stop.result()

            assert (state(host, "web"), wanted(host, "web")) == ("stopped", False)
            assert "web: reboots" not in host.log_text()


def test_a_container_that_is_found_running_is_wanted_whatever_the_daemon_died_of() -> None:
    with Topology(program=BARE) as host:
        host.new_container("web")
        host.kill_daemon()
        with contextlib.closing(sqlite3.connect(host.state_dir / "osctl.sqlite")) as store, store:
            (document,) = store.execute("SELECT document FROM container").fetchone()
            without = {key: value for key, value in json.loads(document).items() if key != "wanted"}
            store.execute("UPDATE container SET document = ?", (json.dumps(without).encode(),))

        host.start_daemon()

        assert wanted(host, "web")


def test_after_a_boot_of_the_host_wanted_containers_run_again_and_the_others_do_not() -> None:
    with Topology(program=BARE) as host:
        host.new_container("web", via=["10.100.10.100/30"], addresses=["1.2.3.4/32"])
        host.new_container("db", via=["10.100.10.104/30"], addresses=["1.2.3.5/32"])
        host.new_container("off", via=["10.100.10.108/30"], addresses=["1.2.3.6/32"], start=False)
        before = kernel_of(host, "web", "db")

        reboot(host, "web", "db")

        for name in ("web", "db"):
            wait_until(lambda name=name: state(host, name) == "running", f"{name} is back")  # type: ignore[misc]
        assert state(host, "off") == "stopped"
        assert kernel_of(host, "web", "db") == before


def test_a_container_that_is_stopped_or_deleted_before_its_turn_after_a_boot_is_not_started() -> None:
    with Topology(program=BARE) as host:
        names = [host.new_container(f"c{number}") for number in range(30)]
        former = wait_until(host.noted_boot, "the first boot is noted")

        reboot(host, *names)
        with osctl.client.connect(str(host.socket)) as daemon:
            for name in names[-3:-1]:
                daemon.call("ct_stop", container=name, kill=True)
            daemon.call("ct_del", container=names[-1], force=True)

        wait_until(lambda: host.noted_boot() != former, "all that is wanted was started")
        states = {each["id"]: each["state"] for each in host.osctl_json("ct", "ls")}
        assert states == {**dict.fromkeys(names[:-3], "running"), **dict.fromkeys(names[-3:-1], "stopped")}
        assert "not started" not in host.log_text()


def test_a_container_that_died_while_the_daemon_was_down_is_stopped_and_starts_again_when_asked() -> None:
    with Topology(program=BARE) as host:
        host.new_container("web", via=["10.100.10.100/30"], addresses=["1.2.3.4/32"])
        host.new_container("db", via=["10.100.10.104/30"], addresses=["1.2.3.5/32"])
        pid = host.init_pid("web")
        host.kill_daemon()
        os.kill(pid, signal.SIGKILL)

        host.start_daemon()

        assert (state(host, "web"), wanted(host, "web")) == ("stopped", False)
        assert (state(host, "db"), wanted(host, "db")) == ("running", True)
        host.osctl("ct", "start", "web")
        assert host.ping(host.H, "1.2.3.4") == 3
