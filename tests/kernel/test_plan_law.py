"""A plan reaches what is wanted and its undo returns, in the real kernel: for any container, whatever goes wrong."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator, Sequence

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import HealthCheck, assume, given, settings

from kernel.container_objects import GROUP, GUEST, listed_order, observed, plan_of
from kernel.edited_states import pairs
from kernel.network_namespaces import Host, own_network_namespace
from osctld.core.address.addresses import Network
from osctld.core.address.via import Via
from osctld.core.plan.changes import Add, subject_of
from osctld.core.plan.kernel_model import pretend
from osctld.core.plan.kernel_state import HOST, KernelObject, KernelState, Outcome, Route, Veth
from osctld.core.plan.packet_filter import packet_filter
from osctld.core.plan.planner import Plan, plan_changes
from osctld.core.plan.text import describe
from osctld.shell.kernel.netlink import Answer
from osctld.shell.kernel.plan_application import FaultHook
from osctld.shell.kernel.port import Kernel
from pure.edited_states import desired, order_in_guest
from pure.generated import (
    container_without_interfaces,
    interface,
)
from pure.interface_steps import with_operator_route, with_vias

pytestmark = [pytest.mark.requires_kernel("nftables fib"), pytest.mark.time_limit(300)]

unhurried = settings(deadline=None, suppress_health_check=list(HealthCheck))


class Scene:
    """A host with the packet filter and one guest, brought to a state."""

    def __init__(self, have: KernelState) -> None:
        self.host = Host()
        self.host.add_guest(GUEST)
        self.have = have
        self.kernel = Kernel()
        self.apply(plan_of(Add(packet_filter(GROUP, bridge_group=112))))
        self.apply(plan_changes(have, KernelState()))

    def apply(self, plan: Plan, *, fault: FaultHook | None = None) -> tuple[Outcome, ...]:
        """Apply a plan; without a fault every change has to succeed."""
        outcomes = self.attempt(plan, fault=fault)
        for change, outcome in zip(plan.changes, outcomes, strict=True):
            assert fault or outcome.succeeded, f"{describe(subject_of(change))}: {outcome.error}\n{plan.text()}"
        return outcomes

    def attempt(self, plan: Plan, *, fault: FaultHook | None = None) -> tuple[Outcome, ...]:
        if fault is None:
            return self.kernel.apply(plan, self.host.namespaces)
        with contextlib.closing(Kernel(fault=fault)) as failing:
            return failing.apply(plan, self.host.namespaces)

    def observe(self, *states: KernelState) -> KernelState:
        return observed(self.kernel, self.host.namespaces, self.have, *states)

    def listed_order(self) -> dict[tuple[str, str], list[str]]:
        """The guest's IPv4 addresses by link and subnet, in the order in which `ip` lists them."""
        return listed_order(self.host)

    def dump(self) -> list[str]:
        return [*self.host.dump(HOST), *self.host.dump(GUEST)]


@contextlib.contextmanager
def scene(have: KernelState) -> Iterator[Scene]:
    with own_network_namespace():
        made = Scene(have)
        try:
            yield made
        finally:
            made.kernel.close()
            made.host.close()


@given(pairs, st.booleans())
@settings(unhurried, max_examples=300)
def test_a_plan_reaches_what_is_wanted_and_its_undo_returns(
    pair: tuple[KernelState, KernelState], renames_while_up: bool
) -> None:
    have, want = pair
    with scene(have) as there:
        assert there.observe(want) == have

        plan = plan_changes(want, have, renames_while_up=renames_while_up)
        there.apply(plan)
        assert there.observe(want) == want
        assert order_in_guest(there.observe(want)) == there.listed_order() == order_in_guest(want)

        there.apply(plan.undo())
        assert there.observe(want) == have
        assert there.listed_order() == order_in_guest(have)


def test_a_network_that_a_via_had_is_routed_in_the_same_plan() -> None:
    """The kernel's own route for it goes with the old address, and is in the way until then."""
    before, network = interface(via=["10.20.0.0/31"]), Network.parse("10.20.0.0/31")
    after = with_vias(before, {4: Via.make(Network.parse("10.20.0.2/31"))})
    after = with_operator_route(after, network, typed=str(network))
    have, want = (desired(container_without_interfaces().with_new_interface(each)) for each in (before, after))
    with scene(have) as there:
        plan = plan_changes(want, have)
        there.apply(plan)
        assert there.observe(want) == want

        there.apply(plan.undo())
        assert there.observe(want) == have


@given(pairs)
@settings(unhurried, max_examples=40)
def test_undo_leaves_what_another_program_sees_as_it_was(pair: tuple[KernelState, KernelState]) -> None:
    have, want = pair
    with scene(have) as there:
        before = there.dump()
        plan = plan_changes(want, have)

        there.apply(plan)
        there.apply(plan.undo())

        assert _without_order(there.dump()) == _without_order(before)


def _without_order(dump: Sequence[str]) -> list[str]:
    """IPv4 calls addresses primary or secondary by the order in which they came; that is no property of ours.

    Routes that the kernel makes for IPv6 addresses come when the link's carrier is noticed, at some later time.
    """
    return [line.replace('"secondary": true, ', "") for line in dump if '"protocol": "kernel"' not in line]


def _refused_at(number: int) -> FaultHook:
    return lambda at, _: Answer(errno.ENOBUFS) if at == number else None


@given(pairs, st.booleans())
@settings(unhurried, max_examples=20)
def test_whichever_change_fails_undo_returns(pair: tuple[KernelState, KernelState], renames_while_up: bool) -> None:
    have, want = pair
    plan = plan_changes(want, have, renames_while_up=renames_while_up)
    with scene(have) as there:
        for number in range(len(plan.changes)):
            outcomes = there.apply(plan, fault=_refused_at(number))

            assert outcomes[number].error == "No buffer space available"
            assert all(each.succeeded for each in outcomes[:number])
            there.apply(plan.undo(outcomes))
            assert there.observe(want) == have, f"after a fault at {number} of\n{plan.text()}"
            assert there.listed_order() == order_in_guest(have), f"after a fault at {number} of\n{plan.text()}"


@given(pairs, st.data())
@settings(unhurried, max_examples=100)
def test_a_route_of_others_in_the_way_is_left_alone_and_undo_returns(
    pair: tuple[KernelState, KernelState], data: st.DataObject
) -> None:
    have, want = pair
    plan = plan_changes(want, have)
    routes = [each.object for each in plan.changes if isinstance(each, Add) and isinstance(each.object, Route)]
    assume(routes)
    inthe_way = data.draw(st.sampled_from(routes))
    version, metric = inthe_way.network.version, f"metric {inthe_way.metric}" if inthe_way.metric else ""
    with scene(have) as there:
        there.host.run(f"ip -{version} route add {inthe_way.network} dev lo {metric}", inthe_way.namespace)
        before = there.host.ip(f"-{version} route show dev lo", inthe_way.namespace)

        outcomes = there.attempt(plan)

        failed = [change for change, each in zip(plan.changes, outcomes, strict=True) if each.error is not None]
        assert Add(inthe_way) in failed
        assert {each.error for each in outcomes} >= {"File exists"}
        there.apply(plan.undo(outcomes))
        assert there.observe(want) == have
        assert there.host.ip(f"-{version} route show dev lo", inthe_way.namespace) == before


@given(pairs, st.booleans())
@settings(unhurried, max_examples=100)
def test_the_model_is_never_more_hopeful_than_the_kernel(
    pair: tuple[KernelState, KernelState], renames_while_up: bool
) -> None:
    have, want = pair
    plan = plan_changes(want, have, renames_while_up=renames_while_up)
    with scene(have) as there:
        modelled = have
        for change in [*plan.changes, *plan.undo().changes]:
            there.apply(plan_of(change, have=modelled))
            modelled = pretend(modelled, [change])
            present = there.observe(want)

            missing = [each for key, each in modelled.items() if not _is_same(present.get(key), each)]
            assert not missing, f"the kernel lost {missing} at {change}"


def _is_same(present: KernelObject | None, modelled: KernelObject) -> bool:
    """The other end's hardware address is that end's own matter once the pair is made."""
    if isinstance(present, Veth) and isinstance(modelled, Veth):
        return present == msgspec.structs.replace(modelled, peer_mac=present.peer_mac)
    return present == modelled


@given(pairs)
@settings(unhurried, max_examples=60)
def test_what_was_taken_away_by_hand_comes_back(pair: tuple[KernelState, KernelState]) -> None:
    """Any state between two wanted ones is a drift to mend: here what a stopped plan leaves."""
    have, want = pair
    plan = plan_changes(want, have)
    with scene(have) as there:
        there.apply(plan, fault=_refused_at(len(plan.changes) // 2))

        found = there.observe(want)
        there.apply(plan_changes(want, found))

        assert there.observe(want) == want
        assert there.listed_order() == order_in_guest(want)
