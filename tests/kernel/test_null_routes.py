"""Null routes of others on the host: asked of the kernel when one came or went, and not before."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from kernel.network_namespaces import Host
from osctld.core.authority.null_routes import NullRoute
from osctld.shell.kernel import rtnetlink_dumps
from osctld.shell.kernel.netlink import NetlinkSocket
from osctld.shell.kernel.port import Kernel

pytestmark = pytest.mark.requires_kernel("veth")


def present(kernel: Kernel) -> set[str]:
    return {str(each) for each in kernel.null_routes(own_protocols=(111, 112))}


def freshly_looked() -> set[str]:
    with contextlib.closing(Kernel()) as other:
        return present(other)


@pytest.mark.parametrize("kind", ["blackhole", "unreachable", "prohibit"])
@pytest.mark.parametrize(("ip", "network"), [("ip", "1.2.3.10/32"), ("ip -6", "2001:db8:2::/64")])
def test_a_null_route_is_known_at_once_and_forgotten_at_once_and_its_own_command_takes_it_away(
    host: Host, kernel: Kernel, ip: str, network: str, kind: str
) -> None:
    assert present(kernel) == set()

    for metric in ("", " metric 77"):
        host.run(f"{ip} route add {kind} {network}{metric}")
        assert present(kernel) == freshly_looked() == {f"{kind} {network}{metric}"}

        (found,) = kernel.null_routes(own_protocols=(111, 112))
        host.run(found.removal)
        assert present(kernel) == freshly_looked() == set()


def test_a_route_that_becomes_a_null_route_and_back_is_known(host: Host, kernel: Kernel) -> None:
    host.run("ip link add up0 type veth peer name up1")
    host.run("ip link set up0 up")
    host.run("ip route add 1.2.3.10 dev up0")
    assert present(kernel) == set()

    host.run("ip route replace blackhole 1.2.3.10")
    assert present(kernel) == {"blackhole 1.2.3.10/32"}

    host.run("ip route replace 1.2.3.10 dev up0")
    assert present(kernel) == set()


def test_our_own_and_those_of_other_tables_and_defaults_are_not_among_them(host: Host, kernel: Kernel) -> None:
    present(kernel)
    host.run("ip route add blackhole 1.2.3.10 proto 112")
    host.run("ip route add unreachable default metric 4278198272")
    host.run("ip route add blackhole 1.2.3.11 table 77")

    assert present(kernel) == freshly_looked() == set()


def test_while_no_null_route_comes_or_goes_the_kernel_is_not_asked(
    host: Host, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.run("ip route add blackhole 1.2.3.10 proto 186")
    asked: list[bool] = []
    look = rtnetlink_dumps.null_routes

    def counted(through: NetlinkSocket) -> Iterator[NullRoute]:
        asked.append(True)
        return look(through)

    monkeypatch.setattr(rtnetlink_dumps, "null_routes", counted)

    for number in range(5):
        assert present(kernel) == {"blackhole 1.2.3.10/32"}
        host.run(f"ip route add 203.0.113.{number} dev lo")

    assert asked == [True]
    assert {each.protocol for each in kernel.null_routes(own_protocols=())} == {186}
    assert isinstance(next(iter(kernel.null_routes(own_protocols=()))), NullRoute)
