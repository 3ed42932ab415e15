"""osctld itself with bare containers, whose changes have effects of one more kind: files.

The first argument names a directory. Each change of a running container writes the files `first` and `second` there
before it is saved, `third` after that, and each step goes to `journal`, with whether the change was on disk by then. A
file `order` there says what shall happen at a step: `refuse STEP`, `die STEP`; when it has happened the file is gone.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import msgspec

if __name__ == "__main__":
    import osctld.__main__  # noqa: F401 - for what it does

from osctld import service
from osctld.core.errors import ApplyFailed
from osctld.core.plan.planner import Plan
from osctld.daemon import perform
from osctld.daemon.effects import Effect, Ports, Rank
from osctld.daemon.kernel_effects import kernel_effects
from osctld.daemon.records import Kept

sys.path.insert(0, str(Path(__file__).parent.parent))

from whole.bare_daemon import BareEngine, BareRootDirectories

#: What to give to `Topology(program=...)`, with the directory behind it.
EFFECTFUL = (sys.executable, __file__)


def step(directory: Path, name: str, document: bytes) -> None:
    """Write down that a step is done now, unless it was ordered otherwise."""
    (store,) = (Path(word) for word in sys.argv if word.endswith("state"))
    with sqlite3.connect(f"file:{store}/osctl.sqlite?mode=ro", uri=True) as connection:
        documents = [row[0] for row in connection.execute("SELECT document FROM container")]
    with (directory / "journal").open("a") as journal:
        journal.write(f"{name}{' saved' if document in documents else ''}\n")
    order = directory / "order"
    what, _, at = order.read_text().partition(" ") if order.exists() else ("", "", "")
    if at == name:
        order.unlink()
        if what == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        raise ApplyFailed(f"{name}: refused by the test")


class FileEffect(msgspec.Struct, frozen=True):
    path: Path
    before: bytes | None
    after: bytes
    rank: Rank

    def text(self) -> str:
        return f"# write {self.path.name}\n"

    async def apply(self, ports: Ports) -> None:  # noqa: ARG002 - files need none
        step(self.path.parent, f"before {self.path.name}", self.after)
        self.path.write_bytes(self.after)
        try:
            step(self.path.parent, f"after {self.path.name}", self.after)
        except ApplyFailed:
            self._restore()
            raise

    async def undo(self, ports: Ports) -> None:  # noqa: ARG002
        step(self.path.parent, f"undo {self.path.name}", self.after)
        self._restore()

    def _restore(self) -> None:
        if self.before is None:
            self.path.unlink()
        else:
            self.path.write_bytes(self.before)


class Effects(msgspec.Struct, frozen=True):
    directory: Path
    #: Beside `FileEffect.rank`, so that the field is one that a struct may have, too.
    names: ClassVar[tuple[tuple[str, Rank], ...]] = (
        ("third", Rank.AFTER_SAVE), ("first", Rank.BEFORE_SAVE), ("second", Rank.BEFORE_SAVE),
    )  # fmt: skip

    def __call__(self, changes: Sequence[Kept], plan: Plan) -> tuple[Effect, ...]:
        third, first, second = (self.file(name, changes[0], rank) for name, rank in self.names)
        return (third, first, *kernel_effects(changes, plan), second)

    def file(self, name: str, kept: Kept, rank: Rank) -> FileEffect:
        path = self.directory / name
        return FileEffect(path, path.read_bytes() if path.exists() else None, kept.document, rank)


if __name__ == "__main__":
    perform.kernel_effects = Effects(Path(sys.argv.pop(1)))  # type: ignore[attr-defined]
    service.LxcEngine = BareEngine  # type: ignore[attr-defined,assignment]
    service.RootDirectories = BareRootDirectories  # type: ignore[attr-defined]
    sys.exit(service.main())
