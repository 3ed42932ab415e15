"""Which files of a guest are to be changed, for whatever tools were found in it."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator, Sequence

import msgspec

from osctld.core.config.guest_side import GuestInterface
from osctld.core.root_files import FileChange, FoundFiles
from osctld.guest.ip_commands import IP_PROGRAMS
from osctld.guest.os_release import parse_os_release
from osctld.guest.stack import Stack, WantedFile, stacks

#: Distributions in which nothing that runs by itself configures the network.
_WITHOUT_TOOL = frozenset({"busybox"})


class GuestFilesPlan(msgspec.Struct, frozen=True):
    """`tools` were found. `left` says of files that should change why they do not, one sentence each."""

    tools: tuple[str, ...] = ()
    changes: tuple[FileChange, ...] = ()
    left: tuple[str, ...] = ()
    #: What is inside instead of a known tool, if that is something that is not known.
    unknown: str = ""
    #: Commands of the guest's shell by which running tools learn of the changes.
    reloads: tuple[str, ...] = ()


@functools.cache
def asked_programs() -> frozenset[str]:
    """Paths of which it must be known whether they are there."""
    return frozenset(IP_PROGRAMS).union(*(each.programs for each in stacks().values()))


def asked_files(found: FoundFiles) -> frozenset[str]:
    """Paths of files that must have been read. A last part may be a pattern, as of fnmatch."""
    return frozenset(path for each in stacks().values() for path in each.patterns(found))


def plan_guest_files(
    interfaces: Sequence[GuestInterface], found: FoundFiles, *, only_keeps_off: bool = False
) -> GuestFilesPlan:
    """What makes the tools that were found agree with these interfaces; without any, what takes all of it back.

    With `only_keeps_off`, of those tools alone that leave interfaces alone then.
    """
    installed = installed_stacks(found)
    changes, left, reloads = [], [], []
    for stack, wanted in _wanted_files(interfaces, found, installed):
        there = found.files.get(wanted.path)
        if only_keeps_off and not stack.keeps_off:
            continue
        if there is not None and there.text is None:
            if wanted.text is not None:
                left.append(f"'{wanted.path}': {there.why_left}")
            continue
        before = there.text if there is not None else None
        if wanted.text == before:
            continue
        if there is not None and there.is_locked:
            left.append(f"'{wanted.path}': its owner may not write it (chmod u-w)")
            continue
        mode = there.mode if there is not None else wanted.mode
        changes.append(FileChange(wanted.path, before, wanted.text, mode))
        if stack in installed and stack.reload and stack.reload not in reloads:
            reloads.append(stack.reload)
    # What is new before what is no longer wanted: a tool that looks in between finds one of the two.
    changes.sort(key=lambda each: each.after is None)
    names = tuple(each.name for each in installed)
    return GuestFilesPlan(names, tuple(changes), tuple(left), _unknown(found, installed), tuple(reloads))


def installed_stacks(found: FoundFiles) -> tuple[Stack, ...]:
    """The tools inside. Where two of them have the same program, the distribution says which it is."""
    names = parse_os_release(found.os_release).names
    there = [each for each in stacks().values() if each.is_installed(found)]
    named = [each for each in there if each.distributions & names]
    if named:
        there = [each for each in there if not each.distributions or each in named]
    replaced = frozenset(name for each in there for name in each.instead_of)
    return tuple(each for each in there if each.name not in replaced)


def _unknown(found: FoundFiles, installed: Collection[Stack]) -> str:
    release = parse_os_release(found.os_release)
    known = _WITHOUT_TOOL.union(*(each.distributions for each in stacks().values()))
    return release.name if not installed and not release.names & known else ""


def _wanted_files(
    interfaces: Sequence[GuestInterface], found: FoundFiles, installed: Collection[Stack]
) -> Iterator[tuple[Stack, WantedFile]]:
    """Of tools that are not there: nothing of ours. A file that another one has is that one's."""
    wanted = {}
    for stack in sorted(stacks().values(), key=lambda each: (each in installed, each.name)):
        for each in stack.files(interfaces if stack in installed else (), found):
            wanted[each.path] = (stack, each)
    yield from (wanted[path] for path in sorted(wanted))
