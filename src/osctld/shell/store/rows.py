"""What is given to the store to keep, and what it tells: rows and values of its tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import msgspec

from osctld.core.authority.blocks import Block
from osctld.core.person import NOBODY, Person


class Holder(Protocol):
    """An interface that holds networks: its UUID and its container's, and the names that they have now."""

    @property
    def uuid(self) -> str: ...
    @property
    def container_uuid(self) -> str: ...
    @property
    def container(self) -> str: ...
    @property
    def interface(self) -> str: ...


class Holdings(Protocol):
    """Rows of the table of holdings, which tell whose each of many networks is.

    `networks` are packed addresses, end to end; in all else the rows are alike.
    """

    @property
    def version(self) -> int: ...
    @property
    def networks(self) -> bytes: ...
    @property
    def length(self) -> int: ...
    @property
    def kind(self) -> str: ...
    @property
    def holder(self) -> Holder: ...
    @property
    def epoch(self) -> int: ...
    @property
    def state(self) -> str: ...


class HistoryLine(msgspec.Struct, frozen=True):
    """A changing command: seconds since 1970, the command line, who gave it, and the result."""

    time: float
    command: str
    by: Person = NOBODY
    #: `done`, or why not.
    result: str = "done"


class Saved(msgspec.Struct, frozen=True):
    """One change to keep, whole or not at all. `document` None deletes the container.

    What was noted as pending of the container is settled by it.
    """

    container: str
    document: bytes | None
    host_serial: int
    holdings_removed: Sequence[Holdings]
    holdings_added: Sequence[Holdings]
    #: None for what nobody asked for by a command.
    history: HistoryLine | None
    #: Interfaces whose names may have changed.
    holders: Sequence[Holder] = ()
    #: Documents of other containers that the same change is about.
    others: Mapping[str, bytes] = {}
    #: Seconds since 1970, for what no command changes.
    time: float = 0.0
    #: What is held, some of it as before, whose state is another now.
    holdings_restated: Sequence[Holdings] = ()


class Replacement(msgspec.Struct, frozen=True):
    """All that is to be kept instead of what there is. What is noted as pending stays, and `pending` comes to it."""

    host_uuid: str
    host_serial: int
    documents: Mapping[str, bytes]
    holdings: Sequence[Holdings]
    #: The count of runs does not go below this.
    least_run: int
    #: None keeps the present one.
    boot: str | None
    #: None keeps the present one.
    history: Sequence[HistoryLine] | None
    #: What is put to the end of the history; None for nothing.
    line: HistoryLine | None
    pending: Mapping[str, bytes] = {}
    #: None keeps the present ones.
    uplinks: Sequence[str] | None = None
    #: None keeps the present ones.
    blocks: Sequence[Block] | None = None
    #: Rows of LOG_TABLES of a store that is lost; those that there are already stay.
    log: Mapping[str, Sequence[tuple[Any, ...]]] = {}


#: version, network, length, kind, container, interface, epoch, state
HoldingRow: TypeAlias = tuple[int, bytes, int, str, str, str, int, str]
