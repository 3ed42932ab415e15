"""The LXC engine: gives a container its life, ends it, and finds it again.

`lxc-start` and `lxc-attach` are executed; all else is asked of the monitor's command socket, awaited on pidfds, and
read from /proc and the cgroups. A life goes

    make_namespaces -> (the caller prepares the network) -> launch -> execute, usage ... -> shut_down -> wait_ended

and whatever fails or is cancelled on the way leaves neither process nor mount nor cgroup.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Mapping, Sequence
from pathlib import Path

from osctld.core.errors import ApplyFailed, OsctlError, Refused, Unavailable
from osctld.core.life import ContainerSpec, End, StopMethod
from osctld.shell import cgroups, command_socket, guest_root, idmapped_mount, lxc_files, lxc_processes, pidfds
from osctld.shell import namespaces as namespace_holder
from osctld.shell.cgroups import Usage
from osctld.shell.command_socket import NotRunning
from osctld.shell.guest_root import InitKind
from osctld.shell.lxc_files import CgroupNames
from osctld.shell.namespaces import CLEAN_ENVIRONMENT, Namespaces, run_quietly, to_the_end

__all__ = ["Life", "LxcEngine", "Namespaces", "Usage"]

# Bounds, in seconds. A start takes 20 to 40 ms, a hundred at once some seconds.
_START = 30.0
_EXEC = 10.0
_ANSWER = 5.0
_DEATH = 30.0
_ASK_AGAIN = 3.0

_ELSEWHERE = Path("/run/osctl-lxc")
_SIGRTMIN_PLUS_3 = signal.SIGRTMIN + 3
_GUEST_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
}


class Life:
    """A container from its first process to the end of its monitor. Owns two descriptors: close it once.

    `init_pid` is the first process as the host counts; `pidfd` and `monitor_pidfd` become readable when init and
    LXC's monitor have ended. `cgroup` is the path of its cgroup below each hierarchy.
    """

    def __init__(self, *, container: str, init_pid: int, pidfd: int, monitor_pidfd: int, cgroup: str) -> None:
        self.container = container
        self.init_pid = init_pid
        self.pidfd = pidfd
        self.monitor_pidfd = monitor_pidfd
        self.cgroup = cgroup
        self.ending: asyncio.Task[End] | None = None

    @property
    def is_over(self) -> bool:
        return self.pidfd < 0 or pidfds.has_ended(self.pidfd)

    def close(self) -> None:
        """Give the descriptors back; the container itself is not touched."""
        if self.ending is not None:
            self.ending.cancel()
        for descriptor in (self.pidfd, self.monitor_pidfd):
            if descriptor >= 0:
                os.close(descriptor)
        self.pidfd = self.monitor_pidfd = -1


class _Start:
    """How far a start has got."""

    def __init__(self) -> None:
        self.process: Process | None = None
        self.parting: asyncio.Future[tuple[None, None]] | None = None
        self.life: Life | None = None


class LxcEngine:
    """Containers of one daemon. All of the engine's files are below these two directories.

    RUN/lxc is LXC's path with a directory for each life (/run/osctl-lxc/HASH instead, while containers run, when
    RUN is not searchable for everybody), RUN/lxc.d holds hook, reboot markers and locks, STATE/log/ct the logs.
    """

    def __init__(self, *, state_dir: Path, run_dir: Path) -> None:
        run = Path(os.path.abspath(run_dir))
        own = run / "lxc.d"
        self._markers = own / "reboots"
        self._locks = own / "locks"
        self._hook = own / "post-stop"
        self._logs = Path(os.path.abspath(state_dir)) / "log" / "ct"
        for directory in (own, self._markers, self._locks, self._logs):
            directory.mkdir(parents=True, exist_ok=True)
            directory.chmod(0o700)
        lxc_files.write_if_different(self._hook, lxc_files.hook_text(self._markers), mode=0o700)
        self._lxc_path = run / "lxc"
        self._shared_directories: tuple[Path, ...] = (self._lxc_path,)
        if not _may_everybody_search(run):
            # The container's own root user has to look up its root: where the run directory lies in somebody's
            # private directory, LXC needs a path of its own.
            self._lxc_path = _ELSEWHERE / f"{command_socket.fnv64a(os.fsencode(run)):016x}"
            self._shared_directories = (self._lxc_path, _ELSEWHERE)
        self._tag = f"{command_socket.fnv64a(os.fsencode(self._lxc_path)):016x}"[:8]
        self._trees = cgroups.hierarchies()
        self._bases = cgroups.base_paths()
        self._current: dict[str, Life] = {}
        self._quickening: asyncio.Future[None] | None = None
        self._hastening: set[asyncio.Task[None]] = set()

    # ---- birth -----------------------------------------------------------------------------------------------

    async def make_namespaces(self, spec: ContainerSpec) -> Namespaces:
        """Make the container's user and network namespaces, loopback up, after collecting what an old life left.

        All that can be prepared without the network is prepared meanwhile. Raises Refused when the container runs,
        ApplyFailed or Unavailable with the reason otherwise; nothing is left then.
        """
        container = spec.container
        self._quicken()
        await self.collect(container)
        self._current.pop(container, None)
        self.reboot_was_asked(container)  # an old marker says nothing of the life to come
        preparing = asyncio.ensure_future(asyncio.to_thread(self._prepare, spec))
        namespaces: Namespaces | None = None
        try:
            namespaces = await namespace_holder.make_namespaces(container, id_map=spec.id_map)
            await to_the_end(preparing)
            return namespaces
        except BaseException:
            await to_the_end(asyncio.wait([preparing]))
            preparing.exception()  # two may have failed: one is told
            if namespaces is not None:
                await to_the_end(namespaces.release())
            await to_the_end(self._sweep(container, patience_seconds=0))
            raise

    def _quicken(self) -> None:
        if self._quickening is None or self._quickening.done():
            loop = asyncio.get_running_loop()
            self._quickening = loop.run_in_executor(None, cgroups.make_moves_quick)

    async def abandon(self, namespaces: Namespaces) -> None:
        """Give up between make_namespaces and launch: nothing is left."""
        await to_the_end(namespaces.release())
        await to_the_end(self._sweep(namespaces.container, patience_seconds=0))

    async def launch(self, spec: ContainerSpec, namespaces: Namespaces) -> Life:
        """Start the container in namespaces that the caller has prepared, and let their holder go.

        Raises ApplyFailed or Unavailable with the reason, quoting LXC's log; nothing is left then.
        """
        container = spec.container
        lock = self._lock(container)
        start = _Start()
        try:
            await to_the_end(asyncio.to_thread(self._mount, spec, namespaces))
            start.process = await self._execute_start(container, namespaces, lock=lock)
            await self._await_start(container, start.process)
            # LXC has joined the namespaces and holds the root.
            start.parting = asyncio.ensure_future(
                asyncio.gather(
                    asyncio.to_thread(idmapped_mount.detach, str(self._mount_point(container))), namespaces.release()
                )
            )
            start.life = await self._meet(container)
            await self._await_init(start.life, network=namespaces.network)
            await to_the_end(start.parting)
        except BaseException:
            await to_the_end(self._undo_launch(container, start, namespaces))
            raise
        finally:
            os.close(lock)
        self._current[container] = start.life
        return start.life

    def _directory(self, container: str) -> Path:
        return self._lxc_path / _file_name(container)

    def _mount_point(self, container: str) -> Path:
        return self._directory(container) / "rootfs"

    def _make_directory(self, container: str) -> Path:
        directory = self._directory(container)
        while True:
            for path in (*reversed(self._shared_directories), directory):
                with contextlib.suppress(FileExistsError, FileNotFoundError):
                    path.mkdir(mode=0o711)
                    path.chmod(0o711)
            with contextlib.suppress(FileNotFoundError):  # another engine removed an empty one just now
                self._mount_point(container).mkdir(exist_ok=True)
                return directory

    def _log(self, container: str) -> Path:
        return self._logs / f"{_file_name(container)}.log"

    def _lock(self, container: str) -> int:
        """Take the lock that says "a start is under way"; lxc-start inherits it, so that it outlives the daemon."""
        descriptor = os.open(self._locks / _file_name(container), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise Unavailable(f'"{container}" is just being started', subject=container) from error
        return descriptor

    def _is_starting(self, container: str) -> bool:
        try:
            os.close(self._lock(container))
        except Unavailable:
            return True
        return False

    def _prepare(self, spec: ContainerSpec) -> None:
        container = spec.container
        try:
            root = os.open(spec.root_directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise ApplyFailed(
                f'root directory "{spec.root_directory}" of "{container}" cannot be opened: {error.strerror}',
                subject=container,
            ) from error
        try:
            init = guest_root.init_kind(root, container=container, root_directory=spec.root_directory)
            guest_root.write_hostname(root, spec.hostname)
        except OSError as error:
            raise ApplyFailed(
                f'the name of "{container}" cannot be written below "{spec.root_directory}": {error.strerror}',
                subject=container,
            ) from error
        finally:
            os.close(root)
        mount_point = self._mount_point(container)
        text = lxc_files.config_text(spec, mount_point=mount_point, hook=self._hook, cgroup_tag=self._tag, init=init)
        try:
            directory = self._make_directory(container)
            (directory / "config").write_text(text, encoding="utf-8")
            log = self._log(container)
            with contextlib.suppress(FileNotFoundError):
                log.replace(log.with_suffix(".log.1"))
        except OSError as error:
            raise ApplyFailed(f'cannot prepare "{container}": {error}', subject=container) from error

    def _mount(self, spec: ContainerSpec, namespaces: Namespaces) -> None:
        container = spec.container
        try:
            (self._directory(container) / "network").write_text(f"{namespaces.network}\n", encoding="ascii")
            user_namespace = os.open(f"/proc/{namespaces.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise ApplyFailed(f'cannot prepare "{container}": {error}', subject=container) from error
        try:
            if pidfds.has_ended(namespaces.pidfd):
                raise ApplyFailed(f'the namespaces of "{container}" are gone', subject=container)
            idmapped_mount.attach(spec.root_directory, str(self._mount_point(container)), user_namespace=user_namespace)
        finally:
            os.close(user_namespace)

    async def _execute_start(self, container: str, namespaces: Namespaces, *, lock: int) -> Process:
        log = os.open(self._log(container), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            return await asyncio.create_subprocess_exec(
                "lxc-start", "-P", str(self._lxc_path), "-n", container, "--daemon", "--quiet",
                "--logfile", str(self._log(container)), "--logpriority", "ERROR",
                "--define", f"{lxc_files.GUARD_KEY}=",
                "--define", f"lxc.namespace.share.user={namespaces.pid}",
                "--define", f"lxc.namespace.share.net={namespaces.pid}",
                stdin=DEVNULL, stdout=log, stderr=log, cwd="/", env=CLEAN_ENVIRONMENT, pass_fds=(lock,),
                start_new_session=True,
            )  # fmt: skip
        except FileNotFoundError as error:
            raise Unavailable('program "lxc-start" is missing: install lxc', subject=container) from error
        finally:
            os.close(log)

    async def _await_start(self, container: str, process: Process) -> None:
        try:
            async with asyncio.timeout(_START):
                status = await process.wait()
        except TimeoutError as error:
            raise ApplyFailed(f'"{container}" did not start within {_START:g} s', subject=container) from error
        if status != 0:
            raise self._start_failed(container, f"lxc-start ended with status {status}")

    def _start_failed(self, container: str, otherwise: str) -> ApplyFailed:
        reason = lxc_files.reason_in_log(self._log(container)) or otherwise
        return ApplyFailed(f'"{container}" did not start: {reason}', subject=container)

    async def _meet(self, container: str) -> Life:
        """Take hold of a container that a monitor runs. Raises ApplyFailed when there is none (any more)."""
        try:
            pidfd = await command_socket.init_pidfd(str(self._lxc_path), container, timeout_seconds=_START)
        except NotRunning as error:
            raise self._start_failed(container, "its first process ended at once") from error
        except TimeoutError as error:
            raise ApplyFailed(f'the monitor of "{container}" does not answer', subject=container) from error
        monitor: int | None = None
        try:
            init_pid = pidfds.pid_of(pidfd)
            parent = lxc_processes.parent_of(init_pid) if init_pid else None
            monitor = pidfds.open_pidfd(parent) if parent else None
            # The parent is read again under the eyes of a living child: its id cannot have been recycled between.
            if (
                init_pid is None
                or monitor is None
                or lxc_processes.parent_of(init_pid) != parent
                or pidfds.has_ended(pidfd)
            ):
                raise self._start_failed(container, "its first process ended at once")
            life = Life(
                container=container,
                init_pid=init_pid,
                pidfd=pidfd,
                monitor_pidfd=monitor,
                cgroup=await self._cgroup_of(container),
            )
            pidfd, monitor = -1, None
            return life
        finally:
            if pidfd >= 0:
                os.close(pidfd)
            if monitor is not None:
                os.close(monitor)

    async def _cgroup_of(self, container: str) -> str:
        counts_memory = any("memory" in tree.controllers for tree in self._trees)
        with contextlib.suppress(NotRunning, TimeoutError):
            path = await command_socket.payload_cgroup(
                str(self._lxc_path),
                container,
                controller="memory" if counts_memory else "",
                timeout_seconds=_ANSWER,
            )
            if path is not None:
                return path
        return f"/{CgroupNames.of(container, tag=self._tag).payload}"

    async def _await_init(self, life: Life, *, network: int) -> None:
        """Wait until the guest's own init runs, and make sure that it runs where it should."""
        # LXC reports success before it executes init. No descriptor tells when that has happened.
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _EXEC
        pause = 0.0005
        while lxc_processes.runs_the_same_program(life.init_pid, pidfds.pid_of(life.monitor_pidfd)):
            if life.is_over:
                break
            if loop.time() > deadline:
                raise ApplyFailed(
                    f'"{life.container}" did not start: /sbin/init was not executed within {_EXEC:g} s',
                    subject=life.container,
                )
            await asyncio.sleep(pause)
            pause = min(pause * 2, 0.02)
        idmapped = idmapped_mount.is_root_idmapped(life.init_pid)
        try:
            joined = os.stat(f"/proc/{life.init_pid}/ns/net").st_ino
        except OSError:
            joined = 0
        if life.is_over:
            await pidfds.wait_ended(life.monitor_pidfd, timeout_seconds=_ANSWER)
            raise self._start_failed(life.container, "its first process ended at once")
        if not idmapped:
            raise ApplyFailed(f'"{life.container}" was killed: its root is not id-mapped', subject=life.container)
        if joined != network:
            raise ApplyFailed(
                f'"{life.container}" was killed: it runs in another network namespace', subject=life.container
            )

    async def _undo_launch(self, container: str, start: _Start, namespaces: Namespaces) -> None:
        patience = 1.0
        process = start.process
        try:
            if process is None or process.returncode in (None, 0):
                patience = 0.0  # nothing is at its end by itself
            if process is not None and process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
            if start.parting is not None:
                await asyncio.wait([start.parting])
            if start.life is not None:
                start.life.close()
            await self._sweep(container, patience_seconds=patience)
        finally:
            await namespaces.release()

    # ---- adoption --------------------------------------------------------------------------------------------

    async def find(self, container: str) -> Life | None:
        """Take hold of a container that was started before, by this daemon or the one before it; None: not running.

        A start that was under way when its daemon died is waited for, and ended when it takes too long; so is a
        container in a state that no start of ours leaves behind.
        """
        await self._await_orphaned_start(container)
        life: Life | None = None
        try:
            if not command_socket.has_monitor(str(self._lxc_path), container):
                return None
            life = await self._meet(container)
            await self._await_init(life, network=self._recorded_network(container))
            await to_the_end(asyncio.to_thread(idmapped_mount.detach, str(self._mount_point(container))))
        except OsctlError:
            await to_the_end(self._give_up_found(container, life))
            return None
        except BaseException:
            if life is not None:
                life.close()
            raise
        self._current[container] = life
        return life

    async def _await_orphaned_start(self, container: str) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _START
        while self._is_starting(container):
            if loop.time() > deadline:
                await self._sweep(container, patience_seconds=0)
                return
            await asyncio.sleep(0.02)  # no descriptor tells when a lock is free

    async def _give_up_found(self, container: str, life: Life | None) -> None:
        if life is not None:
            pidfds.send_signal(life.pidfd, signal.SIGKILL)
            life.close()
        # A monitor at its end runs the post-stop hook, which may leave the marker of a reboot.
        await self._sweep(container, patience_seconds=_ANSWER)

    def _recorded_network(self, container: str) -> int:
        try:
            return int((self._directory(container) / "network").read_text(encoding="ascii"))
        except (OSError, ValueError):
            return 0

    # ---- life ------------------------------------------------------------------------------------------------

    async def execute(
        self,
        life: Life,
        command: Sequence[str],
        *,
        stdin: int,
        stdout: int,
        stderr: int,
        environment: Mapping[str, str] | None = None,
    ) -> int:
        """Run a command in the container on the given descriptors; return its exit status, 128+N for signal N.

        The descriptors stay the caller's and keep their flags. 127: no such command; 126: it cannot be executed.
        A cancellation ends the command, too. Raises Refused or Unavailable.
        """
        container = life.container
        if not command or any("\0" in word for word in command):
            raise Refused(f"{list(command)!r} is no command", subject=container)
        if life.is_over:
            raise Unavailable(f'"{container}" is not running', subject=container)
        if cgroups.is_frozen(life.cgroup, trees=self._trees):  # lxc-attach would hang
            raise Unavailable(f'"{container}" is frozen', subject=container)
        variables = _GUEST_ENVIRONMENT | dict(environment or {})
        settings = [word for name, value in variables.items() for word in ("--set-var", f"{name}={value}")]
        process = await asyncio.create_subprocess_exec(
            "lxc-attach", "-P", str(self._lxc_path), "-n", container, "--clear-env", *settings, "--", *command,
            stdin=stdin, stdout=stdout, stderr=stderr, cwd="/", env=CLEAN_ENVIRONMENT, start_new_session=True,
        )  # fmt: skip
        try:
            status = await process.wait()
        except BaseException:
            await to_the_end(lxc_processes.end_attached(process))
            raise
        return 128 - status if status < 0 else status

    def usage(self, life: Life) -> Usage:
        """Return the memory and processor time that the container's processes use."""
        return cgroups.usage(life.cgroup, trees=self._trees)

    # ---- death -----------------------------------------------------------------------------------------------

    async def shut_down(self, life: Life, *, timeout_seconds: float, method: StopMethod) -> None:
        """End a life and return when it has completely ended.

        Raises Unavailable when the guest has not powered off in time and must not be killed, ApplyFailed when not
        even killing helps.
        """
        if method is not StopMethod.KILL and not life.is_over:
            asking = asyncio.ensure_future(self._ask_to_halt(life))
            try:
                ended = await pidfds.wait_ended(life.pidfd, timeout_seconds=timeout_seconds)
            finally:
                asking.cancel()
                await to_the_end(asyncio.wait([asking]))
            if not ended and method is StopMethod.SHUTDOWN_OR_FAIL:
                if not asking.cancelled() and (error := asking.exception()) is not None:
                    raise ApplyFailed(f'cannot ask "{life.container}" to power off: {error}', subject=life.container)
                raise Unavailable(
                    f'"{life.container}" has not powered off within {timeout_seconds:g} s', subject=life.container
                )
        if not life.is_over:
            pidfds.send_signal(life.pidfd, signal.SIGKILL)
            self._thaw(life)  # a frozen process does not die
            if not await pidfds.wait_ended(life.pidfd, timeout_seconds=_DEATH):
                raise ApplyFailed(f'"{life.container}" does not die', subject=life.container)
        await self.wait_ended(life)

    def _thaw(self, life: Life) -> None:
        if cgroups.is_frozen(life.cgroup, trees=self._trees):
            cgroups.thaw(f"{tree.mount_point}{life.cgroup}" for tree in self._trees)

    async def _ask_to_halt(self, life: Life) -> None:
        """Ask the guest to power off, again now and then: a request before init has its handlers is lost."""
        self._thaw(life)
        kind = lxc_processes.init_kind_of(life.init_pid)
        while not life.is_over:
            if kind is InitKind.SYSTEMD:
                if lxc_processes.heeds(life.init_pid, _SIGRTMIN_PLUS_3):
                    pidfds.send_signal(life.pidfd, _SIGRTMIN_PLUS_3)
                    return
                await asyncio.sleep(0.02)  # nothing tells when a process has its handlers
                continue
            # SysV init, OpenRC and runit know no signal for it that Debian has set up.
            status = await run_quietly(
                "lxc-attach", "-P", str(self._lxc_path), "-n", life.container, "--clear-env",
                "--set-var", f"PATH={_GUEST_ENVIRONMENT['PATH']}", "--", "/sbin/poweroff",
                timeout_seconds=_ANSWER,
            )  # fmt: skip
            if status in (126, 127):  # it has no such program
                pidfds.send_signal(life.pidfd, signal.SIGUSR1 if kind is InitKind.BUSYBOX else signal.SIGPWR)
            await pidfds.wait_ended(life.pidfd, timeout_seconds=_ASK_AGAIN)

    async def wait_ended(self, life: Life) -> End:
        """Wait until a life has completely ended: a new start may follow at once.

        REBOOT when the guest asked to be started anew. Any number of tasks may wait.
        """
        if life.ending is None:
            life.ending = asyncio.ensure_future(self._end_of(life))
        return await asyncio.shield(life.ending)

    async def _end_of(self, life: Life) -> End:
        await pidfds.wait_ended(life.pidfd, timeout_seconds=None)
        # STOPPED is visible on the command socket before the post-stop hook has run: the monitor's end counts.
        if not await pidfds.wait_ended(life.monitor_pidfd, timeout_seconds=_DEATH):
            pidfds.send_signal(life.monitor_pidfd, signal.SIGKILL)
        end = End.REBOOT if self.reboot_was_asked(life.container) else End.STOPPED
        if self._current.get(life.container) is life:
            del self._current[life.container]
            await self._sweep(life.container, patience_seconds=1)
        return end

    def reboot_was_asked(self, container: str) -> bool:
        """Tell whether the guest asked for a reboot when it ended, once: the marker is consumed."""
        try:
            os.unlink(self._markers / _file_name(container))
        except FileNotFoundError:
            return False
        return True

    # ---- leftovers -------------------------------------------------------------------------------------------

    async def collect(self, container: str) -> None:
        """Remove all that a dead life has left: processes, cgroups, mounts, files. The reboot marker stays.

        Raises Refused when the container runs.
        """
        if command_socket.has_monitor(str(self._lxc_path), _file_name(container)):
            with contextlib.suppress(NotRunning, TimeoutError):
                pidfd = await command_socket.init_pidfd(str(self._lxc_path), container, timeout_seconds=_ANSWER)
                alive = not pidfds.has_ended(pidfd)
                os.close(pidfd)
                if alive:
                    raise Refused(f'"{container}" is running', code="running", subject=container)
        await self._sweep(container, patience_seconds=_ANSWER)

    async def _sweep(self, container: str, *, patience_seconds: float) -> None:
        """Remove what is left of a container. It is looked for until a look finds nothing: what ends may still make
        something on its way, as a monitor does that moves to another cgroup to remove its own.

        One look at all processes can miss a monitor whose parent ends after it was listed and before it was read; the
        next one cannot, for the parent ends after its fork.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _DEATH
        names = CgroupNames.of(container, tag=self._tag)
        is_doubtful = command_socket.has_monitor(str(self._lxc_path), container) or self._is_starting(container)
        clean_looks = 0
        while clean_looks < (2 if is_doubtful else 1):
            found: list[int] = []
            if is_doubtful:
                found += await asyncio.to_thread(
                    lxc_processes.monitors_of, lxc_path=str(self._lxc_path), container=container
                )
            left = cgroups.existing((names.payload, names.monitor, names.pivot), trees=self._trees, bases=self._bases)
            if left:
                opened = [pidfds.open_pidfd(pid) for pid in await asyncio.to_thread(cgroups.members, left)]
                found += [pidfd for pidfd in opened if pidfd is not None]
                await asyncio.to_thread(cgroups.thaw, left)
            await pidfds.end_all(found, patience_seconds=patience_seconds)
            left = await asyncio.to_thread(cgroups.remove, left) if left else ()
            if not found and not left:
                clean_looks += 1
                continue
            clean_looks = 0
            if loop.time() > deadline:
                raise ApplyFailed(
                    f'a former life of "{container}" does not end: {", ".join(left) or "its monitor stays"}',
                    subject=container,
                )
            await asyncio.sleep(0.005)  # a cgroup is busy for a moment after its last process
        if self._directory(container).exists():
            await to_the_end(asyncio.to_thread(self._remove_directory, container))

    def _remove_directory(self, container: str) -> None:
        mount_point = self._mount_point(container)
        idmapped_mount.detach(str(mount_point))
        directory = self._directory(container)
        for name in ("config", "network"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(directory / name)
        # rmdir and not a recursive removal: were the guest's root still mounted here, it would be emptied.
        for path in (mount_point, directory):
            with contextlib.suppress(FileNotFoundError):
                path.rmdir()
        for path in self._shared_directories:
            with contextlib.suppress(OSError):  # still used by another container
                path.rmdir()

    async def forget(self, container: str) -> None:
        """Remove what is kept of a container between its lives; it has been deleted. Raises Refused when it runs."""
        await self.collect(container)
        self.reboot_was_asked(container)
        log = self._log(container)
        for path in (
            log,
            log.with_suffix(".log.1"),
            self._locks / container,
            Path(f"/run/lxc/lock{self._lxc_path}") / f".{container}",  # LXC's own (lxc: src/lxc/lxclock.c)
        ):
            with contextlib.suppress(FileNotFoundError):
                await asyncio.to_thread(os.unlink, path)


def _file_name(container: str) -> str:
    if "/" in container or "\0" in container or container in ("", ".", ".."):
        raise Refused(f"{container!r} is no name of a container", subject=container)
    return container


def _may_everybody_search(path: Path) -> bool:
    return all(ancestor.stat().st_mode & 0o001 for ancestor in (path, *path.parents))


def is_installed() -> bool:
    """Tell whether LXC's programs are on this host."""
    return all(shutil.which(program, path=CLEAN_ENVIRONMENT["PATH"]) for program in ("lxc-start", "lxc-attach"))
