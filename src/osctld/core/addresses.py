"""IP addresses and networks as small frozen values.

An address is its version and its number. The standard library's `ipaddress` parses and prints them; the values
themselves stay plain integers so that ten thousand of them compare, sort and pack quickly.
"""

from __future__ import annotations

import ipaddress
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from osctld.core.errors import Refused

#: Number of bits of an address of each IP version.
BITS = {4: 32, 6: 128}
VERSIONS = (4, 6)

#: Every way to write an octet, and every prefix length of IPv4: networks come by the hundred thousand, and these tables
#: read and print them four times as fast as `ipaddress`, which does the rest.
_OCTETS = {str(number): number for number in range(256)}
_OCTET_TEXTS = tuple(_OCTETS)
_LENGTHS = {str(number): number for number in range(BITS[4] + 1)}


def _text(version: int, number: int) -> str:
    if version != 4:
        return str(ipaddress.IPv6Address(number))
    text = _OCTET_TEXTS
    return f"{text[number >> 24]}.{text[number >> 16 & 255]}.{text[number >> 8 & 255]}.{text[number & 255]}"


def _read_ipv4(text: str) -> int | None:
    """The number of an IPv4 address as it is nearly always written; None for anything else, which may be one too."""
    try:
        one, two, three, four = text.split(".")
        return _OCTETS[one] << 24 | _OCTETS[two] << 16 | _OCTETS[three] << 8 | _OCTETS[four]
    except (ValueError, KeyError):
        return None


def _without_zone(text: str) -> str:
    # "fe80::1%eth0": a zone has no meaning in a configuration that spans namespaces.
    if "%" in text:
        raise ValueError(text)
    return text


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
        number = _read_ipv4(text)
        if number is not None:
            return cls(4, number)
        try:
            return cls.from_packed(ipaddress.ip_address(_without_zone(text)).packed)
        except ValueError:
            raise Refused(f"{text!r} is not an IP address", code="bad-address", subject=text) from None

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
        bare, slash, length_text = text.partition("/")
        number, length = _read_ipv4(bare), _LENGTHS.get(length_text) if slash else BITS[4]
        if number is not None and length is not None:
            host_bits = BITS[4] - length
            return cls(4, number >> host_bits << host_bits, length)
        try:
            return InterfaceAddress.parse(text).network
        except Refused:
            raise Refused(f"{text!r} is not an IP network", code="bad-network", subject=text) from None

    @property
    def address(self) -> Address:
        """The network address, its first."""
        return Address(self.version, self.number)

    @property
    def packed(self) -> bytes:
        """The network address in network byte order."""
        return self.number.to_bytes(BITS[self.version] >> 3, "big")

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
                f"{text!r}: IPv{address.version} has no prefix longer than /{bits}",
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
    def short(self) -> str:
        """`A` for /32 and /128, else `A/P`: as a person would say it."""
        return str(self.address) if self.length == BITS[self.version] else str(self)


class NetworkIndex:
    """A set of networks that can be asked which of them include something.

    A look-up costs one step for each prefix length that occurs, however many networks there are.
    """

    def __init__(self, networks: Iterable[Network] = ()) -> None:
        self._numbers: dict[int, dict[int, set[int]]] = {version: {} for version in VERSIONS}
        for network in networks:
            self.add(network)

    def add(self, network: Network) -> None:
        by_length = self._numbers[network.version]
        numbers = by_length.get(network.length)
        if numbers is None:
            # The widest first, always: the order in which they are looked through.
            numbers = by_length[network.length] = set()
            self._numbers[network.version] = dict(sorted(by_length.items()))
        numbers.add(network.number)

    def add_all(self, version: int, length: int, numbers: Iterable[int]) -> None:
        """Add networks of one length, by their numbers."""
        by_length = self._numbers[version]
        by_length[length] = by_length.get(length, set()).union(numbers)
        self._numbers[version] = dict(sorted(by_length.items()))

    def has_wider(self, version: int, length: int) -> bool:
        """Whether there is a network of less than this length."""
        return any(each < length for each in self._numbers[version])

    def remove(self, network: Network) -> None:
        """Raises KeyError when it is not there."""
        numbers = self._numbers[network.version][network.length]
        numbers.remove(network.number)
        if not numbers:
            del self._numbers[network.version][network.length]

    def including(self, what: Address | Network | InterfaceAddress) -> Iterator[Network]:
        """The networks that include all of `what`, the widest first; see `Network.includes`."""
        bits = BITS[what.version]
        longest = what.length if isinstance(what, Network) else bits
        for length, numbers in self._numbers[what.version].items():
            if length > longest:
                return
            number = what.number >> (bits - length) << (bits - length)
            if number in numbers:
                yield Network(what.version, number, length)

    def widest(self, what: Address | Network | InterfaceAddress) -> Network | None:
        """The widest network that includes all of `what`; None when none does."""
        return next(self.including(what), None)


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


#: First and last numbers of those networks, in order, by IP version: no two overlap.
_NOT_ROUTABLE_RANGES = {
    version: sorted((each.number, each.last.number) for each, _ in _NOT_ROUTABLE if each.version == version)
    for version in VERSIONS
}


def reason_not_routable(network: Network) -> str | None:
    """Why a network can not be routed to a container; None when it can."""
    if network.is_default:
        return "everything (the default route)"
    if not overlaps_not_routable(network.version, [network.number], network.length):
        return None
    for reserved, name in _NOT_ROUTABLE:
        if network.overlaps(reserved):
            return f"{name} ({reserved})"
    return None


def overlaps_not_routable(version: int, numbers: Sequence[int], length: int) -> bool:
    """Whether there is a reason, of whatever kind, among networks of one length, their numbers in order."""
    behind = 1 << (BITS[version] - length)
    for first, last in _NOT_ROUTABLE_RANGES[version]:
        # The first network that ends at or behind the beginning of the range begins at or before its end.
        at = bisect_left(numbers, first - behind + 1)
        if at < len(numbers) and numbers[at] <= last:
            return True
    return False
