"""The linters are tests, so that one command proves everything."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def complaints(*argv: str) -> str:
    """What a program says when it is not content; empty when it is."""
    done = subprocess.run(
        argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=600
    )
    return "" if done.returncode == 0 else done.stdout or f"status {done.returncode}"


def test_ruff_is_content() -> None:
    assert complaints(sys.executable, "-m", "ruff", "check", "--output-format", "concise", ".") == ""


@pytest.mark.time_limit(600)
def test_mypy_strict_is_content_with_program_and_tests() -> None:
    assert complaints(sys.executable, "-m", "mypy", "--no-error-summary") == ""


def test_the_shell_scripts_parse() -> None:
    scripts = [ROOT / "dev", ROOT / ".ci" / "run"]

    assert [complaints("sh", "-n", str(script)) for script in scripts] == [""] * len(scripts)
