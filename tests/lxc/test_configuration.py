"""The text of LXC's configuration, as a value."""

from __future__ import annotations

from pathlib import Path

import pytest

from osctld.core.errors import Refused
from osctld.core.life import ContainerSpec, IdMap
from osctld.shell.guest_root import InitKind
from osctld.shell.lxc_files import CgroupNames, config_text


def text(*, hostname: str = "web", init: InitKind = InitKind.BUSYBOX, has_apparmor: bool = False) -> str:
    return config_text(
        ContainerSpec(container="web", root_directory="/srv/web", id_map=IdMap(offset=666000), hostname=hostname),
        mount_point=Path("/run/x/web/rootfs"),
        hook=Path("/run/x/post stop"),
        names=CgroupNames.of("web", tag="abc"),
        init=init,
        has_apparmor=has_apparmor,
    )


def values(content: str, key: str) -> list[str]:
    return [value for name, _, value in (line.partition(" = ") for line in content.splitlines()) if name == key]


def test_a_host_with_apparmor_confines_as_its_distribution_does() -> None:
    confined = text(has_apparmor=True)

    assert values(confined, "lxc.apparmor.profile") == ["generated"]
    assert values(confined, "lxc.apparmor.allow_nesting") == ["1"]
    # LXC makes the profile one for unprivileged containers because of these.
    assert values(confined, "lxc.idmap") == ["u 0 666000 65536", "g 0 666000 65536"]


def test_a_host_without_apparmor_is_told_nothing_of_it() -> None:
    assert "apparmor" not in text()
    assert text(has_apparmor=True).startswith(text())


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
