"""Commands inside a running container, by lxc-attach."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import signal
from asyncio.subprocess import Process
from collections.abc import Mapping, Sequence
from typing import Any

from osctld.core.config.life import SignalSource
from osctld.core.errors import Refused, Unavailable
from osctld.shell.lxc import cgroups, processes
from osctld.shell.lxc import signals as lxc_signals
from osctld.shell.lxc import terminal as lxc_terminal
from osctld.shell.lxc.life import ANSWER_SECONDS, Life
from osctld.shell.lxc.places import Places
from osctld.shell.process import pidfds, subprocesses
from osctld.shell.process.subprocesses import kill, run_quietly, to_the_end

_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
}
#: Seconds that a command has for its last things when its client has gone: a shell's handler starts programs, and on a
#: busy machine each of them waits for a processor.
_PATIENCE_SECONDS = 3.0
#: The same for commands whose daemon has died: the next one waits for them before it answers clients.
_PATIENCE_AT_START_SECONDS = 0.5
_USUAL_TERMINAL = "xterm"  # what nearly all terminals understand
#: Names of terminals (term(7)); a longer one, or one with other characters, is none, and might be a path.
_TERMINAL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._-]{0,63}")


async def execute(
    places: Places,
    life: Life,
    command: Sequence[str],
    *,
    descriptors: tuple[int, int, int],
    environment: Mapping[str, str],
    terminal_type: str,
    signals: SignalSource | None,
) -> int:
    """Run a command in the container on the given descriptors; return its exit status, 128+N for signal N.

    The descriptors stay the caller's and keep their flags. With input and output on a terminal the command gets a
    terminal, too, of the caller's type as far as that is a name. What comes from `signals` is passed on.
    127: no such command; 126: it cannot be executed.
    A cancellation ends the command, too. Raises Refused or Unavailable.
    """
    container = life.container
    if not command or not all(map(_is_word, command)):
        raise Refused(f"{list(command)!r}: not a command", code="no-command", subject=container)
    if life.is_over:
        raise Unavailable(f"'{container}': container not running", subject=container)
    if cgroups.is_frozen(life.cgroup, trees=places.trees):  # lxc-attach would hang
        raise Unavailable(f"'{container}': container is frozen", subject=container)
    for program in ("lxc-attach", "setsid"):  # a shell would say 127, as of a command that is not there inside
        subprocesses.require(program, subject=container)
    async with lxc_terminal.carried(*descriptors) as streams:
        terminal = {"TERM": _terminal_name(terminal_type)} if streams.has_terminal else {}
        variables = _ENVIRONMENT | terminal | dict(environment)
        beginning = asyncio.ensure_future(
            subprocesses.execute(
                *streams.prefix, *_words(places, life, command, variables),
                stdin=streams.stdin, stdout=streams.stdout, stderr=streams.stderr, cwd="/",
                start_new_session=not streams.prefix,
            )
        )  # fmt: skip
        try:
            process = await asyncio.shield(beginning)
        except asyncio.CancelledError:
            # Not cancelled itself: asyncio would kill lxc-attach alone.
            await to_the_end(_end_begun(beginning))
            raise
        except OSError as error:
            if error.errno != errno.E2BIG:  # see execve(2) for the limits
                raise
            size = sum(len(os.fsencode(word)) + 1 for word in command)
            raise Refused(
                f"{command[0][:100]!r}: too long to be executed with its arguments, {size} bytes",
                code="too-long",
                subject=container,
            ) from None
        streams.hand_over()
        waiting = asyncio.ensure_future(process.wait())
        passing = None if signals is None else asyncio.ensure_future(lxc_signals.pass_on(signals, process, streams))
        awaited: list[asyncio.Future[Any]] = [waiting, streams.hung_up, *([passing] if passing else [])]
        try:
            await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
            if passing is not None and passing.done():
                passing.result()  # it ends only by an error
            if not waiting.done():
                await to_the_end(_end(process))
            status = await waiting
        except BaseException:
            await to_the_end(_end(process))
            raise
        finally:
            if passing is not None:
                passing.cancel()
                await asyncio.wait((passing,))
    return 128 - status if status < 0 else status


def _is_word(text: str) -> bool:
    """Whether a program can be given it: bytes without a NUL; what was not UTF-8 came as lone surrogates (PEP 383)."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def _terminal_name(given: str) -> str:
    return given if _TERMINAL_NAME.fullmatch(given) else _USUAL_TERMINAL


async def run(places: Places, life: Life, *command: str) -> int | None:
    """Run a command without streams; its exit status, 126 and 127 as above, None when it took too long."""
    return await run_quietly(*_words(places, life, command, _ENVIRONMENT), timeout_seconds=ANSWER_SECONDS)


def _words(places: Places, life: Life, command: Sequence[str], variables: Mapping[str, str]) -> tuple[str, ...]:
    settings = (word for name, value in variables.items() for word in ("--set-var", f"{name}={value}"))
    return ("lxc-attach", "-P", places.lxc_path, "-n", life.container, "--clear-env", *settings, "--", *command)


async def end_orphans(places: Places) -> None:
    """End the commands whose daemon has died: their clients are gone too, and their exit statuses are not needed.

    Those with a terminal have ended by themselves, because their terminal was the daemon's.
    """
    attaches = await asyncio.to_thread(processes.attaches_of, lxc_path=places.lxc_path)
    try:
        pids = [pid for pidfd in attaches if (pid := pidfds.pid_of(pidfd)) is not None]
        await asyncio.gather(*(_end_command(pid, patience_seconds=_PATIENCE_AT_START_SECONDS) for pid in pids))
    finally:
        await pidfds.end_all(attaches, patience_seconds=1)


async def _end_begun(beginning: asyncio.Future[Process]) -> None:
    with contextlib.suppress(OSError):  # it could not be begun
        await _end(await beginning)


async def _end(process: Process) -> None:
    """End a command that an lxc-attach runs, what it has started in its session, and the lxc-attach."""
    # One that is on its way into the container would not be found there, and left behind a moment later.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(ANSWER_SECONDS):
            command = await lxc_signals.command_of(process)
            if command is not None:
                os.close(command)
    await _end_command(process.pid, patience_seconds=_PATIENCE_SECONDS)
    try:
        async with asyncio.timeout(1):
            await process.wait()
    except TimeoutError:
        await kill(process)


async def _end_command(attach: int, *, patience_seconds: float) -> None:
    """End the command of an lxc-attach, which alone would leave it behind, and what it has started in its session.

    Hang up first, as a terminal does; kill when the patience is over, and again until a look finds nobody: who is
    killed may just have forked.
    """
    # A command with a terminal has a session of its own, one without is in that of lxc-attach.
    sessions = {attach, *processes.children(attach)}
    while held := await asyncio.to_thread(processes.of_sessions, sessions, spared=attach):
        for pidfd in held:
            pidfds.send_signal(pidfd, signal.SIGHUP)
            pidfds.send_signal(pidfd, signal.SIGCONT)  # a stopped process gets it, too
        if not await pidfds.end_all(held, patience_seconds=patience_seconds):
            break
        patience_seconds = 0.0
