"""The rules by which a network may be held: for each what it refuses, the nearest that it allows, and --force."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from osctld.core.address.addresses import InterfaceAddress, Network
from osctld.core.authority.claims import Claim, ClaimedNetworks, ClaimKind, Claims, ClaimsChange, Holder
from osctld.core.authority.host_networks import DEFAULT, HostNetwork, HostSpace, Use, edges_of, next_hop
from osctld.core.authority.rules import (
    HOST_RULES,
    Needs,
    check_assigned,
    check_free_on_host,
    check_host,
    check_others,
    comes_to_need,
    is_a_via_beside_the_host,
    is_given_on,
    is_held_by_another,
    is_mentioned,
    lies_in_a_static_route,
    lies_in_an_undeclared_network,
    lies_in_the_network_of_another_link,
    needed_by_its_holder,
    objections,
    older_holdings,
    takes_a_network_of_the_host,
    takes_a_next_hop,
    takes_an_address_of_the_host,
    takes_an_edge,
)
from osctld.core.errors import Conflict
from pure.generated import any_networks, grouped, networks, versions

WEB, DB = Holder("web01", "eth0"), Holder("db", "eth0")


def network(text: str) -> Network:
    return Network.parse(text)


def wants(text: str, kind: ClaimKind = ClaimKind.ROUTE, holder: Holder = WEB) -> Claim:
    return Claim(network(text), kind, holder)


def uses(text: str, use: Use, *, link: str = "up0", more: str = "") -> HostNetwork:
    return HostNetwork(network(text), link, use, more)


UPLINK = uses("192.0.2.0/24", Use.CONNECTED)
#: What a host with one uplink, a default route and a static route of its operator uses.
SPACE = HostSpace(
    (
        uses("192.0.2.1", Use.ADDRESS),
        UPLINK,
        *edges_of(UPLINK),
        next_hop(network("192.0.2.2").address, "up0", destination=network("0.0.0.0/0")),
        uses("10.0.0.0/8", Use.STATIC, more="static"),
        next_hop(network("198.51.100.7").address, "up1", destination=network("10.0.0.0/8")),
        uses("2001:db8:1::1", Use.ADDRESS),
        uses("2001:db8:1::/64", Use.CONNECTED),
        uses("172.16.0.0/12", Use.LEARNED, more="bgp"),
    )
)

VIA, ROUTE, ADDRESS = ClaimKind.VIA, ClaimKind.ROUTE, ClaimKind.ADDRESS


@pytest.mark.parametrize(
    ("rule", "refused", "kind", "allowed", "says"),
    [
        (takes_an_address_of_the_host, "192.0.2.1", ADDRESS, "192.0.2.3",
         "192.0.2.1 is an address of the host, on up0"),
        (takes_an_address_of_the_host, "192.0.2.0/31", ROUTE, "192.0.2.4/31",
         "192.0.2.0/31: 192.0.2.1 is an address of the host, on up0"),
        (takes_an_address_of_the_host, "2001:db8:1::/112", ROUTE, "2001:db8:1::1:0/112",
         "2001:db8:1::/112: 2001:db8:1::1 is an address of the host, on up0"),
        (takes_an_edge, "192.0.2.255", ADDRESS, "192.0.2.254",
         "192.0.2.255 is the broadcast address of 192.0.2.0/24, on up0"),
        (takes_an_edge, "192.0.2.0", ROUTE, "192.0.2.16",
         "192.0.2.0 is the network address of 192.0.2.0/24, on up0"),
        (takes_a_next_hop, "192.0.2.2", ROUTE, "192.0.2.3",
         "192.0.2.2 is the next hop of the host's default route, on up0; --overlap-host permits it"),
        (takes_a_next_hop, "198.51.100.0/24", ROUTE, "198.51.100.8/29",
         "198.51.100.0/24: 198.51.100.7 is the next hop of the host's route to 10.0.0.0/8, on up1; --overlap-host"),
        (takes_a_network_of_the_host, "2001:db8:1::/64", ROUTE, "2001:db8:2::/64",
         "2001:db8:1::/64: 2001:db8:1::1 is an address of the host, on up0"),
        (takes_a_network_of_the_host, "10.0.0.0/8", ROUTE, "11.0.0.0/8",
         "10.0.0.0/8 is a route of the host (proto static), on up0; --overlap-host permits it"),
        (takes_a_network_of_the_host, "8.0.0.0/5", ROUTE, "16.0.0.0/5",
         "8.0.0.0/5: 10.0.0.0/8 is a route of the host (proto static), on up0; --overlap-host permits it"),
        (lies_in_a_static_route, "10.5.5.0/24", ROUTE, "11.5.5.0/24",
         "10.5.5.0/24: 10.0.0.0/8 is a route of the host (proto static), on up0; --overlap-host permits it"),
        (lies_in_an_undeclared_network, "192.0.2.77", ROUTE, "192.0.3.77",
         "192.0.2.77: 192.0.2.0/24 is in use on the host, on up0; osctl net uplink add up0 permits it"),
        (lies_in_an_undeclared_network, "2001:db8:1::7:0/112", ROUTE, "2001:db8:2::7:0/112",
         "2001:db8:1::7:0/112: 2001:db8:1::/64 is in use on the host, on up0; osctl net uplink add up0 permits it"),
        (is_a_via_beside_the_host, "10.9.0.0/30", VIA, "11.9.0.0/30",
         "10.9.0.0/30: 10.0.0.0/8 is a route of the host (proto static), on up0; --overlap-host permits it"),
        (is_a_via_beside_the_host, "192.0.2.128/30", VIA, "192.0.3.128/30",
         "192.0.2.128/30: 192.0.2.0/24 is in use on the host, on up0; --overlap-host permits it"),
    ],
)  # fmt: skip
def test_the_host_objects_to_what_it_uses_and_to_nothing_beside(
    rule: object, refused: str, kind: ClaimKind, allowed: str, says: str
) -> None:
    found = objections(wants(refused, kind), SPACE, declared=["up0"] if "net uplink" not in says else [])

    assert rule in [each.rule.objects for each in found]
    assert found[0].conflict().message.startswith(says)
    assert found[0].conflict().code == "host-uses"
    assert found[0].conflict().subject == str(network(refused))
    assert found[0].conflict().holder == str(found[0].there)
    near = objections(wants(allowed, kind), SPACE, declared=["up0"])
    assert rule not in [each.rule.objects for each in near]


@pytest.mark.parametrize("rule", HOST_RULES, ids=lambda rule: rule.objects.__name__)
def test_a_rule_is_a_sentence(rule: object) -> None:
    assert isinstance(rule, type(HOST_RULES[0]))
    assert rule.sentence.endswith(".")
    assert "  " not in rule.sentence


@pytest.mark.parametrize(
    ("text", "kind", "is_permitted"),
    [
        ("192.0.2.1", ROUTE, False),
        ("192.0.2.0/30", VIA, False),
        ("192.0.2.255", ROUTE, False),
        ("192.0.2.252/30", VIA, False),
        ("192.0.2.2", ROUTE, True),
        ("198.51.100.0/24", ROUTE, True),
        ("10.0.0.0/8", ROUTE, True),
        ("10.5.5.0/24", ROUTE, True),
        ("192.0.2.77", ROUTE, True),
        ("192.0.2.128/30", VIA, True),
        ("10.9.0.0/30", VIA, True),
        ("10.9.0.0/30", ADDRESS, True),
    ],
)
def test_force_passes_over_all_but_addresses_and_edges(text: str, kind: ClaimKind, is_permitted: bool) -> None:
    assert objections(wants(text, kind), SPACE)
    assert (objections(wants(text, kind), SPACE, is_forced=True) == []) is is_permitted


def test_inside_a_declared_network_all_is_free_but_what_the_host_needs_of_it() -> None:
    for free in ("192.0.2.77", "192.0.2.64/26", "2001:db8:1::7"):
        assert objections(wants(free), SPACE, declared=["up0"]) == []
        assert objections(wants(free), SPACE, declared=["up1"]) != []
    for taken in ("192.0.2.1", "192.0.2.2", "192.0.2.255", "192.0.2.0/25", "192.0.2.0/24"):
        assert objections(wants(taken), SPACE, declared=["up0"]) != []
    assert objections(wants("192.0.2.64/30", VIA), SPACE, declared=["up0"]) != []


def test_learned_routes_are_in_nobody_s_way_and_are_told_of() -> None:
    learned = uses("172.16.0.0/12", Use.LEARNED, more="bgp")
    for text in ("172.16.5.0/24", "172.16.0.0/12", "172.0.0.0/8"):
        for kind in ClaimKind:
            assert objections(wants(text, kind), SPACE) == []
        assert is_mentioned(wants(text), learned)
    assert not is_mentioned(wants("172.32.0.0/16"), learned)
    assert not is_mentioned(wants("172.16.5.0/24"), uses("0.0.0.0/0", Use.LEARNED, more="bgp"))
    assert is_mentioned(wants("172.16.5.0/24"), uses("128.0.0.0/1", Use.LEARNED, more="bgp"))
    assert str(learned) == "172.16.0.0/12 is a route of the host learned by bgp, on up0"


def test_a_network_of_two_addresses_has_no_edges_and_none_of_ipv6_has() -> None:
    assert list(edges_of(uses("192.0.2.4/31", Use.CONNECTED))) == []
    assert list(edges_of(uses("2001:db8::/64", Use.CONNECTED))) == []
    assert [str(each) for each in edges_of(uses("192.0.2.4/30", Use.CONNECTED))] == [
        "192.0.2.4 is the network address of 192.0.2.4/30, on up0",
        "192.0.2.7 is the broadcast address of 192.0.2.4/30, on up0",
    ]


def test_a_next_hop_names_its_route() -> None:
    hop = next_hop(network("192.0.2.9").address, "up0", destination=network("::/0"))

    assert hop.more == DEFAULT
    assert str(hop) == "192.0.2.9 is the next hop of the host's default route, on up0"


# --- changes ------------------------------------------------------------------------------------------------------


def change(added: list[Claim], removed: list[Claim] | None = None) -> ClaimsChange:
    return ClaimsChange(removed=tuple(grouped(removed or [])), added=tuple(grouped(added)))


def test_what_its_holder_had_before_is_not_refused_when_the_host_came_later() -> None:
    wide, part = wants("10.5.0.0/16"), wants("10.5.5.0/24")

    check_host(change([part], [wide]), SPACE)
    check_host(change([wants("10.5.5.5", ROUTE)], [wants("10.5.5.5", ADDRESS)]), SPACE)
    check_host(change([part], [wants("10.5.0.0/16", holder=DB)]), SPACE)  # it passes from one to another
    with pytest.raises(Conflict, match=r"10\.5\.5\.0/24: 10\.0\.0\.0/8 is a route"):
        check_host(change([part], [wants("10.6.0.0/16")]), SPACE)
    with pytest.raises(Conflict, match=r"10\.5\.0\.0/16: 10\.0\.0\.0/8 is a route"):
        check_host(change([wide], [part]), SPACE)


def test_one_of_very_many_networks_that_the_host_uses_is_found() -> None:
    many = [Network(4, (20 << 24) + number, 32).packed for number in range(50_000)]
    claims = [ClaimedNetworks(ROUTE, WEB, (*many, network("192.0.2.1").packed))]

    with pytest.raises(Conflict, match=r"192\.0\.2\.1 is an address of the host"):
        check_host(ClaimsChange((), tuple(claims)), SPACE)
    check_host(ClaimsChange((), (ClaimedNetworks(ROUTE, WEB, tuple(many)),)), SPACE)


host_networks = st.builds(
    HostNetwork, versions.flatmap(networks) | any_networks, st.sampled_from(["up0", "up1"]), st.sampled_from(Use)
)


@given(
    st.lists(host_networks, max_size=8),
    st.lists(versions.flatmap(networks), min_size=1, max_size=5, unique=True),
    st.sampled_from(ClaimKind),
    st.booleans(),
    st.sets(st.sampled_from(["up0", "up1"])),
)
def test_a_change_is_refused_exactly_when_a_rule_objects_to_one_of_its_networks(
    used: list[HostNetwork], wanted: list[Network], kind: ClaimKind, is_forced: bool, declared: set[str]
) -> None:
    claims = [Claim(each, kind, WEB) for each in wanted]
    refused = [
        claim.network
        for claim in claims
        if any(
            rule.objects(claim, there, declared) and not (is_forced and rule.yields)
            for there in used
            for rule in HOST_RULES
        )
    ]

    if refused:
        with pytest.raises(Conflict) as conflict:
            check_host(change(claims), HostSpace(used), declared=declared, is_forced=is_forced)
        assert conflict.value.subject in map(str, refused)
    else:
        check_host(change(claims), HostSpace(used), declared=declared, is_forced=is_forced)


def test_an_address_inside_one_s_own_network_is_not_assigned_when_it_is_the_host_s() -> None:
    for text in ("192.0.2.1", "192.0.2.255"):
        for is_forced in (False, True):
            with pytest.raises(Conflict, match=r"^192\.0\.2\."):
                check_assigned([InterfaceAddress.parse(text)], WEB, SPACE, is_forced=is_forced)
    with pytest.raises(Conflict, match="next hop"):
        check_assigned([InterfaceAddress.parse("198.51.100.7")], WEB, SPACE)
    check_assigned([InterfaceAddress.parse("198.51.100.7")], WEB, SPACE, is_forced=True)
    check_assigned(map(InterfaceAddress.parse, ("10.5.5.5", "192.0.2.3")), WEB, SPACE)


def test_a_network_that_nobody_named_has_nothing_in_common_with_the_host() -> None:
    for text in ("192.0.2.64/26", "10.5.5.0/24", "198.51.100.0/24"):
        with pytest.raises(Conflict):
            check_free_on_host(network(text), SPACE)
        check_free_on_host(network(text), SPACE, is_forced=True)
    with pytest.raises(Conflict):
        check_free_on_host(network("192.0.2.0/26"), SPACE, is_forced=True)
    for free in ("172.16.5.0/24", "203.0.113.0/24"):
        check_free_on_host(network(free), SPACE)


def test_what_was_held_before_the_host_used_it_is_found() -> None:
    held = [
        wants("192.0.2.1"),
        wants("10.5.5.0/24", holder=DB),
        *(wants(f"10.6.{number}.0/24") for number in range(3)),
        wants("203.0.113.0/24"),
    ]

    found = list(older_holdings(Claims(grouped(held)), SPACE, declared=["up0"]))

    assert [(str(each.objection.wanted.holder), each.objection.cause, each.count) for each in found] == [
        ("eth0 of web01", "192.0.2.1 is an address of the host, on up0", 1),
        ("eth0 of db", "10.5.5.0/24: 10.0.0.0/8 is a route of the host (proto static), on up0", 1),
        ("eth0 of web01", "10.6.0.0/24: 10.0.0.0/8 is a route of the host (proto static), on up0", 3),
    ]


#: For what each rule objects to a claim of the very network that the host uses.
USES_OF_RULES = {
    takes_an_address_of_the_host: {Use.ADDRESS},
    takes_an_edge: {Use.EDGE},
    takes_a_next_hop: {Use.NEXT_HOP},
    takes_a_network_of_the_host: {Use.CONNECTED, Use.STATIC},
    lies_in_a_static_route: {Use.STATIC},
    lies_in_an_undeclared_network: {Use.CONNECTED},
}


@pytest.mark.parametrize("kind", ClaimKind)
def test_each_rule_is_about_one_use_and_about_no_other(kind: ClaimKind) -> None:
    objecting = {
        rule.objects: {use for use in Use if rule.objects(wants("192.0.2.1", kind), uses("192.0.2.1", use), ())}
        for rule in HOST_RULES
    }
    of_via = {use for use in Use if use is not Use.LEARNED} if kind is VIA else set()

    assert objecting.pop(lies_in_the_network_of_another_link) == set()
    assert objecting == {**USES_OF_RULES, is_a_via_beside_the_host: of_via}
    assert [use for use in Use if is_mentioned(wants("192.0.2.1", kind), uses("192.0.2.1", use))] == [Use.LEARNED]


#: The same of an address that is used on a bridge: where the host looks for it there, and where it does not.
USES_ON_BRIDGES: dict[str, tuple[set[Use], ...]] = {
    "up0": (
        {Use.ADDRESS}, {Use.EDGE}, {Use.NEXT_HOP}, set(), set(), set(), set(),
    ),
    "br0": (
        {Use.ADDRESS}, {Use.EDGE}, {Use.NEXT_HOP}, {Use.CONNECTED, Use.STATIC}, {Use.STATIC}, set(), {Use.CONNECTED},
    ),
}  # fmt: skip


@pytest.mark.parametrize("bridge", ["up0", "br0"])
def test_an_address_on_a_bridge_may_be_in_the_networks_that_the_host_has_there_and_in_no_others(bridge: str) -> None:
    wanted = Claim(network("192.0.2.1"), ADDRESS, WEB, bridge)

    objecting = {
        rule.objects: {use for use in Use if rule.objects(wanted, uses("192.0.2.1", use), ())} for rule in HOST_RULES
    }

    assert objecting.pop(is_a_via_beside_the_host) == set()
    rules = (*USES_OF_RULES, lies_in_the_network_of_another_link)
    assert objecting == dict(zip(rules, USES_ON_BRIDGES[bridge], strict=True))


@given(networks(4), networks(4), st.sampled_from(["", "br0", "br1"]), st.sampled_from(["", "br0", "br1"]))
def test_addresses_on_two_bridges_are_never_in_conflict(one: Network, two: Network, here: str, there: str) -> None:
    wanted, held = Claim(one, ADDRESS, WEB, here), Claim(two, ADDRESS, DB, there)

    is_refused = is_held_by_another(wanted, held)

    assert is_refused == is_held_by_another(held, wanted)
    assert is_refused == (one.overlaps(two) and not (here and there and here != there))


def test_an_address_with_its_full_length_is_told_once_for_each_link() -> None:
    held = Claims(grouped([wants("192.0.2.1")]))
    address, same = uses("192.0.2.1", Use.ADDRESS), uses("192.0.2.1", Use.CONNECTED)

    def told(*used: HostNetwork) -> list[tuple[Use, str]]:
        found = older_holdings(held, HostSpace(used))
        return [(each.objection.there.use, each.objection.there.link) for each in found]

    assert told(address, same) == [(Use.ADDRESS, "up0")]
    assert told(same) == [(Use.CONNECTED, "up0")]
    elsewhere = uses("192.0.2.1", Use.CONNECTED, link="up1")
    assert sorted(told(address, same, elsewhere)) == [(Use.ADDRESS, "up0"), (Use.CONNECTED, "up1")]
    # Another use of the same link is another matter.
    for use in (Use.EDGE, Use.NEXT_HOP, Use.STATIC):
        assert sorted(told(address, same, uses("192.0.2.1", use))) == sorted([(Use.ADDRESS, "up0"), (use, "up0")])
    for use in (Use.EDGE, Use.NEXT_HOP, Use.STATIC):
        assert sorted(told(uses("192.0.2.1", use), same)) == sorted([(use, "up0"), (Use.CONNECTED, "up0")])


def test_a_holding_to_which_two_rules_object_counts_once() -> None:
    (found,) = older_holdings(Claims(grouped([wants("192.0.2.0/24", VIA)])), HostSpace((UPLINK,)))

    assert (found.objection.rule.objects, found.count) == (takes_a_network_of_the_host, 1)


@pytest.mark.parametrize(
    ("used", "commands"),
    [
        (uses("192.0.2.1", Use.ADDRESS), ("ip addr del 192.0.2.1/32 dev up0",)),
        (uses("192.0.2.1", Use.ADDRESS, more="192.0.2.1/24"), ("ip addr del 192.0.2.1/24 dev up0",)),
        (UPLINK, ("osctl net uplink add up0",)),
        (uses("192.0.2.1", Use.NEXT_HOP), ()),
        (uses("192.0.2.1", Use.EDGE), ()),
        (uses("192.0.2.1", Use.STATIC, more="static"), ("ip route del 192.0.2.1/32 dev up0 proto static",)),
    ],
)
def test_an_older_holding_names_the_command_that_mends_it(used: HostNetwork, commands: tuple[str, ...]) -> None:
    (found,) = older_holdings(Claims(grouped([wants("192.0.2.1")])), HostSpace((used,)))

    assert found.commands == commands


# --- among interfaces ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "there", "is_refused", "is_refused_with_force"),
    [
        ("1.2.3.4", "1.2.3.4", True, True),
        ("1.2.3.0/24", "1.2.3.4", True, True),
        ("1.2.3.4", "1.2.3.0/24", True, False),
        ("1.2.3.4", "1.2.3.5", False, False),
        ("1.2.3.0/25", "1.2.3.128/25", False, False),
    ],
)
def test_what_another_interface_holds(wanted: str, there: str, is_refused: bool, is_refused_with_force: bool) -> None:
    claim = wants(there, holder=DB)

    assert is_held_by_another(wants(wanted), claim) is is_refused
    assert is_held_by_another(wants(wanted), claim, is_forced=True) is is_refused_with_force
    assert not is_held_by_another(wants(wanted, holder=Holder(DB.container, DB.interface)), claim)


class NeedsItsFirst(Needs):
    def reason_not_delegable(self, network: Network, /) -> str | None:
        first = Network.parse("1.2.3.1")
        return "1.2.3.1 is assigned to eth0" if network.includes(first) else None


def test_what_a_holder_needs_itself_is_not_given_on() -> None:
    there = wants("1.2.3.0/24", holder=DB)

    assert needed_by_its_holder(wants("1.2.3.0/31"), there, NeedsItsFirst()) == "1.2.3.1 is assigned to eth0"
    assert needed_by_its_holder(wants("1.2.3.2/31"), there, NeedsItsFirst()) is None
    assert needed_by_its_holder(wants("1.2.3.0/24"), there, NeedsItsFirst()) is None
    assert needed_by_its_holder(wants("1.2.3.0/31", holder=DB), there, NeedsItsFirst()) is None


def test_what_was_given_on_is_not_assigned_by_the_holder_of_the_network_around_it() -> None:
    around, part = wants("1.2.3.0/24"), wants("1.2.3.128/25", holder=DB)
    held = Claims(grouped([around, part]))

    assert is_given_on(network("1.2.3.129"), WEB, held) == part
    assert is_given_on(network("1.2.3.127"), WEB, held) is None
    assert is_given_on(network("1.2.3.129"), DB, held) is None
    assert is_given_on(network("9.9.9.9"), WEB, held) is None


def test_of_several_around_an_address_the_most_specific_holder_decides() -> None:
    mail = Holder("mail", "eth0")
    held = Claims(
        grouped([wants("1.0.0.0/8"), wants("1.2.0.0/16", holder=DB), part := wants("1.2.3.0/24", holder=mail)])
    )

    assert is_given_on(network("1.2.3.4"), WEB, held) == part
    assert is_given_on(network("1.2.3.4"), Holder("mail", "eth0"), held) is None
    assert is_given_on(network("1.2.4.4"), Holder("db", "eth0"), held) is None


AROUND, INSIDE, PART = "4.0.0.0/8", "4.0.0.0/24", "4.0.0.128/25"


@pytest.mark.parametrize(
    ("given_up", "there", "wanted", "is_refused"),
    [
        (wants(INSIDE), AROUND, PART, False),  # less than it had there
        (wants(INSIDE), AROUND, INSIDE, False),  # the same, for another purpose
        (None, AROUND, PART, True),
        (wants("4.1.0.0/24"), AROUND, PART, True),  # it had another part
        (wants(PART), AROUND, INSIDE, True),  # more than it had
        (wants(AROUND), INSIDE, PART, True),  # what it gave up was around that
        (wants(INSIDE), INSIDE, PART, True),  # and not inside of it
        (wants(INSIDE, holder=Holder("app", "eth0")), AROUND, PART, True),  # it was somebody else's
        (wants(INSIDE, holder=Holder("zoo", "eth0")), AROUND, PART, True),
    ],
)
def test_what_was_held_inside_of_another_s_network_may_become_less(
    given_up: Claim | None, there: str, wanted: str, is_refused: bool
) -> None:
    holdings = Claims(grouped([wants(there, holder=DB)]))
    removed = grouped([given_up]) if given_up is not None else []

    def check() -> None:
        check_others(holdings, removed=removed, added=grouped([wants(wanted, ADDRESS)]))

    if is_refused:
        with pytest.raises(Conflict):
            check()
    else:
        check()


def test_only_what_goes_in_the_same_change_is_not_in_the_way() -> None:
    holdings = Claims(grouped([wants("1.2.3.4", holder=DB)]))
    added = grouped([wants("1.2.3.4")])

    check_others(holdings, removed=grouped([wants("1.2.3.4", holder=DB)]), added=added)
    others = (
        wants("1.2.3.5", holder=DB),
        wants("1.2.3.4", ADDRESS, holder=DB),
        wants("1.2.3.4", holder=Holder("db", "eth1")),
    )
    for other in others:
        with pytest.raises(Conflict):
            check_others(holdings, removed=grouped([other]), added=added)


def test_two_that_come_in_one_change_do_not_hold_the_same() -> None:
    for one, other in (("1.2.3.4", "1.2.3.4"), ("1.2.3.0/24", "1.2.3.4"), ("1.2.3.4", "1.2.3.0/24")):
        with pytest.raises(Conflict):
            check_others(Claims(), removed=(), added=grouped([wants(one), wants(other, holder=DB)]))
        check_others(Claims(), removed=(), added=grouped([wants(one), wants(other, VIA)]))


class NeedsAllOfIt(Needs):
    def reason_not_delegable(self, network: Network, /) -> str | None:
        return f"{network} is needed"


#: Before and behind `WEB` in any order of names.
APP, ZOO = Holder("app", "eth0"), Holder("zoo", "eth0")


@pytest.mark.parametrize("other", [APP, ZOO])
def test_who_holds_something_is_told_by_the_holder_and_not_by_an_order_of_names(other: Holder) -> None:
    there = wants("1.2.3.0/24", holder=other)
    needs = NeedsAllOfIt()

    assert needed_by_its_holder(wants("1.2.3.0/25"), there, needs) == "1.2.3.0/25 is needed"
    assert needed_by_its_holder(wants("1.2.2.0/25"), there, needs) == "1.2.2.0/25 is needed"
    assert (
        needed_by_its_holder(wants("1.2.3.0/25", holder=Holder(*(other.container, other.interface))), there, needs)
        is None
    )
    assert comes_to_need(wants("1.2.3.0/25", holder=other), WEB, network("1.2.3.0/24"), needs) == "1.2.3.0/25 is needed"
    part = wants("1.2.3.128/25", holder=other)
    assert is_given_on(network("1.2.3.129"), WEB, Claims(grouped([wants("1.2.3.0/24"), part]))) == part


def test_all_networks_of_a_change_are_looked_at_and_not_only_those_before_one_that_is_free() -> None:
    held = Claims(grouped([wants("1.2.3.4", holder=DB)]))
    for added in (["9.9.9.9", "1.2.3.4"], ["1.2.3.4", "9.9.9.9"]):
        with pytest.raises(Conflict, match="db"):
            check_others(held, removed=(), added=grouped([wants(each) for each in added]))
    for added in (["10.0.0.0/30", "9.9.9.9", "192.0.2.1"], ["192.0.2.1", "9.9.9.9", "10.0.0.0/30"]):
        change = ClaimsChange((), tuple(grouped([wants(each) for each in added])))
        with pytest.raises(Conflict, match="is an address of the host"):
            check_host(change, HostSpace((uses("192.0.2.1", Use.ADDRESS), uses("10.0.0.1", Use.LEARNED))))


def test_a_via_needs_nothing_of_its_own_holder_nor_what_is_not_a_part_of_it() -> None:
    around = "1.2.3.0/24"

    def needs(there: str, holder: Holder) -> str | None:
        return comes_to_need(wants(there, holder=holder), WEB, network(around), NeedsAllOfIt())

    assert needs("1.2.3.0/25", DB) == "1.2.3.0/25 is needed"
    assert needs("1.2.3.128/25", DB) == "1.2.3.128/25 is needed"
    assert needs("1.2.3.0/25", Holder("web01", "eth0")) is None
    assert needs(around, DB) is None
    assert needs("1.2.2.0/23", DB) is None
    assert needs("1.2.2.0/25", DB) is None
    assert needs("1.2.4.0/25", DB) is None


def test_a_via_does_not_come_to_need_what_was_given_on() -> None:
    around = network("1.2.3.0/24")

    assert comes_to_need(wants("1.2.3.0/31", holder=DB), WEB, around, NeedsItsFirst()) == "1.2.3.1 is assigned to eth0"
    assert comes_to_need(wants("1.2.3.2/31", holder=DB), WEB, around, NeedsItsFirst()) is None
    assert comes_to_need(wants("1.2.3.0/31"), WEB, around, NeedsItsFirst()) is None
    assert comes_to_need(wants("1.2.2.0/23", holder=DB), WEB, around, NeedsItsFirst()) is None
