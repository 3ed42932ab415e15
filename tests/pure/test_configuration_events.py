"""What a change of the configuration is called by those who listen."""

from __future__ import annotations

from typing import Any

from osctld.config import item_events
from osctld.core.config.configuration_events import events_between

ETH0 = {"type": "routed", "uuid": "u0", "name": "eth0", "link": "osweb-eth0", "addresses": ["1.2.3.4/32"]}


def container(*interfaces: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": "web", "interfaces": list(interfaces), **more}


def told(before: Any, after: Any, *, is_running: bool = False) -> list[tuple[str, str, str]]:
    found = events_between(before, after, items=item_events(), pool="default", is_running=is_running)
    return [(kind, opts.get("action", ""), opts.get("addr", opts.get("name", ""))) for kind, opts in found]


def test_nothing_is_told_of_a_change_that_changes_nothing() -> None:
    assert told(container(ETH0), container(ETH0)) == []
    assert told(None, None) == []


def test_a_container_comes_before_its_interfaces_and_goes_after_them() -> None:
    whole = container(ETH0)

    assert told(None, whole) == [
        ("db", "add", ""), ("ct_netif", "add", "eth0"), ("ct_netif_address", "add", "1.2.3.4/32"),
    ]  # fmt: skip
    assert told(whole, None) == [("ct_netif", "remove", "eth0"), ("db", "remove", "")]


def test_an_interface_of_a_running_container_goes_up_when_it_comes_and_down_before_it_goes() -> None:
    assert told(container(), container(ETH0), is_running=True)[:2] == [
        ("ct_netif", "add", "eth0"), ("ct_netif", "up", "eth0"),
    ]  # fmt: skip
    assert told(container(ETH0), container(), is_running=True) == [
        ("ct_netif", "down", "eth0"), ("ct_netif", "remove", "eth0"),
    ]  # fmt: skip


def test_each_address_and_route_that_comes_or_goes_is_told_by_itself() -> None:
    after = {**ETH0, "addresses": ["1.2.3.5/32"], "routes": [{"network": "10.5.5.0/24"}]}

    assert told(container(ETH0), container(after)) == [
        ("ct_netif_address", "remove", "1.2.3.4/32"),
        ("ct_netif_address", "add", "1.2.3.5/32"),
        ("ct_netif_route", "add", "10.5.5.0/24"),
    ]


def test_each_source_that_comes_or_goes_is_told_by_itself() -> None:
    permitted = {**ETH0, "sources": ["198.51.100.0/24"]}

    assert told(container(ETH0), container(permitted)) == [("ct_netif_source", "add", "198.51.100.0/24")]
    assert told(container(permitted), container(ETH0)) == [("ct_netif_source", "remove", "198.51.100.0/24")]


def test_a_new_order_a_new_name_and_other_fields_are_told() -> None:
    two = {**ETH0, "addresses": ["1.2.3.4/32", "1.2.3.5/32"]}
    turned = {**ETH0, "addresses": ["1.2.3.5/32", "1.2.3.4/32"]}
    renamed = {**ETH0, "name": "wan0", "mtu": 1400}

    assert told(container(two), container(turned)) == [("ct_netif", "set", "eth0")]
    assert told(container(ETH0), container(renamed)) == [("ct_netif", "rename", "eth0"), ("ct_netif", "set", "wan0")]
    assert told(container(), container(wanted=True)) == [("ct_wanted", "", "")]
    assert told(container(nesting=True), container()) == [("ct_nesting", "", "")]
    assert told(container(), container(guest_files="report")) == [("ct_guest_files", "", "")]
    assert told(container(guest_files="write"), container()) == []
