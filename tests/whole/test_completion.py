"""Completion in real shells, from a real daemon."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from lxc.terminal import Terminal
from whole.host import BIN, Topology, run, wait_until

PLACE = Path(__file__).parents[2] / "packaging" / "completion"
SHELLS = ("bash", "zsh", "fish")


@pytest.fixture(scope="module")
def completing() -> Iterator[Topology]:
    """A host with two containers, of which nothing has to run."""
    with Topology() as topology:
        topology.new_container("myct01", via=["10.100.10.100/30", "fd00:1::/126"], start=False)
        topology.new_container("web02", start=False)
        topology.osctl("ct", "netif", "ip", "add", "myct01", "eth0", "1.2.3.4", "2001:db8:2::4")
        topology.osctl("ct", "netif", "route", "add", "myct01", "eth0", "10.5.5.0/24")
        topology.osctl("ct", "netif", "source", "add", "myct01", "eth0", "100.64.0.0/10")
        yield topology


def environment(socket: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name in ("LANG", "TMPDIR")}
    return {**kept, "PATH": f"{BIN}:/usr/bin:/bin", "OSCTL_SOCKET": str(socket), "TERM": "dumb", "HOME": "/nonexistent"}


def shell(program: str, script: str, *, socket: Path, cwd: Path | None = None) -> list[str]:
    """The lines that a script prints; it must say nothing else and succeed."""
    options = {"bash": ["--norc", "--noprofile"], "zsh": ["-f"], "fish": ["--no-config"]}[program]
    done = subprocess.run(
        [program, *options, "-c", script],
        env=environment(socket),
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout.splitlines()


def in_bash(line: str, *, socket: Path, cwd: Path | None = None) -> list[str]:
    """What bash would put in place of its current word: words are split at blanks, colons and equals signs."""
    words: list[str] = []
    for typed in line.split(" "):
        piece = ""
        for character in typed:
            if piece and (character in ":=") != (piece[-1] in ":="):
                words.append(piece)
                piece = ""
            piece += character
        words.append(piece)
    script = f"""
        source {shlex.quote(str(PLACE / "osctl.bash"))}
        compopt() {{ :; }}  # works only while a key is handled
        COMP_LINE={shlex.quote(line)} COMP_POINT={len(line)} COMP_CWORD={len(words) - 1}
        COMP_WORDS=({shlex.join(words)}) COMP_WORDBREAKS=$' \\t\\n"\\'><=;|&(:'
        _osctl
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    return [each for each in shell("bash", script, socket=socket, cwd=cwd) if each]


def in_zsh(line: str, *, socket: Path) -> list[str]:
    *before, current = line.split(" ")
    script = f"""
        compadd() {{ print -rl -- $completed }}
        words=({shlex.join([*before, current])}) CURRENT={len(before) + 1} PREFIX={shlex.quote(current)}
        autoload -U {PLACE}/_osctl 2>/dev/null
        source {shlex.quote(str(PLACE / "osctl.zsh"))}
        _osctl
        true
    """
    return shell("zsh", script, socket=socket)


def in_fish(line: str, *, socket: Path) -> list[str]:
    script = f"source {shlex.quote(str(PLACE / 'osctl.fish'))}; complete -C {shlex.quote(line)}"
    return [each.partition("\t")[0] for each in shell("fish", script, socket=socket)]


def shown(terminal: Terminal) -> str:
    """What is on the screen, without the orders to move about and to colour."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.screen())


def completions(program: str, line: str, *, socket: Path) -> list[str]:
    return {"bash": in_bash, "zsh": in_zsh, "fish": in_fish}[program](line, socket=socket)


@pytest.mark.parametrize("program", SHELLS)
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("osctl ct netif ", ["del", "ip", "ls", "new", "route", "set", "show"]),
        ("osctl ct show ", ["myct01", "web02"]),
        ("osctl -j ct show w", ["web02"]),
        ("osctl ct netif show myct01 ", ["eth0"]),
        ("osctl ct netif ip del --keep-route myct01 eth0 1.", ["1.2.3.4/32"]),
        ("osctl ct netif route del myct01 eth0 10", ["10.5.5.0/24"]),
        ("osctl ct netif source del myct01 eth0 1", ["100.64.0.0/10"]),
        ("osctl ct netif ip ls --version ", ["4", "6"]),
        ("osctl ct ls --hide", ["--hide-header"]),
    ],
)
def test_every_shell_completes(completing: Topology, program: str, line: str, words: list[str]) -> None:
    found = completions(program, line, socket=completing.socket)

    # Later versions add words; the containers, interfaces and addresses are just these.
    if line.endswith("netif "):
        assert set(words) <= set(found)
    else:
        assert found == words


def test_bash_completes_what_it_splits_at_colons_and_equals_signs(completing: Topology) -> None:
    socket = completing.socket

    assert in_bash("osctl ct netif ip del myct01 eth0 2001:d", socket=socket) == ["db8:2::4/128"]
    assert in_bash("osctl ct netif ip del myct01 eth0 2001:db8:2::", socket=socket) == ["4/128"]
    assert in_bash("osctl ct netif ip ls --version=", socket=socket) == ["4", "6"]
    assert in_bash("osctl ct ls --output=id,mem", socket=socket) == ["id,memory"]


def test_files_are_offered_where_a_command_takes_one(completing: Topology, tmp_path: Path) -> None:
    (tmp_path / "rootfs.tar").touch()

    assert in_bash("osctl ct new --from-archive ro", socket=completing.socket, cwd=tmp_path) == ["rootfs.tar"]
    assert in_bash("osctl ct new --from-archive=ro", socket=completing.socket, cwd=tmp_path) == ["rootfs.tar"]


def test_a_socket_that_was_typed_is_asked(completing: Topology, tmp_path: Path) -> None:
    line = f"osctl --socket {completing.socket} ct show w"

    for program in SHELLS:
        assert completions(program, line, socket=tmp_path / "nothing") == ["web02"], program


@pytest.mark.parametrize("program", SHELLS)
@pytest.mark.parametrize("line", ["osctl ", "osctl ct show ", "osctl --nosuch "])
def test_completion_is_silent_without_a_daemon(tmp_path: Path, program: str, line: str) -> None:
    assert completions(program, line, socket=tmp_path / "nothing") == []


def test_a_daemon_that_does_not_answer_holds_no_shell_for_long(completing: Topology) -> None:
    os.kill(completing.daemon_pid, signal.SIGSTOP)
    try:
        result = run(str(BIN / "osctl"), "--complete", "--socket", str(completing.socket), "", check=False, seconds=20)
    finally:
        os.kill(completing.daemon_pid, signal.SIGCONT)

    assert result.stdout == result.stderr == ""
    assert result.status != 0


@pytest.mark.parametrize(
    ("argv", "begin"),
    [
        (["bash", "--norc", "--noprofile", "-i"], "source {place}/osctl.bash"),
        (["zsh", "-f", "-i"], "fpath=({directory} $fpath); autoload -U compinit; compinit -D -u"),
    ],
    ids=["bash", "zsh"],
)
def test_a_key_completes_the_line_of_an_interactive_shell(
    completing: Topology, tmp_path: Path, argv: Sequence[str], begin: str
) -> None:
    shutil.copy(PLACE / "osctl.zsh", tmp_path / "_osctl")
    with Terminal(columns=200) as terminal:
        process = subprocess.Popen(
            argv,
            stdin=terminal.program,
            stdout=terminal.program,
            stderr=terminal.program,
            env={**environment(completing.socket), "PS1": "ready> ", "TERM": "xterm"},
            start_new_session=True,
        )
        try:
            wait_until(lambda: "ready> " in terminal.screen(), "the shell is ready", seconds=20)
            terminal.type(begin.format(place=PLACE, directory=tmp_path) + "; echo is${x}set\n")
            wait_until(lambda: "isset" in terminal.screen(), "completion is set up", seconds=20)
            terminal.type("osctl ct netif show my\t")
            wait_until(lambda: re.search("show myct01.* ", shown(terminal)), "the container is there", seconds=20)
            terminal.type("\t")
            wait_until(lambda: re.search("show myct01.* .*eth0", shown(terminal)), "its interface is too", seconds=20)
        finally:
            process.kill()
            process.wait()
