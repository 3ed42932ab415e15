"""IP addresses and networks as small frozen values.

An address is its version and its number; plain integers compare, sort and pack quickly. Where networks come by the
hundred thousand they are packed, see `PackedNetwork`.
"""

from __future__ import annotations

import ipaddress
from bisect import bisect_left
from collections.abc import Sequence
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton  # these two only calculate
from typing import TypeAlias

import msgspec

from osctld.core.errors import Refused

#: Number of bits of an address of each IP version.
BITS = {4: 32, 6: 128}
VERSIONS = (4, 6)

#: A network as bytes: its address in network byte order, and one octet behind that is the prefix length. Such bytes are
#: hashed, compared, sorted and joined without a line of Python for each. They sort by address, then the widest first.
PackedNetwork: TypeAlias = bytes

#: How many bytes a packed network of each IP version has, and the other way round.
SIZE_OF_PACKED = {4: 5, 6: 17}
VERSION_OF_PACKED = {size: version for version, size in SIZE_OF_PACKED.items()}

_DECIMAL = tuple(map(str, range(256)))

_FAMILY = {4: AF_INET, 6: AF_INET6}


def _text(version: int, number: int) -> str:
    # With IPv4 in their last 32 bits; libraries, and Pythons before and after 3.13, differ in how they write those.
    if version == 6 and number >> 32 == 0xFFFF:
        return f"::ffff:{number >> 16 & 0xFFFF:x}:{number & 0xFFFF:x}"
    if version == 6 and number >> 32 == 0:
        return str(ipaddress.IPv6Address(number))
    return inet_ntop(_FAMILY[version], number.to_bytes(BITS[version] >> 3, "big"))


def _read(text: str) -> bytes | None:
    """A packed address; None for a text that is none. A zone ("fe80::1%eth0") has no meaning in a configuration."""
    try:
        return inet_pton(AF_INET6 if ":" in text else AF_INET, text)
    except (OSError, ValueError):  # ValueError: a NUL in it, or no text at all
        return None


class Address(msgspec.Struct, frozen=True, order=True):
    """One IPv4 or IPv6 address."""

    version: int
    number: int

    def __str__(self) -> str:
        return _text(self.version, self.number)

    @property
    def packed(self) -> bytes:
        """The address in network byte order: 4 or 16 bytes."""
        return self.number.to_bytes(BITS[self.version] // 8, "big")

    @classmethod
    def from_packed(cls, packed: bytes) -> Address:
        return cls(4 if len(packed) == 4 else 6, int.from_bytes(packed, "big"))

    @classmethod
    def parse(cls, text: str) -> Address:
        """Raise Refused, quoting the text, when it is not an address."""
        packed = _read(text)
        if packed is None:
            raise Refused(f"{text!r} is not an IP address", code="bad-address", subject=text)
        return cls.from_packed(packed)

    def with_length(self, length: int) -> InterfaceAddress:
        return InterfaceAddress(self.version, self.number, length)

    def as_network(self) -> Network:
        """The network of this one address: /32 or /128."""
        return Network(self.version, self.number, BITS[self.version])


class Network(msgspec.Struct, frozen=True, order=True):
    """A network: the bits behind the prefix length are zero."""

    version: int
    number: int
    length: int

    def __str__(self) -> str:
        return f"{_text(self.version, self.number)}/{self.length}"

    @classmethod
    def parse(cls, text: str) -> Network:
        """Read `A/P`, or `A` alone for the network of one address; host bits are dropped.

        Raises Refused, quoting the text, when it is not a network.
        """
        try:
            return InterfaceAddress.parse(text).network
        except Refused:
            raise Refused(f"{text!r} is not an IP network", code="bad-network", subject=text) from None

    @property
    def address(self) -> Address:
        """The network address, its first."""
        return Address(self.version, self.number)

    @property
    def packed(self) -> PackedNetwork:
        return self.number.to_bytes(BITS[self.version] >> 3, "big") + bytes((self.length,))

    @classmethod
    def from_packed(cls, packed: PackedNetwork) -> Network:
        return cls(VERSION_OF_PACKED[len(packed)], int.from_bytes(packed[:-1], "big"), packed[-1])

    @property
    def last(self) -> Address:
        """The last address: the broadcast address of an IPv4 network wider than /31."""
        return Address(self.version, self.number | (self.size - 1))

    @property
    def size(self) -> int:
        """How many addresses the network has."""
        return 1 << (BITS[self.version] - self.length)

    @property
    def is_default(self) -> bool:
        return self.length == 0

    def includes(self, other: Address | Network | InterfaceAddress) -> bool:
        """Whether all of `other` lies in this network; an address with prefix length counts as one address."""
        if self.version != other.version:
            return False
        if isinstance(other, Network) and other.length < self.length:
            return False
        return (self.number ^ other.number) >> (BITS[self.version] - self.length) == 0

    def overlaps(self, other: Network) -> bool:
        return self.includes(other) or other.includes(self)


class InterfaceAddress(msgspec.Struct, frozen=True, order=True):
    """An address together with the prefix length of the network it is on, as `ip address` takes it."""

    version: int
    number: int
    length: int

    def __str__(self) -> str:
        return f"{_text(self.version, self.number)}/{self.length}"

    @classmethod
    def parse(cls, text: str) -> InterfaceAddress:
        """Read `A/P`, or `A` alone with /32 or /128. Raises Refused, quoting the text."""
        bare, slash, length_text = text.partition("/")
        try:
            address = Address.parse(bare)
        except Refused:
            raise Refused(f"{text!r} is not an IP address", code="bad-address", subject=text) from None
        bits = BITS[address.version]
        if not slash:
            return address.with_length(bits)
        # Only decimal digits: Python's int() would also take "+24", " 24" and "2_4".
        if not (length_text.isascii() and length_text.isdigit() and len(length_text) <= 3):
            raise Refused(f"{text!r} is not an IP address", code="bad-address", subject=text)
        length = int(length_text)
        if length > bits:
            raise Refused(
                f"{text!r}: the longest IPv{address.version} prefix is /{bits}",
                code="bad-address",
                subject=text,
            )
        return address.with_length(length)

    @property
    def address(self) -> Address:
        return Address(self.version, self.number)

    @property
    def packed(self) -> bytes:
        return self.address.packed

    @property
    def network(self) -> Network:
        """The network this address is on."""
        host_bits = BITS[self.version] - self.length
        return Network(self.version, self.number >> host_bits << host_bits, self.length)

    @property
    def broadcast(self) -> Address | None:
        """The broadcast address of its network as `brd +` sets it: of IPv4, and wider than /31.

        Guest tools stumble over an address of a wide network without one.
        """
        if self.version == 4 and self.length < BITS[4] - 1:
            return self.network.last
        return None

    @property
    def short(self) -> str:
        """`A` for /32 and /128, else `A/P`: as a person would say it."""
        return str(self.address) if self.length == BITS[self.version] else str(self)


def read_networks(texts: Sequence[str]) -> list[PackedNetwork]:
    """Read many networks, each as `Network.parse` does."""
    for family, suffix, length in ((AF_INET, "/32", b"\x20"), (AF_INET6, "/128", b"\x80")):
        try:
            return [inet_pton(family, text.removesuffix(suffix)) + length for text in texts]
        except (OSError, ValueError):
            pass  # not all are single addresses of this version
    return [Network.parse(text).packed for text in texts]


def network_texts(packed: Sequence[PackedNetwork]) -> list[str]:
    """Many networks as text, each as `str` of a network."""
    try:
        return [f"{_DECIMAL[a]}.{_DECIMAL[b]}.{_DECIMAL[c]}.{_DECIMAL[d]}/{_DECIMAL[e]}" for a, b, c, d, e in packed]
    except ValueError:  # not all are of IPv4
        return [str(Network.from_packed(each)) for each in packed]


def reason_not_unicast(address: Address) -> str | None:
    """Why an address can be neither assigned nor routed to a container; None when it can.

    Ranges: RFC 6890 (special purpose), RFC 5771 and RFC 4291 (multicast), RFC 4291 2.5.5.2 (IPv4-mapped).
    """
    number = address.number
    if number == 0:
        return "the unspecified address"
    if address.version == 4:
        octet = number >> 24
        if octet == 127:
            return "a loopback address"
        if octet >> 4 == 14:
            return "a multicast address"
        if number == 0xFFFFFFFF:
            return "the broadcast address"
        return "in 0.0.0.0/8, which means this network" if octet == 0 else None
    if number == 1:
        return "a loopback address"
    if number >> 120 == 0xFF:
        return "a multicast address"
    return "an IPv4-mapped address" if number >> 32 == 0xFFFF else None


#: Networks that can never be routed to a container, in whole or in part, and why.
_NOT_ROUTABLE = tuple(
    (Network.parse(text), name)
    for text, name in (
        ("0.0.0.0/8", "this network"),
        ("127.0.0.0/8", "loopback"),
        ("224.0.0.0/4", "multicast"),
        ("255.255.255.255/32", "broadcast"),
        ("169.254.0.0/16", "link-local"),
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("::ffff:0:0/96", "IPv4-mapped"),
        ("fe80::/10", "link-local"),
        ("ff00::/8", "multicast"),
    )
)

#: Numbers of the first and the last address of those networks.
_NOT_ROUTABLE_RANGES = {
    version: [(each.number, each.last.number) for each, _ in _NOT_ROUTABLE if each.version == version]
    for version in VERSIONS
}


def reason_not_routable(network: Network) -> str | None:
    """Why a network can not be routed to a container; None when it can."""
    if network.is_default:
        return "everything (the default route)"
    number, behind = network.number, network.number + network.size
    for first, last in _NOT_ROUTABLE_RANGES[network.version]:
        if number <= last and first < behind:
            break
    else:
        return None  # as for nearly all
    return next(f"{name} ({reserved})" for reserved, name in _NOT_ROUTABLE if network.overlaps(reserved))


def overlaps_not_routable(version: int, ordered: Sequence[PackedNetwork], length: int) -> bool:
    """Whether there is a reason, of whatever kind, among networks of this version and length, in order."""
    return any(
        any_inside(ordered, each if each.length <= length else each.address.with_length(length).network)
        for each, _ in _NOT_ROUTABLE
        if each.version == version
    )


def any_inside(ordered: Sequence[PackedNetwork], network: Network) -> bool:
    """Whether the network is or includes one of these, which are of its version, and in order."""
    at = bisect_left(ordered, network.packed)
    return at < len(ordered) and network.includes(Network.from_packed(ordered[at]))
