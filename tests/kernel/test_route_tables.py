"""Routes of other tables, and routes that lead nowhere: kept apart as the kernel keeps them apart."""

from __future__ import annotations

from typing import Any

import pytest

from kernel.container_objects import HOST_LINK, make_links, plan_of
from kernel.network_namespaces import Host
from osctld.core.address.addresses import InterfaceAddress, Network
from osctld.core.plan.changes import Add, Change, Remove, Replace
from osctld.core.plan.kernel_state import (
    HOST,
    IPV6_DEFAULT_METRIC,
    MAIN_TABLE,
    AssignedAddress,
    KernelState,
    Route,
    RouteKind,
    Routes,
)
from osctld.core.plan.planner import Plan, plan_changes
from osctld.shell.kernel.port import Kernel

pytestmark = pytest.mark.requires_kernel("veth")

NETWORKS = ("203.0.113.0/28", "2001:db8:7::/64")
ADDRESSES = (
    AssignedAddress(HOST, HOST_LINK, InterfaceAddress.parse("10.0.0.1/24")),
    AssignedAddress(HOST, HOST_LINK, InterfaceAddress.parse("fd00::1/64")),
)


def route(network: str, *, kind: RouteKind = RouteKind.UNICAST, table: int = MAIN_TABLE, metric: int = 0) -> Route:
    parsed = Network.parse(network)
    metric = metric or (0 if parsed.version == 4 else IPV6_DEFAULT_METRIC)
    link = HOST_LINK if kind is RouteKind.UNICAST else ""
    return Route(HOST, parsed, link, None, 111, metric, table=table, kind=kind)


def there(host: Host, network: str) -> list[tuple[str, str, int]]:
    """Kind, table and metric of each route to a network, as iproute2 tells them."""
    version = 6 if ":" in network else 4
    found: list[dict[str, Any]] = host.ip(f"-{version} -N -details route show table all {network}")
    return sorted((each["type"], str(each["table"]), each.get("metric", 0)) for each in found)


def perform(host: Host, kernel: Kernel, *changes: Change) -> None:
    outcomes = kernel.apply(plan_of(*changes), host.namespaces)
    assert [each.error for each in outcomes] == [None] * len(changes)


def told(one: Route) -> tuple[str, str, int]:
    return str(int(one.kind)), str(one.table), one.metric


CASES = [
    route(network, kind=kind, table=table)
    for network in NETWORKS
    for kind in RouteKind
    for table in (MAIN_TABLE, 111, 100_111)
    if (kind, table) != (RouteKind.UNICAST, MAIN_TABLE)
]


@pytest.mark.parametrize("other", CASES, ids=lambda each: f"{each.network} {each.kind.name} {each.table}")
def test_a_route_comes_and_goes_beside_one_that_has_another_table_or_metric(
    host: Host, kernel: Kernel, other: Route
) -> None:
    make_links(kernel, host.namespaces, *ADDRESSES)
    network = str(other.network)
    main = route(network, metric=77)
    perform(host, kernel, Add(main))

    perform(host, kernel, Add(other))
    assert there(host, network) == sorted([told(main), told(other)])

    perform(host, kernel, Remove(other))
    assert there(host, network) == [told(main)]


@pytest.mark.parametrize("other", CASES, ids=lambda each: f"{each.network} {each.kind.name} {each.table}")
def test_the_printed_line_does_the_same(host: Host, kernel: Kernel, other: Route) -> None:
    make_links(kernel, host.namespaces, *ADDRESSES)
    add, remove = (Plan(KernelState(), KernelState(), (change,)) for change in (Add(other), Remove(other)))
    network = str(other.network)
    perform(host, kernel, Add(other))
    by_us = host.ip(f"-{other.network.version} -details route show table all {network}")
    perform(host, kernel, Remove(other))

    ((_, line),) = add.lines()
    host.run(line)
    assert host.ip(f"-{other.network.version} -details route show table all {network}") == by_us

    ((_, line),) = remove.lines()
    host.run(line)
    assert there(host, network) == []


@pytest.mark.parametrize("network", NETWORKS)
def test_a_route_that_leads_nowhere_takes_the_place_of_one_that_leads_somewhere(
    host: Host, kernel: Kernel, network: str
) -> None:
    make_links(kernel, host.namespaces, *ADDRESSES)
    one, other = route(network, metric=5), route(network, metric=5, kind=RouteKind.UNREACHABLE)
    perform(host, kernel, Add(one))

    plan = plan_changes(KernelState([other]), KernelState([one]))
    assert list(plan.changes) == [Replace(one, other)]
    perform(host, kernel, *plan.changes)

    assert told(other) in there(host, network)


def test_routes_of_one_network_in_several_tables_are_several(host: Host, kernel: Kernel) -> None:
    make_links(kernel, host.namespaces, *ADDRESSES)
    networks = [Network.parse(f"203.0.113.{number}/32").packed for number in range(40)]
    tables = (MAIN_TABLE, 111, 100_111)
    wanted = KernelState(Routes(route("203.0.113.0/32", table=table).way, networks) for table in tables)

    assert len(wanted) == len(set(wanted)) == 120
    plan = plan_changes(wanted, KernelState())
    perform(host, kernel, *plan.changes)
    for table in tables:
        assert len(host.ip(f"route show table {table} proto 111")) == 40
    perform(host, kernel, *plan.undo().changes)
    for table in tables:
        assert not host.ip(f"route show table {table} proto 111")
