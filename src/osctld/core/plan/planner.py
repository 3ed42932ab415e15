"""From what a kernel holds and what it should hold to the ordered changes between the two.

A plan is a value: it can be printed, compared, undone. What the kernel would take along by accident, by our model of
it (`kernel_model`), a plan puts back, in the same plan.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

import msgspec

from osctld.core.address.addresses import BITS, Address, Network, PackedNetwork
from osctld.core.errors import Conflict
from osctld.core.plan.address_order import Order, Subnet, first_differences, has_several, order_after, order_of
from osctld.core.plan.changes import (
    Add,
    Change,
    Changes,
    Remove,
    RenameLink,
    Replace,
    Restore,
    RouteChanges,
    subject_of,
)
from osctld.core.plan.kernel_model import goes_along, is_link_local_of, peer_of, pretend, version_of
from osctld.core.plan.kernel_state import (
    HOST,
    LEAST_IPV6_MTU,
    MAIN_TABLE,
    AssignedAddress,
    KernelObject,
    KernelState,
    Key,
    Link,
    Namespace,
    Neighbour,
    Outcome,
    PermittedSource,
    Route,
    Routes,
    SiblingLinks,
    Sysctl,
    Veth,
    Way,
    alike,
    container_of,
)
from osctld.core.plan.order import (
    Stage,
    in_order,
    stage_of_absence,
    stage_of_presence,
    stage_of_replacement,
    stage_of_route_absence,
    stage_of_route_presence,
)
from osctld.core.plan.packet_filter import set_of
from osctld.core.plan.text import describe, lines_of


class Plan(msgspec.Struct, frozen=True):
    """An ordered list of changes that leads from `have` to `want`, beside existing foreign objects."""

    have: KernelState
    want: KernelState
    changes: Sequence[Change]
    foreign: KernelState = KernelState()
    #: Whether the kernel renames a link that is up (from 6.2 on); else a plan takes it down for that.
    renames_while_up: bool = True

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
        names_only = [each for each in done if isinstance(each, RenameLink)]
        foreign = pretend(self.foreign, names_only) if names_only else self.foreign
        # What was added and, by our pessimistic model, lost again may still exist.
        came = {subject_of(each).key: subject_of(each) for each in done if not isinstance(each, Remove | RenameLink)}
        doubtful = [each for key, each in came.items() if key not in reached and key not in self.have]
        back = plan_changes(
            self.have,
            reached.with_objects(doubtful).without_keys(foreign),
            foreign,
            renames_while_up=self.renames_while_up,
            orders=_orders_after(_orders_of(self.have), done),
        )
        return msgspec.structs.replace(back, changes=Changes.of(back.changes).restoring())

    def lines(self) -> Iterator[tuple[Namespace, str]]:
        """Each change as the `ip`, `sysctl` or `nft` command lines that would do it, with their namespace."""
        sources = Counter(set_of(each) for each in self.have.others.values() if isinstance(each, PermittedSource))
        for change in self.changes:
            subject, empties_set = subject_of(change), False
            if isinstance(subject, PermittedSource):
                name, is_removal = set_of(subject), isinstance(change, Remove)
                sources[name] += -1 if is_removal else subject.key not in self.have
                empties_set = is_removal and sources[name] == 0
            for line in lines_of(change, empties_set=empties_set):
                yield subject.namespace, line

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


def plan_changes(
    want: KernelState,
    have: KernelState,
    foreign: KernelState | None = None,
    *,
    renames_while_up: bool = True,
    orders: Iterable[Order] | None = None,
) -> Plan:
    """Plan the changes that turn `have` into `want`.

    The IPv4 addresses of one subnet in a guest come to stand in the order in which `want` lists them. They stand as
    `have` lists them, unless `orders` says in which orders they may be: first in a guest that promotes secondary
    addresses, then in one that does not.

    `foreign` holds existing objects that are not ours. An equal foreign object serves as ours and is left alone; a
    different one with the same key is a Conflict that names it. What the kernel takes along of it is put back where it
    still can be. Without `renames_while_up` a link that is up is taken down to be renamed.
    """
    foreign = foreign or KernelState()
    changes_of_routes = _if_only_routes_differ(want, have, foreign)
    if changes_of_routes is not None:
        rearranged = _rearranged(want, foreign, lambda: _orders_of(have) if orders is None else orders)
        if rearranged:
            done = [*changes_of_routes, *rearranged]
            changes_of_routes = Changes.of([*done, *_restores(want, have, foreign, foreign, done)])
        return Plan(have, want, changes_of_routes, foreign, renames_while_up)
    whole, found, others = (have, want), have, foreign
    if _others_on_host(want) == _others_on_host(have):
        # Nothing takes along routes of the host that stay, nor needs them: they may be very many, and are passed over.
        want, have = _without_routes_in_common(want, have)
        found = have
    renames = _renames(want, have, foreign, while_up=renames_while_up)
    # From here on, all is called by its new name.
    renamed = pretend(found, renames) if renames else found
    if renames:
        names_only = [each for each in renames if isinstance(each, RenameLink)]
        have, foreign = pretend(have, names_only), pretend(foreign, names_only)
    first = _first_of_all(want, renamed)
    cleared = pretend(renamed, first)
    ordered: list[tuple[Stage, Change]] = []
    created_peers = KernelState()
    leaving = [each for key, each in cleared.items() if isinstance(each, Veth) and key not in want]
    for key, wanted in want.items():
        if isinstance(wanted, Veth) and key not in cleared and foreign.get(key) != wanted:
            down = msgspec.structs.replace(wanted, is_up=False)
            peer = peer_of(wanted)
            _refuse_foreign([down, peer], foreign)
            created_peers = created_peers.with_objects([peer])
            ordered.append((stage_of_presence(down, Add), Add(down)))
            if wanted.is_up:
                ordered.append((stage_of_presence(wanted, Replace), Replace(down, wanted)))
    for key, wanted in want.items():
        present = cleared.get(key) or created_peers.get(key)
        if present == wanted or (present is None and foreign.get(key) == wanted):
            continue
        if present is not None:
            ordered.append((stage_of_replacement(present, wanted), Replace(present, wanted)))
        elif not isinstance(wanted, Veth):
            _refuse_foreign([wanted], foreign)
            # What was removed may still exist: our model assumes the worst.
            ordered.append((stage_of_presence(wanted, Add), Restore(wanted) if key in have else Add(wanted)))
    ordered.extend((stage_of_presence(each, Add), Restore(each)) for each in _gone_for_a_moment(want, ordered))
    first_removed = {each.object.key for each in first}
    vanishing = [*leaving, *(each.object for each in first if isinstance(each.object, Veth))]
    for key, present in have.items():
        if key in want or key in first_removed:
            continue
        if not isinstance(present, SiblingLinks) and any(goes_along(present, link) for link in vanishing):
            continue
        if isinstance(present, Sysctl):
            continue  # a setting is changed or stays; it has no absence
        ordered.append((stage_of_absence(present), Remove(present)))
    ordered.extend((stage_of_absence(link), Remove(link)) for link in leaving)
    changes = [*renames, *first, *in_order(ordered)]
    changes.extend(_restores(want, found, foreign, others, changes))
    rearranged = _rearranged(
        want, foreign, lambda: _orders_after(_orders_of(found) if orders is None else orders, changes)
    )
    if rearranged:
        changes.extend(rearranged)
        changes.extend(_restores(want, found, foreign, others, changes))
    return Plan(*whole, Changes.of(changes), others, renames_while_up)


def _others_on_host(state: KernelState) -> dict[Key, KernelObject]:
    return {key: each for key, each in state.others.items() if each.namespace == HOST}


def _without_routes_in_common(want: KernelState, have: KernelState) -> tuple[KernelState, KernelState]:
    """Both without the routes of the host that are the same in both."""
    left: tuple[list[KernelObject | Routes], ...] = ([*want.others.values()], [*have.others.values()])
    for state, other, parts in ((want, have, left[0]), (have, want, left[1])):
        for place, table in state.routes.items():
            same = other.routes.get(place, {}) if place[0] == HOST else {}
            if same != table:
                parts.extend(alike({each: way for each, way in table.items() if same.get(each) != way}))
    return KernelState(left[0]), KernelState(left[1])


def _restores(
    want: KernelState, found: KernelState, foreign: KernelState, others: KernelState, changes: Sequence[Change]
) -> list[Change]:
    """What puts back what the changes take along of `found` and of `others`, who are `foreign` by their last names."""
    reached = pretend(found, changes)
    lost = [each for key, each in want.items() if reached.get(key) != each and foreign.get(key) != each]
    lost.extend(_lost_of_others(foreign, KernelState([*others.objects, *found.objects]), changes))
    lost.sort(key=lambda each: (each.namespace == HOST, stage_of_presence(each, Add)))
    return [Restore(each) for each in lost]


def _orders_of(state: KernelState) -> tuple[Order, Order]:
    order = order_of(state.others.values())
    return order, order


def _orders_after(orders: Iterable[Order], changes: Iterable[Change]) -> tuple[Order, Order]:
    """The orders that changes lead to, in a guest that promotes secondary addresses and in one that does not."""
    promoting, deleting = orders
    return order_after(promoting, changes, promotes=True), order_after(deleting, changes, promotes=False)


def _rearranged(want: KernelState, foreign: KernelState, orders: Callable[[], Iterable[Order]]) -> list[Change]:
    """Take away and add again those IPv4 addresses of guests that would not stand in the wanted order.

    `orders` says in which orders they may be. The last one goes first, so that what the guest does with secondaries
    does not matter. Its source address it leaves to the kernel meanwhile: its routes would go with their preferred
    source.
    """
    addresses = [
        each
        for key, each in want.others.items()
        if isinstance(each, AssignedAddress) and foreign.others.get(key) != each
    ]
    wanted = order_of(addresses)
    differences = first_differences(wanted, orders()) if has_several(wanted) else {}
    if not differences:
        return []
    moving: dict[Subnet, list[AssignedAddress]] = {}
    for each in addresses:
        subnet = (each.namespace, each.link, each.address.network)
        if subnet in differences:
            moving.setdefault(subnet, []).append(each)
    again = [each for subnet, in_order in moving.items() for each in in_order[differences[subnet] :]]
    sources = {(each.namespace, each.address.address) for each in again}
    speaking = [
        each
        for key, each in want.items()
        if isinstance(each, Route)
        and each.source is not None
        and (each.namespace, each.source) in sources
        and foreign.get(key) != each
    ]
    return [
        *(Replace(each, msgspec.structs.replace(each, source=None)) for each in speaking),
        *(Remove(each) for each in reversed(again)),
        *(Restore(each) for each in again),
    ]


def _gone_for_a_moment(want: KernelState, ordered: Iterable[tuple[Stage, Change]]) -> list[AssignedAddress]:
    """IPv4 addresses that may go with one of their subnet that is replaced: needed again before routes name them."""
    subnets: dict[tuple[str, str, Network], set[Key]] = {}
    for _, change in ordered:
        if isinstance(change, Replace) and isinstance(change.old, AssignedAddress) and change.old.address.version == 4:
            old = change.old
            subnets.setdefault((old.namespace, old.link, old.address.network), set()).add(old.key)
    if not subnets:
        return []
    return [
        each
        for each in want.values()
        if isinstance(each, AssignedAddress)
        and subnets.get((each.namespace, each.link, each.address.network), set()) - {each.key}
    ]


def _renames(want: KernelState, have: KernelState, foreign: KernelState, *, while_up: bool) -> list[Change]:
    """Give the other ends of remaining pairs their wanted names.

    One whose name is taken waits for that to become free; those that wait for each other are recreated, see
    _first_of_all.
    """
    waiting: list[tuple[Link, str]] = []
    for key, wanted in want.items():
        present = have.get(key)
        if not isinstance(wanted, Veth) or not isinstance(present, Veth) or present.peer_name == wanted.peer_name:
            continue
        link = have.get(peer_of(present).key)
        if isinstance(link, Link) and present.peer_namespace == wanted.peer_namespace:
            waiting.append((link, wanted.peer_name))
    changes: list[Change] = []
    taken = {key for key in (*have, *foreign) if key[0] == "link"}
    while True:
        ready = [(link, name) for link, name in waiting if ("link", link.namespace, name) not in taken]
        if not ready:
            return changes
        for link, name in ready[:1]:
            taken = (taken - {link.key}) | {("link", link.namespace, name)}
            waiting.remove((link, name))
            down, new = (msgspec.structs.replace(link, is_up=False), msgspec.structs.replace(link, name=name))
            if while_up or not link.is_up:
                changes.append(RenameLink(link, new))
            else:
                down_anew = msgspec.structs.replace(new, is_up=False)
                changes.extend([Replace(link, down), RenameLink(down, down_anew), Replace(down_anew, new)])


def _if_only_routes_differ(want: KernelState, have: KernelState, foreign: KernelState) -> Changes | None:
    """What plan_changes comes to when routes come and go and all else stays; None when there is more to do.

    By the hundred thousand, routes neither need nor take along each other or anything else: nothing has to be imagined.
    """
    if want.others != have.others:
        return None
    coming: list[Routes] = []
    for place, wanted in want.routes.items():
        there = {**foreign.routes.get(place, {}), **have.routes.get(place, {})}
        if there and any(there.get(each, way) != way for each, way in wanted.items()):
            return None
        coming.extend(alike(_without(wanted, there)))
    leaving: list[Routes] = []
    for place, present in have.routes.items():
        wanted = want.routes.get(place, {})
        leaving.extend(alike(_without(present, wanted)))
    coming.sort(key=lambda each: stage_of_route_presence(each.way))
    leaving.sort(key=lambda each: stage_of_route_absence(each.way))
    return Changes(
        [
            *(RouteChanges(Add, each) for each in coming),
            *(RouteChanges(Remove, each) for each in leaving),
        ]
    )


def _without(table: Mapping[PackedNetwork, Way], other: Collection[PackedNetwork]) -> Mapping[PackedNetwork, Way]:
    return {each: way for each, way in table.items() if each not in other} if other else table


def _hides_gateway(present: Route, wanted: KernelObject | None) -> bool:
    """Whether a route leads elsewhere to the gateway of the one that is to take its place."""
    return (
        isinstance(wanted, Route)
        and wanted.is_onlink
        and wanted.link != present.link
        and wanted.gateway is not None
        and wanted.network.version == 6
        and wanted.network.includes(wanted.gateway)
    )


def _first_of_all(want: KernelState, have: KernelState) -> list[Remove]:
    """What has to go before anything can come.

    Addresses that are gateways in the wanted state: the kernel refuses a gateway that is its own address. Addresses
    that make a wanted one or a gateway a broadcast address, and those that wanted ones make so: it refuses the routes
    that name them, as sources too. Addresses of a subnet whose other addresses have another wanted scope: it refuses
    two of one subnet. Addresses whose own network is to be routed: the kernel's route for it is in the way. Pairs whose
    other end is not in its wanted place, or is in the wanted place of another one: a peer is chosen once. IPv6 routes
    that lead to the gateway of the one in their place, by another link: the kernel refuses that gateway.
    """
    gateways = {
        (each.namespace, each.gateway) for each in want.values() if isinstance(each, Route) and each.gateway is not None
    }
    wanted_addresses = [each for each in want.values() if isinstance(each, AssignedAddress)]
    addresses = gateways | {(each.namespace, each.address.address) for each in wanted_addresses}
    broadcasts = {(each.namespace, address) for each in wanted_addresses for address in _broadcast_by(each)}
    # Of IPv4 alone: the kernel's routes for IPv6 have a metric of their own, and so do ours.
    routed = {
        (each.namespace, each.network)
        for each in want.values()
        if isinstance(each, Route) and not each.metric and each.table == MAIN_TABLE
    }
    scopes: dict[Subnet, dict[Key, bool]] = {}
    for each in wanted_addresses:
        if each.address.version == 4:
            subnet = (each.namespace, each.link, each.address.network)
            scopes.setdefault(subnet, {})[each.key] = each.is_source
    peers = {peer_of(each).key: each.key for each in want.values() if isinstance(each, Veth)}
    first: list[Remove] = []
    for key, present in have.items():
        match present:
            case AssignedAddress() if any(
                other != key and is_source != present.is_source
                for other, is_source in scopes.get(
                    (present.namespace, present.link, present.address.network), {}
                ).items()
            ):
                is_in_the_way = True
            case AssignedAddress() if key not in want:
                is_in_the_way = (
                    (present.namespace, present.address.address) in gateways
                    or not addresses.isdisjoint((present.namespace, each) for each in _broadcast_by(present))
                    or (present.namespace, present.address.address) in broadcasts
                    or (present.has_prefix_route and (present.namespace, present.address.network) in routed)
                )
            case Route():
                is_in_the_way = _hides_gateway(present, want.get(key))
            case Veth():
                peer = peer_of(present).key
                wanted = want.get(key)
                is_in_the_way = peers.get(peer, key) != key or (
                    isinstance(wanted, Veth) and peer_of(wanted).key != peer
                )
            case _:
                is_in_the_way = False
        if is_in_the_way:
            first.append(Remove(present))
    first.extend(_changed_beside(want, have, first))
    gone = {each.object.name for each in first if isinstance(each.object, Veth)}
    # By name, while the names stand for the links that go.
    elements = [
        Remove(each)
        for each in (have.values() if gone else ())
        if isinstance(each, SiblingLinks) and not gone.isdisjoint((each.link, each.sibling))
    ]
    return [*elements, *first]


def _changed_beside(want: KernelState, have: KernelState, first: Sequence[Remove]) -> Iterator[Remove]:
    """Addresses that are to be another way, and may or may not go with one of their IPv4 subnet that is removed.

    Which it is depends on the order in which they stand, and on the guest. Restored, they would be as they were if they
    are still there: the kernel changes no scope.
    """
    removed = {each.object.key for each in first}
    subnets = {
        (each.object.namespace, each.object.link, each.object.address.network)
        for each in first
        if isinstance(each.object, AssignedAddress) and each.object.address.version == 4
    }
    for key, present in have.items() if subnets else ():
        if (
            isinstance(present, AssignedAddress)
            and key not in removed
            and (present.namespace, present.link, present.address.network) in subnets
            and want.get(key) not in (None, present)
        ):
            yield Remove(present)


def _broadcast_by(address: AssignedAddress) -> Iterator[Address]:
    """The addresses that mean all on the network of an IPv4 address: neither hosts nor gateways beside it."""
    if address.broadcast is not None:
        yield address.broadcast
    network = address.address.network
    if network.version == 4 and network.length < BITS[4] - 1:
        yield network.address
        yield network.last


def _lost_of_others(foreign: KernelState, found: KernelState, changes: Sequence[Change]) -> Iterator[KernelObject]:
    """What the changes take along of other people's addresses, routes and neighbours and can be put back.

    `foreign` is theirs under the names that links have in the end, `found` all that was there before the changes.
    """
    if not foreign or not any(isinstance(each, Remove | Replace) for each in changes):
        return
    reached = pretend(found, changes)
    for key, each in foreign.items():
        if key in reached or not isinstance(each, AssignedAddress | Route | Neighbour):
            continue
        if isinstance(each, AssignedAddress) and each.expires:
            continue
        link = reached.get(("link", each.namespace, each.link))
        if not isinstance(link, Veth | Link) or (version_of(each) == 6 and link.mtu < LEAST_IPV6_MTU):
            continue
        is_lost_for_good = isinstance(each, Route) and _lacks(each, reached, foreign)
        # The link of that name may have been another one.
        is_made_by_kernel = any(is_link_local_of(one, each) for one in (link, found.get(link.key, link)))
        if not is_lost_for_good and not is_made_by_kernel:
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
    has_gateway = (
        route.gateway is None
        or route.is_onlink
        or any(each.link == route.link and each.address.network.includes(route.gateway) for each in addresses)
    )
    return not (has_source and has_gateway)


def _refuse_foreign(objects: Iterable[KernelObject], foreign: KernelState) -> None:
    for each in objects:
        there = foreign.get(each.key)
        if there is not None:
            container = container_of(each.namespace)
            place = f"container {container}" if container else "the host"
            raise Conflict(
                f"{describe(each)}: {place} already has {describe(there)}, which is foreign",
                code="foreign-object",
                subject=describe(each),
                holder=describe(there),
            )
