"""What the operator wants: containers and their interfaces, frozen.

`Host` answers questions that need more than one container; what an interface means for the kernel is known to its
type in `osctld.netif` alone, behind the `Interface` protocol.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping
from enum import IntEnum, StrEnum
from typing import Protocol

import msgspec

from osctld.core.address.addresses import Network, PackedNetwork
from osctld.core.authority.blocks import Block
from osctld.core.authority.claims import ClaimedNetworks, Holder
from osctld.core.authority.held import HoldingState
from osctld.core.config.autostart import Autostart
from osctld.core.config.edition import LATEST
from osctld.core.config.guest_side import GuestFilesPolicy, GuestInterface
from osctld.core.config.life import IdMap
from osctld.core.config.settings import Settings
from osctld.core.errors import Refused, Unavailable
from osctld.core.plan.kernel_state import (
    HOST,
    HostLink,
    KernelObject,
    KernelState,
    PermittedSource,
    Route,
    Routes,
    SiblingLinks,
)

#: The only pool; `default:CT` names the same container as `CT`.
POOL = "default"

_CONTAINER_NAME = re.compile(r"[a-z0-9_-]{1,100}", re.IGNORECASE | re.ASCII)
_USER_NAME = re.compile(r"[a-z0-9_-]{1,29}", re.ASCII)
_INTERFACE_NAME = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)

#: IFNAMSIZ is 16 with the final NUL (linux/include/uapi/linux/if.h).
LONGEST_LINK_NAME = 15

#: Names that mean something else to the kernel: the loopback link, and two directories below /proc/sys/net/ipv4/conf.
_RESERVED_LINK_NAMES = ("lo", "all", "default")


class GuestPolicy(StrEnum):
    """What becomes of differences inside the guest that none of our commands made.

    REPORT reports them, ENFORCE repairs them, ONCE does not look: the interface is written at start and by commands.
    """

    REPORT = "report"
    ENFORCE = "enforce"
    ONCE = "once"


class Precedence(IntEnum):
    """Whose default routes precede whose; those of interfaces of one precedence do in the order of the interfaces."""

    CHOSEN = 0
    USUAL = 1
    LAST = 2


class InterfaceContext(msgspec.Struct, frozen=True):
    """What an interface has to know about its host to determine its kernel objects."""

    container: str
    settings: Settings
    #: Used where no MTU was asked for: the smallest of the uplinks.
    default_mtu: int
    has_ipv6: bool
    #: How many interfaces of the container that precede it have a default route of each version.
    rank: Mapping[int, int]
    is_only_interface: bool
    #: As which edition has it.
    edition: int = LATEST
    #: Links of the host that interfaces of the container are attached to, by name. One that was never seen is not here.
    links: Mapping[str, HostLink] = {}
    #: Networks that it holds and that others have for now.
    set_aside: Collection[Network] = frozenset()


class Interface(Protocol):
    """One network interface of a container, of whatever type."""

    @property
    def uuid(self) -> str: ...
    @property
    def name(self) -> str:
        """Its name inside the container."""

    @property
    def link(self) -> str:
        """The host's name for its other end: chosen once, kept through restarts and renames inside."""

    @property
    def type_name(self) -> str: ...
    @property
    def guest_policy(self) -> GuestPolicy: ...
    @property
    def bridge(self) -> str | None:
        """The bridge of the host that its link is a port of; None: the host routes to it."""

    @property
    def versions(self) -> Collection[int]:
        """IP versions for which it gives the container a default route."""

    @property
    def precedence(self) -> Precedence: ...

    def claims(self, container: str) -> Iterable[ClaimedNetworks]:
        """The networks that it holds."""

    def permissions(self) -> Iterable[PermittedSource]:
        """What it may send from on the host although nothing is routed, while the container runs."""

    def renamed(self, name: str) -> Interface:
        """The same interface under another name inside."""

    def chosen_as_default(self, *, is_chosen: bool) -> Interface:
        """The same interface, made the first one for its default routes' sake, or no longer so."""

    def routed_networks(self) -> Iterable[PackedNetwork]:
        """The networks that are sent to it from beyond the host while the container runs."""

    def reason_not_delegable(self, network: Network) -> str | None:
        """What it needs itself of a part of its networks, so that the part cannot go to another; None: nothing."""

    def objects(self, context: InterfaceContext) -> Iterable[KernelObject | Routes]:
        """What the kernel holds for it while the container runs, on the host and in the guest."""

    def inside(self, context: InterfaceContext) -> GuestInterface:
        """The same as the guest's own network tool has to know it."""


class Container(msgspec.Struct, frozen=True):
    """What the operator wants of one container. `serial` counts the interfaces that it ever had.

    `user` is the named user whose id range it shares; None for a range of its own. One that `is_wanted` is started
    when the host comes up, one with `autostart` is wanted by each boot; one that `has_nesting` may run containers of
    its own. `generation` counts the changes of all but whether it is wanted.
    """

    name: str
    uuid: str
    user: str | None
    id_map: IdMap
    distribution: str
    version: str
    interfaces: tuple[Interface, ...] = ()
    serial: int = 0
    is_wanted: bool = False
    has_nesting: bool = False
    autostart: Autostart | None = None
    generation: int = 0
    #: Networks of it that somebody else was found to hold since: the host has no route to them until they are taken.
    parked: tuple[Network, ...] = ()
    #: Networks of it that another host has until they are taken here: no route to them either, and nothing is wrong.
    standby: tuple[Network, ...] = ()
    guest_files: GuestFilesPolicy = GuestFilesPolicy.WRITE

    @property
    def set_aside(self) -> dict[Network, HoldingState]:
        """Networks that it holds and to which the host has no route for now, with the reason."""
        if not self.parked and not self.standby:
            return {}
        return {
            **dict.fromkeys(self.standby, HoldingState.STANDBY),
            **dict.fromkeys(self.parked, HoldingState.PARKED),
        }

    def interface(self, name: str | None) -> Interface:
        """The interface of that name; None: the only one. Raises Refused when there is none, or no only one."""
        if name is None:
            return self._only_interface()
        for each in self.interfaces:
            if each.name == name:
                return each
        raise Refused(f"{name!r}: network interface not found in {self.name}", code="interface-not-found", subject=name)

    def _only_interface(self) -> Interface:
        match self.interfaces:
            case (only,):
                return only
            case ():
                raise Refused(
                    f"{self.name!r}: container has no interface", code="interface-not-found", subject=self.name
                )
            case several:
                names = ", ".join(each.name for each in several)
                raise Refused(f"{self.name!r}: name one of its interfaces: {names}", code="which", subject=self.name)

    def with_new_interface(self, interface: Interface) -> Container:
        """Raises Refused when there is one of that name."""
        if any(each.name == interface.name for each in self.interfaces):
            raise Refused(
                f"interface '{interface.name}' already exists in {self.name}",
                code="interface-exists",
                subject=interface.name,
                holder=self.name,
            )
        return msgspec.structs.replace(self, interfaces=(*self.interfaces, interface), serial=self.serial + 1)

    def with_interface(self, interface: Interface) -> Container:
        """The same container with the interface of that UUID changed."""
        changed = tuple(interface if each.uuid == interface.uuid else each for each in self.interfaces)
        return msgspec.structs.replace(self, interfaces=changed)

    def with_renamed_interface(self, name: str | None, new_name: str) -> Container:
        """Raises Refused when there is none of that name, or when the new one is taken or no link could have it."""
        interface = self.interface(name)
        if new_name == interface.name:
            return self
        check_interface_name(new_name)
        if any(each.name == new_name for each in self.interfaces):
            raise Refused(
                f"interface '{new_name}' already exists in {self.name}",
                code="interface-exists",
                subject=new_name,
                holder=self.name,
            )
        return self.with_interface(interface.renamed(new_name))

    def with_interface_first(self, name: str) -> Container:
        """The same interfaces, that one before the others: the default routes of its versions are the preferred."""
        first = self.interface(name)
        rest = (each.chosen_as_default(is_chosen=False) for each in self.interfaces if each is not first)
        return msgspec.structs.replace(self, interfaces=(first.chosen_as_default(is_chosen=True), *rest))

    def with_nesting(self, *, has_nesting: bool) -> Container:
        return msgspec.structs.replace(self, has_nesting=has_nesting)

    def without_interface(self, name: str) -> Container:
        gone = self.interface(name)
        return msgspec.structs.replace(self, interfaces=tuple(each for each in self.interfaces if each is not gone))

    def next_interface_uuid(self, name: str) -> str:
        """The UUID that a new interface will get: derived, so that a dry run says what the real run does."""
        return str(uuid.uuid5(uuid.UUID(self.uuid), f"{self.serial}:{name}"))

    def holder(self, interface: Interface) -> Holder:
        """One of its interfaces as a holder of networks."""
        return Holder(self.name, interface.name, interface.uuid, self.uuid)

    def claims(self) -> list[ClaimedNetworks]:
        return [
            msgspec.structs.replace(claim, holder=holder)
            for interface in self.interfaces
            for holder in [self.holder(interface)]
            for claim in interface.claims(self.name)
        ]

    @property
    def bridges(self) -> frozenset[str]:
        """The bridges that its interfaces are attached to."""
        return frozenset(each.bridge for each in self.interfaces if each.bridge is not None)

    @property
    def network_count(self) -> int:
        """How many networks it holds: what there is to do about it grows with them."""
        return sum(len(each.networks) for each in self.claims())

    def desired(
        self,
        settings: Settings,
        *,
        default_mtu: int,
        has_ipv6: bool = True,
        edition: int = LATEST,
        links: Mapping[str, HostLink] | None = None,
    ) -> KernelState:
        """Everything that the kernel holds for the container while it is running, in a given edition.

        `links` are the bridges that it is attached to.
        """
        objects: list[KernelObject | Routes] = []
        contexts = self._contexts(
            settings, default_mtu=default_mtu, has_ipv6=has_ipv6, edition=edition, links=links or {}
        )
        for each, context in zip(self.interfaces, contexts, strict=True):
            objects.extend(each.objects(context))
        if self.set_aside:
            objects = list(self._without_routes_aside(objects))
        routed = [each.link for each in self.interfaces if each.bridge is None]
        objects.extend(SiblingLinks(HOST, one, other) for one in routed for other in routed)
        return KernelState(objects)

    def _contexts(
        self, settings: Settings, *, default_mtu: int, has_ipv6: bool, edition: int, links: Mapping[str, HostLink]
    ) -> Iterator[InterfaceContext]:
        """What each of its interfaces has to know."""
        rank = {4: 0, 6: 0}
        ranks: dict[str, Mapping[int, int]] = {}
        for each in sorted(self.interfaces, key=lambda each: each.precedence):
            ranks[each.uuid] = dict(rank)
            for version in each.versions:
                rank[version] += 1
        for each in self.interfaces:
            yield InterfaceContext(
                container=self.name,
                settings=settings,
                default_mtu=default_mtu,
                has_ipv6=has_ipv6,
                rank=ranks[each.uuid],
                is_only_interface=len(self.interfaces) == 1,
                edition=edition,
                links=links,
                set_aside=self.set_aside.keys(),
            )

    def inside(
        self,
        settings: Settings,
        *,
        default_mtu: int,
        has_ipv6: bool = True,
        links: Mapping[str, HostLink] | None = None,
    ) -> tuple[GuestInterface, ...]:
        """Its interfaces as the guest's own network tool has to know them. `links` as for `desired`."""
        contexts = self._contexts(
            settings, default_mtu=default_mtu, has_ipv6=has_ipv6, edition=LATEST, links=links or {}
        )
        return tuple(each.inside(context) for each, context in zip(self.interfaces, contexts, strict=True))

    def _without_routes_aside(self, objects: Iterable[KernelObject | Routes]) -> Iterator[KernelObject | Routes]:
        """The same without routes of the host to what is set aside."""
        aside = frozenset(each.packed for each in self.set_aside)
        for each in objects:
            if isinstance(each, Routes) and each.way.namespace == HOST:
                yield Routes(each.way, [packed for packed in each.networks if packed not in aside])
            elif not (isinstance(each, Route) and each.namespace == HOST and each.network.packed in aside):
                yield each

    def routed_networks(self) -> Iterator[PackedNetwork]:
        """The networks that are sent to it from beyond the host while it runs."""
        aside = frozenset(each.packed for each in self.set_aside)
        for each in self.interfaces:
            yield from (
                (packed for packed in each.routed_networks() if packed not in aside)
                if aside
                else (each.routed_networks())
            )

    def with_parked(self, networks: Iterable[Network]) -> Container:
        """The same with these networks parked, as far as it holds them, and no others."""
        return self._with_set_aside(frozenset(networks), frozenset(self.standby))

    def with_standby(self, networks: Iterable[Network]) -> Container:
        """The same with these networks on standby, as far as it holds them and they are not parked, and no others."""
        return self._with_set_aside(frozenset(self.parked), frozenset(networks))

    def _with_set_aside(self, parked: frozenset[Network], standby: frozenset[Network]) -> Container:
        held = {claim.network for claims in self.claims() for claim in claims}
        return msgspec.structs.replace(
            self, parked=tuple(sorted(parked & held)), standby=tuple(sorted((standby - parked) & held))
        )


class Host(msgspec.Struct, frozen=True):
    """The whole configuration. `serial` counts the containers that this host ever had."""

    uuid: str
    settings: Settings
    containers: Mapping[str, Container] = {}
    serial: int = 0
    #: Links that were declared: containers may use parts of their networks.
    uplinks: tuple[str, ...] = ()
    #: Networks that are blocked, in their order.
    blocks: tuple[Block, ...] = ()

    def container(self, name: str) -> Container:
        """Look a container up by `CT` or `POOL:CT`. Raises Refused when there is none."""
        pool, colon, bare = name.rpartition(":")
        if colon and pool != POOL:
            raise Refused(f"pool {pool!r} not found", code="pool-not-found", subject=pool)
        found = self.containers.get(bare)
        if found is None:
            raise Refused(f"container not found: {name!r}", code="container-not-found", subject=name)
        return found

    @property
    def sorted_containers(self) -> list[Container]:
        """All containers by name, as listings show them."""
        return sorted(self.containers.values(), key=lambda each: each.name)

    def with_container(self, container: Container) -> Host:
        return msgspec.structs.replace(self, containers={**self.containers, container.name: container})

    def with_uplink(self, link: str, *, is_declared: bool) -> Host:
        """The same host, with or without permission for containers to use parts of the networks of a link."""
        others = {*self.uplinks} - {link}
        return msgspec.structs.replace(self, uplinks=tuple(sorted(others | ({link} if is_declared else set()))))

    def with_blocks(self, blocks: Iterable[Block]) -> Host:
        """The same host on which these networks are blocked, and no others."""
        return msgspec.structs.replace(self, blocks=tuple(sorted(blocks, key=lambda each: each.network)))

    def without_container(self, name: str) -> Host:
        rest = {each: container for each, container in self.containers.items() if each != name}
        return msgspec.structs.replace(self, containers=rest)

    def with_new_container(self, name: str, *, user: str | None, distribution: str, version: str) -> Host:
        """Add a container with an id range of its user's own; the user is the container's own unless named.

        Raises Refused for a bad or taken name, Unavailable when no id range is left.
        """
        name = name.removeprefix(f"{POOL}:")
        if not _CONTAINER_NAME.fullmatch(name):
            raise Refused(
                f"{name!r}: invalid container id (expected 1 to 100 characters of a-z A-Z 0-9 _ -)",
                code="bad-name",
                subject=name,
            )
        if name in self.containers:
            raise Refused(f"container already exists: {name!r}", code="container-exists", subject=name)
        container = Container(
            name=name,
            uuid=str(uuid.uuid5(uuid.UUID(self.uuid), f"{self.serial}:{name}")),
            user=user,
            id_map=self.id_map_for(user),
            distribution=distribution,
            version=version,
        )
        return msgspec.structs.replace(self.with_container(container), serial=self.serial + 1)

    def id_map_for(self, user: str | None) -> IdMap:
        """The range that the next container of a user has; without a user, a free one.

        Raises Refused for a bad name, Unavailable when no range is left.
        """
        if user is not None and not _USER_NAME.fullmatch(user):
            raise Refused(
                f"{user!r}: invalid user name (expected 1 to 29 characters of a-z 0-9 _ -)",
                code="bad-name",
                subject=user,
            )
        size, ids = IdMap(0).size, self.settings.ids
        taken = set()
        for each in self.containers.values():
            if user is not None and each.user == user:
                return each.id_map
            taken.add(each.id_map.offset)
        for offset in range(ids.first, ids.last + 2 - size, size):
            if offset not in taken:
                return IdMap(offset)
        raise Unavailable(
            f"no id range is left between ids.first = {ids.first} and ids.last = {ids.last}", code="ids-exhausted"
        )

    def link_name(self, container: str, interface: str, *, uuid: str) -> str:
        """Choose the host's name for a new interface: readable where it fits and is free, else shortened.

        Starts with `os`, has at most LONGEST_LINK_NAME characters, and belongs to no other interface.
        """
        taken = {each.link for one in self.containers.values() for each in one.interfaces}
        readable = f"os{container}-{interface}"
        if len(readable) <= LONGEST_LINK_NAME and readable not in taken:
            return readable
        digest = hashlib.sha256(uuid.encode()).hexdigest()
        for start in range(len(digest) - 8):
            shortened = f"os{container[:4]}-{digest[start : start + 8]}"
            if shortened not in taken:
                return shortened
        raise Unavailable(f"no host link name is free for {interface} of {container}", code="names-exhausted")


def why_no_bridge(link: HostLink | None) -> str | None:
    """Why nothing can be attached to what the name of a bridge stands for; None when something can."""
    if link is None or not link.is_there:
        return "no such link"
    return None if link.is_bridge else f"not a bridge, but a link of the kind {link.kind or 'device'}"


def check_link_name(name: str) -> None:
    """Raise Refused, quoting the name, when no link of the host could have it.

    See dev_valid_name in linux/net/core/dev.c.
    """
    is_valid = 0 < len(name.encode("utf-8", "replace")) <= LONGEST_LINK_NAME and name not in (".", "..")
    if not is_valid or any(each in "/:" or each.isspace() for each in name):
        raise Refused(f"{name!r}: invalid link name", code="bad-name", subject=name)


def check_interface_name(name: str) -> None:
    """Raise Refused, quoting the name, when the kernel or a tool could not use it as a link's name."""
    why = None
    if not name:
        why = "is empty"
    elif len(name.encode("utf-8", "replace")) > LONGEST_LINK_NAME:
        why = f"is longer than {LONGEST_LINK_NAME} bytes"
    elif not _INTERFACE_NAME.fullmatch(name) or name.startswith("-"):
        why = "contains characters other than a-z A-Z 0-9 _ -, or starts with -"
    elif name in _RESERVED_LINK_NAMES:
        why = "is reserved"
    if why is not None:
        raise Refused(f"{name!r}: invalid interface name, it {why}", code="bad-name", subject=name)


def derived_mac(interface_uuid: str, *, side: str) -> str:
    """A MAC address that is the same after every restart: locally administered, unicast (IEEE 802, first octet 02)."""
    digest = hashlib.sha256(f"{interface_uuid}:{side}".encode()).digest()
    return ":".join(f"{octet:02x}" for octet in (2, *digest[:5]))
