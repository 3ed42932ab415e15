"""What the daemon has for itself, and its children shall not have."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from osctld.shell.process import inheritance


def test_a_child_is_given_back_what_the_daemon_took(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    score = tmp_path / "oom_score_adj"
    monkeypatch.setattr(inheritance, "SCORE", score)
    monkeypatch.setattr("resource.getrlimit", lambda _: (5000, 6000))
    script = (
        "import json, resource;print(json.dumps([resource.getrlimit(7)[0], open('/proc/self/oom_score_adj').read()]))"
    )

    score.write_text("-900\n")
    words = inheritance.as_others("/usr/bin/python3", "-c", script)
    done = subprocess.run(words, capture_output=True, text=True, check=True)

    assert json.loads(done.stdout) == [1024, "0\n"]


def test_a_child_of_a_daemon_that_took_nothing_is_executed_as_it_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    score = tmp_path / "oom_score_adj"
    score.write_text("300\n")
    monkeypatch.setattr(inheritance, "SCORE", score)
    monkeypatch.setattr("resource.getrlimit", lambda _: (1024, 524288))

    assert inheritance.as_others("lxc-start", "-n", "web") == ("lxc-start", "-n", "web")
