"""Whether packets for containers go out by our links: what to ask the kernel, and what its answers mean.

Each packet is looked up as the host would send it, and as it would arrive on each uplink. If there are very many
networks, an evenly spread sample is looked up, and those that rules and tables mention.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

import msgspec

from osctld.core.address.addresses import Address, Network
from osctld.core.authority.claims import ClaimedNetworks, ClaimKind, Holder
from osctld.core.authority.host_networks import LINK_LOCAL, HostSpace, Use
from osctld.core.authority.routing_rules import LOCAL_TABLE, Rule, before_main, table_name, taken_by
from osctld.core.authority.rules import Holdings
from osctld.core.plan.kernel_state import MAIN_TABLE

#: Of the networks that one rule or table mentions, at most this many are looked up; and of this many rules and tables.
OF_EACH, MOST_SPOKEN_OF = 20, 300


class Ask(msgspec.Struct, frozen=True):
    """A packet to an address: sent by the host, or coming by a link from a source."""

    address: Address
    iif: str = ""
    source: Address | None = None


class Answer(msgspec.Struct, frozen=True):
    """The route that a packet follows: `kind` as `ip route` spells it, link, table, and how it is written there."""

    kind: str
    link: str
    table: int
    network: Network
    words: str = ""


class Wanted(msgspec.Struct, frozen=True):
    """A network that leads to a container by one of our links, and an address of it to ask about."""

    network: Network
    address: Address
    holder: Holder
    link: str


class Astray(msgspec.Struct, frozen=True):
    """Packets to a network of a container that do not go out by its link. `is_host_s`: only what the host sends itself.

    `cause` begins with which packets they are; `commands` repair it.
    """

    network: Network
    holder: Holder
    cause: str
    commands: tuple[str, ...]
    is_host_s: bool = False
    count: int = 1


def chosen(held: Iterable[tuple[ClaimedNetworks, str]], *, most: int) -> Iterator[Wanted]:
    """At most about this many networks, each with its link, evenly spread."""
    routed = [(each, link) for each, link in held if each.kind is not ClaimKind.ADDRESS]
    total = sum(len(each.networks) for each, _ in routed)
    step = max(1, -(-total // most))
    passed = 0
    for each, link in routed:
        for packed in each.networks[-passed % step :: step]:
            network = Network.from_packed(packed)
            for address in _asked(network, each.kind):
                yield Wanted(network, address, each.holder, link)
        passed += len(each.networks)


def spoken_of(
    networks: Iterable[Network], holdings: Holdings, link_of: Callable[[Holder], str | None]
) -> Iterator[Wanted]:
    """What containers hold of networks that a rule, a table or the host has, the narrower of both asked about.

    `link_of` returns the link of an interface; None for one that is not to be looked up.
    """
    for network in sorted(set(networks))[:MOST_SPOKEN_OF]:
        for claim in itertools.islice(holdings.overlapping(network), OF_EACH):
            link = link_of(claim.holder)
            if link is None or claim.kind is ClaimKind.ADDRESS:
                continue
            narrower = network if claim.network.includes(network) else claim.network
            for address in _asked(narrower, claim.kind):
                yield Wanted(claim.network, address, claim.holder, link)


def _asked(network: Network, kind: ClaimKind) -> Iterator[Address]:
    """Addresses that are sent to the container. Of an interconnecting network one is the host's end, whichever, and the
    first may be the host's as well: what is asked about such a one says nothing."""
    is_via = kind is ClaimKind.VIA and network.size > 1
    numbers = (0,) if not is_via else (1, 0) if network.size == 2 else (2, 1, 3)
    yield from (Address(network.version, network.number + number) for number in numbers)


def questions(
    address: Address, rules: Sequence[Rule], *, sources: Mapping[str, Address], hosts: Collection[Address]
) -> Iterator[Ask]:
    """What to ask about an address: as the host, by each link with a source of its own version from there, and from
    what rules mention. `hosts` are the host's addresses: nobody else sends from them."""
    yield Ask(address)
    for link, source in sources.items():
        yield Ask(address, link, source)
    for rule in rules:
        if rule.version != address.version or rule.source is None:
            continue
        own = next((each for each in hosts if rule.source.includes(each)), None)
        if own is not None:
            yield Ask(address, "", own)
            continue
        source = rule.source.address if rule.source.size == 1 else Address(rule.version, rule.source.number + 1)
        for link in sources:
            yield Ask(address, link, source)


def sources_by_link(uplinks: Iterable[str], space: HostSpace, version: int) -> Mapping[str, Address]:
    """For each uplink somebody who could send by it: a router there, or a neighbour."""
    found: dict[str, Address] = {}
    for link in uplinks:
        mine = [each for each in space if each.link == link and each.network.version == version]
        routers = [each.network.address for each in mine if each.use is Use.NEXT_HOP and each.network.size == 1]
        own = {each.network.address for each in mine if each.use is Use.ADDRESS}
        neighbours = [
            Address(version, each.network.number + offset)
            for each in mine
            if each.use is Use.CONNECTED and each.network.size > 4
            for offset in (1, 2)
        ]
        there = next((each for each in (*routers, *neighbours) if each not in own), None)
        if there is not None:
            found[link] = there
    return found


#: Who may send by a link that a default route has: addresses that nobody is given (RFC 7600, RFC 6666).
_ANYBODY = {4: Address.parse("192.0.0.8"), 6: Address.parse("100::1")}


def source_in(networks: Iterable[Network], *, hosts: Collection[Address]) -> Address | None:
    """Somebody who could send by a link whose routes lead to these networks. `hosts` are the host's own addresses."""
    for network in networks:
        if network.overlaps(LINK_LOCAL) and not network.is_default:
            continue
        first = Address(network.version, network.number + (1 if network.size > 1 else 0))
        source = _ANYBODY[network.version] if network.is_default else first
        if source not in hosts:
            return source
    return None


def judged(
    wanted: Wanted,
    ask: Ask,
    answer: Answer | None,
    rules: Sequence[Rule],
    *,
    links: Collection[str],
    addresses: Mapping[Address, tuple[str, str]],
) -> Astray | None:
    """What an answer means; None when the packet goes out by a link of ours. `links` are all of ours; `addresses` how
    those of the host are spelled, and their links."""
    if answer is not None and answer.link in links:
        return None
    packets = f"packets arriving on {ask.iif}" if ask.iif else "packets from the host"
    if ask.source is not None and (not ask.iif or _is_named(ask, rules)):
        packets += f" from {ask.source}"
    if answer is not None and (answer.kind == "local" or answer.table == LOCAL_TABLE):
        spelled, link = addresses.get(ask.address, (str(ask.address.as_network()), answer.link))
        cause = f"{ask.address} is an address of the host, on {link}"
        return Astray(wanted.network, wanted.holder, cause, (f"ip addr del {spelled} dev {link}",))
    table = answer.table if answer is not None else None
    version = ask.address.version
    rule = taken_by(before_main(rules, version), ask.address, iif=ask.iif, source=ask.source, table=table)
    is_host_s = not ask.iif
    if rule is not None:
        to = f", then route {answer.words} in table {table_name(answer.table)}" if answer is not None else ""
        return Astray(
            wanted.network, wanted.holder, f"{packets} follow rule {rule}{to}", (rule.removal,), is_host_s
        )  # fmt: skip
    if answer is None:
        return None  # that forwarding is off, or why the kernel rejects the source, is reported elsewhere
    family = " -6" if version == 6 else ""
    place = "" if answer.table == MAIN_TABLE else f" table {answer.table}"
    return Astray(
        wanted.network, wanted.holder, f"{packets} follow route {answer.words}",
        (f"ip{family} route del {answer.words}{place}",), is_host_s,
    )  # fmt: skip


def _is_named(ask: Ask, rules: Iterable[Rule]) -> bool:
    source = ask.source
    return source is not None and any(each.source is not None and each.source.includes(source) for each in rules)


def together(found: Iterable[Astray]) -> tuple[Astray, ...]:
    """What goes astray for one cause at one interface, reported once; what is reported of packets from outside is not
    reported of the host's own once more."""
    alike: dict[tuple[Holder, tuple[str, ...]], list[Astray]] = {}
    for each in found:
        alike.setdefault((each.holder, each.commands), []).append(each)
    told = []
    for those in alike.values():
        first = next((each for each in those if not each.is_host_s), those[0])
        told.append(msgspec.structs.replace(first, count=len({each.network for each in those})))
    return tuple(told)
