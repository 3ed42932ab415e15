"""What `.ci/run` asks of the test runner."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent

DEV = """#!/bin/sh
case $1 in
    machine) for each; do case $each in --keep-reports=*) touch "${each#*=}" ;; esac; done ;;
    test) shift; printf '%s\\n' "$@" ;;
esac
"""


def test_the_runner_understands_what_is_asked_of_it_once_the_machine_tests_have_been_reported(tmp_path: Path) -> None:
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci/run", tmp_path / ".ci/run")
    (tmp_path / "dev").write_text(DEV)
    (tmp_path / "dev").chmod(0o755)
    asked = subprocess.run([tmp_path / ".ci/run"], check=True, capture_output=True, text=True).stdout.split()
    reports = ".cache/machine/reports"
    assert (tmp_path / reports).exists()

    # The options of ours are declared below tests/, which pytest finds only where nothing else looks like a place of
    # tests: a file that exists and stands apart from its option does.
    words = [word.replace(reports, str(tmp_path / reports)) for word in asked]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words, "--markers"], cwd=ROOT, check=False, capture_output=True, text=True
    )

    assert (done.returncode, done.stderr) == (0, "")
