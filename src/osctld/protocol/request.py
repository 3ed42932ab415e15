"""What all requests of the original's protocol have in common.

A request is a command: performed, claimed, planned and saved like those that people type. Its fields are the keys of
`opts`; what is null there is absent here. Field names, shapes and the words of refusals are those of the original
osctl of September 2018, so that its own client can drive this daemon.
"""

from __future__ import annotations

from typing import Any, ClassVar

from osctld.core.command import (
    ActCommand,
    Command,
    EditCommand,
    ExitStatus,
    Listing,
    LookCommand,
    Reply,
    Text,
    ViewCommand,
)
from osctld.core.config.host import POOL, Container, Host
from osctld.core.errors import Refused

#: Identifiers are `CT` or `POOL:CT`.
POOL_MARK = ":"


class Request(Command, frozen=True, kw_only=True):
    """Base of all requests. `pool` goes with an identifier that has none of its own."""

    #: The type of the answer, for its published schema; None for an answer that is null.
    answers: ClassVar[Any] = None
    #: Keys whose null means something else than absence.
    nullable: ClassVar[tuple[str, ...]] = ()

    pool: str | None = None

    def response(self, reply: Reply) -> Any:
        """What a reply says to a program; what it says to people goes ahead as progress."""
        match reply:
            case Listing(rows=rows, is_record=True):
                return dict(rows[0])
            case Listing(rows=rows):
                return [dict(row) for row in rows]
            case ExitStatus(status=status):
                return {"exitstatus": status}
            case Text():
                return None


class EditRequest(Request, EditCommand, frozen=True, kw_only=True):
    """A change of the configuration."""


class ViewRequest(Request, ViewCommand, frozen=True, kw_only=True):
    """A question."""


class ActRequest(Request, ActCommand, frozen=True, kw_only=True):
    """Something to do."""


class LookRequest(Request, LookCommand, frozen=True, kw_only=True):
    """Something to find out or to wait for."""


def find_container(host: Host, id: str, *, pool: str | None = None) -> Container:  # noqa: A002 the protocol's name
    """Look up a container as the protocol names it. Raises Refused, also for an unknown pool: not found."""
    named, mark, _ = id.rpartition(POOL_MARK)
    wanted = id if pool is None or (mark and named == pool) else f"{pool}{POOL_MARK}{id}"
    try:
        return host.container(wanted)
    except Refused as refused:
        if refused.code != "pool-not-found":
            raise
        raise Refused(
            f"container not found: {wanted!r}, {refused.message}", code="container-not-found", subject=wanted
        ) from None


def check_pool(pool: str | None) -> None:
    """Raise Refused for an unknown pool."""
    if pool not in (None, POOL):
        raise Refused(f"pool not found: {pool!r} (expected {POOL!r})", code="pool-not-found", subject=pool or "")
