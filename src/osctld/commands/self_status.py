"""What the daemon says of itself."""

from __future__ import annotations

from typing import ClassVar

from osctld.core.command import Column, Example, Listing, Observed, Reply, ShowOptions, ViewCommand
from osctld.core.host import Host
from osctld.netif.routed import RoutedInterface

_COLUMNS = (
    Column("version", "of osctld"),
    Column("pid", type=int),
    Column("state_dir"),
    Column("run_dir"),
    Column("uptime", "since the daemon was started", unit="nanoseconds", type=int),
    Column("containers", type=int),
    Column("running", type=int),
    Column("interfaces", type=int),
    Column("addresses", "assigned to interfaces", type=int),
    Column("routes", "to containers", type=int),
    Column("drift", "what somebody changed inside containers and is left so", type=list[str]),
    Column("last_reconcile", "what the last comparison with the kernel found"),
)


class SelfStatus(ViewCommand, ShowOptions, frozen=True, kw_only=True):
    """Show what the daemon looks after and how it does."""

    words: ClassVar[tuple[str, ...]] = ("self", "status")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl self status", "What the daemon looks after"),
        Example("osctl self status -H -o last_reconcile", "What the last look at the kernel found"),
    )
    columns: ClassVar[tuple[Column, ...]] = _COLUMNS

    def view(self, host: Host, observed: Observed) -> Reply:
        interfaces = [each for container in host.containers.values() for each in container.interfaces]
        routed = [each for each in interfaces if isinstance(each, RoutedInterface)]
        counts = {
            "containers": len(host.containers),
            "running": sum(map(observed.is_running, host.containers)),
            "interfaces": len(interfaces),
            "addresses": sum(len(each.addresses) for each in routed),
            "routes": sum(len(each.routes) for each in routed),
        }
        known = {**observed.daemon, **counts}
        return Listing(
            columns=_COLUMNS,
            shown=tuple(column.name for column in _COLUMNS),
            rows=({column.name: known[column.name] for column in _COLUMNS},),
            is_record=True,
        )
