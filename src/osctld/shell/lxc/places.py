"""Where the LXC engine keeps its things on this host: directories, locks, reboot markers, logs, cgroups."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from osctld.core.errors import ApplyFailed, Refused, Unavailable
from osctld.shell.lxc import apparmor, cgroups, files, monitor_socket
from osctld.shell.lxc.files import CgroupNames
from osctld.shell.rootfs import idmapped_mount

_ELSEWHERE = Path("/run/osctl-lxc")
_LOCKS_OF_LXC = Path("/run/lxc/lock")  # lxc: src/lxc/lxclock.c
_FILES_OF_A_LIFE = ("config", "network", "label", "transient")
_APPARMOR = "apparmor"  # where a killed monitor leaves the profile that it had generated (lxc: src/lxc/lsm/apparmor.c)


class Places:
    """All of the engine's files are below these two directories.

    RUN/lxc is LXC's path with a directory for each life (/run/osctl-lxc/HASH instead, while containers run, when
    RUN is not searchable for everybody), RUN/lxc.d holds hook, seccomp policy, reboot markers and locks, STATE/log/ct
    the logs. `trees` and `bases` are the cgroup hierarchies and where in them containers are.
    """

    def __init__(self, *, state_dir: Path, run_dir: Path, requires_apparmor: bool = True) -> None:
        self.requires_apparmor = requires_apparmor
        run = Path(os.path.abspath(run_dir))
        own = run / "lxc.d"
        self._markers = own / "reboots"
        self._locks = own / "locks"
        self._logs = Path(os.path.abspath(state_dir)) / "log" / "ct"
        for directory in (own, self._markers, self._locks, self._logs):
            directory.mkdir(parents=True, exist_ok=True)
            directory.chmod(0o700)
        self.hook = own / "post-stop"
        files.write_if_different(self.hook, files.hook_text(self._markers), mode=0o700)
        self.seccomp = own / "seccomp"
        files.write_if_different(self.seccomp, files.seccomp_text(), mode=0o600)
        path = run / "lxc"
        self._shared_directories: tuple[Path, ...] = (path,)
        if not _may_everybody_search(run):
            # The container's own root user has to look up its root: where the run directory lies in somebody's
            # private directory, LXC needs a path of its own.
            path = _ELSEWHERE / f"{monitor_socket.fnv64a(os.fsencode(run)):016x}"
            self._shared_directories = (path, _ELSEWHERE)
        self.lxc_path = str(path)
        self._tag = f"{monitor_socket.fnv64a(os.fsencode(path)):016x}"[:8]
        self.trees = cgroups.hierarchies()
        self.bases = cgroups.base_paths()

    def cgroups_of(self, container: str) -> CgroupNames:
        return CgroupNames.of(container, tag=self._tag)

    def policy_of(self, container: str) -> str:
        """The name of the AppArmor namespace for what a guest with nesting loads.

        It begins as LXC's own do: by that, Debian's apparmor knows that a container has a policy to load.
        """
        return f"lxc-osctl-{self._tag}.{container}"

    # ---- the directory of a life -----------------------------------------------------------------------------

    def directory(self, container: str) -> Path:
        return Path(self.lxc_path, file_name(container))

    def containers(self) -> tuple[str, ...]:
        """The names of all that have the directory of a life."""
        try:
            return tuple(sorted(each.name for each in Path(self.lxc_path).iterdir() if (each / "config").exists()))
        except FileNotFoundError:
            return ()

    def mount_point(self, container: str) -> Path:
        return self.directory(container) / "rootfs"

    def make_directory(self, container: str, *, config: str) -> None:
        """Make the directory of a life and write LXC's configuration. Raises OSError."""
        directory = self.directory(container)
        while True:
            for path in (*reversed(self._shared_directories), directory):
                with contextlib.suppress(FileExistsError, FileNotFoundError):
                    path.mkdir(mode=0o711)
                    path.chmod(0o711)
            with contextlib.suppress(FileNotFoundError):  # another engine removed an empty one just now
                self.mount_point(container).mkdir(exist_ok=True)
                break
        (directory / "config").write_text(config, encoding="utf-8")

    def record_network(self, container: str, network: int) -> None:
        """Note the inode of the network namespace that a life was given. Raises OSError."""
        (self.directory(container) / "network").write_text(f"{network}\n", encoding="ascii")

    def recorded_network(self, container: str) -> int:
        """Return the inode that was noted; 0: none."""
        try:
            return int((self.directory(container) / "network").read_text(encoding="ascii"))
        except (OSError, ValueError):
            return 0

    def record_transient(self, container: str) -> None:
        """Note that a life is one for commands alone, which ends with its daemon. Raises OSError."""
        (self.directory(container) / "transient").touch()

    def is_transient(self, container: str) -> bool:
        return (self.directory(container) / "transient").exists()

    def record_label(self, container: str, label: str) -> None:
        """Note by which AppArmor label a life is confined. Raises OSError."""
        (self.directory(container) / "label").write_text(f"{label}\n", encoding="utf-8")

    def recorded_label(self, container: str) -> str:
        """Return the label that was noted; "": none."""
        try:
            return (self.directory(container) / "label").read_text(encoding="utf-8").strip()
        except OSError:
            return ""

    def remove_directory(self, container: str) -> None:
        """Remove the directory of a life that is over, and detach the guest's root from it."""
        directory, mount_point = self.directory(container), self.mount_point(container)
        idmapped_mount.detach(str(mount_point))
        apparmor.remove_namespace(self.policy_of(container))
        profiles = directory / _APPARMOR
        with contextlib.suppress(FileNotFoundError):
            for profile in profiles.iterdir():
                profile.unlink()
        for name in _FILES_OF_A_LIFE:
            (directory / name).unlink(missing_ok=True)
        # rmdir and not a recursive removal: were the guest's root still mounted here, it would be emptied.
        for path in (profiles, mount_point, directory):
            with contextlib.suppress(FileNotFoundError):
                path.rmdir()
        for path in self._shared_directories:
            with contextlib.suppress(OSError):  # still used by another container
                path.rmdir()

    # ---- what stays between the lives ------------------------------------------------------------------------

    def log(self, container: str) -> Path:
        return self._logs / f"{file_name(container)}.log"

    def _former_log(self, container: str) -> Path:
        return self._logs / f"{file_name(container)}.log.1"

    def begin_log(self, container: str) -> None:
        """Put the log of the former life aside. Raises OSError."""
        with contextlib.suppress(FileNotFoundError):
            self.log(container).replace(self._former_log(container))

    def failed_start(self, container: str, otherwise: str) -> ApplyFailed:
        """Return why a start failed, in LXC's words when its log has any."""
        reason = files.reason_in_log(self.log(container)) or otherwise
        return ApplyFailed(f"'{container}': did not start: {reason}", subject=container)

    def lock(self, container: str) -> int:
        """Take the lock that says "a start is in progress"; lxc-start inherits it, so that it outlives the daemon.

        The descriptor is the caller's. Raises Unavailable when somebody has it.
        """
        descriptor = os.open(self._locks / file_name(container), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise Unavailable(f"'{container}': is already starting", subject=container) from error
        return descriptor

    def is_starting(self, container: str) -> bool:
        try:
            os.close(self.lock(container))
        except Unavailable:
            return True
        return False

    def take_reboot_marker(self, container: str) -> bool:
        """Tell whether the guest asked for a reboot when it ended, once: the marker is consumed."""
        try:
            os.unlink(self._markers / file_name(container))
        except FileNotFoundError:
            return False
        return True

    def forget(self, container: str) -> None:
        """Remove all that is kept of a container which has no life."""
        self.take_reboot_marker(container)
        locks_of_lxc = Path(f"{_LOCKS_OF_LXC}{self.lxc_path}")
        for path in (
            *(self.log(container), self._former_log(container), self._locks / container),
            locks_of_lxc / f".{container}",
        ):
            path.unlink(missing_ok=True)
        # A start has a directory in LXC's path before it makes its lock: nobody is about to use the emptied ones.
        while not os.path.lexists(self.lxc_path) and locks_of_lxc != _LOCKS_OF_LXC:
            try:
                locks_of_lxc.rmdir()
            except FileNotFoundError:
                pass
            except OSError:  # of another path
                return
            locks_of_lxc = locks_of_lxc.parent


def file_name(container: str) -> str:
    """Return the name of a container as the name of a file. Raises Refused when it cannot be one."""
    if "/" in container or "\0" in container or container in ("", ".", ".."):
        raise Refused(f"{container!r}: not a container name", subject=container)
    return container


def _may_everybody_search(path: Path) -> bool:
    return all(ancestor.stat().st_mode & 0o001 for ancestor in (path, *path.parents))
