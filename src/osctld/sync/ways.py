"""Which path packets for containers take on this host, and which rules hide routed networks from the packet filter."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import msgspec

from osctld.core.address.addresses import VERSIONS, Address, Network
from osctld.core.address.network_table import NetworkTable
from osctld.core.authority.claims import ClaimedNetworks, ClaimKind
from osctld.core.authority.host_networks import HostSpace, Use
from osctld.core.authority.routing_rules import (
    LOOPBACK,
    USUAL_TABLES,
    Rule,
    before_main,
    lacks_main,
    tables_of,
)
from osctld.core.authority.rules import Holdings
from osctld.core.authority.ways import (
    Answer,
    Ask,
    Astray,
    Wanted,
    chosen,
    judged,
    questions,
    source_in,
    sources_by_link,
    spoken_of,
    together,
)
from osctld.core.config.host import Container
from osctld.core.plan.kernel_state import HOST, HostFacts, PermittedSource
from osctld.sync.ports import Kernel

#: So many questions are asked at once.
ASKED_AT_ONCE = 80
#: Of one container, this many networks are looked up to see whether rules hide them from the packet filter.
OF_A_CONTAINER = 4
#: And of one network about so many addresses.
OF_A_NETWORK = 4


class Look(msgspec.Struct, frozen=True):
    """A look at which way packets go, to be taken in a thread."""

    kernel: Kernel
    containers: Sequence[Container]
    space: HostSpace
    rules: Sequence[Rule]
    suspects: Mapping[int, Sequence[Rule]]
    links: Collection[str]
    spoken: Sequence[Wanted]
    left_out: Mapping[str, Collection[Network]]
    most: int

    def take(self, facts: HostFacts) -> tuple[tuple[Astray, ...], tuple[int, ...]]:
        """What goes elsewhere of what is for containers, and the IP versions of which no rule looks up the main table.

        Raises Unavailable.
        """
        versions = VERSIONS if facts.has_ipv6 else (4,)
        # IPv4 forwarding is per link; a link without it has already been reported.
        uplinks = {
            4: [each.name for each in facts.uplinks if each.has_ipv4_forwarding],
            6: [each.name for each in facts.uplinks] if facts.has_ipv6_forwarding else [],
        }
        sources = {version: self._sources(uplinks[version], version) for version in versions}
        addresses = {
            each.network.address: (each.more or str(each.network), each.link) for each in self.space if each.is_address
        }
        aside = {each.name: each.set_aside for each in self.containers}
        asked: list[tuple[Wanted, Ask]] = []
        for each in dict.fromkeys([*self.spoken, *self._some()]):
            version, name = each.network.version, each.holder.container
            if version not in versions or each.network in self.left_out.get(name, aside.get(name, ())):
                continue
            those = questions(each.address, self.suspects[version], sources=sources[version], hosts=addresses.keys())
            asked.extend((each, ask) for ask in those)
        # Some at a time: whoever needs the kernel meanwhile waits for no more.
        answers: list[Answer | None] = []
        for start in range(0, len(asked), ASKED_AT_ONCE):
            answers += self.kernel.ways([ask for _, ask in asked[start : start + ASKED_AT_ONCE]])
        found = (
            judged(each, ask, answer, self.rules, links=self.links, addresses=addresses)
            for (each, ask), answer in zip(asked, answers, strict=True)
        )
        told = together(each for each in found if each is not None)
        return told, tuple(each for each in versions if lacks_main(self.rules, each))

    def _sources(self, uplinks: Collection[str], version: int) -> Mapping[str, Address]:
        """For each uplink somebody who could send by it."""
        found = dict(sources_by_link(uplinks, self.space, version))
        hosts = {each.network.address for each in self.space if each.is_address}
        for link in uplinks:
            if link not in found:  # an unnumbered one: only its routes tell who is there
                source = source_in(self.kernel.networks_beyond(link, version), hosts=hosts)
                if source is not None:
                    found[link] = source
        return found

    def _some(self) -> Iterator[Wanted]:
        step = max(1, -(-len(self.containers) // self.most))
        held = [
            (each, interface.link)
            for container in self.containers[::step]
            for interface in container.interfaces
            for each in _held(container, interface.uuid)
        ]
        return chosen(held, most=self.most)


class Ways:
    def __init__(self, kernel: Kernel, *, link_groups: Collection[int]) -> None:
        self._kernel = kernel
        self._link_groups = link_groups

    # --- who does not reach a container ---------------------------------------------------------------------------

    def prepared(
        self,
        containers: Sequence[Container],
        *,
        space: HostSpace,
        holdings: Holdings,
        left_out: Mapping[str, Collection[Network]],
        most: int,
    ) -> Look:
        """What to look up for these running containers, and for the networks that rules, tables and the host mention.
        `left_out` is what is not routed to each, for a reason that is reported. Raises Unavailable."""
        rules = self._kernel.rules()
        links = {each.uuid: each.link for container in containers for each in container.interfaces}
        suspects = {version: before_main(rules, version) for version in VERSIONS}
        spoken = spoken_of(self._spoken_of(space, suspects), holdings, lambda holder: links.get(holder.uuid))
        return Look(
            kernel=self._kernel, containers=containers, space=space, rules=rules, suspects=suspects,
            links=frozenset(links.values()), spoken=tuple(spoken), left_out=left_out, most=most,
        )  # fmt: skip

    def _spoken_of(self, space: HostSpace, suspects: Mapping[int, Sequence[Rule]]) -> Iterator[Network]:
        for rules in suspects.values():
            yield from (each.destination for each in rules if each.destination is not None)
            for table in sorted(tables_of(rules)):
                yield from self._kernel.networks_in_table(table)
        yield from (each.network for each in space if each.use in (Use.STATIC, Use.CONNECTED, Use.ADDRESS))

    # --- what is hidden from the packet filter --------------------------------------------------------------------

    def hidden_sources(self, container: Container) -> list[PermittedSource]:
        """What is routed to a container, for each of its links, if the host's rules hide it from the packet filter."""
        rules = self._kernel.rules()
        found: list[PermittedSource] = []
        for version in (4, 6):
            misleading = [each for each in before_main(rules, version) if each.may_mislead_filter]
            if not misleading:
                continue  # nearly always
            networks = _routed(container, version)
            if networks and self._is_hidden(networks, misleading):
                links = [each.link for each in container.interfaces if each.bridge is None]
                found += [PermittedSource(HOST, link, each, is_routed=True) for link in links for each in networks]
        return found

    def _is_hidden(self, networks: Sequence[Network], rules: Sequence[Rule]) -> bool:
        """Whether the packet filter's look-up comes to another table than those where our routes are."""
        asked = [*networks[:: max(1, len(networks) // OF_A_CONTAINER)]]
        for rule in rules:
            if rule.destination is not None:
                inside = [each for each in networks if each.overlaps(rule.destination)][:OF_A_CONTAINER]
                asked += [rule.destination if each.includes(rule.destination) else each for each in inside]
        addresses = dict.fromkeys(address for each in asked for address in _first_addresses(each))
        hosts = [each.network.address for each in self._space() if each.is_address]
        asks = dict.fromkeys(
            Ask(address, *source) for address in addresses for source in _senders(rules, hosts, address.version)
        )
        answers = self._kernel.ways(asks)
        return any(each is not None and each.table not in USUAL_TABLES for each in answers)

    def _space(self) -> HostSpace:
        return self._kernel.host_networks(link_groups=self._link_groups)


def _held(container: Container, uuid: str) -> list[ClaimedNetworks]:
    return [each for each in container.claims() if each.holder.uuid == uuid and each.kind is not ClaimKind.ADDRESS]


def _routed(container: Container, version: int) -> list[Network]:
    """What is routed to a container, as the fewest networks that say so."""
    table: NetworkTable[None] = NetworkTable()
    octets = 5 if version == 4 else 17
    aside = {each.packed for each in container.set_aside}
    held = [
        packed
        for each in container.claims()
        if each.kind is not ClaimKind.ADDRESS
        for packed in each.networks
        if len(packed) == octets and packed not in aside
    ]
    for packed in held:
        table.put(packed, None)
    networks = map(Network.from_packed, dict.fromkeys(held))
    return sorted(each for each in networks if table.widest(each) == each)


def _first_addresses(network: Network) -> Iterator[Address]:
    """Some of its addresses. In an interconnecting network the first two may be the host's own: an anycast or broadcast
    address, and the host end."""
    for number in range(min(network.size, OF_A_NETWORK)):
        yield Address(network.version, network.number + number)


def _senders(rules: Sequence[Rule], hosts: Sequence[Address], version: int) -> Iterator[tuple[str, Address | None]]:
    """By which link, and from whom, the look-up for a packet's source is as if sent: by the host to whom the packet
    goes. From addresses that are not the host's, the kernel is asked as by its loopback link."""
    yield "", None
    for rule in rules:
        if rule.source is None:
            continue
        own = next((each for each in hosts if each.version == version and rule.source.includes(each)), None)
        if own is not None:
            yield "", own
        else:
            first = rule.source
            yield LOOPBACK, first.address if first.size == 1 else Address(version, first.number + 1)
