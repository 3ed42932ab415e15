"""Static routes for routers: which there are, and how each kind of router is told them.

Each dialect has a folder of expected texts in tests/golden/static: `usual`, `linked` and `ipv4-via-ipv6` by their next
hops, and `changed`: what leads from the usual routes to others. `OSCTL_WRITE_GOLDEN=1 ./dev test
tests/pure/test_static_routes.py` writes them.
"""

from __future__ import annotations

import importlib
import ipaddress
import itertools
import os
import pkgutil
import re
from collections.abc import Mapping
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given

import osctld.announce.static
from osctld.announce.static.dialect import Commands, Dialect, File, dialects
from osctld.announce.static_routes import Difference, StaticRoutes, Wanted, difference, networks_of, static_routes
from osctld.cli.catalogue import catalogue
from osctld.commands.router_static import RouterStatic
from osctld.core.address.addresses import Address, Network
from osctld.core.address.next_hop import NextHop
from osctld.core.command import PrintStaticRoutes
from osctld.core.config.host import Host
from osctld.core.config.settings import Settings
from osctld.core.errors import OsctlError, Refused, UsageError
from osctld.protocol.schemas import answer_of_command
from pure.generated import HOST_UUID, any_networks, networks

GOLDEN = Path(__file__).parent.parent / "golden/static"
DIALECTS = tuple(dialects().values())
NAMES = [each.name for each in DIALECTS]
each_dialect = pytest.mark.parametrize("dialect", DIALECTS, ids=NAMES)

#: How each system calls a link.
LINKS = {"ios": "GigabitEthernet0/0/1", "junos": "ge-0/0/0.100", "routeros": "ether1"}

NETWORKS = ("1.2.3.4", "10.5.5.0/24", "198.51.100.0/25", "2001:db8:2::4", "2001:db8:2:5::/64")
#: One network less, one in the place of a part of it, and one more.
OTHER_NETWORKS = ("1.2.3.4", "10.5.4.0/23", "198.51.100.0/25", "203.0.113.7", "2001:db8:2:5::/64", "2001:db8:2:6::/64")

CASES = {
    "usual": ("192.0.2.1{usual}", "2001:db8:1::1{usual}"),
    "linked": ("192.0.2.1{link}", "fe80::1{link}"),
    "ipv4-via-ipv6": ("fe80::1{link}", "fe80::1{link}"),
}


def link_of(dialect: Dialect) -> str:
    return f"%{LINKS.get(dialect.name, 'eth0')}"


def next_hops(dialect: Dialect, *texts: str) -> Mapping[int, NextHop]:
    """Of IPv4 and IPv6 routes; in `texts`, {link} is a link of such a router, and {usual} one if it is required."""
    link = link_of(dialect)
    filled = [each.format(link=link, usual=link if dialect.requires_link else "") for each in texts]
    return dialect.prepared(dict(zip((4, 6), map(NextHop.parse, filled), strict=True)))


def routes_to(hops: Mapping[int, NextHop], *texts: str) -> tuple[StaticRoutes, ...]:
    packed = sorted({Network.parse(each).packed for each in texts})
    by_version = {4: [each for each in packed if len(each) == 5], 6: [each for each in packed if len(each) == 17]}
    return tuple(StaticRoutes(version, hops[version], found) for version, found in by_version.items() if found)


def check_expected(dialect: Dialect, case: str, printed: list[str]) -> None:
    file = GOLDEN / dialect.name / f"{case}.txt"
    if os.environ.get("OSCTL_WRITE_GOLDEN"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(as_text(printed))
    assert as_text(printed) == file.read_text()


def as_text(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


# --- dialects -----------------------------------------------------------------------------------------------------


def test_every_file_is_a_dialect_with_expected_texts() -> None:
    modules = {each.name for each in pkgutil.iter_modules(osctld.announce.static.__path__)}

    assert set(NAMES) == modules - {"dialect"}
    assert len(NAMES) >= 10
    assert {each.name for each in GOLDEN.iterdir()} == set(NAMES)
    for each in DIALECTS:
        assert importlib.import_module(f"osctld.announce.static.{each.name}").DIALECT is each
        assert isinstance(each, Commands | File)


@each_dialect
@pytest.mark.parametrize("case", CASES)
def test_a_router_is_told_routes_in_its_own_words(dialect: Dialect, case: str) -> None:
    if case == "ipv4-via-ipv6" and not dialect.takes_ipv4_via_ipv6:
        assert not (GOLDEN / dialect.name / f"{case}.txt").exists()
        with pytest.raises(Refused, match=f": {dialect.name} has no IPv4 routes with an IPv6 next hop"):
            next_hops(dialect, *CASES[case])
        return

    printed = dialect.lines(routes_to(next_hops(dialect, *CASES[case]), *NETWORKS))

    check_expected(dialect, case, printed)


@each_dialect
def test_a_router_is_told_what_has_changed(dialect: Dialect) -> None:
    hops = next_hops(dialect, *CASES["usual"])
    others = {**hops, 6: next_hops(dialect, "192.0.2.1{usual}", "2001:db8:1::9{usual}")[6]}
    before, after = routes_to(hops, *NETWORKS), routes_to(others, *OTHER_NETWORKS)

    printed = dialect.changes(difference(before, after), after)

    check_expected(dialect, "changed", printed)
    assert dialect.changes(difference(after, after), after) == []


@each_dialect
def test_without_routes_commands_are_none_and_a_file_says_what_it_is(dialect: Dialect) -> None:
    printed = dialect.lines(())

    assert [line for line in printed if not line.startswith("#") and "route" in line] == []
    assert bool(printed) == isinstance(dialect, File)
    assert dialect.read(as_text(printed), file="routes") == ()


@given(st.data())
@pytest.mark.parametrize("dialect", DIALECTS, ids=NAMES)
def test_what_was_printed_is_read_as_the_same_routes(dialect: Dialect, data: st.DataObject) -> None:
    cases = [each for each in CASES if each != "ipv4-via-ipv6" or dialect.takes_ipv4_via_ipv6]
    hops = next_hops(dialect, *CASES[data.draw(st.sampled_from(cases))])
    networks = data.draw(st.lists(any_networks.filter(lambda each: not each.is_default), max_size=12))
    routes = routes_to(hops, *map(str, networks))
    text = as_text(dialect.lines(routes))

    assert dialect.read(text, file="routes") == routes
    assert dialect.read(text.replace("\n", " \r\n"), file="routes") == routes


@each_dialect
def test_a_line_that_was_not_printed_is_refused_and_quoted(dialect: Dialect) -> None:
    lines = dialect.lines(routes_to(next_hops(dialect, *CASES["linked"]), *NETWORKS))
    numbers = [number for number, line in enumerate(lines) if line]

    for number in numbers:
        for line in (f"{lines[number]} ?", "reboot"):
            with pytest.raises(Refused) as refused:
                dialect.read(as_text([*lines[:number], line, *lines[number + 1 :]]), file="routes")

            shown = line if len(line) <= 100 else f"{line[:100]}..."
            assert refused.value.message == (
                f"'routes': line {number + 1} was not printed by osctl router static --format {dialect.name}: {shown!r}"
            )
        assert refused.value.subject == "routes"


@each_dialect
def test_a_route_that_stands_twice_or_with_host_bits_was_not_printed(dialect: Dialect) -> None:
    hops = next_hops(dialect, *CASES["linked"])
    text = as_text(dialect.lines(routes_to(hops, "10.5.5.0/24", "2001:db8:2::/64")))

    for changed in (text.replace("10.5.5.0", "10.5.5.1"), text.replace("2001:db8:2::", "2001:db8:02::"), text + text):
        with pytest.raises(Refused, match="was not printed by osctl router static"):
            dialect.read(changed, file="routes")


@each_dialect
def test_a_next_hop_that_a_dialect_cannot_have_was_not_printed(dialect: Dialect) -> None:
    hop = NextHop.parse(f"192.0.2.1{link_of(dialect)}")
    text = as_text(dialect.lines([StaticRoutes(6, hop, [Network.parse("2001:db8:2::/64").packed])]))

    with pytest.raises(Refused, match="was not printed by osctl router static"):
        dialect.read(text, file="routes")


@pytest.mark.parametrize("dialect", [each for each in DIALECTS if isinstance(each, File)], ids=lambda each: each.name)
def test_an_empty_or_incomplete_file_is_refused(dialect: Dialect) -> None:
    lines = dialect.lines(routes_to(next_hops(dialect, *CASES["linked"]), *NETWORKS))

    with pytest.raises(Refused, match=r"^'routes': empty$"):
        dialect.read("\n", file="routes")
    if lines[-1].endswith("}"):
        with pytest.raises(Refused, match=r"^'routes': incomplete, osctl router static --format \w+ printed more$"):
            dialect.read(as_text(lines[:-1]), file="routes")


def test_a_long_line_is_cut_in_the_refusal() -> None:
    with pytest.raises(Refused) as refused:
        dialects()["ip"].read("x" * 10_000, file="routes")

    assert refused.value.message.endswith(f": '{'x' * 100}...'")


def test_bird_has_protocols_of_its_own_for_each_next_hop() -> None:
    """A router includes the files of many hosts."""
    bird = dialects()["bird"]
    texts = [
        as_text(bird.lines(routes_to(next_hops(bird, *each), *NETWORKS)))
        for each in (("192.0.2.1", "2001:db8:1::1"), ("192.0.2.11", "2001:db8:1::11"), ("192.0.2.1%a", "fe80::1%a"))
    ]

    names = [name for text in texts for name in re.findall(r"protocol static (\w+) \{", text)]
    assert len(set(names)) == len(names) == 6


def test_netplan_is_told_of_which_kind_a_link_is() -> None:
    netplan = dialects()["netplan"]
    kinds = {
        "eth0": "ethernets", "enp3s0f1": "ethernets", "bond0": "bonds", "br0": "bridges", "br-lan": "bridges",
        "vlan100": "vlans", "eth0.100": "vlans", "wg0": "tunnels",
    }  # fmt: skip

    for link, kind in kinds.items():
        hops = netplan.prepared({4: NextHop.parse(f"192.0.2.1%{link}")})
        assert netplan.lines(routes_to(hops, "1.2.3.4"))[3:5] == [f"  {kind}:", f"    {link}:"]


def test_netplan_has_a_section_for_each_link() -> None:
    netplan = dialects()["netplan"]
    hops = next_hops(netplan, "192.0.2.1%eth0", "fe80::1%bond0")
    routes = routes_to(hops, "1.2.3.4", "2001:db8::/48")

    printed = netplan.lines(routes)

    assert [line.strip() for line in printed if line.endswith(":")] == [
        *("network:", "ethernets:", "eth0:", "routes:", "bonds:", "bond0:", "routes:"),
    ]
    assert netplan.read(as_text(printed), file="routes") == routes


def test_networkd_has_one_file_for_one_link() -> None:
    networkd = dialects()["networkd"]

    assert next_hops(networkd, "192.0.2.1", "fe80::1%eth0")[4] == NextHop.parse("192.0.2.1%eth0")
    with pytest.raises(Refused, match=r"^fe80::1%eth1: networkd has one file for each link, and 192.0.2.1%eth0 is on"):
        next_hops(networkd, "192.0.2.1%eth0", "fe80::1%eth1")


@each_dialect
def test_a_link_is_required_where_routes_are_written_below_it(dialect: Dialect) -> None:
    hops = {4: NextHop.parse("192.0.2.1")}
    if not dialect.requires_link:
        assert dialect.prepared(hops) == hops
        return

    with pytest.raises(Refused, match=rf"^192\.0\.2\.1: {dialect.name} requires the router's link to it"):
        dialect.prepared(hops)


@each_dialect
def test_a_link_that_the_system_cannot_have_is_refused(dialect: Dialect) -> None:
    hops = {4: NextHop.parse("192.0.2.1%GigabitEthernet0/1")}
    if dialect.name in LINKS:
        assert dialect.prepared(hops) == hops
        return

    with pytest.raises(Refused, match=r"^192\.0\.2\.1%GigabitEthernet0/1: 'GigabitEthernet0/1' cannot be a link"):
        dialect.prepared(hops)


# --- what has changed ---------------------------------------------------------------------------------------------

some_networks = st.lists(any_networks.filter(lambda each: each.length > 0), max_size=10)
some_hops = st.sampled_from(
    [
        {4: NextHop.parse("192.0.2.1"), 6: NextHop.parse("fe80::1%eth0")},
        {4: NextHop.parse("192.0.2.9"), 6: NextHop.parse("fe80::1%eth0")},
        {4: NextHop.parse("fe80::1%eth0"), 6: NextHop.parse("fe80::1%eth0")},
    ]
)


@given(some_networks, some_hops, some_networks, some_hops)
def test_the_difference_leads_from_the_one_to_the_other(
    old: list[Network], old_hops: Mapping[int, NextHop], new: list[Network], new_hops: Mapping[int, NextHop]
) -> None:
    before, after = routes_to(old_hops, *map(str, old)), routes_to(new_hops, *map(str, new))

    found = difference(before, after)

    had, has = set(networks_of(before)), set(networks_of(after))
    removed, added = set(networks_of(found.removed)), set(networks_of(found.added))
    assert removed == had - has
    assert added == has - had
    assert bool(found) == (had != has)
    # With `replace`, what has another next hop must not be removed afterwards.
    assert {each for each, _ in networks_of(found.only_removed())} == {
        each for each, _ in removed if each not in {network for network, _ in added}
    }


def test_commands_leave_no_gap() -> None:
    """What is removed first would be unreachable until the rest is there, unless a router takes all at once."""
    hops = {4: NextHop.parse("192.0.2.1")}
    before, after = routes_to(hops, "10.5.5.0/24", "10.5.4.0/24"), routes_to(hops, "10.5.4.0/23")
    found = difference(before, after)
    assert found == Difference(before, after)

    for each in DIALECTS:
        if isinstance(each, Commands):
            printed = each.changes(found, after)
            is_added_first = printed[0] == each.lines(after)[0]
            assert is_added_first == (each.name not in ("junos", "vyos")), each.name


# --- which routes -------------------------------------------------------------------------------------------------


class _Routing:
    """As much of a container as is looked at."""

    def __init__(self, networks: list[Network]) -> None:
        self.networks = networks

    def routed_networks(self) -> list[bytes]:
        return [each.packed for each in self.networks]


def routes_of(*containers: list[Network], next_hops: Mapping[int, NextHop]) -> Wanted:
    return static_routes(map(_Routing, containers), next_hops)  # type: ignore[arg-type]


@given(st.lists(st.lists(st.one_of(networks(4), networks(6)), max_size=10), max_size=4))
def test_the_routes_lead_to_all_that_is_routed_and_to_nothing_else(some: list[list[Network]]) -> None:
    found = routes_of(*some, next_hops={4: NextHop.parse("192.0.2.1")})

    def collapsed(version: int) -> set[str]:
        there = [ipaddress.ip_network(str(each)) for each in itertools.chain(*some) if each.version == version]
        return {str(each) for each in ipaddress.collapse_addresses(there)}  # type: ignore[type-var]

    assert {str(network) for network, _ in networks_of(found.routes)} == collapsed(4)
    left_out = len(collapsed(6))
    assert found.left_out == ({6: left_out} if left_out else {})
    assert len(found.notes) == bool(left_out)


def test_neighbours_of_different_containers_share_a_route() -> None:
    one, other = [Network.parse("1.2.3.4")], [Network.parse("1.2.3.5")]

    (routes,) = routes_of(one, other, next_hops={4: NextHop.parse("192.0.2.1")}).routes

    assert routes.networks == [Network.parse("1.2.3.4/31").packed]


# --- the command --------------------------------------------------------------------------------------------------


def act(**fields: object) -> PrintStaticRoutes:
    command = RouterStatic(**{"next_hop": ("192.0.2.1",), **fields})  # type: ignore[arg-type]
    action = command.act(Host(uuid=HOST_UUID, settings=Settings()))
    assert isinstance(action, PrintStaticRoutes)
    return action


def test_each_ip_version_has_a_next_hop() -> None:
    both = act(next_hop=("fe80::1%eth0", "192.0.2.1"))

    assert both.next_hops == {4: NextHop.parse("192.0.2.1"), 6: NextHop.parse("fe80::1%eth0")}
    assert act(next_hop=("fe80::1%eth0",)).next_hops == {6: NextHop.parse("fe80::1%eth0")}
    assert act(next_hop=("fe80::1%eth0",), ipv4_via_ipv6=True).next_hops == {
        version: NextHop.parse("fe80::1%eth0") for version in (4, 6)
    }


@pytest.mark.parametrize(
    ("fields", "message", "kind"),
    [
        ({"next_hop": ("router",)}, "'router' is not an IP address", Refused),
        ({"next_hop": ("192.0.2.1/24",)}, "'192.0.2.1/24' is not an IP address", Refused),
        ({"next_hop": ("%eth0",)}, "'%eth0' is not an IP address", Refused),
        ({"next_hop": ("127.0.0.1",)}, "127.0.0.1: a loopback address cannot be a next hop", Refused),
        ({"next_hop": ("ff02::1%eth0",)}, "ff02::1%eth0: a multicast address cannot be a next hop", Refused),
        ({"next_hop": ("::",)}, "::: the unspecified address cannot be a next hop", Refused),
        (
            {"next_hop": ("fe80::1",)},
            "fe80::1: a link-local next hop requires the router's link to it, as in fe80::1%eth0",
            Refused,
        ),
        ({"next_hop": ("fe80::1%",)}, "'fe80::1%': '' is not the name of a link", Refused),
        ({"next_hop": ("fe80::1%a;reboot",)}, "'fe80::1%a;reboot': 'a;reboot' is not the name of a link", Refused),
        ({"next_hop": ("fe80::1%a\nb",)}, r"'fe80::1%a\nb': 'a\nb' is not the name of a link", Refused),
        (
            {"next_hop": ("192.0.2.1", "192.0.2.9")},
            "192.0.2.9: a second IPv4 next hop, beside 192.0.2.1",
            Refused,
        ),
        ({"next_hop": ()}, "missing option --next-hop ADDR[%LINK]", UsageError),
        ({"ipv4_via_ipv6": True}, "--ipv4-via-ipv6 requires an IPv6 --next-hop", UsageError),
        (
            {"next_hop": ("fe80::1%eth0", "192.0.2.1"), "ipv4_via_ipv6": True},
            "--ipv4-via-ipv6 cannot be combined with the IPv4 --next-hop 192.0.2.1",
            UsageError,
        ),
        (
            {"next_hop": ("fe80::1%eth0",), "ipv4_via_ipv6": True, "format": "frr"},
            "fe80::1%eth0: frr has no IPv4 routes with an IPv6 next hop",
            Refused,
        ),
    ],
)
def test_a_next_hop_that_makes_no_sense_is_refused(
    fields: dict[str, object], message: str, kind: type[OsctlError]
) -> None:
    with pytest.raises(kind) as refused:
        act(**fields)

    assert refused.value.message == message


@given(st.lists(any_networks.filter(lambda each: each.length > 0), min_size=1, max_size=5), st.data())
def test_a_next_hop_inside_what_it_leads_to_is_refused(some: list[Network], data: st.DataObject) -> None:
    inside = data.draw(st.sampled_from(some))
    number = data.draw(st.integers(inside.number, inside.last.number))
    hop = NextHop(Address(inside.version, number))

    with pytest.raises(Refused) as refused:
        routes_of(some, next_hops={inside.version: hop})

    assert refused.value.message.startswith(f"{hop}: lies in ")
    assert Network.parse(refused.value.holder).includes(hop.address)


def test_the_help_says_which_formats_are_files() -> None:
    text = " ".join((RouterStatic.__doc__ or "").split())

    files = [each.name for each in DIALECTS if isinstance(each, File)]
    assert f"The formats {', '.join(files[:-1])} and {files[-1]} are files" in text
    assert catalogue().children["router"] is not None


def test_the_guide_has_a_row_for_each_dialect() -> None:
    text = (Path(__file__).parents[2] / "docs/static-routes.md").read_text()

    rows = re.findall(r"^\| (\w+) \| ([^|]+) \| [^|]+ \| (the file|commands) \|$", text, re.MULTILINE)
    assert rows == [(each.name, each.title, "the file" if isinstance(each, File) else "commands") for each in DIALECTS]


def test_a_program_gets_a_list_of_rows() -> None:
    schema = answer_of_command(RouterStatic)

    assert schema["type"] == "array"
    assert set(schema["items"]["properties"]) == {"version", "network", "next_hop", "link", "change"}
