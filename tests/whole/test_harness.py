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
