"""What other programs see of our objects: `ip -details -json` and pyroute2 decode them on their own."""

from __future__ import annotations

from typing import Any

import msgspec
import pyroute2
import pytest

from kernel.container_objects import GROUP, GUEST, GUEST_LINK, GUEST_MAC, HOST_LINK, HOST_MAC, make_links, plan_of
from kernel.network_namespaces import Host
from osctld.core.address.addresses import Address, InterfaceAddress, Network
from osctld.core.plan.changes import Replace
from osctld.core.plan.kernel_state import HOST, AssignedAddress, Neighbour, Route
from osctld.shell.kernel.port import Kernel

pytestmark = pytest.mark.requires_kernel("veth")

VIA4 = AssignedAddress(HOST, HOST_LINK, InterfaceAddress.parse("10.0.0.1/30"), Address.parse("10.0.0.3"))
VIA6 = AssignedAddress(HOST, HOST_LINK, InterfaceAddress.parse("2001:db8::1/126"))
INNER4 = AssignedAddress(GUEST, GUEST_LINK, InterfaceAddress.parse("10.0.0.2/30"))
INNER6 = AssignedAddress(GUEST, GUEST_LINK, InterfaceAddress.parse("2001:db8::2/126"))


def address_of(host: Host, text: str) -> dict[str, Any]:
    """The one entry of an address on the host's link, as ip shows it."""
    (link,) = host.ip(f"addr show dev {HOST_LINK} to {text}")
    # ip shows each other address of the link as an empty object.
    (found,) = filter(None, link["addr_info"])
    assert isinstance(found, dict)
    return found


def test_the_pair_is_a_veth_of_our_group_without_generated_addresses(host: Host, kernel: Kernel) -> None:
    make_links(kernel, host.namespaces)

    (outer,) = host.ip(f"link show dev {HOST_LINK}")
    (inner,) = host.ip(f"link show dev {GUEST_LINK}", GUEST)

    assert outer["linkinfo"]["info_kind"] == inner["linkinfo"]["info_kind"] == "veth"
    assert (outer["address"], outer["mtu"], outer["group"]) == (HOST_MAC, 1500, str(GROUP))
    assert (inner["address"], inner["mtu"], inner["group"]) == (GUEST_MAC, 1500, "default")
    assert outer["inet6_addr_gen_mode"] == "none"
    assert "UP" in outer["flags"]
    assert "UP" in inner["flags"]


def test_an_ipv6_address_skips_duplicate_address_detection(host: Host, kernel: Kernel) -> None:
    link_local = AssignedAddress(HOST, HOST_LINK, InterfaceAddress.parse("fe80::1/64"))
    make_links(kernel, host.namespaces, VIA6, link_local)

    for text, scope in (("2001:db8::1", "global"), ("fe80::1", "link")):
        seen = address_of(host, text)
        assert seen["nodad"] is True
        assert "tentative" not in seen
        assert seen["scope"] == scope


def test_broadcast_and_scope_of_an_ipv4_address(host: Host, kernel: Kernel) -> None:
    without = AssignedAddress(HOST, HOST_LINK, InterfaceAddress.parse("10.0.1.0/31"))
    make_links(kernel, host.namespaces, VIA4, without)

    assert address_of(host, "10.0.0.1")["broadcast"] == "10.0.0.3"
    assert address_of(host, "10.0.0.1")["scope"] == "global"
    assert "broadcast" not in address_of(host, "10.0.1.0")


@pytest.mark.parametrize("text", ["10.0.0.1/30", "2001:db8::1/126"])
def test_an_address_that_is_no_source_is_so_and_becomes_one(host: Host, kernel: Kernel, text: str) -> None:
    hidden = AssignedAddress(HOST, HOST_LINK, InterfaceAddress.parse(text), is_source=False)
    chosen = msgspec.structs.replace(hidden, is_source=True)
    make_links(kernel, host.namespaces, hidden)

    def is_chosen() -> bool:
        seen = address_of(host, text)
        assert ":" not in text or (seen["nodad"], seen["valid_life_time"]) == (True, 2**32 - 1)
        return seen["scope"] == "global" if ":" not in text else not seen.get("deprecated", False)

    assert not is_chosen()
    for change, expected in ((Replace(hidden, chosen), True), (Replace(chosen, hidden), False)):
        (outcome,) = kernel.apply(plan_of(change), host.namespaces)
        assert outcome.succeeded, outcome
        assert is_chosen() == expected


@pytest.mark.parametrize("text", ["10.9.0.1/24", "2001:db8:9::1/64"])
@pytest.mark.parametrize("has_prefix_route", [True, False])
def test_the_connected_network_has_a_route_unless_told_otherwise(
    host: Host, kernel: Kernel, text: str, has_prefix_route: bool
) -> None:
    address = InterfaceAddress.parse(text)
    make_links(kernel, host.namespaces, AssignedAddress(HOST, HOST_LINK, address, None, has_prefix_route))

    connected = host.ip(f"-{address.version} route show {address.network} dev {HOST_LINK}")

    assert bool(connected) == has_prefix_route
    assert address_of(host, str(address.address)).get("noprefixroute", False) == (not has_prefix_route)


def test_routes_show_protocol_scope_metric_source_and_gateway(host: Host, kernel: Kernel) -> None:
    routes = [
        Route(HOST, Network.parse("1.2.3.4/32"), HOST_LINK, Address.parse("10.0.0.2"), 111, 0),
        Route(HOST, Network.parse("1.2.5.0/24"), HOST_LINK, None, 112, 7),
        Route(HOST, Network.parse("2001:db8:5::/48"), HOST_LINK, Address.parse("2001:db8::2"), 111, 8),
        Route(HOST, Network.parse("2001:db8:6::/48"), HOST_LINK, None, 112, 8),
        Route(GUEST, Network.parse("0.0.0.0/0"), GUEST_LINK, Address.parse("10.0.0.1"), 4, 100, INNER4.address.address),
        Route(GUEST, Network.parse("::/0"), GUEST_LINK, Address.parse("2001:db8::1"), 4, 1124, INNER6.address.address),
    ]
    make_links(kernel, host.namespaces, VIA4, VIA6, INNER4, INNER6, *routes)

    def seen(words: str, place: Any = HOST) -> dict[str, Any]:
        (found,) = host.ip(words, place)
        return found

    plain = seen("-4 route show 1.2.3.4/32")
    assert (plain["gateway"], plain["protocol"], plain["scope"]) == ("10.0.0.2", "111", "global")
    assert "metric" not in plain
    on_link = seen("-4 route show 1.2.5.0/24")
    assert (on_link["scope"], on_link["metric"], on_link["protocol"]) == ("link", 7, "112")
    assert "gateway" not in on_link
    assert seen("-6 route show 2001:db8:5::/48")["metric"] == 8
    assert "gateway" not in seen("-6 route show 2001:db8:6::/48")
    default = seen("-4 route show default", GUEST)
    assert (default["protocol"], default["prefsrc"], default["metric"]) == ("static", "10.0.0.2", 100)
    default = seen("-6 route show default", GUEST)
    assert (default["protocol"], default["prefsrc"], default["metric"]) == ("static", "2001:db8::2", 1124)


def test_neighbours_are_permanent(host: Host, kernel: Kernel) -> None:
    entries = [Neighbour(HOST, HOST_LINK, Address.parse(text), GUEST_MAC) for text in ("10.0.0.2", "2001:db8::2")]
    make_links(kernel, host.namespaces, VIA4, VIA6, *entries)

    seen = host.ip(f"neigh show dev {HOST_LINK} nud permanent")

    assert {(each["dst"], each["lladdr"], *each["state"]) for each in seen} == {
        ("10.0.0.2", GUEST_MAC, "PERMANENT"),
        ("2001:db8::2", GUEST_MAC, "PERMANENT"),
    }


def test_another_decoder_reads_the_same_route(host: Host, kernel: Kernel) -> None:
    route = Route(HOST, Network.parse("1.2.3.0/24"), HOST_LINK, Address.parse("10.0.0.2"), 111, 5, VIA4.address.address)
    make_links(kernel, host.namespaces, VIA4, route)

    with pyroute2.IPRoute() as decoder:
        (seen,) = (each for each in decoder.get_routes(table=254) if each.get_attr("RTA_DST") == "1.2.3.0")
        assert seen["dst_len"] == 24
        assert seen["proto"] == 111
        assert seen["tos"] == 0
        assert seen["type"] == 1
        assert seen.get_attr("RTA_GATEWAY") == "10.0.0.2"
        assert seen.get_attr("RTA_PRIORITY") == 5
        assert seen.get_attr("RTA_PREFSRC") == "10.0.0.1"
        assert seen.get_attr("RTA_OIF") == decoder.link_lookup(ifname=HOST_LINK)[0]
