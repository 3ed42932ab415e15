"""Networks that are kept packed are the networks that they stand for: in tables, kernel states, plans and messages."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from osctld.core.address.addresses import Address, Network, network_texts, read_networks
from osctld.core.address.network_table import NetworkTable, by_length, packed_addresses
from osctld.core.errors import Refused
from osctld.core.plan.changes import Add, Change, Changes, Remove, Restore, RouteChanges
from osctld.core.plan.kernel_state import HOST, KernelState, Neighbour, Route, Routes, Way
from osctld.core.plan.planner import plan_changes
from osctld.shell.kernel.rtnetlink import Encoder
from pure.generated import any_networks, networks, versions

ways = st.builds(
    Way,
    st.just(4),
    st.just(HOST),
    st.sampled_from(["os1", "os2"]),
    st.sampled_from([None, Address.parse("10.0.0.2")]),
    st.just(111),
    st.sampled_from([0, 5]),
)
routes = st.builds(Way.route, ways, networks(4))
changes = st.builds(
    lambda kind, each: kind(each),
    st.sampled_from([Add, Remove, Restore]),
    routes | st.builds(Neighbour, st.just(HOST), st.just("os1"), st.just(Address.parse("10.0.0.2")), st.just("02::")),
)


@given(st.lists(any_networks, max_size=12))
def test_many_networks_are_read_and_written_as_each_alone(many: list[Network]) -> None:
    packed = [each.packed for each in many]

    assert [Network.from_packed(each) for each in packed] == many
    assert network_texts(packed) == [str(each) for each in many]
    assert read_networks([str(each) for each in many]) == packed
    assert sorted(packed, key=lambda each: (len(each), each)) == [each.packed for each in sorted(many)]


@given(versions.flatmap(lambda version: st.lists(networks(version), min_size=1, max_size=6)), st.integers(0, 5))
def test_what_is_no_network_among_many_is_quoted(many: list[Network], at: int) -> None:
    texts = [str(each) for each in many]
    texts.insert(at, "10.0.0.300/32")

    with pytest.raises(Refused, match=r"'10\.0\.0\.300/32' is not an IP network"):
        read_networks(texts)


@given(st.lists(any_networks, max_size=12))
def test_networks_are_parted_by_version_and_length(many: list[Network]) -> None:
    parts = by_length(each.packed for each in many)

    for (version, length), part in parts.items():
        expected = [each for each in many if (each.version, each.length) == (version, length)]
        assert [Network.from_packed(each) for each in part] == expected
        assert packed_addresses(part) == b"".join(each.address.packed for each in expected)
    assert sum(map(len, parts.values())) == len(many)


@given(st.lists(networks(4), max_size=8), st.lists(networks(4), max_size=8))
def test_new_networks_are_all_taken_into_a_table_or_none(there: list[Network], coming: list[Network]) -> None:
    table: NetworkTable[str] = NetworkTable()
    for each in there:
        table.put(each.packed, "there")
    alike = [each.packed for each in coming if each.length == coming[0].length]

    was_taken = table.put_new(alike, "new")

    assert was_taken == (len(set(alike)) == len(alike) and not {each.packed for each in there} & set(alike))
    assert list(table) == list(dict.fromkeys([each.packed for each in there] + (alike if was_taken else [])))
    for length, count in table.lengths(4).items():
        assert count == sum(each[-1] == length for each in table)


@given(st.lists(routes, max_size=10))
def test_a_state_is_the_same_however_its_routes_are_told(some: list[Route]) -> None:
    one_by_one = KernelState(some)
    together = KernelState(Routes(each.way, [each.network.packed]) for each in some)

    assert together == one_by_one
    assert list(together.items()) == list(one_by_one.items())
    assert KernelState(together.parts) == one_by_one
    assert len(together) == len(list(together)) == len({each.key for each in some})


@given(st.lists(changes, max_size=12))
def test_changes_of_routes_that_are_alike_are_kept_together(some: list[Change]) -> None:
    together = Changes.of(some)

    assert list(together) == some
    assert [together[at] for at in range(len(some))] == some
    assert [together[at - len(some)] for at in range(len(some))] == some
    assert together[1:3] == tuple(some[1:3])
    assert together == tuple(some)
    for part, following in zip(together.parts, together.parts[1:], strict=False):
        if isinstance(part, RouteChanges) and isinstance(following, RouteChanges):
            assert (part.kind, part.routes.way) != (following.kind, following.routes.way)


@given(st.lists(routes, max_size=12, unique_by=lambda each: each.key), st.data())
def test_a_message_for_one_of_many_routes_is_that_for_it_alone(some: list[Route], data: st.DataObject) -> None:
    have = KernelState(data.draw(st.lists(st.sampled_from(some), unique=True)) if some else [])
    encode = Encoder({"os1": 7, "os2": 0x01020304}.__getitem__, lambda master: int(master.name)).encode
    first = data.draw(st.integers(1, 1 << 31))
    plan = plan_changes(KernelState(some), have)

    number, together = first, b""
    for part in Changes.of(plan.changes).parts:
        together += encode(part, number)
        number += len(part) if isinstance(part, RouteChanges) else 1

    assert together == b"".join(encode(each, number) for number, each in enumerate(plan.changes, start=first))
