"""The index of claims, against the simplest thing that could be right."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from osctld.core.address.addresses import Network
from osctld.core.authority.claims import Claim, ClaimedNetworks, ClaimKind, Claims, ClaimsChange, Holder
from osctld.core.authority.rules import check_others
from osctld.core.config.host import Container
from osctld.core.errors import Conflict
from osctld.netif.routed.interface import RoutedInterface
from pure.generated import any_networks, containers, each_claim, grouped, networks, versions

holders = st.builds(Holder, st.sampled_from(["web01", "web02", "db"]), st.sampled_from(["eth0", "eth1"]))
claims = st.builds(Claim, versions.flatmap(networks) | any_networks, st.sampled_from(list(ClaimKind)), holders)
questions = versions.flatmap(networks) | any_networks


class IndexBesideList(RuleBasedStateMachine):
    """The index says what a plain list says, whatever is added and removed."""

    def __init__(self) -> None:
        super().__init__()
        self.index = Claims()
        self.plain: list[Claim] = []

    @rule(added=st.lists(claims, max_size=12))
    def add(self, added: list[Claim]) -> None:
        self.index.update(removed=(), added=grouped(added))
        self.plain += added

    @rule(data=st.data(), added=st.lists(claims, max_size=3))
    def change(self, data: st.DataObject, added: list[Claim]) -> None:
        positions = data.draw(st.sets(st.integers(0, len(self.plain) - 1))) if self.plain else set()
        removed = [self.plain[position] for position in positions]
        self.index.update(removed=grouped(removed), added=grouped(added))
        self.plain = [each for position, each in enumerate(self.plain) if position not in positions] + added

    @rule(question=questions)
    def look_up(self, question: Network) -> None:
        found = list(self.index.overlapping(question))

        assert sorted(found) == sorted(each for each in self.plain if each.network.overlaps(question))
        around = [each.network.length for each in found if each.network.length < question.length]
        assert around == sorted(around)

    @invariant()
    def holds_the_same(self) -> None:
        assert sorted(self.index) == sorted(self.plain)
        assert len(self.index) == len(self.plain)


TestIndexBesideList = IndexBesideList.TestCase
TestIndexBesideList.settings = settings(max_examples=30, stateful_step_count=20)


@given(st.lists(claims, max_size=20, unique=True), st.lists(claims, max_size=6, unique=True), st.data())
def test_a_check_refuses_exactly_what_overlaps_another_interface(
    present: list[Claim], added: list[Claim], data: st.DataObject
) -> None:
    removed = data.draw(st.lists(st.sampled_from(present), unique=True)) if present else []
    staying = [each for each in present if each not in removed]
    added = [each for each in added if each not in present]
    clashes = [
        (one, other)
        for position, one in enumerate(added)
        for other in [*staying, *added[:position]]
        if one.holder != other.holder
        and one.network.overlaps(other.network)
        # What is left of something that its holder had in there already was allowed before.
        and not any(
            each.holder == one.holder
            and each.network.includes(one.network)
            and each.network.length > other.network.length
            for each in removed
        )
    ]

    if not clashes:
        check_others(Claims(grouped(present)), removed=grouped(removed), added=grouped(added))
    else:
        with pytest.raises(Conflict) as conflict:
            check_others(Claims(grouped(present)), removed=grouped(removed), added=grouped(added))

        one = clashes[0][0]
        reasons = [str(other) for asked, other in clashes if asked == one]
        assert conflict.value.subject == str(one.network)
        assert any(conflict.value.message.endswith(f": {reason}") for reason in reasons)
        assert conflict.value.holder in {str(other.holder) for asked, other in clashes if asked == one}


@pytest.mark.parametrize(
    ("held", "kind", "asked", "message"),
    [
        ("1.2.3.4/32", ClaimKind.ROUTE, "1.2.3.4/32", "1.2.3.4: 1.2.3.4/32 is routed to eth0 of web01"),
        ("1.2.3.0/24", ClaimKind.ROUTE, "1.2.3.4/32", "1.2.3.4: 1.2.3.0/24 is routed to eth0 of web01"),
        ("1.2.3.4/32", ClaimKind.ROUTE, "1.2.3.0/24", "1.2.3.0/24: 1.2.3.4/32 is routed to eth0 of web01"),
        (
            "10.0.0.0/30",
            ClaimKind.VIA,
            "10.0.0.0/24",
            "10.0.0.0/24: 10.0.0.0/30 is the interconnecting network of eth0 of web01",
        ),
        ("fd00::1/128", ClaimKind.ADDRESS, "fd00::1/128", "fd00::1: fd00::1 is assigned to eth0 of web01"),
    ],
)
def test_a_conflict_names_what_was_asked_and_who_holds_it(held: str, kind: ClaimKind, asked: str, message: str) -> None:
    claims = Claims(grouped([Claim(Network.parse(held), kind, Holder("web01", "eth0"))]))
    wanted = Claim(Network.parse(asked), ClaimKind.ROUTE, Holder("web02", "eth0"))

    with pytest.raises(Conflict) as conflict:
        check_others(claims, removed=(), added=grouped([wanted]))

    assert conflict.value.message == message
    assert conflict.value.holder == "eth0 of web01"
    assert conflict.value.code == "address-held"


def test_two_interfaces_of_one_container_are_two_holders() -> None:
    one, other = (Claim(Network.parse("1.2.3.4"), ClaimKind.ROUTE, Holder("web01", name)) for name in ("eth0", "eth1"))
    claims = Claims(grouped([one]))

    with pytest.raises(Conflict, match=r"1\.2\.3\.4: 1\.2\.3\.4/32 is routed to eth0 of web01"):
        check_others(claims, removed=(), added=grouped([other]))


def test_versions_never_meet_although_their_numbers_do() -> None:
    claims = Claims(grouped([Claim(Network(4, 1 << 24, 32), ClaimKind.ROUTE, Holder("web01", "eth0"))]))

    assert list(claims.overlapping(Network(6, 1 << 24, 128))) == []
    assert list(claims.overlapping(Network(6, 0, 0))) == []


def test_many_claims_at_once_are_found_like_few() -> None:
    many = [Claim(Network(4, number, 32), ClaimKind.ROUTE, Holder("web01", "eth0")) for number in range(5000)]
    networks = tuple(each.network.packed for each in reversed(many))
    claims = Claims([ClaimedNetworks(ClaimKind.ROUTE, many[0].holder, networks)])

    assert list(claims.overlapping(Network(4, 256, 30))) == many[256:260]
    assert [str(each.network) for each in claims.overlapping(Network(4, 4999, 32))] == ["0.0.19.135/32"]


@given(containers())
def test_what_a_container_routes_and_assigns_is_all_claimed(container: Container) -> None:
    index = Claims(container.claims())

    for each in container.interfaces:
        assert isinstance(each, RoutedInterface)
        needed = [
            *(via.network for via in each.vias.values()),
            *(route.network for route in each.routes),
            *(address.address.as_network() for address in each.addresses),
        ]
        for network in needed:
            assert {claim.holder.interface for claim in index.overlapping(network)} == {each.name}
            assert any(claim.network.includes(network) for claim in index.overlapping(network))


@given(containers(), containers())
def test_a_change_of_claims_is_what_one_has_and_the_other_has_not(before: Container, after: Container) -> None:
    changed = ClaimsChange.between(before.claims(), after.claims())

    had, has = each_claim(before.claims()), each_claim(after.claims())
    assert each_claim(changed.removed) == [each for each in had if each not in has]
    assert each_claim(changed.added) == [each for each in has if each not in had]


def test_a_claim_that_nobody_holds_cannot_be_taken_away() -> None:
    one, other = (Claim(Network.parse("1.2.3.4"), ClaimKind.ROUTE, Holder(name, "eth0")) for name in ("web", "db"))
    claims = Claims(grouped([one]))

    for each in (other, Claim(Network.parse("1.2.3.5"), ClaimKind.ROUTE, one.holder)):
        with pytest.raises(KeyError):
            claims.update(removed=grouped([each]), added=())

    assert list(claims) == [one]
