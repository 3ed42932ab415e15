"""Random sequences of commands on real containers: after each, the kernel and all listings are as they should be.

    python -m whole.state_machine --seed 1 --steps 10000 [--report FILE] [--replay FILE]

What should be is told by `told_again`, what is by `network_dump`, the lists and the store. A sequence that fails is
made shorter by leaving out whatever does not matter, and printed so that it can be replayed.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import re
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from ipaddress import ip_network
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from osctl.client import Client
from whole.host import Topology
from whole.network_dump import Eye, differences_of, lines_of_iproute2
from whole.random_commands import Action, Commands
from whole.told_again import (
    ANNOUNCED,
    EDITS,
    Container,
    Interface,
    Learned,
    No,
    Step,
    World,
    filter_lines,
    guest_lines,
    host_lines,
)

CONTAINERS = ("a", "b", "c")
#: Steps from one empty host to the next: what a failure has to be found in.
EPISODE = 300
#: So often the other witness is asked, and all lists are.
ROUND = 50
#: How long to look for a shorter sequence that still fails.
SHRINK_SECONDS = 60.0

FAULTY = str(Path(__file__).with_name("faulty_daemon.py"))

_TABLES = {
    "container": "SELECT name, document FROM container ORDER BY 1",
    "holding": "SELECT * FROM holding ORDER BY 1, 2, 3, 4, 5, 6",
    "history": "SELECT count(*), max(sequence) FROM history",
    "serial": "SELECT serial FROM host",
}


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
        self.host = Topology(program=(sys.executable, FAULTY, str(order)))
        self.world = World(CONTAINERS)
        self.covered: Counter[tuple[str, str, str]] = Counter()
        self.done = 0
        self._pids: dict[str, int] = {}
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
            self._bare = self._eye.lines()
        except BaseException:
            self.host.destroy()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._eye.close()
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
        self._check_shown(action)
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
            container, interfaces = self.world.edited(step)
        except No as no:
            dry = ["--dry-run"] if action.kind == "dry" else []
            answer = self.ask(*dry, *step.argv)
            _demand_refusal(answer, f"should be refused: {no}")
            return "dry-run refused" if dry else "refused"
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
            case "refuse" if container.is_running:
                self.order.write_text(f"refuse {action.number}")
                answer = self.ask(*step.argv)
                if not self.order.exists():
                    _demand_refusal(answer, "the kernel refused it")
                    return "refused by the kernel"
                self.order.unlink()
                return self._demand_done(answer, container, interfaces)
            case "die" if container.is_running:
                return self._die(action, container, interfaces)
            case "in the way" if container.is_running:
                return self._in_the_way(step, container, interfaces)
            case _:
                return self._demand_done(self.ask(*step.argv), container, interfaces)

    def _demand_done(self, answer: Answer, container: Container, interfaces: tuple[Interface, ...]) -> str:
        if answer.status != 0 or answer.stderr:
            raise Broken(f"should be done: {answer}")
        self._change(container, interfaces)
        return "done"

    def _change(self, container: Container, interfaces: tuple[Interface, ...]) -> None:
        old = {each.number: each for each in container.interfaces}
        container.interfaces = interfaces
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
        answer = self.ask(*(step.argv if step.verb != "ct start" else ["ct", "start", name]))
        if name not in self.world.containers:
            _demand_refusal(answer, "there is no such container")
            return "refused"
        if answer.status != 0:
            raise Broken(f"should be done: {answer}")
        container = self.world.containers[name]
        container.is_running = step.verb != "ct stop"
        self._pids.pop(name, None)
        return "done"

    def _die(self, action: Action, container: Container, interfaces: tuple[Interface, ...]) -> str:
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
        return self._demand_done(answer, container, interfaces)

    def _in_the_way(self, step: Step, container: Container, interfaces: tuple[Interface, ...]) -> str:
        """A route of somebody else where the first of the new routes has to be."""
        before = {route.network for each in container.interfaces for route in each.routes}
        added = [route.network for each in interfaces for route in each.routes if route.network not in before]
        if not added:
            return self._demand_done(self.ask(*step.argv), container, interfaces)
        network = added[-1]
        words = [str(network), "dev", "lo", "proto", "static", *(["metric", "8"] if network.version == 6 else [])]
        self.host.ip(self.host.H, f"-{network.version}", "route", "add", *words)
        answer = self.ask(*step.argv)
        self.host.ip(self.host.H, f"-{network.version}", "route", "del", *words)
        _demand_refusal(answer, f"somebody else's route to {network} is in the way")
        return "refused by the kernel"

    def _around(self, action: Action) -> str:
        match action.kind:
            case "kill daemon":
                self._forget_daemon()
                self.host.kill_daemon()
            case "restart daemon":
                self._forget_daemon()
                self.host.stop_daemon()
            case _:
                self._forget_daemon()
                self.host.kill_daemon()
                self._break_by_hand(action.number)
        self.host.start_daemon()
        return action.kind

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
        running = [each for each in self.world.containers.values() if each.is_running]
        expected = sorted([*self._bare, *(line for each in running for line in host_lines(each))])
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
        said = self.host.in_namespace(self.host.H, "nft", "-j", "list", "table", "inet", "osctl").stdout
        found = []
        for item in json.loads(said)["nftables"]:
            name = item.get("set", {}).get("name")
            if name in ("siblings", "private4", "private6", "sources4", "sources6"):
                found += [f"{name} {_element(each)}" for each in item["set"].get("elem", ())]
        if sorted(found) != expected:
            raise Broken("\n".join(["the packet filter:", *differences_of(expected, sorted(found))]))

    def _check_guest(self, container: Container, *, whole: bool) -> None:
        path = f"/proc/{self._pid(container.name)}/ns/net"
        eye = Eye(path)
        try:
            found = eye.lines()
        finally:
            eye.close()
        if whole and (other := lines_of_iproute2(path)) != found:
            raise Broken("\n".join([f"two witnesses disagree on {container.name}:", *differences_of(other, found)]))
        expected = sorted(guest_lines(container))
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

    def _pid(self, name: str) -> int:
        if name not in self._pids:
            self._pids[name] = int(self.data("ct", "show", name)["init_pid"])
        return self._pids[name]

    def _check_shown(self, action: Action) -> None:
        """What osctl says of the interface that the command was about."""
        if action.step is None or len(action.step.words) < 2:
            return
        container = self.world.containers.get(action.step.words[0])
        for each in container.interfaces if container else ():
            if each.name == action.step.words[1]:
                assert container is not None
                shown = self.data("ct", "netif", "show", container.name, each.name)
                expected = _shown(container, each)
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
                    sources += [
                        (container.name, each.name, str(one)) for one in each.sources if one.version == version
                    ]
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

    # --- sequences -----------------------------------------------------------------------------------------------

    def empty(self) -> None:
        """Delete all interfaces and stop all containers: the host is as bare as it was."""
        for container in self.world.containers.values():
            for each in container.interfaces:
                self.perform(Action("do", Step("ct netif del", (), (container.name, each.name))))
            if container.is_running:
                self.perform(Action("do", Step("ct stop", (("-k", None),), (container.name,))))


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


class Failure(Exception):
    """A sequence that ends in something broken."""

    def __init__(self, actions: Sequence[Action], why: str) -> None:
        super().__init__(why)
        self.actions = list(actions)
        self.why = why


@contextlib.contextmanager
def machine() -> Iterator[Machine]:
    with tempfile.TemporaryDirectory(prefix="osct-order-") as directory, Machine(Path(directory) / "order") as made:
        yield made


def run_random(seed: int, steps: int) -> tuple[Counter[tuple[str, str, str]], float]:
    """So many random steps, in episodes that begin on an empty host. Raises Failure."""
    began = time.monotonic()
    commands = Commands(seed)
    with machine() as made:
        while made.done < steps:
            actions: list[Action] = []
            try:
                # Most of an episode's life the containers run.
                for name in CONTAINERS:
                    if commands.chance(0.7):
                        actions.append(Action("do", Step("ct start", (), (name,))))
                        made.perform(actions[-1])
                while len(actions) < EPISODE and made.done < steps:
                    actions.append(commands.next(made.world))
                    made.perform(actions[-1])
                made.empty()
            except Broken as broken:
                raise Failure(actions, f"{broken}\n\nosctld's log ends:\n{made.host.log_text()[-2000:]}") from None
        return made.covered, time.monotonic() - began


def replay(actions: Sequence[Action]) -> str | None:
    """What is broken after these, on a fresh host; None when all is well."""
    with machine() as made:
        made.host.expects_traceback = True
        try:
            for each in actions:
                made.perform(each)
            made.check(whole=True)
            made.empty()
        except Broken as broken:
            return str(broken)
    return None


def shorter(actions: Sequence[Action], fails: Callable[[Sequence[Action]], bool], seconds: float) -> list[Action]:
    """Leave out what does not matter, first many at a time, then one by one, then single words."""
    deadline = time.monotonic() + seconds
    left = list(actions)
    size = len(left) // 2
    while size and time.monotonic() < deadline:
        at = 0
        while at < len(left) and time.monotonic() < deadline:
            without = left[:at] + left[at + size :]
            if fails(without):
                left = without
            else:
                at += size
        size //= 2
    for at in range(len(left)):
        step = left[at].step
        for word in reversed(range(2, len(step.words) if step else 0)):
            if time.monotonic() > deadline:
                return left
            assert step is not None
            if len(step.words) == 3:
                break
            words = step.words[:word] + step.words[word + 1 :]
            tried = dataclasses.replace(left[at], step=dataclasses.replace(step, words=words))
            if fails([*left[:at], tried, *left[at + 1 :]]):
                left[at], step = tried, tried.step
    return left


def to_text(actions: Sequence[Action]) -> str:
    return json.dumps([dataclasses.asdict(each) for each in actions])


def from_text(text: str) -> list[Action]:
    return [
        Action(
            each["kind"],
            Step(
                each["step"]["verb"],
                tuple((name, value) for name, value in each["step"]["options"]),
                tuple(each["step"]["words"]),
            )
            if each["step"]
            else None,
            each["number"],
        )
        for each in json.loads(text)
    ]


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--report", type=Path)
    parser.add_argument("--replay", type=Path)
    parser.add_argument("--shrink-seconds", type=float, default=SHRINK_SECONDS)
    arguments = parser.parse_args()
    if arguments.replay:
        broken = replay(from_text(arguments.replay.read_text()))
        print(broken or "all is well")
        return int(broken is not None)
    try:
        covered, seconds = run_random(arguments.seed, arguments.steps)
    except Failure as failure:
        file = Path(tempfile.gettempdir()) / f"osct-sequence-{arguments.seed}.json"
        file.write_text(to_text(failure.actions))
        last = failure.actions[-1]
        print(f"seed {arguments.seed}, action {len(failure.actions)}: {last}\n{failure.why}\n", flush=True)
        few = shorter(failure.actions, lambda each: replay(each) is not None, arguments.shrink_seconds)
        print(f"{replay(few)}\n\nafter these {len(few)}:\n" + "\n".join(map(str, few)))
        file.write_text(to_text(few))
        print(f"\nto replay: --replay {file}")
        return 1
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
