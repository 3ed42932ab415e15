"""Pools of addresses: what is given out next, and how much is left."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from osctld.core.address.addresses import Address, Network
from osctld.core.authority.claims import Claim, ClaimKind, Claims, Holder
from osctld.core.authority.host_networks import HostNetwork, HostSpace, Use, edges_of
from osctld.core.config.address_pools import AddressPool, find_pool, next_address, use_of
from osctld.core.errors import Refused, Unavailable
from pure.generated import grouped, networks

WEB = Holder("web01", "eth0")


def pool(*texts: str, quiet_seconds: int = 3600) -> AddressPool:
    return AddressPool("web", tuple(map(Network.parse, texts)), quiet_seconds)


def held(*texts: str) -> Claims:
    return Claims(grouped([Claim(Network.parse(each), ClaimKind.ROUTE, WEB) for each in texts]))


def given_next(of: AddressPool, *used: str, version: int | None = None, space: HostSpace = HostSpace()) -> str:  # noqa: B008
    return str(next_address(of, holdings=held(*used), space=space, version=version))


@pytest.mark.parametrize(
    ("networks", "used", "expected"),
    [
        (("198.51.100.0/24",), (), "198.51.100.1"),
        (("198.51.100.0/24",), ("198.51.100.1", "198.51.100.3"), "198.51.100.2"),
        (("198.51.100.0/24",), ("198.51.100.0/29",), "198.51.100.8"),
        (("198.51.100.0/31",), (), "198.51.100.0"),
        (("198.51.100.7/32",), (), "198.51.100.7"),
        (("198.51.100.0/30", "203.0.113.0/24"), ("198.51.100.1", "198.51.100.2"), "203.0.113.1"),
        (("2001:db8::/64",), (), "2001:db8::1"),
        (("2001:db8::/126",), ("2001:db8::1", "2001:db8::2"), "2001:db8::3"),
        (("2001:db8::/127",), (), "2001:db8::"),
    ],
)
def test_the_first_address_that_nobody_holds_is_given(
    networks: tuple[str, ...], used: tuple[str, ...], expected: str
) -> None:
    assert given_next(pool(*networks), *used) == expected


def test_one_ip_version_may_be_asked_for() -> None:
    both = pool("198.51.100.0/24", "2001:db8::/64")

    assert given_next(both, version=6) == "2001:db8::1"
    assert given_next(both, version=4) == "198.51.100.1"
    with pytest.raises(Unavailable, match=r"no free IPv6 address in addresses\.web = 198\.51"):
        given_next(pool("198.51.100.0/24"), version=6)


def test_what_the_host_uses_of_a_pool_is_not_given() -> None:
    connected = HostNetwork(Network.parse("192.0.2.0/24"), "up0")
    space = HostSpace(
        (
            connected,
            *edges_of(connected),
            HostNetwork(Network.parse("192.0.2.1"), "up0", Use.ADDRESS),
            HostNetwork(Network.parse("192.0.2.2"), "up0", Use.NEXT_HOP, "default"),
            HostNetwork(Network.parse("192.0.2.4/30"), "up0", Use.STATIC, "static"),
            HostNetwork(Network.parse("192.0.0.0/8"), "up0", Use.STATIC, "static"),
            HostNetwork(Network.parse("192.0.2.3"), "up0", Use.LEARNED, "bgp"),
        )
    )

    assert given_next(pool("192.0.2.0/24"), space=space) == "192.0.2.3"
    assert given_next(pool("192.0.2.0/24"), "192.0.2.3", space=space) == "192.0.2.8"
    assert given_next(pool("192.0.2.128/25"), space=space) == "192.0.2.129"


def test_an_exhausted_pool_is_named_with_what_rests() -> None:
    small = pool("198.51.100.0/30")
    resting = [Network.parse("198.51.100.2").packed, Network.parse("9.9.9.9").packed, Network.parse("::9").packed]

    assert next_address(small, holdings=held(), space=HostSpace(), resting=resting) == Address.parse("198.51.100.1")
    with pytest.raises(Unavailable) as refused:
        next_address(small, holdings=held("198.51.100.1"), space=HostSpace(), resting=resting)
    assert refused.value.message == (
        "'web': no free address in addresses.web = 198.51.100.0/30; 1 released recently, available again within 3600 s"
    )
    with pytest.raises(Unavailable, match=r"^'web': no free address in addresses\.web = nothing$"):
        given_next(pool())


def test_a_pool_that_is_not_there_is_refused_by_the_names_of_those_that_are() -> None:
    assert find_pool([pool("10.0.0.0/24")], "web").networks == (Network.parse("10.0.0.0/24"),)
    with pytest.raises(Refused, match=r"^'mail': address pool not found; there are: web$"):
        find_pool([pool()], "mail")
    with pytest.raises(Refused, match=r"^'mail': address pool not found; the settings define none$"):
        find_pool([], "mail")


def test_what_is_used_of_a_pool_is_counted_once() -> None:
    space = HostSpace(
        (
            HostNetwork(Network.parse("198.51.100.1"), "up0", Use.ADDRESS),
            HostNetwork(Network.parse("198.51.100.2"), "up0", Use.NEXT_HOP, "default"),
        )
    )
    resting = [Network.parse(each).packed for each in ("198.51.100.2", "198.51.100.9", "198.51.100.20")]

    use = use_of(
        pool("198.51.100.0/27", "10.9.9.9"),
        holdings=held("198.51.100.1", "198.51.100.8/30"),
        space=space,
        resting=resting,
    )

    assert (use.size, use.held, use.host, use.resting, use.free) == (31, 5, 1, 1, 24)
    assert use_of(pool("10.0.0.0/8"), holdings=held("0.0.0.0/1"), space=HostSpace()).free == 0


@given(
    networks(4),
    st.lists(networks(4), max_size=6, unique=True),
    st.lists(networks(4), max_size=4, unique=True),
)
def test_what_is_given_is_free_and_nothing_before_it_is(
    of: Network, used: list[Network], of_host: list[Network]
) -> None:
    claims = Claims(grouped([Claim(each, ClaimKind.ROUTE, WEB) for each in used]))
    space = HostSpace(HostNetwork(each, "up0", Use.STATIC) for each in of_host)
    inside = [each for each in of_host if of.includes(each) and each != of]
    usable = range(of.number, of.last.number + 1) if of.length >= 31 else range(of.number + 1, of.last.number)
    free = [number for number in usable if not any(each.includes(Address(4, number)) for each in (*used, *inside))]

    count = use_of(AddressPool("p", (of,), 0), holdings=claims, space=space)

    assert count.free == len(free)
    assert count.size == len(usable)
    if free:
        assert next_address(AddressPool("p", (of,), 0), holdings=claims, space=space).number == free[0]
    else:
        with pytest.raises(Unavailable):
            next_address(AddressPool("p", (of,), 0), holdings=claims, space=space)


def test_an_address_of_a_pool_is_one_alone() -> None:
    assert pool("10.0.0.0/24").includes(Network.parse("10.0.0.9").packed)
    assert not pool("10.0.0.0/24").includes(Network.parse("10.0.0.8/31").packed)
    assert not pool("10.0.0.0/24").includes(Network.parse("10.0.1.9").packed)
    assert not pool("10.0.0.0/24").includes(Network.parse("::9").packed)
