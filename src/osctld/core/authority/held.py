"""That somebody held a network, from one change to another."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from osctld.core.address.addresses import Address, Network
from osctld.core.person import NOBODY, Person


class HoldingState(StrEnum):
    """What the host does for a network that a container holds."""

    #: It routes it there.
    WANTED = "wanted"
    #: Nothing, for somebody else was found to hold it.
    PARKED = "parked"
    #: Nothing, for another host has it until it is taken here.
    STANDBY = "standby"


class Held(msgspec.Struct, frozen=True):
    """A row of the log of holdings: times in seconds since 1970, the commands that began and ended it, and by whom.

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
    state: str = HoldingState.WANTED.value
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
