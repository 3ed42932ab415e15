"""All parts of the daemon, joined: which part is given which. No part is given one that comes later."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any

from osctld.core.authority.authority import Authority
from osctld.core.config.host import POOL, Host
from osctld.daemon.actions import Actions
from osctld.daemon.blocking import Blocking
from osctld.daemon.change_notes import ChangeNotes
from osctld.daemon.condition import Condition
from osctld.daemon.disk import Disk
from osctld.daemon.effects import Ports
from osctld.daemon.event_log import EventLog
from osctld.daemon.failures import Failures
from osctld.daemon.guest_files import GuestFiles
from osctld.daemon.perform import Daemon
from osctld.daemon.records import Records
from osctld.daemon.router import Router, Routing
from osctld.daemon.since import MomentsFile, Since
from osctld.daemon.turns import Turns
from osctld.lifecycle.boot import Boot
from osctld.lifecycle.engine import Engine, L, N, bind
from osctld.lifecycle.host_phase import HostPhase
from osctld.lifecycle.lives import Lives, Roots
from osctld.lifecycle.retries import PendingStarts
from osctld.lifecycle.supervisor import Supervisor
from osctld.shell.host_boot import BootedHost
from osctld.shell.process.memory import give_memory_back
from osctld.shell.store.database import Store
from osctld.shell.store.mirrors import Mirrors
from osctld.sync.announcements import Announcements
from osctld.sync.arrivals import Arrivals
from osctld.sync.containers import ContainerSync
from osctld.sync.drift import Drift
from osctld.sync.host import HostSync
from osctld.sync.host_look import look_at_host
from osctld.sync.obstacles import Obstacles
from osctld.sync.plan_sender import PlanSender
from osctld.sync.ports import Editions, HostSettings, Kernel
from osctld.sync.reconciler import Reconciler
from osctld.sync.routers import Routers
from osctld.sync.stopped import Stopped
from osctld.sync.tracked import Tracked
from osctld.sync.ways import Ways


def assemble(
    *,
    host: Host,
    kernel: Kernel,
    engine: Engine[N, L],
    roots: Roots,
    store: Store,
    disk: Disk,
    mirrors: Mirrors,
    host_settings: HostSettings,
    editions: Editions,
    pending_starts: PendingStarts,
    booted: BootedHost,
    about: Mapping[str, Any],
    begun: Iterable[bytes] = (),
    run: int = 1,
    above: Authority | None = None,
    moments: MomentsFile | None = None,
    routing: Routing,
) -> Daemon:
    """`run` counts the runs of the daemon on this store; `begun` are documents of changes that one before noted and
    neither kept nor took back; `above` is an authority on addresses above this host; `moments` keeps since when
    something is not as it should be; `routing` is what announces."""
    settings = host.settings
    turns = Turns()
    events = EventLog(run=run)

    def tell(kind: str, opts: Mapping[str, Any]) -> None:
        events.emit(kind, opts)
        condition.hear(kind)
        if kind in ("mended", "blocked", "block"):
            announcements.look_at_everything()

    def changed(name: str, state: str) -> None:
        tell("state", {"pool": POOL, "id": name, "state": state})
        configured()

    def configured() -> None:
        stopped.wake()
        announcements.wake()

    lives = Lives(changed=changed)
    records = Records(host, store=store, disk=disk, mirrors=mirrors, lives=lives, events=events)
    stopped = Stopped(settings=settings, kernel=kernel, lives=lives, host=lambda: records.host, tell=tell)
    records.on_changed = configured
    tracked = Tracked(kernel)
    records.on_gone = tracked.forget
    notes = ChangeNotes(store, disk, begun=begun)
    drift = Drift(tell)
    obstacles = Obstacles(kernel, settings, blocks=lambda: records.host.blocks)
    plans = PlanSender(kernel, lives=lives, notes=notes, obstacles=obstacles, arrivals=Arrivals(kernel, lives))
    ways = Ways(kernel, link_groups=settings.host.link_groups)
    host_sync = HostSync(
        settings=settings, kernel=kernel, lives=lives, sender=plans, host_settings=host_settings, stopped=stopped,
        ways=ways, tell=tell, routers=Routers(kernel, functools.partial(look_at_host, kernel, settings)),
    )  # fmt: skip
    containers = ContainerSync(
        settings=settings, kernel=kernel, lives=lives, editions=editions, host=host_sync, sender=plans, notes=notes,
        drift=drift, obstacles=obstacles, tell=tell,
    )  # fmt: skip
    guest_files = GuestFiles(root_of=roots.path, records=records, host=host_sync, lives=lives, tell=tell)
    announcements = Announcements(
        settings=settings, kernel=kernel, lives=lives, containers=containers, host=lambda: records.host, tell=tell,
        table=kernel.announcement_table(settings.announce.table, protocol=settings.routes.announce_protocol),
    )  # fmt: skip
    router = Router(
        settings=settings, engine=routing.engine, noted=routing.noted, read_password=routing.read_password,
        announcements=announcements, records=records, disk=disk, tell=tell,
    )  # fmt: skip
    phase = HostPhase(booted, disk=disk)
    supervisor = Supervisor(
        runtime=bind(engine), roots=roots, pending_starts=pending_starts, lives=lives, containers=containers,
        host=host_sync, records=records, phase=phase, events=events, turns=turns, guest_files=guest_files,
        withdraw=announcements.settle,
    )  # fmt: skip
    boot = Boot(phase, lives=lives, supervisor=supervisor, records=records, events=events, turns=turns)
    reconciler = Reconciler(
        records=records, host=host_sync, containers=containers, notes=notes, drift=drift, obstacles=obstacles,
        sender=plans, lives=lives, turns=turns, tell=tell, tidy=give_memory_back,
    )  # fmt: skip
    failures = Failures(store, disk)
    condition = Condition(
        about=about, records=records, kernel=kernel, host=host_sync, obstacles=obstacles, drift=drift, lives=lives,
        phase=phase, reconciler=reconciler, ways=ways, guest_files=guest_files, since=Since(moments),
        announcing=router.troubles,
    )  # fmt: skip
    ports = Ports(plans, notes)
    blocking = Blocking(
        records=records, host=host_sync, containers=containers, obstacles=obstacles, lives=lives, ports=ports,
        turns=turns, tell=tell,
    )  # fmt: skip
    actions = Actions(
        records=records, host=host_sync, containers=containers, obstacles=obstacles, lives=lives,
        supervisor=supervisor, phase=phase, boot=boot, reconciler=reconciler, turns=turns, events=events,
        condition=condition, blocking=blocking, stopped=stopped, failures=failures, guest_files=guest_files,
        announcements=announcements, router=router,
    )  # fmt: skip
    return Daemon(
        about=about, records=records, lives=lives, kernel=kernel, host_sync=host_sync, containers=containers,
        drift=drift, obstacles=obstacles, ports=ports, phase=phase, supervisor=supervisor, boot=boot,
        reconciler=reconciler, actions=actions, events=events, turns=turns, condition=condition, blocking=blocking,
        stopped=stopped, tracked=tracked, failures=failures, guest_files=guest_files, announcements=announcements,
        router=router, above=above,
    )  # fmt: skip
