"""Many networks as the fewest that say the same, held against the standard library."""

from __future__ import annotations

import ipaddress

import hypothesis.strategies as st
from hypothesis import given

from osctld.core.address.addresses import Network
from osctld.core.address.aggregation import fewest
from pure.generated import networks

both = st.lists(st.one_of(networks(4), networks(6)), max_size=40)


@given(both)
def test_the_fewest_networks_hold_the_same_addresses(given_networks: list[Network]) -> None:
    found = {str(Network.from_packed(each)) for each in fewest(each.packed for each in given_networks)}

    expected = set()
    for version in (4, 6):
        texts = [ipaddress.ip_network(str(each)) for each in given_networks if each.version == version]
        expected |= {str(each) for each in ipaddress.collapse_addresses(texts)}  # type: ignore[type-var]
    assert found == expected


def test_a_hundred_thousand_addresses_side_by_side_are_few_networks() -> None:
    first = int(ipaddress.ip_address("10.0.0.0"))
    addresses = [(first + number).to_bytes(4, "big") + b"\x20" for number in range(100_000)]

    assert len(fewest(addresses)) == (100_000).bit_count()
    assert len(fewest(addresses[::2])) == 50_000


def test_nothing_is_nothing() -> None:
    assert fewest([]) == frozenset()
