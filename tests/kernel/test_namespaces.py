"""Namespaces of guests are entered for a moment and never held: a dead container's links go at once."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

from kernel.container_objects import GUEST, HOST_LINK, LINKS, errors, make_links, observed, plan_of
from kernel.network_namespaces import Host, until
from osctld.core.address.addresses import InterfaceAddress
from osctld.core.plan.changes import Add, Remove
from osctld.core.plan.kernel_state import HOST, AssignedAddress, KernelState, LinkScope
from osctld.core.plan.planner import plan_changes
from osctld.shell.kernel import netns
from osctld.shell.kernel.port import Kernel

pytestmark = pytest.mark.requires_kernel("veth")


@contextlib.contextmanager
def dying_guest() -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A process in a network namespace of its own, and a pidfd of it; nothing else holds the namespace."""
    process = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
    pidfd = os.pidfd_open(process.pid)
    try:
        until(lambda: os.readlink(f"/proc/{process.pid}/ns/net") != os.readlink("/proc/thread-self/ns/net"))
        yield process, pidfd
    finally:
        process.kill()
        process.wait()
        os.close(pidfd)


def descriptors_of_namespaces() -> list[str]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            target = os.readlink(f"/proc/self/fd/{name}")
            if target.startswith(("net:", "socket:")):
                found.append(target)
    return sorted(found)


def test_the_links_of_a_guest_go_with_its_last_process(host: Host, kernel: Kernel) -> None:
    del host
    address = AssignedAddress(HOST, HOST_LINK, InterfaceAddress.parse("10.0.0.1/30"))
    kernel.observe_host_level([])  # nftables has a socket of its own, in the host's namespace
    with dying_guest() as (process, pidfd):
        before = descriptors_of_namespaces()
        make_links(kernel, {GUEST: pidfd}, address)
        state = LINKS.with_objects([address])
        assert observed(kernel, {GUEST: pidfd}, LINKS) == state

        assert descriptors_of_namespaces() == before
        process.kill()
        process.wait()

        until(lambda: not os.path.exists(f"/proc/sys/net/ipv4/conf/{HOST_LINK}"))
        assert observed(kernel, {GUEST: pidfd}, LINKS) == KernelState()


def test_a_plan_for_a_guest_that_died_fails_in_words(host: Host, kernel: Kernel) -> None:
    del host
    with dying_guest() as (process, pidfd):
        process.kill()
        process.wait()

        outcomes = kernel.apply(plan_changes(LINKS, KernelState()), {GUEST: pidfd})

        assert outcomes[0].errno == errno.ESRCH
        assert outcomes[0].error == "No such process: the container's network namespace is gone"
        assert not any(each.was_tried for each in outcomes[1:])


def test_a_plan_for_a_guest_that_nobody_gave_fails_in_words(kernel: Kernel) -> None:
    outcomes = kernel.apply(plan_changes(LINKS, KernelState()), {})

    assert outcomes[0].errno == errno.ESRCH


def test_a_namespace_that_may_not_be_entered_is_told(kernel: Kernel) -> None:
    """A descriptor of something else."""
    with open("/dev/null", "rb") as other:
        inner = AssignedAddress(GUEST, "eth0", InterfaceAddress.parse("10.0.0.1/30"))

        assert errors(kernel.apply(plan_of(Add(inner)), {GUEST: other.fileno()})) == ["Invalid argument"]


def test_removing_from_a_guest_that_died_has_reached_its_aim(host: Host, kernel: Kernel) -> None:
    del host
    inner = AssignedAddress(GUEST, "eth0", InterfaceAddress.parse("10.0.0.1/30"))
    with dying_guest() as (process, pidfd):
        process.kill()
        process.wait()

        assert errors(kernel.apply(plan_of(Remove(inner)), {GUEST: pidfd})) == [None]


def test_a_pidfd_beyond_those_that_select_takes_is_a_namespace_too(host: Host, kernel: Kernel) -> None:
    del host
    with dying_guest() as (_, pidfd):
        high = 1500
        os.dup2(pidfd, high, inheritable=False)
        try:
            make_links(kernel, {GUEST: high})
            assert observed(kernel, {GUEST: high}, LINKS) == LINKS
        finally:
            os.close(high)


def test_this_thread_never_leaves_its_namespace(host: Host, kernel: Kernel) -> None:
    before = os.readlink("/proc/thread-self/ns/net")

    make_links(kernel, host.namespaces)
    assert netns.inside(host.namespaces[GUEST], lambda: os.readlink("/proc/thread-self/ns/net")) != before

    assert os.readlink("/proc/thread-self/ns/net") == before


def test_what_fails_inside_is_raised_outside(host: Host) -> None:
    with pytest.raises(ZeroDivisionError):
        netns.inside(host.namespaces[GUEST], lambda: 1 // 0)


def test_a_guest_that_vanishes_in_the_middle_of_a_plan_stops_it_there(host: Host) -> None:
    """It dies after its pair was made: the host's link goes with it, and nothing is left."""
    del host
    with dying_guest() as (process, pidfd):

        def die(number: int, _: object) -> None:
            if number == 2:
                process.send_signal(signal.SIGKILL)
                process.wait()
                until(lambda: not os.path.exists(f"/proc/sys/net/ipv4/conf/{HOST_LINK}"))

        kernel = Kernel(fault=die)
        address = AssignedAddress(HOST, HOST_LINK, InterfaceAddress.parse("10.0.0.1/30"))
        inner = AssignedAddress(GUEST, "eth0", InterfaceAddress.parse("10.0.0.2/30"))
        plan = plan_changes(LINKS.with_objects([address, inner]), KernelState())

        outcomes = kernel.apply(plan, {GUEST: pidfd})

        assert [each.succeeded for each in outcomes[:2]] == [True, True]
        assert outcomes[2].errno in (errno.ESRCH, errno.ENODEV)
        assert set(errors(kernel.apply(plan.undo(outcomes), {GUEST: pidfd}))) == {None}
        assert kernel.observe([LinkScope(HOST, HOST_LINK), LinkScope(GUEST, "eth0")], {GUEST: pidfd}) == KernelState()
        kernel.close()


def test_a_closed_port_holds_nothing(host: Host) -> None:
    before = descriptors_of_namespaces()

    kernel = Kernel()
    kernel.observe_host_level([])
    kernel.close()

    assert descriptors_of_namespaces() == before
    del host
