"""Forwarding and the packet filter: what the host shall hold beside the interfaces of containers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec
import pytest

from osctld.core.config.settings import HostSettings, Settings
from osctld.core.health.facts import HealthFacts
from osctld.core.health.finding import Finding
from osctld.core.health.findings import findings
from osctld.core.plan.kernel_state import HOST, ForeignLink, HostFacts, KernelState, PacketFilter, Sysctl, Uplink
from osctld.core.plan.packet_filter import mark, read_mark
from osctld.core.reconcile.host_level import (
    default_mtu,
    desired_forwarding,
    desired_host_level,
    forwarding_warnings,
    links_to_ask_on,
    links_without_default,
    without_decided,
)

MANAGED = Settings()
UNMANAGED = Settings(host=HostSettings(manage_forwarding=False))


def uplink(name: str = "up0", *, mtu: int = 1500, forwards: bool = False) -> Uplink:
    return Uplink(name=name, mtu=mtu, has_ipv4_forwarding=forwards)


def link(
    name: str,
    accept_ra: int = 1,
    *,
    forwards: bool = False,
    ready: bool = True,
    asked: bool = False,
    answered: bool = False,
    advertised: bool = False,
) -> ForeignLink:
    return ForeignLink(name, accept_ra, forwards, ready, asked, answered, advertised)


def facts(
    *links: ForeignLink,
    uplinks: Sequence[Uplink] = (uplink(),),
    forwards: bool = False,
    default: int = 1,
    has_default_route: bool = False,
) -> HostFacts:
    return HostFacts(
        uplinks=tuple(uplinks),
        has_ipv6_forwarding=forwards,
        links=links,
        default_accept_ra=default,
        has_ipv6_default=has_default_route,
    )


def settings_of(seen: HostFacts, *, is_ours: bool = False, has_containers: bool = True) -> list[tuple[str, str]]:
    wanted = desired_forwarding(MANAGED, seen, has_containers=has_containers, is_ours=is_ours)
    return [(each.path, each.value) for each in wanted.objects if isinstance(each, Sysctl)]


def check(seen: HostFacts, *, containers: int = 1, manages: bool = True) -> list[Finding]:
    found = findings(HealthFacts(seen, (6, 12), 111, containers=containers, manages_forwarding=manages))
    ours = ("no-forwarding", "advertised-route", "accept-ra", "no-advertised-route")
    return [each for each in found if each.code in ours]


def test_every_link_takes_advertisements_for_good_before_ipv6_forwarding_is_switched_on() -> None:
    seen = facts(link("up0", 1), link("user-space", 0), link("eth0.7", 2), link("later", 1, ready=False))

    assert settings_of(seen) == [
        ("ipv4/conf/up0/forwarding", "1"),
        # What links take over is first: one that appears meanwhile has it.
        ("ipv6/conf/default/accept_ra", "2"),
        ("ipv6/conf/up0/accept_ra", "2"),
        ("ipv6/conf/later/accept_ra", "2"),
        ("ipv6/conf/all/forwarding", "1"),
    ]


def test_a_default_for_new_links_that_leaves_advertisements_to_others_stays() -> None:
    assert "ipv6/conf/default/accept_ra" not in dict(settings_of(facts(link("up0"), default=0)))


def test_what_others_set_back_where_we_forward_is_set_again() -> None:
    seen = facts(link("up0", 1, forwards=True), forwards=True)

    assert ("ipv6/conf/up0/accept_ra", "2") in settings_of(seen, is_ours=True)
    assert ("ipv6/conf/default/accept_ra", "2") in settings_of(seen, is_ours=True)


def test_where_others_had_switched_ipv6_forwarding_on_who_hears_routers_is_their_matter() -> None:
    seen = facts(link("up0", 1, forwards=True), forwards=True)

    assert settings_of(seen) == [("ipv4/conf/up0/forwarding", "1"), ("ipv6/conf/all/forwarding", "1")]


def test_a_host_without_containers_is_left_as_it_is() -> None:
    assert settings_of(facts(link("up0")), has_containers=False) == []
    assert settings_of(facts(link("up0"), forwards=True), is_ours=True, has_containers=False) == []


def test_where_forwarding_is_not_managed_only_the_packet_filter_is_wanted() -> None:
    wanted = desired_host_level(UNMANAGED, facts(link("up0")), has_containers=True, is_ours=False)

    assert [type(each) for each in wanted.objects] == [PacketFilter]


def test_who_takes_a_link_over_while_we_look_keeps_it() -> None:
    want = desired_forwarding(MANAGED, facts(link("up0"), link("gone"), link("up1")), has_containers=True, is_ours=True)
    have = KernelState(
        Sysctl(HOST, f"ipv6/conf/{name}/accept_ra", value, link=name) for name, value in (("up0", "0"), ("up1", "1"))
    )

    left = [each.path for each in without_decided(want, have).objects if isinstance(each, Sysctl)]

    assert left == ["ipv4/conf/up0/forwarding", "ipv6/conf/up1/accept_ra", "ipv6/conf/all/forwarding"]


def test_routers_are_asked_on_links_that_were_up_already_and_did_not_hear_them() -> None:
    seen = facts(
        link("deaf", forwards=True), link("heard", forwards=False), link("down", forwards=True, ready=False),
        link("other", 2, forwards=True), forwards=True,
    )  # fmt: skip
    changed = [Sysctl(HOST, f"ipv6/conf/{each}/accept_ra", "2", link=each) for each in ("deaf", "heard", "down")]

    assert links_to_ask_on(seen, KernelState(changed)) == ("deaf",)


@pytest.mark.parametrize(
    ("seen", "is_asked_on"),
    [
        (link("up0", 2, forwards=True), True),
        (link("up0", 2, forwards=True, asked=True), False),  # the kernel goes on
        (link("up0", 2, forwards=True, asked=True, answered=True), True),  # and was answered, but the route is gone
        (link("up0", 2, forwards=True, asked=True, answered=True, advertised=True), False),
        (link("up0", 2, forwards=True, ready=False), False),
        (link("up0", 2, forwards=False), False),
        (link("up0", 1, forwards=True), False),
        (link("up0", 0, forwards=True), False),
    ],
)
def test_routers_may_be_asked_where_a_default_route_is_missing_and_the_kernel_does_not_ask(
    seen: ForeignLink, *, is_asked_on: bool
) -> None:
    assert links_without_default(facts(seen, forwards=True)) == (("up0",) if is_asked_on else ())


# --- what is told --------------------------------------------------------------------------------------------------


def test_unmanaged_and_missing_forwarding_is_warned_of_with_the_commands_in_a_safe_order() -> None:
    seen = facts(link("up0"), link("eth0.7"), uplinks=[uplink(), uplink("up1", forwards=True)])

    assert [line.rpartition(": ")[2] for line in forwarding_warnings(UNMANAGED, seen)] == [
        "sysctl -w net.ipv4.conf.up0.forwarding=1",
        "sysctl -w net.ipv6.conf.default.accept_ra=2",
        "sysctl -w net.ipv6.conf.up0.accept_ra=2",
        "sysctl -w net/ipv6/conf/eth0.7/accept_ra=2",
        "sysctl -w net.ipv6.conf.all.forwarding=1",
    ]


def test_nothing_is_warned_of_when_all_forwards_or_we_manage_it() -> None:
    forwarding = facts(link("up0"), uplinks=[uplink(forwards=True)], forwards=True)

    assert forwarding_warnings(UNMANAGED, forwarding) == ()
    assert forwarding_warnings(MANAGED, facts(link("up0"))) == ()


def test_a_check_of_missing_ipv6_forwarding_says_first_what_keeps_the_hosts_own_default_route() -> None:
    (finding,) = check(facts(link("up0"), uplinks=[uplink(forwards=True)]), manages=False)

    assert finding.code == "no-forwarding"
    assert finding.commands == (
        "sysctl -w net.ipv6.conf.default.accept_ra=2",
        "sysctl -w net.ipv6.conf.up0.accept_ra=2",
        "sysctl -w net.ipv6.conf.all.forwarding=1",
    )


def test_a_check_of_a_host_without_containers_asks_for_no_forwarding() -> None:
    assert check(facts(link("up0")), containers=0) == []


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        (link("up0", 1, forwards=True, advertised=True), ("error", "advertised-route", 1)),
        (link("up0", 1, forwards=True, asked=True, answered=True), ("error", "advertised-route", 2)),
        (link("up0", 1, forwards=True, ready=False), ("warning", "accept-ra", 1)),
        (link("up0", 2, forwards=True, asked=True, answered=True), ("warning", "no-advertised-route", 1)),
        (link("up0", 2, forwards=True, asked=True), None),
        (link("up0", 0, forwards=True), None),
    ],
)
def test_a_check_tells_of_a_link_that_forwards_and_hears_no_router(
    seen: ForeignLink, told: tuple[str, str, int] | None
) -> None:
    found = check(facts(seen, uplinks=[uplink(forwards=True)], forwards=True, default=2))

    assert [(each.severity, each.code, len(each.commands)) for each in found] == ([told] if told else [])


def test_a_check_tells_of_links_to_come_that_would_hear_no_router() -> None:
    (finding,) = check(facts(link("up0", 2), uplinks=[uplink(forwards=True)], forwards=True, has_default_route=True))

    assert finding.commands == ("sysctl -w net.ipv6.conf.default.accept_ra=2",)


# --- MTU -----------------------------------------------------------------------------------------------------------


def test_the_default_mtu_is_the_smallest_of_the_uplinks_or_that_of_ethernet() -> None:
    seen = HostFacts(uplinks=(uplink(mtu=9000), uplink("up1", mtu=1400)), has_ipv6_forwarding=True)

    assert default_mtu(seen) == 1400
    assert default_mtu(HostFacts(uplinks=(), has_ipv6_forwarding=True)) == 1500


@pytest.mark.parametrize(
    ("transit", "has_containers", "forwards_ipv4", "forwards_ipv6", "is_ours", "expected"),
    [
        ("auto", True, False, False, False, (4, 6)),  # about to be switched on by us
        ("auto", True, False, True, True, (4, 6)),
        ("auto", True, False, True, False, (4,)),  # others switched IPv6 forwarding on
        ("auto", True, True, True, True, (6,)),  # others want IPv4 forwarded, as docker does
        ("auto", True, True, True, False, ()),
        ("auto", False, False, False, False, ()),
        ("reject", False, True, True, False, (4, 6)),
        ("allow", True, False, False, True, ()),
    ],
)
def test_between_other_links_passes_what_somebody_else_switched_forwarding_on_for(
    transit: Literal["auto", "reject", "allow"],
    has_containers: bool,
    forwards_ipv4: bool,
    forwards_ipv6: bool,
    is_ours: bool,
    expected: tuple[int, ...],
) -> None:
    seen = msgspec.structs.replace(facts(link("up0"), forwards=forwards_ipv6), has_ipv4_forwarding=forwards_ipv4)
    settings = Settings(host=HostSettings(transit=transit))

    wanted = desired_host_level(settings, seen, has_containers=has_containers, is_ours=is_ours)

    (table,) = [each for each in wanted.objects if isinstance(each, PacketFilter)]
    assert table.no_transit == expected
    assert read_mark(mark(table)) == table
