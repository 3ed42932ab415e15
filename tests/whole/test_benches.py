"""Benchmarks, which nobody runs every day: each still starts, measures and tells, with next to nothing to do."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent

#: What makes each one short.
SMALL = {
    "authority": ("--runs", "3", "--routes", "300"),
    "boot": ("--bare", "--containers", "3"),
    "client_start": ("--runs", "31"),
    "commands": ("--runs", "3"),
    "container_start": ("4",),
    "data_path": ("--rounds", "2", "--seconds", "0.1", "--containers", "1", "2"),
    "kernel_batch": ("--routes", "300", "--rounds", "2"),
    "large_hosts": ("--rounds", "2", "--interfaces", "3"),
    "many_routes": ("--routes", "300", "--rounds", "2"),
    "packet_filter_elements": ("--runs", "2"),
    "status": ("--rounds", "2", "--interfaces", "3"),
    "waiting": ("--routes", "300"),
}
#: A test of its own, tests/whole/test_state_machine.py, does what this one does for longer.
ELSEWHERE = {"state_machine"}


def test_each_benchmark_is_tried() -> None:
    assert {each.stem for each in Path(ROOT, "bench").glob("*.py")} == SMALL.keys() | ELSEWHERE


@pytest.mark.requires_kernel("nftables fib")
@pytest.mark.parametrize("name", SMALL)
def test_it_runs_to_its_end_and_tells_figures(name: str) -> None:
    """Goals are missed with so few repetitions, which is status 1."""
    done = subprocess.run(
        [sys.executable, f"bench/{name}.py", *SMALL[name]], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert "Traceback" not in done.stderr
    assert done.returncode in (0, 1), done.stderr
    assert re.search(r"\d\.\d", done.stdout), done.stdout + done.stderr
