"""netctl, of Arch: interfaces that have no profile it leaves alone, so only profiles of the tenant are changed.

A profile is a program of bash that sets variables. `IP6=no` would switch IPv6 off on the link; with ForceConnect a link
that is up is no error. `netctl stop` takes the link down whatever a profile says, `netctl start` brings all of it back.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from osctld.core.config.guest_side import GuestInterface
from osctld.core.root_files import FoundFiles
from osctld.guest.ip_commands import ip_commands
from osctld.guest.stack import Stack, WantedFile
from osctld.guest.tenant_text import edited, without_ours

_DIRECTORY = "/etc/netctl"
_INTERFACE = re.compile(r"""^[ \t]*Interface=["']?([^\s"'#;]*)["']?""", re.MULTILINE)


class Netctl(Stack):
    name = "netctl"
    evidence = (("/usr/bin/netctl", "/bin/netctl"),)

    def patterns(self, found: FoundFiles) -> Iterable[str]:  # noqa: ARG002 - the same in all
        return (f"{_DIRECTORY}/*",)

    def files(self, interfaces: Sequence[GuestInterface], found: FoundFiles) -> Iterator[WantedFile]:
        names = {each.name: each for each in interfaces}
        for path in found.files:
            if path.rpartition("/")[0] != _DIRECTORY:
                continue
            named = _INTERFACE.findall(without_ours(found.text(path)) or "")
            interface = names.get(named[-1]) if named else None
            profile = tuple(_profile(interface)) if interface is not None else ()
            text = edited(
                found.text(path),
                path=path,
                conflicts=lambda text, is_ours=bool(profile): (is_ours for _ in text.split("\n")),  # type: ignore[misc]
                block=lambda _, profile=profile: profile,  # type: ignore[misc]
            )
            yield WantedFile(path, text)


def _profile(interface: GuestInterface) -> Iterator[str]:
    yield from (
        f"Interface={interface.name}", "Connection=ethernet", "ForceConnect=yes", "SkipNoCarrier=yes", "IP=no",
        "IPCustom=(",
    )  # fmt: skip
    for command in ip_commands(interface, is_busybox=False):
        yield f"  '{command.removeprefix('ip ')}'"
    yield ")"


STACK = Netctl()
