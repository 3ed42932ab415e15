"""The files of the LXC engine: configuration of a container, seccomp policy, post-stop hook, log."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shlex
from pathlib import Path

import msgspec

from osctld.core.config.life import ContainerSpec
from osctld.core.errors import Refused
from osctld.shell.rootfs.guest_root import InitKind

_HALT_SIGNALS = {InitKind.SYSTEMD: "SIGRTMIN+3", InitKind.BUSYBOX: "SIGUSR1"}

# A manual `lxc-start` of such a container would run it without its interfaces: the hook makes it fail. The engine takes
# the line away on the command line of its own start.
GUARD_KEY = "lxc.hook.pre-start"
_GUARD = "/bin/false start this container with osctl"

# A guest has no use for them: what they allow is asked of the host's user namespace. With them systemd believes that it
# could load modules, mount debugfs and set the clock, tries, and calls the system degraded.
_USELESS_CAPABILITIES = ("sys_module", "sys_rawio", "sys_time")
# Policies of security modules. A guest with nesting loads AppArmor profiles for its own containers by the first one.
_POLICY_CAPABILITIES = ("mac_admin", "mac_override")

# What containers inside need to mount /proc and /sys of their own: the kernel allows it in a user namespace where a
# whole one is seen already (mount_too_revealing in linux/fs/namespace.c), and LXC covers parts of the usual ones.
# By the last one the guest loads its own AppArmor policy, which is all that the kernel shows it there.
_FILE_SYSTEMS_FOR_NESTING = (
    "lxc.mount.entry = proc dev/.lxc/proc proc create=dir,optional 0 0",
    "lxc.mount.entry = sys dev/.lxc/sys sysfs create=dir,optional 0 0",
    "lxc.mount.entry = /sys/kernel/security sys/kernel/security none bind,optional 0 0",
)

# What holds a life in which no init of the guest runs: the host's static busybox, on the file system of /dev, which is
# created for each run, so that nothing is left in the root directory. Its name has to begin with `busybox`.
HOLDER = "/bin/busybox"
_HOLDER_INSIDE = "dev/busybox.osctl"
_HOLDING = (
    f"lxc.mount.entry = {HOLDER} {_HOLDER_INSIDE} none bind,create=file 0 0",
    f"lxc.init.cmd = /{_HOLDER_INSIDE} sleep 2147483647",
)

# System calls that no guest gets, whatever its capabilities, and why. A name that a machine's architecture or an older
# libseccomp does not know is passed over by LXC (src/lxc/seccomp.c).
_DENIED_SYSTEM_CALLS = {
    "another kernel for the host": ("kexec_load", "kexec_file_load"),
    "modules of the host's kernel": ("init_module", "finit_module", "delete_module", "create_module"),
    "files by number, outside the root": ("open_by_handle_at",),
    "the host's I/O ports": ("iopl", "ioperm"),
    "the host's swap": ("swapon", "swapoff"),
    "accounts of the host's processes": ("acct", "lookup_dcookie"),
    "the messages of the host's kernel": ("syslog",),
}

_LOG_LINE = re.compile(r"^lxc-\S+ \S+ \d{14}\.\d+ (?P<level>[A-Z]+) +\S+ - (?P<place>\S+:\d+) - (?P<text>.*)$")
_NO_REASON = (
    "Received container state",
    "Failed to receive the container state",
    "The container failed to start",
    "To get more details",
    "Additional information can be obtained",
    "Failed to spawn container",
    "Failed to initialize container",
    "Failed to setup container",
)


class CgroupNames(msgspec.Struct, frozen=True):
    """The cgroups of a container: of its monitor, of its processes, and where the monitor goes to remove those two.

    LXC's own names are made of the container's name alone. The tag distinguishes the daemons of one machine, so that
    none collects what another is about to use; a pivot for each container can be removed when its life is over.
    """

    monitor: str
    payload: str
    pivot: str

    @classmethod
    def of(cls, container: str, *, tag: str) -> CgroupNames:
        return cls(
            monitor=f"lxc.monitor.{tag}.{container}",
            payload=f"lxc.payload.{tag}.{container}",
            pivot=f"lxc.pivot.{tag}.{container}",
        )


def config_text(
    spec: ContainerSpec,
    *,
    mount_point: Path,
    hook: Path,
    seccomp: Path,
    names: CgroupNames,
    init: InitKind,
    apparmor_label: str | None,
) -> str:
    """Return the LXC configuration of a container. `apparmor_label` None: nothing is said of AppArmor.

    The id map is the one of the namespaces that LXC joins: with another one LXC reports success and runs nothing.
    The root is a plain directory for LXC: its own id-mapped mounts get lost (docs/adr/0004-own-idmapped-mount.md).
    Raises Refused for a value that would break a line.
    """
    for value in (spec.container, spec.hostname, str(mount_point)):
        if not value.isprintable() or not value.strip():
            raise Refused(f"{value!r}: not allowed in an LXC configuration", subject=spec.container)
    ids = f"0 {spec.id_map.offset} {spec.id_map.size}"
    dropped = _USELESS_CAPABILITIES if spec.has_nesting else (*_USELESS_CAPABILITIES, *_POLICY_CAPABILITIES)
    lines = (
        f"lxc.uts.name = {spec.hostname}",
        f"lxc.rootfs.path = dir:{mount_point}",
        f"lxc.idmap = u {ids}",
        f"lxc.idmap = g {ids}",
        "lxc.autodev = 1",
        "lxc.tty.max = 0",
        "lxc.pty.max = 1024",
        "lxc.mount.auto = cgroup:mixed proc:mixed sys:mixed",
        f"lxc.signal.halt = {_HALT_SIGNALS.get(init, 'SIGPWR')}",
        f"lxc.cgroup.dir.monitor = {names.monitor}",
        f"lxc.cgroup.dir.monitor.pivot = {names.pivot}",
        f"lxc.cgroup.dir.container = {names.payload}",
        "lxc.hook.version = 1",
        # Read by a shell rather than executed: hosts mount /run noexec.
        f"lxc.hook.post-stop = /bin/sh {shlex.quote(str(hook))}",
        f"{GUARD_KEY} = {_GUARD}",
        f"lxc.cap.drop = {' '.join(dropped)}",
        f"lxc.seccomp.profile = {seccomp}",
        *(_FILE_SYSTEMS_FOR_NESTING if spec.has_nesting else ()),
        *(() if spec.runs_init else _HOLDING),
        *((f"lxc.apparmor.profile = {apparmor_label}",) if apparmor_label is not None else ()),
    )
    return "".join(f"{line}\n" for line in lines)


def seccomp_text() -> str:
    """Return LXC's form of what system calls guests do not get: they fail with EPERM, for all that the CPU can run."""
    lines = ["2", "denylist", "[all]"]
    for why, names in _DENIED_SYSTEM_CALLS.items():
        lines += [f"# {why}", *(f"{name} errno {errno.EPERM}" for name in names)]
    return "".join(f"{line}\n" for line in lines)


def hook_text(markers: Path) -> str:
    """Return the post-stop hook: leave a marker for a reboot that the guest asked for, and fail, so that LXC stops.

    A reboot inside LXC would join the namespaces of a process that is long gone; the daemon starts the container again
    instead. The hook does nothing when a container stops otherwise.
    """
    # The first line is for containers that an earlier osctld started, whose LXC executes the file.
    return f'#!/bin/sh\n[ "$LXC_TARGET" = reboot ] || exit 0\n: > {shlex.quote(str(markers))}/"$LXC_NAME"\nexit 1\n'


def write_if_different(path: Path, text: str, *, mode: int) -> None:
    """Give a file this content and mode, atomically, and only if it has not got them."""
    content = text.encode("utf-8", "surrogateescape")
    with contextlib.suppress(FileNotFoundError):
        if path.read_bytes() == content and path.stat().st_mode & 0o7777 == mode:
            return
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    temporary.chmod(mode)
    temporary.replace(path)


def reason_in_log(log: Path) -> str:
    """Return why a start failed, in LXC's words; empty if the log does not say.

    The first error is the cause and the later ones report its consequences, except that some lines say nothing ever.
    """
    try:
        with log.open("rb") as file:
            lines = file.read(1 << 20).decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    other = ""
    for line in lines:
        match = _LOG_LINE.match(line)
        if match is None:
            if line.strip() and not line.startswith("lxc-start: "):
                other = line.strip()  # a complaint from before the log was opened
            continue
        if match["level"] in ("ERROR", "CRIT", "ALERT", "FATAL") and not match["text"].startswith(_NO_REASON):
            return match["text"]
    return other
