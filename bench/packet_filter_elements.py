"""What one private network or permitted source costs beside others: run by `./dev bench packet_filter_elements`.

In a network namespace of its own. Reference of each figure: the same with no others in the table.

    observe    one asked for
    change     one added and removed again, two transactions

Permitted sources of other links, each with a set of its own, and of the same link.
"""

from __future__ import annotations

import argparse
import ctypes
import statistics
import sys
import time
from collections.abc import Callable

from osctld.core.address.addresses import Network
from osctld.core.plan.changes import Add, Remove
from osctld.core.plan.kernel_state import HOST, FilterElement, KernelState, PermittedSource, PrivateNetwork
from osctld.core.plan.packet_filter import packet_filter
from osctld.core.plan.planner import Plan
from osctld.shell.kernel.port import Kernel

CLONE_NEWNET = 0x40000000
OTHERS: dict[type[FilterElement], tuple[int, ...]] = {
    PrivateNetwork: (0, 1000, 10_000),
    PermittedSource: (0, 10, 100, 1000),
}
OUR_LINK = "osweb01-eth0"


def microseconds(work: Callable[[], object]) -> float:
    start = time.perf_counter_ns()
    work()
    return (time.perf_counter_ns() - start) / 1000


def plan_of(*changes: Add | Remove) -> Plan:
    return Plan(KernelState(), KernelState(), changes)


def other(kind: type[PrivateNetwork | PermittedSource], number: int, link: str) -> FilterElement:
    return kind(HOST, link or f"os{number}-eth0", Network(4, 0x0A00_0000 + 4 * number, 30))


def measure(kernel: Kernel, kind: type[PrivateNetwork | PermittedSource], *, link: str = "", runs: int) -> None:
    """Beside others of `link`, or of one link each."""
    kernel.apply(plan_of(Add(packet_filter(111, bridge_group=112))), {})
    ours = kind(HOST, OUR_LINK, Network.parse("169.254.1.0/31"))
    there, first = 0, {"observe": 0.0, "change": 0.0}
    for count in OTHERS[kind]:
        outcomes = kernel.apply(plan_of(*(Add(other(kind, number, link)) for number in range(there, count))), {})
        assert all(each.succeeded for each in outcomes)
        there = count
        figures: dict[str, list[float]] = {"observe": [], "change": []}
        for _ in range(runs):
            figures["change"].append(microseconds(lambda: kernel.apply(plan_of(Add(ours)), {})))
            figures["observe"].append(microseconds(lambda: kernel.observe([], {}, elements=[ours])))
            figures["change"][-1] += microseconds(lambda: kernel.apply(plan_of(Remove(ours)), {}))
        for name, samples in figures.items():
            median = statistics.median(samples)
            first[name] = first[name] or median
            whose = f"{kind.__name__} of {link}" if link else kind.__name__
            print(f"{whose}: {name:8} beside {count:6}: {median:8.1f} us  {median / first[name]:6.2f} x")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=201)
    runs = parser.parse_args().runs
    if ctypes.CDLL(None).unshare(CLONE_NEWNET) != 0:
        sys.exit("error: needs root")
    kernel = Kernel()
    for kind in (PrivateNetwork, PermittedSource):
        measure(kernel, kind, runs=runs)
    kernel.apply(plan_of(Remove(packet_filter(111, bridge_group=112))), {})
    measure(kernel, PermittedSource, link=OUR_LINK, runs=runs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
