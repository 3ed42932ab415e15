"""Who may ask for what."""

from __future__ import annotations

import typing

import pytest
from hypothesis import given
from hypothesis import strategies as some

from osctld.cli.completion import Complete
from osctld.commands.ct_exec import CtExec
from osctld.commands.ct_ls import CtLs
from osctld.commands.ct_start import CtStart
from osctld.core.access import Access, Role, check_may
from osctld.core.command import (
    ActCommand,
    Command,
    EditCommand,
    Look,
    LookCommand,
    ViewCommand,
    secret_fields,
    without_secrets,
)
from osctld.core.errors import Denied
from osctld.core.events import plain_fields
from osctld.protocol.catalogue import commands, requests
from osctld.protocol.families.ct import CtExecRequest

ALL: tuple[type[Command], ...] = (*commands().values(), *requests().values(), Complete)
GROUPS = some.frozensets(some.integers(1, 6), max_size=4)
A_GROUP = some.none() | some.integers(1, 6)


@given(some.integers(0, 9), GROUPS, A_GROUP, A_GROUP)
def test_root_and_the_group_do_everything_readers_look_and_nobody_else_comes_in(
    user: int, groups: frozenset[int], operators: int | None, readers: int | None
) -> None:
    role = Access(operators=operators, readers=readers, daemon_user=9).role(user=user, groups=groups)

    if user in (0, 9) or operators in groups:
        assert role is Role.OPERATOR
    elif readers in groups:
        assert role is Role.READER
    else:
        assert role is Role.NOBODY


def test_without_a_setting_no_group_comes_in() -> None:
    assert Access().role(user=1000, groups={0, 1000}) is Role.NOBODY
    assert (Access().mode, Access().group) == (0o600, None)


def test_the_sockets_file_is_as_narrow_as_one_group_or_two_can_be() -> None:
    assert (Access(operators=5).mode, Access(operators=5).group) == (0o660, 5)
    assert (Access(readers=6).mode, Access(readers=6).group) == (0o660, 6)
    assert (Access(operators=5, readers=5).mode, Access(operators=5, readers=5).group) == (0o660, 5)
    assert (Access(operators=5, readers=6).mode, Access(operators=5, readers=6).group) == (0o666, None)


def test_only_a_command_whose_kind_says_so_looks() -> None:
    for kind in ALL:
        assert kind.looks == issubclass(kind, ViewCommand | LookCommand), kind
        assert "looks" not in vars(kind), f"{kind} says it by itself"
    assert sum(kind.looks for kind in ALL) >= 25
    assert not any(kind.looks for kind in ALL if issubclass(kind, EditCommand))


def test_what_looks_gives_an_action_that_changes_nothing() -> None:
    looking = [kind for kind in ALL if issubclass(kind, LookCommand)]

    for kind in looking:
        assert typing.get_type_hints(kind.act)["return"] == Look, kind
    assert len(looking) >= 7


def test_a_reader_may_look_and_nothing_else() -> None:
    check_may(Role.READER, CtLs())
    check_may(Role.OPERATOR, CtStart(container="web"))

    with pytest.raises(Denied, match="permission denied: 'ct start'") as denied:
        check_may(Role.READER, CtStart(container="web"))
    assert (denied.value.exit_status, denied.value.code) == (77, "permission-denied")
    with pytest.raises(Denied):
        check_may(Role.NOBODY, CtLs())


# --- secrets ------------------------------------------------------------------------------------------------------


def test_what_runs_inside_is_secret_however_it_was_asked_for() -> None:
    ours = CtExec(container="web", command=("mysql", "-pSECRET"))
    originals = CtExecRequest(id="web", cmd=("mysql", "-pSECRET"))

    for command in (ours, originals):
        told = plain_fields(command, secret=secret_fields(type(command)))
        assert "SECRET" not in str(told)
        assert "web" in str(told)


def test_secret_words_are_left_out_of_a_command_line() -> None:
    words = ("ct", "exec", "web", "mysql", "-pSECRET")

    told = without_secrets(words, CtExec(container="web", command=("mysql", "-pSECRET")))

    assert told == ("ct", "exec", "web", "***", "***")
    assert without_secrets(("ct", "start", "web"), CtStart(container="web")) == ("ct", "start", "web")


def test_everything_that_runs_a_program_inside_keeps_its_words_secret() -> None:
    running = [kind for kind in ALL if issubclass(kind, ActCommand) and kind.words[-1] == "exec"]

    assert len(running) == 2
    for kind in running:
        assert secret_fields(kind)
