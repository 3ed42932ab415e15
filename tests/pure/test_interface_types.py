"""What types of interfaces declare: found by their files, and of one name one declaration for all."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec
import pytest

import osctld.netif
from osctld.core.command import Column, Flag, Option
from osctld.core.errors import Refused
from osctld.netif import link_options
from osctld.netif.interface_type import (
    InterfaceOptions,
    given_fields,
    interface_types,
    joined_columns,
    joined_fields,
    part_for,
    type_named,
)

TYPES = Path(__file__).parents[1] / "interface_types"


class One(InterfaceOptions, frozen=True, kw_only=True):
    mtu: link_options.Mtu = None
    speed: Annotated[str | None, Option(("-s", "--speed"), "N", "Speed")] = None


class Other(InterfaceOptions, frozen=True, kw_only=True):
    mtu: link_options.Mtu = None
    bridge: Annotated[str | None, Option(("--bridge",), "NAME", "Bridge")] = None


def test_options_of_one_name_are_there_once() -> None:
    assert [name for name, _, _ in joined_fields([One, Other])] == ["mtu", "speed", "bridge"]


def test_an_option_that_two_types_declare_in_different_ways_is_an_error() -> None:
    class Differs(InterfaceOptions, frozen=True, kw_only=True):
        mtu: Annotated[str | None, Option(("--mtu",), "N", "Something else")] = None

    class HasAnotherDefault(InterfaceOptions, frozen=True, kw_only=True):
        mtu: link_options.Mtu = "1500"

    for kind in (Differs, HasAnotherDefault):
        with pytest.raises(TypeError, match=rf"{kind.__name__}\.mtu is declared in another way"):
            joined_fields([One, kind])


def test_a_spelling_that_means_two_things_is_an_error() -> None:
    class Spells(InterfaceOptions, frozen=True, kw_only=True):
        silent: Annotated[bool, Flag(("-s", "--silent"), "Say nothing")] = False

    with pytest.raises(TypeError, match=r"Spells\.silent: -s means speed elsewhere"):
        joined_fields([One, Spells])


def test_of_all_that_was_given_each_type_gets_its_part() -> None:
    joined = msgspec.defstruct("Joined", joined_fields([One, Other]), kw_only=True, frozen=True)
    given = joined(mtu="1400", bridge="br0")

    assert part_for(Other, given) == Other(mtu="1400", bridge="br0")
    assert part_for(One, given) == One(mtu="1400")
    assert given_fields(given, One) == ["mtu"]
    assert given_fields(given, Other) == ["mtu", "bridge"]


# --- with a second type ---------------------------------------------------------------------------------------------


@pytest.fixture
def two_types(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The type of the tests beside those of the program, for as long as a test lasts."""
    monkeypatch.setattr(osctld.netif, "__path__", [*osctld.netif.__path__, str(TYPES)])
    interface_types.cache_clear()
    yield
    interface_types.cache_clear()
    sys.modules.pop("osctld.netif.dummy", None)


@pytest.mark.usefixtures("two_types")
def test_a_type_is_found_by_its_file() -> None:
    assert {"routed", "bridge", "dummy"} == set(interface_types())
    assert type_named("dummy").name == "dummy"
    with pytest.raises(Refused, match="'macvlan' is not supported, only 'routed', 'bridge', 'dummy'"):
        type_named("macvlan")


@pytest.mark.usefixtures("two_types")
def test_a_column_that_not_all_types_have_may_be_empty() -> None:
    columns = {each.name: each for each in joined_columns(lambda kind: (*kind.columns, *kind.details))}

    assert columns["hwaddr"] == link_options.HWADDR
    assert columns["reserved"].type == list[str] | None
    assert columns["addresses"].type == list[str] | None
    assert columns["via"].type == dict[str, str] | None


@pytest.mark.usefixtures("two_types")
def test_a_column_that_two_types_declare_in_different_ways_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(type_named("dummy")), "columns", (Column("mtu", "Something else"),))

    with pytest.raises(TypeError, match="the column mtu of dummy is declared in another way"):
        joined_columns(lambda kind: kind.columns)


@pytest.mark.usefixtures("two_types")
def test_a_type_by_another_name_than_its_file_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(type_named("dummy")), "name", "other")
    interface_types.cache_clear()

    with pytest.raises(TypeError, match=r"osctld\.netif\.dummy holds the type 'other'"):
        interface_types()
