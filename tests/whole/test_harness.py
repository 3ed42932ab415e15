"""What the other tests of this folder stand on."""

from __future__ import annotations

import os
from pathlib import Path

from whole.host import HOST_4, HOST_6, WORLD_4, WORLD_6, Topology, run


def test_host_and_world_reach_each_other_through_the_router_and_a_capture_sees_it() -> None:
    with Topology(start_daemon=False) as host, host.capture(host.R, "down0", "icmp or icmp6") as capture:
        assert host.ping(host.H, WORLD_4) == 3
        assert host.ping(host.H, WORLD_6) == 3
        assert host.ping(host.R, HOST_4, source=WORLD_4) == 3
        assert host.ping(host.R, HOST_6, source=WORLD_6) == 3
        assert host.ping(host.R, "192.0.2.77", count=1, seconds=0.2) == 0

        capture.wait_for(f"{HOST_4} > {WORLD_4}: ICMP echo request")
        capture.wait_for(f"{WORLD_6} > {HOST_6}: ICMP6, echo request")


def test_a_host_is_gone_with_everything_on_it_even_when_processes_hold_on() -> None:
    with Topology(start_daemon=False) as host:
        host.in_namespace(host.H, "sh", "-c", "setsid --fork sleep 1000 >/dev/null 2>&1")
        mounted = host.directory / "mounted"
        mounted.mkdir()
        run("mount", "-t", "tmpfs", "none", str(mounted))
        state = host.kernel_state()

    assert any(HOST_4 in line for line in state["addresses"])
    assert not host.directory.exists()
    assert not {host.H, host.R} & set(os.listdir("/run/netns"))
    assert str(mounted) not in Path("/proc/self/mountinfo").read_text()


def test_containers_that_run_without_a_daemon_are_gone_with_their_host() -> None:
    with Topology() as host:
        host.new_container("web", via=["10.100.10.100/30", "fd00:1::/126"], addresses=["1.2.3.4/32"])
        init = host.init_pid("web")
        host.kill_daemon()
        assert host.ping(host.R, "1.2.3.4") == 3

    assert not Path(f"/proc/{init}").exists() or Path(f"/proc/{init}/stat").read_text().rpartition(") ")[2][0] == "Z"


def test_states_of_host_and_guest_are_the_same_after_a_new_start(host: Topology) -> None:
    host.new_container("web", via=["10.100.10.100/30", "fd00:1::/126"], addresses=["1.2.3.4/32", "2001:db8:2::4/128"])
    before_host, before_guest = host.kernel_state(), host.guest_state("web")

    host.osctl("ct", "stop", "-k", "web")
    assert host.kernel_state() != before_host
    host.osctl("ct", "start", "web")

    assert host.kernel_state() == before_host
    assert host.guest_state("web") == before_guest
    assert any("1.2.3.4" in line for line in before_guest["addresses"])
    assert any("1.2.3.4" in line for line in before_host["routes"])


def test_a_refusal_is_one_line_and_a_guest_speaks_through_the_client(host: Topology) -> None:
    host.new_container("web", via=["10.100.10.100/30"], addresses=["1.2.3.4/32"])

    assert "nobody" in host.refusal("ct", "start", "nobody")
    assert host.guest("web", "sh", "-c", "cat; exit 3", check=False, stdin="words").status == 3
    assert host.guest("web", "cat", stdin="words").stdout == "words"
    assert host.guest_ping("web", WORLD_4, count=1) == 1
    host.restart_daemon()
    assert host.guest("web", "hostname").stdout == "web\n"
