"""Network interfaces, their addresses and routes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, cast

import msgspec
from msgspec import UNSET, UnsetType

from osctld.commands.ct_netif_del import CtNetifDel
from osctld.commands.ct_netif_ip_add import CtNetifIpAdd
from osctld.commands.ct_netif_ip_del import CtNetifIpDel
from osctld.commands.ct_netif_ls import interface_row
from osctld.commands.ct_netif_rename import CtNetifRename
from osctld.commands.ct_netif_route_add import CtNetifRouteAdd
from osctld.commands.ct_netif_route_del import CtNetifRouteDel
from osctld.commands.ct_netif_set import CtNetifSet
from osctld.core.address.addresses import VERSIONS
from osctld.core.command import Edited, Listing, Observed, Reply
from osctld.core.config.host import POOL, Container, Host
from osctld.core.config.surroundings import Surroundings
from osctld.core.errors import Refused
from osctld.netif.addressed import addressed_interfaces
from osctld.netif.interface_type import (
    InterfaceRequest,
    InterfaceType,
    given_fields,
    interface_types,
    joined_columns,
    joined_fields,
    part_for,
    type_named,
    type_of,
)
from osctld.netif.routed.interface import routed_interfaces
from osctld.protocol.request import EditRequest, ViewRequest, check_pool, find_container

#: The original takes a MAC address of this length, and leaves the rest to LXC.
_LENGTH_OF_HWADDR = 17


# --- answers ------------------------------------------------------------------------------------------------------


def _shown_columns() -> list[tuple[str, Any]]:
    """What is answered of an interface: of every one, and of some types."""
    columns = joined_columns(lambda kind: tuple(each for each in kind.columns if each.name in kind.answered))
    return [
        *(("name", str), ("index", int), ("type", str), ("link", str | None), ("veth", str | None)),
        *((each.name, each.type) for each in columns),
    ]


ShownInterface: Any = msgspec.defstruct("ShownInterface", _shown_columns(), module=__name__, frozen=True)
ListedInterface: Any = msgspec.defstruct(
    "ListedInterface",
    [("pool", str), ("ctid", str), ("hwaddr", str | None)],
    bases=(ShownInterface,),
    module=__name__,
    frozen=True,
)


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


class RequestOfInterface(EditRequest, frozen=True, kw_only=True):
    """What `netif_create` and `netif_set` have in common. Each type of interface adds its own keys."""

    id: str
    name: str
    hwaddr: str | UnsetType | None = UNSET
    tx_queues: int = 1
    rx_queues: int = 1
    max_tx: int = 0
    max_rx: int = 0

    def request(self, kind: InterfaceType[Any]) -> InterfaceRequest:
        """The keys of a type. Raises Refused for those that other types have, or none has here."""
        own = kind.request.__struct_fields__
        given = [key for each in interface_types().values() for key in given_fields(self, each.request)]
        for key in given:
            if key not in own:
                value = getattr(self, key)
                raise Refused(
                    f"{self.name} is a {kind.name} interface: no {key} {value!r}",
                    code=f"bad-{key}",
                    subject=str(value),
                )
        # It has one queue and no limit.
        for key, usual in (("tx_queues", 1), ("rx_queues", 1), ("max_tx", 0), ("max_rx", 0)):
            if key not in own and (value := getattr(self, key)) != usual:
                raise Refused(f"{key} {value} is not supported", code="unsupported", subject=key)
        return cast("InterfaceRequest", part_for(kind.request, self))


class CreateInterface(RequestOfInterface, frozen=True, kw_only=True):
    type: str

    def edit(self, host: Host, surroundings: Surroundings) -> Edited:
        container = find_container(host, self.id, pool=self.pool)
        kind = type_named(self.type)
        options = dict(self.request(kind).to_create())
        if isinstance(self.hwaddr, str):
            options["hwaddr"] = self.hwaddr
        return kind.new(container=container.name, netif=self.name, **options).edit(host, surroundings)


class SetInterface(RequestOfInterface, frozen=True, kw_only=True):
    nullable: ClassVar[tuple[str, ...]] = ("hwaddr",)

    def edit(self, host: Host, surroundings: Surroundings) -> Edited:
        container = find_container(host, self.id, pool=self.pool)
        interface = container.interface(self.name)
        if isinstance(self.hwaddr, str) and len(self.hwaddr) != _LENGTH_OF_HWADDR:
            raise Refused(
                f"{self.hwaddr!r}: hwaddr has to be a {_LENGTH_OF_HWADDR} character string or null",
                code="bad-hwaddr",
                subject=self.hwaddr,
            )
        options = dict(self.request(type_of(interface)).to_change(interface))
        if not isinstance(self.hwaddr, UnsetType):
            options["hwaddr"] = self.hwaddr or "-"
        if not options:
            return Edited(host, container.name)
        return cast("Edited", CtNetifSet(container=container.name, netif=self.name, **options).edit(host, surroundings))


def _request(name: str, words: tuple[str, ...], base: type[RequestOfInterface]) -> Any:
    """A request with the keys of all types beside those of every interface."""
    return msgspec.defstruct(
        name,
        joined_fields(kind.request for kind in interface_types().values()),
        bases=(base,),
        namespace={"__annotations__": {"words": ClassVar}, "words": words},
        module=__name__,
        frozen=True,
        kw_only=True,
    )


NetifCreate: Any = _request("NetifCreate", ("netif", "create"), CreateInterface)
NetifSet: Any = _request("NetifSet", ("netif", "set"), SetInterface)


class NetifRename(EditRequest, frozen=True, kw_only=True):
    words: ClassVar[tuple[str, ...]] = ("netif", "rename")

    id: str
    old_name: str
    new_name: str

    def edit(self, host: Host, surroundings: Surroundings) -> Edited:
        container = find_container(host, self.id, pool=self.pool)
        if self.new_name == self.old_name:
            container.interface(self.old_name)
            return Edited(host, container.name)
        command = CtNetifRename(container=container.name, netif=self.old_name, new_name=self.new_name)
        return command.edit(host, surroundings)


class NetifDelete(EditRequest, frozen=True, kw_only=True):
    words: ClassVar[tuple[str, ...]] = ("netif", "delete")

    id: str
    name: str

    def edit(self, host: Host, surroundings: Surroundings) -> Edited:
        container = find_container(host, self.id, pool=self.pool)
        return CtNetifDel(container=container.name, netif=self.name).edit(host, surroundings)


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
    """`route` is true for the network of the address, a network, or false for none; to what is on a bridge, there is
    none anyhow."""

    words: ClassVar[tuple[str, ...]] = ("netif", "ip", "add")

    id: str
    name: str
    addr: str
    route: bool | str = False

    def edit(self, host: Host, surroundings: Surroundings) -> Edited:
        container = find_container(host, self.id, pool=self.pool)
        route = self.route if container.interface(self.name).bridge is None else True
        return CtNetifIpAdd(
            container=container.name,
            netif=self.name,
            addresses=(self.addr,),
            route=route is not False,
            route_as=route if isinstance(route, str) else None,
        ).edit(host, surroundings)


class NetifIpDel(EditRequest, frozen=True, kw_only=True):
    """`addr` is an address, or `all`, then with `version` for one IP version only."""

    words: ClassVar[tuple[str, ...]] = ("netif", "ip", "del")

    id: str
    name: str
    addr: str
    keep_route: bool = False
    version: int | None = None

    def edit(self, host: Host, surroundings: Surroundings) -> Edited:
        return CtNetifIpDel(
            container=find_container(host, self.id, pool=self.pool).name,
            netif=self.name,
            addresses=(self.addr,),
            keep_route=self.keep_route,
            version=_known_version(self.version),
        ).edit(host, surroundings)


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
                "netif": each.interface.name,
                **_by_version((address.version, str(address)) for address in each.addresses),
            }
            for container in _containers(host, () if self.id is None else (self.id,), pool=self.pool)
            for each in addressed_interfaces(container, self.name if self.id is not None else None)
        ]
        return Listing(columns=(), shown=(), rows=tuple(rows))


# --- routes -------------------------------------------------------------------------------------------------------


class NetifRouteAdd(EditRequest, frozen=True, kw_only=True):
    words: ClassVar[tuple[str, ...]] = ("netif", "route", "add")

    id: str
    name: str
    addr: str
    via: str | None = None

    def edit(self, host: Host, surroundings: Surroundings) -> Edited:
        container = find_container(host, self.id, pool=self.pool).name
        command = CtNetifRouteAdd(container=container, netif=self.name, networks=(self.addr,), via=self.via)
        return command.edit(host, surroundings)


class NetifRouteDel(EditRequest, frozen=True, kw_only=True):
    """`addr` is a network, or `all`, then with `version` for one IP version only.

    Addresses that are left without a route are shown as unrouted: its client has no word to ask for that.
    """

    words: ClassVar[tuple[str, ...]] = ("netif", "route", "del")

    id: str
    name: str
    addr: str
    version: int | None = None

    def edit(self, host: Host, surroundings: Surroundings) -> Edited:
        return CtNetifRouteDel(
            container=find_container(host, self.id, pool=self.pool).name,
            netif=self.name,
            networks=(self.addr,),
            version=_known_version(self.version),
            force=True,
        ).edit(host, surroundings)


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
    host: Host, container_id: str | None, name: str | None, *, pool: str | None
) -> Iterator[tuple[Container, Any]]:
    ids = () if container_id is None else (container_id,)
    for container in _containers(host, ids, pool=pool):
        for interface in routed_interfaces(container, name if ids else None):
            yield container, interface


def _by_version(texts: Iterator[tuple[int, str]]) -> dict[str, list[str]]:
    sorted_out: dict[str, list[str]] = {str(version): [] for version in VERSIONS}
    for version, text in texts:
        sorted_out[str(version)].append(text)
    return sorted_out
