"""Networks that a command names one by one, or all of them at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, TypeAlias

from osctld.core.address.addresses import Network
from osctld.core.command import Argument
from osctld.core.errors import UsageError

#: Instead of networks by name: all of them.
ALL = "all"

#: The argument for them.
NetworksOrAll: TypeAlias = Annotated[
    tuple[str, ...],
    Argument(f"Networks, or {ALL}", metavar="network", many=True, completes="route", keywords=(ALL,)),
]


def chosen(words: Sequence[str], everything: Iterable[Network]) -> dict[str, Network]:
    """The networks that were named, by the words for them. Raises UsageError for `all` beside others, and Refused."""
    if tuple(words) == (ALL,):
        return {str(each): each for each in everything}
    if ALL in words:
        raise UsageError(f"{' '.join(words)}: {ALL} cannot be combined with other values")
    return {typed: Network.parse(typed) for typed in words}
