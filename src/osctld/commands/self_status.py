"""What the daemon says of itself."""

from __future__ import annotations

from typing import ClassVar

from osctld.core.command import Column, Example, Listing, Observed, Reply, ShowOptions, ViewCommand
from osctld.core.config.host import Host
from osctld.netif.interface_type import type_of

_COLUMNS = (
    Column("version", "version of osctld"),
    Column("build", "build of osctld; differs from that of osctl only until the daemon is restarted"),
    Column("pid", type=int),
    Column("state_dir"),
    Column("run_dir"),
    Column("uptime", "time since the daemon started", unit="nanoseconds", type=int),
    Column("containers", type=int),
    Column("running", type=int),
    Column("interfaces", type=int),
    Column("addresses", "number of assigned addresses", type=int),
    Column("routes", "number of routed networks", type=int),
    Column("drift", "number of differences inside containers that are left as they are", type=list[str], is_lines=True),
    Column("shutdown", "why containers are not started, if so", type=str | None),
    Column("last_reconcile", "result of the last comparison with the kernel"),
)


class SelfStatus(ViewCommand, ShowOptions, frozen=True, kw_only=True):
    """Show the state of the daemon."""

    words: ClassVar[tuple[str, ...]] = ("self", "status")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl self status", "Show the state of the daemon"),
        Example("osctl self status -H -o last_reconcile", "Show the result of the last comparison with the kernel"),
    )
    columns: ClassVar[tuple[Column, ...]] = _COLUMNS

    def view(self, host: Host, observed: Observed) -> Reply:
        interfaces = [each for container in host.containers.values() for each in container.interfaces]
        amounts = [type_of(each).amounts(each) for each in interfaces]
        counts = {
            "containers": len(host.containers),
            "running": sum(map(observed.is_running, host.containers)),
            "interfaces": len(interfaces),
            "addresses": sum(each.get("addresses", 0) for each in amounts),
            "routes": sum(each.get("routes", 0) for each in amounts),
        }
        known = {**observed.daemon, **counts}
        return Listing(
            columns=_COLUMNS,
            shown=tuple(column.name for column in _COLUMNS),
            rows=({column.name: known[column.name] for column in _COLUMNS},),
            is_record=True,
        )
