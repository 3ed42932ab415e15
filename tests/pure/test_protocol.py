"""Requests of programs: what they are read as, what they are answered, and what is published of that."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from json_schema import published, violations
from osctld import commands as package_of_commands
from osctld.cli.catalogue import find_commands
from osctld.commands.ct_netif_ip_add import CtNetifIpAdd
from osctld.commands.ct_netif_ls import CtNetifLs
from osctld.commands.ct_show import CtShow
from osctld.commands.ping import Ping
from osctld.core.command import Column, Command, GlobalOptions, Listing, ListOptions, Text, ViewCommand
from osctld.core.errors import Refused
from osctld.protocol.answers import Answer, answer
from osctld.protocol.catalogue import commands, requests
from osctld.protocol.families.ct import CtShow as OriginalCtShow
from osctld.protocol.families.history import HistoryList
from osctld.protocol.families.netif import NetifIpAdd, NetifSet
from osctld.protocol.reading import Asked, read
from osctld.protocol.schemas import schemas

PLAIN = GlobalOptions(json=True)

# --- reading ------------------------------------------------------------------------------------------------------


def test_every_command_can_be_asked_for_under_its_words() -> None:
    assert set(commands().values()) == set(find_commands(package_of_commands))
    assert commands()["ct_netif_ip_add"] is CtNetifIpAdd
    assert len(requests()) >= 25


def test_opts_are_the_fields_of_a_command() -> None:
    asked = read("ct_netif_ip_add", {"container": "web", "netif": "eth0", "addresses": ["1.2.3.4"], "route": False})

    assert asked == Asked(CtNetifIpAdd(container="web", netif="eth0", addresses=("1.2.3.4",), route=False), PLAIN)


def test_null_is_absent() -> None:
    asked = read("ct_netif_ls", {"container": None, "type": None, "pool": None, "dry_run": None, "cli": None})

    assert asked == Asked(CtNetifLs(), PLAIN)


def test_null_is_kept_where_it_means_something() -> None:
    assert read("netif_set", {"id": "web", "name": "eth0", "hwaddr": None, "via": None}).command == NetifSet(
        id="web", name="eth0", hwaddr=None
    )


def test_a_plan_is_asked_for_in_opts() -> None:
    opts = {"id": "web", "name": "eth0", "addr": "1.2.3.4", "route": True, "dry_run": True}

    assert read("netif_ip_add", opts) == Asked(
        NetifIpAdd(id="web", name="eth0", addr="1.2.3.4", route=True), GlobalOptions(json=True, dry_run=True)
    )


def test_a_name_of_both_is_the_originals_unless_the_keys_are_ours() -> None:
    assert isinstance(read("ct_show", {"id": "web"}).command, OriginalCtShow)
    assert isinstance(read("ct_show", {"container": "web"}).command, CtShow)
    assert isinstance(read("ct_show", {"id": None, "container": "web"}).command, CtShow)
    assert isinstance(read("ct_show", {"id": "web", "container": None}).command, OriginalCtShow)
    with pytest.raises(Refused, match=r"ct_show: Object missing required field `id`"):
        read("ct_show", {})


def test_the_pool_goes_with_a_command_of_ours() -> None:
    assert read("ct_show", {"container": "web", "pool": "tank"}).options.pool == "tank"


@pytest.mark.parametrize(
    ("cmd", "opts", "message", "code"),
    [
        ("nonsense", {}, "Unsupported command 'nonsense'", "unknown-command"),
        ("x" * 101, {}, f"Unsupported command '{'x' * 100}...'", "unknown-command"),
        (
            *("ct_netif_ls", {"containers": "web"}),
            *("ct_netif_ls: unknown key 'containers' in opts (expected container, type, link)", "bad-opts"),
        ),
        ("ct_netif_ls", {"output": ["name"]}, "ct_netif_ls: unknown key 'output' in opts", "bad-opts"),
        ("ping", {"container": "web"}, "ping: unknown key 'container' in opts (expected wait)", "bad-opts"),
        ("ct_netif_ls", {"container": 7}, "ct_netif_ls: container: Expected `str | null`, got `int`", "bad-opts"),
        ("ct_netif_ip_ls", {"version": 5}, "ct_netif_ip_ls: version: 5 is not one of 4, 6", "bad-opts"),
        ("netif_ip_add", {"id": "w", "name": "e", "addr": ["x"]}, "netif_ip_add: addr: Expected `str`", "bad-opts"),
        ("netif_list", {"dry_run": "yes"}, "netif_list: Expected `bool`, got `str`", "bad-opts"),
        ("netif_list", {"\ud800": 1}, r"netif_list: unknown key '\ud800' in opts", "bad-opts"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_key(cmd: str, opts: dict[str, Any], message: str, code: str) -> None:
    with pytest.raises(Refused) as refused:
        read(cmd, opts)

    assert refused.value.message.startswith(message)
    assert refused.value.code == code


# --- answers ------------------------------------------------------------------------------------------------------

ROWS = ({"a": 1}, {"a": 2})
ORIGINAL = NetifIpAdd(id="web", name="eth0", addr="1.2.3.4")
OURS = CtNetifIpAdd(container="web", netif="eth0", addresses=("1.2.3.4",))


@pytest.mark.parametrize(
    ("line", "cmd", "given"),
    [
        (
            "osctl ct netif ip add -q web eth0 1.2.3.4",
            "ct_netif_ip_add",
            {"container": "web", "netif": "eth0", "addresses": ("1.2.3.4",)},
        ),
        ("osctl ct sta 'web'", "ct_start", {"container": "web", "wait": 60}),
        ("osctl ct exec web passwd ***", "ct_exec", {"container": "web"}),
        ('netif_ip_add {"id":"web","name":"eth0"}', "netif_ip_add", {"id": "web", "name": "eth0"}),
        ('netif_ip_add ["web"]', "netif_ip_add", {}),
        ("osctl frob it", "osctl", {}),
        ("somebody's script", "somebody's", {}),
    ],
)
def test_the_history_names_what_was_asked_for_and_what_it_was_given(line: str, cmd: str, given: dict[str, Any]) -> None:
    rows = ({"epoch": 1795734538.5, "pool": "default", "command": line},)

    response = HistoryList().response(Listing(columns=(), shown=(), rows=rows))

    (row,) = response
    assert (row["time"], row["cmd"], row["opts"]["cli"], row["pool"]) == (1795734538, cmd, line, "default")
    told = {key: value for key, value in row["opts"].items() if value is not False and key not in ("cli", "route")}
    assert msgspec.json.decode(msgspec.json.encode(told)) == msgspec.json.decode(msgspec.json.encode(given))


@pytest.mark.parametrize(
    ("reply", "command", "expected"),
    [
        (Text(("done",), changed=True), OURS, Answer(["done"], True)),
        (Text(("done",), changed=True), ORIGINAL, Answer(None, True, progress=("done",))),
        (Text(), ORIGINAL, Answer(None, False)),
        (Text(("pong",)), Ping(), Answer(["pong"])),
        (Listing(columns=(), shown=(), rows=ROWS), CtNetifLs(), Answer([{"a": 1}, {"a": 2}])),
        (Listing(columns=(), shown=(), rows=ROWS[:1], is_record=True), CtNetifLs(), Answer({"a": 1})),
    ],
)
def test_replies_become_data_and_say_whether_anything_changed(
    reply: Text | Listing, command: Command, expected: Answer
) -> None:
    assert answer(reply, command, PLAIN) == expected


@pytest.mark.parametrize("command", [ORIGINAL, OURS])
def test_a_plan_is_a_list_of_lines(command: Command) -> None:
    said = answer(Text(("ip link", "ip addr")), command, GlobalOptions(dry_run=True))

    assert said.response == {"plan": ["ip link", "ip addr"]}
    assert not violations(said.response, published("plan"))


# --- schemas ------------------------------------------------------------------------------------------------------


def test_what_is_published_is_what_is_declared() -> None:
    for name, schema in schemas().items():
        assert published(name) == schema, f"{name}: run ./dev docs"


def test_every_command_that_lists_declares_its_columns() -> None:
    for name, command in commands().items():
        if issubclass(command, ViewCommand) and issubclass(command, ListOptions):
            assert command.columns, name
            assert len({each.name for each in command.columns}) == len(command.columns), name


def test_a_schema_tells_right_from_wrong() -> None:
    schema = published("osctl/ct_netif_ip_ls")
    row = {"pool": "default", "ctid": "web", "netif": "eth0", "version": 4, "addr": "1.2.3.4/32", "state": "routed"}

    assert not violations([row], schema)
    assert violations(row, schema) == [f"$: {row!r} is no array"]
    assert violations([{**row, "version": "4"}], schema) == ["$[0].version: '4' is no integer"]
    assert violations([{**row, "version": True}], schema) == ["$[0].version: True is no integer"]
    assert violations([{**row, "more": 1}], schema) == ["$[0].more: nothing is allowed here"]
    assert violations([{key: row[key] for key in row if key != "addr"}], schema) == ["$[0]: 'addr' is missing"]
    assert Column("x").type is str
