"""What may be blocked, for how long, and what yields to it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osctld.core.address.addresses import Network
from osctld.core.authority.blocks import LONGEST, Block, routes_of, seconds_of
from osctld.core.authority.null_routes import NullRoute, yielding
from osctld.core.errors import UsageError
from osctld.core.plan.kernel_state import HOST, KernelState, Route, RouteKind


def route(network: str) -> Route:
    return Route(HOST, Network.parse(network), "osweb-eth0", None, 111, 8 if ":" in network else 0)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("90", 90), ("30m", 1800), ("2h", 7200), ("1d", 86400), ("1d12h", 129600), ("1w", 604800)],
)
def test_a_duration_is_read_as_people_write_it(text: str, seconds: int) -> None:
    assert seconds_of(text) == seconds


@given(st.lists(st.tuples(st.integers(1, 50), st.sampled_from("smhdw")), min_size=1, max_size=4))
def test_the_parts_of_a_duration_add_up(parts: list[tuple[int, str]]) -> None:
    text = "".join(f"{number}{unit}" for number, unit in parts)

    assert seconds_of(text) == sum(seconds_of(f"{number}{unit}") for number, unit in parts)


@pytest.mark.parametrize("text", ["", "0", "0s", "-1", "1x", "h", "1h30", "1.5h", "1 h", f"{LONGEST + 1}", "\u0663s"])
def test_what_is_no_duration_is_a_usage_error_that_quotes_it(text: str) -> None:
    with pytest.raises(UsageError, match="--for"):
        seconds_of(text)


def test_all_inside_of_a_block_yields_and_nothing_beside_it() -> None:
    inside = [route("1.2.3.4"), route("1.2.3.8/29"), route("2001:db8::1")]
    beside = [route("1.2.4.4"), route("1.2.0.0/16"), route("2001:db8:1::1")]
    blocks = [Block(Network.parse("1.2.3.0/24")), Block(Network.parse("2001:db8::/64"))]

    left, yielded = yielding(KernelState([*inside, *beside]), [], blocks)

    assert set(left.objects) == set(beside)
    assert [each.route for each in yielded] == inside
    assert str(yielded[0]) == "1.2.3.4/32 is blocked: osctl net block 1.2.3.0/24"
    assert yielded[0].command == "osctl net unblock 1.2.3.0/24"


def test_what_yields_to_both_is_told_as_blocked() -> None:
    null = NullRoute(Network.parse("1.2.3.4"), "blackhole", 0, 3)

    _, (found,) = yielding(KernelState([route("1.2.3.4")]), [null], [Block(Network.parse("1.2.3.4"))])

    assert found.command == "osctl net unblock 1.2.3.4"


def test_the_null_route_of_a_block_has_the_key_of_the_route_whose_place_it_takes() -> None:
    blocks = [Block(Network.parse("1.2.3.4")), Block(Network.parse("2001:db8::1"))]

    found = list(routes_of(blocks, protocol=112, ipv6_metric=8))

    assert [each.key for each in found] == [route("1.2.3.4").key, route("2001:db8::1").key]
    assert {(each.kind, each.protocol, each.link) for each in found} == {(RouteKind.BLACKHOLE, 112, "")}
