"""Files below a guest's root directory: as they were found there, as they should be, and the difference as text.

What is found was written by the tenant, who is not trusted: each file has been read with a limit, and one that is no
regular file, or that nobody may edit, has a reason instead of a text.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence

import msgspec

#: A difference of more lines is told as a number: difflib takes the square of their number.
_MOST_LINES = 1000


class FoundFile(msgspec.Struct, frozen=True):
    """A file as it was found. `text` is None if it is to be left alone, for the reason in `why_left`."""

    text: str | None
    mode: int = 0o644
    why_left: str = ""

    @property
    def is_locked(self) -> bool:
        """Whether its owner may not write it: whoever ran `chmod u-w` wants to keep it as it is."""
        return not self.mode & 0o200


class FoundFiles(msgspec.Struct, frozen=True):
    """What was asked for: `files` by their absolute paths inside, and what of the `programs` is there.

    A program has the name of the file that its path leads to: `busybox` for many."""

    files: Mapping[str, FoundFile] = {}
    programs: Mapping[str, str] = {}
    #: The text of os-release(5), or an empty one.
    os_release: str = ""

    def text(self, path: str) -> str | None:
        """None: there is none, or it is to be left alone."""
        found = self.files.get(path)
        return found.text if found is not None else None


class FileChange(msgspec.Struct, frozen=True):
    """Make the content of a file another one. `before` is None if there is none, `after` if none is to stay."""

    path: str
    before: str | None
    after: str | None
    mode: int = 0o644

    def lines(self) -> Iterator[str]:
        """The change as a unified diff."""
        before, after = (_lines(each) for each in (self.before, self.after))
        if len(before) + len(after) > _MOST_LINES:
            yield f"--- {self.path}: {len(before)} lines"
            yield f"+++ {self.path}: {len(after)} lines"
            return
        was, will_be = ("/dev/null" if text is None else self.path for text in (self.before, self.after))
        for line in difflib.unified_diff(before, after, was, will_be, lineterm=""):
            # The tenant wrote it: a terminal must not obey it.
            is_plain = line.replace("\t", " ").isprintable()
            yield line if is_plain else line.encode("unicode_escape").decode("ascii")


def _lines(text: str | None) -> Sequence[str]:
    return text.removesuffix("\n").split("\n") if text else ()
