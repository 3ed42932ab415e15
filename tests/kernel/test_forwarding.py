"""Forwarding, and what hears routers, on a kernel in which others change links at the same moment."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from kernel.network_namespaces import Host as Namespaces
from osctld.core.authority.uplinks import HostSight
from osctld.core.config.host import Host
from osctld.core.config.settings import Settings
from osctld.core.errors import Unavailable
from osctld.core.plan.changes import Change, subject_of
from osctld.core.plan.kernel_state import Sysctl
from osctld.shell.kernel.host_settings import HostSettings
from osctld.shell.kernel.netlink import Answer
from osctld.shell.kernel.port import Kernel
from osctld.sync.host import HostSync
from osctld.sync.mending import Mending

EMPTY = Host(uuid="3f0d6a44-95b1-4b9e-8f4d-6f1c6a1d5f00", settings=Settings())
WANTED = EMPTY.with_new_container("web", user=None, distribution="busybox", version="1")


class WatchedKernel(Kernel):
    """The kernel, and something that happens after each look at the host, or before a setting is written."""

    def __init__(self) -> None:
        self.after_look: Callable[[], Any] = lambda: None
        self.before_write: Callable[[str], Any] = lambda _: None
        super().__init__(fault=self._before)

    def see_host(self, *, link_group: int, bridge_link_group: int, own_protocols: Collection[int]) -> HostSight:
        sight = super().see_host(
            link_group=link_group, bridge_link_group=bridge_link_group, own_protocols=own_protocols
        )
        self.after_look()
        return sight

    def _before(self, _number: int, change: Change) -> Answer | None:
        subject = subject_of(change)
        if isinstance(subject, Sysctl):
            self.before_write(subject.path)
        return None


@pytest.fixture
def watched(host: Namespaces) -> Iterator[WatchedKernel]:
    for name in ("one0", "two0", "three0"):
        host.run(f"ip link add {name} type veth peer name {name}p")
        host.run(f"ip link set {name} up")
    made = WatchedKernel()
    yield made
    made.close()


def host_sync(kernel: Kernel, directory: Path, *, boot: str = "this one") -> HostSync:
    """For forwarding, which asks for neither lives nor routers."""
    notes = HostSettings(directory / "host-settings.conf", boot=boot)
    nobody = cast(Any, None)
    return HostSync(
        settings=Settings(), kernel=kernel, lives=nobody, sender=nobody, host_settings=notes, routers=nobody,
        stopped=nobody,
        ways=nobody,
        tell=lambda _kind, _opts: None,
    )  # fmt: skip


def accept_ra(host: Namespaces, link: str) -> str:
    return host.run(f"sysctl -n net.ipv6.conf.{link}.accept_ra").strip()


def test_a_link_that_goes_while_settings_are_made_keeps_them_from_no_other(
    host: Namespaces, watched: WatchedKernel, tmp_path: Path
) -> None:
    forwarded = []

    def take_away(path: str) -> None:
        forwarded.append(path)
        if path == "ipv6/conf/two0/accept_ra":
            host.run("ip link del two0")

    watched.before_write = take_away

    mending = Mending()
    host_sync(watched, tmp_path).mend_forwarding(WANTED, mending)

    assert [accept_ra(host, each) for each in ("one0", "three0", "default")] == ["2", "2", "2"]
    assert forwarded[-1] == "ipv6/conf/all/forwarding"
    assert host.run("sysctl -n net.ipv6.conf.all.forwarding") == "1\n"
    assert not [line for line in mending.found if "two0." in line]


def test_who_takes_a_link_over_between_look_and_change_keeps_it(
    host: Namespaces, watched: WatchedKernel, tmp_path: Path
) -> None:
    watched.after_look = lambda: host.run("sysctl -w net.ipv6.conf.two0.accept_ra=0")

    host_sync(watched, tmp_path).mend_forwarding(WANTED, Mending())

    assert [accept_ra(host, each) for each in ("one0", "two0", "three0")] == ["2", "0", "2"]


def test_what_was_changed_is_noted_as_it_was_before_it_is_changed(
    host: Namespaces, watched: WatchedKernel, tmp_path: Path
) -> None:
    file = tmp_path / "host-settings.conf"
    watched.before_write = lambda path: noted.append(f"net/{path} = " in file.read_text())
    noted: list[bool] = []
    before = host.run("sysctl -a --pattern accept_ra$|forwarding$")

    host_sync(watched, tmp_path).mend_forwarding(WANTED, Mending())

    assert noted
    assert all(noted)
    assert host.run("sysctl -a --pattern accept_ra$|forwarding$") != before
    host.run(f"sysctl -p {file}")
    assert host.run("sysctl -a --pattern accept_ra$|forwarding$") == before


def test_notes_of_another_boot_are_none(host: Namespaces, watched: WatchedKernel, tmp_path: Path) -> None:
    host_sync(watched, tmp_path, boot="the one before").mend_forwarding(WANTED, Mending())
    host.run("sysctl -w net.ipv6.conf.one0.accept_ra=1")

    # Forwarding was on when this boot began, so others have arranged it.
    host_sync(watched, tmp_path).mend_forwarding(WANTED, Mending())

    assert accept_ra(host, "one0") == "1"


def test_notes_that_cannot_be_kept_keep_settings_from_being_changed(
    host: Namespaces, watched: WatchedKernel, tmp_path: Path
) -> None:
    with pytest.raises(Unavailable, match="host-settings"):
        host_sync(watched, tmp_path / "absent").mend_forwarding(WANTED, Mending())

    assert host.run("sysctl -n net.ipv6.conf.all.forwarding") == "0\n"
    assert accept_ra(host, "default") == "1"


def test_without_containers_nothing_is_changed(host: Namespaces, watched: WatchedKernel, tmp_path: Path) -> None:
    mending = Mending()

    host_sync(watched, tmp_path).mend_forwarding(EMPTY, mending)

    assert list(mending.found) == []
    assert accept_ra(host, "one0") == "1"


def test_a_plan_that_nobody_applies_leaves_what_was_last_seen(watched: WatchedKernel, tmp_path: Path) -> None:
    sync = host_sync(watched, tmp_path)
    before = sync.facts

    plan = sync.plan(WANTED, sync.look())

    assert plan.changes
    assert sync.facts == before != sync.look()
    assert not list(tmp_path.iterdir())
