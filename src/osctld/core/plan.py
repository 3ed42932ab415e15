"""From what a kernel holds and what it shall hold to the ordered changes between the two.

A plan is a value: it can be printed, compared, undone. The kernel makes some changes of its own accord (deleting
an address deletes routes, a link takes everything on it along); `after` is our model of that, always assuming
the worst, and a plan puts back what would be lost by accident, in the same plan.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias, assert_never

import msgspec

from osctld.core import packet_filter
from osctld.core.addresses import BITS, Address, Network
from osctld.core.errors import Conflict
from osctld.core.kernel_state import (
    HOST,
    IPV6_DEFAULT_METRIC,
    PROTOCOL_STATIC,
    AssignedAddress,
    KernelObject,
    KernelState,
    Key,
    Link,
    Namespace,
    Neighbour,
    Outcome,
    PacketFilter,
    Route,
    SiblingLinks,
    Sysctl,
    Veth,
    container_of,
)


class Add(msgspec.Struct, frozen=True):
    """Make the object; fails when one with its key exists."""

    object: KernelObject


class Replace(msgspec.Struct, frozen=True):
    """Turn the object into another one with the same key."""

    old: KernelObject
    new: KernelObject


class Remove(msgspec.Struct, frozen=True):
    """Delete the object; that it is gone already is as good."""

    object: KernelObject


class Restore(msgspec.Struct, frozen=True):
    """See to it that the object is there, whether or not an earlier change took it along."""

    object: KernelObject


Change: TypeAlias = Add | Replace | Remove | Restore


class Plan(msgspec.Struct, frozen=True):
    """An ordered list of changes that leads from `have` to `want`, beside what is there and not ours."""

    have: KernelState
    want: KernelState
    changes: tuple[Change, ...]
    foreign: KernelState = KernelState()

    def __bool__(self) -> bool:
        return bool(self.changes)

    def undo(self, outcomes: Sequence[Outcome] | None = None) -> Plan:
        """The plan back to `have`, after those changes whose outcome is success (all, when none are given).

        It only restores and removes, so it holds whatever the kernel really took along.
        """
        done = (
            self.changes
            if outcomes is None
            else [change for change, outcome in zip(self.changes, outcomes, strict=True) if outcome.succeeded]
        )
        reached = pretend(self.have, done)
        # What came and by our model, which assumes the worst, was taken along again may be there all the same.
        came = {subject_of(each).key: subject_of(each) for each in done if not isinstance(each, Remove)}
        doubtful = [each for key, each in came.items() if key not in reached and key not in self.have]
        back = plan_changes(self.have, reached.with_objects(doubtful).without_keys(self.foreign), self.foreign)
        changes = tuple(Restore(each.object) if isinstance(each, Add) else each for each in back.changes)
        return msgspec.structs.replace(back, changes=changes)

    def lines(self) -> Iterator[tuple[Namespace, str]]:
        """Each change as the `ip`, `sysctl` or `nft` command lines that would do it, with their namespace."""
        for change in self.changes:
            namespace = subject_of(change).namespace
            for line in _lines(change):
                yield namespace, line

    def text(self) -> str:
        """The lines under headings that name the namespace; each heading is a shell comment."""
        out: list[str] = []
        current: Namespace | None = None
        for namespace, line in self.lines():
            if namespace != current:
                container = container_of(namespace)
                out.append(f"# in container {container}" if container else "# on the host")
                current = namespace
            out.append(line)
        return "".join(f"{line}\n" for line in out)


def subject_of(change: Change) -> KernelObject:
    """The object that a change is about; of a replacement, the new one."""
    return change.new if isinstance(change, Replace) else change.object


def plan_changes(want: KernelState, have: KernelState, foreign: KernelState | None = None) -> Plan:
    """Plan the changes that turn `have` into `want`.

    `foreign` holds what is there and not ours. An equal object of it is as good as ours and is left as it is; a
    different one under the same key is in the way: Conflict, naming it. What the kernel takes along of it is put
    back where it still can be.
    """
    foreign = foreign or KernelState()
    first = _first_of_all(want, have)
    cleared = pretend(have, first)
    ordered: list[tuple[tuple[int, int], Change]] = []
    created_peers = KernelState()
    leaving = [each for key, each in cleared.items() if isinstance(each, Veth) and key not in want]
    for key, wanted in want.items():
        if isinstance(wanted, Veth) and key not in cleared and foreign.get(key) != wanted:
            down = msgspec.structs.replace(wanted, is_up=False)
            peer = _peer_of(wanted)
            _refuse_foreign([down, peer], foreign)
            created_peers = created_peers.with_objects([peer])
            ordered.append((_ADD_LINK, Add(down)))
            if wanted.is_up:
                ordered.append((_SET_HOST_LINK, Replace(down, wanted)))
    for key, wanted in want.items():
        present = cleared.get(key) or created_peers.get(key)
        if present == wanted or (present is None and foreign.get(key) == wanted):
            continue
        if present is not None:
            ordered.append((_stage_of_presence(wanted, Replace), Replace(present, wanted)))
        elif not isinstance(wanted, Veth):
            _refuse_foreign([wanted], foreign)
            # What was cleared away may be there all the same: our model assumes the worst.
            ordered.append((_stage_of_presence(wanted, Add), Restore(wanted) if key in have else Add(wanted)))
    # What goes for a moment with an address that is replaced is needed again before the routes: they may name it.
    replaced = [each.old for _, each in ordered if isinstance(each, Replace) and isinstance(each.old, AssignedAddress)]
    if replaced:
        ordered.extend(
            (_stage_of_presence(wanted, Add), Restore(wanted))
            for wanted in want.values()
            if isinstance(wanted, AssignedAddress) and any(_depends_on_address(wanted, old) for old in replaced)
        )
    first_removed = [each.object for each in first]
    vanishing = [*leaving, *(each for each in first_removed if isinstance(each, Veth))]
    for key, present in have.items():
        if key in want or present in first_removed or any(_goes_along(present, link) for link in vanishing):
            continue
        if isinstance(present, Sysctl):
            continue  # a setting is changed or stays; it has no absence
        ordered.append((_stage_of_absence(present), Remove(present)))
    ordered.extend((_REMOVE_LINK, Remove(link)) for link in leaving)

    ordered.sort(key=lambda pair: pair[0])  # stable: within a stage, the order in which things were asked for
    changes = [*first, *(change for _, change in ordered)]
    reached = pretend(have, changes)
    lost = [each for key, each in want.items() if reached.get(key) != each and foreign.get(key) != each]
    lost.extend(_lost_of_others(foreign, have, changes))
    lost.sort(key=lambda each: (each.namespace == HOST, _stage_of_presence(each, Add)))
    changes.extend(Restore(each) for each in lost)
    return Plan(have, want, tuple(changes), foreign)


def pretend(state: KernelState, changes: Iterable[Change]) -> KernelState:
    """The state that the changes lead to by our model of the kernel, which assumes the worst of side effects."""
    objects = dict(state)
    for change in changes:
        match change:
            case Add(new) | Restore(new):
                objects[new.key] = new
                if isinstance(new, Veth):
                    peer = _peer_of(new)
                    objects.setdefault(peer.key, peer)
            case Replace(old, new):
                objects.pop(old.key, None)
                _take_along(objects, old, new)
                objects[new.key] = new
            case Remove(old):
                objects.pop(old.key, None)
                _take_along(objects, old, None)
            case _:
                assert_never(change)
    return KernelState(objects.values())


# --- what the kernel takes along ---------------------------------------------------------------------------------


def _take_along(objects: dict[Key, KernelObject], old: KernelObject, new: KernelObject | None) -> None:
    match old:
        case Veth() if new is None:
            lost = [key for key, each in objects.items() if _goes_along(each, old)]
        case Veth() | Link() if isinstance(new, Veth | Link) and old.is_up and not new.is_up:
            # Link down drops routes, IPv6 addresses and neighbours; link up brings none of them back.
            lost = [
                key
                for key, each in objects.items()
                if isinstance(each, Route | Neighbour | AssignedAddress)
                and (each.namespace, each.link) == (old.namespace, old.name)
                and not (isinstance(each, AssignedAddress) and each.address.version == 4)
            ]
        case Veth() | Link() if isinstance(new, Veth | Link) and old.mac != new.mac:
            # With its own address a link forgets those of its neighbours, permanent ones too
            # (linux/net/core/neighbour.c, neigh_changeaddr).
            lost = [
                key
                for key, each in objects.items()
                if isinstance(each, Neighbour) and (each.namespace, each.link) == (old.namespace, old.name)
            ]
        case AssignedAddress():
            lost = [key for key, each in objects.items() if _depends_on_address(each, old)]
        case _:
            lost = []
    for key in lost:
        gone = objects.pop(key, None)
        if isinstance(gone, AssignedAddress):
            # In turn: with the other addresses of its subnet go the routes whose preferred source they were.
            _take_along(objects, gone, None)
    if isinstance(old, AssignedAddress) and old.address.version == 4 and not _has_ipv4_address(objects, old):
        # With its last IPv4 address a link loses all IPv4 routes and neighbours, permanent ones too
        # (linux/net/ipv4/fib_frontend.c, fib_disable_ip).
        for key in [key for key, each in objects.items() if _is_ipv4_on_link(each, old)]:
            del objects[key]


def _has_ipv4_address(objects: Mapping[Key, KernelObject], gone: AssignedAddress) -> bool:
    place = (gone.namespace, gone.link)
    return any(
        isinstance(each, AssignedAddress) and each.address.version == 4 and (each.namespace, each.link) == place
        for each in objects.values()
    )


def _is_ipv4_on_link(each: KernelObject, gone: AssignedAddress) -> bool:
    match each:
        case Route():
            version = each.network.version
        case Neighbour():
            version = each.address.version
        case _:
            return False
    return version == 4 and (each.namespace, each.link) == (gone.namespace, gone.link)


def _goes_along(each: KernelObject, link: Veth) -> bool:
    """Whether an object vanishes with a veth pair: everything on either end, and the other end itself."""
    ends = ((link.namespace, link.name), (link.peer_namespace, link.peer_name))
    match each:
        case Veth() | Link():
            return (each.namespace, each.name) in ends
        case AssignedAddress() | Route() | Neighbour() | Sysctl():
            return (each.namespace, each.link) in ends
        case SiblingLinks():
            # Elements of a set outlive the link; they are removed by name while the name still resolves.
            return False
        case PacketFilter():
            return False
        case _:
            assert_never(each)


def _depends_on_address(each: KernelObject, address: AssignedAddress) -> bool:
    """Whether deleting an address may delete the object too.

    IPv4 deletes the other addresses of the subnet when their primary goes (promote_secondaries=0), every route
    whose preferred source it was, and with the connected route all routes whose gateway lay in it. IPv6 keeps such
    routes but strips the preferred source.
    """
    network = address.address.network
    match each:
        case AssignedAddress():
            return (
                each.key != address.key
                and address.address.version == 4
                and (each.namespace, each.link) == (address.namespace, address.link)
                and each.address.network == network
            )
        case Route() if each.namespace == address.namespace:
            return each.source == address.address.address or (
                each.gateway is not None and each.link == address.link and network.includes(each.gateway)
            )
        case _:
            return False


def _peer_of(veth: Veth) -> Link:
    """The other end of a pair as it is right after the pair was made."""
    return Link(veth.peer_namespace, veth.peer_name, veth.peer_mac, veth.mtu, is_up=False)


def _first_of_all(want: KernelState, have: KernelState) -> list[Remove]:
    """What has to go before anything can come.

    Addresses that are gateways in the wanted state: the kernel refuses a gateway that is its own address. Addresses
    that make a wanted one or a gateway a broadcast address, and those that wanted ones make so: it refuses the routes
    that name them, as sources too. Pairs whose other end is not where it shall be, or is where that of another pair
    shall be: a peer is chosen once.
    """
    gateways = {
        (each.namespace, each.gateway) for each in want.values() if isinstance(each, Route) and each.gateway is not None
    }
    wanted_addresses = [each for each in want.values() if isinstance(each, AssignedAddress)]
    addresses = gateways | {(each.namespace, each.address.address) for each in wanted_addresses}
    broadcasts = {(each.namespace, address) for each in wanted_addresses for address in _broadcast_by(each)}
    peers = {_peer_of(each).key: each.key for each in want.values() if isinstance(each, Veth)}
    first: list[Remove] = []
    for key, present in have.items():
        match present:
            case AssignedAddress() if key not in want:
                is_in_the_way = (
                    (present.namespace, present.address.address) in gateways
                    or not addresses.isdisjoint((present.namespace, each) for each in _broadcast_by(present))
                    or (present.namespace, present.address.address) in broadcasts
                )
            case Veth():
                peer = _peer_of(present).key
                wanted = want.get(key)
                is_in_the_way = peers.get(peer, key) != key or (
                    isinstance(wanted, Veth) and _peer_of(wanted).key != peer
                )
            case _:
                is_in_the_way = False
        if is_in_the_way:
            first.append(Remove(present))
    return first


def _broadcast_by(address: AssignedAddress) -> Iterator[Address]:
    """The addresses that mean all on the network of an IPv4 address: neither hosts nor gateways beside it."""
    if address.broadcast is not None:
        yield address.broadcast
    network = address.address.network
    if network.version == 4 and network.length < BITS[4] - 1:
        yield network.address
        yield network.last


def _lost_of_others(foreign: KernelState, have: KernelState, changes: Sequence[Change]) -> Iterator[KernelObject]:
    """What the changes take along of other people's addresses, routes and neighbours and can be put back."""
    if not any(isinstance(each, Remove | Replace) for each in changes):
        return
    reached = pretend(KernelState([*foreign.objects, *have.objects]), changes)
    for key, each in foreign.items():
        if key in reached or not isinstance(each, AssignedAddress | Route | Neighbour):
            continue
        is_lost_for_good = isinstance(each, Route) and _lacks(each, reached, foreign)
        if ("link", each.namespace, each.link) in reached and not is_lost_for_good:
            yield each


def _lacks(route: Route, *states: KernelState) -> bool:
    """Whether the addresses that a route needs are in no state: its own source, one on its gateway's network."""
    addresses = [
        each
        for state in states
        for each in state.values()
        if isinstance(each, AssignedAddress) and each.namespace == route.namespace
    ]
    has_source = route.source is None or any(each.address.address == route.source for each in addresses)
    has_gateway = route.gateway is None or any(
        each.link == route.link and each.address.network.includes(route.gateway) for each in addresses
    )
    return not (has_source and has_gateway)


def _refuse_foreign(objects: Iterable[KernelObject], foreign: KernelState) -> None:
    for each in objects:
        there = foreign.get(each.key)
        if there is not None:
            container = container_of(each.namespace)
            place = f"container {container}" if container else "the host"
            raise Conflict(
                f"{describe(each)}: {place} already has {describe(there)}, which is not ours",
                code="foreign-object",
                subject=describe(each),
                holder=describe(there),
            )


# --- order -------------------------------------------------------------------------------------------------------
# Make before break. The guest knows an address before the host sends packets for it, and the host stops sending
# before the guest forgets it. Changes of one namespace stand together, so that each is one send.

_ADD_LINK = (10, 0)
_PACKET_FILTER = (11, 0)
_SET_SYSCTL = (20, 0)
_SET_HOST_LINK = (30, 0)
_PRESENT_IN_GUEST = 40
_PRESENT_ON_HOST = 50
_ADD_SIBLINGS = (60, 0)
_REMOVE_SIBLINGS = (70, 0)
_ABSENT_ON_HOST = 80
_ABSENT_IN_GUEST = 90
_REMOVE_LINK = (99, 0)


def _stage_of_presence(each: KernelObject, kind: type[Add] | type[Replace]) -> tuple[int, int]:
    stage = _PRESENT_ON_HOST if each.namespace == HOST else _PRESENT_IN_GUEST
    match each:
        case Veth():
            return _SET_HOST_LINK if kind is Replace else _ADD_LINK
        case Link():
            return (stage, 0)
        case AssignedAddress():
            return (stage, 1)
        case Neighbour():
            return (stage, 2)
        case Route():
            return (stage, 3 if each.gateway is None else 4)
        case Sysctl():
            return _SET_SYSCTL
        case SiblingLinks():
            return _ADD_SIBLINGS
        case PacketFilter():
            return _PACKET_FILTER
        case _:
            assert_never(each)


def _stage_of_absence(each: KernelObject) -> tuple[int, int]:
    stage = _ABSENT_ON_HOST if each.namespace == HOST else _ABSENT_IN_GUEST
    match each:
        case Route():
            return (stage, 1 if each.gateway is None else 0)
        case Neighbour():
            return (stage, 2)
        case AssignedAddress():
            return (stage, 3)
        case Link() | Sysctl():
            return (stage, 4)
        case SiblingLinks():
            return _REMOVE_SIBLINGS
        case PacketFilter():
            return (stage, 5)
        case Veth():
            return _REMOVE_LINK
        case _:
            assert_never(each)


# --- text --------------------------------------------------------------------------------------------------------


def describe(each: KernelObject) -> str:
    """The object in the notation of `ip` and `sysctl`, without a verb."""
    match each:
        case Veth() | Link():
            return f"link {each.name}"
        case AssignedAddress():
            return f"addr {each.address} dev {each.link}"
        case Route():
            return f"route {_route(each)}"
        case Neighbour():
            return f"neigh {each.address} lladdr {each.mac} dev {each.link} nud permanent"
        case Sysctl():
            return f"{_dotted(each)} = {each.value}"
        case SiblingLinks():
            return f"siblings {each.link} . {each.sibling}"
        case PacketFilter():
            return f"table {each.table}"
        case _:
            assert_never(each)


def _lines(change: Change) -> Iterator[str]:
    match change:
        case Add(new):
            yield from _lines_of_presence(new, "add")
        case Restore(new):
            yield from _lines_of_presence(new, "replace")
        case Replace(old, new):
            yield from _lines_of_replacement(old, new)
        case Remove(old):
            yield from _lines_of_absence(old)
        case _:
            assert_never(change)


def _lines_of_presence(each: KernelObject, verb: str) -> Iterator[str]:
    match each:
        case Veth():
            container = container_of(each.peer_namespace)
            place = f" netns {container}" if container else ""
            yield (
                f"ip link add {each.name} address {each.mac} mtu {each.mtu} group {each.group} type veth"
                f" peer name {each.peer_name} address {each.peer_mac} mtu {each.mtu}{place}"
            )
            # iproute2 sets a group only on links that exist already when the pair is made in one go.
            yield f"ip link set dev {each.name} group {each.group} addrgenmode none"
            if each.is_up:
                yield f"ip link set dev {each.name} up"
        case Link():
            yield from _link_settings(each)
        case AssignedAddress():
            yield f"ip addr {verb} {_address(each)} dev {each.link}{_address_flags(each)}"
        case Route():
            yield f"ip{_family(each.network)} route {verb} {_route(each)}"
        case Neighbour():
            yield f"ip neigh {verb} {each.address} lladdr {each.mac} dev {each.link} nud permanent"
        case Sysctl():
            yield f"sysctl -w {_dotted(each)}={each.value}"
        case SiblingLinks():
            yield f"nft add element inet osctl siblings '{{ \"{each.link}\" . \"{each.sibling}\" }}'"
        case PacketFilter():
            yield f"nft -f - <<'EOF'\n{packet_filter.script(each)}EOF"
        case _:
            assert_never(each)


def _lines_of_replacement(old: KernelObject, new: KernelObject) -> Iterator[str]:
    match new:
        case Veth() | Link():
            assert isinstance(old, Veth | Link)
            yield from _link_settings(new, old)
        case AssignedAddress():
            # `ip addr replace` of an IPv6 address with another prefix length returns 0 and changes nothing.
            yield from _lines_of_absence(old)
            yield from _lines_of_presence(new, "add")
        case Sysctl():
            yield from _lines_of_presence(new, "set")
        case Route() | Neighbour() | SiblingLinks() | PacketFilter():
            yield from _lines_of_presence(new, "replace")
        case _:
            assert_never(new)


def _lines_of_absence(each: KernelObject) -> Iterator[str]:
    match each:
        case Veth() | Link():
            yield f"ip link del dev {each.name}"
        case AssignedAddress():
            yield f"ip addr del {each.address} dev {each.link}"
        case Route():
            yield f"ip{_family(each.network)} route del {_route(each)}"
        case Neighbour():
            yield f"ip neigh del {each.address} dev {each.link}"
        case Sysctl():
            return
        case SiblingLinks():
            yield f"nft delete element inet osctl siblings '{{ \"{each.link}\" . \"{each.sibling}\" }}'"
        case PacketFilter():
            yield f"nft delete table {each.table}"
        case _:
            assert_never(each)


def _link_settings(new: Veth | Link, old: Veth | Link | None = None) -> Iterator[str]:
    words = []
    if old is None or old.mac != new.mac:
        words.append(f"address {new.mac}")
    if old is None or old.mtu != new.mtu:
        words.append(f"mtu {new.mtu}")
    if isinstance(new, Veth) and (not isinstance(old, Veth) or old.group != new.group):
        words.append(f"group {new.group}")
    if old is None or old.is_up != new.is_up:
        words.append("up" if new.is_up else "down")
    if words:
        yield f"ip link set dev {new.name} {' '.join(words)}"


def _address(each: AssignedAddress) -> str:
    return f"{each.address} brd {each.broadcast}" if each.broadcast is not None else str(each.address)


def _address_flags(each: AssignedAddress) -> str:
    nodad = " nodad" if each.address.version == 6 else ""
    return nodad + ("" if each.has_prefix_route else " noprefixroute")


def _route(each: Route) -> str:
    words = ["default" if each.network.is_default else str(each.network)]
    if each.gateway is not None:
        words.append(f"via {each.gateway}")
    words.append(f"dev {each.link} proto {'static' if each.protocol == PROTOCOL_STATIC else each.protocol}")
    if each.gateway is None and each.network.version == 4:
        words.append("scope link")
    if each.source is not None:
        words.append(f"src {each.source}")
    if each.metric and not (each.network.version == 6 and each.metric == IPV6_DEFAULT_METRIC):
        words.append(f"metric {each.metric}")
    return " ".join(words)


def _family(network: Network) -> str:
    return " -6" if network.version == 6 else ""


def _dotted(each: Sysctl) -> str:
    # A link may have a dot in its name (eth0.100); sysctl(8) takes slashes where dots would be ambiguous.
    return f"net/{each.path}" if "." in each.path else "net." + each.path.replace("/", ".")
