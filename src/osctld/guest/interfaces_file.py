"""/etc/network/interfaces, which several tools read, and the files that it includes: see interfaces(5).

What the tenant says there of an interface of ours conflicts with the configuration, and becomes a comment; what ours
are is appended as a block. Commands of `ip` change nothing where all is as wanted, and need no tool to undo them.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Collection, Iterable, Iterator, Sequence

from osctld.core.config.guest_side import GuestInterface
from osctld.core.root_files import FoundFiles
from osctld.guest.ip_commands import has_busybox_ip, ip_commands
from osctld.guest.stack import Stack, WantedFile
from osctld.guest.tenant_text import edited, without_ours

INTERFACES = "/etc/network/interfaces"
DEBIAN = frozenset({"debian", "devuan", "ubuntu"})

#: Lists of interfaces, and what begins a stanza with lines of its own.
_LISTS = re.compile(r"auto|allow-[a-z-]+|no-auto-down|no-scripts")
_STANZAS = ("iface", "mapping", "template", "rename")
#: What run-parts(8) would run, which is what `source-directory` reads.
_RUN_PARTS = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
#: What a shell would do with a path is not done here, except for `*` and `?` in its last part.
_PLAIN_PATH = re.compile(r"/[A-Za-z0-9/._+@:-]*", re.ASCII)
_PLAIN_NAME = re.compile(r"[A-Za-z0-9._+@:*?-]+", re.ASCII)


class InterfacesFile(Stack):
    """A tool that reads it."""

    #: Whether interfaces are marked `auto`, and kept by `ifdown -a`.
    is_automatic = False
    stays_up = False

    def patterns(self, found: FoundFiles) -> Iterable[str]:
        yield INTERFACES
        for path in _read(found):
            yield from _included(without_ours(found.text(path)) or "", directory=path.rpartition("/")[0])

    def files(self, interfaces: Sequence[GuestInterface], found: FoundFiles) -> Iterator[WantedFile]:
        names = {each.name for each in interfaces}
        is_busybox = has_busybox_ip(found)
        spoken_for: set[str] = set()
        texts = {path: without_ours(found.text(path)) or "" for path in _read(found)}
        for text in texts.values():
            spoken_for.update(_automatic_beside(text, names))
        has_loopback = any(re.search(r"^\s*iface\s+lo\s", text, re.MULTILINE) for text in texts.values())

        def block(_: str) -> Iterator[str]:
            if not interfaces:
                return
            if not has_loopback:
                yield from ("auto lo", "iface lo inet loopback")
            if spoken_for:
                yield f"auto {' '.join(sorted(spoken_for))}"
            for each in interfaces:
                if self.is_automatic:
                    yield f"auto {each.name}"
                if self.stays_up:
                    yield f"no-auto-down {each.name}"
                yield f"iface {each.name} inet manual"
                yield from (f"  up {command}" for command in ip_commands(each, is_busybox=is_busybox))

        def conflicts(text: str) -> list[bool]:
            return _conflicts(text, names)

        main = found.files.get(INTERFACES)
        if main is not None or interfaces:
            wanted = edited(found.text(INTERFACES), path=INTERFACES, conflicts=conflicts, block=block)
            yield WantedFile(INTERFACES, wanted)
        for path in texts:
            if path != INTERFACES:
                wanted = edited(found.text(path), path=path, conflicts=conflicts, block=lambda _: ())
                yield WantedFile(path, wanted)


def _read(found: FoundFiles) -> list[str]:
    """The main file, and all that are included from there, as far as they were read."""
    reached: list[str] = []
    waiting = [INTERFACES]
    while waiting:
        path = waiting.pop(0)
        if path in reached or path not in found.files:
            continue
        reached.append(path)
        text = without_ours(found.text(path)) or ""
        for pattern in _included(text, directory=path.rpartition("/")[0]):
            waiting += sorted(each for each in found.files if _matches(each, pattern))
    return reached


def _matches(path: str, pattern: str) -> bool:
    directory, _, name = path.rpartition("/")
    wanted, _, glob = pattern.rpartition("/")
    return directory == wanted and fnmatch.fnmatchcase(name, glob)


def _included(text: str, *, directory: str) -> Iterator[str]:
    for words in _statements(text):
        match words:
            case ["source", *paths]:
                yield from (found for each in paths if (found := _path(each, directory)) is not None)
            case ["source-directory", *paths]:
                for each in paths:
                    found = _path(each, directory)
                    if found is not None:
                        yield f"{found.rstrip('/')}/*"


def _path(word: str, directory: str) -> str | None:
    path = word if word.startswith("/") else f"{directory}/{word}"
    where, _, name = path.rpartition("/")
    is_plain = _PLAIN_PATH.fullmatch(f"{where}/") and _PLAIN_NAME.fullmatch(name)
    return path if is_plain and ".." not in path.split("/") and len(path) <= 255 else None


def _statements(text: str) -> Iterator[list[str]]:
    yield from (line.split() for line in text.split("\n") if not line.lstrip().startswith("#"))


def _names(word: str, names: Collection[str]) -> bool:
    """Whether a word of `auto` or `iface` is one of these interfaces. `all` and `/PATTERN` are several (ifupdown)."""
    if word == "all":
        return bool(names)
    pattern = word.removeprefix("/").partition("=")[0]
    return any(fnmatch.fnmatchcase(each, pattern) for each in names)


def _automatic_beside(text: str, names: Collection[str]) -> set[str]:
    """Interfaces of the tenant that share an `auto` with ours, whose line becomes a comment."""
    beside = set()
    for words in _statements(text):
        if words[:1] == ["auto"] and any(_names(each, names) for each in words[1:]):
            beside |= {each for each in words[1:] if re.fullmatch(r"[\w.:-]+", each) and not _names(each, names)}
    return beside


def _conflicts(text: str, names: Collection[str]) -> list[bool]:
    """Of each line, whether it says something of these interfaces."""
    answers: list[bool] = []
    in_stanza = is_continued = False
    for line in text.split("\n"):
        words = line.split()
        if is_continued:
            answers.append(answers[-1])
        elif not words or words[0].startswith("#"):
            answers.append(False)
            continue  # a comment is not continued
        elif words[0] in _STANZAS:
            in_stanza = any(_names(each, names) for each in _subjects(words))
            answers.append(in_stanza)
        elif _LISTS.fullmatch(words[0]):
            in_stanza = False
            answers.append(any(_names(each, names) for each in words[1:]))
        elif words[0] in ("source", "source-directory", "source-dir"):
            in_stanza = False
            answers.append(False)
        else:
            answers.append(in_stanza)
        is_continued = line.endswith("\\")
    return answers


def _subjects(words: list[str]) -> list[str]:
    return words[1:2] if words[0] == "iface" else words[1:]
