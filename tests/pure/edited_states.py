"""What a kernel holds for a container before and after edits of it, and what can be said of two such states."""

from __future__ import annotations

import hypothesis.strategies as st
import msgspec

from osctld.core.config.host import Container
from osctld.core.config.settings import Settings
from osctld.core.errors import Refused
from osctld.core.plan.kernel_state import (
    HOST,
    LEAST_IPV6_MTU,
    AssignedAddress,
    KernelObject,
    KernelState,
    Link,
    Sysctl,
    Veth,
)
from osctld.netif.routed.interface import RoutedInterface
from pure.generated import containers, edited, routed_interfaces, vias, without_own_conflicts
from pure.interface_steps import with_vias


def desired(container: Container) -> KernelState:
    """What a kernel shall hold for a container, with the usual settings."""
    return container.desired(Settings(), default_mtu=1500)


@st.composite
def edits(draw: st.DrawFn, *, interfaces: int = 3) -> tuple[KernelState, KernelState]:
    """What the kernel holds for a container and what it shall hold after changes of any kind to its interfaces.

    It has up to so many of them, and those that come with a change.
    """
    before = draw(containers(interfaces=interfaces))
    after = before
    for _ in range(draw(st.integers(1, 3))):
        changed = draw(changed_interfaces(after))
        if without_own_conflicts(changed):
            after = changed
    return desired(before), desired(after)


def _free_link(container: Container) -> str:
    """The host's name for another interface: that of one that is gone may come again."""
    taken = {each.link for each in container.interfaces}
    return next(name for number in range(9, -1, -1) if (name := f"osweb01-eth{number}") not in taken)


@st.composite
def changed_interfaces(draw: st.DrawFn, container: Container) -> Container:
    """The container after one change of any kind, or as it is when that would be refused."""
    if not container.interfaces:
        return container.with_new_interface(draw(routed_interfaces(name="eth9", link=_free_link(container))))
    one = draw(st.sampled_from(container.interfaces))
    assert isinstance(one, RoutedInterface)
    try:
        match draw(st.sampled_from([*["edit", "via", "swap", "rename"] * 2, "delete", "new", "mtu", "mac"])):
            case "edit":
                return container.with_interface(draw(edited(one)))
            case "via":
                old = draw(st.sampled_from(sorted(one.vias.values(), key=lambda each: each.version)))
                via = draw(vias(old.version, within=draw(st.sampled_from([None, old.network]))))
                return container.with_interface(with_vias(one, {via.version: via}))
            case "swap":
                via = draw(st.sampled_from(sorted(one.vias.values(), key=lambda each: each.version)))
                swapped = via.with_ends(host_end=via.container_end, container_end=via.host_end)
                return container.with_interface(with_vias(one, {via.version: swapped}))
            case "delete":
                return container.without_interface(one.name)
            case "new":
                return container.with_new_interface(draw(routed_interfaces(name="eth9", link=_free_link(container))))
            case "rename":
                name = draw(st.sampled_from(["lan0", "eth0", "eth1", "eth9"]))
                return container.with_renamed_interface(one.name, name)
            case "mac":
                return container.with_interface(one.with_mac("02:00:00:00:00:77"))
            case _:
                mtu = draw(st.sampled_from([1280 if 6 in one.vias else 1000, 9000]))
                return container.with_interface(msgspec.structs.replace(one, mtu=mtu))
    except Refused:
        return container


def with_same_settings(have: KernelState, want: KernelState) -> tuple[KernelState, KernelState]:
    """Let both states name the same settings of links that both have, by whatever name inside: a setting is changed,
    never absent. One of IPv6 is, on a link that is too small for that."""

    def completed(state: KernelState, other: KernelState) -> KernelState:
        sizes = {(each.namespace, each.name): each.mtu for each in state.objects if isinstance(each, Veth | Link)}
        there = {each.name: each for each in state.objects if isinstance(each, Veth)}
        names = {
            (each.peer_namespace, each.peer_name): there[each.name].peer_name
            for each in other.objects
            if isinstance(each, Veth) and each.name in there
        }
        missing = []
        for each in other.objects:
            if not isinstance(each, Sysctl) or not each.link:
                continue
            name = names.get((each.namespace, each.link), each.link)
            here = msgspec.structs.replace(each, link=name, path=each.path.replace(f"/{each.link}/", f"/{name}/"))
            least = LEAST_IPV6_MTU if here.path.startswith("ipv6/") else 0
            if here.key not in state and sizes.get((here.namespace, name), -1) >= least:
                missing.append(here)
        return state.with_objects(missing)

    return completed(have, want), completed(want, have)


def has_order(each: KernelObject) -> bool:
    """Whether the kernel keeps it in the order in which it came: IPv4 addresses of a guest."""
    return isinstance(each, AssignedAddress) and each.namespace != HOST and each.address.version == 4


def order_in_guest(state: KernelState) -> dict[tuple[str, str], list[str]]:
    """The IPv4 addresses of each link and subnet of the guest, in the order of the state."""
    found: dict[tuple[str, str], list[str]] = {}
    for each in state.objects:
        if isinstance(each, AssignedAddress) and has_order(each):
            found.setdefault((each.link, str(each.address.network)), []).append(str(each.address))
    return found
