"""What our tables cost a packet on its way. Run by `./dev bench data_path`.

A host with one container, and one with 1000, forwards between a container and a machine beyond: first with our
nftables tables, then without, in turns; no daemon runs meanwhile. Everything is veth, so that a packet goes the whole
way in the sender's processor time.

    udp out, in   datagrams of 64 octets on the wire from the container, and to it, by sendmmsg(2): received each second
    tcp out       one stream from the container: octets received each second

Told is the rate with the tables by the rate without them, pair by pair: the median, and the quartiles. Where the
kernel counts cycles (`perf stat`), those of a packet are told as well. Exit status 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import select
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "bench")]

from large_hosts import LargeHost, report

from whole.host import ROUTER_4, ROUTER_6, run, wait_until

GOAL = 0.95
#: What a datagram carries, so that its frame has 64 octets with the check sum: 14 and 4 for the frame, 8 for UDP, and
#: 20 for IPv4; with IPv6 it is longer by 20.
PAYLOAD = 18
PORT = 4000
OWN = {4: "1.2.3.4", 6: "2001:db8:2::4"}
BEYOND = {4: ROUTER_4, 6: ROUTER_6}
FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
TABLES = ("inet osctl", "arp osctl", "bridge osctl")
BATCH = 256
MSG_DONTWAIT = 0x40


class _Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_char_p), ("length", ctypes.c_size_t))


class _Header(ctypes.Structure):
    """struct msghdr and the length behind it: struct mmsghdr of sendmmsg(2)."""

    _fields_ = (
        ("name", ctypes.c_void_p), ("name_length", ctypes.c_uint32), ("vectors", ctypes.POINTER(_Vector)),
        ("count", ctypes.c_size_t), ("control", ctypes.c_void_p), ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int), ("sent", ctypes.c_uint32),
    )  # fmt: skip


@dataclass(frozen=True)
class End:
    """A network namespace, and the link whose counter tells what it has received."""

    namespace: str
    link: str

    def received(self) -> int:
        """Packets that the link has received so far."""
        argv = ["nsenter", f"--net={self.namespace}", "cat", "/proc/net/dev"]
        listed = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
        line = next(each for each in listed.splitlines() if each.strip().startswith(f"{self.link}:"))
        return int(line.partition(":")[2].split()[1])

    @contextlib.contextmanager
    def child(self, work: Callable[[], None], *, processor: int) -> Iterator[None]:
        """A process in this namespace, on one processor, that ends with the block at the latest."""
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                ctypes.CDLL(None).setns(os.open(self.namespace, os.O_RDONLY), 0)
                os.sched_setaffinity(0, {processor})
                work()
                status = 0
            finally:
                os._exit(status)
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
            os.waitpid(pid, 0)


def send_datagrams(version: int, source: str, target: str) -> None:
    """As many as possible, until somebody ends the process."""
    with socket.socket(FAMILY[version], socket.SOCK_DGRAM) as through:
        through.bind((source, 0))
        through.connect((target, PORT))
        vector = _Vector(b"x" * PAYLOAD, PAYLOAD)
        headers = (_Header * BATCH)(*(_Header(None, 0, ctypes.pointer(vector), 1, None, 0, 0, 0) for _ in range(BATCH)))
        sendmmsg, number = ctypes.CDLL(None, use_errno=True).sendmmsg, through.fileno()
        while True:
            if sendmmsg(number, headers, BATCH, 0) < 0 and ctypes.get_errno() not in (11, 105, 111):
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def receive_datagrams(version: int, address: str) -> None:
    """A socket that takes what comes, and reads nothing: what does not fit is dropped at once."""
    with socket.socket(FAMILY[version], socket.SOCK_DGRAM) as through:
        through.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2304)
        through.bind((address, PORT))
        time.sleep(3600)


def send_stream(version: int, source: str, target: str) -> None:
    with socket.socket(FAMILY[version], socket.SOCK_STREAM) as through:
        through.bind((source, 0))
        through.connect((target, PORT))
        block = b"x" * (1 << 20)
        while True:
            through.sendall(block)


def receive_stream(version: int, address: str, told: int) -> None:
    """Take one stream; tell each second how many octets have come by then."""
    with socket.socket(FAMILY[version], socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((address, PORT))
        listening.listen()
        os.write(told, b"0\n")
        through, _ = listening.accept()
        buffer, octets, at = bytearray(1 << 20), 0, time.monotonic()
        while size := through.recv_into(buffer):
            octets += size
            if time.monotonic() - at > 0.01:
                at = time.monotonic()
                os.write(told, b"%d %f\n" % (octets, at))


def datagrams(sender: End, receiver: End, version: int, source: str, target: str, seconds: float) -> float:
    """How many arrive each second."""
    with receiver.child(lambda: receive_datagrams(version, target), processor=1):
        time.sleep(0.1)
        with sender.child(lambda: send_datagrams(version, source, target), processor=0):
            before = receiver.received()
            wait_until(lambda: receiver.received() > before + 10_000, "datagrams arrive")
            first, began = receiver.received(), time.perf_counter()
            time.sleep(seconds)
            return (receiver.received() - first) / (time.perf_counter() - began)


def stream(sender: End, receiver: End, version: int, source: str, target: str, seconds: float) -> float:
    """How many octets arrive each second."""
    reading, told = os.pipe()
    os.set_blocking(reading, False)
    try:
        with receiver.child(lambda: receive_stream(version, target, told), processor=1):
            wait_until(lambda: is_readable(reading), "somebody listens")
            with sender.child(lambda: send_stream(version, source, target), processor=0):
                os.read(reading, 1 << 16)
                wait_until(lambda: is_readable(reading), "the stream arrives")
                said, begun = b"", time.monotonic()
                while time.monotonic() - begun < seconds or said.count(b"\n") < 2:
                    time.sleep(seconds / 10)
                    said += os.read(reading, 1 << 16) if is_readable(reading) else b""
        lines = [each.split() for each in said.splitlines()]
        (first, began), (last, ended) = ((float(each) for each in lines[at]) for at in (0, -1))
        return (last - first) / (ended - began)
    finally:
        os.close(reading)
        os.close(told)


def is_readable(number: int) -> bool:
    return bool(select.select([number], [], [], 0)[0])


def cycles(work: Callable[[], float], seconds: float) -> tuple[float, float | None]:
    """What work returns, and the cycles of the sender's processor for each unit of it; None where none are counted."""
    if shutil.which("perf") is None:
        return work(), None
    argv = ["perf", "stat", "-x", ",", "-e", "cycles", "-C", "0", "sleep", str(seconds)]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as counting:
        rate = work()
        assert counting.stderr is not None
        said = counting.stderr.read().partition(",")[0]
    return rate, int(said) / seconds / rate if said.isdigit() else None


def nft(host: LargeHost, *argv: str, stdin: str = "") -> str:
    return run("nsenter", f"--net=/run/netns/{host.H}", "nft", *argv, stdin=stdin or None).stdout


def measure(host: LargeHost, inside: End, *, containers: int, rounds: int, seconds: float) -> bool:
    """All flows on one host; whether each reaches the goal."""
    tables = "".join(nft(host, "list", "table", *each.split()) for each in TABLES)
    without = "".join(f"delete table {each}\n" for each in TABLES)
    beyond = End(f"/run/netns/{host.R}", "down0")
    is_reached = True
    for version in (4, 6):
        own, far = OWN[version], BEYOND[version]
        flows: Sequence[tuple[str, Callable[[], float]]] = (
            ("udp out", lambda own=own, far=far, v=version: datagrams(inside, beyond, v, own, far, seconds)),
            ("udp in", lambda own=own, far=far, v=version: datagrams(beyond, inside, v, far, own, seconds)),
            ("tcp out", lambda own=own, far=far, v=version: stream(inside, beyond, v, own, far, seconds)),
        )
        for name, work in flows:
            pairs: list[float] = []
            spent: dict[bool, list[float]] = {True: [], False: []}
            rates: dict[bool, list[float]] = {True: [], False: []}
            for number in range(rounds):
                # The other one first each second time: a machine that drifts favours neither.
                for is_with in (True, False) if number % 2 else (False, True):
                    if not is_with:
                        nft(host, "-f", "-", stdin=without)
                    rate, each = cycles(work, seconds)
                    if not is_with:
                        nft(host, "-f", "-", stdin=tables)
                    rates[is_with].append(rate)
                    spent[is_with] += [each] if each is not None else []
                pairs.append(rates[True][-1] / rates[False][-1])
            low, ratio, high = statistics.quantiles(pairs, n=4)
            unit = 1e6 if name.startswith("tcp") else 1e3
            words = f"{ratio:.3f} ({low:.3f} to {high:.3f}), {statistics.median(rates[True]) / unit:.0f} "
            words += "MB/s" if name.startswith("tcp") else "thousand a second"
            if spent[True] and spent[False]:
                words += (
                    f", {statistics.median(spent[True]):.0f} cycles instead of {statistics.median(spent[False]):.0f}"
                )
            what = f"{containers} container{'s' if containers > 1 else ''}, {name}, IPv{version}"
            is_reached &= report(what, words, is_reached=ratio >= GOAL, goal=str(GOAL))
    return is_reached


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--containers", type=int, nargs="*", default=[1, 1000])
    arguments = parser.parse_args()
    is_reached = True
    for number in arguments.containers:
        with LargeHost([1] * number, versions=(4, 6)) as host:
            host.start_daemon(seconds=120)
            host.osctl("net", "reconcile", seconds=120)
            host.osctl("ct", "netif", "ip", "add", "ct0", "eth0", *OWN.values())
            inside = End(f"/proc/{host.init_pid('ct0')}/ns/net", "eth0")
            host.kill_daemon()
            is_reached &= measure(host, inside, containers=number, rounds=arguments.rounds, seconds=arguments.seconds)
    return 0 if is_reached else 1


if __name__ == "__main__":
    sys.exit(main())
