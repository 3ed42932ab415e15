"""That somebody held a network, from one change to another."""

from __future__ import annotations

import msgspec

from osctld.core.address.addresses import Address, Network
from osctld.core.person import NOBODY, Person


class Held(msgspec.Struct, frozen=True):
    """A row of the log of holdings: times in seconds since 1970, the commands that gave and took, and by whom.

    `network` is the packed address. `since` None: from before such things were kept; `until` None: to this day. Names
    are those of the moment that was asked about.
    """

    version: int
    network: bytes
    length: int
    kind: str
    container: str
    interface: str
    uuid: str
    container_uuid: str
    state: str = "wanted"
    epoch: int = 1
    since: float | None = None
    command: str = ""
    by: Person = NOBODY
    until: float | None = None
    until_command: str = ""
    until_by: Person = NOBODY

    @property
    def prefix(self) -> Network:
        return Network(self.version, Address.from_packed(self.network).number, self.length)
