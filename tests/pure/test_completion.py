"""What completion offers at each place of a command line."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from osctld.cli.catalogue import Group, catalogue
from osctld.cli.completion import FILES, REQUEST, Complete, complete
from osctld.cli.interpret import interpret
from osctld.cli.parse import Invocation, signature
from osctld.core.command import Argument, Command, EditCommand, LifeFacts, Observed, ShowOptions, Text
from osctld.core.config.host import Host
from osctld.core.config.settings import Settings
from pure.surrounded import edited

OBSERVED = Observed(lives={"myct01": LifeFacts("running", init_pid=1)}, daemon={"state_dir": "/var/lib/osctl"})


def configured() -> Host:
    host = Host(uuid="3f0d6a44-95b1-4b9e-8f4d-6f1c6a1d5f00", settings=Settings())
    for name in ("myct01", "web02"):
        host = host.with_new_container(name, user=None, distribution="busybox", version="stable")
    for line in (
        "ct netif new routed --via 10.100.10.100/30 --via fd00:1::/126 myct01 eth0",
        "ct netif new routed --via 10.100.10.104/30 myct01 eth1",
        "ct netif ip add myct01 eth0 1.2.3.4 2001:db8:2::4",
        "ct netif ip add myct01 eth1 198.51.100.7",
        "ct netif route add myct01 eth0 10.5.5.0/24",
        "ct netif source add myct01 eth0 198.51.100.128/25 2001:db8:64::/48",
    ):
        invocation = interpret(line.split())
        assert isinstance(invocation, Invocation)
        assert isinstance(invocation.command, EditCommand)
        host = edited(invocation.command, host).host
    return host


HOST = configured()


def offered(line: str) -> list[str]:
    """What is offered for the last word of a line; a blank at its end begins a new one."""
    return [each.word for each in complete(line.split(" "), HOST, OBSERVED)]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", ["help", *catalogue().children]),
        ("ct ne", ["netif", "new"]),
        ("ct start ", ["myct01", "web02"]),
        ("ct start w", ["web02"]),
        ("vps start w", ["web02"]),
        ("ct wait myct01 ", ["stopped", "starting", "running", "stopping"]),
        ("ct wait myct01 stopped st", ["starting", "stopping"]),
        ("ct netif del myct01 ", ["eth0", "eth1"]),
        ("ct netif del web02 ", []),
        ("ct netif ip del myct01 eth0 ", ["all", "1.2.3.4/32", "2001:db8:2::4/128"]),
        ("ct netif ip del myct01 eth1 ", ["all", "198.51.100.7/32"]),
        ("ct netif ip del myct01 eth0 2001:db8", ["2001:db8:2::4/128"]),
        ("ct netif ip del myct01 eth0 1.2.3.4/32 ", ["2001:db8:2::4/128"]),
        ("ct netif route del myct01 eth0 10", ["10.5.5.0/24"]),
        ("ct netif source del myct01 eth0 ", ["all", "198.51.100.128/25", "2001:db8:64::/48"]),
        ("ct netif source del myct01 eth1 1", []),
        ("-j --pool default ct netif ip del --no-keep-route -v 4 myct01 eth1 ", ["all", "198.51.100.7/32"]),
        ("ct netif ip del myct01 --keep-route eth1 1", ["198.51.100.7/32"]),
        ("ct netif ip del -v ", ["4", "6"]),
        ("ct netif ip del --version=", ["--version=4", "--version=6"]),
        ("ct ls -S st", ["stopped", "starting", "stopping"]),
        ("ct ls -S running,stopp", ["running,stopped", "running,stopping"]),
        ("ct ls -o id,mem", ["id,memory"]),
        ("ct ls -o +uu", ["+uuid"]),
        ("ct ls --output=-mem", ["--output=-memory"]),
        ("ct ls --pool ", ["default"]),
        ("ct netif ip add --rou", ["--route", "--route-as"]),
        ("ct netif ip add --no-r", ["--no-route"]),
        ("ct netif ip add --route-as 10.0.0.0/8 --route-a", []),
        ("--soc", ["--socket"]),
        ("ct --soc", []),
        ("ct start -- w", ["web02"]),
        ("ct start -- -", []),
        ("ct new --from-archive ", [FILES]),
        ("ct exec m", ["myct01"]),
        ("ct exec myct01 ls --", []),
        ("help ct net", ["netif"]),
        ("help ct netif ip add ", []),
    ],
)
def test_completion_offers_what_fits_at_the_place(line: str, words: list[str]) -> None:
    assert offered(line) == words


@pytest.mark.parametrize(
    "line", ["nosuch ", "ct nosuch ", "ct start --nosuch ", "ct netif del nosuch ", "ping ", "ct start myct01 "]
)
def test_completion_says_nothing_where_nothing_fits(line: str) -> None:
    assert offered(line) == []


def test_completion_says_what_a_word_means() -> None:
    command = Complete(typed=("ct", "start", ""))

    assert command.view(HOST, OBSERVED) == Text(("myct01\trunning", "web02\tstopped"))
    invocation = interpret([REQUEST, "ct", "start", ""])
    assert isinstance(invocation, Invocation)
    assert invocation.command == command


TYPED = ["ct", "ip", "netif", "del", "myct01", "eth0", "-o", "--", "-", "", "=", "a,", "--via", "--output="]


@given(st.lists(st.sampled_from(TYPED) | st.text()))
def test_no_words_whatever_make_completion_fail(typed: list[str]) -> None:
    for each in complete(typed, HOST, OBSERVED):
        assert each.word == FILES or each.word.startswith(typed[-1] if typed else "")
        assert "\n" not in str(each)


def commands(group: Group) -> list[type[Command]]:
    found: list[type[Command]] = []
    for child in group.children.values():
        found.extend(commands(child) if isinstance(child, Group) else [child])
    return found


@pytest.mark.parametrize("command", commands(catalogue()), ids=lambda each: "-".join(each.words))
def test_every_option_and_every_field_is_offered(command: type[Command]) -> None:
    words = " ".join(command.words)
    for each in signature(command).options:
        assert not isinstance(each.declaration, Argument)
        for name in each.declaration.names:
            assert name in offered(f"{words} {name}"), name
    if issubclass(command, ShowOptions):
        assert command.columns
        assert offered(f"{words} -o ") == [each.name for each in command.columns]
