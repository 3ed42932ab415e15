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
from osctld.core.host import POOL, Container, Host

COLUMNS = (
    Column("pool"),
    Column("id"),
    Column("uuid", "stays the same when the container is renamed"),
    Column("user", "whose id range it runs under"),
    Column("group"),
    Column("rootfs", "its root directory on the host"),
    Column("uid_offset", "id on the host of the container's root", type=int),
    Column("distribution"),
    Column("version"),
    Column(
        "state",
        "stopped, starting, running or stopping",
        marks={"running": "good", "starting": "doubtful", "stopping": "doubtful"},
    ),
    Column("wanted", "whether it is started when the host comes up", type=bool),
    Column("init_pid", "process id on the host of its first process", type=int | None),
    Column("interfaces", "number of network interfaces", type=int),
    Column("memory", "in use", unit="bytes", type=int | None),
    Column("cpu_time", "used since its start", unit="nanoseconds", type=int | None),
)

_SHOWN = ("pool", "id", "user", "group", "distribution", "version", "state", "init_pid", "memory", "cpu_time")


class CtLs(ViewCommand, ListOptions, frozen=True, kw_only=True):
    """List containers, all or those named."""

    words: ClassVar[tuple[str, ...]] = ("ct", "ls")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl ct ls", "List all containers"),
        Example(
            "osctl ct ls -S running -o id,memory,cpu_time -s memory",
            "Of those that run, what they use, smallest first",
        ),
        Example("osctl -j ct ls", "All that is known, for a program"),
    )
    columns: ClassVar[tuple[Column, ...]] = COLUMNS

    containers: Annotated[
        tuple[str, ...], Argument("Containers", metavar="ct", many=True, completes="container")
    ] = ()
    state: Annotated[
        tuple[str, ...] | None,
        Option(
            ("-S", "--state"), "STATES", "Only in these states", commas=True, choices=STATES
        ),
    ] = None
    user: Annotated[
        tuple[str, ...] | None, Option(("-u", "--user"), "USERS", "Only of these users", commas=True)
    ] = None
    distribution: Annotated[
        tuple[str, ...] | None,
        Option(("-d", "--distribution"), "NAMES", "Only of these distributions", commas=True),
    ] = None

    def view(self, host: Host, observed: Observed) -> Reply:
        chosen = [host.container(name) for name in self.containers] if self.containers else host.sorted_containers
        rows = [container_row(each, observed) for each in chosen]
        for field, wanted in (("state", self.state), ("user", self.user), ("distribution", self.distribution)):
            if wanted is not None:
                rows = [row for row in rows if row[field] in wanted]
        return Listing(columns=COLUMNS, shown=_SHOWN, rows=tuple(rows))


def container_row(container: Container, observed: Observed) -> dict[str, Any]:
    """All that is known of a container, by the names of COLUMNS."""
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
        "init_pid": life.init_pid,
        "interfaces": len(container.interfaces),
        "memory": life.memory_bytes,
        "cpu_time": life.cpu_nanoseconds,
    }
