"""Root directories and their records: whatever was cut off, the records say what becomes of what is found."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from osctld.core.errors import ApplyFailed
from osctld.shell.rootfs import roots as roots_module
from osctld.shell.rootfs.roots import RootDirectories


class Roots(RootDirectories):
    """Each root has one file in it."""

    async def fill(self, root: Path, *, archive: int | None) -> None:  # noqa: ARG002 - nothing to unpack
        root.mkdir()
        (root / "precious").write_text("content")


@pytest.fixture
def roots(tmp_path: Path) -> Roots:
    found = Roots(tmp_path)
    asyncio.run(found.collect(()))
    return found


def there(state: Path) -> list[str]:
    """All files and empty directories."""
    return sorted(
        str(each.relative_to(state)) for each in state.rglob("*") if each.is_file() or not any(each.iterdir())
    )


EMPTY = ["building", "ct", "trash"]
WEB = "ct/web/rootfs/precious"


def built(roots: Roots, state: Path) -> None:
    asyncio.run(roots.build("web", archive=None))
    assert there(state) == ["building/web/placed", WEB, "trash"]


def test_a_root_that_is_built_is_in_its_place_and_not_taken_for_recorded(roots: Roots, tmp_path: Path) -> None:
    built(roots, tmp_path)

    asyncio.run(Roots(tmp_path).collect(()))

    assert there(tmp_path) == EMPTY


def test_a_root_with_a_record_stays_although_nobody_said_so(roots: Roots, tmp_path: Path) -> None:
    built(roots, tmp_path)

    asyncio.run(Roots(tmp_path).collect({"web"}))

    assert there(tmp_path) == ["building", WEB, "trash"]


def test_a_root_that_is_kept_stays_with_and_without_a_record(roots: Roots, tmp_path: Path) -> None:
    built(roots, tmp_path)
    asyncio.run(roots.keep("web"))

    # A store that was lost is no reason to delete anything.
    asyncio.run(Roots(tmp_path).collect(()))

    assert there(tmp_path) == ["building", WEB, "trash"]


def test_a_root_that_is_being_made_is_removed_and_one_of_its_name_stays(roots: Roots, tmp_path: Path) -> None:
    (tmp_path / "ct/web").mkdir()
    (tmp_path / "ct/web/foreign").touch()
    (tmp_path / "building/web/made/rootfs").mkdir(parents=True)

    asyncio.run(roots.collect(()))

    assert there(tmp_path) == ["building", "ct/web/foreign", "trash"]


def test_a_root_that_was_set_aside_comes_back_while_there_is_a_record(roots: Roots, tmp_path: Path) -> None:
    built(roots, tmp_path)
    asyncio.run(roots.keep("web"))
    asyncio.run(roots.set_aside("web"))
    assert there(tmp_path) == ["building", "ct", "trash/web/rootfs/precious"]

    asyncio.run(Roots(tmp_path).collect({"web"}))

    assert there(tmp_path) == ["building", WEB, "trash"]


def test_a_root_that_was_set_aside_is_removed_without_a_record(roots: Roots, tmp_path: Path) -> None:
    built(roots, tmp_path)
    asyncio.run(roots.keep("web"))
    asyncio.run(roots.set_aside("web"))

    asyncio.run(Roots(tmp_path).collect(()))

    assert there(tmp_path) == EMPTY


def test_a_root_in_the_place_of_something_else_is_refused_and_nothing_is_left(roots: Roots, tmp_path: Path) -> None:
    (tmp_path / "ct/web").mkdir()
    (tmp_path / "ct/web/foreign").touch()

    with pytest.raises(ApplyFailed, match=f"'{tmp_path}/ct/web': already exists"):
        asyncio.run(roots.build("web", archive=None))

    assert there(tmp_path) == ["building", "ct/web/foreign", "trash"]


@pytest.mark.parametrize("call", ["sync_file_system", "sync_directory"])
def test_a_disk_that_does_not_take_what_was_written_is_told_and_nothing_has_changed(
    roots: Roots, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def fail(_: object) -> None:
        raise OSError(5, "Input/output error")

    work: Callable[[], None]
    if call == "sync_file_system":
        before = there(tmp_path)
        work = lambda: asyncio.run(roots.build("web", archive=None))  # noqa: E731 - one of two
    else:
        built(roots, tmp_path)
        before = there(tmp_path)
        work = lambda: asyncio.run(roots.set_aside("web"))  # noqa: E731
    monkeypatch.setattr(roots_module, call, fail)

    with pytest.raises(ApplyFailed, match="Input/output error"):
        work()

    assert there(tmp_path) == before
