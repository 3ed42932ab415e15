"""List containers."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from osctld.commands.ct_wait import STATES
from osctld.core.command import (
    Argument,
    Column,
    Example,
    Listing,
    ListOptions,
    Observed,
    Option,
    Reply,
    ViewCommand,
)
from osctld.core.config.host import POOL, Container, Host

COLUMNS = (
    Column("pool"),
    Column("id"),
    Column("uuid", "stays the same when the container is renamed"),
    Column("user", "user whose id range it runs in"),
    Column("group"),
    Column("rootfs", "root directory on the host"),
    Column("uid_offset", "user id on the host that the container's root user has", type=int),
    Column("distribution"),
    Column("version"),
    Column(
        "state",
        "stopped, starting, running or stopping",
        marks={"running": "good", "starting": "doubtful", "stopping": "doubtful"},
    ),
    Column("wanted", "whether it should be running, and is started again after a reboot of the host", type=bool),
    Column("nesting", "whether nested containers are allowed", type=bool),
    Column("guest_files", "what becomes of the files of the network tool inside: write, report or off"),
    Column("autostart", "whether it is started at each boot of the host", type=bool),
    Column("autostart_priority", "lower priorities start first and stop last", type=int | None),
    Column("autostart_delay", "seconds to wait after its start before the next container is started", type=int | None),
    Column("init_pid", "process id of its init process, on the host", type=int | None),
    Column("generation", "number of changes to its configuration, for --if-generation", type=int),
    Column("interfaces", "number of network interfaces", type=int),
    Column("memory", "memory in use", unit="bytes", type=int | None),
    Column("cpu_time", "CPU time used since it started", unit="nanoseconds", type=int | None),
)

_SHOWN = ("pool", "id", "user", "group", "distribution", "version", "state", "init_pid", "memory", "cpu_time")


class CtLs(ViewCommand, ListOptions, frozen=True, kw_only=True):
    """List all containers, or those named."""

    words: ClassVar[tuple[str, ...]] = ("ct", "ls")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl ct ls", "List all containers"),
        Example(
            "osctl ct ls -S running -o id,memory,cpu_time -s memory",
            "Show what running containers use, smallest first",
        ),
        Example("osctl -j ct ls", "List every field, for a program"),
    )
    columns: ClassVar[tuple[Column, ...]] = COLUMNS

    containers: Annotated[tuple[str, ...], Argument("Containers", metavar="ct", many=True, completes="container")] = ()
    state: Annotated[
        tuple[str, ...] | None,
        Option(("-S", "--state"), "STATES", "Only containers in these states", commas=True, choices=STATES),
    ] = None
    user: Annotated[
        tuple[str, ...] | None, Option(("-u", "--user"), "USERS", "Only containers of these users", commas=True)
    ] = None
    distribution: Annotated[
        tuple[str, ...] | None,
        Option(("-d", "--distribution"), "NAMES", "Only containers of these distributions", commas=True),
    ] = None
    group: Annotated[
        tuple[str, ...] | None,
        Option(("-g", "--group"), "GROUPS", "Only containers in these groups; all are in /default", commas=True),
    ] = None
    version: Annotated[
        tuple[str, ...] | None,
        Option(("-v", "--version"), "VERSIONS", "Only containers with these versions of a distribution", commas=True),
    ] = None

    def view(self, host: Host, observed: Observed) -> Reply:
        chosen = [host.container(name) for name in self.containers] if self.containers else host.sorted_containers
        rows = [container_row(each, observed) for each in chosen]
        for field, wanted in (
            ("state", self.state),
            ("user", self.user),
            ("group", self.group),
            ("distribution", self.distribution),
            ("version", self.version),
        ):
            if wanted is not None:
                rows = [row for row in rows if row[field] in wanted]
        return Listing(columns=COLUMNS, shown=_SHOWN, rows=tuple(rows))


def container_row(container: Container, observed: Observed) -> dict[str, Any]:
    """Show a container in detail, by the names of COLUMNS."""
    life = observed.life(container.name)
    return {
        "pool": POOL,
        "id": container.name,
        "uuid": container.uuid,
        "user": container.user or container.name,
        "group": "/default",
        "rootfs": f"{observed.daemon['state_dir']}/ct/{container.name}/rootfs",
        "uid_offset": container.id_map.offset,
        "distribution": container.distribution,
        "version": container.version,
        "state": life.state,
        "wanted": container.is_wanted,
        "nesting": container.has_nesting,
        "guest_files": container.guest_files.value,
        "autostart": container.autostart is not None,
        "autostart_priority": container.autostart.priority if container.autostart is not None else None,
        "autostart_delay": container.autostart.delay if container.autostart is not None else None,
        "init_pid": life.init_pid,
        "generation": container.generation,
        "interfaces": len(container.interfaces),
        "memory": life.memory_bytes,
        "cpu_time": life.cpu_nanoseconds,
    }
