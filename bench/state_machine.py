"""A long run of random commands on real containers, as tests/whole/test_state_machine.py makes a short one.

    python3 bench/state_machine.py [STEPS [SEED]]

Two hosts side by side, with seeds that nobody has tried before unless one is given. After each command the kernel, the
store and the lists have to be as they should be; what is not, is printed as a short sequence that leads to it, and the
next run begins with that.
Prints how often each transition was met and the commands per second, checks of everything included. Needs root.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

WORKERS = 2
STEPS = 200_000


def main() -> int:
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else STEPS
    first = int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().randrange(2**32)
    root = Path(__file__).parent.parent
    covered: Counter[tuple[str, ...]] = Counter()
    with tempfile.TemporaryDirectory() as directory:
        reports = [Path(directory) / str(first + number) for number in range(WORKERS)]
        workers = [
            subprocess.Popen(
                [
                    *(sys.executable, "-m", "whole.state_machine", "--seed", report.name),
                    *("--steps", str(steps // WORKERS), "--report", str(report)),
                ],
                cwd=root / "tests",
                env={**os.environ, "PYTHONPATH": f"{root / 'src'}:{root / 'tests'}"},
            )
            for report in reports
        ]
        try:
            failed = sum(worker.wait() != 0 for worker in workers)
        finally:
            # When this is interrupted: a worker then takes its host away.
            for worker in workers:
                worker.terminate()
                worker.wait()
        seconds = 0.0
        for report in filter(Path.exists, reports):
            told = json.loads(report.read_text())
            seconds = max(seconds, told["seconds"])
            for *key, count in told["covered"]:
                covered[tuple(key)] += count
    for key, count in sorted(covered.items()):
        print(f"{count:8} {', '.join(key)}")
    print(
        f"{covered.total()} commands, {len(covered)} transitions, seeds from {first}:"
        f" {covered.total() / (seconds or 1):.0f} commands a second, {failed} of {WORKERS} runs found something"
    )
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
