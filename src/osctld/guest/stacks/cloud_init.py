"""cloud-init: it writes no configuration of the network, which would match our interfaces at boot.

Host names and users stay its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from osctld.core.config.guest_side import GuestInterface
from osctld.core.root_files import FoundFiles
from osctld.guest.stack import Stack, WantedFile
from osctld.guest.tenant_text import header, is_ours

_PATH = "/etc/cloud/cloud.cfg.d/99-osctl.cfg"


class CloudInit(Stack):
    name = "cloud_init"
    keeps_off = True
    evidence = (("/etc/cloud",),)

    def patterns(self, found: FoundFiles) -> Iterable[str]:  # noqa: ARG002 - the same in all
        return (_PATH,)

    def files(self, interfaces: Sequence[GuestInterface], found: FoundFiles) -> Iterator[WantedFile]:
        if interfaces:
            yield WantedFile(_PATH, f"{header(_PATH)}network: {{config: disabled}}\n")
        elif is_ours(found.text(_PATH) or ""):
            yield WantedFile(_PATH, None)


STACK = CloudInit()
