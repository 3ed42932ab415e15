"""The files of the LXC engine: configuration of a container, post-stop hook, log."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
from pathlib import Path

import msgspec

from osctld.core.errors import Refused
from osctld.core.life import ContainerSpec
from osctld.shell.guest_root import InitKind
from osctld.shell.programs import is_installed

_HALT_SIGNALS = {InitKind.SYSTEMD: "SIGRTMIN+3", InitKind.BUSYBOX: "SIGUSR1"}

# `lxc-start` of such a container by hand would run it without its interfaces: the hook makes it fail. The engine
# takes the line away on the command line of its own start.
GUARD_KEY = "lxc.hook.pre-start"
_GUARD = "/bin/false start this container with osctl"

# What Debian and Ubuntu give each container in /etc/lxc/default.conf, which does not count here.
_CONFINED = ("lxc.apparmor.profile = generated", "lxc.apparmor.allow_nesting = 1")
_APPARMOR_SWITCH = Path("/sys/module/apparmor/parameters/enabled")

_LOG_LINE = re.compile(r"^lxc-\S+ \S+ \d{14}\.\d+ (?P<level>[A-Z]+) +\S+ - (?P<place>\S+:\d+) - (?P<text>.*)$")
_NO_REASON = (
    "Unsupported config key",  # each start without a seccomp profile
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

    LXC's own names are made of the container's name alone. The tag tells the daemons of one machine apart, so that
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
    spec: ContainerSpec, *, mount_point: Path, hook: Path, names: CgroupNames, init: InitKind, has_apparmor: bool
) -> str:
    """Return the LXC configuration of a container.

    The id map is the one of the namespaces that LXC joins: with another one LXC reports success and runs nothing.
    `generated` profiles allow for unprivileged containers because the id map stands here (lxc: src/lxc/lsm/apparmor.c).
    The root is a plain directory for LXC: its own id-mapped mounts get lost (docs/adr/0004-own-idmapped-mount.md).
    Raises Refused for a value that would break a line.
    """
    for value in (spec.container, spec.hostname, str(mount_point)):
        if not value.isprintable() or not value.strip():
            raise Refused(f"{value!r} cannot stand in a configuration", subject=spec.container)
    ids = f"0 {spec.id_map.offset} {spec.id_map.size}"
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
        f"lxc.hook.post-stop = {shlex.quote(str(hook))}",
        f"{GUARD_KEY} = {_GUARD}",
    )
    return "".join(f"{line}\n" for line in (*lines, *(_CONFINED if has_apparmor else ())))


def has_apparmor() -> bool:
    """Tell whether this host can confine containers by AppArmor: LXC demands the kernel's and the parser's part."""
    with contextlib.suppress(OSError):
        return _APPARMOR_SWITCH.read_text(encoding="ascii").startswith("Y") and is_installed("apparmor_parser")
    return False


def hook_text(markers: Path) -> str:
    """Return the post-stop hook: leave a marker for a reboot that the guest asked for, and fail, so that LXC stops.

    A reboot inside LXC would join the namespaces of a process that is long gone; the daemon starts the container
    anew instead. Other ends need nothing of the hook.
    """
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
    """Return why a start failed, in LXC's words; empty when the log tells nothing.

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
