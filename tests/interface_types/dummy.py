"""A type of interface that only tests have: a veth pair with no address at all.

It holds networks that nobody else shall get, and has a setting of the host's link of its own. Everything of it is in
this file: whoever has the folder on `osctld.netif.__path__` before anything is asked of types has it, whole.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Annotated, Any, ClassVar

import msgspec

from osctld.core.address.addresses import Network, PackedNetwork
from osctld.core.authority.claims import ClaimedNetworks, ClaimKind, Holder
from osctld.core.command import Argument, Column, ContainerName, EditCommand, Edited, Example, Flag, Option
from osctld.core.config.guest_side import GuestInterface
from osctld.core.config.host import (
    Container,
    GuestPolicy,
    Host,
    InterfaceContext,
    Precedence,
    check_interface_name,
    derived_mac,
)
from osctld.core.config.surroundings import Surroundings
from osctld.core.errors import Refused
from osctld.core.plan.kernel_state import HOST, KernelObject, Link, PermittedSource, Sysctl, Veth, guest
from osctld.netif import link_options
from osctld.netif.interface_type import InterfaceDocument, InterfaceOptions, InterfaceRequest, InterfaceType


class DummyInterface(msgspec.Struct, frozen=True):
    """`reserved` are held although nothing of them is routed; `logs` has the host log impossible sources."""

    uuid: str
    name: str
    link: str
    mac: str
    host_mac: str
    reserved: tuple[Network, ...] = ()
    logs: bool = False
    mtu: int | None = None
    guest_policy: GuestPolicy = GuestPolicy.REPORT

    @property
    def type_name(self) -> str:
        return "dummy"

    @property
    def bridge(self) -> None:
        return None

    @property
    def versions(self) -> Collection[int]:
        return ()

    @property
    def precedence(self) -> Precedence:
        return Precedence.USUAL

    def claims(self, container: str) -> Iterator[ClaimedNetworks]:
        networks = tuple(each.packed for each in self.reserved)
        yield ClaimedNetworks(ClaimKind.ROUTE, Holder(container, self.name), networks)

    def permissions(self) -> Iterator[PermittedSource]:
        return iter(())

    def renamed(self, name: str) -> DummyInterface:
        return msgspec.structs.replace(self, name=name)

    def chosen_as_default(self, *, is_chosen: bool) -> DummyInterface:  # noqa: ARG002 - it has no default route
        return self

    def routed_networks(self) -> tuple[PackedNetwork, ...]:
        return ()

    def reason_not_delegable(self, network: Network) -> str | None:  # noqa: ARG002 - the same of each
        return f"it is reserved for {self.name}"

    def objects(self, context: InterfaceContext) -> Iterator[KernelObject]:
        inside, mtu = guest(context.container), self.mtu or context.default_mtu
        yield Veth(
            namespace=HOST,
            name=self.link,
            mac=self.host_mac,
            mtu=mtu,
            group=context.settings.host.link_group,
            is_up=True,
            peer_namespace=inside,
            peer_name=self.name,
            peer_mac=self.mac,
        )
        yield Link(namespace=inside, name=self.name, mac=self.mac, mtu=mtu, is_up=True)
        yield Sysctl(HOST, f"ipv4/conf/{self.link}/log_martians", "1" if self.logs else "0", link=self.link)
        if context.has_ipv6:  # an address of the kernel's own making would be on a link of ours, and not wanted
            yield Sysctl(HOST, f"ipv6/conf/{self.link}/addr_gen_mode", "1", link=self.link)

    def inside(self, context: InterfaceContext) -> GuestInterface:  # noqa: ARG002 - the same everywhere
        return GuestInterface(self.name, self.mac, mtu=self.mtu)


class DummyDocument(InterfaceDocument, frozen=True, omit_defaults=True, tag="dummy"):
    mac: str
    host_mac: str
    reserved: tuple[str, ...] = ()
    logs: bool = False
    mtu: int | None = None
    guest: str = GuestPolicy.REPORT.value


class DummyOptions(InterfaceOptions, frozen=True, kw_only=True):
    permissions = link_options.PERMISSIONS
    reserve: Annotated[
        tuple[str, ...], Option(("--reserve",), "NETWORK", "Network nobody else gets", keywords=("192.0.2.64/28",))
    ] = ()
    logs: Annotated[bool | None, Flag(("--logs",), "Log impossible source addresses", negatable=True)] = None
    hwaddr: link_options.Hwaddr = None
    mtu: link_options.Mtu = None
    guest: link_options.Guest = None
    force: link_options.Force = False

    def applied(self, interface: DummyInterface) -> DummyInterface:
        chosen = link_options.chosen_properties(self, interface.uuid)
        if self.reserve:
            chosen["reserved"] = tuple(map(Network.parse, self.reserve))
        if self.logs is not None:
            chosen["logs"] = self.logs
        return msgspec.structs.replace(interface, **chosen)


class DummyRequest(InterfaceRequest, frozen=True, kw_only=True):
    """`reserve` is an array of networks; `logs` true or false."""

    reserve: tuple[str, ...] | None = None
    logs: bool | None = None

    def to_create(self) -> Mapping[str, Any]:
        if self.reserve == ():
            raise Refused("reserve is empty", code="bad-reserve", subject="reserve")
        given = {"reserve": self.reserve, "logs": self.logs}
        return {key: value for key, value in given.items() if value is not None}

    def to_change(self, interface: DummyInterface) -> Mapping[str, Any]:  # noqa: ARG002 - the same of each
        return self.to_create()


class CtNetifNewDummy(EditCommand, DummyOptions, frozen=True, kw_only=True):
    """Create an interface that has no address.

    Networks that are reserved for it are held, and lead nowhere.
    """

    adds_interface: ClassVar[bool] = True
    words: ClassVar[tuple[str, ...]] = ("ct", "netif", "new", "dummy")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl ct netif new dummy --reserve 198.51.100.64/28 myct02 eth7", "Keep a network from everybody"),
    )

    container: ContainerName
    netif: Annotated[str, Argument("Name of the interface inside", metavar="netif")]

    def edit(self, host: Host, surroundings: Surroundings) -> Edited:  # noqa: ARG002 - nothing of it is taken
        check_interface_name(self.netif)
        before = host.container(self.container)
        uuid = before.next_interface_uuid(self.netif)
        made = DummyInterface(
            uuid=uuid,
            name=self.netif,
            link=host.link_name(before.name, self.netif, uuid=uuid),
            mac=derived_mac(uuid, side="guest"),
            host_mac=derived_mac(uuid, side="host"),
        )
        after = before.with_new_interface(self.applied(made))
        return Edited(host.with_container(after), after.name)


class DummyType(InterfaceType[DummyInterface]):
    name = "dummy"
    new = CtNetifNewDummy
    options = DummyOptions
    about_set = "Networks that are reserved for a dummy interface are replaced by those that are named."
    examples_of_set = (Example("osctl ct netif set --logs myct02 eth7", "Log impossible source addresses"),)
    document = DummyDocument
    item_events: ClassVar[Mapping[str, str]] = {"reserved": "ct_netif_reserved"}
    columns = (
        Column("logs", "whether impossible source addresses are logged", type=bool),
        link_options.HWADDR,
        link_options.MTU,
        link_options.GUEST,
    )
    details = (Column("reserved", "networks that nobody else gets", type=list[str]),)
    request = DummyRequest
    answered = ("logs",)

    def encode(self, interface: DummyInterface) -> DummyDocument:
        return DummyDocument(
            uuid=interface.uuid,
            name=interface.name,
            link=interface.link,
            mac=interface.mac,
            host_mac=interface.host_mac,
            reserved=tuple(map(str, interface.reserved)),
            logs=interface.logs,
            mtu=interface.mtu,
            guest=interface.guest_policy.value,
        )

    def decode(self, document: DummyDocument) -> DummyInterface:
        return DummyInterface(
            uuid=document.uuid,
            name=document.name,
            link=document.link,
            mac=document.mac,
            host_mac=document.host_mac,
            reserved=tuple(map(Network.parse, document.reserved)),
            logs=document.logs,
            mtu=document.mtu,
            guest_policy=GuestPolicy(document.guest),
        )

    def listed(self, interface: DummyInterface) -> Mapping[str, Any]:
        return {
            "logs": interface.logs,
            "hwaddr": interface.mac,
            "mtu": interface.mtu,
            "guest": interface.guest_policy.value,
        }

    def detailed(self, interface: DummyInterface) -> Mapping[str, Any]:
        return {"reserved": [str(each) for each in interface.reserved]}

    def changed(
        self,
        host: Host,  # noqa: ARG002
        surroundings: Surroundings,  # noqa: ARG002
        container: Container,  # noqa: ARG002
        interface: DummyInterface,
        options: DummyOptions,
    ) -> DummyInterface:
        return options.applied(interface)


TYPE = DummyType()
