"""What can be said of any interface that is a link with a MAC address: declared once for all types."""

from __future__ import annotations

from typing import Annotated, Any, Protocol, TypeAlias

from osctld.core.address.hardware_address import complete_mac
from osctld.core.command import Column, Flag, Option
from osctld.core.config.host import GuestPolicy, derived_mac
from osctld.core.errors import Refused, UsageError

#: The fields of listings that say what was chosen.
HWADDR = Column("hwaddr", "MAC address of the container end", type=str | None)
MTU = Column("mtu", "MTU, if one was set", type=int | None)
GUEST = Column("guest", "policy for changes made inside: report, enforce or once")
#: Of types that have addresses.
SOURCE = Column("source", "source address by IP version", type=dict[str, str])
ADDRESSES = Column("addresses", "assigned, in the operator's order", type=list[str])


Hwaddr: TypeAlias = Annotated[
    str | None,
    Option(
        ("--hwaddr",),
        "MAC|-",
        "MAC address of the container end; osctld chooses a digit for each x; - for the default address",
    ),
]
Mtu: TypeAlias = Annotated[
    str | None,
    Option(
        ("--mtu",),
        "N|-",
        "MTU; - for the default: that of its bridge or, if it is routed, the smallest MTU of the host's uplinks,"
        " at least 1280 with IPv6",
    ),
]
Guest: TypeAlias = Annotated[
    str | None,
    Option(
        ("--guest",),
        "POLICY",
        "Changes made inside the container are reported (report), undone (enforce) or not looked for (once)",
        choices=tuple(GuestPolicy),
    ),
]
#: What is refused otherwise: a more specific network inside of another container's, and one that the host uses.
Delegate: TypeAlias = Annotated[bool, Flag(("--delegate",), "Allow a network inside one that another container holds")]
OverlapHost: TypeAlias = Annotated[
    bool, Flag(("--overlap-host",), "Allow a network that overlaps one of the host's, but never one of its addresses")
]
Force: TypeAlias = Annotated[bool, Flag(("-f", "--force"), "Same as --delegate --overlap-host")]
#: Options that ask for nothing by themselves.
PERMISSIONS = frozenset({"delegate", "overlap_host", "force"})


class LinkOptions(Protocol):
    """Options that have these."""

    @property
    def hwaddr(self) -> str | None: ...
    @property
    def mtu(self) -> str | None: ...
    @property
    def guest(self) -> str | None: ...


def chosen_properties(options: LinkOptions, uuid: str) -> dict[str, Any]:
    """What was chosen for the interface of that UUID: `mac`, `mtu`, `guest_policy`, those that were.

    Raises Refused and UsageError for what makes no sense.
    """
    found: dict[str, Any] = {}
    if options.hwaddr == "-":
        found["mac"] = derived_mac(uuid, side="guest")
    elif options.hwaddr is not None:
        found["mac"] = complete_mac(options.hwaddr, interface_uuid=uuid)
    if options.mtu is not None:
        found["mtu"] = _mtu(options.mtu)
    if options.guest is not None:
        found["guest_policy"] = GuestPolicy(options.guest)
    return found


#: RFC 791: what every link has to carry. Below it the kernel refuses.
LEAST_MTU = 68
#: ETH_MAX_MTU (linux/include/uapi/linux/if_ether.h), which veth takes at most.
LARGEST_MTU = 65535


def check_mtu(mtu: int | None) -> None:
    """Raise Refused for an MTU that the kernel would not take."""
    if mtu is not None and not LEAST_MTU <= mtu <= LARGEST_MTU:
        raise Refused(f"MTU {mtu}: must be from {LEAST_MTU} to {LARGEST_MTU}", code="bad-mtu", subject=str(mtu))


def check_mac(mac: str, *, host_mac: str, interface: str) -> None:
    """Raise Refused when a MAC address for the guest's end is the host end's."""
    if mac == host_mac:
        raise Refused(
            f"{mac!r}: already the MAC address of the host end of {interface}", code="bad-hwaddr", subject=mac
        )


def _mtu(text: str) -> int | None:
    if text == "-":
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise UsageError(f"invalid argument: --mtu {text} (expected a number, or -)")
    return int(text)
