"""What is added, replaced, removed and restored is what is observed, for every kind of kernel object."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from kernel.container_objects import (
    GUEST,
    GUEST_LINK,
    HOST_LINK,
    LINKS,
    errors,
    make_links,
    observed,
    plan_of,
)
from kernel.network_namespaces import Host, own_network_namespace
from osctld.core.addresses import BITS, InterfaceAddress
from osctld.core.kernel_state import (
    HOST,
    AssignedAddress,
    KernelObject,
    KernelState,
    Neighbour,
    Route,
)
from osctld.core.plan import Add, Change, Remove, Restore
from osctld.shell.kernel import Kernel
from pure.generated import near_addresses, networks, versions

pytestmark = pytest.mark.requires_kernel("veth")

places = st.sampled_from([(HOST, HOST_LINK), (GUEST, GUEST_LINK)])
macs = st.integers(0, 0xFFFF_FFFF).map(lambda number: "02:00:" + number.to_bytes(4, "big").hex(":"))


@st.composite
def addresses(draw: st.DrawFn) -> AssignedAddress:
    namespace, link = draw(places)
    version = draw(versions)
    length = draw(st.sampled_from([BITS[version], BITS[version] - 1, BITS[version] - 2, BITS[version] - 8]))
    address = draw(near_addresses(version)).with_length(length)
    has_broadcast = version == 4 and length < 31 and draw(st.booleans())
    broadcast = address.network.last if has_broadcast else None
    return AssignedAddress(namespace, link, address, broadcast, draw(st.booleans()))


@st.composite
def on_link_routes(draw: st.DrawFn) -> Route:
    namespace, link = draw(places)
    version = draw(versions)
    network = draw(networks(version))
    metric = draw(st.sampled_from([0, 1, 100]) if version == 4 else st.sampled_from([8, 1024]))
    return Route(namespace, network, link, None, draw(st.sampled_from([4, 111, 112])), metric)


@st.composite
def neighbours(draw: st.DrawFn) -> Neighbour:
    namespace, link = draw(places)
    version = draw(versions)
    return Neighbour(namespace, link, draw(near_addresses(version)), draw(macs))


objects = st.one_of(addresses(), on_link_routes(), neighbours())

#: An address with which IPv4 works on the links, and beside which no other goes.
ANCHORS = (
    AssignedAddress(HOST, HOST_LINK, InterfaceAddress.parse("192.0.2.1/32")),
    AssignedAddress(GUEST, GUEST_LINK, InterfaceAddress.parse("192.0.2.2/32")),
)


def perform(kernel: Kernel, host: Host, *changes: Change) -> None:
    outcomes = kernel.apply(plan_of(*changes), host.namespaces)
    assert all(each.succeeded for each in outcomes), errors(outcomes)


def state(kernel: Kernel, host: Host) -> KernelState:
    return observed(kernel, host.namespaces, LINKS).without_keys(each.key for each in ANCHORS)


@given(objects)
def test_what_is_added_is_observed_and_what_is_removed_is_not(each: KernelObject) -> None:
    with own_network_namespace():
        host = Host()
        host.add_guest(GUEST)
        kernel = Kernel()
        make_links(kernel, host.namespaces, *ANCHORS)

        perform(kernel, host, Add(each))
        assert state(kernel, host) == LINKS.with_objects([each])

        perform(kernel, host, Remove(each), Remove(each))
        assert state(kernel, host) == LINKS

        perform(kernel, host, Restore(each), Restore(each))
        assert state(kernel, host) == LINKS.with_objects([each])
        kernel.close()
        host.close()
