"""The text of LXC's configuration, as a value."""

from __future__ import annotations

from pathlib import Path

import pytest

from osctld.core.config.life import ContainerSpec, IdMap
from osctld.core.errors import Refused
from osctld.shell.lxc.files import CgroupNames, config_text
from osctld.shell.rootfs.guest_root import InitKind


def text(
    *,
    hostname: str = "web",
    init: InitKind = InitKind.BUSYBOX,
    has_nesting: bool = False,
    apparmor_label: str | None = None,
) -> str:
    return config_text(
        ContainerSpec("web", "/srv/web", IdMap(offset=666000), hostname, has_nesting=has_nesting),
        mount_point=Path("/run/x/web/rootfs"),
        hook=Path("/run/x/post stop"),
        seccomp=Path("/run/x/seccomp"),
        names=CgroupNames.of("web", tag="abc"),
        init=init,
        apparmor_label=apparmor_label,
    )


def values(content: str, key: str) -> list[str]:
    return [value for name, _, value in (line.partition(" = ") for line in content.splitlines()) if name == key]


def test_lxc_is_told_of_apparmor_what_was_decided_and_nothing_where_there_is_none() -> None:
    confined = text(apparmor_label="lxc-osctl")

    assert values(confined, "lxc.apparmor.profile") == ["lxc-osctl"]
    assert "apparmor" not in text()
    assert confined.startswith(text())


def test_policy_capabilities_and_whole_file_systems_are_for_containers_with_nesting() -> None:
    plain, nesting = text(), text(has_nesting=True)

    assert values(plain, "lxc.cap.drop") == ["sys_module sys_rawio sys_time mac_admin mac_override"]
    assert values(nesting, "lxc.cap.drop") == ["sys_module sys_rawio sys_time"]
    assert "dev/.lxc/" not in plain
    assert [each.split()[1] for each in values(nesting, "lxc.mount.entry")] == [
        "dev/.lxc/proc", "dev/.lxc/sys", "sys/kernel/security",
    ]  # fmt: skip


def test_nothing_of_ours_is_executed_that_could_lie_where_that_is_forbidden() -> None:
    (hook,) = values(text(), "lxc.hook.post-stop")

    assert hook == "/bin/sh '/run/x/post stop'"


def test_each_init_is_asked_to_halt_by_its_own_signal() -> None:
    signals = {init: values(text(init=init), "lxc.signal.halt") for init in InitKind}

    assert signals[InitKind.SYSTEMD] == ["SIGRTMIN+3"]
    assert signals[InitKind.BUSYBOX] == ["SIGUSR1"]
    assert signals[InitKind.OTHER] == ["SIGPWR"]


def test_the_network_is_not_lxc_s_business() -> None:
    assert "lxc.net." not in text()


@pytest.mark.parametrize("hostname", ["", " ", "a\nlxc.net.0.type = phys", "a\tb"])
def test_a_value_that_would_break_a_line_is_refused(hostname: str) -> None:
    with pytest.raises(Refused):
        text(hostname=hostname)
