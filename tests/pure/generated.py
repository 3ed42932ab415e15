"""Generated values of the model: addresses, vias, interfaces, containers.

Numbers are drawn from a small part of the address space, so that what is generated meets, nests and collides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import hypothesis.strategies as st
import msgspec

from osctld.core.address.addresses import BITS, Address, InterfaceAddress, Network
from osctld.core.address.via import Via
from osctld.core.authority.claims import Claim, ClaimedNetworks
from osctld.core.config.guest_side import GuestFilesPolicy
from osctld.core.config.host import Container, Host, derived_mac
from osctld.core.config.life import IdMap
from osctld.core.config.settings import Settings
from osctld.core.errors import Refused
from osctld.netif.routed.interface import RoutedInterface, new_interface
from pure.interface_steps import with_address, with_operator_route, without_address, without_route

HOST_UUID = "3d5d0a8e-6a54-4e4b-9c5c-0d8c4d1f0a11"

versions = st.sampled_from([4, 6])


def anywhere(version: int) -> st.SearchStrategy[Address]:
    """Any address of the version at all."""
    return st.builds(Address, st.just(version), st.integers(0, 2 ** BITS[version] - 1))


any_addresses = versions.flatmap(anywhere)
any_interface_addresses = any_addresses.flatmap(
    lambda address: st.builds(address.with_length, st.integers(0, BITS[address.version]))
)
any_networks = any_interface_addresses.map(lambda each: each.network)

#: First numbers of the two small worlds that the rest is drawn from: 10.20.0.0/16 and 2001:db8:20::/112.
WORLD = {4: Network.parse("10.20.0.0/16"), 6: Network.parse("2001:db8:20::/112")}


def address_in(network: Network) -> st.SearchStrategy[Address]:
    return st.builds(Address, st.just(network.version), st.integers(network.number, network.last.number))


def network_in(network: Network, lengths: st.SearchStrategy[int]) -> st.SearchStrategy[Network]:
    return st.builds(lambda address, length: address.with_length(length).network, address_in(network), lengths)


def near_addresses(version: int) -> st.SearchStrategy[Address]:
    return address_in(WORLD[version])


@st.composite
def interface_addresses(draw: st.DrawFn, version: int) -> InterfaceAddress:
    bits = BITS[version]
    length = draw(st.sampled_from([bits, bits, bits - 1, bits - 2, bits - 4, bits - 8]))
    return draw(near_addresses(version)).with_length(length)


@st.composite
def networks(draw: st.DrawFn, version: int) -> Network:
    bits = BITS[version]
    return draw(network_in(WORLD[version], st.sampled_from([bits, bits - 1, bits - 3, bits - 6, bits - 8, bits - 12])))


@st.composite
def vias(draw: st.DrawFn, version: int, *, within: Network | None = None) -> Via:
    """A via, narrow or wide, public or private, with its ends anywhere that is allowed."""
    bits = BITS[version]
    inside = within or WORLD[version]
    length = draw(st.sampled_from([bits - 1, bits - 2, bits - 2, bits - 3, bits - 8]))
    network = draw(network_in(inside, st.just(length)))
    is_public = draw(st.none() | st.booleans())
    via = Via.make(network, is_public=is_public)
    if draw(st.booleans()):
        ends = draw(st.lists(address_in(network), min_size=2, max_size=2, unique=True))
        if all(via.reason_not_usable(end) is None for end in ends):
            via = Via.make(network, host_end=ends[0], container_end=ends[1], is_public=is_public)
    return via


@st.composite
def vias_by_version(draw: st.DrawFn) -> Mapping[int, Via]:
    chosen = draw(st.sampled_from([(4,), (6,), (4, 6)]))
    return {version: draw(vias(version)) for version in chosen}


def empty_host() -> Host:
    return Host(HOST_UUID, Settings())


def container_without_interfaces(name: str = "web01") -> Container:
    return Container(
        name=name,
        uuid="7b9f2a7c-98a1-4f6e-8f30-0c1a4b5d6e7f",
        user=None,
        id_map=IdMap(0x7000_0000),
        distribution="busybox",
        version="stable",
    )


def interface(
    *, via: Iterable[str] = ("10.100.10.100/30",), name: str = "eth0", container: str = "web01"
) -> RoutedInterface:
    """A routed interface with default ends."""
    made = [Via.make(Network.parse(text)) for text in via]
    return new_interface(
        empty_host(), container_without_interfaces(container), name, vias={each.version: each for each in made}
    )


@st.composite
def edited(draw: st.DrawFn, start: RoutedInterface, *, steps: int = 8) -> RoutedInterface:
    """The interface after random edits, each of which was allowed."""
    changed = start
    for _ in range(draw(st.integers(0, steps))):
        version = draw(st.sampled_from(sorted(changed.vias)))
        try:
            changed = draw(_edits(changed, version))
        except Refused:
            continue
    return changed


@st.composite
def _edits(draw: st.DrawFn, start: RoutedInterface, version: int) -> RoutedInterface:
    steps = ["assign", "assign", "assign", "assign in via", "route", "route", "take", "unroute", "place"]
    steps += ["permit", "permit", "forbid"]
    match draw(st.sampled_from(steps)):
        case "assign":
            route_as = draw(st.none() | networks(version)) if draw(st.booleans()) else None
            return with_address(start, draw(interface_addresses(version)), route=draw(st.booleans()), route_as=route_as)
        case "assign in via":
            via = start.vias[version]
            length = draw(st.sampled_from([BITS[version], via.network.length]))
            return with_address(start, draw(address_in(via.network)).with_length(length), route=draw(st.booleans()))
        case "route":
            network = draw(networks(version))
            next_hop = draw(st.none() | st.sampled_from([None, *start.all_addresses(version)]))
            return with_operator_route(start, network, typed=str(network), next_hop=next_hop)
        case "take" if start.addresses:
            return without_address(start, draw(st.sampled_from(start.addresses)), keep_route=draw(st.booleans()))
        case "unroute" if start.routes:
            network = draw(st.sampled_from(start.routes)).network
            return without_route(start, network, typed=str(network))
        case "place" if start.addresses:
            draft = start.draft()
            draft.place(draw(st.sampled_from(start.addresses)), before=None)
            return start.with_draft(draft)
        case "permit":
            everything = Network(version, 0, 0)
            source = draw(st.sampled_from([draw(networks(version)), draw(networks(version)), everything]))
            draft = start.draft()
            draft.permit(source, typed=str(source), is_forced=True)
            return start.with_draft(draft)
        case "forbid" if start.sources:
            source = draw(st.sampled_from(start.sources))
            draft = start.draft()
            draft.forbid(source, typed=str(source))
            return start.with_draft(draft)
        case _:
            return start


@st.composite
def routed_interfaces(draw: st.DrawFn, *, name: str = "eth0", link: str = "osweb01-eth0") -> RoutedInterface:
    uuid = str(draw(st.uuids(version=4)))
    start = RoutedInterface(
        uuid=uuid,
        name=name,
        link=link,
        mac=derived_mac(uuid, side="guest"),
        host_mac=derived_mac(uuid, side="host"),
        vias=draw(vias_by_version()),
        mtu=draw(st.none() | st.sampled_from([1280, 1500, 9000])),
    )
    return draw(edited(start))


def each_claim(groups: Iterable[ClaimedNetworks]) -> list[Claim]:
    return [claim for each in groups for claim in each]


def grouped(claims: Iterable[Claim]) -> list[ClaimedNetworks]:
    """The same claims in order, those of one holder and purpose that stand together as one."""
    found: list[ClaimedNetworks] = []
    for each in claims:
        packed = each.network.packed
        last = found[-1] if found else None
        if last is not None and (last.kind, last.holder) == (each.kind, each.holder) and packed not in last.networks:
            found[-1] = ClaimedNetworks(each.kind, each.holder, (*last.networks, packed))
        else:
            found.append(ClaimedNetworks(each.kind, each.holder, (packed,)))
    return found


def without_own_conflicts(container: Container) -> bool:
    """Whether no two interfaces of the container hold parts of each other's networks."""
    claims = each_claim(container.claims())
    return not any(
        one.holder != other.holder and one.network.overlaps(other.network) for one in claims for other in claims
    )


@st.composite
def containers(draw: st.DrawFn, *, name: str = "web01", interfaces: int = 3) -> Container:
    """A container with up to so many interfaces that do not overlap each other."""
    container = container_without_interfaces(name)
    for index in range(draw(st.integers(0, interfaces))):
        link = f"os{name}-eth{index}"
        more = container.with_new_interface(draw(routed_interfaces(name=f"eth{index}", link=link)))
        if without_own_conflicts(more):
            container = more
    return msgspec.structs.replace(
        container,
        has_nesting=draw(st.booleans()),
        is_wanted=draw(st.booleans()),
        guest_files=draw(st.sampled_from(GuestFilesPolicy)),
    )


@st.composite
def rearranged_containers(draw: st.DrawFn) -> tuple[Container, Container]:
    """A container with several addresses in one subnet, which may be its via, before and after they were shuffled.

    Some come or go with that.
    """
    start = interface(via=["10.20.0.0/30", "2001:db8:20::/64"])
    if draw(st.booleans()):
        start = interface(via=["10.20.0.0/24"])
    made = []
    numbers = st.lists(st.integers(3, 9), min_size=1, max_size=5, unique=True)
    texts = [f"10.20.{draw(st.sampled_from('00001'))}.{number}/24" for number in sorted({*range(3, 10)})]
    for chosen in (draw(numbers), draw(numbers)):
        changed = start
        for number in chosen:
            try:
                changed = with_address(changed, InterfaceAddress.parse(texts[number - 3]))
            except Refused:
                continue  # the end of a via
        if draw(st.booleans()) and changed.addresses:
            via = changed.vias[4]
            changed = with_address(changed, via.container_address, route=False)
            draft = changed.draft()
            draft.place(draft.addresses[-1], before=draw(st.sampled_from(draft.addresses[:-1])))
            changed = changed.with_draft(draft)
        made.append(container_without_interfaces().with_new_interface(changed))
    return made[0], made[1]
