"""The host goes down and comes up: what stops and stays wanted, what starts, and what happens when it stays up."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import osctl.client
from whole.bare_daemon import BARE, hold, power_off
from whole.bare_daemon import reboot as power_reboot
from whole.held_daemon import HELD
from whole.host import Topology, wait_until
from whole.reboots import reboot, state, wanted


def states(host: Topology) -> dict[str, str]:
    return {each["id"]: each["state"] for each in host.osctl_json("ct", "ls")}


def all_wanted(host: Topology) -> dict[str, bool]:
    return {each["id"]: each["wanted"] for each in host.osctl_json("ct", "ls")}


def at_shutdown(host: Topology, *options: str, seconds: float = 60.0) -> str:
    """What osctl-shutdown.service runs, on this host; what it says."""
    return host.in_namespace(
        host.H, *host.program, *host.daemon_arguments, "--at-shutdown", *options, seconds=seconds
    ).stderr


def up(host: Topology, *names: str) -> None:
    for name in names:
        wait_until(lambda name=name: state(host, name) == "running", f"{name} runs")  # type: ignore[misc]


def test_a_shutdown_stops_everything_keeps_it_wanted_and_refuses_starts_until_the_next_boot() -> None:
    with Topology(program=BARE) as host:
        host.new_container("web", via=["10.100.10.100/30"], addresses=["1.2.3.4/32"])
        host.new_container("db")
        host.new_container("off", start=False)

        host.osctl("self", "shutdown", "--force")

        assert states(host) == dict.fromkeys(("web", "db", "off"), "stopped")
        assert all_wanted(host) == {"web": True, "db": True, "off": False}
        assert "shut down since" in host.osctl_json("self", "status")["shutdown"]
        for words in (("ct", "start", "off"), ("ct", "restart", "web"), ("ct", "start", "--dry-run", "db")):
            assert "not started: all containers have been shut down since" in host.refusal_without_trace(*words)
        reboot(host)
        up(host, "web", "db")
        assert host.ping(host.R, "1.2.3.4") == 3
        assert state(host, "off") == "stopped"
        assert host.osctl_json("self", "status")["shutdown"] is None
        host.osctl("ct", "start", "off")


def test_a_shutdown_is_refused_while_containers_run_unless_it_is_forced() -> None:
    with Topology(program=BARE) as host:
        host.new_container("web")

        refused = [
            host.refusal_without_trace("self", "shutdown", *each, running=["web"]) for each in ((), ("--dry-run",))
        ]

        assert refused == ["1 container is running; --force stops all of them"] * 2
        assert "# stop container web" in host.osctl("self", "shutdown", "--force", "--dry-run").stdout
        assert state(host, "web") == "running"
        host.osctl("ct", "stop", "web")
        host.osctl("self", "shutdown")
        assert "not started" in host.refusal("ct", "start", "web")


def test_a_shutdown_that_is_aborted_starts_what_it_stopped_and_nothing_else() -> None:
    with Topology(program=BARE) as host:
        host.new_container("web", via=["10.100.10.100/30"], addresses=["1.2.3.4/32"])
        host.new_container("off", start=False)
        host.osctl("ct", "set", "autostart", "off")
        nothing = host.osctl("self", "shutdown", "--abort").stdout
        host.osctl("self", "shutdown", "-f")

        host.osctl("self", "shutdown", "--abort")

        up(host, "web")
        assert nothing == "nothing has been shut down\n"
        assert host.ping(host.R, "1.2.3.4") == 3
        assert state(host, "off") == "stopped"
        wait_until(lambda: not (host.state_dir / "shutdown").exists(), "nothing is left of it")
        host.osctl("ct", "start", "off")


def test_what_is_on_its_way_down_when_a_shutdown_is_aborted_is_started_again_when_it_has_ended() -> None:
    with Topology(program=BARE) as host:
        for number, name in enumerate(("first", "slow")):
            host.new_container(name)
            host.osctl("ct", "set", "autostart", "-p", str(number), name)
        pids = {name: host.init_pid(name) for name in ("first", "slow")}
        hold(host.run_dir, "slow")
        stopping = subprocess.Popen(
            [*host.client, "self", "shutdown", "-f", "-t", "60"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        wait_until(lambda: state(host, "slow") == "stopping", "it is asked")

        host.osctl("self", "shutdown", "--abort")
        power_off(host.run_dir, "slow")

        _, said = stopping.communicate(timeout=60)
        assert (stopping.returncode, said) == (1, b"error: the shutdown was aborted; containers are started again\n")
        up(host, "slow")
        assert host.init_pid("slow") != pids["slow"]
        assert host.init_pid("first") == pids["first"], "nobody asked it any more"
        assert all_wanted(host) == {"first": True, "slow": True}


def test_the_mark_of_a_shutdown_outlives_the_daemon_and_so_does_that_it_was_aborted() -> None:
    with Topology(program=BARE) as host:
        host.new_container("web")
        host.osctl("self", "shutdown", "-f")

        host.kill_daemon()
        host.start_daemon()

        assert "not started: all containers have been shut down since" in host.refusal("ct", "start", "web")
        assert wanted(host, "web")
        host.kill_daemon()
        mark = host.state_dir / "shutdown"
        mark.write_text(mark.read_text().replace('"is_lifted":false', '"is_lifted":true'))
        host.start_daemon()
        up(host, "web")


def test_a_daemon_that_dies_during_a_shutdown_goes_on_with_it_when_it_is_started_again() -> None:
    with Topology(program=BARE, settings="[shutdown]\ntimeout = 2\n") as host:
        names = [host.new_container(f"c{number}") for number in range(3)]
        hold(host.run_dir, "c1")
        client = subprocess.Popen(
            [*host.client, "self", "shutdown", "-f"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_until(lambda: states(host)["c0"] == "stopped" and states(host)["c1"] == "stopping", "it is under way")
        host.kill_daemon()
        assert client.wait(timeout=10) != 0

        host.start_daemon()

        wait_until(lambda: set(states(host).values()) == {"stopped"}, "all have stopped")
        assert all_wanted(host) == dict.fromkeys(names, True)


def test_during_a_shutdown_neither_a_poweroff_nor_a_reboot_from_inside_changes_what_is_wanted() -> None:
    with Topology(program=BARE) as host:
        for name in ("slow", "off", "again"):
            host.new_container(name)
            hold(host.run_dir, name)
        with osctl.client.connect(str(host.socket)) as daemon:
            call = threading.Thread(target=lambda: daemon.call("self_shutdown", force=True, timeout=30))
            call.start()
            wait_until(lambda: set(states(host).values()) == {"stopping"}, "all are asked")

            power_off(host.run_dir, "off")
            power_reboot(host.run_dir, "again")

            two_gone = {"slow": "stopping", "off": "stopped", "again": "stopped"}
            wait_until(lambda: states(host) == two_gone, "two are gone")
            power_off(host.run_dir, "slow")
            call.join(timeout=20)
        assert set(states(host).values()) == {"stopped"}
        assert all_wanted(host) == dict.fromkeys(("slow", "off", "again"), True)
        assert "reboots" not in host.log_text()


def test_a_container_that_does_not_power_off_is_killed_when_the_time_of_all_is_over_and_delays_no_other() -> None:
    with Topology(program=BARE, settings="[shutdown]\ntimeout = 3\n") as host:
        for number, name in enumerate(("first", "second", "third")):
            host.new_container(name)
            host.osctl("ct", "set", "autostart", "-p", str(number), name)
        hold(host.run_dir, "third")
        with osctl.client.connect(str(host.socket)) as daemon:
            events = daemon.events("state", state=["stopping", "stopped"])
            host.osctl("self", "shutdown", "-f")

            seen = [(event.opts["id"], event.opts["state"], event.time) for event in (next(events) for _ in range(6))]

        assert [each[:2] for each in seen] == [
            ("third", "stopping"),
            *(("second", "stopping"), ("second", "stopped")),
            *(("first", "stopping"), ("first", "stopped")),
            ("third", "stopped"),
        ]
        assert 0.9 < seen[1][2] - seen[0][2] < 2.5, "its share of the time"
        assert seen[5][2] - seen[0][2] >= 2.9, "all of the time"
        assert all_wanted(host) == dict.fromkeys(("first", "second", "third"), True)


def test_a_shutdown_in_the_middle_of_starting_fifty_stops_those_that_run_and_all_stay_wanted() -> None:
    with Topology(program=BARE, settings="[boot]\nat_once = 2\n") as host:
        names = [host.new_container(f"c{number}", start=False) for number in range(50)]
        with osctl.client.connect(str(host.socket)) as daemon:
            for name in names:
                daemon.call("ct_start", container=name)
        former = wait_until(host.noted_boot, "the first boot is noted")
        reboot(host, *names)
        wait_until(lambda: list(states(host).values()).count("running") >= 5, "some run")

        host.osctl("self", "shutdown", "--force")

        assert states(host) == dict.fromkeys(names, "stopped")
        assert all_wanted(host) == dict.fromkeys(names, True)
        assert host.log_text().count("started with the host") < 45, "it was not in the middle"
        assert host.noted_boot() == former, "not all was started on this boot"
        reboot(host)
        wait_until(lambda: states(host) == dict.fromkeys(names, "running"), "all run", seconds=60)


def test_a_start_that_was_answered_while_all_goes_down_is_wanted() -> None:
    with tempfile.TemporaryDirectory(prefix="osctl-test-") as directory:
        hold = Path(directory) / "hold"
        with Topology(program=(*HELD, str(hold))) as host, ThreadPoolExecutor() as pool:
            host.new_container("busy", via=["10.100.10.100/30"])
            host.new_container("web", start=False)
            # A change that is under way keeps the start in the middle, until all is to go down. It is more than the
            # daemon would do without a thread, which is what can be held.
            networks = "\n".join(f"10.{128 + (each >> 8)}.{each & 255}.0/24" for each in range(200))
            argv = ("ct", "netif", "route", "add", "busy", "eth0", "-")
            hold.touch()
            try:
                edit = pool.submit(host.osctl, *argv, stdin=networks)
                wait_until(hold.with_name("hold.held").exists, "a change is under way")
                start = pool.submit(host.osctl, "ct", "start", "web")
                wait_until(lambda: state(host, "web") == "starting", "it is on its way up")
                shutdown = pool.submit(host.osctl, "self", "shutdown", "--force")
                wait_until(lambda: host.osctl_json("self", "status")["shutdown"], "all is to go down")
            finally:
                hold.unlink()

            for each in (edit, start, shutdown):
                each.result(60)
            assert states(host) == {"busy": "stopped", "web": "stopped"}
            assert all_wanted(host) == {"busy": True, "web": True}
            reboot(host)
            up(host, "busy", "web")


# --- the unit's own program ------------------------------------------------------------------------------------------


def test_the_unit_stops_nobody_when_the_host_does_not_go_down() -> None:
    with Topology(program=BARE) as host:
        host.new_container("web")

        said = at_shutdown(host)
        host.kill_daemon()
        said_without_daemon = at_shutdown(host)

        assert "the host is not going down; containers keep running" in said
        assert "the host is not going down; containers keep running" in said_without_daemon
        host.start_daemon()
        assert (state(host, "web"), wanted(host, "web")) == ("running", True)


def test_the_unit_has_the_daemon_stop_everything() -> None:
    with Topology(program=BARE) as host:
        host.new_container("web")

        said = at_shutdown(host, "--force")

        assert "Stopping container web" in said
        assert (state(host, "web"), wanted(host, "web")) == ("stopped", True)


def test_a_shutdown_that_is_aborted_is_no_error_of_the_unit_nor_of_the_daemon() -> None:
    with Topology(program=BARE) as host:
        host.new_container("slow")
        hold(host.run_dir, "slow")
        with subprocess.Popen(
            [
                *("nsenter", f"--net=/run/netns/{host.H}"),
                *(*host.program, *host.daemon_arguments, "--at-shutdown", "--force"),
            ],
            stderr=subprocess.PIPE,
            text=True,
        ) as unit:
            wait_until(lambda: state(host, "slow") == "stopping", "it is asked")

            host.osctl("self", "shutdown", "--abort")
            power_off(host.run_dir, "slow")

            _, said = unit.communicate(timeout=60)
        up(host, "slow")
        assert (unit.returncode, "the shutdown was aborted; containers are started again" in said) == (0, True), said
        assert "ERROR" not in said + host.log_text()


def test_with_a_dead_daemon_the_unit_stops_everything_itself_and_all_stays_wanted() -> None:
    with Topology(program=BARE) as host:
        for number, name in enumerate(("first", "second")):
            host.new_container(name, via=[f"10.100.10.{4 * number}/30"])
            host.osctl("ct", "set", "autostart", "-p", str(number), name)
        host.kill_daemon()

        said = at_shutdown(host, "--force")

        assert said.index("Stopping container second") < said.index("Stopping container first")
        host.start_daemon()
        assert states(host) == {"first": "stopped", "second": "stopped"}
        assert all_wanted(host) == {"first": True, "second": True}
        assert "not started" in host.refusal("ct", "start", "first")
        host.osctl("self", "shutdown", "--abort")
        up(host, "first", "second")


def test_a_daemon_that_hangs_is_killed_by_the_unit_and_everything_is_stopped() -> None:
    with Topology(program=BARE) as host:
        host.new_container("web")
        os.kill(host.daemon_pid, signal.SIGSTOP)

        said = at_shutdown(host, "--force")

        host.bury_daemon()
        assert "killing osctld" in said
        assert "Stopping container web" in said
        host.start_daemon()
        assert (state(host, "web"), wanted(host, "web")) == ("stopped", True)


@pytest.mark.parametrize("damage", ["the store", "the settings"])
def test_neither_a_damaged_store_nor_bad_settings_keep_the_unit_from_stopping_everything(damage: str) -> None:
    with Topology(program=BARE) as host:
        pids = [host.init_pid(host.new_container(name)) for name in ("web", "db")]
        host.kill_daemon()
        file = host.config if damage == "the settings" else host.state_dir / "osctl.sqlite"
        before = file.read_bytes()
        file.write_bytes(b"no [ sense" * 1000)

        at_shutdown(host, "--force")

        assert not any(Path(f"/proc/{pid}/ns/net").exists() for pid in pids)
        file.write_bytes(before)


def test_what_ends_while_the_daemon_is_told_to_end_stays_wanted() -> None:
    with Topology(program=BARE) as host:
        pids = [host.init_pid(host.new_container(name)) for name in ("web", "db")]

        # The last moments of a host whose units were skipped: everybody gets the same signal at once.
        os.kill(host.daemon_pid, signal.SIGSTOP)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda pid=pid: not Path(f"/proc/{pid}/ns/net").exists(), "it is gone")  # type: ignore[misc]
        os.kill(host.daemon_pid, signal.SIGTERM)
        os.kill(host.daemon_pid, signal.SIGCONT)
        assert host.stop_daemon() == 0

        with contextlib.closing(sqlite3.connect(f"file:{host.state_dir}/osctl.sqlite?mode=ro", uri=True)) as store:
            documents = [document for (document,) in store.execute("SELECT document FROM container")]
        assert all(b'"wanted":true' in each for each in documents)


# --- coming up -------------------------------------------------------------------------------------------------------


def test_autostart_starts_a_container_whether_or_not_it_ran_and_in_the_order_of_priorities() -> None:
    with Topology(program=BARE, settings="[boot]\nat_once = 1\n") as host:
        # Neither made nor called in the order in which they are started.
        for name in ("before", "later", "sooner", "never"):
            host.new_container(name, start=name == "before")
        host.osctl("ct", "set", "autostart", "-p", "20", "-d", "0", "later")
        host.osctl("ct", "set", "autostart", "-p", "3", "-d", "1", "sooner")
        host.osctl("ct", "set", "autostart", "never")
        host.osctl("ct", "unset", "autostart", "never")
        former = wait_until(host.noted_boot, "the first boot is noted")

        reboot(host, "before")

        wait_until(lambda: host.noted_boot() != former, "all is started")
        started = [line.split(": ")[1] for line in host.log_text().splitlines() if "started with the host" in line]
        assert started == ["sooner", "later", "before"]
        assert all_wanted(host) == {"before": True, "later": True, "sooner": True, "never": False}
        shown = host.osctl_json("ct", "show", "sooner")
        assert [shown[key] for key in ("autostart", "autostart_priority", "autostart_delay")] == [True, 3, 1]
        shown = host.osctl_json("ct", "show", "never")
        assert [shown[key] for key in ("autostart", "autostart_priority", "autostart_delay")] == [False, None, None]


def test_a_delay_keeps_the_next_container_waiting_and_a_shutdown_ends_the_wait() -> None:
    with Topology(program=BARE, settings="[boot]\nat_once = 1\n") as host:
        for name in ("a", "b", "c"):
            host.new_container(name, start=False)
        host.osctl("ct", "set", "autostart", "-p", "1", "-d", "1", "a")
        host.osctl("ct", "set", "autostart", "-p", "2", "-d", "3600", "b")
        host.osctl("ct", "set", "autostart", "-p", "3", "c")

        reboot(host)

        with osctl.client.connect(str(host.socket)) as daemon:
            events = daemon.events("state", state="running")
            wait_until(lambda: state(host, "b") == "running", "the second runs")
            del events
        assert state(host, "c") == "stopped"
        host.osctl("self", "shutdown", "-f")
        host.osctl("self", "shutdown", "--abort")
        up(host, "a", "b")
        assert all_wanted(host) == {"a": True, "b": True, "c": True}


def test_with_autostart_off_on_the_kernel_s_command_line_nothing_is_started_and_all_stays_wanted() -> None:
    with Topology(program=BARE) as host:
        host.new_container("web")
        host.new_container("auto", start=False)
        host.osctl("ct", "set", "autostart", "auto")
        command_line = host.directory / "cmdline"
        command_line.write_text("BOOT_IMAGE=/vmlinuz root=/dev/vda quiet osctl.autostart=off\n")
        usual = host.program
        host.program = (
            *("unshare", "--mount", "sh", "-c", 'mount --bind "$0" /proc/cmdline && exec "$@"', str(command_line)),
            *usual,
        )

        reboot(host, "web")

        wait_until(lambda: "osctl.autostart=off on the kernel command line" in host.log_text(), "it is said")
        assert states(host) == {"web": "stopped", "auto": "stopped"}
        host.osctl("ct", "start", "web")
        host.osctl("ct", "stop", "web")
        host.program = usual
        reboot(host)
        up(host, "auto")
        assert state(host, "web") == "stopped", "somebody stopped it"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("ct", "set", "autostart", "-p", "-1", "web"), "-1"),
        (("ct", "set", "autostart", "-d", "86401", "web"), "86401: invalid value for --delay"),
        (("self", "shutdown", "-t", "1201"), "1201: invalid value for --timeout"),
        (("self", "shutdown", "--abort", "--force"), "--abort cannot be used with"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(idle_host: Topology, words: tuple[str, ...], says: str) -> None:
    if not idle_host.osctl_json("ct", "ls"):
        idle_host.new_container("web", start=False)

    assert says in idle_host.refusal(*words, status=64)


def test_the_first_start_on_a_boot_warns_of_nothing() -> None:
    with Topology(program=BARE) as host:
        host.new_container("web", via=["10.100.10.100/30"])
        first = host.log_text()
        host.kill_daemon()
        host.in_namespace(host.H, "nft", "delete", "table", "inet", "osctl")
        host.start_daemon()

        assert "WARNING" not in first, first
        assert "WARNING osctld: reconcile: set table inet osctl" in host.log_text()


# --- with real guests ------------------------------------------------------------------------------------------------


SAYS_HOW_IT_ENDS = """\
#!/bin/sh
(
    trap 'echo clean >/ended; exit' TERM
    echo >/began
    while :; do sleep 1; done
) &
"""


def test_frozen_guests_are_thawed_and_power_off_cleanly(host: Topology) -> None:
    for name in ("web", "cold"):
        host.new_container(name, start=False)
        root = host.state_dir / "ct" / name / "rootfs"
        script = root / "etc/rc.local"
        script.write_text(SAYS_HOW_IT_ENDS)
        script.chmod(0o755)
        host.osctl("ct", "start", name)
        wait_until((root / "began").exists, "it runs")
    with osctl.client.connect(str(host.socket)) as daemon:
        host.in_namespace(host.H, "lxc-freeze", "-P", daemon.call("ct_show", id="cold")["lxc_path"], "-n", "cold")

    host.osctl("self", "shutdown", "--force", "--timeout", "30")

    for name in ("web", "cold"):
        assert (host.state_dir / "ct" / name / "rootfs/ended").read_text() == "clean\n"
    assert all_wanted(host) == {"web": True, "cold": True}
