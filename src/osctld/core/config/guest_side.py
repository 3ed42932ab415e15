"""What the network tool of a guest has to know about its interfaces, and what becomes of the tool's files."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import msgspec

from osctld.core.address.addresses import Address, InterfaceAddress
from osctld.core.plan.kernel_state import AssignedAddress, KernelObject, Route


class GuestFilesPolicy(StrEnum):
    """What becomes of the configuration files of the guest's own network tool.

    WRITE keeps them in agreement with the configuration, REPORT only says in what they differ, OFF does not look.
    """

    WRITE = "write"
    REPORT = "report"
    OFF = "off"


class GuestAddress(msgspec.Struct, frozen=True):
    """An address of the link inside. One that is no source has `scope link`, in IPv6 a preferred lifetime of 0."""

    address: InterfaceAddress
    broadcast: Address | None = None
    is_source: bool = True


class GuestDefault(msgspec.Struct, frozen=True):
    """A default route inside; metric 0 is none."""

    gateway: Address
    source: Address
    metric: int = 0

    @property
    def version(self) -> int:
        return self.gateway.version


class GuestInterface(msgspec.Struct, frozen=True):
    """One interface, as the guest has to configure it to agree with the host.

    `addresses` in the order in which they are added, `defaults` one for each IP version at most. `mtu` is None unless
    the operator asked for one: the link has the right one already. With `dhcp` the guest's tool asks for addresses and
    default routes beside these, and on a link that `is_shared` with others, routers may advertise some.
    """

    name: str
    mac: str
    addresses: tuple[GuestAddress, ...] = ()
    defaults: tuple[GuestDefault, ...] = ()
    mtu: int | None = None
    dhcp: bool = False
    is_shared: bool = False

    @classmethod
    def of(cls, objects: Iterable[KernelObject], *, name: str, mac: str, mtu: int | None = None) -> GuestInterface:
        """The same as these objects inside say it, so that host and guest cannot disagree."""
        addresses, defaults = [], []
        for each in objects:
            match each:
                case AssignedAddress(address=address, broadcast=broadcast, is_source=is_source):
                    addresses.append(GuestAddress(address, broadcast, is_source))
                case Route(gateway=Address() as gateway, source=Address() as source, metric=metric):
                    defaults.append(GuestDefault(gateway, source, metric))
                case _:
                    pass  # neighbours, of which no tool knows
        return cls(name, mac, tuple(addresses), tuple(defaults), mtu)
