"""The kernel's network state: observed as values, changed by plans. The only way to the kernel for all others."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

import msgspec

from osctld.core.address.addresses import Network, PackedNetwork
from osctld.core.authority.host_networks import HostNetwork, HostSpace, Use
from osctld.core.authority.null_routes import NullRoute
from osctld.core.authority.routing_rules import Rule
from osctld.core.authority.uplinks import HostSight, SeenLink
from osctld.core.authority.ways import Answer, Ask
from osctld.core.errors import ApplyFailed, Unavailable
from osctld.core.plan.arrivals import Arrival
from osctld.core.plan.kernel_state import (
    HOST,
    SOUGHT_AT_MOST,
    AssignedAddress,
    FilterElement,
    HostFacts,
    HostLink,
    KernelObject,
    KernelState,
    Key,
    Link,
    LinkScope,
    Master,
    Namespace,
    Neighbour,
    Outcome,
    Route,
    Routes,
    SoughtRoutes,
    Sysctl,
    Veth,
)
from osctld.core.plan.planner import Plan
from osctld.shell.kernel import (
    host_uses,
    host_ways,
    leading_links,
    packet_filter_table,
    router_solicitation,
    rtnetlink_dumps,
    sysctl,
    unsolicited,
)
from osctld.shell.kernel.announcement_table import AnnouncementTable
from osctld.shell.kernel.events import KernelEvents
from osctld.shell.kernel.host_networks import HostNetworks
from osctld.shell.kernel.host_side import HostSide
from osctld.shell.kernel.netlink import NetlinkSocket
from osctld.shell.kernel.netns import open_namespace, open_netlink
from osctld.shell.kernel.nftables import Nftables
from osctld.shell.kernel.null_routes import NullRoutes
from osctld.shell.kernel.packet_filter_elements import PacketFilterElements
from osctld.shell.kernel.plan_application import FaultHook, PlanApplication
from osctld.shell.kernel.routing_rules import RoutingRules
from osctld.shell.kernel.rtnetlink_dumps import LinkFacts
from osctld.shell.kernel.tracked_connections import TrackedConnections

#: Release of the kernel that lets links be renamed while they are up (dev_change_name in linux/net/core/dev.c).
RENAMES_WHILE_UP = (6, 2)

#: From this number of links, they are found in one dump of all.
_MANY_NAMES = 8

#: So many routes are asked for one by one in any case. One costs 8 microseconds more than in a dump that tells little
#: else; a dump of 200,000 routes of others costs 20 milliseconds (both measured).
_FEW_SOUGHT = 16
#: What a dump may take at most when others have few routes: three times what it took in the same measurement.
_CROWDED_SECONDS, _SECONDS_FOR_EACH = 0.001, 0.00001


class Kernel:
    """One kernel, seen from the network namespace in which this object was made: the host's.

    Containers' namespaces are given to each call as descriptors (of a namespace, or a pidfd), entered for
    the call and left with it. Calls from several threads wait for each other; all these threads have to be in the
    host's namespace, where they are unless they leave it.
    """

    def __init__(
        self,
        *,
        fault: FaultHook | None = None,
        renames_while_up: bool | None = None,
        clock: Callable[[], float] = time.thread_time,
    ) -> None:
        """`renames_while_up` overrules what the kernel's release says of that, so that tests can go the long way.

        `clock` tells the seconds that the calling thread has worked, by which looks are found dear.
        """
        self._host = NetlinkSocket()
        #: For what is asked of the host as a whole, beside who has the lock: that may look at very much.
        self._asking = NetlinkSocket()
        self._nftables = Nftables()
        self._elements = PacketFilterElements(self._index)
        self._counters = PacketFilterElements(self._index)
        self._networks: HostNetworks | None = None
        self._null_routes: NullRoutes | None = None
        self._tracked: TrackedConnections | None = None
        self._rules: RoutingRules | None = None
        self._is_crowded = False
        self._clock = clock
        self._fault = fault
        self._renames_while_up = _release() >= RENAMES_WHILE_UP if renames_while_up is None else renames_while_up
        self._lock, self._counting, self._asking_lock = threading.Lock(), threading.Lock(), threading.Lock()

    def close(self) -> None:
        self._host.close()
        self._asking.close()
        self._nftables.close()
        self._elements.close()
        self._counters.close()
        if self._networks is not None:
            self._networks.close()
        if self._null_routes is not None:
            self._null_routes.close()
        if self._tracked is not None:
            self._tracked.close()
        if self._rules is not None:
            self._rules.close()

    def listen(self, route_protocols: Iterable[int]) -> KernelEvents:
        """Hear from now on what others change on the host; of routes those of these protocols. Close it at the end.

        Raises Unavailable if the kernel does not answer.
        """
        try:
            return KernelEvents(
                own_rtnetlink=[self._host.port],
                own_netfilter=[self._elements.port, self._counters.port],
                route_protocols=route_protocols,
            )
        except OSError as error:
            raise Unavailable(
                f"the kernel does not report changes: {error.strerror or error}", code="kernel-unreadable"
            ) from error

    # --- observe --------------------------------------------------------------------------------------------------

    def see_host(self, *, link_group: int, bridge_link_group: int, own_protocols: Collection[int]) -> HostSight:
        """Look at the links other than loopback and ours, at forwarding, and at who takes router advertisements.

        Of our two groups, links of the second one are to be ports. Routes of `own_protocols` are ours.
        """
        with self._alone():
            present = list(
                rtnetlink_dumps.dump_links_but(self._host, ports_of=link_group, nothing_of=bridge_link_group)
            )
            links = {link.index: link for link in present if not link.is_loopback and link.group != link_group}
            ports = [link for link in present if link.master_index and link.group == link_group]
            # A link that is down has no routes.
            up = [index for index, link in links.items() if link.is_up]
            leading = leading_links.leading_links(up, own_protocols=own_protocols)
            by_advertisement = leading_links.links_with_advertised_default(self._host)
            forwarding = sysctl.read("ipv6/conf/all/forwarding")
            seen = (
                rtnetlink_dumps.advertisements_on(link, has_default=link.index in by_advertisement)
                for link in links.values()
            )
            facts = HostFacts(
                uplinks=(),
                has_ipv6_forwarding=forwarding == "1",
                links=tuple(each for each in seen if each is not None),
                default_accept_ra=int(sysctl.read("ipv6/conf/default/accept_ra") or 0),
                has_ipv6_default=leading_links.has_ipv6_default(self._host, links),
                has_ipv6=forwarding is not None,
                renames_while_up=self._renames_while_up,
                has_ipv4_forwarding=sysctl.read("ipv4/conf/all/forwarding") == "1",
                ports=tuple(
                    (port.name, master) for port in ports if (master := self._master(port.master_index)) is not None
                ),
            )
            return HostSight(
                tuple(
                    SeenLink(
                        name=link.name,
                        mtu=link.mtu,
                        is_up=link.is_up,
                        is_port=bool(link.master_index),
                        has_ipv4_forwarding=rtnetlink_dumps.forwards_ipv4(link),
                        leads_out=index in leading,
                    )
                    for index, link in links.items()
                ),
                facts,
            )

    def links_with_global_address(self) -> frozenset[str]:
        """The names of the links that have an address of more than their own link."""
        with self._alone():
            indexes = set(rtnetlink_dumps.links_with_global_address(self._host))
            return frozenset(link.name for link in rtnetlink_dumps.dump_links(self._host) if link.index in indexes)

    def host_link(self, name: str) -> HostLink | None:
        """A link of the host by its own name, with its addresses; None when there is none."""
        with self._alone():
            found = rtnetlink_dumps.find_link_by_any_name(self._host, name)
            if found is None or found.name != name:
                return None
            addresses = rtnetlink_dumps.global_addresses_of(self._host, found.index)
            return HostLink(name, found.kind, found.mtu, tuple(addresses), index=found.index)

    def host_networks(self, *, link_groups: Collection[int]) -> HostSpace:
        """All that links of the host other than ours use of the address space."""
        with self._asking_alone():
            if self._networks is None:
                self._networks = HostNetworks(link_groups=link_groups)
            return self._networks.present(self._asking)

    def null_routes(self, *, own_protocols: Iterable[int]) -> tuple[NullRoute, ...]:
        """Routes of others in the main table that drop what goes to a network."""
        with self._asking_alone():
            return self._null_routes_but(own_protocols).present(self._asking)

    def own_null_routes(self, *, own_protocols: Iterable[int]) -> tuple[NullRoute, ...]:
        """Those of these protocols."""
        with self._asking_alone():
            return self._null_routes_but(own_protocols).own(self._asking)

    def _null_routes_but(self, own_protocols: Iterable[int]) -> NullRoutes:
        if self._null_routes is None:
            self._null_routes = NullRoutes(own_protocols=own_protocols)
        return self._null_routes

    def rules(self) -> tuple[Rule, ...]:
        """The host's routing rules; the same value while that is so."""
        with self._alone():
            if self._rules is None:
                self._rules = RoutingRules()
            return self._rules.present(self._host)

    def ways(self, asks: Iterable[Ask]) -> tuple[Answer | None, ...]:
        """The route that each packet follows now; None where it follows none."""
        with self._alone():
            return host_ways.ways(self._host, list(asks), _name, self._index)

    def networks_in_table(self, table: int) -> tuple[Network, ...]:
        """Destinations of the first routes of a table, at least some dozens if there are so many."""
        with self._alone():
            return tuple(host_ways.networks_in_table(table))

    def networks_beyond(self, link: str, version: int) -> tuple[Network, ...]:
        """Destinations of the first routes by a link, in whatever table."""
        with self._alone():
            index = self._index(link)
            return tuple(host_ways.networks_beyond(index, version)) if index is not None else ()

    def routes_under(self, routes: Collection[Route]) -> Mapping[Key, Route | NullRoute]:
        """What the host's main table holds under the keys of these routes, by key."""
        with self._alone():
            return {ours.key: there for ours, there in rtnetlink_dumps.routes_under(self._host, routes, _name)}

    def learned_routes(self, networks: Iterable[Network], *, ours: Collection[int]) -> tuple[HostNetwork, ...]:
        """Routes that routing daemons brought and that packets to the first address of each network follow now; those
        of protocols `ours` do not count."""
        with self._asking_alone():
            found = []
            for index, destination, protocol in host_uses.learned_routes(self._asking, networks, ours=ours):
                with contextlib.suppress(OSError):  # its link is gone, and the route with it
                    found.append(HostNetwork(destination, socket.if_indextoname(index), Use.LEARNED, protocol))
            return tuple(dict.fromkeys(found))

    def hear_of_host_networks(self) -> None:
        """Read notifications of them: to be called when notifications arrive, before the buffer overflows."""
        with self._asking_alone():
            if self._networks is not None:
                self._networks.hear()

    def observe(
        self,
        scopes: Sequence[LinkScope],
        namespaces: Mapping[Namespace, int],
        *,
        sysctls: Iterable[str] = (),
        inside: Collection[Key] = (),
        elements: Iterable[FilterElement] = (),
        host_side: HostSide | None = None,
        sought: SoughtRoutes | None = None,
    ) -> KernelState:
        """All objects of these links: the links, and on them addresses, routes of the main table other than the
        kernel's own, permanent neighbours, and in guests that IPv6 is switched off; the settings asked for, those of
        links in guests by the keys that are `inside`; those of
        the packet filter's elements asked for that are there, and when links of theirs are gone, those that gone links
        left behind.

        A link that is not there is simply absent, and so is everything in a namespace that is gone. The other end of a
        pair is there by whatever name, in a namespace that any of the scopes is in. A host link that is not a veth is a
        plain Link; of a veth whose peer is not among the scopes, the peer's name and MAC are empty. With `host_side`
        the host's side is taken from there, except for settings that did not come with a link. With `sought`, routes on
        the host other than these may be left out.
        """
        with self._alone():
            objects: list[KernelObject | Routes] = []
            names: dict[Namespace, list[str]] = {}
            for scope in scopes:
                names.setdefault(scope.namespace, []).append(scope.name)
            host_names = names.get(HOST, [])
            on_host = _find_links(self._host, host_names) if host_side is None else host_side.links(host_names)
            inside_links: dict[Namespace, Sequence[LinkFacts]] = {}
            for namespace, inner_names in names.items():
                if namespace == HOST:
                    continue
                with self._entered(namespace, namespaces) as entered:
                    if entered is None:
                        continue
                    found = _find_links(entered, inner_names)
                    if len(found) < len(inner_names):
                        found += self._renamed_peers(entered, found, on_host, self._number_of(namespace, namespaces))
                    inside_links[namespace] = found
                    objects.extend(Link(namespace, each.name, each.mac, each.mtu, each.is_up) for each in found)
                    objects.extend(_switched_off(found, namespace))
                    objects.extend(_settings_inside(found, namespace, inside))
                    objects.extend(rtnetlink_dumps.objects_on(entered, found, namespace))
            objects.extend(self._host_links(on_host, inside_links, namespaces))
            objects.extend(
                self._objects_on_host(on_host, sought) if host_side is None else host_side.objects_on(on_host)
            )
            objects.extend(_read_sysctls(sysctls, on_host))
            objects.extend((self._elements if host_side is None else host_side).present(elements))
            return KernelState(objects)

    def observe_host_side(self, names: Collection[str]) -> HostSide:
        """Look at these links on the host at once, and at all elements of our packet filter."""
        with self._alone():
            return HostSide(self._host, names, self._elements.dump())

    def observe_links(self, *, link_groups: Collection[int]) -> KernelState:
        """The host's links of our groups, and all elements of our packet filter, those of gone links included.

        Whose peers they have is not looked at: names and MACs of peers are empty.
        """
        with self._alone():
            links = [link for link in rtnetlink_dumps.dump_links(self._host) if link.group in link_groups]
            return KernelState([*self._host_links(links, {}, {}), *self._elements.dump()])

    def observe_host_level(self, sysctls: Iterable[str]) -> KernelState:
        """The packet filter and these settings."""
        with self._alone():
            objects: list[KernelObject] = list(_read_sysctls(sysctls))
            table = packet_filter_table.present(self._nftables)
            if table is not None:
                objects.append(table)
            return KernelState(objects)

    def stopped(self, *, protocol: int) -> tuple[frozenset[PackedNetwork], frozenset[PackedNetwork]]:
        """The networks in the packet filter's set of stopped containers, and those to which there are routes to nowhere
        of the protocol, with the last metric."""
        with self._alone():
            return self._elements.stopped(), frozenset(rtnetlink_dumps.last_resorts(self._host, protocol))

    def change_stopped(self, *, removed: Sequence[PackedNetwork], added: Sequence[PackedNetwork]) -> None:
        """Change the packet filter's set of stopped containers' networks. Raises ApplyFailed."""
        with self._alone():
            answer = self._elements.change_stopped(removed, added)
        if answer.errno:
            raise ApplyFailed(f"the packet filter: {os.strerror(answer.errno)}", code="kernel-refused")

    def forget_tracked(self, networks: Iterable[PackedNetwork]) -> int:
        """Forget tracked connections of which one end is in these networks; how many those were. For one thread."""
        try:
            if self._tracked is None:
                self._tracked = TrackedConnections()
            return self._tracked.forget(networks)
        except OSError as error:
            raise Unavailable(error.strerror or str(error), code="kernel-unreadable") from error

    def announcement_table(self, table: int, *, protocol: int) -> AnnouncementTable:
        """A table that is read by a routing daemon alone. Close it at the end. Raises Unavailable."""
        return AnnouncementTable(table, protocol=protocol, own_ports=[self._host.port])

    def solicit_routers(self, link: str) -> None:
        """Ask for router advertisements on a link, as the kernel does when one comes up.

        Raises Unavailable, also for a link that is gone, or has no address to ask from yet.
        """
        try:
            router_solicitation.send(link)
        except OSError as error:
            raise Unavailable(f"{link}: {error.strerror or error}", code="not-solicited", subject=link) from error

    def tell_neighbours(self, namespace: int, arrived: Arrival) -> None:
        """Tell the neighbours on a container's link who is there. Raises Unavailable, also when the link has gone."""
        try:
            unsolicited.tell(namespace, arrived)
        except OSError as error:
            raise Unavailable(
                f"{arrived.link}: {error.strerror or error}", code="not-told", subject=arrived.link
            ) from error

    def counted_of(self, link: str) -> dict[str, int]:
        """Packets counted of one host link, by set. It waits for no plan."""
        try:
            with self._counting:
                return self._counters.counted(link)
        except OSError as error:
            raise Unavailable(
                f"the counters of the packet filter cannot be read: {error.strerror or error}", code="kernel-unreadable"
            ) from error

    def counted(self) -> dict[str, dict[str, int]]:
        """Packets counted, by set and by host link; links without packets are omitted."""
        try:
            return self._counters.all_counted()
        except OSError as error:
            raise Unavailable(
                f"the counters of the packet filter cannot be read: {error.strerror or error}", code="kernel-unreadable"
            ) from error

    def forget_counted(self, links: Iterable[str]) -> None:
        """Reset the counters of these links: another link may get the name."""
        with self._alone():
            for link in links:
                self._elements.forget_counted(link)

    # --- apply ----------------------------------------------------------------------------------------------------

    def apply(
        self, plan: Plan, namespaces: Mapping[Namespace, int], *, filling: Sequence[FilterElement] = ()
    ) -> tuple[Outcome, ...]:
        """Perform a plan: one outcome for each change, in order. What the kernel refuses is an outcome, no error.

        Consecutive changes of one namespace are one send. After a send with a failure nothing more is tried; later
        messages of that same send may have been performed, and their outcome says so. A change that failed has
        changed nothing. A packet filter that is made holds the elements `filling` from its first moment on, as far
        as their links are there.
        """
        with self._lock, contextlib.ExitStack() as stack:
            return PlanApplication(
                plan, self._host, self._nftables, self._elements, namespaces, stack, self._fault, filling
            ).perform()

    # --- inside ---------------------------------------------------------------------------------------------------

    def _alone(self) -> contextlib.AbstractContextManager[None]:
        return _reading(self._lock)

    def _asking_alone(self) -> contextlib.AbstractContextManager[None]:
        """The same beside whoever looks at very much, or sends it."""
        return _reading(self._asking_lock)

    @contextlib.contextmanager
    def _entered(self, namespace: Namespace, namespaces: Mapping[Namespace, int]) -> Iterator[NetlinkSocket | None]:
        """A socket inside, closed at the end; None when the namespace is not given or gone."""
        if namespace not in namespaces:
            yield None
            return
        try:
            opened = open_netlink(namespaces[namespace])
        except ProcessLookupError:
            yield None
            return
        with NetlinkSocket(opened) as inside:
            yield inside

    def _objects_on_host(
        self, links: Sequence[LinkFacts], sought: SoughtRoutes | None
    ) -> Sequence[AssignedAddress | Routes | Neighbour]:
        """What is on these links; the routes asked for one by one where that costs less than going through the table.

        Which of the two is a matter of speed alone. What others have in the table nobody counts, but it is felt: in
        this thread's own time, which others who are busy do not lengthen.
        """
        if sought is not None and len(sought) <= (SOUGHT_AT_MOST if self._is_crowded else _FEW_SOUGHT):
            return list(rtnetlink_dumps.objects_on(self._host, links, HOST, sought=sought))
        began = self._clock()
        found = list(rtnetlink_dumps.objects_on(self._host, links, HOST))
        told = sum(len(each) if isinstance(each, Routes) else 1 for each in found)
        self._is_crowded = self._clock() - began > _CROWDED_SECONDS + _SECONDS_FOR_EACH * told
        return found

    def _renamed_peers(
        self, inside: NetlinkSocket, found: Iterable[LinkFacts], on_host: Iterable[LinkFacts], number: int | None
    ) -> list[LinkFacts]:
        """The other ends of pairs in a namespace, `number` to the host, that nobody found there by their names."""
        known = {each.index for each in found}
        lost = [
            each.peer_index
            for each in on_host
            if each.kind == "veth" and each.peer_namespace_id == number is not None and each.peer_index not in known
        ]
        peers = (rtnetlink_dumps.find_link_numbered(inside, each) for each in lost)
        return [each for each in peers if each is not None]

    def _host_links(
        self,
        links: Iterable[LinkFacts],
        inside_links: Mapping[Namespace, Sequence[LinkFacts]],
        namespaces: Mapping[Namespace, int],
    ) -> Iterator[KernelObject]:
        by_index = {(namespace, link.index): link for namespace, found in inside_links.items() for link in found}
        numbers: dict[int, Namespace] = {}
        for namespace, found in inside_links.items():
            number = self._number_of(namespace, namespaces) if found else None
            if number is not None:
                numbers[number] = namespace
        for link in links:
            if link.kind != "veth":
                yield Link(HOST, link.name, link.mac, link.mtu, link.is_up)
                continue
            # Only both together tell the peer: indexes coincide between namespaces, and a guest chooses its own.
            where = numbers.get(link.peer_namespace_id) if link.peer_namespace_id is not None else None
            peer = by_index.get((where, link.peer_index)) if where is not None else None
            yield Veth(
                namespace=HOST,
                name=link.name,
                mac=link.mac,
                mtu=link.mtu,
                group=link.group,
                is_up=link.is_up,
                peer_namespace=where if where is not None and peer is not None else Namespace(""),
                peer_name=peer.name if peer is not None else "",
                peer_mac=peer.mac if peer is not None else "",
                master=self._master(link.master_index) if link.master_index else None,
            )

    def _master(self, index: int) -> Master | None:
        """The link of this number; None when it has just gone, and let its ports go."""
        found = rtnetlink_dumps.find_link_numbered(self._host, index)
        return Master(found.name, found.kind) if found is not None else None

    def _index(self, name: str) -> int | None:
        found = rtnetlink_dumps.find_link(self._host, name)
        return found.index if found is not None else None

    def _number_of(self, namespace: Namespace, namespaces: Mapping[Namespace, int]) -> int | None:
        """The number by which the host's links name a namespace."""
        try:
            descriptor = open_namespace(namespaces[namespace])
        except ProcessLookupError:
            return None
        try:
            return rtnetlink_dumps.namespace_id(self._host, descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def _reading(lock: threading.Lock) -> Iterator[None]:
    with lock:
        try:
            yield
        except OSError as error:
            raise Unavailable(
                f"the kernel's network state cannot be read: {error.strerror or error}", code="kernel-unreadable"
            ) from error


def _release() -> tuple[int, int]:
    """The first two numbers of the running kernel's release, as in `6.1.0-28-amd64`."""
    major, minor = os.uname().release.split(".")[:2]
    return int(major), int("".join(itertools.takewhile(str.isdigit, minor)))


def _name(index: int) -> str:
    """The name of a link; empty when it has gone."""
    try:
        return socket.if_indextoname(index)
    except OSError:
        return ""


def _find_links(through: NetlinkSocket, names: Sequence[str]) -> list[LinkFacts]:
    wanted = frozenset(names)
    if len(names) < _MANY_NAMES:
        found = ((name, rtnetlink_dumps.find_link_by_any_name(through, name)) for name in names)
        # Own names win: of a link that has one of these names, an alternative one does not make a second link.
        return [
            link if link.name == name else msgspec.structs.replace(link, name=name)
            for name, link in found
            if link is not None and (link.name == name or link.name not in wanted)
        ]
    return [link for link in rtnetlink_dumps.dump_links(through) if link.name in wanted]


def _switched_off(links: Iterable[LinkFacts], namespace: Namespace) -> Iterator[Sysctl]:
    for link in links:
        if rtnetlink_dumps.is_ipv6_off(link):
            yield Sysctl(namespace, f"ipv6/conf/{link.name}/disable_ipv6", "1", link=link.name)


def _settings_inside(links: Iterable[LinkFacts], namespace: Namespace, asked: Collection[Key]) -> Iterator[Sysctl]:
    for link in links if asked else ():
        for path, value in rtnetlink_dumps.settings_of(link):
            setting = Sysctl(namespace, path, value, link=link.name)
            if setting.key in asked:
                yield setting


def _read_sysctls(paths: Iterable[str], links: Iterable[LinkFacts] = ()) -> Iterator[Sysctl]:
    known = dict(itertools.chain.from_iterable(map(rtnetlink_dumps.settings_of, links)))
    for path in paths:
        value = known.get(path) or sysctl.read(path)
        if value is not None:
            yield Sysctl(HOST, path, value, link=_link_of(path))


def _link_of(path: str) -> str:
    """The link in `ipv4/conf/LINK/forwarding`; empty for a setting of the namespace."""
    parts = path.split("/")
    return parts[2] if len(parts) == 4 and parts[2] not in ("all", "default") else ""
