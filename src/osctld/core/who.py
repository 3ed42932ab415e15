"""Who holds a network, why, since when, and what would be refused in addition: as rows of a listing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import TypeAlias

from osctld.core.address.addresses import Network
from osctld.core.authority.claims import Claim, ClaimKind, Holder
from osctld.core.authority.held import Held, HoldingState
from osctld.core.authority.host_networks import HostNetwork
from osctld.core.authority.rules import HOST_RULES, HostRule, is_held_by_another
from osctld.core.command import Column, Row
from osctld.core.person import NOBODY, Person

#: The name of the host as a holder.
HOST_HOLDER = "host"

#: By container, what of its holdings is not wanted.
SetAside: TypeAlias = Mapping[str, Mapping[Network, HoldingState]]

#: What a network of theirs means for another who asks for the same.
REFUSED, ALLOWED = "yes", "no"
DELEGATED, OVERLAPPED = "without --delegate", "without --overlap-host"
DECLARED = "until osctl net uplink add {link}"

_OF_HOLDINGS = (
    Column("network"),
    Column("holder", "an interface of a container, running or stopped, or the host"),
    Column(
        "kind",
        "via, route or address of an interface; the host's are address, edge (network or broadcast address), "
        "next-hop, connected, static, learned",
    ),
    Column("ctid", "the container"),
    Column("netif", "its interface"),
    Column("link", "link of the host: the holder's if that is the host, or the bridge that an address is used on"),
    Column("state", "wanted, parked or standby", marks={"parked": "doubtful"}),
)

LIST_COLUMNS = (*_OF_HOLDINGS, Column("uuid", "UUID of the interface"))

WHO_COLUMNS = (
    *_OF_HOLDINGS,
    Column("what", "description"),
    Column("since", "start, local time; empty if older than the log", type=str | None),
    Column("since_epoch", "the same, in seconds since 1970", type=float | None),
    Column("user", "user id that ran the command", type=int | None),
    Column("login", "user id that logged in, before su or sudo", type=int | None),
    Column("process", "process id of the client", type=int | None),
    Column("command", "command line that took the network", longest=100),
    Column("until", "end, local time; empty if still held", type=str | None),
    Column("until_epoch", "the same, in seconds since 1970", type=float | None),
    Column("until_user", "user id that ended the holding", type=int | None),
    Column("until_command", "command line that ended the holding", longest=100),
    Column("epoch", "increases each time the network changes hands", type=int | None),
    Column("uuid", "UUID of the interface"),
    Column("refused", "whether another holder would be refused the network asked about"),
)

SHOWN_NOW = ("network", "holder", "what", "since", "user", "refused")
SHOWN_THEN = ("network", "holder", "what", "since", "user", "until", "until_user")


def holdings_of_interfaces(claims: Iterable[Claim], set_aside: SetAside | None = None) -> Iterator[dict[str, object]]:
    nothing: Mapping[Network, HoldingState] = {}
    for each in claims:
        aside = (set_aside or {}).get(each.holder.container, nothing)
        yield {
            "network": str(each.network),
            "holder": str(each.holder),
            "kind": each.kind.value,
            "ctid": each.holder.container,
            "netif": each.holder.interface,
            "link": each.link,
            "state": aside.get(each.network, HoldingState.WANTED).value,
            "uuid": each.holder.uuid,
        }


def holdings_of_host(networks: Iterable[HostNetwork]) -> Iterator[dict[str, object]]:
    for each in networks:
        yield {
            "network": str(each.network),
            "holder": HOST_HOLDER,
            "kind": each.use.value,
            "ctid": "",
            "netif": "",
            "link": each.link,
            "state": HoldingState.WANTED.value,
            "uuid": "",
        }


def who_now(
    asked: Network,
    claims: Iterable[Claim],
    networks: Iterable[HostNetwork],
    *,
    given: Iterable[Held],
    declared: Collection[str],
    set_aside: SetAside,
    at: Callable[[float], str],
) -> Iterator[Row]:
    """Holders of all or a part of a network, or of a larger one. `given` returns since when; `at` formats a time."""
    known = {(each.prefix, each.kind, each.uuid): each for each in given}
    for claim, row in zip(claims := list(claims), holdings_of_interfaces(claims, set_aside), strict=True):
        held = known.get((claim.network, claim.kind.value, claim.holder.uuid))
        yield {
            **row,
            "what": str(claim),
            **_given(held.since if held else None, held.by if held else NOBODY, held.command if held else "", at),
            **_TO_THIS_DAY,
            "epoch": held.epoch if held else None,
            "refused": _refused_by(asked, claim),
        }
    for there, row in zip(networks := list(networks), holdings_of_host(networks), strict=True):
        yield {
            **row,
            "what": str(there),
            **_given(None, NOBODY, "", at),
            **_TO_THIS_DAY,
            "epoch": None,
            "refused": refused_by_host(asked, there, declared),
        }


def who_then(found: Iterable[Held], *, at: Callable[[float], str]) -> Iterator[Row]:
    """Those who held a network, or a wider one around it, at one moment."""
    for held in found:
        claim = Claim(
            held.prefix,
            ClaimKind(held.kind),
            Holder(held.container, held.interface, held.uuid, held.container_uuid),
        )
        (row,) = holdings_of_interfaces([claim])
        yield {
            **row,
            "state": held.state,
            "what": str(claim).replace(" is ", " was ", 1),
            **_given(held.since, held.by, held.command, at),
            "until": at(held.until) if held.until is not None else None,
            "until_epoch": held.until,
            "until_user": held.until_by.user,
            "until_command": held.until_command,
            "epoch": held.epoch,
            "refused": "",
        }


_TO_THIS_DAY = {"until": None, "until_epoch": None, "until_user": None, "until_command": ""}


def _given(since: float | None, by: Person, command: str, at: Callable[[float], str]) -> Row:
    return {
        "since": at(since) if since is not None else None,
        "since_epoch": since,
        "user": by.user,
        "login": by.login,
        "process": by.process,
        "command": command,
    }


_SOMEBODY_ELSE = Holder("", "")


def _refused_by(asked: Network, there: Claim) -> str:
    wanted = Claim(asked, ClaimKind.ROUTE, _SOMEBODY_ELSE)
    if not is_held_by_another(wanted, there):
        return ALLOWED
    return REFUSED if is_held_by_another(wanted, there, is_forced=True) else DELEGATED


def refused_by_host(asked: Network, there: HostNetwork, declared: Collection[str]) -> str:
    """Whether the host would refuse to have the network routed to a container."""
    wanted = Claim(asked, ClaimKind.ROUTE, _SOMEBODY_ELSE)
    for rule in HOST_RULES:
        if rule.objects(wanted, there, declared):
            return _word_of(rule).format(link=there.link)
    return ALLOWED


def _word_of(rule: HostRule) -> str:
    if not rule.yields:
        return REFUSED
    return DECLARED if "{link}" in rule.remedy else OVERLAPPED
