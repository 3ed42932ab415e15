"""The interconnecting network: defaults, chosen ends, and everything that is refused."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from osctld.core.address.addresses import BITS, Address, Network, reason_not_routable
from osctld.core.address.via import LONGEST_PREFIX, NARROW_PREFIX, Via, parse_vias
from osctld.core.errors import Refused
from pure.generated import WORLD, address_in, any_networks, network_in, versions, vias

#: Networks that can be vias, of every length that is allowed.
via_networks = versions.flatmap(
    lambda version: network_in(WORLD[version], st.integers(WORLD[version].length, LONGEST_PREFIX[version]))
)


def only(vias: dict[int, Via]) -> Via:
    (via,) = vias.values()
    return via


@pytest.mark.parametrize(
    ("text", "host", "container"),
    [
        ("10.100.10.100/30", "10.100.10.101/30", "10.100.10.102/30"),
        ("10.100.10.103/30", "10.100.10.101/30", "10.100.10.102/30"),
        ("10.0.0.0/24", "10.0.0.1/24", "10.0.0.2/24"),
        ("10.0.0.4/31", "10.0.0.4/31", "10.0.0.5/31"),
        ("10.0.0.5/31", "10.0.0.4/31", "10.0.0.5/31"),
        ("169.254.7.2/31", "169.254.7.2/31", "169.254.7.3/31"),
        ("fd00:1::/126", "fd00:1::1/126", "fd00:1::2/126"),
        ("fd00:1::/64", "fd00:1::1/64", "fd00:1::2/64"),
        ("fd00:1::6/127", "fd00:1::6/127", "fd00:1::7/127"),
    ],
)
def test_the_host_gets_the_first_address_and_the_container_the_second(text: str, host: str, container: str) -> None:
    via = only(parse_vias([text]))

    assert (str(via.host_address), str(via.container_address)) == (host, container)


@given(via_networks)
def test_default_ends_are_two_usable_addresses_of_the_network(network: Network) -> None:
    via = Via.make(network)

    assert via.network.includes(via.host_end)
    assert via.network.includes(via.container_end)
    assert via.host_end < via.container_end
    assert via.reason_not_usable(via.host_end) is None
    assert via.reason_not_usable(via.container_end) is None


@given(via_networks)
def test_wide_networks_are_public_and_small_ones_private_unless_told_otherwise(network: Network) -> None:
    assert Via.make(network).is_wide == (network.length < NARROW_PREFIX[network.version])
    assert Via.make(network).is_public == Via.make(network).is_wide
    assert Via.make(network, is_public=True).is_public
    assert not Via.make(network, is_public=False).is_public


@given(via_networks)
def test_broadcast_is_set_on_ipv4_networks_of_30_bits_and_less(network: Network) -> None:
    has_broadcast = network.version == 4 and network.length <= 30

    assert Via.make(network).broadcast == (network.last if has_broadcast else None)


@st.composite
def networks_with_ends(draw: st.DrawFn) -> tuple[Network, Address, Address]:
    network = draw(via_networks)
    one, other = draw(st.lists(address_in(network), min_size=2, max_size=2, unique=True))
    return network, one, other


@given(networks_with_ends(), st.data())
def test_ends_are_taken_with_any_prefix_length_or_none_and_get_that_of_the_network(
    chosen: tuple[Network, Address, Address], data: st.DataObject
) -> None:
    network, host, container = chosen
    texts = [
        data.draw(st.sampled_from([str(end), *(str(end.with_length(data.draw(st.integers(0, BITS[end.version]))))
                                                for _ in "x")]))
        for end in (host, container)
    ]  # fmt: skip
    can_be = Via.make(network)

    if can_be.reason_not_usable(host) is None and can_be.reason_not_usable(container) is None:
        via = only(parse_vias([str(network)], host_ends=[texts[0]], container_ends=[texts[1]]))

        assert via.host_address == host.with_length(network.length)
        assert via.container_address == container.with_length(network.length)
    else:
        with pytest.raises(Refused) as refused:
            parse_vias([str(network)], host_ends=[texts[0]], container_ends=[texts[1]])

        assert str(host) in refused.value.message or str(container) in refused.value.message


@given(via_networks)
def test_only_network_and_broadcast_addresses_and_the_subnet_router_anycast_are_no_ends(network: Network) -> None:
    via = Via.make(network)
    is_pair = network.length == LONGEST_PREFIX[network.version]

    assert (via.reason_not_usable(network.address) is None) == is_pair
    assert (via.reason_not_usable(network.last) is None) == (is_pair or network.version == 6)


@given(any_networks.map(lambda each: each.address.as_network()).filter(lambda each: not reason_not_routable(each)))
def test_a_network_that_has_no_two_addresses_is_refused_and_quoted(network: Network) -> None:
    with pytest.raises(Refused) as refused:
        Via.make(network)

    assert str(network) in refused.value.message
    assert refused.value.subject == str(network)


@given(versions.flatmap(vias))
def test_ends_without_a_network_change_those_of_the_present_one(via: Via) -> None:
    swapped = parse_vias(
        [], host_ends=[str(via.container_end)], container_ends=[str(via.host_end)], present={via.version: via}
    )

    assert only(swapped) == via.with_ends(host_end=via.container_end, container_end=via.host_end)
    assert only(swapped).is_public == via.is_public
    assert only(swapped).network == via.network


def test_both_versions_are_read_at_once_and_in_any_order() -> None:
    one = parse_vias(
        ["10.0.0.0/30", "fd00::/126"], host_ends=["fd00::2", "10.0.0.2"], container_ends=["10.0.0.1", "fd00::1"]
    )
    other = parse_vias(
        ["fd00::/126", "10.0.0.0/30"], host_ends=["10.0.0.2", "fd00::2"], container_ends=["fd00::1", "10.0.0.1"]
    )

    assert one == other
    assert {version: str(via.host_address) for version, via in one.items()} == {4: "10.0.0.2/30", 6: "fd00::2/126"}


def test_only_the_versions_that_are_named_are_answered() -> None:
    present = parse_vias(["10.0.0.0/30", "fd00::/126"])

    assert set(parse_vias(["10.9.0.0/30"], present=present)) == {4}
    assert set(parse_vias([], host_ends=["fd00::2"], container_ends=["fd00::1"], present=present)) == {6}


def test_the_page_s_second_example() -> None:
    via = only(parse_vias(["10.0.0.0/24"], host_ends=["10.0.0.254"], container_ends=["10.0.0.1"]))

    assert str(via.host_address) == "10.0.0.254/24"
    assert str(via.container_address) == "10.0.0.1/24"
    assert str(via.broadcast) == "10.0.0.255"


REFUSED = [
    # networks, host ends, container ends, what the message quotes, what it says
    (["bogus"], [], [], "'bogus'", "is not an IP network"),
    (["10.0.0.0/40"], [], [], "10.0.0.0/40", "is not an IP network"),
    (["10.0.0.0"], [], [], "10.0.0.0/32", "smaller than /31"),
    (["10.0.0.0/32"], [], [], "10.0.0.0/32", "smaller than /31"),
    (["fd00::/128"], [], [], "fd00::/128", "smaller than /127"),
    (["0.0.0.0/0"], [], [], "0.0.0.0/0", "default route"),
    (["::/0"], [], [], "::/0", "default route"),
    (["127.0.0.0/24"], [], [], "127.0.0.0/24", "loopback"),
    (["224.0.0.0/24"], [], [], "224.0.0.0/24", "multicast"),
    (["fe80::/64"], [], [], "fe80::/64", "link-local"),
    (["ff02::/64"], [], [], "ff02::/64", "multicast"),
    (["::ffff:10.0.0.0/124"], [], [], "::ffff:", "IPv4-mapped"),
    (["10.0.0.0/30", "10.1.0.0/30"], [], [], "10.1.0.0/30", "already been set to route via 10.0.0.0/30"),
    (["10.0.0.0/30", "10.0.0.0/30"], [], [], "10.0.0.0/30", "already been set"),
    (["fd00::/126", "fd01::/126"], [], [], "fd01::/126", "already been set"),
    (["10.0.0.0/24"], ["10.0.0.254"], [], "10.0.0.254", "both host and container address"),
    (["10.0.0.0/24"], [], ["10.0.0.1"], "10.0.0.1", "both host and container address"),
    (["10.0.0.0/24"], ["10.0.0.1"], ["10.0.0.1"], "10.0.0.1", "different addresses"),
    (["10.0.0.0/24"], ["10.0.0.1/24"], ["10.0.0.1"], "10.0.0.1", "different addresses"),
    (["10.0.0.0/24"], ["10.0.1.254"], ["10.0.0.1"], "10.0.1.254", "does not include host address"),
    (["10.0.0.0/24"], ["10.0.0.254"], ["10.1.0.1"], "10.1.0.1", "does not include container address"),
    (["10.0.0.0/24"], ["10.0.0.0"], ["10.0.0.1"], "10.0.0.0", "network address"),
    (["10.0.0.0/24"], ["10.0.0.1"], ["10.0.0.255"], "10.0.0.255", "broadcast address"),
    (["10.0.0.0/30"], ["10.0.0.1"], ["10.0.0.3"], "10.0.0.3", "broadcast address"),
    (["10.0.0.0/30"], ["10.0.0.0"], ["10.0.0.1"], "10.0.0.0", "network address"),
    (["fd00::/64"], ["fd00::"], ["fd00::1"], "fd00::", "anycast"),
    (["fd00::/126"], ["fd00::1"], ["fd00::"], "fd00::", "anycast"),
    (["10.0.0.0/30"], ["fd00::1"], ["fd00::2"], "fd00::1", "no IPv6 interconnecting network"),
    (["fd00::/126"], ["10.0.0.1"], ["10.0.0.2"], "10.0.0.1", "no IPv4 interconnecting network"),
    ([], ["10.0.0.1"], ["10.0.0.2"], "10.0.0.1", "no IPv4 interconnecting network"),
    (["10.0.0.0/24"], ["10.0.0.254", "10.0.0.253"], ["10.0.0.1"], "10.0.0.253", "already been given"),
    (["10.0.0.0/24"], ["10.0.0.254"], ["10.0.0.1", "10.0.0.2"], "10.0.0.2", "already been given"),
    (["10.0.0.0/24"], ["x"], ["10.0.0.1"], "'x'", "is not an IP address"),
    (["10.0.0.0/24"], ["10.0.0.2"], [""], "''", "is not an IP address"),
]


@pytest.mark.parametrize(("networks", "hosts", "containers", "quoted", "says"), REFUSED)
def test_what_makes_no_via_is_refused_with_its_reason(
    networks: list[str], hosts: list[str], containers: list[str], quoted: str, says: str
) -> None:
    with pytest.raises(Refused) as refused:
        parse_vias(networks, host_ends=hosts, container_ends=containers)

    assert quoted in refused.value.message
    assert says in refused.value.message
    assert "\n" not in refused.value.message


def test_one_end_alone_does_not_change_a_present_network() -> None:
    present = parse_vias(["10.0.0.0/24"])

    with pytest.raises(Refused, match=r"10\.0\.0\.9: provide both host and container address for 10\.0\.0\.0/24"):
        parse_vias([], host_ends=["10.0.0.9"], present=present)


@pytest.mark.parametrize(("text", "why"), [("127.0.0.2", "include"), ("10.0.0.999", "not an IP address")])
def test_a_bad_end_of_a_present_network_is_refused(text: str, why: str) -> None:
    with pytest.raises(Refused, match=why):
        parse_vias([], host_ends=[text], container_ends=["10.0.0.1"], present=parse_vias(["10.0.0.0/24"]))
