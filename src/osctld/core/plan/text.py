"""Kernel objects and changes in the notation of `ip`, `sysctl` and `nft`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_never

from osctld.core.address.addresses import Network
from osctld.core.plan import packet_filter
from osctld.core.plan.changes import Add, Change, Remove, RenameLink, Replace, Restore, is_made_in_place
from osctld.core.plan.kernel_state import (
    IPV6_DEFAULT_METRIC,
    MAIN_TABLE,
    PROTOCOL_STATIC,
    AssignedAddress,
    KernelObject,
    Link,
    Neighbour,
    PacketFilter,
    PermittedSource,
    PrivateNetwork,
    Route,
    RouteKind,
    Routes,
    SiblingLinks,
    StoppedNetwork,
    Sysctl,
    Veth,
    container_of,
)


def describe(each: KernelObject) -> str:
    """The object in the notation of `ip` and `sysctl`, without a verb."""
    match each:
        case Veth() | Link():
            return f"link {each.name}"
        case AssignedAddress():
            return f"addr {each.address} dev {each.link}{_address_scope(each)}"
        case Route():
            return f"route {_route(each)}"
        case Neighbour():
            return f"neigh {each.address} lladdr {each.mac} dev {each.link} nud permanent"
        case Sysctl():
            return f"{_dotted(each)} = {each.value}"
        case SiblingLinks():
            return f"siblings {each.link} . {each.sibling}"
        case PrivateNetwork():
            return f"private {each.network} dev {each.link}"
        case PermittedSource():
            return f"{'routed source' if each.is_routed else 'source'} {each.network} dev {each.link}"
        case StoppedNetwork():
            return f"stopped {each.network}"
        case PacketFilter():
            return f"table {each.table}"
        case _:
            assert_never(each)


def describe_routes(routes: Routes) -> str:
    """How many routes there are and what they have in common, for those that are too many to be named."""
    first = next(iter(routes))
    _, _, way = _route(first).partition(" ")
    container = container_of(first.namespace)
    return f"{len(routes)} routes {way}" + (f" in container {container}" if container else "")


def describe_in_place(each: KernelObject) -> str:
    """The object and, if it is in a guest, the container: link names inside do not identify it."""
    container = container_of(each.namespace)
    return describe(each) + (f" in container {container}" if container else "")


def lines_of(change: Change, *, empties_set: bool = False) -> Iterator[str]:
    """The change as the command lines that would do it, in the namespace of its subject.

    `empties_set`: it removes the last source from its link's own set of the packet filter.
    """
    match change:
        case Remove(PermittedSource() as old) if empties_set:
            yield f"nft '{packet_filter.removal_of_last(old)}'"
        case Add(new):
            yield from _lines_of_presence(new, "add")
        case Restore(new):
            yield from _lines_of_presence(new, "replace")
        case Replace(old, new):
            yield from _lines_of_replacement(old, new)
        case Remove(old):
            yield from _lines_of_absence(old)
        case RenameLink(old, new):
            yield f"ip link set dev {old.name} name {new.name}"
        case _:
            assert_never(change)


def _lines_of_presence(each: KernelObject, verb: str) -> Iterator[str]:
    match each:
        case Veth():
            container = container_of(each.peer_namespace)
            place = f" netns {container}" if container else ""
            master = f" master {each.master.name}" if each.master is not None else ""
            yield (
                f"ip link add {each.name} address {each.mac} mtu {each.mtu} group {each.group}{master} type veth"
                f" peer name {each.peer_name} address {each.peer_mac} mtu {each.mtu}{place}"
            )
            # iproute2 sets a group only on links that exist already when the pair is made in one go.
            yield f"ip link set dev {each.name} group {each.group}"
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
        case PermittedSource():
            yield f"nft '{packet_filter.addition(each)}'"
        case SiblingLinks() | PrivateNetwork() | StoppedNetwork():
            place, element, _ = packet_filter.element(each)
            yield f"nft add element {place} '{{ {element} }}'"
        case PacketFilter():
            yield f"nft -f - <<'EOF'\n{packet_filter.script(each)}EOF"
        case _:
            assert_never(each)


def _lines_of_replacement(old: KernelObject, new: KernelObject) -> Iterator[str]:
    match new:
        case Veth() | Link():
            assert isinstance(old, Veth | Link)
            yield from _link_settings(new, old)
        case AssignedAddress() if is_made_in_place(Replace(old, new)):
            lifetime = "forever" if new.is_source else "0"
            yield f"ip addr change {new.address} dev {new.link} nodad valid_lft forever preferred_lft {lifetime}"
        case AssignedAddress():
            # `ip addr replace` of an IPv6 address with another prefix length, or of an IPv4 address with another scope,
            # returns 0 and changes nothing.
            yield from _lines_of_absence(old)
            yield from _lines_of_presence(new, "add")
        case Sysctl():
            yield from _lines_of_presence(new, "set")
        case PrivateNetwork():
            # A comment is not changed in place.
            yield from _lines_of_absence(old)
            yield from _lines_of_presence(new, "add")
        case Route() | Neighbour() | SiblingLinks() | PermittedSource() | StoppedNetwork() | PacketFilter():
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
        case SiblingLinks() | PrivateNetwork() | PermittedSource() | StoppedNetwork():
            place, _, key = packet_filter.element(each)
            yield f"nft delete element {place} '{{ {key} }}'"
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
    if isinstance(new, Veth) and isinstance(old, Veth) and old.master != new.master:
        words.append(f"master {new.master.name}" if new.master is not None else "nomaster")
    if old is None or old.is_up != new.is_up:
        words.append("up" if new.is_up else "down")
    if words:
        yield f"ip link set dev {new.name} {' '.join(words)}"


def _address(each: AssignedAddress) -> str:
    return f"{each.address} brd {each.broadcast}" if each.broadcast is not None else str(each.address)


def _address_flags(each: AssignedAddress) -> str:
    nodad = " nodad" if each.address.version == 6 else ""
    return nodad + ("" if each.has_prefix_route else " noprefixroute") + _address_scope(each)


def _address_scope(each: AssignedAddress) -> str:
    if each.is_source:
        return ""
    return " scope link" if each.address.version == 4 else " preferred_lft 0"


def _route(each: Route) -> str:
    words = ["default" if each.network.is_default else str(each.network)]
    is_unicast = each.kind is RouteKind.UNICAST
    if not is_unicast:
        words.insert(0, each.kind.name.lower())
    if each.gateway is not None:
        words.append(f"via {each.gateway}")
    if is_unicast:
        words.append(f"dev {each.link}")
    words.append(f"proto {'static' if each.protocol == PROTOCOL_STATIC else each.protocol}")
    if is_unicast and each.gateway is None and each.network.version == 4:
        words.append("scope link")
    if each.is_onlink:
        words.append("onlink")
    if each.source is not None:
        words.append(f"src {each.source}")
    if each.metric and not (each.network.version == 6 and each.metric == IPV6_DEFAULT_METRIC):
        words.append(f"metric {each.metric}")
    if each.table != MAIN_TABLE:
        words.append(f"table {each.table}")
    return " ".join(words)


def _family(network: Network) -> str:
    return " -6" if network.version == 6 else ""


def _dotted(each: Sysctl) -> str:
    # A link may have a dot in its name (eth0.100); sysctl(8) takes slashes where dots would be ambiguous.
    return f"net/{each.path}" if "." in each.path else "net." + each.path.replace("/", ".")
