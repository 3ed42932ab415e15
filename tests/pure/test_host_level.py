"""Forwarding and the packet filter: what the host shall hold beside the interfaces of containers."""

from __future__ import annotations

from osctld.core.host_level import default_mtu, desired_host_level, forwarding_warnings
from osctld.core.kernel_state import HostFacts, PacketFilter, Sysctl, Uplink
from osctld.core.settings import HostSettings, Settings

MANAGED = Settings()
UNMANAGED = Settings(host=HostSettings(manage_forwarding=False))


def uplink(
    name: str = "up0", *, mtu: int = 1500, forwards: bool = False, advertised: bool = False, accept_ra: int = 1
) -> Uplink:
    return Uplink(
        name=name,
        mtu=mtu,
        has_ipv4_forwarding=forwards,
        has_default_route_from_advertisement=advertised,
        accept_ra=accept_ra,
    )


def settings_of(facts: HostFacts) -> list[tuple[str, str]]:
    wanted = desired_host_level(MANAGED, facts)
    return [(each.path, each.value) for each in wanted.objects if isinstance(each, Sysctl)]


def test_an_advertised_default_route_is_kept_before_ipv6_forwarding_is_switched_on() -> None:
    facts = HostFacts(uplinks=(uplink(advertised=True),), has_ipv6_forwarding=False)

    assert settings_of(facts) == [
        ("ipv4/conf/up0/forwarding", "1"),
        ("ipv6/conf/up0/accept_ra", "2"),
        ("ipv6/conf/all/forwarding", "1"),
    ]


def test_accept_ra_of_an_uplink_without_an_advertised_route_is_left_alone() -> None:
    facts = HostFacts(uplinks=(uplink(), uplink("up1", advertised=True, accept_ra=2)), has_ipv6_forwarding=False)

    assert not [path for path, _ in settings_of(facts) if path.endswith("accept_ra")]


def test_where_forwarding_is_not_managed_only_the_packet_filter_is_wanted() -> None:
    wanted = desired_host_level(UNMANAGED, HostFacts(uplinks=(uplink(),), has_ipv6_forwarding=False))

    assert [type(each) for each in wanted.objects] == [PacketFilter]


def test_unmanaged_and_missing_forwarding_is_warned_of_with_the_command_that_mends_it() -> None:
    facts = HostFacts(uplinks=(uplink(), uplink("up1", forwards=True)), has_ipv6_forwarding=False)

    assert [line.rpartition(": ")[2] for line in forwarding_warnings(UNMANAGED, facts)] == [
        "sysctl -w net.ipv4.conf.up0.forwarding=1",
        "sysctl -w net.ipv6.conf.all.forwarding=1",
    ]


def test_nothing_is_warned_of_when_all_forwards_or_we_manage_it() -> None:
    forwarding = HostFacts(uplinks=(uplink(forwards=True),), has_ipv6_forwarding=True)
    missing = HostFacts(uplinks=(uplink(),), has_ipv6_forwarding=False)

    assert forwarding_warnings(UNMANAGED, forwarding) == ()
    assert forwarding_warnings(MANAGED, missing) == ()


def test_the_default_mtu_is_the_smallest_of_the_uplinks_or_that_of_ethernet() -> None:
    facts = HostFacts(uplinks=(uplink(mtu=9000), uplink("up1", mtu=1400)), has_ipv6_forwarding=True)

    assert default_mtu(facts) == 1400
    assert default_mtu(HostFacts(uplinks=(), has_ipv6_forwarding=True)) == 1500
