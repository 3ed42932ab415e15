"""What a change does to the world, whatever kind it is of: in order, told by a dry run, undone, cut short anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from whole.effectful_daemon import EFFECTFUL
from whole.host import Topology, differences

#: An edit that changes the kernel on both sides, so that a note is needed too.
ADD = ("ct", "netif", "ip", "add", "web", "eth0", "1.2.3.4")
FILES = ("first", "second", "third")
STEPS = [f"{when} {name}" for name in FILES for when in ("before", "after")]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = tmp_path / "files"
    made.mkdir()
    return made


@pytest.fixture
def web(directory: Path) -> Iterator[Topology]:
    """A host on which `web` runs, and whose changes write files."""
    with Topology(program=(*EFFECTFUL, str(directory))) as topology:
        topology.new_container("web", via=["10.100.10.100/30"])
        (directory / "journal").unlink(missing_ok=True)
        yield topology


def contents(directory: Path) -> list[bytes | None]:
    return [(directory / name).read_bytes() if (directory / name).exists() else None for name in FILES]


def journal(directory: Path) -> list[str]:
    return (directory / "journal").read_text().splitlines()


def test_effects_are_done_in_their_order_and_by_their_rank(web: Topology, directory: Path) -> None:
    web.osctl(*ADD)

    assert journal(directory) == [*STEPS[:4], *(f"{each} saved" for each in STEPS[4:])]
    assert contents(directory) == [web.stored()["container"][0][1]] * 3


def test_a_dry_run_tells_effects_in_the_order_in_which_they_would_be_done(web: Topology, directory: Path) -> None:
    before = contents(directory), web.stored(), web.comparable_state("web")

    lines = web.osctl("--dry-run", *ADD).stdout.splitlines()

    assert [lines[0], *lines[-2:]] == ["# write first", "# write second", "# write third"]
    assert any("1.2.3.4" in each for each in lines[1:-2])
    assert (contents(directory), web.stored(), web.comparable_state("web")) == before
    assert not (directory / "journal").exists()


@pytest.mark.parametrize("step", STEPS[:4])
def test_an_effect_that_fails_before_the_save_undoes_those_before_it(web: Topology, directory: Path, step: str) -> None:
    before = contents(directory), web.stored(), web.comparable_state("web")
    (directory / "order").write_text(f"refuse {step}")

    result = web.osctl(*ADD, check=False)

    assert (result.status, result.stderr) == (1, f"error: {step}: refused by the test\n")
    done = [name for name in FILES[:2] if f"after {name}" in STEPS[: STEPS.index(step)]]
    assert [each for each in journal(directory) if each.startswith("undo")] == [f"undo {each}" for each in done[::-1]]
    assert (contents(directory), web.stored()) == before[:2]
    assert not differences(before[2], web.comparable_state("web"))


def test_an_effect_that_fails_after_the_save_fails_nobody(web: Topology, directory: Path) -> None:
    (directory / "order").write_text("refuse before third")

    web.osctl(*ADD)

    assert "undo first" not in journal(directory)
    assert "web: before third: refused by the test" in web.log_text()
    assert "1.2.3.4" in web.osctl("ct", "netif", "ip", "ls", "web").stdout


@pytest.mark.parametrize("step", STEPS)
def test_killed_between_any_two_effects_the_kernel_is_as_the_store_says(
    web: Topology, directory: Path, step: str
) -> None:
    (directory / "order").write_text(f"die {step}")

    assert web.osctl(*ADD, check=False).status != 0
    is_saved = journal(directory)[-1].endswith(" saved")
    web.bury_daemon()
    web.start_daemon()

    assert ("1.2.3.4" in web.osctl("ct", "netif", "ip", "ls", "web").stdout) == is_saved == (step in STEPS[4:])
    assert ("1.2.3.4/32" in web.osctl("ct", "netif", "route", "ls", "web").stdout) == is_saved
    assert web.osctl("net", "reconcile").stdout == "nothing to repair\n"
    assert any(each["local"] == "1.2.3.4" for link in web.guest_ip_json("web", "addr") for each in link["addr_info"]) \
        == is_saved  # fmt: skip
