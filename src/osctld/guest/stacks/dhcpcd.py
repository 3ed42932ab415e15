"""dhcpcd: it leaves our interfaces alone.

Lists of several lines add up (dhcpcd.conf(5)). What follows an `interface` is said of that one alone, so ours come
first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from osctld.core.config.guest_side import GuestInterface
from osctld.core.root_files import FoundFiles
from osctld.guest.stack import Stack, WantedFile
from osctld.guest.tenant_text import edited

_PATH = "/etc/dhcpcd.conf"


class Dhcpcd(Stack):
    name = "dhcpcd"
    keeps_off = True
    evidence = (("/usr/sbin/dhcpcd", "/sbin/dhcpcd", "/usr/bin/dhcpcd"), (_PATH,))

    def patterns(self, found: FoundFiles) -> Iterable[str]:  # noqa: ARG002 - the same in all
        return (_PATH,)

    def files(self, interfaces: Sequence[GuestInterface], found: FoundFiles) -> Iterator[WantedFile]:
        if _PATH in found.files:
            names = " ".join(each.name for each in interfaces)
            text = edited(
                found.text(_PATH),
                path=_PATH,
                conflicts=lambda text: (False for _ in text.split("\n")),
                block=lambda _: (f"denyinterfaces {names}",) if names else (),
                is_first=True,
            )
            yield WantedFile(_PATH, text)


STACK = Dhcpcd()
