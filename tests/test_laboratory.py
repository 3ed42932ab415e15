"""What `./dev machine` refuses, and what it takes for another product. The machines themselves: tests/machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from machine.laboratory import checkout, releases

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["debian-99"], "error: no release 'debian-99'; there are debian-12, debian-13, ubuntu-24.04\n"),
        (["shell", "debian-99"], "error: no release 'debian-99'; there are debian-12, debian-13, ubuntu-24.04\n"),
        (["shell", "debian-13", "naked"], "error: no kind of machine 'naked'; there are installed, prepared, bare\n"),
        (["shell", "no/where"], "error: no failed test left anything in 'no/where'\n"),
    ],
)
def test_a_machine_that_there_cannot_be_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.setenv("OSCTL_MACHINE_CACHE", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))

    command = [sys.executable, "-m", "machine.laboratory", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    assert (done.returncode, done.stderr) == (1, said)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    for name, text in ((".gitignore", "*.pyc\n"), ("src/a.py", "1"), ("src/a.pyc", "1"), ("tests/test_a.py", "1")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_a_machine_gets_what_is_not_committed_too_and_nothing_that_was_built(clone: Path) -> None:
    assert [str(each) for each in checkout.files(clone)] == [".gitignore", "src/a.py", "tests/test_a.py"]


@pytest.mark.parametrize(
    ("changed", "is_another"), [("src/a.py", True), ("src/b.py", True), ("tests/test_a.py", False)]
)
def test_a_change_of_what_is_installed_makes_another_machine_and_one_of_the_tests_does_not(
    clone: Path, changed: str, is_another: bool
) -> None:
    before = checkout.hash_of_what_is_installed(clone)

    (clone / changed).write_text("2")

    assert (checkout.hash_of_what_is_installed(clone) != before) is is_another


def test_each_usual_release_has_its_turn_on_one_of_two_days() -> None:
    of_days = [releases.in_turn(86_400.0 * day + 5).name for day in (20_000, 20_001)]

    assert sorted(of_days) == sorted(releases.USUAL)
