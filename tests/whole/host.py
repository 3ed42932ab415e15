"""A host with its router, for tests of the whole system: real daemon, real client, real containers.

    H   the host: a network namespace in which osctld runs. Uplink up0: 192.0.2.1/24, 2001:db8:1::1/64
    R   the router beyond it: down0 192.0.2.2/24, 2001:db8:1::2/64, and the world behind it as 198.18.0.1 and
        2001:db8:ffff::1. It routes `ROUTED` to H and knows nothing else of H's addresses.

The machine's own network is not touched. Everything of one host is in two namespaces and one directory.
"""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

import osctl.client
from machine_snapshot import VOLATILE, cgroup_places, without
from patience import Patience

T = TypeVar("T")

BIN = Path(sys.executable).parent

#: What the router sends to H.
ROUTED = (
    "1.2.3.0/24",
    "10.0.0.0/24",
    "10.5.5.0/24",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "2001:db8:2::/48",
)
HOST_4, ROUTER_4, WORLD_4 = "192.0.2.1", "192.0.2.2", "198.18.0.1"
HOST_6, ROUTER_6, WORLD_6 = "2001:db8:1::1", "2001:db8:1::2", "2001:db8:ffff::1"

#: What differs between two runs with the same configuration, or changes by itself.
_VOLATILE = VOLATILE | {"ifindex", "link_index", "link_netnsid", "probes", "refcnt"}
#: The clocks of bridges and their ports.
_VOLATILE |= {f"{each}_timer" for each in ("forward_delay", "gc", "hello", "hold", "message_age", "tcn")}

_numbers = itertools.count(1)


class Result(NamedTuple):
    status: int
    stdout: str
    stderr: str


def wait_until(condition: Callable[[], T], what: str, *, seconds: float = 10.0) -> T:
    """Return the first true answer of `condition`. Raises AssertionError, naming `what`, when none comes.

    What counts is time in which the machine had processors for all (`patience.Patience`).
    """
    patience = Patience(seconds)
    while not (answer := condition()):
        assert not patience.is_over, f"still not after {patience.seconds:g} s: {what}"
        time.sleep(0.01)
    return answer


def stays(condition: Callable[[], object], seconds: float) -> None:
    """It is so now, and goes on to be so for these seconds: that something does not happen is an assertion, too."""
    end = time.monotonic() + seconds
    while True:
        assert condition(), f"not for {seconds:g} s"
        if time.monotonic() >= end:
            return
        time.sleep(0.05)


def run(*argv: str, check: bool = True, stdin: str | None = None, seconds: float = 60.0) -> Result:
    """Run a program. With `check`, raises AssertionError with all that it said when it failed."""
    done = subprocess.run(
        argv,
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        timeout=Patience(seconds).bound,
        check=False,
    )
    result = Result(done.returncode, done.stdout, done.stderr)
    assert not check or result.status == 0, f"{' '.join(argv)}: status {result.status}\n{result.stdout}{result.stderr}"
    return result


class Capture:
    """tcpdump on one link. Made by `Topology.capture`, listening from the first moment."""

    def __init__(self, argv: Sequence[str]) -> None:
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self._process.stderr is not None
        said = ""
        for line in self._process.stderr:
            said += line
            if "listening on" in line:
                break
        else:
            self._process.wait()
            raise AssertionError(f"{' '.join(argv)}: {said}")
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._changed:
                self._lines.append(line.rstrip())
                self._changed.notify_all()

    @property
    def lines(self) -> list[str]:
        """What was seen so far, as tcpdump prints it."""
        with self._changed:
            return list(self._lines)

    def wait_for(self, pattern: str, *, seconds: float = 5.0) -> str:
        """Return the first line that matches a regular expression. Raises AssertionError when none comes."""
        patience = Patience(seconds)
        with self._changed:
            while True:
                for line in self._lines:
                    if re.search(pattern, line):
                        return line
                left = patience.left
                assert left > 0, f"no packet matches {pattern!r} among:\n" + "\n".join(self._lines)
                self._changed.wait(left)

    def close(self) -> None:
        self._process.send_signal(signal.SIGINT)
        self._process.wait(timeout=10)
        self._reader.join(timeout=10)
        for stream in (self._process.stdout, self._process.stderr):
            assert stream is not None
            stream.close()


class Topology:
    """The host, its router, and the daemon. A context manager: on leaving, all of it is gone."""

    def __init__(
        self, *, settings: str = "", start_daemon: bool = True, program: Sequence[str] = (str(BIN / "osctld"),)
    ) -> None:
        name = f"osct-{os.getpid()}-{next(_numbers)}"
        self.H, self.R = f"{name}-H", f"{name}-R"
        self.directory = Path(tempfile.mkdtemp(prefix="osct-"))
        # Searchable for all: the id-mapped root of an unprivileged container is reached through it.
        self.directory.chmod(0o711)
        self.state_dir, self.run_dir = self.directory / "state", self.directory / "run"
        self.socket = self.run_dir / "osctld.sock"
        self.log = self.directory / "osctld.log"
        self.config = self.directory / "osctld.toml"
        self.config.write_text(settings)
        #: A traceback in the daemon's log fails the test, unless the test provokes one.
        self.expects_traceback = False
        #: What `start_daemon` runs.
        self.program = tuple(program)
        self._starts_daemon = start_daemon
        #: Where each container's network was found: a process in it, and which namespace that is.
        self.guests: dict[str, tuple[int, str]] = {}
        self._daemon: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.make_network()
            if self._starts_daemon:
                self.start_daemon()
        except BaseException:
            self.destroy()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        log = self.log_text()
        self.destroy()
        assert self.expects_traceback or "Traceback (most recent call last)" not in log, log

    # --- network -------------------------------------------------------------------------------------------------

    def make_network(self) -> None:
        for namespace in (self.H, self.R):
            run("ip", "netns", "add", namespace)
            # Our own uplink has no reason to wait for duplicates: a test would wait two seconds with it.
            self.sysctl(namespace, "net/ipv6/conf/default/accept_dad", "0")
            run("ip", "-n", namespace, "link", "set", "lo", "up")
        run("ip", "-n", self.H, "link", "add", "up0", "type", "veth", "peer", "name", "down0", "netns", self.R)
        for key in ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"):
            self.sysctl(self.R, key, "1")
        self._ip_batch(
            self.H,
            f"addr add {HOST_4}/24 brd + dev up0",
            f"addr add {HOST_6}/64 dev up0 nodad",
            "link set up0 up",
        )
        self._ip_batch(
            self.R,
            f"addr add {ROUTER_4}/24 brd + dev down0",
            f"addr add {ROUTER_6}/64 dev down0 nodad",
            f"addr add {WORLD_4}/32 dev lo",
            f"addr add {WORLD_6}/128 dev lo nodad",
            "link set down0 up",
            *(f"route add {each} via {HOST_6 if ':' in each else HOST_4}" for each in ROUTED),
        )
        self._ip_batch(self.H, f"route add default via {ROUTER_4}", f"route add ::/0 via {ROUTER_6}")

    def _ip_batch(self, namespace: str, *lines: str) -> None:
        run("ip", "-n", namespace, "-batch", "-", stdin="".join(f"{line}\n" for line in lines))

    def in_namespace(self, namespace: str, *argv: str, check: bool = True, seconds: float = 60.0) -> Result:
        """Run a program in H or R. Not `ip netns exec`: that hides the cgroup mounts below /sys."""
        return run("nsenter", f"--net=/run/netns/{namespace}", *argv, check=check, seconds=seconds)

    def ip(self, namespace: str, *argv: str, check: bool = True) -> str:
        return run("ip", "-n", namespace, *argv, check=check).stdout

    def ip_json(self, namespace: str, *argv: str) -> list[dict[str, Any]]:
        """What iproute2 says, as data: `ip_json(host.H, "route", "show", "1.2.3.4")`."""
        return _as_list(run("ip", "-n", namespace, "-j", *argv).stdout)

    def sysctl(self, namespace: str, key: str, value: str | None = None) -> str:
        """Read or write net/ipv4/... in H or R. The keys are paths, since names of links may have dots."""
        if value is None:
            return self.in_namespace(namespace, "cat", f"/proc/sys/{key}").stdout.strip()
        self.in_namespace(namespace, "sh", "-c", 'printf %s "$1" >"$2"', "sysctl", value, f"/proc/sys/{key}")
        return value

    def ping(
        self, namespace: str, address: str, *, count: int = 3, source: str | None = None, seconds: float = 1.0
    ) -> int:
        """Return how many of `count` pings were answered, each within `seconds`; from H or R."""
        argv = ["ping", "-n", "-q", "-c", str(count), "-i", "0.05", "-W", str(seconds)]
        argv += ["-I", source] if source else []
        return _received(self.in_namespace(namespace, *argv, address, check=False).stdout)

    @contextlib.contextmanager
    def capture(self, namespace: str, device: str, packet_filter: str = "") -> Iterator[Capture]:
        """Watch a link of H or R by tcpdump; it listens when the block begins."""
        capture = Capture(
            [
                *("nsenter", f"--net=/run/netns/{namespace}", "tcpdump", "-n", "-e", "-l", "--immediate-mode"),
                *("-i", device, *([packet_filter] if packet_filter else [])),
            ]
        )
        try:
            yield capture
        finally:
            capture.close()

    # --- daemon --------------------------------------------------------------------------------------------------

    @property
    def daemon_pid(self) -> int:
        assert self._daemon is not None, "no daemon"
        return self._daemon.pid

    def start_daemon(self, *, environment: Mapping[str, str] | None = None, seconds: float = 20.0) -> None:
        """Start osctld in H, and wait until it answers, so many seconds at most."""
        assert self._daemon is None, "the daemon runs already"
        with self.log.open("ab") as log:
            self._daemon = subprocess.Popen(
                ["nsenter", f"--net=/run/netns/{self.H}", *self.program, *self.daemon_arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **(environment or {})},
                start_new_session=True,  # an interrupt of the tests is for pytest, which then ends the daemon itself
            )

        def answers() -> bool:
            assert self._daemon is not None
            status = self._daemon.poll()
            assert status is None, f"osctld ended with status {status}:\n{self.log_text()}"
            try:
                # Not by a process: there are hundreds of starts, and it would take its time from the daemon's.
                with osctl.client.connect(str(self.socket)) as daemon:
                    return bool(daemon.call("cli", argv=["ping"])["exit"] == 0)
            except (FileNotFoundError, ConnectionError):
                return False

        try:
            wait_until(answers, "osctld answers", seconds=seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log_text()}") from None

    @property
    def daemon_arguments(self) -> tuple[str, ...]:
        return (
            *("--config", str(self.config)),
            *("--state-dir", str(self.state_dir)),
            *("--run-dir", str(self.run_dir)),
        )

    def kill_daemon(self) -> None:
        """`kill -9`: whatever it was doing stays as it is."""
        self._end_daemon(signal.SIGKILL)

    def bury_daemon(self) -> None:
        """Wait for a daemon that is dying by itself."""
        assert self._daemon is not None, "no daemon"
        self._daemon.wait(timeout=10)
        self._daemon = None

    def stop_daemon(self) -> int:
        """SIGTERM; returns the exit status."""
        return self._end_daemon(signal.SIGTERM)

    def restart_daemon(self) -> None:
        """Stop it in peace and start it again."""
        status = self.stop_daemon()
        assert status == 0, f"osctld ended with status {status}:\n{self.log_text()}"
        self.start_daemon()

    def _end_daemon(self, how: signal.Signals) -> int:
        assert self._daemon is not None, "no daemon"
        self._daemon.send_signal(how)
        status = self._daemon.wait(timeout=30)
        self._daemon = None
        return status

    def log_text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    # --- client --------------------------------------------------------------------------------------------------

    @property
    def client(self) -> tuple[str, ...]:
        """The real client's command line, as far as each begins with it."""
        return (str(BIN / "osctl"), "--socket", str(self.socket))

    def osctl(self, *argv: str, check: bool = True, stdin: str | None = None, seconds: float = 60.0) -> Result:
        """Run the real client. With `check`, a failure raises AssertionError with the daemon's log."""
        result = run(*self.client, *argv, check=False, stdin=stdin, seconds=seconds)
        assert not check or result.status == 0, (
            f"osctl {' '.join(argv)}: status {result.status}\n{result.stdout}{result.stderr}\n"
            f"osctld:\n{self.log_text()}"
        )
        return result

    def osctl_json(self, *argv: str) -> Any:
        """The answer as data."""
        return json.loads(self.osctl("-j", *argv).stdout)

    def refusal(self, *argv: str, status: int = 1, stdin: str | None = None) -> str:
        """Run a command that must be refused: one line on standard error, nothing on standard output.

        Returns the line without its `error: `.
        """
        result = self.osctl(*argv, check=False, stdin=stdin)
        assert result.status == status, f"osctl {' '.join(argv)}: {result}"
        assert result.stdout == ""
        assert re.fullmatch(r"error: [^\n]+\n", result.stderr), result.stderr
        return result.stderr.removeprefix("error: ").rstrip()

    def refusal_without_trace(
        self, *argv: str, running: Sequence[str] = (), status: int = 1, stdin: str | None = None
    ) -> str:
        """`refusal`, and neither the network of H, nor that of these containers, nor what is stored has changed."""
        return Settled(self, running=running).refusal(*argv, status=status, stdin=stdin)

    # --- containers ----------------------------------------------------------------------------------------------

    def new_container(
        self, name: str, *, via: Sequence[str] | None = None, addresses: Sequence[str] = (), start: bool = True
    ) -> str:
        """Make a busybox container; with `via`, a routed eth0 with these addresses. Returns its name."""
        self.osctl("ct", "new", "--distribution", "busybox", name)
        if via is not None:
            options = itertools.chain.from_iterable(("--via", each) for each in via)
            self.osctl("ct", "netif", "new", "routed", *options, name, "eth0")
        if addresses:
            self.osctl("ct", "netif", "ip", "add", name, "eth0", *addresses)
        if start:
            self.osctl("ct", "start", name)
        return name

    def delete_containers(self) -> None:
        """Delete all containers, running or not."""
        for each in self.osctl_json("ct", "ls"):
            self.osctl("ct", "del", "-f", each["id"])

    def guest(self, container: str, *argv: str, check: bool = True, stdin: str | None = None) -> Result:
        """Run a program inside, by `osctl ct exec`."""
        return self.osctl("ct", "exec", container, *argv, check=check, stdin=stdin)

    def guest_ping(self, container: str, address: str, *, count: int = 3, source: str | None = None) -> int:
        """Return how many of `count` pings from inside were answered, each within a second."""
        argv = ["ping", *(["-6"] if ":" in address else []), "-q", "-c", str(count), "-i", "0.05", "-W", "1"]
        argv += ["-I", source] if source else []
        return _received(self.guest(container, *argv, address, check=False).stdout)

    def life(self, container: str) -> tuple[str, int | None]:
        """State and first process, of one moment: between two questions a life may end and another begin."""
        shown = self.osctl_json("ct", "show", container)
        return str(shown["state"]), shown["init_pid"]

    def has_rebooted(self, container: str, *, since: int) -> bool:
        """Whether the container runs again with another first process."""
        state, pid = self.life(container)
        return state == "running" and pid != since

    def init_pid(self, container: str) -> int:
        return int(self.osctl_json("ct", "show", container)["init_pid"])

    def veth(self, container: str, interface: str = "eth0") -> str:
        """Return the name of the host's end."""
        return str(self.osctl_json("ct", "netif", "show", container, interface)["veth"])

    # --- states to compare ---------------------------------------------------------------------------------------

    def kernel_state(self) -> dict[str, list[str]]:
        """All of H's network that a command may change, without what changes by itself."""
        state = _network_state(["-n", self.H])
        rules = self.in_namespace(self.H, "nft", "--stateless", "list", "ruleset").stdout
        # What is remembered for a time goes by itself.
        rules = re.sub(r"(\n\s*timeout \d+[ms]\n)\s*elements = \{[^}]*\}\n", r"\1", rules)
        # Every guest sends when it likes, which is counted: it asks for routers, or speaks while its link is a port.
        rules = re.sub(r"(set (?:limited|bridged) \{[^}]*?\n)\s*elements = \{[^}]*\}\n", r"\1", rules)
        # What is answered for stopped containers follows a while after a command's answer (test_stopped_networks.py).
        rules = re.sub(r"(set stopped[46] \{[^}]*?\n)\s*elements = \{[^}]*\}\n", r"\1", rules)
        # The kernel lists the elements of a set as it likes.
        state["nftables"] = re.sub(r"elements = \{[^}]*\}", _sorted_elements, rules).splitlines()
        keys = "/proc/sys/net/ipv[46]/conf/*/forwarding /proc/sys/net/ipv4/conf/*/rp_filter"
        state["sysctls"] = self.in_namespace(
            self.H, "sh", "-c", f"grep -s . {keys} /proc/sys/net/ipv6/conf/*/accept_ra"
        ).stdout.splitlines()
        return state

    def guest_state(self, container: str) -> dict[str, list[str]]:
        """The network of a running container as the host's iproute2 sees it."""
        # `nsenter --net`, with the mounts of the host: a guest need not have any tool.
        return _network_state([], prefix=self._inside(container))

    def _inside(self, container: str) -> tuple[str, ...]:
        # Asked once for each life: a container that was started anew has another namespace.
        pid, namespace = self.guests.get(container, (0, ""))
        try:
            is_known = os.readlink(f"/proc/{pid}/ns/net") == namespace
        except OSError:
            is_known = False
        if not is_known:
            pid = self.init_pid(container)
            self.guests[container] = pid, os.readlink(f"/proc/{pid}/ns/net")
        return ("nsenter", "--target", str(pid), "--net")

    def guest_ip_json(self, container: str, *argv: str) -> list[dict[str, Any]]:
        """What the host's iproute2 says inside, as data: `guest_ip_json("web", "-6", "route")`."""
        return _as_list(run(*self._inside(container), "ip", "-j", *argv).stdout)

    def in_guest_network(self, container: str, *argv: str, check: bool = True, stdin: str | None = None) -> Result:
        """Run one of the host's programs, with its mounts and rights, in a running container's network."""
        return run(*self._inside(container), *argv, check=check, stdin=stdin)

    def stored(self) -> dict[str, list[tuple[Any, ...]]]:
        """Everything that the daemon keeps on disk, row by row of each table, history included.

        Not of which boot and which start the daemon is: it notes that at a time of its own, and no command changes it.
        Nor what was refused: that changed nothing else.
        """
        tables = self._rows(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT IN ('run', 'failure') ORDER BY name"
        )
        return {name: self._rows(f"SELECT * FROM {name} ORDER BY 1, 2") for (name,) in tables}

    def noted_boot(self) -> str:
        """The boot on which the daemon has started all that was wanted; empty before the first."""
        ((boot,),) = self._rows("SELECT boot FROM run")
        return str(boot)

    def _rows(self, query: str) -> list[tuple[Any, ...]]:
        file = self.state_dir / "osctl.sqlite"
        with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
            return database.execute(query).fetchall()

    def comparable_state(self, *running: str) -> dict[str, list[str]]:
        """The network of H and of these containers, without what carries no meaning.

        Order does only among the IPv4 addresses of one subnet: the kernel lists links and routes as it likes, and
        IPv6 addresses newest first. The guest kernel's own duplicate address detection ends when it ends.
        """
        states = {"host": self.kernel_state(), **{name: self.guest_state(name) for name in running}}
        return {
            f"{place} {section}": sorted(filter(None, map(_comparable, lines))) if section != "nftables" else lines
            for place, state in states.items()
            for section, lines in state.items()
        }

    # --- the end -------------------------------------------------------------------------------------------------

    def destroy(self) -> None:
        """Stop everything and take it away, however much of it there is and however it got stuck."""
        with contextlib.ExitStack() as steps:  # each runs, even when one before it failed; last in, first out
            steps.callback(shutil.rmtree, self.directory, ignore_errors=True)
            steps.callback(self._remove_lxc_locks)
            steps.callback(self.remove_network)
            cgroups = self.cgroups()
            steps.callback(self._remove_cgroups, cgroups)
            steps.callback(self._unmount)
            steps.callback(self._kill_leftovers, cgroups)
            if self._daemon is not None:
                steps.callback(self._end_daemon_for_good)
                steps.callback(self._stop_containers)

    def reboot_host(self, *, meanwhile: Callable[[], None] = lambda: None) -> None:
        """End every process and both namespaces, empty the run directory, and start anew on the same disk.

        What is mounted in our directory is not afterwards: `meanwhile` is called when the host is down.
        """
        self.cut_power()
        meanwhile()
        self.make_network()
        self.start_daemon()

    def cut_power(self) -> None:
        """End everything at once: what is left is the disk."""
        self.kill_daemon()
        cgroups = self.cgroups()
        self._kill_leftovers(cgroups)
        self._unmount()
        self._remove_cgroups(cgroups)
        self.remove_network()
        self._remove_lxc_locks()
        shutil.rmtree(self.run_dir)

    def _stop_containers(self) -> None:
        assert self._daemon is not None
        if self._daemon.poll() is not None:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            for name in self.osctl("ct", "ls", "-H", "-o", "id", check=False, seconds=10).stdout.split():
                self.osctl("ct", "stop", "-k", name, check=False, seconds=20)

    def _end_daemon_for_good(self) -> None:
        assert self._daemon is not None
        try:
            self._daemon.terminate()
            self._daemon.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._daemon.kill()
            self._daemon.wait()
        self._daemon = None

    def cgroups(self) -> list[Path]:
        """The cgroups that this daemon's containers were given, from their LXC configurations."""
        names: set[str] = set()
        for file in self.run_dir.rglob("config"):
            names |= set(re.findall(r"(?m)^lxc\.cgroup\.dir\S* = (\S+)$", file.read_text(errors="replace")))
        # Also those that are not there yet: a monitor that is killed makes its pivot on the way out.
        return [place / name for place in cgroup_places() for name in names]

    def _kill_leftovers(self, cgroups: Sequence[Path]) -> None:
        """End what the daemon did not: processes that name our directory, that are in our namespaces or cgroups."""
        for pid in self._leftovers(cgroups):
            with contextlib.suppress(ProcessLookupError):
                descriptor = os.pidfd_open(pid)
                try:
                    if pid in self._leftovers(cgroups):  # still the same process, and now held
                        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                finally:
                    os.close(descriptor)
        wait_until(lambda: not self._leftovers(cgroups), f"processes of {self.directory} ended")

    def _leftovers(self, cgroups: Sequence[Path]) -> set[int]:
        found = set()
        mine = str(self.directory).encode()
        namespaces = set()
        for name in (self.H, self.R):
            with contextlib.suppress(FileNotFoundError):
                namespaces.add(os.stat(f"/run/netns/{name}").st_ino)
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):  # it ended meanwhile, or is not ours to look at
                if Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("Z"):
                    continue
                line = Path(f"/proc/{pid}/cmdline").read_bytes()
                if mine in line or os.stat(f"/proc/{pid}/ns/net").st_ino in namespaces:
                    found.add(int(pid))
        for cgroup in cgroups:
            with contextlib.suppress(OSError):
                found |= {int(pid) for pid in (cgroup / "cgroup.procs").read_text().split()}
        return found - {os.getpid()}

    def _unmount(self) -> None:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        for line in reversed(lines):
            place = line.split()[4]
            if place.startswith(f"{self.directory}/"):
                run("umount", "-l", place, check=False)

    def _remove_cgroups(self, cgroups: Sequence[Path]) -> None:
        def are_gone() -> bool:
            for cgroup in cgroups:
                for parent, _, _ in os.walk(cgroup, topdown=False):
                    with contextlib.suppress(OSError):  # a zombie that nobody has reaped yet is still in it
                        os.rmdir(parent)
            return not any(cgroup.exists() for cgroup in cgroups)

        wait_until(are_gone, f"cgroups of {self.directory} removed")

    def remove_network(self) -> None:
        for name in (self.H, self.R):
            run("ip", "netns", "del", name, check=False)

    def _remove_lxc_locks(self) -> None:
        shutil.rmtree(f"/run/lxc/lock{self.directory}", ignore_errors=True)


class Settled:
    """A host as it is now, and on which nothing shall change any more, whatever is asked of it."""

    def __init__(self, host: Topology, *, running: Sequence[str] = ()) -> None:
        self._host = host
        self._running = running
        self._state = host.comparable_state(*running)
        self._stored = host.stored()

    def refusal(self, *argv: str, status: int = 1, stdin: str | None = None) -> str:
        """A command that must be refused in one line, and leaves networks and stored rows as they were."""
        message = self._host.refusal(*argv, status=status, stdin=stdin)
        changed = differences(self._state, self._host.comparable_state(*self._running))
        assert not changed, "\n".join((f"osctl {' '.join(argv)}: {message}", *changed))
        assert self._host.stored() == self._stored, f"osctl {' '.join(argv)}: {message}"
        return message


#: What to ask `ip`; questions with the same option are one process.
_QUESTIONS = (
    ("-details", {"links": "link show", "addresses": "addr show", "neighbours": "neigh show nud permanent"}),
    ("-4", {"routes": "route show table all", "rules": "rule show"}),
    ("-6", {"routes6": "route show table all", "rules6": "rule show"}),
)


def _network_state(options: Sequence[str], *, prefix: Sequence[str] = ()) -> dict[str, list[str]]:
    state = {}
    for option, questions in _QUESTIONS:
        batch = "".join(f"{question}\n" for question in questions.values())
        text = run(*prefix, "ip", *options, "-j", option, "-batch", "-", stdin=batch).stdout
        for name in questions:
            answer, length = json.JSONDecoder().raw_decode(text)
            text = text[length:].lstrip()
            state[name] = [json.dumps(without(_VOLATILE, each), sort_keys=True) for each in answer if each]
    return state


def _sorted_elements(found: re.Match[str]) -> str:
    inside = found[0].removeprefix("elements = {").removesuffix("}")
    return f"elements = {{ {', '.join(sorted(each.strip() for each in inside.split(',')))} }}"


def differences(before: Mapping[str, Sequence[str]], after: Mapping[str, Sequence[str]]) -> list[str]:
    """One line for each thing that came to, or went from, what `comparable_state` tells; empty when they are equal."""
    return [
        f"{section}: {sign} {line}"
        for section in sorted({*before, *after})
        for sign, lines, others in (
            ("-", before.get(section, ()), after.get(section, ())),
            ("+", after.get(section, ()), before.get(section, ())),
        )
        for line in (Counter(lines) - Counter(others)).elements()
    ]


def _comparable(line: str) -> str | None:
    if not line.startswith("{"):
        return line
    each = json.loads(line)
    if each.get("type") == "local" and str(each.get("dst")).startswith("fe80::") and each["dst"] != "fe80::1":
        return None  # comes when the detection ends
    if "addr_info" in each:
        for address in each["addr_info"]:
            address.pop("tentative", None)
            # A new name of a link makes the labels of all but its first IPv4 address aliases: `lan0:2`.
            address.pop("label", None)
        # A stable sort: addresses of one IPv4 subnet stay in their order, the first of them is its primary.
        each["addr_info"].sort(key=_subnet_or_address)
    return json.dumps(each, sort_keys=True)


def _subnet_or_address(address: Mapping[str, Any]) -> str:
    interface = ipaddress.ip_interface(f"{address['local']}/{address['prefixlen']}")
    return str(interface.network if interface.version == 4 else interface)


def _as_list(text: str) -> list[dict[str, Any]]:
    """iproute2 prints nothing at all for an empty answer, and an empty object for some links."""
    answer: list[dict[str, Any]] = json.loads(text or "[]")
    return [each for each in answer if each]


def _received(text: str) -> int:
    match = re.search(r"(\d+) (?:packets )?received", text)
    return int(match[1]) if match else 0
