"""Network interfaces, their addresses and routes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import msgspec
from msgspec import UNSET, UnsetType

from osctld.commands.ct_netif_del import CtNetifDel
from osctld.commands.ct_netif_ip_add import CtNetifIpAdd
from osctld.commands.ct_netif_ip_del import CtNetifIpDel
from osctld.commands.ct_netif_ls import interface_row
from osctld.commands.ct_netif_new_routed import CtNetifNewRouted
from osctld.commands.ct_netif_rename import CtNetifRename
from osctld.commands.ct_netif_route_add import CtNetifRouteAdd
from osctld.commands.ct_netif_route_del import CtNetifRouteDel
from osctld.commands.ct_netif_set import CtNetifSet
from osctld.core.addresses import VERSIONS, Network
from osctld.core.command import Edited, Listing, Observed, Reply
from osctld.core.errors import Refused
from osctld.core.host import POOL, Container, Host
from osctld.netif.routed import RoutedInterface, routed_interface
from osctld.protocol.request import EditRequest, ViewRequest, check_pool, find_container

#: The original takes a MAC address of this length, and leaves the rest to LXC.
_LENGTH_OF_HWADDR = 17


class ViaOfVersion(msgspec.Struct, frozen=True):
    """An interconnecting network, and its ends where they are not the default ones."""

    network: str
    host_addr: str | None = None
    ct_addr: str | None = None


# --- answers ------------------------------------------------------------------------------------------------------


class ShownInterface(msgspec.Struct, frozen=True):
    name: str
    index: int
    type: str
    link: str | None
    veth: str | None
    via: dict[str, str] | None


class ListedInterface(ShownInterface, frozen=True):
    pool: str
    ctid: str
    hwaddr: str | None


class AddressesOfInterface(msgspec.Struct, frozen=True):
    pool: str
    ctid: str
    netif: str
    ipv4: list[str] = msgspec.field(name="4")
    ipv6: list[str] = msgspec.field(name="6")


class RoutesOfInterface(msgspec.Struct, frozen=True):
    ipv4: list[str] = msgspec.field(name="4")
    ipv6: list[str] = msgspec.field(name="6")
    pool: str
    ctid: str
    netif: str


# --- interfaces ---------------------------------------------------------------------------------------------------


class NetifCreate(EditRequest, frozen=True, kw_only=True):
    words: ClassVar[tuple[str, ...]] = ("netif", "create")

    id: str
    name: str
    type: str
    hwaddr: str | None = None
    via: Mapping[str, ViaOfVersion] = {}

    @property
    def looks_at_host(self) -> bool:
        return True

    def edit(self, host: Host) -> Edited:
        container = find_container(host, self.id, pool=self.pool)
        if self.type != "routed":
            raise Refused(f"{self.type!r} is not supported, only 'routed'", code="bad-type", subject=self.type)
        networks, host_ends, container_ends = _options(self.via)
        return CtNetifNewRouted(
            container=container.name,
            netif=self.name,
            via=networks,
            host_addr=host_ends,
            ct_addr=container_ends,
            hwaddr=self.hwaddr,
        ).edit(host)


class NetifSet(EditRequest, frozen=True, kw_only=True):
    """`via` names all that there shall be: what it does not name goes. Without it, nothing of that changes."""

    words: ClassVar[tuple[str, ...]] = ("netif", "set")
    nullable: ClassVar[tuple[str, ...]] = ("hwaddr",)

    id: str
    name: str
    hwaddr: str | UnsetType | None = UNSET
    link: str | None = None
    via: dict[str, ViaOfVersion] | None = None

    @property
    def looks_at_host(self) -> bool:
        return self.via is not None

    def edit(self, host: Host) -> Edited:
        container = find_container(host, self.id, pool=self.pool)
        interface = routed_interface(container, self.name)
        if isinstance(self.hwaddr, str) and len(self.hwaddr) != _LENGTH_OF_HWADDR:
            raise Refused(
                f"{self.hwaddr!r}: hwaddr has to be a {_LENGTH_OF_HWADDR} character string or null",
                code="bad-hwaddr",
                subject=self.hwaddr,
            )
        if self.link is not None:
            raise Refused(f"{self.name} is not on a bridge: no link {self.link!r}", code="bad-link", subject=self.link)
        if self.hwaddr is UNSET and self.via is None:
            return Edited(host, container.name)
        networks, host_ends, container_ends = _options(self.via or {})
        named = {Network.parse(each).version for each in networks}
        gone = [each for each in sorted(interface.vias) if each not in named] if self.via is not None else []
        hwaddr = None if self.hwaddr is UNSET else "-" if self.hwaddr is None else self.hwaddr
        assert not isinstance(hwaddr, UnsetType)
        if not networks and not gone and hwaddr is None:
            return Edited(host, container.name)
        return CtNetifSet(
            container=container.name,
            netif=self.name,
            via=networks,
            host_addr=host_ends,
            ct_addr=container_ends,
            no_via=tuple(str(version) for version in gone),
            hwaddr=hwaddr,
        ).edit(host)


class NetifRename(EditRequest, frozen=True, kw_only=True):
    words: ClassVar[tuple[str, ...]] = ("netif", "rename")

    id: str
    old_name: str
    new_name: str

    def edit(self, host: Host) -> Edited:
        container = find_container(host, self.id, pool=self.pool)
        if self.new_name == self.old_name:
            container.interface(self.old_name)
            return Edited(host, container.name)
        return CtNetifRename(container=container.name, netif=self.old_name, new_name=self.new_name).edit(host)


class NetifDelete(EditRequest, frozen=True, kw_only=True):
    words: ClassVar[tuple[str, ...]] = ("netif", "delete")

    id: str
    name: str

    def edit(self, host: Host) -> Edited:
        container = find_container(host, self.id, pool=self.pool)
        return CtNetifDel(container=container.name, netif=self.name).edit(host)


class NetifList(ViewRequest, frozen=True, kw_only=True):
    """Those of all containers, or of those in `ids` or `id`."""

    words: ClassVar[tuple[str, ...]] = ("netif", "list")
    answers: ClassVar[Any] = list[ListedInterface]

    id: str | None = None
    ids: tuple[str, ...] = ()
    type: tuple[str, ...] | None = None
    link: tuple[str, ...] | None = None

    def view(self, host: Host, observed: Observed) -> Reply:
        chosen = self.ids or (() if self.id is None else (self.id,))
        rows = [
            {**_shown(row), "pool": row["pool"], "ctid": row["ctid"], "hwaddr": row["hwaddr"]}
            for container in _containers(host, chosen, pool=self.pool)
            for index, interface in enumerate(container.interfaces)
            if self.type is None or interface.type_name in self.type
            for row in (interface_row(container, interface, index=index, observed=observed),)
        ]
        if self.link is not None:
            rows = [row for row in rows if row["link"] in self.link]
        return Listing(columns=(), shown=(), rows=tuple(rows))


class NetifShow(ViewRequest, frozen=True, kw_only=True):
    words: ClassVar[tuple[str, ...]] = ("netif", "show")
    answers: ClassVar[Any] = ShownInterface

    id: str
    name: str

    def view(self, host: Host, observed: Observed) -> Reply:
        container = find_container(host, self.id, pool=self.pool)
        interface = container.interface(self.name)
        index = container.interfaces.index(interface)
        row = _shown(interface_row(container, interface, index=index, observed=observed))
        return Listing(columns=(), shown=(), rows=(row,), is_record=True)


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ShownInterface.__struct_fields__}


# --- addresses ----------------------------------------------------------------------------------------------------


class NetifIpAdd(EditRequest, frozen=True, kw_only=True):
    """`route` is true for the network of the address, a network, or false for none."""

    words: ClassVar[tuple[str, ...]] = ("netif", "ip", "add")

    id: str
    name: str
    addr: str
    route: bool | str = False

    @property
    def looks_at_host(self) -> bool:
        return self._command(self.id).looks_at_host

    def edit(self, host: Host) -> Edited:
        return self._command(find_container(host, self.id, pool=self.pool).name).edit(host)

    def _command(self, container: str) -> CtNetifIpAdd:
        return CtNetifIpAdd(
            container=container,
            netif=self.name,
            addresses=(self.addr,),
            route=self.route is not False,
            route_as=self.route if isinstance(self.route, str) else None,
        )


class NetifIpDel(EditRequest, frozen=True, kw_only=True):
    """`addr` is an address, or `all`, then with `version` for one IP version only."""

    words: ClassVar[tuple[str, ...]] = ("netif", "ip", "del")

    id: str
    name: str
    addr: str
    keep_route: bool = False
    version: int | None = None

    def edit(self, host: Host) -> Edited:
        return CtNetifIpDel(
            container=find_container(host, self.id, pool=self.pool).name,
            netif=self.name,
            addresses=(self.addr,),
            keep_route=self.keep_route,
            version=_known_version(self.version),
        ).edit(host)


class NetifIpList(ViewRequest, frozen=True, kw_only=True):
    words: ClassVar[tuple[str, ...]] = ("netif", "ip", "list")
    answers: ClassVar[Any] = list[AddressesOfInterface]

    id: str | None = None
    name: str | None = None

    def view(self, host: Host, observed: Observed) -> Reply:
        rows = [
            {
                "pool": POOL,
                "ctid": container.name,
                "netif": interface.name,
                **_by_version((each.version, str(each)) for each in interface.addresses),
            }
            for container, interface in _routed(host, self.id, self.name, pool=self.pool)
        ]
        return Listing(columns=(), shown=(), rows=tuple(rows))


# --- routes -------------------------------------------------------------------------------------------------------


class NetifRouteAdd(EditRequest, frozen=True, kw_only=True):
    words: ClassVar[tuple[str, ...]] = ("netif", "route", "add")

    id: str
    name: str
    addr: str
    via: str | None = None

    @property
    def looks_at_host(self) -> bool:
        return self._command(self.id).looks_at_host

    def edit(self, host: Host) -> Edited:
        return self._command(find_container(host, self.id, pool=self.pool).name).edit(host)

    def _command(self, container: str) -> CtNetifRouteAdd:
        return CtNetifRouteAdd(container=container, netif=self.name, networks=(self.addr,), via=self.via)


class NetifRouteDel(EditRequest, frozen=True, kw_only=True):
    """`addr` is a network, or `all`, then with `version` for one IP version only."""

    words: ClassVar[tuple[str, ...]] = ("netif", "route", "del")

    id: str
    name: str
    addr: str
    version: int | None = None

    def edit(self, host: Host) -> Edited:
        return CtNetifRouteDel(
            container=find_container(host, self.id, pool=self.pool).name,
            netif=self.name,
            networks=(self.addr,),
            version=_known_version(self.version),
        ).edit(host)


class NetifRouteList(ViewRequest, frozen=True, kw_only=True):
    words: ClassVar[tuple[str, ...]] = ("netif", "route", "list")
    answers: ClassVar[Any] = list[RoutesOfInterface]

    id: str | None = None
    name: str | None = None

    def view(self, host: Host, observed: Observed) -> Reply:
        rows = [
            {
                **_by_version((each.network.version, str(each.network)) for each in interface.routes),
                "pool": POOL,
                "ctid": container.name,
                "netif": interface.name,
            }
            for container, interface in _routed(host, self.id, self.name, pool=self.pool)
        ]
        return Listing(columns=(), shown=(), rows=tuple(rows))


# --- what they share ----------------------------------------------------------------------------------------------


def _options(via: Mapping[str, ViaOfVersion]) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Networks, host ends and container ends, as they would be typed. Raises Refused for a wrong IP version."""
    for version, each in via.items():
        if version not in map(str, VERSIONS):
            raise Refused(f"unsupported IP version {version!r}: expected 4 or 6", code="bad-version", subject=version)
        if str(Network.parse(each.network).version) != version:
            raise Refused(f"{each.network} is not IPv{version}", code="bad-version", subject=each.network)
    return (
        tuple(each.network for each in via.values()),
        tuple(each.host_addr for each in via.values() if each.host_addr is not None),
        tuple(each.ct_addr for each in via.values() if each.ct_addr is not None),
    )


def _known_version(version: int | None) -> int | None:
    if version not in (None, *VERSIONS):
        raise Refused(f"unsupported IP version {version}: expected 4 or 6", code="bad-version", subject=str(version))
    return version


def _containers(host: Host, ids: tuple[str, ...], *, pool: str | None) -> list[Container]:
    if ids:
        return [find_container(host, each, pool=pool) for each in ids]
    check_pool(pool)
    return host.sorted_containers


def _routed(
    host: Host, id: str | None, name: str | None, *, pool: str | None  # noqa: A002 the protocol's name
) -> Iterator[tuple[Container, RoutedInterface]]:
    for container in _containers(host, () if id is None else (id,), pool=pool):
        if id is not None and name is not None:
            yield container, routed_interface(container, name)
            continue
        for each in container.interfaces:
            if isinstance(each, RoutedInterface):
                yield container, each


def _by_version(texts: Iterator[tuple[int, str]]) -> dict[str, list[str]]:
    sorted_out: dict[str, list[str]] = {str(version): [] for version in VERSIONS}
    for version, text in texts:
        sorted_out[str(version)].append(text)
    return sorted_out
