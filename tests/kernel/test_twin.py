"""The lines that a plan prints, run by `ip`, `sysctl` and `nft`, lead to the same state as the plan itself."""

from __future__ import annotations

import subprocess

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings

from kernel.container_objects import GROUP, GUEST, PEER, VETH, fresh_host, listed_order, observed
from kernel.edited_states import pairs
from kernel.network_namespaces import Host
from osctld.core.plan.kernel_state import BRIDGE, HOST, KernelState, Master, container_of
from osctld.core.plan.packet_filter import packet_filter
from osctld.core.plan.planner import Plan, plan_changes
from pure.edited_states import desired, order_in_guest
from pure.generated import container_without_interfaces, interface

pytestmark = [pytest.mark.requires_kernel("nftables fib"), pytest.mark.time_limit(300)]

TABLE = KernelState([packet_filter(GROUP, bridge_group=112)])


class Twin:
    """A second host with a second guest, which know nothing but these lines."""

    def __init__(self, host: Host) -> None:
        self.host = host

    def perform(self, *plans: Plan) -> None:
        with self.host.process_in(GUEST) as pid:
            # A mount namespace of its own has /run to itself, so that the guest's namespace can have its name there.
            script = [
                "set -e",
                "mount -t tmpfs none /run",
                f"ip netns attach {container_of(GUEST)} {pid}",
            ]
            for plan in plans:
                for namespace, line in plan.lines():
                    inside = "" if namespace == HOST else f"nsenter --net=/proc/{pid}/ns/net "
                    # What is to be removed may be gone already, with something else; that is as good.
                    script.append(inside + line + (" 2>/dev/null || true" if " del " in line else ""))
            done = subprocess.run(
                ["unshare", "--mount", "sh", "-s"], input="\n".join(script), capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr + "\n".join(script)


def check(have: KernelState, want: KernelState, *, renames_while_up: bool = True) -> None:
    first = plan_changes(have.with_objects(TABLE.objects), KernelState())
    plan = plan_changes(want, have, renames_while_up=renames_while_up)
    with fresh_host() as (host, kernel):
        twin = Twin(host)

        twin.perform(first, plan)
        assert observed(kernel, host.namespaces, have, want) == want
        assert listed_order(host) == order_in_guest(want)
        assert kernel.observe_host_level([]) == TABLE

        twin.perform(plan.undo())
        assert observed(kernel, host.namespaces, have, want) == have
        assert listed_order(host) == order_in_guest(have)


@given(pairs, st.booleans())
@settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))
def test_printed_lines_lead_where_the_plan_leads(pair: tuple[KernelState, KernelState], renames_while_up: bool) -> None:
    check(*pair, renames_while_up=renames_while_up)


@pytest.mark.requires_kernel("bridge")
def test_printed_lines_make_a_port_of_a_bridge_and_move_it() -> None:
    on_br0, on_br1 = (
        KernelState([msgspec.structs.replace(VETH, master=Master(bridge, BRIDGE)), PEER]) for bridge in ("br0", "br1")
    )
    made, moved = plan_changes(on_br0, KernelState()), plan_changes(on_br1, on_br0)
    with fresh_host() as (host, kernel):
        host.run("sysctl -w net.ipv6.conf.default.addr_gen_mode=1")  # no addresses of the kernel's own making
        for bridge in ("br0", "br1"):
            host.run(f"ip link add {bridge} type bridge")
        twin = Twin(host)

        for plan, want in ((made, on_br0), (moved, on_br1), (moved.undo(), on_br0), (made.undo(), KernelState())):
            twin.perform(plan)
            assert observed(kernel, host.namespaces, on_br0) == want


@pytest.mark.parametrize(
    "via", [("10.100.10.100/30",), ("10.0.0.0/24", "2001:db8:20::/64"), ("10.0.0.0/31", "2001:db8:20::/127")]
)
def test_printed_lines_make_a_new_interface(via: tuple[str, ...]) -> None:
    container = container_without_interfaces().with_new_interface(interface(via=via))

    check(KernelState(), desired(container))
