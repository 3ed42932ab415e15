"""What routing rules mean for packets to containers, and how they are spelled."""

from __future__ import annotations

import pytest

from osctld.core.address.addresses import Address, Network
from osctld.core.authority.claims import ClaimedNetworks, ClaimKind, Claims, Holder
from osctld.core.authority.host_networks import HostNetwork, HostSpace, Use
from osctld.core.authority.routing_rules import Rule, before_main, lacks_main, taken_by
from osctld.core.authority.ways import (
    Answer,
    Ask,
    Wanted,
    chosen,
    judged,
    questions,
    sources_by_link,
    spoken_of,
    together,
)

LOCAL, MAIN = Rule(4, 0, 255), Rule(4, 32766, 254)
USUAL = (LOCAL, MAIN, Rule(4, 32767, 253))
WEB = Holder("web", "eth0", "u")
TO_WEB = Wanted(Network.parse("1.2.3.4"), Network.parse("1.2.3.4").address, WEB, "osweb-eth0")


def address(text: str) -> Address:
    return Network.parse(text).address


def rule(**fields: object) -> Rule:
    return Rule(**{"version": 4, "priority": 100, "table": 100, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("present", "text", "removal"),
    [
        (rule(), "100: from all lookup 100", "ip rule del pref 100 from all lookup 100"),
        (
            rule(destination=Network.parse("1.2.3.4"), iif="up0"),
            "100: from all to 1.2.3.4/32 iif up0 lookup 100",
            "ip rule del pref 100 from all to 1.2.3.4/32 iif up0 lookup 100",
        ),
        (
            rule(version=6, source=Network.parse("2001:db8::/64"), table=254, suppressed_length=0),
            "100: from 2001:db8::/64 lookup main suppress_prefixlength 0",
            "ip -6 rule del pref 100 from 2001:db8::/64 lookup main suppress_prefixlength 0",
        ),
        (
            rule(is_inverted=True, mark=(0xCA6C, 0xFFFFFFFF)),
            "100: not from all fwmark 0xca6c lookup 100",
            "ip rule del pref 100 not from all fwmark 0xca6c lookup 100",
        ),
        (rule(action="prohibit", mark=(7, 15)), "100: from all fwmark 0x7/0xf prohibit", None),
    ],
)
def test_a_rule_is_spelled_as_ip_rule_does(present: Rule, text: str, removal: str | None) -> None:
    assert str(present) == text
    assert removal is None or present.removal == removal


def test_usual_rules_and_those_behind_the_main_table_take_nothing() -> None:
    behind = rule(priority=40000)
    of_main = Rule(4, 50, 254, suppressed_length=0)

    assert before_main((*USUAL, behind, of_main), 4) == []
    assert before_main((*USUAL, rule()), 4) == [rule()]
    assert before_main((*USUAL, rule()), 6) == []


def test_a_host_lacks_the_main_table_when_no_rule_for_all_looks_it_up() -> None:
    assert not lacks_main(USUAL, 4)
    assert not lacks_main((), 6)
    assert lacks_main((LOCAL,), 4)
    assert lacks_main((LOCAL, Rule(4, 32766, 254, iif="up0")), 4)


@pytest.mark.parametrize(
    ("present", "iif", "source", "is_taken"),
    [
        (rule(), "", None, True),
        (rule(iif="up0"), "up0", None, True),
        (rule(iif="up0"), "", None, False),
        (rule(iif="lo"), "", None, True),
        (rule(iif="lo"), "up0", None, False),
        (rule(mark=(7, 0xFFFFFFFF)), "up0", None, False),
        (rule(mark=(7, 0xFFFFFFFF), is_inverted=True), "up0", None, True),
        (rule(source=Network.parse("198.18.0.0/24")), "up0", "198.18.0.9", True),
        (rule(source=Network.parse("198.18.0.0/24")), "up0", "198.19.0.9", False),
        (rule(destination=Network.parse("1.2.4.0/24")), "up0", None, False),
    ],
)
def test_a_rule_takes_what_its_selectors_are_for(present: Rule, iif: str, source: str | None, is_taken: bool) -> None:
    sender = address(source) if source else None

    assert (taken_by([present], address("1.2.3.4"), iif=iif, source=sender, table=100) is present) is is_taken


@pytest.mark.parametrize(
    ("present", "is_misleading"),
    [
        (rule(), True),
        (rule(iif="lo"), True),
        (rule(source=Network.parse("192.0.2.1")), True),
        (rule(iif="up0"), False),
        (rule(mark=(7, 0xFFFFFFFF)), False),
        (rule(mark=(7, 0xFFFFFFFF), is_inverted=True), True),
        (rule(oif="up0"), False),
    ],
)
def test_the_packet_filter_is_misled_by_rules_for_what_the_host_sends(present: Rule, is_misleading: bool) -> None:
    assert present.may_mislead_filter is is_misleading


def judge(ask: Ask, answer: Answer | None, *rules: Rule) -> str | None:
    found = judged(
        TO_WEB, ask, answer, (*USUAL, *rules), links={"osweb-eth0", "osdb-eth0"},
        addresses={address("1.2.3.4"): ("1.2.3.4/24", "up0")},
    )  # fmt: skip
    return None if found is None else f"{found.cause}; {found.commands[0]}"


def test_what_goes_out_by_a_link_of_ours_is_as_it_should_be_and_all_else_is_named() -> None:
    ask, everywhere = Ask(address("1.2.3.4"), "up0", address("192.0.2.2")), Network.parse("0.0.0.0/0")
    ours = Answer("unicast", "osweb-eth0", 254, Network.parse("1.2.3.4"))
    away = Answer("unicast", "up0", 100, everywhere, "default via 192.0.2.2 dev up0 proto boot")
    better = Answer("unicast", "up0", 254, Network.parse("1.2.3.4"), "1.2.3.4/32 dev up0 proto static")
    local = Answer("local", "up0", 255, Network.parse("1.2.3.4"), "local 1.2.3.4/32 dev up0 proto kernel")

    assert judge(ask, ours) is None
    assert judge(ask, away, rule()) == (
        "packets arriving on up0 follow rule 100: from all lookup 100, "
        "then route default via 192.0.2.2 dev up0 proto boot in table 100; ip rule del pref 100 from all lookup 100"
    )
    assert judge(ask, better) == (
        "packets arriving on up0 follow route 1.2.3.4/32 dev up0 proto static; "
        "ip route del 1.2.3.4/32 dev up0 proto static"
    )
    assert judge(ask, local) == "1.2.3.4 is an address of the host, on up0; ip addr del 1.2.3.4/24 dev up0"
    assert judge(ask, None) is None
    assert judge(ask, None, rule(action="prohibit", table=0)) == (
        "packets arriving on up0 follow rule 100: from all prohibit; ip rule del pref 100 from all prohibit"
    )


def test_of_very_many_networks_some_of_all_interfaces_are_asked_about() -> None:
    held = [
        (
            ClaimedNetworks(
                ClaimKind.ROUTE, Holder(f"ct{number}", "eth0"),
                tuple(Network(4, (10 << 24) + (number << 12) + each, 32).packed for each in range(100)),
            ),
            f"osct{number}",
        )
        for number in range(100)
    ]  # fmt: skip

    found = list(chosen(held, most=200))

    assert len(found) == 200
    assert {each.link for each in found} == {link for _, link in held}
    assert len(list(chosen(held[:1], most=200))) == 100


def test_an_interconnecting_network_is_asked_about_by_its_ends_whichever_is_the_containers() -> None:
    held = [
        (ClaimedNetworks(ClaimKind.VIA, WEB, tuple(Network.parse(each).packed for each in vias)), "os")
        for vias in [["10.0.0.0/30", "10.0.0.8/31", "fd00::/126"]]
    ]

    assert [str(each.address) for each in chosen(held, most=9)] == [
        *("10.0.0.2", "10.0.0.1", "10.0.0.3", "10.0.0.9", "10.0.0.8"),
        *("fd00::2", "fd00::1", "fd00::3"),
    ]


def test_what_a_rule_speaks_of_is_asked_about_wherever_it_is() -> None:
    networks = tuple(Network(4, (10 << 24) + each, 32).packed for each in range(1000))
    wide = (Network.parse("172.16.0.0/16").packed, Network.parse("2001:db8::/48").packed)
    claims = Claims([ClaimedNetworks(ClaimKind.ROUTE, WEB, (*networks, *wide))])

    def asked(network: str) -> list[str]:
        return [str(each.address) for each in spoken_of([Network.parse(network)], claims, lambda _: "os")]

    assert asked("10.0.3.231") == ["10.0.3.231"]
    assert asked("172.16.5.128/25") == ["172.16.5.128"]
    assert asked("172.0.0.0/8") == ["172.16.0.0"]
    assert asked("2001:db8:0:5::/64") == ["2001:db8:0:5::"]
    assert asked("192.0.2.0/24") == []
    assert len(asked("10.0.0.0/8")) == 20


def test_packets_are_asked_about_as_the_host_as_each_uplink_and_as_whom_rules_name() -> None:
    host, router = address("192.0.2.1"), address("192.0.2.2")
    rules = [rule(source=Network.parse("192.0.2.1")), rule(source=Network.parse("198.18.0.0/24"))]

    found = list(questions(address("1.2.3.4"), rules, sources={"up0": router}, hosts=[host]))

    assert [(each.iif, str(each.source)) for each in found] == [
        ("", "None"), ("up0", "192.0.2.2"), ("", "192.0.2.1"), ("up0", "198.18.0.1")
    ]  # fmt: skip


def test_somebody_beyond_an_uplink_is_a_router_or_a_neighbour_and_never_the_host() -> None:
    space = HostSpace(
        [
            HostNetwork(Network.parse("192.0.2.1"), "up0", Use.ADDRESS, "192.0.2.1/24"),
            HostNetwork(Network.parse("192.0.2.0/24"), "up0"),
            HostNetwork(Network.parse("198.51.100.0/24"), "up1"),
            HostNetwork(Network.parse("198.51.100.9"), "up1", Use.NEXT_HOP, "default"),
            HostNetwork(Network.parse("2001:db8::/64"), "up0"),
        ]
    )

    assert {link: str(each) for link, each in sources_by_link(["up0", "up1", "up2"], space, 4).items()} == {
        "up0": "192.0.2.2", "up1": "198.51.100.9"
    }  # fmt: skip
    assert {link: str(each) for link, each in sources_by_link(["up0", "up1"], space, 6).items()} == {
        "up0": "2001:db8::1"
    }  # fmt: skip


def test_what_is_told_of_packets_from_beyond_is_not_told_of_the_hosts_own_again() -> None:
    away = Answer("unicast", "up0", 100, Network.parse("0.0.0.0/0"), "default")
    asks = [Ask(address("1.2.3.4")), Ask(address("1.2.3.4"), "up0", address("192.0.2.2"))]
    found = [judged(TO_WEB, ask, away, (*USUAL, rule()), links=(), addresses={}) for ask in asks]

    (told,) = together(each for each in found if each is not None)

    assert not told.is_host_s
    assert told.count == 1
    assert "arriving on up0" in told.cause
