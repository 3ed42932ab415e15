"""The demonstration is a promise of the front page: it is run like everything else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
DEMO = [sys.executable, "-u", str(ROOT / "demo" / "routed_veth.py")]


@pytest.mark.time_limit(120)
def test_every_step_of_the_demonstration_holds() -> None:
    done = subprocess.run(DEMO, capture_output=True, text=True, check=False, timeout=100)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "osctl ct netif new routed --via 10.100.10.100/30 myct01 eth0\n" in done.stdout
    assert "osctl ct netif ip add myct01 eth0 1.2.3.4/32\n" in done.stdout
    assert "\033[" not in done.stdout  # colours are for terminals


@pytest.mark.time_limit(120)
def test_a_demonstration_that_is_interrupted_leaves_nothing_behind() -> None:
    with subprocess.Popen(
        DEMO, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if "osctl ct start" in line:
                break
        os.kill(demo.pid, signal.SIGTERM)
        demo.communicate(timeout=60)

    assert demo.returncode == 128 + signal.SIGTERM
