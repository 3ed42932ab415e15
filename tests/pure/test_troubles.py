"""What is not as it should be: severities, order, verdict, and what is told of very many."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from osctld.cli.show import show
from osctld.commands.ct_netif_ip_add import CtNetifIpAdd
from osctld.commands.status import Status
from osctld.core.address.addresses import Network
from osctld.core.authority.null_routes import NullRoute, Yielded
from osctld.core.command import GlobalOptions
from osctld.core.config.host import Host
from osctld.core.config.settings import Settings
from osctld.core.health.finding import Finding, Severity
from osctld.core.health.troubles import EXIT_STATUSES, Seen, State, listing, troubles, unrouted_of, verdict, worst
from osctld.core.plan.kernel_state import HOST, HostFacts, Master, Route
from osctld.netif.routed.new import CtNetifNewRouted
from pure.surrounded import edited

FACTS = HostFacts(uplinks=(), has_ipv6_forwarding=True)


@pytest.fixture
def host() -> Host:
    made = Host(uuid="9d3c2b8e-6d5a-4a2a-8a53-5d8c9d3f0f10", settings=Settings())
    for name, via in (("web", "10.100.10.100/30"), ("db", "10.100.10.104/30")):
        made = made.with_new_container(name, user=None, distribution="busybox", version="1")
        made = edited(CtNetifNewRouted(container=name, netif="eth0", via=(via,)), made).host
    return made


def seen(**fields: Any) -> Seen:
    return Seen(FACTS, **fields)


def route(host: Host, container: str, network: str) -> Route:
    link = host.container(container).interface("eth0").link
    return Route(HOST, Network.parse(network), link, None, 111, 0)


def null_routed(host: Host, container: str, network: str, to: str = "") -> tuple[str, Yielded]:
    null = NullRoute(Network.parse(to or network), "blackhole", 0, 3)
    return container, Yielded(route(host, container, network), null)


def test_nothing_is_told_of_what_is_as_it_should_be(host: Host) -> None:
    assert troubles(host, seen()) == ()
    assert worst(()) is None
    assert verdict(host, (), running=2) == "all is well: 2 containers, all running"
    assert verdict(host, (), running=0) == "all is well: 2 containers, 0 running"
    assert verdict(Host(uuid="", settings=Settings()), (), running=0) == "all is well: 0 containers, 0 running"


def test_the_worst_comes_first_and_decides_the_exit_status(host: Host) -> None:
    finding = Finding(Severity.ERROR, "no-forwarding", "net.ipv4.conf.up0.forwarding is 0", "why", ("sysctl -w x=1",))

    found = troubles(host, seen(yielded=(null_routed(host, "web", "1.2.3.4"),), findings=(finding,)))

    assert [each.state for each in found] == [State.NOT_FORWARDING, State.NULL_ROUTED]
    assert EXIT_STATUSES[worst(found)] == 2
    assert EXIT_STATUSES[worst(found[1:])] == 1
    assert verdict(host, found, running=2) == "1 error, 1 warning; 2 containers, all running"


def test_findings_of_the_host_that_take_nothing_from_containers_are_for_self_check_alone(host: Host) -> None:
    others = (
        Finding(Severity.WARNING, "low-limit", "what", "why"),
        Finding(Severity.NOTE, "firewall", "what", "why"),
        Finding(Severity.ERROR, "program-missing", "what", "why"),
    )

    assert troubles(host, seen(findings=others)) == ()


def test_all_that_one_null_route_takes_away_is_one_thing(host: Host) -> None:
    yielded = [null_routed(host, "web", f"10.7.0.{number}", "10.7.0.0/24") for number in range(200)]

    (found,) = troubles(host, seen(yielded=(*yielded,)))

    assert (found.container, found.interface, found.address, found.count) == ("web", "eth0", "10.7.0.0", 200)
    assert found.commands == ("ip route del blackhole 10.7.0.0/24",)


def test_of_very_many_different_things_some_are_named_and_the_rest_counted_for_each_interface(host: Host) -> None:
    of_web = [null_routed(host, "web", f"10.7.0.{number}") for number in range(50)]
    of_db = [null_routed(host, "db", f"10.8.0.{number}") for number in range(3)]

    found = troubles(host, seen(yielded=(*of_web, *of_db)))

    assert [each.count for each in found if each.container == "web"] == [*[1] * 10, 40]
    assert [each.count for each in found if each.container == "db"] == [1, 1, 1]
    assert len({each.key for each in found}) == len(found)


def test_a_link_that_is_a_port_is_its_containers_trouble(host: Host) -> None:
    link = host.container("db").interface("eth0").link
    facts = msgspec.structs.replace(FACTS, ports=((link, Master("vmbr0", "bridge")),))

    (found,) = troubles(host, Seen(facts))

    assert (found.severity, found.state, found.container) == (Severity.ERROR, State.UNREACHABLE, "db")
    assert found.commands == (f"ip link set dev {link} nomaster",)


def test_a_wanted_container_that_is_stopped_is_told_alone_or_as_what_all_have_in_common(host: Host) -> None:
    for name in ("web", "db"):
        host = host.with_container(msgspec.structs.replace(host.container(name), is_wanted=True))

    alone = troubles(host, seen(states={"db": "running"}))
    together = troubles(host, seen(shutdown="the host has been going down since noon"))

    assert [(each.state, each.container, each.commands) for each in alone] == [
        (State.NOT_RUNNING, "web", ("osctl ct start web",))
    ]
    assert [(each.container, each.count) for each in together] == [("", 2)]


def test_what_is_parked_is_told_with_the_interface_that_holds_it(host: Host) -> None:
    host = edited(CtNetifIpAdd(container="web", netif="eth0", addresses=("1.2.3.4", "1.2.3.5")), host).host
    parked = host.container("web").with_parked(map(Network.parse, ("1.2.3.4", "1.2.3.5")))

    (found,) = troubles(host.with_container(parked), seen())

    assert (found.state, found.interface, found.address, found.count) == (State.PARKED, "eth0", "1.2.3.4", 2)
    assert found.commands == ("osctl ct netif take web eth0 all",)


def test_what_is_assigned_and_not_routed_is_told_with_all_of_its_addresses(host: Host) -> None:
    addresses = tuple(f"1.2.3.{number}" for number in range(1, 13))
    host = edited(CtNetifIpAdd(container="web", netif="eth0", addresses=addresses, route=False), host).host
    assert unrouted_of(host.container("db")) == ()

    (found,) = troubles(host, seen(unrouted={"web": unrouted_of(host.container("web"))}))

    assert (found.state, found.count) == (State.UNROUTED, 12)
    assert all(line.startswith("osctl ct netif route add web eth0 ") for line in found.commands)
    assert [word for line in found.commands for word in line.split()[7:]] == list(addresses)


def test_the_same_trouble_has_the_same_key_whatever_its_words_say_of_numbers(host: Host) -> None:
    one = troubles(host, seen(drift={"web": ["address 1.2.3.4/32 is missing"]}))
    more = troubles(host, seen(drift={"web": ["address 1.2.3.4/32 is missing", "route default is missing"]}))

    assert [each.key for each in one] == [each.key for each in more]
    assert more[0].cause.endswith(" and 1 more")


def test_files_that_were_not_written_are_one_trouble_of_their_container(host: Host) -> None:
    (found,) = troubles(host, seen(files={"web": ["'/etc/a' cannot be written: Read-only file system", "another"]}))

    assert (found.severity, found.state, found.container, found.count) == (Severity.WARNING, State.FILES, "web", 2)
    assert found.commands == ("osctl ct guest-files apply web",)
    assert found.cause.startswith("'/etc/a' cannot be written: Read-only file system and 1 more; ")


def test_the_verdict_is_for_people_and_rows_are_for_programs(host: Host) -> None:
    found = troubles(host, seen(drift={"web": ["x"]}))
    reply = listing(host, found, since={found[0].key: 1.5}, running=1, at=lambda moment: f"at {moment}")

    text = show(reply, Status(), GlobalOptions())
    bare = show(reply, Status(hide_header=True, output=("commands",)), GlobalOptions())
    empty = show(listing(host, (), since={}, running=1, at=str), Status(), GlobalOptions())

    assert text.startswith("1 warning; 2 containers, 1 running\n\n")
    assert "at 1.5" in text
    assert bare == "osctl net reconcile web\n\n"
    assert empty == "all is well: 2 containers, 1 running\n"
    assert show(reply, Status(), GlobalOptions(json=True)).startswith('[{"severity":"warning"')
