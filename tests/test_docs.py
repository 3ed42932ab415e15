"""What the documents say is true of the program."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs" / "man").iterdir())


def test_the_list_of_commands_and_the_manual_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "generate.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.stderr == ""
    assert done.returncode == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_page_of_the_manual_is_right_in_the_eyes_of_groff(page: Path) -> None:
    command = ["groff", "-K", "utf8", "-T", "utf8", "-ww", "-man", "-rLL=100n", str(page)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)

    assert done.stderr == ""
    assert done.returncode == 0
    text = re.sub(r"\x1b\[[0-9;]*m|.\x08", "", done.stdout)
    name, number = page.name.rsplit(".", 1)
    assert text.startswith(f"{name.upper()}({number})")
    assert f"{name} - " in text


def test_every_page_that_a_page_refers_to_is_there() -> None:
    ours = {"{}({})".format(*page.name.rsplit(".", 1)) for page in PAGES}
    assert len(ours) > 8

    for page in PAGES:
        named = re.findall(r"osctl[\w.\\-]*\(\d\)", page.read_text().replace("\\-", "-"))
        assert set(named) <= ours, page.name


def test_links_between_documents_lead_somewhere() -> None:
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    assert len(documents) > 5

    broken = [
        f"{document.relative_to(ROOT)}: {target}"
        for document in documents
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text())
        if "://" not in target and not (document.parent / target).exists()
    ]

    assert broken == []
