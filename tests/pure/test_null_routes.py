"""What yields to a null route of somebody else's."""

from __future__ import annotations

import pytest

from osctld.core.address.addresses import Address, Network
from osctld.core.authority.null_routes import NullRoute, yielding
from osctld.core.plan.kernel_state import HOST, KernelState, Route, Routes, Sysctl, guest

GATEWAY = {4: Address.parse("10.100.10.102"), 6: Address.parse("fd00:1::2")}
SETTING = Sysctl(HOST, "ipv4/conf/osweb-eth0/forwarding", "1", link="osweb-eth0")


def route(network: str, namespace: str = HOST) -> Route:
    parsed = Network.parse(network)
    metric = 0 if parsed.version == 4 else 8
    return Route(namespace, parsed, "osweb-eth0", GATEWAY[parsed.version], 111, metric)  # type: ignore[arg-type]


def null(network: str, metric: int = 0) -> NullRoute:
    return NullRoute(Network.parse(network), "blackhole", metric, 4)


@pytest.mark.parametrize(
    ("nulls", "gone"),
    [
        (["1.2.3.10/32"], ["1.2.3.10/32"]),
        (["2001:db8:2::/64"], ["2001:db8:2::/64", "2001:db8:2::4/128"]),  # with what lies inside
        (["10.5.5.0/24"], ["10.5.5.0/24"]),
        (["10.5.5.7/32"], []),  # narrower than ours: the kernel lets it win anyhow
        (["10.0.0.0/8"], []),  # wider: an aggregate that somebody announces
        (["203.0.113.1/32"], []),
        (["1.2.3.10/32", "10.5.5.0/24"], ["1.2.3.10/32", "10.5.5.0/24"]),
        ([], []),
    ],
)
def test_the_route_to_exactly_the_network_yields_and_with_it_all_inside(nulls: list[str], gone: list[str]) -> None:
    wanted = ["1.2.3.4/32", "1.2.3.10/32", "10.5.5.0/24", "2001:db8:2::/64", "2001:db8:2::4/128"]
    state = KernelState([SETTING, *map(route, wanted), route("1.2.3.10/32", guest("web"))])

    left, yielded = yielding(state, [null(each, metric=1024) for each in nulls])

    rest = [each for each in wanted if each not in gone]
    assert left == KernelState([SETTING, *map(route, rest), route("1.2.3.10/32", guest("web"))])
    assert [str(each.route.network) for each in yielded] == gone
    assert left is state or gone


def test_very_many_routes_stay_packed() -> None:
    many = [Network(4, (10 << 24) + number, 32).packed for number in range(5000)]
    state = KernelState([Routes(route("10.0.0.0/32").way, many)])

    left, yielded = yielding(state, [null("10.0.0.7/32")])

    assert (len(left), len(yielded)) == (4999, 1)
    assert sum(isinstance(each, Routes) for each in left.parts) <= 2


def test_of_very_many_routes_those_inside_a_null_route_yield_and_no_other() -> None:
    many = [Network(4, (10 << 24) + number, 32).packed for number in range(5000)]
    wide = Network.parse("10.0.16.0/24")
    state = KernelState([Routes(route("10.0.0.0/32").way, [wide.packed, *many])])

    left, yielded = yielding(state, [null(str(wide))])

    gone = {each.route.network for each in yielded}
    assert gone == {wide, *(Network.from_packed(each) for each in many if wide.includes(Network.from_packed(each)))}
    assert (len(gone), len(left)) == (257, 4744)


def test_it_is_told_with_the_command_that_frees_the_network() -> None:
    _, (one,) = yielding(KernelState([route("2001:db8:2::4/128")]), [null("2001:db8:2::4/128", 7)])

    assert str(one) == "2001:db8:2::4/128 is null-routed on the host: blackhole 2001:db8:2::4/128 metric 7"
    assert one.command == "ip -6 route del blackhole 2001:db8:2::4/128 metric 7"
