"""What is not as it should be, for the engineer on call: a verdict, and each problem with the commands that fix it.

Of the host it is what takes packets from containers, and no more: `self check` looks at everything. What there may be
very many of, such as routes that one null route replaces, is reported as one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum

import msgspec

from osctld.core.address.addresses import Network
from osctld.core.authority.blocks import Block
from osctld.core.authority.claims import ClaimKind, Holder
from osctld.core.authority.null_routes import NullRoute, Yielded
from osctld.core.authority.rules import OlderHolding
from osctld.core.authority.ways import Astray
from osctld.core.command import Column, Listing
from osctld.core.config.host import Container, Host, why_no_bridge
from osctld.core.health.finding import Finding, Severity
from osctld.core.plan.kernel_state import HostFacts, HostLink

#: For one interface, at most this many problems of one kind without a common command are listed one by one.
NAMED = 10


class State(StrEnum):
    """How something is that is not as it should be, the worst first."""

    UNREACHABLE = "unreachable"
    NOT_FORWARDING = "not forwarding"
    NOT_RUNNING = "not running"
    BLOCKED = "blocked"
    NULL_ROUTED = "null-routed"
    PARKED = "parked"
    UNROUTED = "unrouted"
    DRIFTED = "drifted"
    FILES = "files not written"


#: Findings of `self check` about the host that are also reported here. Its other findings do not affect anything yet.
STATES_OF_FINDINGS = {
    "no-forwarding": State.NOT_FORWARDING,
    "advertised-route": State.UNREACHABLE,
    "firewall": State.UNREACHABLE,
    "legacy-firewall": State.UNREACHABLE,
    "no-main-table": State.UNREACHABLE,
}

#: Exit statuses by the worst, as programs that watch hosts read them.
EXIT_STATUSES = {None: 0, Severity.WARNING: 1, Severity.ERROR: 2}


class Trouble(msgspec.Struct, frozen=True):
    """Something that is not as it should be. `commands` fix it, run one after another.

    Without a container it is the host's. `address` is the first of `count` addresses or networks.
    """

    severity: Severity
    state: State
    cause: str
    commands: tuple[str, ...]
    container: str = ""
    interface: str = ""
    address: str = ""
    count: int = 1
    #: Since when, in seconds since 1970, where that is known better than when it was first seen.
    since: float | None = None

    @property
    def key(self) -> str:
        """The same for the same trouble whenever it is looked at."""
        # Problems of the host are identified by their cause; those of a container may have numbers in it.
        which = (self.container, self.interface, self.address) if self.container else (self.cause,)
        return " ".join((self.state, *which))


class Unrouted(msgspec.Struct, frozen=True):
    """Addresses of one interface that are assigned and not routed."""

    interface: str
    addresses: tuple[Network, ...]


class Seen(msgspec.Struct, frozen=True):
    """What was seen beside the configuration, by container where it is a mapping.

    `states`: of those that are not stopped. `drift` and `failed`: what is left different inside, and what could not be
    repaired, as text. `files`: why files of network tools inside were not written. `shutdown`: why none is started.
    """

    facts: HostFacts
    states: Mapping[str, str] = {}
    yielded: tuple[tuple[str, Yielded], ...] = ()
    older_holdings: tuple[OlderHolding, ...] = ()
    drift: Mapping[str, Sequence[str]] = {}
    failed: Mapping[str, Sequence[str]] = {}
    files: Mapping[str, Sequence[str]] = {}
    unrouted: Mapping[str, Sequence[Unrouted]] = {}
    #: Who holds what is blocked, by the network.
    blocked: Mapping[str, Sequence[Holder]] = {}
    findings: tuple[Finding, ...] = ()
    astray: tuple[Astray, ...] = ()
    #: Links with the names of bridges of running containers, None for one that is not there.
    bridges: Mapping[str, HostLink | None] = {}
    shutdown: str = ""


def troubles(host: Host, seen: Seen) -> tuple[Trouble, ...]:
    """All that is not as it should be, the worst first."""
    rules = (_of_host, _not_running, _ports, _unattached, _held_by_both, _astray, _yielded, _blocks, _not_mended)
    choices = (_parked, _unrouted, _drifted, _files)
    found = [each for rule in (*rules, *choices) for each in rule(host, seen)]
    severities, states = tuple(Severity), tuple(State)
    return tuple(
        sorted(
            found,
            key=lambda each: (
                severities.index(each.severity), states.index(each.state), each.container, each.interface
            ),
        )
    )  # fmt: skip


def worst(found: Iterable[Trouble]) -> Severity | None:
    """How bad the worst is; None when all is well."""
    severities = tuple(Severity)
    return min((each.severity for each in found), key=severities.index, default=None)


# --- what there is ----------------------------------------------------------------------------------------------------


def _of_host(_host: Host, seen: Seen) -> Iterator[Trouble]:
    for each in seen.findings:
        state = STATES_OF_FINDINGS.get(each.code)
        if state is not None and each.severity is not Severity.NOTE:
            yield Trouble(each.severity, state, f"{each.what}; {each.why}", each.commands)


def _not_running(host: Host, seen: Seen) -> Iterator[Trouble]:
    down = [each.name for each in host.sorted_containers if each.is_wanted and each.name not in seen.states]
    if seen.shutdown and down:
        yield Trouble(
            Severity.ERROR, State.NOT_RUNNING, f"containers are not started: {seen.shutdown}",
            ("osctl self shutdown --abort",), count=len(down),
        )  # fmt: skip
        return
    for name in down:
        yield Trouble(
            Severity.ERROR, State.NOT_RUNNING, "the container should be running, but is stopped",
            (f"osctl ct start {name}",), container=name,
        )  # fmt: skip


def _ports(host: Host, seen: Seen) -> Iterator[Trouble]:
    if not seen.facts.ports:
        return
    holders = {each.link: (one.name, each.name) for one in host.containers.values() for each in one.interfaces}
    for link, master in seen.facts.ports:
        container, interface = holders.get(link, ("", ""))
        yield Trouble(
            Severity.ERROR, State.UNREACHABLE, f"{link} is a port of {master.name} ({master.kind})",
            (f"ip link set dev {link} nomaster",), container, interface,
        )  # fmt: skip


def _unattached(host: Host, seen: Seen) -> Iterator[Trouble]:
    for bridge, link in sorted(seen.bridges.items()):
        why = why_no_bridge(link)
        if why is None:
            continue
        for container in host.sorted_containers:
            for each in container.interfaces:
                if each.bridge == bridge and container.name in seen.states:
                    yield Trouble(
                        Severity.ERROR, State.UNREACHABLE, f"{bridge!r}: {why}; it is attached again once there is one",
                        (), container.name, each.name,
                    )  # fmt: skip


def _held_by_both(_host: Host, seen: Seen) -> Iterator[Trouble]:
    for each in seen.older_holdings:
        wanted, there = each.objection.wanted, each.objection.there
        yield Trouble(
            Severity.WARNING if each.objection.rule.yields else Severity.ERROR,
            State.UNREACHABLE,
            f"also used by the host: {there}",
            each.commands,
            wanted.holder.container,
            wanted.holder.interface,
            _short(wanted.network),
            each.count,
        )


def _astray(_host: Host, seen: Seen) -> Iterator[Trouble]:
    told = {(each.objection.wanted.holder, each.objection.wanted.network) for each in seen.older_holdings}
    for each in seen.astray:
        if (each.holder, each.network) in told and "is an address of the host" in each.cause:
            continue  # held by both
        yield Trouble(
            Severity.WARNING if each.is_host_s else Severity.ERROR,
            State.UNREACHABLE,
            each.cause,
            each.commands,
            each.holder.container,
            each.holder.interface,
            _short(each.network),
            each.count,
        )


def _yielded(host: Host, seen: Seen) -> Iterator[Trouble]:
    alike: dict[tuple[str, str, tuple[str, ...], bool], list[Yielded]] = {}
    for container, each in seen.yielded:
        if isinstance(each.to, Block):
            continue  # each block is reported, whatever yields to it
        key = (container, each.route.link, (each.command,), isinstance(each.to, NullRoute))
        alike.setdefault(key, []).append(each)
    named: Counter[tuple[str, str, bool]] = Counter()
    rest: dict[tuple[str, str, bool], list[Yielded]] = {}
    for (container, link, commands, is_null), those in alike.items():
        named[container, link, is_null] += 1
        if named[container, link, is_null] > NAMED:
            rest.setdefault((container, link, is_null), []).extend(those)
            continue
        yield _blocked(host, container, link, those, is_null=is_null, commands=commands)
    for (container, link, is_null), those in rest.items():
        yield _blocked(host, container, link, those, is_null=is_null, commands=("osctl self check",))


def _blocks(host: Host, seen: Seen) -> Iterator[Trouble]:
    for each in host.blocks:
        holders = seen.blocked.get(str(each.network), ())
        first = holders[0] if holders else None
        yield Trouble(
            Severity.WARNING, State.NULL_ROUTED, f"blocked: {each}", (each.removal,),
            first.container if first is not None else "", first.interface if first is not None else "", each.subject,
            since=each.since,
        )  # fmt: skip


def _blocked(
    host: Host, container: str, link: str, those: Sequence[Yielded], *, is_null: bool, commands: tuple[str, ...]
) -> Trouble:
    return Trouble(
        Severity.WARNING if is_null else Severity.ERROR,
        State.NULL_ROUTED if is_null else State.BLOCKED,
        those[0].why,
        commands,
        container,
        _interface_of(host, container, link),
        _short(those[0].route.network),
        len(those),
    )


def _not_mended(_host: Host, seen: Seen) -> Iterator[Trouble]:
    for container, lines in sorted(seen.failed.items()):
        for line in lines[:NAMED]:
            yield Trouble(
                Severity.ERROR, State.UNREACHABLE, f"not repaired: {line}", (f"osctl net reconcile {container}",),
                container,
            )  # fmt: skip


def _parked(host: Host, seen: Seen) -> Iterator[Trouble]:  # noqa: ARG001 - as all rules
    for container in host.sorted_containers:
        if not container.parked:
            continue
        parked = frozenset(container.parked)
        for interface in container.interfaces:
            claims = (claim.network for claims in interface.claims(container.name) for claim in claims)
            held = sorted(parked.intersection(claims))
            if held:
                yield Trouble(
                    Severity.WARNING, State.PARKED, "somebody else was found to hold it",
                    (f"osctl ct netif take {container.name} {interface.name} all",), container.name, interface.name,
                    _short(held[0]), len(held),
                )  # fmt: skip


def _unrouted(_host: Host, seen: Seen) -> Iterator[Trouble]:
    for container, several in sorted(seen.unrouted.items()):
        for each in several:
            addresses = [_short(address) for address in each.addresses]
            lines = (addresses[start : start + NAMED] for start in range(0, len(addresses), NAMED))
            route = f"osctl ct netif route add {container} {each.interface}"
            yield Trouble(
                Severity.WARNING, State.UNROUTED, "assigned, but covered by no route",
                tuple(f"{route} {' '.join(line)}" for line in lines), container, each.interface, addresses[0],
                len(addresses),
            )  # fmt: skip


def _drifted(_host: Host, seen: Seen) -> Iterator[Trouble]:
    for container, lines in sorted(seen.drift.items()):
        for line in lines[:1]:
            more = f" and {len(lines) - 1} more" if len(lines) > 1 else ""
            yield Trouble(
                Severity.WARNING, State.DRIFTED, f"changed inside and left as it is: {line}{more}",
                (f"osctl net reconcile {container}",), container, count=len(lines),
            )  # fmt: skip


def _files(_host: Host, seen: Seen) -> Iterator[Trouble]:
    for container, lines in sorted(seen.files.items()):
        for line in lines[:1]:
            more = f" and {len(lines) - 1} more" if len(lines) > 1 else ""
            yield Trouble(
                Severity.WARNING, State.FILES, f"{line}{more}; a restart of the network tool inside may lose addresses",
                (f"osctl ct guest-files apply {container}",), container, count=len(lines),
            )  # fmt: skip


def _interface_of(host: Host, container: str, link: str) -> str:
    there = host.containers.get(container)
    return next((each.name for each in there.interfaces if each.link == link), "") if there is not None else ""


def _short(network: Network) -> str:
    """An address without its prefix length."""
    return str(network.address) if network.size == 1 else str(network)


def unrouted_of(container: Container) -> tuple[Unrouted, ...]:
    """What is assigned to a container and not routed."""
    found = []
    for interface in container.interfaces:
        addresses = tuple(
            claim.network
            for claims in interface.claims(container.name)
            if claims.kind is ClaimKind.ADDRESS and interface.bridge is None
            for claim in claims
        )
        if addresses:
            found.append(Unrouted(interface.name, addresses))
    return tuple(found)


# --- as a reply -------------------------------------------------------------------------------------------------------

COLUMNS = (
    Column(
        "severity",
        "error: containers are unreachable or down; warning: something is not as it should be",
        marks={"error": "bad", "warning": "doubtful"},
    ),
    Column("ctid", "the container; none if the host is concerned"),
    Column("netif", "its interface"),
    Column("address", "address or network; the first if there are several"),
    Column("count", "number of addresses, networks or differences", type=int),
    Column("state", ", ".join(State)),
    Column("since", "start, local time", type=str | None),
    Column("since_epoch", "the same, in seconds since 1970", type=float | None),
    Column("cause"),
    Column("commands", "commands that repair it, one after another", type=list[str], is_lines=True),
)

_SHOWN = ("state", "ctid", "netif", "address", "since", "cause", "commands")


def listing(
    host: Host,
    found: Sequence[Trouble],
    *,
    since: Mapping[str, float],
    running: int,
    at: Callable[[float], str],
) -> Listing:
    """Troubles as a reply, with the verdict and an exit status by the worst. `at` writes a moment."""
    return Listing(
        columns=COLUMNS,
        shown=_SHOWN,
        rows=tuple(_row(each, since.get(each.key), at) for each in found),
        is_paragraphs=True,
        verdict=verdict(host, found, running=running),
        exit_status=EXIT_STATUSES[worst(found)],
    )


def verdict(host: Host, found: Sequence[Trouble], *, running: int) -> str:
    """How it is, in a line."""
    count = len(host.containers)
    there = f"{_counted(count, 'container')}, {'all' if running == count and count else running} running"
    if not found:
        return f"all is well: {there}"
    by_severity = Counter(each.severity for each in found)
    amounts = (_counted(by_severity[each], each.value) for each in Severity if by_severity[each])
    return f"{', '.join(amounts)}; {there}"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _row(each: Trouble, since: float | None, at: Callable[[float], str]) -> dict[str, object]:
    return {
        "severity": each.severity.value,
        "ctid": each.container,
        "netif": each.interface,
        "address": each.address,
        "count": each.count,
        "state": each.state.value,
        "since": at(since) if since is not None else None,
        "since_epoch": since,
        "cause": each.cause,
        "commands": list(each.commands),
    }
