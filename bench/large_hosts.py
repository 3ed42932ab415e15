"""What large hosts cost: 1000 interfaces of 10 routes each, and 100,000 routes. Run by `./dev bench large_hosts`.

    add        one address to a running container, from request to answer, in turns on three hosts: one with that
    container alone, one with 999 more of 10 routes each, one with 10 more of 10,000 routes each netif ls   of 1000
    interfaces, against `python3 -I -c pass` memory     resident set of the daemon with 1000 interfaces reconcile  of
    that host, nothing to repair, against one look at the same: links, addresses, routes and neighbours of the host and
    of all namespaces, through the same sockets, into the same values

The containers are bare network namespaces (tests/whole/bare_daemon.py); all of it is in the kernel. Configurations are
written into the stores; the daemons find the lives and bring up what is wanted. Exit status 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import gc
import os
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "bench")]

import msgspec

from osctld import config
from osctld.assembly import assemble
from osctld.core.address.addresses import BITS, Address, Network
from osctld.core.address.via import Via
from osctld.core.config.host import Container, Host
from osctld.core.config.life import ContainerSpec
from osctld.core.config.settings import Settings
from osctld.core.plan.kernel_state import HOST, LinkScope, guest
from osctld.daemon.disk import Disk
from osctld.daemon.router import Routing
from osctld.netif.routed.interface import RoutedNetwork, new_interface
from osctld.netif.routed.networks import RoutedNetworks
from osctld.shell.editions import Editions
from osctld.shell.host_boot import BootedHost, NotedShutdown
from osctld.shell.kernel.host_settings import HostSettings
from osctld.shell.kernel.port import Kernel
from osctld.shell.pending_starts import PendingStarts
from osctld.shell.routing.engine_files import read_password
from osctld.shell.store.database import Store
from osctld.shell.store.mirrors import HostFacts, Mirrors
from osctld.shell.store.router_file import RouterFile
from osctld.shell.store.rows import HistoryLine, Saved
from osctld.sync.bird_engine import BirdEngine
from whole.bare_daemon import BARE, BareEngine, BareRootDirectories
from whole.host import Topology

BIN = ROOT / ".venv" / "bin"
PYTHON = [str(BIN / "python3"), "-I", "-c", "pass"]
CLONE_NEWNET = 0x40000000

#: Times of the small host: with 1000 interfaces, with 100,000 routes of others.
ADD_GOALS = (1.3, 2.0)
LS_GOAL, MEMORY_GOAL, RECONCILE_GOAL = 4.0, 80.0, 1.5


#: Where interconnecting networks begin: each container has the next one.
VIAS = {4: 10 << 24, 6: 0xFD00 << 112}


def container(host: Host, number: int, *, routes: int, versions: Sequence[int] = (4,)) -> Container:
    """A container with one interface and so many routes of one address each, unlike those of any other number."""
    name = f"ct{number}"
    made = host.with_new_container(name, user=None, distribution="busybox", version="1").container(name)
    vias = {}
    for version in versions:
        first = VIAS[version] + number * 4
        ends = {"host_end": Address(version, first + 1), "container_end": Address(version, first + 2)}
        vias[version] = Via.make(Network(version, first, BITS[version] - 2), **ends, is_public=False)
    interface = new_interface(host, made, "eth0", vias=vias)
    networks = (Network(4, (20 << 24) + (number << 14) + each, 32) for each in range(routes))
    interface = msgspec.structs.replace(
        interface, routes=RoutedNetworks.of(RoutedNetwork(each, is_automatic=False) for each in networks)
    )
    return made.with_new_interface(interface)


class LargeHost(Topology):
    """A host whose containers were written into its store, with lives that wait for a daemon to find them."""

    def __init__(self, routes: Sequence[int], *, versions: Sequence[int] = (4,)) -> None:
        """`routes` gives the number of routes of each container, all of which have these IP versions."""
        self._routes, self._versions = routes, versions
        super().__init__(program=BARE, start_daemon=False)

    def make_network(self) -> None:
        super().make_network()
        for directory in (self.state_dir, self.run_dir):
            directory.mkdir(mode=0o711)
        store = Store(self.state_dir / "osctl.sqlite", schema=config.SCHEMA, new_host_uuid=str(uuid.uuid4()))
        host = Host(uuid=store.load().host_uuid, settings=Settings())
        for number, routes in enumerate(self._routes):
            one = container(host, number, routes=routes, versions=self._versions)
            host = msgspec.structs.replace(host.with_container(one), serial=host.serial + 1)
        for number, one in enumerate(host.containers.values(), start=1):
            line = HistoryLine(time.time(), "osctl")
            rows = config.holding_rows(one.claims())
            store.save(Saved(one.name, config.encode_container(one), number, (), rows, line))
        store.close()
        asyncio.run(self._make_lives(list(host.containers.values())))

    async def _make_lives(self, containers: Sequence[Container]) -> None:
        engine = BareEngine(state_dir=self.state_dir, run_dir=self.run_dir)
        for start in range(0, len(containers), 20):
            specs = [ContainerSpec(each.name, "", each.id_map, each.name) for each in containers[start : start + 20]]
            for spec, made in zip(specs, await asyncio.gather(*map(engine.make_namespaces, specs)), strict=True):
                (await engine.launch(spec, made)).close()

    def _stop_containers(self) -> None:
        """Nothing: the processes are killed and the namespaces taken away as a whole."""

    def command(self, *argv: str) -> list[str]:
        return [str(BIN / "osctl"), "--socket", str(self.socket), *argv]


def milliseconds(argv: Sequence[str]) -> float:
    started = time.perf_counter()
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    return 1000 * (time.perf_counter() - started)


def report(what: str, value: str, *, is_reached: bool, goal: str) -> bool:
    print(f"{what}: {value}, goal {goal}{'' if is_reached else ', missed'}", flush=True)
    return is_reached


def adding(hosts: Sequence[LargeHost], rounds: int) -> bool:
    """One address to ct0 of each host, in turns."""
    took: list[list[float]] = [[] for _ in hosts]
    for number in range(rounds):
        for host, durations in zip(hosts, took, strict=True):
            durations.append(
                milliseconds(host.command("ct", "netif", "ip", "add", "ct0", "eth0", f"198.51.100.{number + 1}"))
            )
    print(f"add one address on a small host: {statistics.median(took[0]):.1f} ms")
    is_reached = True
    for what, durations, goal in zip(("1000 interfaces", "100,000 routes"), took[1:], ADD_GOALS, strict=True):
        ratio = statistics.median(one / other for one, other in zip(durations, took[0], strict=True))
        value = f"{statistics.median(durations):.1f} ms, {ratio:.2f} times of that"
        is_reached &= report(f"the same on one with {what}", value, is_reached=ratio <= goal, goal=f"at most {goal}")
    return is_reached


def listing(host: LargeHost, rounds: int) -> bool:
    ratios, took = [], []
    for _ in range(rounds):
        reference = milliseconds(PYTHON)
        took.append(milliseconds(host.command("ct", "netif", "ls")))
        ratios.append(took[-1] / reference)
    ratio = statistics.median(ratios)
    value = f"{statistics.median(took):.1f} ms, ratio to the reference {ratio:.2f}"
    return report("netif ls of 1000 interfaces", value, is_reached=ratio <= LS_GOAL, goal=f"at most {LS_GOAL}")


def memory(host: LargeHost) -> bool:
    pages = int(Path(f"/proc/{host.daemon_pid}/statm").read_text().split()[1])
    megabytes = pages * os.sysconf("SC_PAGE_SIZE") / 1e6
    return report(
        "daemon with 1000 interfaces, resident", f"{megabytes:.1f} MB",
        is_reached=megabytes <= MEMORY_GOAL, goal=f"at most {MEMORY_GOAL}",
    )  # fmt: skip


@contextlib.contextmanager
def inside(namespace: str) -> Iterator[None]:
    """This thread, which makes the kernel's sockets, in the host's namespace."""
    before = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    there = os.open(f"/run/netns/{namespace}", os.O_RDONLY | os.O_CLOEXEC)
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        assert libc.setns(there, CLONE_NEWNET) == 0
        yield
    finally:
        libc.setns(before, CLONE_NEWNET)
        os.close(before)
        os.close(there)


async def reconciling(host: LargeHost, rounds: int) -> bool:
    """The daemon's own reconcile in this process, in turns with a look at all that it is about."""
    store = Store(host.state_dir / "osctl.sqlite", schema=config.SCHEMA, new_host_uuid="")
    contents = store.load()
    wanted = Host(uuid=contents.host_uuid, settings=Settings(), serial=contents.host_serial)
    containers = [config.decode_container(each) for each in contents.documents]
    wanted = msgspec.structs.replace(wanted, containers={each.name: each for each in containers})
    kernel = Kernel()
    disk = Disk()
    facts = HostFacts(config.SCHEMA, contents.host_uuid, contents.host_serial, contents.run)
    daemon = assemble(
        host=wanted, kernel=kernel, store=store, disk=disk, about={},
        engine=BareEngine(state_dir=host.state_dir, run_dir=host.run_dir),
        roots=BareRootDirectories(host.state_dir),
        mirrors=Mirrors(host.state_dir, facts=facts),
        host_settings=HostSettings(host.run_dir / "host-settings.conf", boot=""),
        editions=Editions(host.run_dir / "editions"),
        pending_starts=PendingStarts(host.run_dir / "pending-starts"),
        booted=BootedHost("", "", NotedShutdown(host.state_dir)),
        routing=Routing(BirdEngine(wanted.settings.announce), RouterFile(host.state_dir), read_password),
    )  # fmt: skip
    writer = asyncio.create_task(daemon.turns.run())
    for name in wanted.containers:
        await daemon.supervisor.adopt(name)
    await daemon.reconciler.reconcile()
    names = [each.link for one in containers for each in one.interfaces]

    async def look() -> None:
        """As the daemon looks: the host's side at once, then one namespace after the other."""
        host_side = kernel.observe_host_side(names)
        for one in containers:
            scopes = [
                each
                for interface in one.interfaces
                for each in (LinkScope(HOST, interface.link), LinkScope(guest(one.name), interface.name))
            ]
            kernel.observe(scopes, daemon.lives.namespaces([one.name]), host_side=host_side)

    gc.collect()
    gc.freeze()
    looks, reconciles = [], []
    for _ in range(rounds):
        looks.append(await awaited(look))
        reconciles.append(await awaited(daemon.reconciler.reconcile))
    assert daemon.reconciler.last == "nothing to repair", daemon.reconciler.last[:1000]
    writer.cancel()
    store.close()
    kernel.close()
    disk.close()
    ratio = statistics.median(one / other for one, other in zip(reconciles, looks, strict=True))
    value = f"{statistics.median(reconciles):.0f} ms, to look {statistics.median(looks):.0f} ms, ratio {ratio:.2f}"
    what = f"full reconcile of {len(names)} interfaces"
    return report(what, value, is_reached=ratio <= RECONCILE_GOAL, goal=f"at most {RECONCILE_GOAL}")


async def awaited(work: Callable[[], Awaitable[None]]) -> float:
    started = time.perf_counter()
    await work()
    return 1000 * (time.perf_counter() - started)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--interfaces", type=int, default=1000)
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("needs root")
    reached = []
    with LargeHost([10] * arguments.interfaces) as large:
        with LargeHost([10]) as small, LargeHost([10, *[10_000] * 10]) as full:
            hosts = (small, large, full)
            for host in hosts:
                started = time.perf_counter()
                host.start_daemon(seconds=120)
                print(f"start of a daemon: {time.perf_counter() - started:.1f} s")
                # Inside, a daemon that finds a life leaves what differs; here nothing was ever made there.
                subprocess.run(host.command("net", "reconcile"), check=True, stdout=subprocess.DEVNULL)
            reached += [adding(hosts, arguments.rounds), listing(large, arguments.rounds), memory(large)]
        assert large.stop_daemon() == 0
        with inside(large.H):
            reached.append(asyncio.run(reconciling(large, 7)))
    return 0 if all(reached) else 1


if __name__ == "__main__":
    sys.exit(main())
