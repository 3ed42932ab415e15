"""What each network tool has to say, and which ones there are: those that have a file in `stacks/`."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar

import msgspec

import osctld.guest.stacks
from osctld.core.config.guest_side import GuestInterface
from osctld.core.root_files import FoundFiles


class WantedFile(msgspec.Struct, frozen=True):
    """A file as it should be; without a text there should be none. What the tenant wrote in it is in the text."""

    path: str
    text: str | None
    mode: int = 0o644


class Stack:
    """A network tool, as it is found in a root directory before anything of it runs."""

    #: That of its file.
    name: ClassVar[str]
    #: Distributions, by their ID in os-release(5), that have a program of this tool where others have one of another
    #: tool; empty if its program is called like no other.
    distributions: ClassVar[frozenset[str]] = frozenset()
    #: What must be there: of each of these at least one path.
    evidence: ClassVar[tuple[tuple[str, ...], ...]]
    #: Tools whose files are the same, and that are not used if this one is there.
    instead_of: ClassVar[frozenset[str]] = frozenset()
    #: Whether its files make it leave interfaces alone, rather than configure them.
    keeps_off: ClassVar[bool] = False
    #: A command of the guest's shell after which the running tool knows a changed file; it fails if that did not work.
    reload: ClassVar[str] = ""

    @property
    def programs(self) -> frozenset[str]:
        """All paths that it has to know about whether they are there."""
        return frozenset(path for paths in self.evidence for path in paths)

    def is_installed(self, found: FoundFiles) -> bool:
        return all(any(path in found.programs for path in paths) for paths in self.evidence)

    def patterns(self, found: FoundFiles) -> Iterable[str]:
        """Paths of files that it must have read, given what was read already; a last part may be a pattern."""
        raise NotImplementedError

    def files(self, interfaces: Sequence[GuestInterface], found: FoundFiles) -> Iterator[WantedFile]:
        """All files as they should be. Without interfaces: as they were before."""
        raise NotImplementedError


@functools.cache
def stacks() -> Mapping[str, Stack]:
    """All of them by name. Raises TypeError for one that is not called like its file."""
    found = {}
    for module_info in pkgutil.iter_modules(osctld.guest.stacks.__path__):
        module = importlib.import_module(f"{osctld.guest.stacks.__name__}.{module_info.name}")
        stack = module.STACK
        if stack.name != module_info.name:
            raise TypeError(f"{module.__name__} holds {stack.name!r}: a tool and its file have one name")
        found[stack.name] = stack
    return MappingProxyType(found)
