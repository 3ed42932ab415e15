"""What one small container with a routed interface is made of, in the terms of the kernel."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Iterator

from kernel.network_namespaces import Host, own_network_namespace
from osctld.core.plan.changes import Add, Change
from osctld.core.plan.kernel_state import (
    HOST,
    AssignedAddress,
    FilterElement,
    KernelObject,
    KernelState,
    Key,
    Link,
    LinkScope,
    Namespace,
    Outcome,
    Sysctl,
    Veth,
    guest,
)
from osctld.core.plan.planner import Plan, plan_changes
from osctld.shell.kernel.port import Kernel

GUEST = guest("web01")
GROUP = 111
HOST_LINK, GUEST_LINK = "osweb01-eth0", "eth0"
HOST_MAC, GUEST_MAC = "02:00:00:00:01:01", "02:00:00:00:01:02"

VETH = Veth(HOST, HOST_LINK, HOST_MAC, 1500, GROUP, True, GUEST, GUEST_LINK, GUEST_MAC)
PEER = Link(GUEST, GUEST_LINK, GUEST_MAC, 1500, is_up=True)
LINKS = KernelState([VETH, PEER])
NO_LINK_LOCAL = Sysctl(HOST, f"ipv6/conf/{HOST_LINK}/addr_gen_mode", "1", link=HOST_LINK)


def scopes_of(*states: KernelState) -> list[LinkScope]:
    """Both ends of every pair of these states."""
    found: dict[LinkScope, None] = {}
    for state in states:
        for each in state.objects:
            if isinstance(each, Veth):
                found[LinkScope(HOST, each.name)] = None
                found[LinkScope(each.peer_namespace, each.peer_name)] = None
    return list(found)


def sysctls_of(*states: KernelState) -> list[str]:
    settings = (each for state in states for each in state.objects if isinstance(each, Sysctl))
    return list({each.path: None for each in settings if each.namespace == HOST})


def settings_inside(*states: KernelState) -> set[Key]:
    settings = (each for state in states for each in state.objects if isinstance(each, Sysctl))
    return {each.key for each in settings if each.namespace != HOST}


def elements_of(*states: KernelState) -> list[FilterElement]:
    return [each for state in states for each in state.objects if isinstance(each, FilterElement)]


def observed(kernel: Kernel, namespaces: dict[Namespace, int], *states: KernelState) -> KernelState:
    """What the kernel holds on the links of these states, without what a guest's kernel makes by itself."""
    seen = kernel.observe(
        scopes_of(*states),
        namespaces,
        sysctls=sysctls_of(*states),
        inside=settings_inside(*states),
        elements=elements_of(*states),
    )
    return KernelState(each for each in seen.objects if not is_made_by_kernel(each))


def is_made_by_kernel(each: KernelObject) -> bool:
    """The link-local address of a guest's link, which comes when the link has a carrier."""
    is_link_local = isinstance(each, AssignedAddress) and each.address.version == 6 and each.namespace != HOST
    return is_link_local and each.address.number >> 112 == 0xFE80  # type: ignore[union-attr]


def plan_of(*changes: Change, have: KernelState | None = None) -> Plan:
    """A plan of just these changes."""
    state = have or KernelState()
    return Plan(state, state, changes)


def errors(outcomes: tuple[Outcome, ...]) -> list[str | None]:
    return [each.error for each in outcomes]


def make_links(kernel: Kernel, namespaces: dict[Namespace, int], *objects: KernelObject) -> None:
    """A pair that is up at both ends, and what is on it."""
    plan = plan_changes(LINKS.with_objects([NO_LINK_LOCAL]), KernelState())
    plan = plan_of(*plan.changes, *(Add(each) for each in objects))
    outcomes = kernel.apply(plan, namespaces)
    assert all(each.succeeded for each in outcomes), errors(outcomes)


@contextlib.contextmanager
def fresh_host() -> Iterator[tuple[Host, Kernel]]:
    """A host with one guest, for one example of many: a fixture lasts for all examples of a test."""
    with own_network_namespace():
        host = Host()
        try:
            host.add_guest(GUEST)
            with contextlib.closing(Kernel()) as kernel:
                yield host, kernel
        finally:
            host.close()


def listed_order(host: Host) -> dict[tuple[str, str], list[str]]:
    """The guest's IPv4 addresses by link and subnet, in the order in which `ip` lists them."""
    found: dict[tuple[str, str], list[str]] = {}
    for link in host.ip("-4 addr show", GUEST):
        for each in link["addr_info"]:
            if link["ifname"] != "lo":
                address = ipaddress.ip_interface(f"{each['local']}/{each['prefixlen']}")
                found.setdefault((link["ifname"], str(address.network)), []).append(str(address))
    return found
