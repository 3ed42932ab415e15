"""What a plan leaves alone inside a guest, and what it must not."""

from __future__ import annotations

import msgspec
from hypothesis import assume, given
from hypothesis import strategies as st

from osctld.core.config.host import Container, GuestPolicy
from osctld.core.config.settings import Settings
from osctld.core.plan.changes import Remove
from osctld.core.plan.kernel_model import pretend, version_of
from osctld.core.plan.kernel_state import HOST, AssignedAddress, KernelState, Link, Veth
from osctld.core.plan.planner import plan_changes
from osctld.core.reconcile.drift import aim
from osctld.netif.routed.interface import RoutedInterface
from pure.edited_states import edits, order_in_guest
from pure.generated import containers, edited, rearranged_containers


def desired(container: Container) -> KernelState:
    return container.desired(Settings(), default_mtu=1500)


def policies(container: Container, policy: GuestPolicy) -> dict[str, GuestPolicy]:
    return {each.name: policy for each in container.interfaces}


@given(containers())
def test_nothing_is_left_out_of_what_is_as_it_was(container: Container) -> None:
    state = desired(container)

    aimed = aim(state, state, before=state, unsettled=None, policies=policies(container, GuestPolicy.REPORT))

    assert aimed.want == state
    assert aimed.drift == ()


@given(containers(), st.data())
def test_what_is_gone_inside_stays_gone_and_is_told(container: Container, data: st.DataObject) -> None:
    state = desired(container)
    inside = [key for key, each in state.items() if each.namespace != HOST and not isinstance(each, Link)]
    gone = data.draw(st.sets(st.sampled_from(inside))) if inside else set()
    have = state.without_keys(gone)

    aimed = aim(state, have, before=state, unsettled=None, policies=policies(container, GuestPolicy.REPORT))

    assert aimed.want == have
    assert {each.key for each in aimed.drift} == gone


@given(containers(), st.data())
def test_what_is_enforced_or_was_begun_by_us_is_brought_back(container: Container, data: st.DataObject) -> None:
    state = desired(container)
    inside = [key for key, each in state.items() if each.namespace != HOST]
    gone = data.draw(st.sets(st.sampled_from(inside))) if inside else set()
    have = state.without_keys(gone)

    enforced = aim(state, have, before=state, unsettled=None, policies=policies(container, GuestPolicy.ENFORCE))
    begun = aim(
        state, have, before=state, unsettled=state.without_keys(gone),
        policies=policies(container, GuestPolicy.REPORT),
    )  # fmt: skip

    assert enforced.want == begun.want == state
    assert enforced.drift == begun.drift == ()


@st.composite
def changed_containers(draw: st.DrawFn) -> tuple[Container, Container]:
    """A container before and after some edits of one interface, and perhaps with another hardware address of it."""
    container = draw(containers(interfaces=2).filter(lambda each: bool(each.interfaces)))
    chosen = draw(st.sampled_from(container.interfaces))
    assert isinstance(chosen, RoutedInterface)
    changed = draw(edited(chosen))
    if draw(st.booleans()):
        changed = changed.with_mac("02:00:00:00:00:07")
    return container, container.with_interface(changed)


@given(changed_containers() | rearranged_containers(), st.data())
def test_what_went_along_with_a_change_that_was_begun_is_brought_back(
    pair: tuple[Container, Container], data: st.DataObject
) -> None:
    container, other = pair
    state, begun = desired(container), desired(other)
    changes = plan_changes(begun, state).changes
    have = pretend(state, changes[: data.draw(st.integers(0, len(changes)))])

    aimed = aim(state, have, before=state, unsettled=begun, policies=policies(container, GuestPolicy.REPORT))

    assert aimed.want == state
    assert aimed.drift == ()


@given(containers(), st.data())
def test_what_is_gone_on_the_host_is_always_brought_back(container: Container, data: st.DataObject) -> None:
    state = desired(container)
    on_host = [key for key, each in state.items() if each.namespace == HOST and not isinstance(each, Veth)]
    gone = data.draw(st.sets(st.sampled_from(on_host))) if on_host else set()

    aimed = aim(
        state, state.without_keys(gone), before=state, unsettled=None, policies=policies(container, GuestPolicy.REPORT)
    )

    assert aimed.want == state


@given(containers())
def test_a_link_that_is_down_is_mended_with_all_on_it_by_a_change_of_it(container: Container) -> None:
    after = desired(container)
    added = [each for each in after.objects if isinstance(each, AssignedAddress) and each.namespace != HOST]
    if not added:
        return
    new = added[-1]
    before = after.without_keys([new.key])
    lost = [
        key for key, each in before.items()
        if each.namespace != HOST and not isinstance(each, Link) and getattr(each, "link", "") == new.link
    ]  # fmt: skip
    down = [
        msgspec.structs.replace(each, is_up=False)
        for each in before.objects
        if isinstance(each, Link) and each.name == new.link
    ]

    aimed = aim(
        after,
        before.without_keys(lost).with_objects(down),
        before=before,
        unsettled=None,
        policies=policies(container, GuestPolicy.REPORT),
    )

    assert aimed.want == after
    assert aimed.drift == ()


@given(containers(), st.sampled_from(GuestPolicy), st.data())
def test_a_pair_that_is_gone_is_made_anew_with_all_that_is_on_it(
    container: Container, policy: GuestPolicy, data: st.DataObject
) -> None:
    state = desired(container)
    pairs = [each for each in state.objects if isinstance(each, Veth)]
    gone = data.draw(st.sets(st.sampled_from(pairs))) if pairs else set()
    have = pretend(state, [Remove(each) for each in gone])

    aimed = aim(state, have, before=state, unsettled=None, policies=policies(container, policy))

    assert aimed.want == state
    assert aimed.drift == ()


@given(edits(), st.sampled_from(GuestPolicy))
def test_where_ipv6_is_switched_off_inside_an_address_can_still_be_taken_away(
    pair: tuple[KernelState, KernelState], policy: GuestPolicy
) -> None:
    before, want = pair
    names, others = ({each.name for each in state.objects if isinstance(each, Link)} for state in pair)
    assume(names == others)
    have = before.without_keys(key for key, each in before.items() if each.namespace != HOST and version_of(each) == 6)

    aimed = aim(want, have, before=before, unsettled=None, policies=dict.fromkeys(names, policy), without_ipv6=names)

    added = {key for key, each in aimed.want.items() if each.namespace != HOST and version_of(each) == 6}
    asked = {key for key, each in want.items() if each.namespace != HOST and version_of(each) == 6}
    assert added == asked - set(before)
    assert {each for each in aimed.want.objects if each.namespace == HOST} == {
        each for each in want.objects if each.namespace == HOST
    }


@given(containers() | rearranged_containers().map(lambda pair: pair[0]))
def test_an_order_that_the_tenant_made_is_left_and_told_unless_it_is_enforced_or_ours(container: Container) -> None:
    state = desired(container)
    backwards = KernelState(reversed(list(state.objects)))
    out_of_order = {
        address
        for (place, addresses) in order_in_guest(state).items()
        for address in (addresses if order_in_guest(backwards)[place] != addresses else ())
    }

    def ordered(policy: GuestPolicy, unsettled: KernelState | None = None) -> tuple[KernelState, set[str]]:
        aimed = aim(state, backwards, before=state, unsettled=unsettled, policies=policies(container, policy))
        assert aimed.want == state
        return aimed.want, {str(each.address) for each in aimed.drift if isinstance(each, AssignedAddress)}

    reported, told = ordered(GuestPolicy.REPORT)
    assert order_in_guest(reported) == order_in_guest(backwards)
    assert told == out_of_order
    for want, told in (ordered(GuestPolicy.ENFORCE), ordered(GuestPolicy.REPORT, backwards)):
        assert order_in_guest(want) == order_in_guest(state)
        assert not told
    once, told = ordered(GuestPolicy.ONCE)
    assert order_in_guest(once) == order_in_guest(backwards)
    assert not told
