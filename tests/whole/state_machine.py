"""Random sequences of commands on real containers: after each, the kernel and all listings are as they should be.

    python -m whole.state_machine [--seed 1] [--steps 10000] [--report FILE]

What should be is told by `told_again`, what is by `network_dump`, the lists and the store. hypothesis draws the
sequences and makes one that fails shorter, by leaving out what does not matter. Without HYPOTHESIS_PROFILE=ci it keeps
that in .cache, and the next run begins with it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from ipaddress import ip_address, ip_network
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any, ClassVar, Self, TypeAlias

import hypothesis
import hypothesis.strategies as st
from hypothesis.internal.conjecture import engine
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

import hypothesis_profiles  # noqa: F401 - the settings of all tests
from osctl.client import Client
from whole.faulty_daemon import FAULTY
from whole.host import Topology, wait_until
from whole.network_dump import Eye, differences_of, lines_of_iproute2
from whole.random_commands import ADDRESSES_4, ADDRESSES_6, NETWORKS_4, NETWORKS_6, Action, Commands
from whole.told_again import (
    ADDRESS_POOLS,
    ANNOUNCED,
    EDITS,
    METRIC,
    ROUTER,
    Address,
    Change,
    Container,
    Foreign,
    ForeignRule,
    Interface,
    Learned,
    Network,
    No,
    Step,
    World,
    filter_lines,
    foreign_line,
    guest_lines,
    host_lines,
    inside,
    overlap,
    routed_on_host,
)

#: Kind of command, what became of it, running or stopped.
Transition: TypeAlias = tuple[str, str, str]

CONTAINERS = ("a", "b", "c")
#: Steps from one empty host to the next: what a failure has to be found in.
EPISODE = 100
#: In one run of hypothesis. From the eleventh on it makes most of them of parts of those before: of 19,000 commands
#: 2,600 were drawn, and the others the same ones again.
SEQUENCES = 10
#: So often the other witness is asked, and all lists are.
ROUND = 50
#: So many routes of somebody else's there are at once; how long the daemon may take for its part, in seconds.
MOST_FOREIGN, SECONDS = 3, 2.0
#: Where a rule of somebody else's sends packets; the bridge of which links of ours are made ports.
OTHER_TABLE, BRIDGE = "100", "other0"
#: Of what is drawn for containers, networks that no next hop is in.
WITHOUT_GATEWAYS = ip_network("2001:db8:2:10::/60")
#: How long to look for a shorter sequence that still fails, at most.
SHRINK_SECONDS = 120

#: What is deleted may be given again at once: how long it rests is tested by itself.
_SETTINGS = "".join(
    f"[addresses.{name}]\nnetworks = {json.dumps(networks)}\nquiet_seconds = 0\n"
    for name, networks in ADDRESS_POOLS.items()
)

_TABLES = {
    "container": "SELECT name, document FROM container ORDER BY 1",
    "holding": "SELECT * FROM holding ORDER BY 1, 2, 3, 4, 5, 6",
    "history": "SELECT count(*), max(sequence) FROM history",
    "serial": "SELECT serial FROM host",
}


#: Nobody waits for duplicate address detection.
_NODAD = {"add": ("nodad",), "del": ()}


class Broken(AssertionError):
    """What is, is not what should be."""


class Answer:
    def __init__(self, response: dict[str, Any]) -> None:
        self.status, self.stdout, self.stderr = int(response["exit"]), response["stdout"], response["stderr"]

    def __str__(self) -> str:
        return f"status {self.status}\n{self.stdout}{self.stderr}".rstrip()


class Machine:
    """A host with containers, what they should be, and the eyes to see what they are. A context manager."""

    def __init__(self, order: Path) -> None:
        self.order = order
        self.host = Topology(program=(*FAULTY, str(order)), settings=_SETTINGS)
        self.world = World(CONTAINERS)
        self.covered: Counter[Transition] = Counter()
        self.done = 0
        self._eyes: dict[str, tuple[str, Eye]] = {}
        self._told: dict[str, tuple[object, tuple[list[str], list[str]]]] = {}
        self._client: Client | None = None
        self._database: sqlite3.Connection | None = None

    def __enter__(self) -> Self:
        self.host.__enter__()
        try:
            for name in CONTAINERS:
                self.host.new_container(name, start=False)
            self._eye = Eye(f"/run/netns/{self.host.H}")
            self.ask("ct", "netif", "new", "routed", CONTAINERS[0], "eth0")
            own = ip_network(self.data("ct", "netif", "show", CONTAINERS[0], "eth0")["via"]["6"])
            self.world.pools[6] = own.supernet(new_prefix=48)
            self.ask("ct", "netif", "del", CONTAINERS[0], "eth0")
            for version, router in ROUTER.items():
                self.host.ip(self.host.H, f"-{version}", "route", "add", "default", "via", router, "table", OTHER_TABLE)
            # With an address and an MTU of its own, so that it takes none of its ports.
            bridge = (BRIDGE, "address", "02:00:00:00:00:b0", "mtu", "1500", "up", "type", "bridge")
            self.host.ip(self.host.H, "link", "add", *bridge, check=False)
            self._bare = self._eye.lines()
            self._has_bridge = any(line.startswith(f"link {BRIDGE} ") for line in self._bare)
        except BaseException:
            self.host.destroy()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._eye.close()
        for name in CONTAINERS:
            self._close_eye(name)
        self._forget_daemon()
        self.host.__exit__(kind, error, traceback)

    # --- asking --------------------------------------------------------------------------------------------------

    def ask(self, *argv: str) -> Answer:
        """A command over a connection that stays open. Raises ConnectionError when the daemon goes away."""
        if self._client is None:
            self._client = Client.connect(str(self.host.socket))
        return Answer(self._client.call("cli", argv=list(argv)))

    def data(self, *argv: str) -> Any:
        answer = self.ask("-j", *argv)
        if answer.status != 0:
            raise Broken(f"osctl {' '.join(argv)}: {answer}")
        return json.loads(answer.stdout)

    def _forget_daemon(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None
        if self._database is not None:
            self._database.close()
            self._database = None

    def stored(self) -> dict[str, list[tuple[Any, ...]]]:
        if self._database is None:
            self._database = sqlite3.connect(f"file:{self.host.state_dir}/osctl.sqlite?mode=ro", uri=True)
        return {name: self._database.execute(query).fetchall() for name, query in _TABLES.items()}

    # --- acting --------------------------------------------------------------------------------------------------

    def perform(self, action: Action) -> None:
        """Do it, and look whether everything is as it should be. Raises Broken."""
        stored = self.stored()
        outcome = self._perform(action)
        if outcome != "done" and self.stored() != stored:
            raise Broken(f"{outcome}, and yet the store has changed")
        self.check(whole=self.done % ROUND == 0)
        self.check_shown(action)
        self.done += 1
        container = self.world.containers.get(action.step.words[0]) if action.step else None
        state = "running" if container and container.is_running else "stopped"
        self.covered[(action.step.verb if action.step else action.kind, outcome, state)] += 1

    def _perform(self, action: Action) -> str:
        """What became of it: done, refused, dry-run, not done (for another reason)."""
        step = action.step
        if step is None:
            return self._around(action)
        if step.verb not in EDITS:
            return self._live(step)
        try:
            changes = self.world.edited(step)
        except No as no:
            dry = ["--dry-run"] if action.kind == "dry" else []
            answer = self.ask(*dry, *step.argv)
            _demand_refusal(answer, f"should be refused: {no}")
            return "dry-run refused" if dry else "refused"
        container, is_live = changes[0].container, any(each.container.is_running for each in changes)
        match action.kind:
            case "dry":
                answer = self.ask("--dry-run", *step.argv)
                if (
                    answer.status != 0
                    or answer.stderr
                    or not answer.stdout.startswith(("ip ", "#", "nsenter", "nft", "sysctl"))
                ):
                    raise Broken(f"a dry run that failed: {answer}")
                return "dry-run"
            case "refuse" | "die" if self.world.has_places_taken:
                # As long as that is so the daemon tries now and then, and the order might be carried out there.
                return self._demand_done(self.ask(*step.argv), changes)
            case "refuse" if is_live:
                self.order.write_text(f"refuse {action.number}")
                answer = self.ask(*step.argv)
                if not self.order.exists():
                    _demand_refusal(answer, "the kernel refused it")
                    return "refused by the kernel"
                self.order.unlink()
                return self._demand_done(answer, changes)
            case "die" if is_live:
                return self._die(action, changes)
            case "in the way" if container.is_running and len(changes) == 1:
                return self._in_the_way(step, changes)
            case _:
                return self._demand_done(self.ask(*step.argv), changes)

    def _demand_done(self, answer: Answer, changes: Sequence[Change]) -> str:
        if answer.status != 0 or answer.stderr:
            raise Broken(f"should be done: {answer}")
        for each in changes:
            self._change(each)
        return "done"

    def _change(self, change: Change) -> None:
        container, interfaces = change.container, change.interfaces
        old = {each.number: each for each in container.interfaces}
        container.interfaces, container.aside = interfaces, change.aside
        learned, container.learned = container.learned, {}
        for each in interfaces:
            known = learned.get(each.number)
            if known is None or old[each.number].hwaddr != each.hwaddr:
                shown = self.data("ct", "netif", "show", container.name, each.name)
                mac, default = shown["hwaddr"], known.default_mac if known else ""
                if each.hwaddr is None and default not in ("", mac):
                    raise Broken(f"{mac} is not {default}, which was chosen at first")
                if each.hwaddr is not None and not re.fullmatch(each.hwaddr.replace("x", "[0-9a-f]"), mac):
                    raise Broken(f"{mac} is not as {each.hwaddr}")
                default = mac if each.hwaddr is None else default
                known = Learned(shown["host_link"], mac, default, known.host_mac if known else None)
            container.learned[each.number] = known

    def _live(self, step: Step) -> str:
        name = step.words[0]
        if step.verb != "ct start":
            self._close_eye(name)
        answer = self.ask(*step.argv)
        if name not in self.world.containers:
            _demand_refusal(answer, "there is no such container")
            return "refused"
        if answer.status != 0:
            raise Broken(f"should be done: {answer}")
        container = self.world.containers[name]
        container.is_running = step.verb != "ct stop"
        return "done"

    def _die(self, action: Action, changes: Sequence[Change]) -> str:
        assert action.step is not None
        self.order.write_text(f"die {action.number}")
        try:
            answer = self.ask(*action.step.argv)
        except ConnectionError:
            self._forget_daemon()
            self.host.bury_daemon()
            self.host.start_daemon()
            # Nobody was told that it was done: the old configuration counts.
            return "daemon died"
        if not self.order.exists():
            raise Broken(f"the daemon should have died: {answer}")
        self.order.unlink()
        return self._demand_done(answer, changes)

    def _in_the_way(self, step: Step, changes: Sequence[Change]) -> str:
        """A route of somebody else where the first of the new routes has to be."""
        ((container, interfaces),) = ((each.container, each.interfaces) for each in changes)
        before = {route.network for each in container.interfaces for route in each.routes}
        added = [route.network for each in interfaces for route in each.routes if route.network not in before]
        if not added:
            return self._demand_done(self.ask(*step.argv), changes)
        network = added[-1]
        words = [str(network), "dev", "lo", "proto", "static", *(["metric", "8"] if network.version == 6 else [])]
        self.host.ip(self.host.H, f"-{network.version}", "route", "add", *words)
        try:
            answer = self.ask(*step.argv)
        finally:
            self.host.ip(self.host.H, f"-{network.version}", "route", "del", *words)
        _demand_refusal(answer, f"somebody else's route to {network} is in the way")
        return "refused by the kernel"

    def _around(self, action: Action) -> str:
        match action.kind:
            case "kill daemon":
                self._forget_daemon()
                self.host.kill_daemon()
            case "restart daemon":
                self.stop_daemon()
            case "host address":
                self._toggle_host_address(action.number)
                return action.kind
            case "foreign route":
                return self._toggle_foreign_route(Random(action.number))
            case "foreign rule":
                return self._toggle_foreign_rule(Random(action.number))
            case "foreign master":
                return self._make_port(action.number)
            case _:
                self._forget_daemon()
                self.host.kill_daemon()
                self._break_by_hand(action.number)
        self.host.start_daemon()
        return action.kind

    def stop_daemon(self) -> None:
        self._forget_daemon()
        self.host.stop_daemon()

    def _toggle_host_address(self, number: int) -> None:
        """Give the host an address that nobody holds, or take it away again."""
        addresses = [ip_address(each) for each in (*ADDRESSES_4, *ADDRESSES_6)]
        address = addresses[number % len(addresses)]
        if len(self.world.host_addresses) >= 3:
            address = min(self.world.host_addresses, key=str)
        verb = "del" if address in self.world.host_addresses else "add"
        if verb == "add" and any(address in each for each in self.world.holdings):
            return
        self._set_host_address(verb, address)

    def _set_host_address(self, verb: str, address: Address) -> None:
        before = Counter(self._eye.lines())
        self.host.ip(self.host.H, "addr", verb, f"{address}/{address.max_prefixlen}", "dev", "up0", *_NODAD[verb])
        self.world.host_addresses ^= {address}
        # What it brings on the host is no matter of ours.
        after = Counter(self._eye.lines())
        self._bare = sorted((Counter(self._bare) + (after - before) - (before - after)).elements())

    # --- what somebody else does -----------------------------------------------------------------------------------

    def _toggle_foreign_route(self, random: Random) -> str:
        """Put a route of somebody else's where one of ours is, or may be, or take one away; wait for the daemon."""
        there = sorted(self.world.foreign, key=str)
        if there and (len(there) >= MOST_FOREIGN or random.random() < 0.4):
            self._remove_foreign_route(self.world.foreign[random.choice(there)])
            return "foreign route gone"
        each = self._draw_foreign_route(random)
        if (each.network, each.metric) in self.world.foreign:
            return "nothing done"
        self.world.foreign[each.network, each.metric] = each
        self.host.ip(self.host.H, "route", "replace", *_words(each))
        self._settle()
        yielded = any(
            each.network in self.world.yielded(one.interfaces, one.aside)
            for one in self.world.containers.values()
            if one.is_running
        )
        return f"{each.kind} route" + (" that ours yields to" if yielded else "")

    def _draw_foreign_route(self, random: Random) -> Foreign:
        ours = {
            network
            for container in self.world.containers.values()
            for one in container.interfaces
            for network in routed_on_host(one, frozenset())
        }
        others = map(ip_network, (*NETWORKS_4, *NETWORKS_6))
        network: Network = random.choice(sorted(ours if ours and random.random() < 0.8 else others, key=str))
        kinds: tuple[str, ...] = ("blackhole", "unreachable", "prohibit")
        # Where the way to a gateway of ours would lead elsewhere, the kernel takes no IPv6 route by it.
        if network.version == 4 or inside(network, WITHOUT_GATEWAYS):
            kinds = (*kinds, "unicast", "unicast", "unicast")
        kind = random.choice(kinds)
        # Another metric than ours loses against it, or wins, in the kernel; IPv6 gives 1024 to who says none.
        metrics = (METRIC[network.version],) * 2 + ((50,) if network.version == 4 else (1024, 1))
        return Foreign(network, kind, random.choice(metrics))

    def _remove_foreign_route(self, each: Foreign) -> None:
        del self.world.foreign[each.network, each.metric]
        self.host.ip(self.host.H, "route", "del", *_words(each))
        self._settle()

    def _toggle_foreign_rule(self, random: Random) -> str:
        """A rule that sends packets for one of our networks, or near one, elsewhere; or take it away."""
        if self.world.rule is not None:
            self._set_foreign_rule(None)
            return "foreign rule gone"
        network = self._draw_foreign_route(random).network
        self._set_foreign_rule(ForeignRule(network, is_host_s=random.random() < 0.5))
        self._check_told_astray()
        return "foreign rule"

    def _set_foreign_rule(self, rule: ForeignRule | None) -> None:
        each = rule or self.world.rule
        assert each is not None
        words = [*(("iif", "lo") if each.is_host_s else ()), "to", str(each.network), "lookup", OTHER_TABLE]
        verb = "add" if rule is not None else "del"
        self.host.ip(self.host.H, f"-{each.network.version}", "rule", verb, "pref", "100", *words)
        self.world.rule = rule
        self._settle()

    def _make_port(self, number: int) -> str:
        """A link of ours is put into a bridge: it is nobody's port, and taken out again."""
        links = sorted(
            link for each in self.world.containers.values() if each.is_running for link in each.interfaces_by_link
        )
        if not links or not self._has_bridge:
            return "nothing done"
        link = links[number % len(links)]
        self.host.ip(self.host.H, "link", "set", link, "master", BRIDGE)
        self._wait(lambda: "master" not in self.host.ip_json(self.host.H, "link", "show", link)[0], f"{link} is free")
        self._settle()
        return "foreign master"

    def _settle(self) -> None:
        """Wait until the daemon has done what somebody else's doing asks for. Raises Broken."""
        self._wait(lambda: self._host_differences() == [], "the host is as it should be")
        self._wait(lambda: self._blocked_differences() == [], "what yields is told")
        self._wait(lambda: self._hidden_differences() == [], "what rules hide from the packet filter is in its sets")

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        try:
            wait_until(condition, what, seconds=SECONDS)
        except AssertionError as error:
            lines = [*self._host_differences(), *self._blocked_differences(), *self._hidden_differences()]
            raise Broken("\n".join([str(error), *lines])) from None

    def _host_differences(self) -> list[str]:
        return differences_of(self._expected_on_host(), self._eye.lines())

    def _expected_on_host(self) -> list[str]:
        ours = [line for each in self._running for line in self._expected(each)[0]]
        return sorted([*self._bare, *map(foreign_line, self.world.foreign.values()), *ours])

    @property
    def _running(self) -> list[Container]:
        return [each for each in self.world.containers.values() if each.is_running]

    def _blocked_differences(self) -> list[str]:
        """What is told to yield, and should be; each network with its container and interface."""
        expected, found = [], []
        for container in self.world.containers.values():
            for each in container.interfaces:
                name = f"{container.name} {each.name}"
                expected += [f"{name} {network}" for network in self._yielded_of(container, each)]
                shown = self.data("ct", "netif", "show", container.name, each.name)["blocked"]
                found += [f"{name} {network}" for network in shown]
        return differences_of(expected, found)

    def _yielded_of(self, container: Container, interface: Interface) -> list[str]:
        if not container.is_running:
            return []
        yielded = self.world.yielded(container.interfaces, container.aside)
        return sorted(str(each) for each in routed_on_host(interface, container.aside) if each in yielded)

    def _hidden_differences(self) -> list[str]:
        """Of sources that a rule hides from the packet filter's look-up, what its sets lack; and what they have of
        containers that no rule hides anything of."""
        there: dict[str, list[Network]] = {}
        for line in self._filter_elements("routed4", "routed6"):
            _, link, network = line.split()
            there.setdefault(link, []).append(ip_network(network))
        problems = []
        for container in self._running:
            held = {each.network for one in container.interfaces for each in one.holdings() if each.kind != "address"}
            held -= container.aside
            rule = self.world.rule
            hidden = {each for each in held if rule is not None and overlap(each, rule.network)}
            yielded = self.world.yielded(container.interfaces, container.aside)
            for link in container.interfaces_by_link:
                has = there.pop(link, [])
                lacks = [each for each in hidden - yielded if not any(inside(each, one) for one in has)]
                problems += [f"- {link} {each}" for each in lacks]
                surplus = has if not hidden else [each for each in has if not any(inside(each, one) for one in held)]
                problems += [f"+ {link} {each}" for each in surplus]
        return [*problems, *(f"+ {link} {each}" for link, those in there.items() for each in those)]

    def _check_told_astray(self) -> None:
        """Whether `self check` names who is not reached because of a rule, and nobody else."""
        rule = self.world.rule
        assert rule is not None
        answer = self.ask("-j", "self", "check")
        found = set()
        for each in json.loads(answer.stdout):
            told = re.search(r" of (\S+) of (\S+): packets .* follow rule 100: ", each["what"])
            if each["code"] == "astray" and told:
                found.add((told[2], told[1]))
        expected = set()
        for container in self._running:
            yielded = self.world.yielded(container.interfaces, container.aside) | container.aside
            for one in container.interfaces:
                held = {each.network for each in one.holdings() if each.kind != "address"} - yielded
                if any(overlap(each, rule.network) for each in held):
                    expected.add((container.name, one.name))
        if found != expected:
            raise Broken(f"self check, of {rule}:\n- {expected}\n+ {found}")

    def _break_by_hand(self, number: int) -> None:
        """Take one of our routes or addresses on the host away, or a link down."""
        links = [
            each.learned[one.number].link
            for each in self.world.containers.values()
            if each.is_running
            for one in each.interfaces
        ]
        if not links:
            return
        link = links[number % len(links)]
        words = (
            ("link", "set", link, "down"),
            ("addr", "flush", "dev", link),
            ("route", "flush", "dev", link, "proto", str(ANNOUNCED)),
            ("-6", "route", "flush", "dev", link, "proto", str(ANNOUNCED)),
            ("neigh", "flush", "dev", link, "nud", "permanent"),
        )
        self.host.ip(self.host.H, *words[number // 7 % len(words)])

    # --- looking -------------------------------------------------------------------------------------------------

    def check(self, *, whole: bool = False) -> None:
        """Whether host and guests hold what they should, and nothing else. Raises Broken."""
        found = self._eye.lines()
        self._learn(found)
        running, expected = self._running, self._expected_on_host()
        if found != expected:
            raise Broken("\n".join(["the host's network:", *differences_of(expected, found)]))
        for each in running:
            self._check_guest(each, whole=whole)
        if whole:
            path = f"/run/netns/{self.host.H}"
            if (other := lines_of_iproute2(path)) != found:
                raise Broken("\n".join(["two witnesses disagree on the host:", *differences_of(other, found)]))
            self._check_lists()
            self._check_filter(running)

    def _check_filter(self, running: Sequence[Container]) -> None:
        expected = sorted(line for each in running for line in filter_lines(each))
        found = sorted(self._filter_elements("siblings", "private4", "private6", "sources4", "sources6"))
        if found != expected:
            raise Broken("\n".join(["the packet filter:", *differences_of(expected, found)]))
        if hidden := self._hidden_differences():
            raise Broken("\n".join(["the packet filter's sets of what rules hide:", *hidden]))

    def _filter_elements(self, *sets: str) -> Iterator[str]:
        said = self.host.in_namespace(self.host.H, "nft", "-j", "list", "table", "inet", "osctl").stdout
        for item in json.loads(said)["nftables"]:
            name, _, link = item.get("set", {}).get("name", "").partition("_")
            if name in sets:
                begin = f"{name} {link} " if link else f"{name} "
                yield from (begin + _element(each) for each in item["set"].get("elem", ()))

    def _check_guest(self, container: Container, *, whole: bool) -> None:
        path, eye = self._eye_of(container.name)
        found = eye.lines()
        if whole and (other := lines_of_iproute2(path)) != found:
            raise Broken("\n".join([f"two witnesses disagree on {container.name}:", *differences_of(other, found)]))
        expected = self._expected(container)[1]
        if found != expected:
            raise Broken("\n".join([f"the network of {container.name}:", *differences_of(expected, found)]))

    def _learn(self, lines: Sequence[str]) -> None:
        """The host's hardware address of a link, when it is seen for the first time."""
        for container in self.world.containers.values():
            for each in container.learned.values():
                if each.host_mac is None and container.is_running:
                    for line in lines:
                        if line.startswith(f"link {each.link} "):
                            each.host_mac = line.split()[2]

    def _expected(self, container: Container) -> tuple[list[str], list[str]]:
        """What host and guest shall hold. Told anew only when it is about something else: most commands are refused."""
        links = [(each, container.learned[each.number].host_mac) for each in container.interfaces]
        yielded = self.world.yielded(container.interfaces, container.aside)
        about = links, container.aside, yielded
        about_before, lines = self._told.get(container.name, (None, ([], [])))
        if about != about_before:
            lines = sorted(host_lines(container, yielded)), sorted(guest_lines(container))
            self._told[container.name] = about, lines
        return lines

    def _eye_of(self, name: str) -> tuple[str, Eye]:
        """The file of a guest's network namespace, and an eye that stays open as long as the guest lives."""
        if name not in self._eyes:
            path = f"/proc/{self.data('ct', 'show', name)['init_pid']}/ns/net"
            self._eyes[name] = path, Eye(path)
        return self._eyes[name]

    def _close_eye(self, name: str) -> None:
        """Before the guest ends: else its namespace would stay, and the host's ends of its links with it."""
        if name in self._eyes:
            self._eyes.pop(name)[1].close()

    def check_shown(self, action: Action) -> None:
        """What osctl says of the interface that the command was about."""
        if action.step is None or len(action.step.words) < 2:
            return
        container = self.world.containers.get(action.step.words[0])
        for each in container.interfaces if container else ():
            if each.name == action.step.words[1]:
                assert container is not None
                shown = self.data("ct", "netif", "show", container.name, each.name)
                expected = {**_shown(container, each), "blocked": self._yielded_of(container, each)}
                shown["blocked"] = sorted(shown["blocked"])
                found = {key: shown[key] for key in expected}
                if found != expected:
                    raise Broken(f"ct netif show {container.name} {each.name}:\n- {expected}\n+ {found}")

    def _check_lists(self) -> None:
        addresses, routes, sources, interfaces = [], [], [], []
        for container in self.world.containers.values():
            for each in container.interfaces:
                interfaces.append((container.name, each.name))
                for version in (4, 6):
                    addresses += [
                        (container.name, each.name, str(one)) for one in each.addresses if one.version == version
                    ]
                    sources += [(container.name, each.name, str(one)) for one in each.sources if one.version == version]
                    routes += [
                        (
                            container.name,
                            each.name,
                            str(one.network),
                            one.is_automatic,
                            one.next_hop and str(one.next_hop),
                        )
                        for one in each.routes
                        if one.network.version == version
                    ]
        for what, expected, found in (
            ("netif ls", interfaces, [(row["ctid"], row["name"]) for row in self.data("ct", "netif", "ls")]),
            (
                "netif ip ls",
                addresses,
                [(row["ctid"], row["netif"], row["addr"]) for row in self.data("ct", "netif", "ip", "ls")],
            ),
            (
                "netif source ls",
                sources,
                [(row["ctid"], row["netif"], row["addr"]) for row in self.data("ct", "netif", "source", "ls")],
            ),
            (
                "netif route ls",
                routes,
                [
                    (row["ctid"], row["netif"], row["addr"], row["origin"] == "automatic", row["via"])
                    for row in self.data("ct", "netif", "route", "ls")
                ],
            ),
        ):
            if expected != found:
                raise Broken(f"{what}:\n- {expected}\n+ {found}")
        states = {row["id"]: row["state"] for row in self.data("ct", "ls")}
        wanted = {name: "running" if each.is_running else "stopped" for name, each in self.world.containers.items()}
        if states != wanted:
            raise Broken(f"ct ls:\n- {wanted}\n+ {states}")

    def empty(self) -> None:
        """Delete all interfaces, whatever is believed of them: the host has to be as bare as it was. Raises Broken."""
        self.order.unlink(missing_ok=True)
        for row in self.data("ct", "netif", "ls"):
            if (answer := self.ask("ct", "netif", "del", row["ctid"], row["name"])).status != 0:
                raise Broken(f"ct netif del {row['ctid']} {row['name']}: {answer}")
        for address in sorted(self.world.host_addresses, key=str):
            self._set_host_address("del", address)
        for each in list(self.world.foreign.values()):
            self.host.ip(self.host.H, "route", "del", *_words(each))
        if self.world.rule is not None:
            self.host.ip(self.host.H, f"-{self.world.rule.network.version}", "rule", "del", "pref", "100")
        pools, self.world = self.world.pools, World(CONTAINERS)
        self.world.pools = pools
        for row in self.data("ct", "ls"):
            self.world.containers[row["id"]].is_running = row["state"] == "running"
        self.check(whole=True)


def _words(each: Foreign) -> list[str]:
    """A route of somebody else's, as ip-route(8) takes it."""
    way = [] if each.drops else ["via", ROUTER[each.network.version], "dev", "up0"]
    return [*([each.kind] if each.drops else []), str(each.network), *way, "proto", "bgp", "metric", str(each.metric)]


def _element(element: dict[str, Any] | str) -> str:
    """One element of a set, as its key alone."""
    if isinstance(element, str):
        return f"{element}/{128 if ':' in element else 32}"
    if "elem" in element:
        return _element(element["elem"]["val"])
    if "concat" in element:
        link, other = element["concat"]
        return f"{link} {other if isinstance(other, str) and other.startswith('os') else _element(other)}"
    return f"{element['prefix']['addr']}/{element['prefix']['len']}"


def _shown(container: Container, each: Interface) -> dict[str, Any]:
    learned = container.learned[each.number]
    versions = [version for version in (4, 6) if version in each.vias]
    return {
        "name": each.name,
        "index": container.interfaces.index(each),
        "host_link": learned.link,
        "hwaddr": learned.mac,
        "veth": learned.link if container.is_running else None,
        "host_addr": {str(one): f"{each.vias[one].host}/{each.vias[one].length}" for one in versions},
        "ct_addr": {str(one): f"{each.vias[one].container}/{each.vias[one].length}" for one in versions},
        "source": {str(one): str(each.source(one)) for one in versions},
        "addresses": [str(one) for one in each.addresses],
        "routes": [str(one.network) for one in each.routes],
        "sources": [str(one) for one in each.sources],
        "via": {str(one): str(each.vias[one].network) for one in versions},
        "public": [one for one in versions if each.vias[one].is_public],
        "mtu": each.mtu,
        "guest": each.guest,
    }


def _demand_refusal(answer: Answer, why: str) -> None:
    if answer.status not in (1, 64) or answer.stdout or not re.fullmatch(r"error: [^\n]+\n", answer.stderr):
        raise Broken(f"{why}; but: {answer}")
    if "internal error" in answer.stderr:
        raise Broken(f"{why}; but: {answer}")


# --- runs --------------------------------------------------------------------------------------------------------


class Kept:
    """One host for all sequences, since making one takes a second. A context manager."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="osct-order-")
        self._machine: Machine | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if self._machine is not None:
                self._machine.__exit__(kind, error, traceback)
        finally:
            self._directory.cleanup()

    @property
    def machine(self) -> Machine:
        if self._machine is None:
            self._machine = Machine(Path(self._directory.name) / "order").__enter__()
        return self._machine

    def discard(self) -> None:
        """What is on the host is not known, and of no interest: the next sequence gets a new one."""
        if self._machine is not None:
            self._machine.host.expects_traceback = True
            self._machine.__exit__(None, None, None)
            self._machine = None


@st.composite
def actions(draw: st.DrawFn) -> Action | None:
    """One action that fits to what there is when it is drawn; or none, which is what hypothesis tries for each.

    All chance of one command is one choice of hypothesis. With a choice for each of its thirty draws the weights of
    `Commands` would not hold, since rare values are preferred, and sequences would not be made shorter: in 600 attempts
    80 commands became 79, and with one choice 4 in 120. What is lost is that words of a command are left out, too.
    """
    seed = draw(st.integers(0, 2**32 - 1))
    return Commands(Random(seed)).next(draw(st.runner()).machine.world) if seed else None


class RandomSequence(RuleBasedStateMachine):
    """A sequence of commands that begins on an empty host.

    There is one rule: hypothesis would give each of several the same share.
    """

    kept: ClassVar[Kept]

    def __init__(self) -> None:
        super().__init__()
        self.machine = self.kept.machine
        self._performed: list[Action] = []
        self._is_sound = True

    @initialize(stopped=st.none() | st.sampled_from(CONTAINERS))
    def begin(self, stopped: str | None) -> None:
        """All containers run but one at most. They run on from one sequence to the next, since a start takes long."""
        for container in self.machine.world.containers.values():
            is_running = container.name != stopped
            if is_running:
                self._performed.append(Action("do", Step("ct start", (), (container.name,))))
            if container.is_running != is_running:
                verb, options = ("ct start", ()) if is_running else ("ct stop", (("-k", None),))
                self._perform(Action("do", Step(verb, options, (container.name,))))

    @rule(action=actions())
    def command(self, action: Action | None) -> None:
        if action is not None:
            self._performed.append(action)
            self._perform(action)

    def _perform(self, action: Action) -> None:
        # Until it is over, so that an interrupted one does not count as sound either.
        self._is_sound = False
        with self._told():
            self.machine.perform(action)
        self._is_sound = True

    def teardown(self) -> None:
        try:
            with self._told():
                self.machine.empty()
        except Exception:
            self.kept.discard()
            if self._is_sound:
                raise

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """With what is broken, tell how it came to it: also when it cannot be brought about a second time."""
        try:
            yield
        except Exception as error:
            commands = "\n".join(map(str, self._performed))
            error.add_note(f"\nafter:\n{commands}\n\nosctld's log ends:\n{self.machine.host.log_text()[-2000:]}")
            raise


SETTINGS = hypothesis.settings(
    max_examples=SEQUENCES,
    stateful_step_count=EPISODE,
    # To shorten takes all the time there is: none for a second defect, or to explain the first one.
    report_multiple_bugs=False,
    phases=(hypothesis.Phase.reuse, hypothesis.Phase.generate, hypothesis.Phase.shrink),
    print_blob=True,
    suppress_health_check=list(hypothesis.HealthCheck),
)


def run(steps: int, seed: int | None = None, *, settings: hypothesis.settings = SETTINGS) -> Counter[Transition]:
    """Perform so many random steps, or some more. Raises what is broken, after the fewest steps that lead to it."""
    # hypothesis means this to be changed by those who need to; it says "five minutes" all the same when it stops.
    engine.MAX_SHRINKING_SECONDS = SHRINK_SECONDS
    with Kept() as RandomSequence.kept:
        covered = RandomSequence.kept.machine.covered
        runs = 0
        while covered.total() < steps:
            hypothesis.seed(None if seed is None else f"{seed}/{runs}")(RandomSequence)
            run_state_machine_as_test(RandomSequence, settings=settings)
            runs += 1
        return covered


def main() -> int:
    # As an interrupt, so that the host is taken away.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--report", type=Path)
    arguments = parser.parse_args()
    began = time.monotonic()
    covered = run(arguments.steps, arguments.seed)
    seconds = time.monotonic() - began
    if arguments.report:
        rows = [[*key, count] for key, count in sorted(covered.items())]
        arguments.report.write_text(json.dumps({"seconds": seconds, "covered": rows}))
    else:
        for key, count in sorted(covered.items()):
            print(f"{count:6} {' / '.join(key)}")
        print(f"{sum(covered.values())} steps in {seconds:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
