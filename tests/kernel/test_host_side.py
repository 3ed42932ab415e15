"""What one look at the whole host's side tells of a container is what a look at that container tells."""

from __future__ import annotations

import msgspec
import pytest

from kernel.container_objects import elements_of, plan_of, scopes_of, settings_inside, sysctls_of
from kernel.network_namespaces import Host
from osctld.core.address.addresses import Network
from osctld.core.config.settings import Settings
from osctld.core.plan.changes import Add
from osctld.core.plan.kernel_state import HOST, KernelState, Link, PrivateNetwork, SiblingLinks, Veth
from osctld.core.plan.packet_filter import packet_filter
from osctld.core.plan.planner import plan_changes
from osctld.shell.kernel.port import Kernel
from pure.generated import container_without_interfaces, interface

pytestmark = [pytest.mark.requires_kernel("veth"), pytest.mark.requires_kernel("nftables")]

VIAS = (("10.100.10.100/30", "2001:db8:20::/126"), ("10.100.10.104/30",))


def test_one_look_at_the_host_side_tells_of_a_container_what_a_look_at_it_tells(host: Host, kernel: Kernel) -> None:
    container = container_without_interfaces()
    for number, via in enumerate(VIAS):
        one = msgspec.structs.replace(interface(name=f"eth{number}", via=via), link=f"osweb01-{number}")
        container = container.with_new_interface(one)
    want = container.desired(Settings(), default_mtu=1500)
    private = (PrivateNetwork(HOST, f"osweb01-{number}", Network.parse(via[0])) for number, via in enumerate(VIAS))
    want = want.with_objects(private)
    table = plan_of(Add(packet_filter(Settings().host.link_group, bridge_group=112)))
    for plan in (table, plan_changes(want, KernelState())):
        assert all(each.succeeded for each in kernel.apply(plan, host.namespaces))
    names = [each.name for each in want.objects if isinstance(each, Veth)]

    def look(names: list[str] | None) -> KernelState:
        side = kernel.observe_host_side(names) if names is not None else None
        return kernel.observe(
            scopes_of(want),
            host.namespaces,
            sysctls=sysctls_of(want),
            inside=settings_inside(want),
            elements=elements_of(want),
            host_side=side,
        )

    seen = look(names)
    assert seen == look(None)
    assert all(seen.get(key) == each for key, each in want.items())
    assert {PrivateNetwork, SiblingLinks} <= {type(each) for each in seen.objects}

    # One of the links is gone, and so are what is on it and its elements; the other is as it was.
    host.run(f"ip link del {names[0]}")
    left = look(names)
    without = look(names[1:])

    assert {each.name for each in left.objects if isinstance(each, Veth | Link)} == {names[1], "eth1"}
    assert left == without
    assert {key: each for key, each in look(None).items() if not isinstance(each, SiblingLinks)} == {
        key: each for key, each in left.items() if not isinstance(each, SiblingLinks)
    }
