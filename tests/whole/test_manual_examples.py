"""Every example of the manual, the guide and the front page does what it says, run by a shell against a real daemon."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from osctld.cli.catalogue import Group, catalogue
from osctld.core.command import Command
from whole.bridges import make_bridge
from whole.host import BIN, Result, Topology, wait_until
from whole.routers import announcing

ROOT = Path(__file__).parents[2]

#: Pages with sessions: what is typed stands behind `# `, what is shown below it.
PAGES = ("README.md", "docs/osctl-routed.md", "docs/osctl-bridged.md", "docs/static-routes.md")

#: Commands that go on until they are interrupted.
ENDLESS = {("monitor",), ("ct", "monitor")}

#: What the examples of commands find, besides myct02: stopped, and without interfaces.
USUAL = (
    "ct new --distribution busybox myct01",
    "ct new --distribution busybox myct02",
    "ct netif new routed --via 10.100.10.100/30 --via fd00:10:100::/126 myct01 eth0",
    "ct netif ip add myct01 eth0 1.2.3.4/32 1.2.3.5/32 2001:db8:2::4",
    "ct netif route add myct01 eth0 10.5.5.0/24",
    "ct netif source add myct01 eth0 203.0.113.0/24 2001:db8:99::/48",
    "ct start myct01",
)

#: What those of some commands find beside that; what is so already is left.
ALSO = {
    ("ct", "guest-files", "restore"): ("ct set guest-files myct01 report",),
    ("ct", "netif", "set"): ("ct netif new bridge --link br0 myct02 lan0",),
    ("ct", "netif", "ip", "move"): ("ct netif new routed --via 10.100.10.104/30 --via fd00:10:104::/126 myct02 eth0",),
    ("net", "unblock"): ("net block 1.2.3.4",),
    ("net", "uplink", "add"): ("net uplink del up0",),
    ("net", "uplink", "del"): ("net uplink add up0",),
}
SETTINGS = """
[addresses.web]
networks = ["203.0.113.128/25"]
"""


class Step(NamedTuple):
    """A line that is typed, and the lines that are shown for it; none when the page shows none."""

    line: int
    typed: str
    shown: tuple[str, ...]


def commands(group: Group) -> Iterator[type[Command]]:
    for child in group.children.values():
        if isinstance(child, Group):
            yield from commands(child)
        else:
            yield child


COMMANDS = tuple(commands(catalogue()))


def steps(text: str) -> list[Step]:
    """The sessions of a page, in order. A comment that is shown, such as `# on the host`, is no command."""
    programs = ("osctl", "ip", "nft")
    found: list[Step] = []
    is_fenced = is_session = False
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith("```"):
            is_fenced, is_session = not is_fenced, False
        elif is_fenced and line.startswith("# ") and line[2:].split()[0] in programs:
            found.append(Step(number, line[2:], ()))
            is_session = True
        elif is_session:
            found[-1] = found[-1]._replace(shown=(*found[-1].shown, line.rstrip()))
    return found


def type_in(host: Topology, directory: Path, line: str) -> Result:
    """Run a line as a person on H would, in a directory with an archive and a copy in it."""
    done = subprocess.run(
        ["nsenter", f"--net=/run/netns/{host.H}", "sh", "-c", line],
        cwd=directory,
        env={**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "OSCTL_SOCKET": str(host.socket)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    return Result(done.returncode, done.stdout, done.stderr)


def lines_of(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip("\n").splitlines()]


@pytest.fixture(scope="module")
def prepared() -> Iterator[Topology]:
    """One host for all tests of the file, with the settings that examples are about."""
    with announcing(more_settings=SETTINGS) as topology:
        for bridge in ("br0", "br1"):
            make_bridge(topology, bridge)
        yield topology


@pytest.fixture
def usual(prepared: Topology) -> Iterator[Topology]:
    """The host that the examples of commands are about."""
    for line in USUAL:
        prepared.osctl(*line.split())
    yield prepared
    prepared.delete_containers()


def make_archive(file: Path) -> None:
    root = file.parent / "root"
    (root / "sbin").mkdir(parents=True)
    (root / "sbin/init").touch(mode=0o755)
    with tarfile.open(file, "w") as archive:
        archive.add(root, ".")


@pytest.mark.parametrize("command", COMMANDS, ids=lambda each: "-".join(each.words))
def test_every_command_has_examples_of_itself(command: type[Command]) -> None:
    assert command.examples
    for each in command.examples:
        words = [word for word in shlex.split(each.command_line) if not word.startswith("-")]
        assert tuple(words[: 1 + len(command.words)]) == ("osctl", *command.words)
        assert not each.help.endswith((".", ":"))


@pytest.mark.parametrize("command", COMMANDS, ids=lambda each: "-".join(each.words))
def test_the_examples_of_a_command_work(usual: Topology, tmp_path: Path, command: type[Command]) -> None:
    make_archive(tmp_path / "rootfs.tar")
    usual.osctl("self", "backup", str(tmp_path / "osctl.backup"))
    for line in ALSO.get(command.words, ()):
        usual.osctl(*line.split(), check=False)

    for each in command.examples:
        if command.words in ENDLESS:
            follow(usual, each.command_line)
            continue
        result = type_in(usual, tmp_path, each.command_line)

        assert (result.status, result.stderr) == (0, ""), each.command_line


def follow(host: Topology, line: str) -> None:
    """Run a line that shows what happens until it is interrupted, and let something happen."""
    process = subprocess.Popen(
        shlex.split(line),
        env={**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "OSCTL_SOCKET": str(host.socket)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    try:

        def something_is_shown() -> bool:
            host.osctl("ct", "stop", "-k", "myct01")
            host.osctl("ct", "start", "myct01")
            assert process.stdout is not None
            return bool(process.stdout.read())

        wait_until(something_is_shown, f"{line} shows something", seconds=30)
    finally:
        process.send_signal(signal.SIGINT)
        os.set_blocking(process.stdout.fileno(), True)
        _, error = process.communicate(timeout=10)
    assert error == ""


@pytest.mark.parametrize("page", PAGES)
def test_the_sessions_of_a_page_show_what_a_person_would_see(host: Topology, tmp_path: Path, page: str) -> None:
    session = steps((ROOT / page).read_text())
    assert len(session) > 10

    for step in session:
        result = type_in(host, tmp_path, step.typed)

        where = f"{page}:{step.line}: {step.typed}"
        told = [line for line in step.shown if line.startswith(("error: ", "note: "))]
        is_refused = any(line.startswith("error: ") for line in told)
        assert (result.status != 0) == is_refused, f"{where}\n{result}"
        assert lines_of(result.stderr) == told, where
        if step.shown and not is_refused:
            printed = [line for line in step.shown if line not in told]
            assert lines_of(result.stdout) == lines_of("\n".join(printed)), where


def test_no_session_of_a_page_is_left_out() -> None:
    """A session that is not run, because a fence or a prompt is missing, would go unnoticed."""
    for page in PAGES:
        text = (ROOT / page).read_text()
        typed = [line for line in text.splitlines() if re.match(r"#? ?osctl (?:-\w )?(?:ct|self|net|router) ", line)]

        assert len(typed) == sum(step.typed.startswith("osctl") for step in steps(text)), page
