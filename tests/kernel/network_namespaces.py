"""Network namespaces for tests: the test's own thread is moved into a fresh one, guests get further ones."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shlex
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from osctld.core.plan.kernel_state import HOST, Namespace
from osctld.shell.kernel import netns
from patience import Patience

CLONE_NEWNET = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)

T = TypeVar("T")


def _check(status: int) -> None:
    if status != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@contextlib.contextmanager
def own_network_namespace() -> Iterator[None]:
    """Move this thread, and what it starts, into a fresh network namespace with loopback up; and back again."""
    before = os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_libc.unshare(CLONE_NEWNET))
        try:
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
            yield
        finally:
            _check(_libc.setns(before, CLONE_NEWNET))
    finally:
        os.close(before)


def new_namespace() -> int:
    """A descriptor of a fresh network namespace; it lives as long as descriptors of it are open."""
    opened: list[int] = []

    def make() -> None:
        _check(_libc.unshare(CLONE_NEWNET))
        opened.append(os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY | os.O_CLOEXEC))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    return opened[0]


def until(is_true: Callable[[], object]) -> None:
    """Wait for a condition, ten seconds at most in which the machine has processors for all."""
    patience = Patience(10)
    while not is_true():
        assert not patience.is_over, "waited in vain"
        time.sleep(0.002)


class Host:
    """The host's namespace of a test, which is the one it runs in, and namespaces of guests by name."""

    def __init__(self) -> None:
        self.namespaces: dict[Namespace, int] = {}

    def add_guest(self, namespace: Namespace) -> None:
        self.namespaces[namespace] = new_namespace()
        self.run("ip link set lo up", namespace)
        # No link-local addresses that the kernel makes by itself, some time after a link is up.
        self.run("sysctl -w net.ipv6.conf.default.addr_gen_mode=1", namespace)

    def within(self, namespace: Namespace, work: Callable[[], T]) -> T:
        """Do something in a namespace; what is started there stays there."""
        return work() if namespace == HOST else netns.inside(self.namespaces[namespace], work)

    def run(self, command: str, namespace: Namespace = HOST, *, check: bool = True, stdin: str = "") -> str:
        """Run a command of `ip`, `sysctl` or `nft`; its output."""
        done = self.within(
            namespace,
            lambda: subprocess.run(
                shlex.split(command),
                input=stdin,
                capture_output=True,
                text=True,
                check=False,
                timeout=Patience(30).bound,
            ),
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{command}: {done.stderr}{done.stdout}")
        return done.stdout

    def ip(self, words: str, namespace: Namespace = HOST) -> list[dict[str, Any]]:
        """What `ip -details -json` shows; an independent witness. Our protocols by number, installed or not."""
        output = self.run(f"ip -details -json {words}", namespace)
        return [_with_numbers(each) for each in json.loads(output or "[]") if each]

    def dump(self, namespace: Namespace = HOST) -> list[str]:
        """All that `ip` tells of a namespace, as sorted lines without what changes by itself."""
        lines: list[str] = []
        for words in ("link", "-4 addr", "-6 addr", "-4 route show table all", "-6 route show table all", "neigh"):
            lines += [
                f"{words}: {json.dumps(_without_volatile(each), sort_keys=True)}" for each in self.ip(words, namespace)
            ]
        return sorted(lines)

    @contextlib.contextmanager
    def process_in(self, namespace: Namespace) -> Iterator[int]:
        """The id of a process in a namespace of a guest, which is made if need be."""
        if namespace not in self.namespaces:
            self.add_guest(namespace)
        process = self.within(namespace, lambda: subprocess.Popen(["sleep", "infinity"]))
        try:
            yield process.pid
        finally:
            process.kill()
            process.wait()

    def close(self) -> None:
        for descriptor in self.namespaces.values():
            os.close(descriptor)


#: Names that ip(8) has for our protocols where packaging/rt_protos.conf is installed.
_PROTOCOLS = {"osctl": "111", "osctl-present": "112"}


def _with_numbers(shown: dict[str, Any]) -> dict[str, Any]:
    if (name := shown.get("protocol")) in _PROTOCOLS:
        return {**shown, "protocol": _PROTOCOLS[name]}
    return shown


#: What a namespace counts or numbers by itself; a label becomes an alias (`eth0:2`) when its link is renamed.
_VOLATILE = frozenset({"label", "ifindex", "link_index", "link_netnsid", "cacheinfo", "used", "operstate", "gc_timer"})
_VOLATILE_FLAGS = frozenset({"LOWER_UP", "NO-CARRIER", "M-DOWN", "linkdown"})


def _without_volatile(value: Any) -> Any:
    match value:
        case dict():
            return {
                key: _without_volatile(each)
                for key, each in value.items()
                if key not in _VOLATILE and not key.endswith(("_life_time", "_index"))
            }
        case list():
            # Order among the addresses of a link is not compared: IPv6 lists the newest first.
            flags = [each for each in value if isinstance(each, str) and each in _VOLATILE_FLAGS]
            kept = [_without_volatile(each) for each in value if each not in flags]
            return sorted(kept, key=lambda each: json.dumps(each, sort_keys=True))
        case _:
            return value
