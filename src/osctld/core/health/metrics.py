"""Metrics in the Prometheus text format (version 0.0.4): families of samples, each with its meaning.

Names follow Prometheus' conventions: base units, `_total` behind what only grows, the same labels for all samples of a
family. A metric with a label from a closed set has a sample for each of its values, even if that is 0: who waits for it
to become 1 finds it there before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, TypeAlias

import msgspec

from osctld.core.config.host import Host
from osctld.core.health.finding import Severity
from osctld.core.health.troubles import EXIT_STATUSES, State, Trouble, worst

#: The states that a container can be in.
STATES = ("stopped", "starting", "running", "stopping")

#: Sets of the packet filter that count what was dropped, and for which reason.
DROPPED = {
    "spoofed": "forged source",
    "bounced": "back by the same link",
    "bridged": "bridge port",
    "limited": "new neighbour",
}

#: The head of an answer of HTTP, of which each line ends in a carriage return; an empty line ends it.
HEAD = ("HTTP/1.0 200 OK\r", "Content-Type: text/plain; version=0.0.4; charset=utf-8\r", "\r")

Labels: TypeAlias = Mapping[str, str]


class Family(msgspec.Struct, frozen=True):
    """Samples of one name: labels and value of each."""

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    samples: tuple[tuple[Labels, float], ...]


class Measured(msgspec.Struct, frozen=True):
    """What was measured. Times are in seconds since 1970; `states` are those of containers that are not stopped.

    `since`: when each trouble was seen first, by its key. `counted`: packets by the set of the packet filter and by
    link. `amounts`: assigned addresses, and routed networks.
    """

    version: str
    build: str
    started: float
    states: Mapping[str, str]
    troubles: tuple[Trouble, ...]
    since: Mapping[str, float]
    counted: Mapping[str, Mapping[str, int]]
    amounts: Mapping[str, int]
    mended: int
    last_look: float | None


def families(host: Host, measured: Measured) -> Iterator[Family]:
    """All families, in order."""
    one: Labels = {}
    about = {"version": measured.version, "build": measured.build}
    yield Family("osctl_build_info", "gauge", "Version and build of osctld; always 1.", ((about, 1),))
    yield Family(
        "osctl_start_time_seconds", "gauge", "When osctld was started, in seconds since 1970.",
        ((one, measured.started),),
    )  # fmt: skip
    yield from _of_troubles(measured)
    counted = Counter(measured.states.get(name, "stopped") for name in host.containers)
    yield Family(
        "osctl_containers", "gauge", "Containers by state.",
        tuple(({"state": each}, counted[each]) for each in STATES),
    )  # fmt: skip
    wanted = sum(each.is_wanted for each in host.containers.values())
    yield Family("osctl_wanted_containers", "gauge", "Containers that should be running.", ((one, wanted),))
    interfaces = sum(len(each.interfaces) for each in host.containers.values())
    yield Family("osctl_interfaces", "gauge", "Interfaces of containers.", ((one, interfaces),))
    addresses, routes = (measured.amounts.get(each, 0) for each in ("addresses", "routes"))
    yield Family("osctl_addresses", "gauge", "Addresses assigned to containers.", ((one, addresses),))
    yield Family("osctl_routes", "gauge", "Networks routed to containers.", ((one, routes),))
    yield Family(
        "osctl_mended_total", "counter",
        "Differences from the configuration that were repaired since osctld was started.", ((one, measured.mended),),
    )  # fmt: skip
    if measured.last_look is not None:
        yield Family(
            "osctl_last_reconcile_timestamp_seconds", "gauge",
            "When everything was last compared with the kernel, in seconds since 1970.", ((one, measured.last_look),),
        )  # fmt: skip
    yield from _of_interfaces(host, measured)


def _of_troubles(measured: Measured) -> Iterator[Family]:
    found = measured.troubles
    yield Family(
        "osctl_status", "gauge",
        "The verdict: 0 all is well, 1 something is not as it should be, 2 containers are unreachable or down.",
        (({}, EXIT_STATUSES[worst(found)]),),
    )  # fmt: skip
    counts = Counter((each.state, each.severity) for each in found)
    yield Family(
        "osctl_troubles", "gauge", "Problems by state and severity.",
        tuple(
            ({"state": state.value, "severity": severity.value}, counts[state, severity])
            for state in State
            for severity in (Severity.ERROR, Severity.WARNING)
        ),
    )  # fmt: skip
    since = {
        (each.container, each.interface, each.address, each.state.value): measured.since[each.key]
        for each in reversed(found)
        if each.key in measured.since
    }
    if since:
        yield Family(
            "osctl_trouble_since_timestamp_seconds", "gauge",
            "Start of each problem, in seconds since 1970.",
            tuple(
                ({"container": container, "interface": interface, "address": address, "state": state}, moment)
                for (container, interface, address, state), moment in sorted(since.items())
            ),
        )  # fmt: skip


def _of_interfaces(host: Host, measured: Measured) -> Iterator[Family]:
    labelled = [
        ({"container": one.name, "interface": each.name}, each.link)
        for one in host.sorted_containers
        for each in one.interfaces
    ]
    if not labelled:
        return
    yield Family(
        "osctl_interface_info", "gauge",
        "Host end of each interface, to find its traffic among that of all links; always 1.",
        tuple(({**labels, "device": link}, 1) for labels, link in labelled),
    )  # fmt: skip
    nothing: Mapping[str, int] = {}
    yield Family(
        "osctl_interface_dropped_packets_total", "counter",
        "Packets from a container that the packet filter dropped since the container was started, by reason.",
        tuple(
            ({**labels, "reason": reason}, measured.counted.get(name, nothing).get(link, 0))
            for labels, link in labelled
            for name, reason in DROPPED.items()
        ),
    )  # fmt: skip
    for name, family, text in (
        (
            "rejected", "osctl_interface_rejected_packets_total",
            "Packets rejected between a private interconnecting network and the world beyond the host.",
        ),
        (
            "permitted", "osctl_interface_permitted_packets_total",
            "Packets accepted because of an additional allowed source.",
        ),
    ):  # fmt: skip
        counted = measured.counted.get(name, nothing)
        yield Family(family, "counter", text, tuple((labels, counted.get(link, 0)) for labels, link in labelled))


def lines(told: Iterable[Family]) -> Iterator[str]:
    """The text of families, line by line."""
    for each in told:
        yield f"# HELP {each.name} {_escaped(each.help)}"
        yield f"# TYPE {each.name} {each.kind}"
        for labels, value in each.samples:
            pairs = ",".join(f'{name}="{_escaped(text, quotes=True)}"' for name, text in labels.items())
            yield f"{each.name}{{{pairs}}} {value:.17g}" if pairs else f"{each.name} {value:.17g}"


def _escaped(text: str, *, quotes: bool = False) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quotes else text
