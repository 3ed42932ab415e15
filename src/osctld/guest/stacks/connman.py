"""ConnMan: it leaves our interfaces alone. Without that it takes all addresses and routes off them at boot.

Its list replaces one that is built in, which is therefore repeated (connman.conf(5)). Entries are prefixes of names. A
file may have a group more than once, and then the last value of a key counts: nothing of the tenant's is a comment but
the list itself, which is a part of ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from osctld.core.config.guest_side import GuestInterface
from osctld.core.root_files import FoundFiles
from osctld.guest.stack import Stack, WantedFile
from osctld.guest.tenant_text import edited

_PATH = "/etc/connman/main.conf"
_BUILT_IN = ("vmnet", "vboxnet", "virbr", "ifb", "ve-", "vb-")
_LIST = re.compile(r"\s*NetworkInterfaceBlacklist\s*=(.*)")


class Connman(Stack):
    name = "connman"
    keeps_off = True
    evidence = (("/usr/sbin/connmand",),)

    def patterns(self, found: FoundFiles) -> Iterable[str]:  # noqa: ARG002 - the same in all
        return (_PATH,)

    def files(self, interfaces: Sequence[GuestInterface], found: FoundFiles) -> Iterator[WantedFile]:
        def conflicts(text: str) -> Iterator[bool]:
            return (bool(interfaces) and _LIST.match(line) is not None for line in text.split("\n"))

        def block(text: str) -> Iterator[str]:
            if interfaces:
                theirs = [match[1] for line in text.split("\n") if (match := _LIST.match(line)) is not None]
                listed = [each.strip() for each in theirs[-1].split(",")] if theirs else [*_BUILT_IN]
                names = dict.fromkeys([*(each.name for each in interfaces), *filter(None, listed)])
                yield from ("[General]", f"NetworkInterfaceBlacklist={','.join(names)}")

        if interfaces or _PATH in found.files:
            text = edited(found.text(_PATH), path=_PATH, conflicts=conflicts, block=block)
            yield WantedFile(_PATH, text)


STACK = Connman()
