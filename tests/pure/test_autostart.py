"""Order of starts and stops, shares of time, and what the kernel's command line says."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from osctld import config
from osctld.commands.ct_set_autostart import CtSetAutostart
from osctld.commands.ct_unset_autostart import CtUnsetAutostart
from osctld.core.config.autostart import Autostart, is_autostart_off, share_of_time, start_order, stop_groups
from osctld.core.config.host import Container, Host
from osctld.core.config.life import IdMap
from osctld.core.config.settings import Settings
from osctld.core.errors import UsageError
from pure.surrounded import edited

AUTOSTARTS = st.none() | st.builds(Autostart, st.integers(0, 3), st.integers(0, 9))


def container(name: str, autostart: Autostart | None, *, is_wanted: bool = True) -> Container:
    return Container(
        name=name, uuid=f"uuid of {name}", user=None, id_map=IdMap(0), distribution="busybox", version="1",
        is_wanted=is_wanted, autostart=autostart,
    )  # fmt: skip


CONTAINERS = st.dictionaries(st.text("abc", min_size=1), st.tuples(AUTOSTARTS, st.booleans()), max_size=12).map(
    lambda all_of_them: [container(name, how, is_wanted=wanted) for name, (how, wanted) in all_of_them.items()]
)


@given(CONTAINERS)
def test_starts_follow_priorities_and_then_those_without_one(containers: list[Container]) -> None:
    order = start_order(containers)

    assert {each.name for each in order} == {each.name for each in containers if each.is_wanted}
    ranks = [each.autostart.priority if each.autostart is not None else 4 for each in order]
    assert ranks == sorted(ranks)


@given(CONTAINERS)
def test_stops_are_the_reverse_of_starts_and_leave_nobody_out(containers: list[Container]) -> None:
    groups = stop_groups(containers)

    assert sorted(name for group in groups for name in group) == sorted(each.name for each in containers)
    stopped = {name: number for number, group in enumerate(groups) for name in group}
    started = [stopped[each.name] for each in start_order(containers)]
    assert started == sorted(started, reverse=True)


@given(st.floats(0, 1000), st.lists(st.floats(0, 1), max_size=20))
def test_groups_that_take_their_whole_share_end_in_time_and_the_last_has_what_is_left(
    timeout: float, uses: list[float]
) -> None:
    left = timeout
    for number, use in enumerate(uses):
        share = share_of_time(left, groups=len(uses) - number)
        assert share >= timeout / len(uses) - 1e-6, "what others did not need is no loss"
        left -= share * use

    assert left >= -1e-6


@pytest.mark.parametrize(
    ("command_line", "is_off"),
    [
        ("BOOT_IMAGE=/vmlinuz root=/dev/vda quiet", False),
        ("quiet osctl.autostart=off ro", True),
        ("osctl.autostart=0", True),
        ("osctl.autostart=OFF", True),
        ("osctl.autostart=on", False),
        ("osctl.autostart", False),
        ("xosctl.autostart=off", False),
        ("osctl.autostart=off osctl.autostart=on", False),
        ("osctl.autostart=on osctl.autostart=off\n", True),
        ("", False),
    ],
)
def test_the_last_word_of_the_kernel_s_command_line_switches_autostart_off(command_line: str, is_off: bool) -> None:
    assert is_autostart_off(command_line) is is_off


@given(AUTOSTARTS)
def test_a_document_keeps_how_a_container_starts(autostart: Autostart | None) -> None:
    one = container("web", autostart)

    assert config.decode_container(config.encode_container(one)) == one
    assert (b"autostart" in config.encode_container(one)) is (autostart is not None)


def test_autostart_is_set_changed_and_unset() -> None:
    host = Host(uuid="0", settings=Settings()).with_container(container("web", None))

    usual = edited(CtSetAutostart(container="web"), host).host
    other = edited(CtSetAutostart(container="default:web", priority=0, delay=0), usual).host
    without = edited(CtUnsetAutostart(container="web"), other).host

    assert usual.container("web").autostart == Autostart(10, 5)
    assert other.container("web").autostart == Autostart(0, 0)
    assert without == host


@pytest.mark.parametrize(("priority", "delay"), [(-1, 0), (1_000_000_001, 0), (0, -1), (0, 86_401)])
def test_numbers_out_of_bounds_are_refused(priority: int, delay: int) -> None:
    host = Host(uuid="0", settings=Settings()).with_container(container("web", None))

    with pytest.raises(UsageError, match="invalid value for --"):
        edited(CtSetAutostart(container="web", priority=priority, delay=delay), host)
