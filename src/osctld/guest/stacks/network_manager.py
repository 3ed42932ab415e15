"""NetworkManager: it leaves our interfaces alone.

A profile of ours would agree less: it has no scope, a metric of its own, and detects duplicate addresses. The list of
unmanaged devices is one key for all: += adds to that of the tenant (NetworkManager.conf(5)). A section [device-...]
with `managed=0` would be read by a restart alone, and not when a running NetworkManager reads its configuration again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from osctld.core.config.guest_side import GuestInterface
from osctld.core.root_files import FoundFiles
from osctld.guest.stack import Stack, WantedFile
from osctld.guest.tenant_text import header, is_ours

_PATH = "/etc/NetworkManager/conf.d/90-osctl.conf"


class NetworkManager(Stack):
    name = "network_manager"
    keeps_off = True
    evidence = (("/usr/sbin/NetworkManager", "/usr/bin/NetworkManager"),)
    #: It knows interfaces by their names: after a rename it would make a connection for the new one.
    reload = "nmcli --terse general status >/dev/null 2>&1 || exit 0; exec nmcli general reload conf"

    def patterns(self, found: FoundFiles) -> Iterable[str]:  # noqa: ARG002 - the same in all
        return (_PATH,)

    def files(self, interfaces: Sequence[GuestInterface], found: FoundFiles) -> Iterator[WantedFile]:
        if interfaces:
            names = ";".join(f"interface-name:{each.name}" for each in interfaces)
            yield WantedFile(_PATH, f"{header(_PATH)}[keyfile]\nunmanaged-devices+={names}\n")
        elif is_ours(found.text(_PATH) or ""):
            yield WantedFile(_PATH, None)


STACK = NetworkManager()
