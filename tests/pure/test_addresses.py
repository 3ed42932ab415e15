"""Addresses and networks, with the standard library's `ipaddress` as the witness."""

from __future__ import annotations

import ipaddress
from ipaddress import IPv4Network, IPv6Network

import hypothesis.strategies as st
import pytest
from hypothesis import given

from osctld.core.address.addresses import (
    BITS,
    Address,
    InterfaceAddress,
    Network,
    reason_not_routable,
    reason_not_unicast,
)
from osctld.core.errors import Refused
from pure.generated import any_addresses, any_interface_addresses, any_networks, network_in, networks, versions


def stdlib(network: Network) -> IPv4Network | IPv6Network:
    return ipaddress.ip_network((network.address.packed, network.length))


NOT_ROUTABLE = [
    ipaddress.ip_network(text)
    for text in (
        *("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/4", "255.255.255.255", "169.254.0.0/16"),
        *("::", "::1", "::ffff:0:0/96", "fe80::/10", "ff00::/8"),
    )
]


#: Pairs that often nest: any two, and one drawn from inside the other.
pairs = st.one_of(
    st.tuples(any_networks, any_networks),
    versions.flatmap(lambda version: st.tuples(networks(version), networks(version))),
    any_networks.flatmap(
        lambda outer: st.tuples(
            st.just(outer), network_in(outer, st.integers(max(0, outer.length - 2), BITS[outer.version]))
        )
    ),
)


@given(any_addresses)
def test_an_address_reads_back_as_what_it_prints(address: Address) -> None:
    assert Address.parse(str(address)) == address
    assert Address.from_packed(address.packed) == address
    assert str(address) == str(ipaddress.ip_address(address.packed))


@given(any_networks)
def test_a_network_reads_back_as_what_it_prints(network: Network) -> None:
    assert Network.parse(str(network)) == network
    assert str(network) == str(stdlib(network))


@given(any_interface_addresses)
def test_an_address_with_prefix_length_reads_back_as_what_it_prints(address: InterfaceAddress) -> None:
    assert InterfaceAddress.parse(str(address)) == address
    assert InterfaceAddress.parse(address.short) == address
    assert str(address) == str(ipaddress.ip_interface(str(address)))


@given(any_interface_addresses)
def test_the_network_of_an_address_is_what_ipaddress_says(address: InterfaceAddress) -> None:
    witness = ipaddress.ip_interface(str(address)).network

    assert str(address.network) == str(witness)
    assert str(address.network.last) == str(witness.broadcast_address)
    assert address.network.size == witness.num_addresses
    assert Network.parse(str(address)) == address.network


@given(any_addresses)
def test_an_address_alone_is_a_network_of_one(address: Address) -> None:
    assert Network.parse(str(address)) == address.as_network()
    assert InterfaceAddress.parse(str(address)).length == BITS[address.version]
    assert address.as_network().size == 1


@given(pairs)
def test_includes_and_overlaps_agree_with_ipaddress(pair: tuple[Network, Network]) -> None:
    one, other = pair
    left, right = stdlib(one), stdlib(other)
    includes = isinstance(left, type(right)) and right.subnet_of(left)  # type: ignore[arg-type]
    overlaps = isinstance(left, type(right)) and left.overlaps(right)

    assert one.includes(other) == includes
    assert one.overlaps(other) == overlaps == other.overlaps(one)


@given(pairs)
def test_includes_counts_an_address_as_one_address(pair: tuple[Network, Network]) -> None:
    one, other = pair

    assert one.includes(other.address) == (ipaddress.ip_address(other.address.packed) in stdlib(one))
    assert one.includes(other.address.with_length(other.length)) == one.includes(other.address)


@given(st.lists(any_networks))
def test_networks_sort_by_version_first_address_and_width(many: list[Network]) -> None:
    witness = sorted(many, key=lambda each: (each.version, int(stdlib(each).network_address), each.length))

    assert sorted(many) == witness


def is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "bogus", "1.2.3", "1.2.3.4.5", "1.2.3.256", "01.2.3.4", "1.2.3.4/", "1.2.3.4/33", "1.2.3.4/-1",
        " 1.2.3.4", "1.2.3.4/+24", "1.2.3.4/ 24", "1.2.3.4/2_4", "1.2.3.4/0000", "1.2.3.4/255.255.255.0",
        "1.2.3.4/24/24", "1.2.3.4\n", "16909060", "0x1020304", "/24", "::1/129", ":::", "fe80::1%eth0",
        "fe80::1%eth0/64", "1::2::3", "g::1", "::1/", "\u0661.2.3.4", "1.2.3.4/\u0662\u0664", "\udcff", "1.2.3.4\x00",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused_and_quoted(text: str) -> None:
    for parse in (InterfaceAddress.parse, Network.parse):
        with pytest.raises(Refused) as refused:
            parse(text)

        assert repr(text) in refused.value.message
        assert refused.value.subject == text
    if "/" not in text:
        with pytest.raises(Refused, match="is not an IP address"):
            Address.parse(text)


@given(st.one_of(st.text(max_size=20), st.text("0123456789abcdef.:/%", max_size=24)))
def test_any_text_is_either_read_or_refused(text: str) -> None:
    if is_network(text) and "%" not in text:
        assert str(Network.parse(text)) == str(ipaddress.ip_network(text, strict=False))
        return

    with pytest.raises(Refused) as refused:
        Network.parse(text)

    assert repr(text) in refused.value.message


def test_an_address_alone_takes_no_prefix_length() -> None:
    with pytest.raises(Refused, match=r"'1\.2\.3\.4/24' is not an IP address"):
        Address.parse("1.2.3.4/24")


@given(any_addresses)
def test_an_address_that_can_be_assigned_is_unicast_by_the_book(address: Address) -> None:
    witness = ipaddress.ip_address(address.packed)
    never = witness.is_unspecified or witness.is_loopback or witness.is_multicast

    assert not (never and reason_not_unicast(address) is None)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0.0.0.0", "unspecified"),
        ("::", "unspecified"),
        ("127.0.0.1", "loopback"),
        ("127.255.255.255", "loopback"),
        ("::1", "loopback"),
        ("224.0.0.1", "multicast"),
        ("239.255.255.255", "multicast"),
        ("ff02::1", "multicast"),
        ("255.255.255.255", "broadcast"),
        ("::ffff:1.2.3.4", "IPv4-mapped"),
    ],
)
def test_an_address_that_is_not_unicast_can_be_neither_assigned_nor_routed(text: str, reason: str) -> None:
    address = Address.parse(text)

    assert reason in (reason_not_unicast(address) or "")
    assert reason_not_routable(address.as_network()) is not None


@pytest.mark.parametrize(
    "text", ["169.254.1.0/24", "169.254.0.0/16", "168.0.0.0/7", "fe80::/64", "fe80::1", "febf::/16"]
)
def test_a_link_local_network_cannot_be_routed(text: str) -> None:
    assert "link-local" in (reason_not_routable(Network.parse(text)) or "")


@pytest.mark.parametrize("text", ["0.0.0.0/0", "::/0"])
def test_the_default_route_cannot_be_routed(text: str) -> None:
    assert "default route" in (reason_not_routable(Network.parse(text)) or "")


@pytest.mark.parametrize(
    "text", ["1.2.3.4", "10.0.0.0/8", "192.168.0.0/16", "100.64.0.0/10", "2001:db8::/32", "fd00::/8", "fec0::/10"]
)
def test_ordinary_networks_can_be_routed(text: str) -> None:
    network = Network.parse(text)

    assert reason_not_routable(network) is None
    assert reason_not_unicast(network.address) is None


@given(any_networks)
def test_a_network_is_routable_only_if_all_of_its_addresses_are_unicast(network: Network) -> None:
    ends_are_unicast = reason_not_unicast(network.address) is None and reason_not_unicast(network.last) is None

    assert not (reason_not_routable(network) is None and not ends_are_unicast)


near_reserved = (
    st.sampled_from(NOT_ROUTABLE)
    .flatmap(
        lambda reserved: st.tuples(st.sampled_from([reserved[0], reserved[-1]]), st.integers(-1, 1)).map(
            lambda pair: (reserved.version, int(pair[0]) + pair[1])
        )
    )
    .filter(lambda pair: 0 <= pair[1] < 1 << BITS[pair[0]])
)


@given(
    st.one_of(
        any_networks,
        st.tuples(near_reserved, st.integers(1, 128))
        .filter(lambda drawn: drawn[1] <= BITS[drawn[0][0]])
        .map(lambda drawn: Address(*drawn[0]).with_length(drawn[1]).network),
    )
)
def test_a_network_can_be_routed_if_it_overlaps_none_that_never_can(network: Network) -> None:
    one = stdlib(network)
    overlaps = any(one.version == each.version and one.overlaps(each) for each in NOT_ROUTABLE)

    assert (reason_not_routable(network) is not None) == (overlaps or network.length == 0)


@given(st.one_of(any_addresses, near_reserved.map(lambda pair: Address(*pair))))
def test_an_address_is_unicast_by_the_book_or_not(address: Address) -> None:
    witness = ipaddress.ip_address(address.packed)
    never = witness.is_unspecified or witness.is_loopback or witness.is_multicast
    if isinstance(witness, ipaddress.IPv4Address):
        never |= int(witness) >> 24 == 0 or int(witness) == 0xFFFFFFFF
    else:
        never |= witness.ipv4_mapped is not None

    assert (reason_not_unicast(address) is not None) == never
