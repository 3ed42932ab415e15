"""BIRD on the host and on the router beyond it, as packaged, each with files and a socket of its own."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from whole.host import HOST_4, HOST_6, ROUTER_4, ROUTER_6, Topology, run, wait_until

#: What may be announced in these tests; the router has no other route to it.
ALLOWED_4, ALLOWED_6 = "198.19.0.0/16", "2001:db8:5::/48"
HOST_AS, ROUTER_AS = 65001, 65000

#: As Debian's package has it, and the line that an operator adds.
MAIN = """\
log stderr all;
router id {router_id};
protocol device {{ }}
protocol direct {{ disabled; ipv4; ipv6; }}
protocol kernel {{ ipv4 {{ export all; }}; }}
protocol kernel {{ ipv6 {{ export all; }}; }}
protocol static {{ ipv4; }}
"""


class Bird:
    """A BIRD of its own."""

    def __init__(self, namespace: str, directory: Path) -> None:
        self.namespace = namespace
        self.directory = directory
        self.config, self.socket = directory / "bird.conf", directory / "bird.ctl"
        self.log = directory / "bird.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        """Raises AssertionError, with what it says, when it does not come up."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *("nsenter", f"--net=/run/netns/{self.namespace}", "bird", "-f"),
                    *("-c", str(self.config), "-s", str(self.socket), *options),
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        process = self._process

        def answers() -> bool:
            assert process.poll() is None, self.log.read_text()
            return self.ask("show status", check=False).startswith("BIRD")

        wait_until(answers, "BIRD answers")

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGCONT)
                self._process.send_signal(how)
            self._process.wait(timeout=30)
            self._process = None

    @property
    def pid(self) -> int:
        assert self._process is not None, "no BIRD"
        return self._process.pid

    def ask(self, command: str, *, check: bool = True) -> str:
        """What it answers to a command of birdc, without the greeting."""
        done = run("birdc", "-s", str(self.socket), *command.split(), check=check)
        return "\n".join(line for line in done.stdout.splitlines() if " ready." not in line)


class Announcing(Topology):
    """A host that may announce `ALLOWED`, with a router that listens. Both run BIRD."""

    def __init__(self, *, more_settings: str = "", neighbor: str = "", router: str = "") -> None:
        #: Searchable by BIRD whatever user it runs as.
        self.birds = Path(tempfile.mkdtemp(prefix="osct-bird-"))
        self.birds.chmod(0o755)
        self.include = self.birds / "H" / "osctl.conf"
        super().__init__(
            settings=f"""\
[announce]
networks = ["{ALLOWED_4}", "{ALLOWED_6}"]
local_as = {HOST_AS}
bird_config = "{self.birds}/H/bird.conf"
bird_include = "{self.include}"
bird_socket = "{self.birds}/H/bird.ctl"
"""
            + (
                neighbor
                or f"""\
[neighbors.r4]
address = "{ROUTER_4}"
remote_as = {ROUTER_AS}
limit = 1000
[neighbors.r6]
address = "{ROUTER_6}"
remote_as = {ROUTER_AS}
limit = 1000
"""
            )
            + more_settings,
            start_daemon=False,
        )
        self._router = router
        self._marks = itertools.count(1)
        self.at_host, self.at_router = (Bird(each, self.birds / name) for each, name in ((self.H, "H"), (self.R, "R")))

    def make_network(self) -> None:
        super().make_network()
        for each in (self.at_host, self.at_router):
            each.directory.mkdir(exist_ok=True)
        self.include.touch()
        self.at_host.config.write_text(MAIN.format(router_id=HOST_4) + f'include "{self.include}";\n')
        self.at_router.config.write_text(
            MAIN.format(router_id=ROUTER_4)
            + (
                self._router
                or "".join(
                    f"protocol bgp h{version} {{ local as {ROUTER_AS}; neighbor {address} as {HOST_AS};"
                    f" connect delay time 1; connect retry time 1; error wait time 1,2; graceful restart on;"
                    f" ipv{version} {{ import all; export none; }}; }}\n"
                    for version, address in ((4, HOST_4), (6, HOST_6))
                )
            )
        )

    def destroy(self) -> None:
        try:
            for each in (self.at_host, self.at_router):
                each.end()
        finally:
            super().destroy()
            shutil.rmtree(self.birds, ignore_errors=True)

    def start_all(self) -> None:
        """Both BIRDs and the daemon."""
        self.at_host.start()
        self.at_router.start()
        self.start_daemon()

    def routes_at_router(self) -> set[str]:
        """The networks that the router's kernel has by BGP from the host."""
        return self._networks(self.R, "proto", "bird")

    def copies(self) -> set[str]:
        """The networks in the announcement table."""
        return self._networks(self.H, "table", "1111")

    def _networks(self, namespace: str, *chosen: str) -> set[str]:
        """Networks of routes of both versions, with their lengths. A table that nobody has used yet is an error."""
        said = [self.ip(namespace, "-j", family, "route", "show", *chosen, check=False) for family in ("-4", "-6")]
        found = [each["dst"] for routes in said if routes.rstrip().endswith("]") for each in json.loads(routes)]
        return {each if "/" in each else f"{each}/{128 if ':' in each else 32}" for each in found}

    @contextlib.contextmanager
    def watch_routes(self) -> Iterator[Callable[[], list[str]]]:
        """Watch changes of all tables of the host; the function that is given says what was seen so far."""
        file = self.directory / "routes"
        with file.open("w") as seen:
            process = subprocess.Popen(
                ["ip", "-n", self.H, "-o", "monitor", "route"], stdin=subprocess.DEVNULL, stdout=seen, stderr=seen
            )

        def lines() -> list[str]:
            # What was before a mark has been written when the mark has. Each is another one: the kernel tells nobody of
            # a route that is replaced by the same.
            def is_marked() -> bool:
                mark = f"203.0.113.{next(self._marks)}"
                self.ip(self.H, "route", "add", "blackhole", mark, "table", "1112")
                return wait_a_little(lambda: f"{mark} " in file.read_text())

            wait_until(is_marked, "the mark is seen")
            return [line for line in file.read_text().splitlines() if "table 1112" not in line]

        try:
            lines()
            yield lines
        finally:
            process.kill()
            process.wait()


def wait_a_little(condition: Callable[[], bool]) -> bool:
    """Whether it becomes true within half a second."""
    end = time.monotonic() + 0.5
    while not (answer := condition()) and time.monotonic() < end:
        time.sleep(0.01)
    return answer


@contextlib.contextmanager
def announcing(**options: str) -> Iterator[Announcing]:
    """A host on which everything runs, and nothing is announced yet."""
    with Announcing(**options) as host:
        host.start_all()
        yield host
