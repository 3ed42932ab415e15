"""The kernel's network state: observed as values, changed by plans. The only way to the kernel for all others."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from osctld.core.errors import Unavailable
from osctld.core.host_networks import HostNetwork
from osctld.core.kernel_state import (
    HOST,
    FilterElement,
    HostFacts,
    KernelObject,
    KernelState,
    Link,
    LinkScope,
    Namespace,
    Outcome,
    Routes,
    Sysctl,
    Uplink,
    Veth,
)
from osctld.core.plan import Plan
from osctld.shell import packet_filter_table, rtnetlink, rtnetlink_dumps, sysctl
from osctld.shell.host_side import HostSide
from osctld.shell.kernel_events import KernelEvents
from osctld.shell.netlink import NetlinkSocket
from osctld.shell.netns import open_namespace, open_netlink
from osctld.shell.nftables import Nftables
from osctld.shell.packet_filter_elements import PacketFilterElements
from osctld.shell.plan_application import FaultHook, PlanApplication
from osctld.shell.rtnetlink_dumps import LinkFacts

#: Release of the kernel that lets links be renamed while they are up (dev_change_name in linux/net/core/dev.c).
RENAMES_WHILE_UP = (6, 2)

#: From so many links on, they are found in one dump of all.
_MANY_NAMES = 8


class Kernel:
    """One kernel, seen from the network namespace in which this object was made: the host's.

    Containers' namespaces are given to each call as descriptors (of a namespace, or a pidfd), entered for
    the call and left with it. Calls from several threads wait for each other; all these threads have to be in the
    host's namespace, where they are unless they leave it.
    """

    def __init__(self, *, fault: FaultHook | None = None, renames_while_up: bool | None = None) -> None:
        """`renames_while_up` overrules what the kernel's release says of that, so that tests can go the long way."""
        self._host = NetlinkSocket()
        self._nftables = Nftables()
        self._elements = PacketFilterElements(self._index)
        self._counters = PacketFilterElements(self._index)
        self._fault = fault
        self._renames_while_up = _release() >= RENAMES_WHILE_UP if renames_while_up is None else renames_while_up
        self._lock = threading.Lock()

    def close(self) -> None:
        self._host.close()
        self._nftables.close()
        self._elements.close()
        self._counters.close()

    def listen(self, route_protocols: Iterable[int]) -> KernelEvents:
        """Hear from now on what others change on the host; of routes those of these protocols. Close it at the end.

        Raises Unavailable when the kernel does not tell.
        """
        try:
            return KernelEvents(
                own_rtnetlink=[self._host.port],
                own_netfilter=[self._elements.port, self._counters.port],
                route_protocols=route_protocols,
            )
        except OSError as error:
            raise Unavailable(
                f"the kernel does not tell what changes: {error.strerror or error}", code="kernel-unreadable"
            ) from error

    # --- observe --------------------------------------------------------------------------------------------------

    def host_facts(self, *, link_group: int, uplinks: Sequence[str] | None) -> HostFacts:
        """Look at the links that lead out, and at forwarding.

        Uplinks are those named; else those other than loopback and ours that carry a default route or, where none
        does, all that are up and have a global address.
        """
        with self._alone():
            links = {
                link.index: link
                for link in rtnetlink_dumps.dump_links(self._host)
                if not link.is_loopback and link.group != link_group
            }
            defaults = rtnetlink_dumps.default_routes(self._host, links)
            if uplinks is not None:
                chosen = [link for link in links.values() if link.name in uplinks]
            else:
                leading = {index for index, _ in defaults}
                if not leading:
                    leading = set(rtnetlink_dumps.links_with_global_address(self._host))
                chosen = [link for index, link in links.items() if index in leading and link.is_up]
            by_advertisement = {index for index, protocol in defaults if protocol == rtnetlink.RTPROT_RA}
            return HostFacts(
                uplinks=tuple(
                    _uplink(link, is_from_advertisement=link.index in by_advertisement)
                    for link in sorted(chosen, key=lambda link: link.name)
                ),
                has_ipv6_forwarding=sysctl.read("ipv6/conf/all/forwarding") == "1",
                has_ipv6=sysctl.read("ipv6/conf/all/forwarding") is not None,
                renames_while_up=self._renames_while_up,
            )

    def host_networks(self) -> tuple[HostNetwork, ...]:
        """All addresses and networks that the host's links have, ours included."""
        with self._alone():
            names: dict[int, str] = {0: ""}
            found = []
            for index, network, is_address in rtnetlink_dumps.networks_in_use(self._host):
                if index not in names:
                    # One that went meanwhile has no name, and takes its networks along.
                    with contextlib.suppress(OSError):
                        names[index] = socket.if_indextoname(index)
                if index in names:
                    found.append(HostNetwork(network, names[index], is_address))
            return tuple(found)

    def observe(
        self,
        scopes: Sequence[LinkScope],
        namespaces: Mapping[Namespace, int],
        *,
        sysctls: Iterable[str] = (),
        elements: Iterable[FilterElement] = (),
        host_side: HostSide | None = None,
    ) -> KernelState:
        """All objects of these links: the links, and on them addresses, routes of the main table other than the
        kernel's own, permanent neighbours, and in guests that IPv6 is switched off; the settings asked for; those of
        the packet filter's elements asked for that are there, and when links of theirs are gone, those that gone links
        left behind.

        A link that is not there is simply absent, and so is everything in a namespace that is gone. The other end of a
        pair is there by whatever name, in a namespace that any of the scopes is in.
        A host link that is no veth is a plain Link; of a veth whose peer is not among the scopes, the peer's
        name and MAC are empty. With `host_side` the host's side is taken from there, except for settings that did not
        come with a link.
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
                with self._entered(namespace, namespaces) as inside:
                    if inside is None:
                        continue
                    found = _find_links(inside, inner_names)
                    if len(found) < len(inner_names):
                        found += self._renamed_peers(inside, found, on_host, self._number_of(namespace, namespaces))
                    inside_links[namespace] = found
                    objects.extend(Link(namespace, each.name, each.mac, each.mtu, each.is_up) for each in found)
                    objects.extend(_switched_off(found, namespace))
                    objects.extend(_objects_on(inside, found, namespace))
            objects.extend(self._host_links(on_host, inside_links, namespaces))
            objects.extend(
                _objects_on(self._host, on_host, HOST) if host_side is None else host_side.objects_on(on_host)
            )
            objects.extend(_read_sysctls(sysctls, on_host))
            objects.extend((self._elements if host_side is None else host_side).present(elements))
            return KernelState(objects)

    def observe_host_side(self, names: Collection[str]) -> HostSide:
        """Look at these links on the host at once, and at all elements of our packet filter."""
        with self._alone():
            return HostSide(self._host, names, self._elements.dump())

    def observe_links(self, *, link_group: int) -> KernelState:
        """The host's links of our group, and all elements of our packet filter, those of gone links included.

        Whose peers they have is not looked at: names and MACs of peers are empty.
        """
        with self._alone():
            links = [link for link in rtnetlink_dumps.dump_links(self._host) if link.group == link_group]
            return KernelState([*self._host_links(links, {}, {}), *self._elements.dump()])

    def observe_host_level(self, sysctls: Iterable[str]) -> KernelState:
        """The packet filter and these settings."""
        with self._alone():
            objects: list[KernelObject] = list(_read_sysctls(sysctls))
            table = packet_filter_table.present(self._nftables)
            if table is not None:
                objects.append(table)
            return KernelState(objects)

    def read_counted(self) -> dict[str, dict[str, int]]:
        """Packets counted per host link, by the name of the set of our table that counts them."""
        with self._alone():
            return packet_filter_table.counted(self._nftables)

    def counted_of(self, link: str) -> dict[str, int]:
        """Packets counted of one host link, by set. It waits for no plan; for one thread."""
        try:
            return self._counters.counted(link)
        except OSError as error:
            raise Unavailable(
                f"what the packet filter counts cannot be read: {error.strerror or error}", code="kernel-unreadable"
            ) from error

    def forget_counted(self, links: Iterable[str]) -> None:
        """Begin to count anew for these links: another may be given the name."""
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

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        with self._lock:
            try:
                yield
            except OSError as error:
                raise Unavailable(
                    f"the kernel's network state cannot be read: {error.strerror or error}", code="kernel-unreadable"
                ) from error

    @contextlib.contextmanager
    def _entered(
        self, namespace: Namespace, namespaces: Mapping[Namespace, int]
    ) -> Iterator[NetlinkSocket | None]:
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
        by_index = {
            (namespace, link.index): link for namespace, found in inside_links.items() for link in found
        }
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
            )

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


def _release() -> tuple[int, int]:
    """The first two numbers of the running kernel's release, as in `6.1.0-28-amd64`."""
    major, minor = os.uname().release.split(".")[:2]
    return int(major), int("".join(itertools.takewhile(str.isdigit, minor)))


def _find_links(through: NetlinkSocket, names: Sequence[str]) -> list[LinkFacts]:
    if len(names) < _MANY_NAMES:
        return [link for link in (rtnetlink_dumps.find_link(through, name) for name in names) if link is not None]
    wanted = frozenset(names)
    return [link for link in rtnetlink_dumps.dump_links(through) if link.name in wanted]


def _switched_off(links: Iterable[LinkFacts], namespace: Namespace) -> Iterator[Sysctl]:
    for link in links:
        if rtnetlink_dumps.is_ipv6_off(link):
            yield Sysctl(namespace, f"ipv6/conf/{link.name}/disable_ipv6", "1", link=link.name)


def _objects_on(
    through: NetlinkSocket, links: Sequence[LinkFacts], namespace: Namespace
) -> Iterator[KernelObject | Routes]:
    return rtnetlink_dumps.objects_on(through, links, namespace)


def _uplink(link: LinkFacts, *, is_from_advertisement: bool) -> Uplink:
    accept_ra = int(sysctl.read(f"ipv6/conf/{link.name}/accept_ra") or 0)
    return Uplink(
        name=link.name,
        mtu=link.mtu,
        has_ipv4_forwarding=sysctl.read(f"ipv4/conf/{link.name}/forwarding") == "1",
        # With accept_ra=0 somebody else listens to advertisements, and the kernel forgets nothing of theirs.
        has_default_route_from_advertisement=is_from_advertisement and accept_ra > 0,
        accept_ra=accept_ra,
    )


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
