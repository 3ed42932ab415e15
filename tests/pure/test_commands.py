"""What each command makes of a small configuration: edits, views and actions."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from osctld.commands.ct_del import CtDel
from osctld.commands.ct_exec import CtExec
from osctld.commands.ct_ls import CtLs
from osctld.commands.ct_netif_del import CtNetifDel
from osctld.commands.ct_netif_ip_add import CtNetifIpAdd
from osctld.commands.ct_netif_ip_del import CtNetifIpDel
from osctld.commands.ct_netif_ip_ls import CtNetifIpLs
from osctld.commands.ct_netif_ls import CtNetifLs
from osctld.commands.ct_netif_route_add import CtNetifRouteAdd
from osctld.commands.ct_netif_route_del import CtNetifRouteDel
from osctld.commands.ct_netif_route_ls import CtNetifRouteLs
from osctld.commands.ct_netif_set import CtNetifSet
from osctld.commands.ct_netif_show import CtNetifShow
from osctld.commands.ct_netif_source_add import CtNetifSourceAdd
from osctld.commands.ct_netif_source_del import CtNetifSourceDel
from osctld.commands.ct_netif_source_ls import CtNetifSourceLs
from osctld.commands.ct_new import CtNew
from osctld.commands.ct_restart import CtRestart
from osctld.commands.ct_show import CtShow
from osctld.commands.ct_start import CtStart
from osctld.commands.ct_stop import CtStop
from osctld.commands.ping import Ping
from osctld.commands.self_status import SelfStatus
from osctld.core.address.addresses import Network
from osctld.core.authority.host_networks import HostNetwork
from osctld.core.command import (
    CreateContainer,
    DeleteContainer,
    EditCommand,
    Execute,
    LifeFacts,
    Listing,
    Observed,
    RestartContainer,
    StartContainer,
    StopContainer,
    Text,
    ViewCommand,
)
from osctld.core.config.host import Container, Host
from osctld.core.config.life import StopMethod
from osctld.core.config.settings import Settings
from osctld.core.errors import Conflict, OsctlError, Refused, UsageError
from osctld.netif.routed.interface import RoutedInterface, routed_interface
from osctld.netif.routed.new import CtNetifNewRouted
from pure.generated import HOST_UUID, containers
from pure.surrounded import edited

DAEMON: dict[str, Any] = {
    "version": "1.2.3",
    "shutdown": None,
    "build": "0123456789ab",
    "pid": 1,
    "uptime": 5_000_000_000,
    "last_reconcile": "nothing to repair",
    "drift": [],
    "state_dir": "/var/lib/osctl",
    "run_dir": "/run/osctl",
}
OBSERVED = Observed({"web01": LifeFacts("running", 4711, 4096, 1_000_000)}, DAEMON)


def empty(*names: str) -> Host:
    host = Host(HOST_UUID, Settings())
    for name in names:
        host = host.with_new_container(name, user=None, distribution="busybox", version="stable")
    return host


def after(host: Host, *commands: EditCommand) -> Host:
    for command in commands:
        host = edited(command, host).host
    return host


def new(*via: str, container: str = "web01", netif: str = "eth0", **options: Any) -> CtNetifNewRouted:
    return CtNetifNewRouted(container=container, netif=netif, via=via, **options)


def ip_add(*addresses: str, **options: Any) -> CtNetifIpAdd:
    return CtNetifIpAdd(container="web01", netif="eth0", addresses=addresses, **options)


def ip_del(*addresses: str, **options: Any) -> CtNetifIpDel:
    return CtNetifIpDel(container="web01", netif="eth0", addresses=addresses, **options)


def route_add(*networks: str) -> CtNetifRouteAdd:
    return CtNetifRouteAdd(container="web01", netif="eth0", networks=networks)


def route_del(*networks: str, **options: Any) -> CtNetifRouteDel:
    return CtNetifRouteDel(container="web01", netif="eth0", networks=networks, **options)


def source_add(*networks: str, **options: Any) -> CtNetifSourceAdd:
    return CtNetifSourceAdd(container="web01", netif="eth0", networks=networks, **options)


def source_del(*networks: str, **options: Any) -> CtNetifSourceDel:
    return CtNetifSourceDel(container="web01", netif="eth0", networks=networks, **options)


def eth0(host: Host) -> RoutedInterface:
    return routed_interface(host.container("web01"), "eth0")


def addresses(host: Host) -> list[str]:
    return [str(each) for each in eth0(host).addresses]


def routes(host: Host) -> list[str]:
    return [str(each.network) for each in eth0(host).routes]


def sources(host: Host) -> list[str]:
    return [str(each) for each in eth0(host).sources]


def listing(command: ViewCommand, host: Host) -> Listing:
    reply = command.view(host, OBSERVED)
    assert isinstance(reply, Listing)
    names = {each.name for each in reply.columns}
    assert set(reply.shown) <= names
    assert all(set(row) == names for row in reply.rows)
    return reply


#: The example of the page, and a second container.
PAGE = after(empty("web01", "web02"), new("10.100.10.100/30", "fd00:1::/126"), ip_add("1.2.3.4/32"))


# --- interfaces --------------------------------------------------------------------------------------------------


def test_the_page_s_examples_are_edited_as_written() -> None:
    first = after(empty("web01"), new("10.100.10.100/30"), ip_add("1.2.3.4/32"))
    options: dict[str, Any] = {"host_addr": ("10.0.0.254",), "ct_addr": ("10.0.0.1",)}
    second = after(empty("web01"), new("10.0.0.0/24", **options))
    changed = after(first, CtNetifSet(container="web01", netif="eth0", via=("10.0.0.0/24",), **options))

    assert (addresses(first), routes(first)) == (["1.2.3.4/32"], ["1.2.3.4/32"])
    assert str(eth0(second).vias[4].host_address) == "10.0.0.254/24"
    assert eth0(changed).vias == eth0(second).vias
    assert addresses(changed) == ["1.2.3.4/32"]


def test_an_edit_names_the_container_that_it_changes_and_no_other() -> None:
    made = edited(ip_add("1.2.3.5"), PAGE)

    assert made.container == "web01"
    assert made.host.container("web02") is PAGE.container("web02")
    assert edited(ip_add("1.2.3.5"), PAGE) == made


def test_a_pool_may_stand_before_the_container() -> None:
    command = CtNetifIpAdd(container="default:web01", netif="eth0", addresses=("1.2.3.5",))

    assert edited(command, PAGE).container == "web01"


def test_an_interface_is_deleted_with_all_that_it_held() -> None:
    host = after(PAGE, CtNetifDel(container="web01", netif="eth0"))

    assert host.container("web01").interfaces == ()
    assert host.container("web01").claims() == []


def test_what_new_made_del_takes_away_and_new_makes_again_under_another_identity() -> None:
    again = after(PAGE, CtNetifDel(container="web01", netif="eth0"), new("10.100.10.100/30", "fd00:1::/126"))

    assert eth0(again).uuid != eth0(PAGE).uuid
    assert eth0(again).vias == eth0(PAGE).vias


def test_set_changes_the_ends_of_the_present_network() -> None:
    host = after(
        PAGE,
        CtNetifSet(container="web01", netif="eth0", host_addr=("10.100.10.102",), ct_addr=("10.100.10.101",)),
    )

    assert str(eth0(host).vias[4].host_address) == "10.100.10.102/30"
    assert eth0(host).vias[6] == eth0(PAGE).vias[6]


# --- addresses and routes ----------------------------------------------------------------------------------------


def test_many_addresses_are_assigned_in_their_order() -> None:
    many = [f"1.2.4.{number}/32" for number in range(255, 0, -1)]
    host = after(PAGE, ip_add(*many))

    assert addresses(host) == ["1.2.3.4/32", *many]
    assert routes(host) == addresses(host)


def test_a_wide_automatic_route_is_told_and_the_single_address_suggested() -> None:
    made = edited(ip_add("10.5.5.1/24", "1.2.3.9", "2001:db8::1/120"), PAGE)

    assert made.messages == ("routed 10.5.5.0/24 (256 addresses)", "routed 2001:db8::/120 (256 addresses)")
    assert made.suggestions == {
        Network.parse("10.5.5.0/24"): "assign 10.5.5.1/32 instead",
        Network.parse("2001:db8::/120"): "assign 2001:db8::1/128 instead",
    }


def test_an_address_of_a_routed_network_is_assigned_without_a_word() -> None:
    made = edited(ip_add("10.5.5.1/24"), after(PAGE, route_add("10.5.5.0/24")))

    assert (made.messages, made.suggestions) == ((), {})
    assert routes(made.host) == ["1.2.3.4/32", "10.5.5.0/24"]


def test_one_bad_address_among_many_refuses_all() -> None:
    with pytest.raises(Refused, match="'bogus' is not an IP address"):
        edited(ip_add("1.2.3.5", "bogus", "1.2.3.6"), PAGE)


def test_all_addresses_go_at_once_or_those_of_one_version() -> None:
    host = after(PAGE, ip_add("2001:db8::4", "1.2.3.5", "10.100.10.102"), route_add("10.5.5.0/24"))

    assert addresses(after(host, ip_del("all"))) == []
    assert routes(after(host, ip_del("all"))) == ["10.5.5.0/24"]
    assert addresses(after(host, ip_del("all", version=6))) == ["1.2.3.4/32", "1.2.3.5/32", "10.100.10.102/30"]
    assert addresses(after(host, ip_del("all", version=4))) == ["2001:db8::4/128"]
    assert len(routes(after(host, ip_del("all", keep_route=True)))) == len(routes(host))
    assert after(after(host, ip_del("all")), ip_del("all")) == after(host, ip_del("all"))


def test_all_routes_go_at_once_unless_addresses_need_them() -> None:
    host = after(PAGE, route_add("10.5.5.0/24", "2001:db8::/64"))

    with pytest.raises(Refused, match=r"^all: .* 1\.2\.3\.4 would be assigned but unrouted"):
        edited(route_del("all"), host)
    assert routes(after(host, route_del("all", version=6))) == ["1.2.3.4/32", "10.5.5.0/24"]
    assert routes(after(host, route_del("all", force=True))) == []
    assert routes(after(host, route_del("10.5.5.9/24"))) == ["1.2.3.4/32", "2001:db8::/64"]


def test_sources_are_permitted_in_their_order_without_host_bits_and_go_again() -> None:
    host = after(PAGE, source_add("198.51.100.7/24", "2001:db8:64::1/48", "203.0.113.9"))

    assert sources(host) == ["198.51.100.0/24", "2001:db8:64::/48", "203.0.113.9/32"]
    assert sources(after(host, source_del("198.51.100.99/24"))) == ["2001:db8:64::/48", "203.0.113.9/32"]
    assert sources(after(host, source_del("all", version=4))) == ["2001:db8:64::/48"]
    assert after(host, source_del("all")) == PAGE
    assert after(PAGE, source_del("all")) == PAGE


def test_a_wider_source_is_permitted_beside_those_inside_it_and_leaves_them_when_it_goes() -> None:
    host = after(PAGE, source_add("198.51.100.0/25"), source_add("198.51.100.0/24"))

    assert [str(each.network) for each in eth0(host).permissions()] == ["198.51.100.0/24"]
    assert [str(each.network) for each in eth0(after(host, source_del("198.51.100.0/24"))).permissions()] == [
        "198.51.100.0/25"
    ]


def test_a_source_is_no_holding() -> None:
    """Another container may be given it, and what is routed to the container itself may be permitted beside."""
    host = after(PAGE, source_add("198.51.100.0/24"))

    assert host.container("web01").claims() == PAGE.container("web01").claims()
    assert sources(after(PAGE, source_add("1.2.3.4"), route_add("198.51.100.0/24"))) == ["1.2.3.4/32"]


OTHERS = after(PAGE, new("10.0.0.0/24", container="web02"))
#: The host's own network.
UPLINK = HostNetwork(Network.parse("192.0.2.0/24"), "up0")


@pytest.mark.parametrize(
    ("host", "network", "says", "holder"),
    [
        (OTHERS, "10.0.0.7", "10.0.0.0/24 is the interconnecting network of eth0 of web02", "eth0 of web02"),
        (OTHERS, "10.0.0.0/23", "10.0.0.0/24 is the interconnecting network of eth0 of web02", "eth0 of web02"),
        (PAGE, "192.0.2.128/25", "192.0.2.0/24 is in use on the host, on up0", "192.0.2.0/24 is in use on the host"),
    ],
)
def test_what_somebody_else_uses_is_permitted_with_force_alone(
    host: Host, network: str, says: str, holder: str
) -> None:
    with pytest.raises(Conflict) as refused:
        edited(source_add(network), host, UPLINK)
    assert says in refused.value.message
    assert refused.value.message.startswith(f"{Network.parse(network)}: ")
    assert "--allow-foreign-source" in refused.value.message
    assert holder in refused.value.holder

    forced = source_add(network, force=True)
    assert sources(edited(forced, host, UPLINK).host) == [str(Network.parse(network))]


@pytest.mark.parametrize("everything", ["0.0.0.0/0", "::/0", "9.9.9.9/0"])
def test_everything_is_permitted_with_force_alone(everything: str) -> None:
    with pytest.raises(Refused, match=rf"^{everything}: stands for everything, .* --allow-foreign-source permits it$"):
        edited(source_add(everything), PAGE)

    assert sources(after(PAGE, source_add(everything, force=True))) == [str(Network.parse(everything))]


@pytest.mark.parametrize("version", [4, 6])
def test_a_via_that_sources_need_is_not_removed(version: int) -> None:
    bare = after(empty("web01"), new("10.100.10.100/30", "fd00:1::/126"))
    host = after(bare, source_add("198.51.100.0/24", "2001:db8:64::/48"))

    with pytest.raises(Refused, match=f"expected network for IPv{version}, there are sources present: "):
        edited(CtNetifSet(container="web01", netif="eth0", no_via=(str(version),)), host)

    changed = CtNetifSet(container="web01", netif="eth0", via=("10.0.0.0/24", "fd00:2::/64"))
    assert sources(after(host, changed)) == sources(host)


REFUSED: list[tuple[EditCommand, str, type[OsctlError]]] = [
    (new("10.0.0.0/30"), "interface 'eth0' already exists in web01", Refused),
    (new("10.0.0.0/30", netif="eth.0"), "'eth.0': invalid interface name", Refused),
    (new("10.0.0.0/30", container="nope"), "container not found: 'nope'", Refused),
    (new("10.0.0.0/30", container="tank:web01"), "pool 'tank' not found", Refused),
    (new("2001:DB8::/128", netif="eth1"), "2001:DB8::/128: ", Refused),
    (CtNetifSet(container="web01", netif="eth0"), "eth0: nothing to set", UsageError),
    (CtNetifSet(container="web01", netif="eth9", via=("10.0.0.0/30",)), "'eth9': network interface not found", Refused),
    (CtNetifDel(container="web01", netif="eth9"), "'eth9': network interface not found in web01", Refused),
    (ip_add("1.2.3.4"), "1.2.3.4: this address is already assigned", Refused),
    (ip_add("1.2.3.9", "1.2.3.9"), "1.2.3.9: this address is already assigned", Refused),
    (ip_add("1.2.3.9", route_as="bogus"), "'bogus' is not an IP network", Refused),
    (ip_add("1.2.3.9", route=False, route_as="1.2.3.0/24"), "--route-as 1.2.3.0/24: cannot be used with", UsageError),
    (ip_add("FD00:1:0::1"), "FD00:1:0::1: ", Refused),
    (ip_add("10.100.10.9/24"), "contains the host address 10.100.10.101; assign 10.100.10.9/32 instead", Refused),
    (ip_del("1.2.3.9"), "1.2.3.9: address not found on eth0", Refused),
    (ip_del("1.2.3.4/24"), "1.2.3.4/24: address not found on eth0; it is assigned as 1.2.3.4/32", Refused),
    (ip_del("1.2.3.4", "all"), "1.2.3.4 all: all cannot be combined with other values", UsageError),
    (ip_del("1.2.3.4", version=4), "-v 4: requires all, cannot be used with 1.2.3.4", UsageError),
    (route_add("1.2.3.0/24", "1.2.3.0/25"), "1.2.3.0/25: this address is already routed to eth0", Refused),
    (route_add("0.0.0.0/0"), "0.0.0.0/0: cannot be routed", Refused),
    (route_del("1.2.3.4"), "1.2.3.4: without this route, 1.2.3.4 would be", Refused),
    (route_del("9.9.9.9"), "9.9.9.9: route not found on eth0", Refused),
    (route_del("9.9.9.9", version=6), "-v 6: requires all", UsageError),
    (source_add("9.9.9.0/24", "9.9.9.9/24"), "9.9.9.9/24: already permitted to eth0", Refused),
    (source_add("9.9.0.0/16", "9.9.9.9"), "9.9.9.9: already permitted to eth0, inside 9.9.", Refused),
    (source_add("bogus"), "'bogus' is not an IP network", Refused),
    *(
        (source_add(each, force=True), f"{each}: cannot be a source, it overlaps {why}", Refused)
        for each, why in (
            ("0.0.0.0/1", "this network"),
            ("127.0.0.1", "loopback"),
            ("224.0.0.0/24", "multicast"),
            ("255.255.255.255", "broadcast"),
            ("169.254.7.0/24", "link-local"),
            ("::", "unspecified"),
            ("::1", "loopback"),
            ("::ffff:1.2.3.4", "IPv4-mapped"),
            ("fe80::/64", "link-local"),
            ("ff0e::1", "multicast"),
        )
    ),
    (source_del("9.9.9.9"), "9.9.9.9: source not found on eth0", Refused),
    (source_del("9.9.9.9", version=6), "-v 6: requires all", UsageError),
]


@pytest.mark.parametrize(("command", "says", "kind"), REFUSED)
def test_what_makes_no_sense_is_refused_in_one_line(command: EditCommand, says: str, kind: type[OsctlError]) -> None:
    with pytest.raises(OsctlError) as refused:
        edited(command, PAGE)

    assert says in refused.value.message
    assert type(refused.value) is kind
    assert "\n" not in refused.value.message
    assert refused.value.exit_status == (64 if kind is UsageError else 1)


# --- views -------------------------------------------------------------------------------------------------------


def host_of(container: Container) -> Host:
    return Host(HOST_UUID, Settings(), {container.name: container})


@given(containers())
def test_listings_show_every_address_and_route_once(container: Container) -> None:
    host = host_of(container)
    interfaces = [each for each in container.interfaces if isinstance(each, RoutedInterface)]

    ip = listing(CtNetifIpLs(), host)
    route = listing(CtNetifRouteLs(), host)

    assert len(ip.rows) == sum(len(each.addresses) for each in interfaces)
    assert len(route.rows) == sum(len(each.routes) for each in interfaces)
    for each in interfaces:
        for version in (4, 6):
            in_order = [row["addr"] for row in ip.rows if (row["netif"], row["version"]) == (each.name, version)]
            assert in_order == [str(address) for address in each.addresses if address.version == version]
    assert ("state" in ip.shown) == any(row["state"] == "unrouted" for row in ip.rows)
    assert len(listing(CtNetifLs(), host).rows) == len(interfaces)
    source = listing(CtNetifSourceLs(), host)
    assert sorted((row["netif"], row["addr"]) for row in source.rows) == sorted(
        (each.name, str(one)) for each in interfaces for one in each.sources
    )


def test_a_listing_of_less_shows_fewer_columns() -> None:
    assert listing(CtNetifIpLs(), PAGE).shown == ("pool", "ctid", "netif", "version", "addr")
    assert listing(CtNetifIpLs(container="web01"), PAGE).shown == ("netif", "version", "addr")
    assert listing(CtNetifIpLs(container="web01", netif="eth0"), PAGE).shown == ("version", "addr")
    assert listing(CtNetifIpLs(container="web01", version=6), PAGE).rows == ()
    assert listing(CtNetifSourceLs(), PAGE).shown == ("pool", "ctid", "netif", "version", "addr")
    assert listing(CtNetifSourceLs(container="web01"), PAGE).shown == ("netif", "version", "addr")
    assert listing(CtNetifSourceLs(container="web01", netif="eth0"), PAGE).shown == ("version", "addr")
    assert listing(CtNetifRouteLs(container="web01", netif="eth0"), PAGE).rows[0]["origin"] == "automatic"


def test_a_listing_of_something_unknown_is_refused() -> None:
    commands: list[ViewCommand] = [
        CtLs(containers=("nope",)),
        CtShow(container="nope"),
        CtNetifLs(container="nope"),
        CtNetifIpLs(container="nope"),
        CtNetifRouteLs(container="nope", netif="eth0"),
        CtNetifSourceLs(container="nope", netif="eth0"),
        CtNetifShow(container="nope", netif="eth0"),
    ]
    for command in commands:
        with pytest.raises(Refused, match="container not found: 'nope'"):
            command.view(PAGE, OBSERVED)
    for command in (CtNetifIpLs(container="web01", netif="x"), CtNetifShow(container="web01", netif="x")):
        with pytest.raises(Refused, match="'x': network interface not found in web01"):
            command.view(PAGE, OBSERVED)


def test_containers_are_listed_with_their_life() -> None:
    rows = listing(CtLs(), PAGE).rows

    assert [(row["id"], row["state"], row["init_pid"]) for row in rows] == [
        ("web01", "running", 4711),
        ("web02", "stopped", None),
    ]
    assert [row["id"] for row in listing(CtLs(state=("stopped",)), PAGE).rows] == ["web02"]
    assert [row["id"] for row in listing(CtLs(user=("web01",)), PAGE).rows] == ["web01"]
    assert listing(CtLs(distribution=("debian",)), PAGE).rows == ()
    assert listing(CtShow(container="web01"), PAGE).is_record


def test_an_interface_is_shown_with_both_ends_and_its_source() -> None:
    (row,) = listing(CtNetifShow(container="web01", netif="eth0"), PAGE).rows

    assert row["host_addr"] == {"4": "10.100.10.101/30", "6": "fd00:1::1/126"}
    assert row["ct_addr"] == {"4": "10.100.10.102/30", "6": "fd00:1::2/126"}
    assert row["source"] == {"4": "1.2.3.4", "6": "fd00:1::2"}
    assert row["addresses"] == row["routes"] == ["1.2.3.4/32"]
    assert row["veth"] == row["host_link"] == "osweb01-eth0"


def test_the_daemon_says_that_it_is_there_and_what_it_looks_after() -> None:
    assert Ping().view(PAGE, OBSERVED) == Text(("pong",))
    reply = SelfStatus().view(PAGE, OBSERVED)
    assert isinstance(reply, Listing)
    counts = {name: reply.rows[0][name] for name in ("containers", "running", "interfaces", "addresses", "routes")}
    assert counts == {"containers": 2, "running": 1, "interfaces": 1, "addresses": 1, "routes": 1}


# --- actions -----------------------------------------------------------------------------------------------------


def test_actions_are_values_that_name_the_container() -> None:
    assert CtDel(container="default:web01", force=True).act(PAGE) == DeleteContainer("web01", True)
    assert CtStart(container="web01", wait=0).act(PAGE) == StartContainer("web01", 0)
    assert CtStop(container="web01").act(PAGE) == StopContainer("web01", 60, StopMethod.SHUTDOWN_OR_KILL)
    assert CtStop(container="web01", kill=True).act(PAGE) == StopContainer("web01", 60, StopMethod.KILL)
    assert CtRestart(container="web01", dont_kill=True, timeout=5).act(PAGE) == RestartContainer(
        "web01", 60, 5, StopMethod.SHUTDOWN_OR_FAIL
    )
    assert CtExec(container="web01", command=("ls", "-l")).act(PAGE) == Execute("web01", ("ls", "-l"))


def test_a_container_is_made_without_interfaces() -> None:
    action = CtNew(container="default:web03", distribution="busybox").act(PAGE)

    assert isinstance(action, CreateContainer)
    assert action.edited.container == "web03"
    assert action.edited.host.container("web03").interfaces == ()
    assert action.archive is None


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (CtNew(container="web01", distribution="busybox"), "container already exists: 'web01'"),
        (CtNew(container="a b", distribution="busybox"), "'a b': invalid container id"),
        (CtNew(container="web03"), "'web03': provide either --distribution or --from-archive"),
        (CtNew(container="web03", distribution="debian"), "'debian': cannot be built"),
        (CtNew(container="web03", distribution="busybox", user="A"), "'A': invalid user name"),
        (CtStart(container="nope"), "container not found: 'nope'"),
        (CtStart(container="web01", wait=-1), "-1: invalid value for --wait"),
        (CtStart(container="web01", wait=10**400), f"{10**400}: invalid value for --wait (0 to 1000000000)"),
        (CtRestart(container="web01", wait=10**9 + 1), "1000000001: invalid value for --wait (0 to 1000000000)"),
        (CtStop(container="web01", timeout=-1), "-1: invalid value for --timeout"),
        (CtRestart(container="web01", timeout=10**400), f"{10**400}: invalid value for --timeout"),
        (CtStop(container="web01", kill=True, dont_kill=True), "--kill and --dont-kill"),
        (CtRestart(container="nope"), "container not found: 'nope'"),
        (CtDel(container="nope"), "container not found: 'nope'"),
        (CtExec(container="nope", command=("ls",)), "container not found: 'nope'"),
    ],
)
def test_an_action_that_makes_no_sense_is_refused(command: Any, says: str) -> None:
    with pytest.raises(OsctlError) as refused:
        command.act(PAGE)

    assert says in refused.value.message
