"""Read the settings, take the lock, bring everything to what was saved, and serve until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import fcntl
import gc
import grp
import logging
import os
import shlex
import signal
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import msgspec

from osctld import config
from osctld.assembly import assemble
from osctld.at_shutdown import DaemonPlaces, shut_down
from osctld.cli.catalogue import catalogue
from osctld.cli.version import BUILD, VERSION, told
from osctld.core.access import Access
from osctld.core.config import restoring
from osctld.core.config.host import Host
from osctld.core.config.settings import Settings, SocketSettings, parse_settings
from osctld.core.errors import OsctlError, Refused, Unavailable, UsageError
from osctld.core.reconcile.host_level import IPV6_FORWARDING
from osctld.daemon.disk import Disk
from osctld.daemon.perform import Daemon
from osctld.daemon.records import Records, documents_beside_roots
from osctld.daemon.router import Routing
from osctld.daemon.tasks import log_failure
from osctld.maintenance import FILE, Maintenance
from osctld.protocol.catalogue import commands, requests
from osctld.server.door import Limits
from osctld.server.listener import Server
from osctld.shell import covered_root
from osctld.shell.editions import Editions
from osctld.shell.health import preflight
from osctld.shell.host_boot import BootedHost, NotedShutdown, boot_identity
from osctld.shell.kernel.host_settings import HostSettings
from osctld.shell.kernel.port import Kernel
from osctld.shell.lxc.engine import LxcEngine
from osctld.shell.pending_starts import PendingStarts
from osctld.shell.process import inheritance, inherited_signals
from osctld.shell.remote_authority import RemoteAuthority
from osctld.shell.rootfs.roots import RootDirectories
from osctld.shell.routing.engine_files import read_password
from osctld.shell.service_manager import drop, feed_watchdog, keep, notify, take_kept_sockets
from osctld.shell.store.contents import Contents
from osctld.shell.store.database import Store
from osctld.shell.store.durable import make_directory
from osctld.shell.store.mirrors import HostFacts, Mirrors
from osctld.shell.store.moments_file import MomentsFile
from osctld.shell.store.router_file import RouterFile
from osctld.sync.bird_engine import BirdEngine

log = logging.getLogger("osctld")

#: Seconds.
_DAY = 86400.0

USAGE = (
    "usage: osctld [--config FILE] [--state-dir DIR] [--run-dir DIR]"
    " [--at-shutdown [--force] | --check | --recover [--force] | --restore-schema N]"
)


class Places(msgspec.Struct, frozen=True):
    """Where one daemon keeps everything: several run side by side with different ones."""

    config: Path = Path("/etc/osctl/osctld.toml")
    state_dir: Path = Path("/var/lib/osctl")
    run_dir: Path = Path("/run/osctl")


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        if "--help" in sys.argv[1:]:
            print(USAGE)
            return 0
        if "--version" in sys.argv[1:]:
            print(told("osctld"))
            return 0
        if "--at-shutdown" in sys.argv[1:]:
            return at_shutdown(sys.argv[1:])
        places, task, is_config_named = parse_arguments(sys.argv[1:])
        if task is not None:
            return maintain(places, task)
        settings = read_settings(places.config, must_exist=is_config_named)
        preflight.check()
        leave_covered_root()
        make_directories(places)
        faulthandler.enable()  # the service manager kills a hanging daemon with SIGABRT: the log has to say where
        inheritance.take_all_descriptors()
        inherited_signals.stop_passing_on()
        with lock(places.state_dir), lock(places.run_dir):
            asyncio.run(serve(places, settings))
    except OsctlError as error:
        print(f"error: {error.message}", file=sys.stderr)
        return error.exit_status
    except OSError as error:
        # Before it was ready: the kernel or the disk refuses something that it cannot do without.
        print(f"error: osctld cannot start: {error.strerror or error}{_of_file(error)}", file=sys.stderr)
        return 1
    return 0


def leave_covered_root() -> None:
    """Before containers are started out of this mount namespace, see that it holds no second root."""
    if covered_root.is_namespace_of_the_host():
        return
    try:
        covered_root.leave()
    except OsctlError as error:
        log.warning("%s", error.message)  # containers are confined by all else


def at_shutdown(arguments: list[str]) -> int:
    """Stop all containers because the host is going down, whether or not a daemon is alive."""
    words = [each for each in arguments if each not in ("--at-shutdown", "--force")]
    places, _, is_config_named = parse_arguments(words)
    try:
        settings = read_settings(places.config, must_exist=is_config_named)
    except OsctlError as error:
        log.error("%s; the defaults are used", error.message)  # no reason to kill everything
        settings = Settings()
    make_directories(places)
    daemon = DaemonPlaces(
        state_dir=places.state_dir,
        socket=places.run_dir / "osctld.sock",
        lock=places.state_dir / "osctld.lock",
        timeout_seconds=settings.shutdown.timeout,
    )
    engine = LxcEngine(state_dir=places.state_dir, run_dir=places.run_dir)
    return shut_down(daemon, engine, is_forced="--force" in arguments)


def _of_file(error: OSError) -> str:
    return f": {error.filename}" if error.filename else ""


class Task(msgspec.Struct, frozen=True):
    """What to do instead of serving: check, recover or restore-schema."""

    name: str
    is_forced: bool = False
    schema: int = 0


def parse_arguments(arguments: list[str]) -> tuple[Places, Task | None, bool]:
    """Read the command line; the last value says whether it names the settings. Raises UsageError."""
    given: dict[str, Path] = {}
    tasks: list[Task] = []
    is_forced = False
    words = iter(arguments)
    for word in words:
        name, equals, value = word.partition("=")
        if name in ("--config", "--state-dir", "--run-dir", "--restore-schema"):
            if not equals:
                value = next(words, "")
            if not value:
                raise UsageError(f"missing value of {name} ({USAGE})")
            if name != "--restore-schema":
                given[name.lstrip("-").replace("-", "_")] = Path(value).absolute()
            elif value.isascii() and value.isdigit() and len(value) < 10:
                tasks.append(Task("restore-schema", schema=int(value)))
            else:
                raise UsageError(f"{name} {value}: expected a number ({USAGE})")
        elif word in ("--check", "--recover"):
            tasks.append(Task(word.removeprefix("--")))
        elif word == "--force":
            is_forced = True
        else:
            raise UsageError(f"unknown argument: {word} ({USAGE})")
    if len(tasks) > 1 or (is_forced and [each.name for each in tasks] != ["recover"]):
        raise UsageError(f"arguments cannot be used together: {' '.join(arguments)} ({USAGE})")
    task = msgspec.structs.replace(tasks[0], is_forced=is_forced) if tasks else None
    return Places(**given), task, "config" in given


def maintain(places: Places, task: Task) -> int:
    """Do something else than serve, and return the exit status. Raises an OsctlError."""
    maintenance = maintenance_of(places)
    if task.name == "check":
        return 0 if maintenance.check(print) else 1
    if not places.state_dir.is_dir():
        raise Refused(f"{places.state_dir}: no such directory", code="no-directory", subject=str(places.state_dir))
    with lock(places.state_dir):
        if task.name == "recover":
            maintenance.recover(print, is_forced=task.is_forced)
        else:
            maintenance.restore_schema(task.schema, print)
    return 0


def maintenance_of(places: Places) -> Maintenance:
    is_usual = places.state_dir == Places().state_dir
    option = "" if is_usual else f" --state-dir {shlex.quote(str(places.state_dir))}"
    return Maintenance(places.state_dir, option=option)


def read_settings(file: Path, *, must_exist: bool) -> Settings:
    """Raises Refused, with file and line, for settings that make no sense."""
    try:
        return parse_settings(file.read_text(encoding="utf-8"), file=str(file))
    except FileNotFoundError:
        if must_exist:
            raise Refused(f"{file}: no such file", code="bad-settings", subject=str(file)) from None
        return Settings()
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"{file}: {error}", code="bad-settings", subject=str(file)) from error


def make_directories(places: Places) -> None:
    try:
        # Root directories hold files of every id; nobody but root may reach into them from outside.
        make_directory(places.state_dir, mode=0o700)
        places.state_dir.chmod(0o700)
        places.run_dir.mkdir(parents=True, exist_ok=True, mode=0o711)
    except OSError as error:
        raise Unavailable(f"{error.filename}: {error.strerror}", code="no-directory") from error


@contextlib.contextmanager
def lock(directory: Path) -> Iterator[None]:
    """Hold a directory for this daemon alone. Raises Unavailable when another one has it."""
    file = directory / "osctld.lock"
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Unavailable(f"{file}: {error.strerror}", code="no-directory", subject=str(directory)) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
            raise Unavailable(
                f"{directory}: in use by another osctld" + (f", process {holder}" if holder else ""),
                code="second-daemon",
                subject=str(directory),
                holder=holder,
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def access_of(settings: SocketSettings) -> Access:
    """Look the groups up. Raises Refused, naming the setting, for an unknown one."""
    return Access(
        operators=_group("group", settings.group),
        readers=_group("read_only_group", settings.read_only_group),
        daemon_user=os.geteuid(),
    )


def _group(key: str, name: str) -> int | None:
    if not name:
        return None
    try:
        return int(name) if name.isascii() and name.isdigit() else grp.getgrnam(name).gr_gid
    except KeyError:
        raise Refused(f"socket.{key} = {name!r}: group not found", code="bad-settings", subject=name) from None


async def serve(places: Places, settings: Settings) -> None:
    """Everything between the lock and the last answer."""
    kept = take_kept_sockets()
    access = access_of(settings.socket)
    store, contents = open_store(places)
    host = Host(
        uuid=contents.host_uuid, settings=settings, serial=contents.host_serial, uplinks=contents.uplinks,
        blocks=contents.blocks,
    )  # fmt: skip
    documents: dict[str, bytes] = {}
    for document in contents.documents:
        try:
            container = config.decode_container(document)
        except (msgspec.MsgspecError, UnicodeDecodeError, OsctlError) as error:
            store.close()
            reason = f"a container's document in {FILE} is invalid: {error}"
            raise maintenance_of(places).way_back(Unavailable(reason, code="store-unreadable")) from error
        host = host.with_container(container)
        documents[container.name] = document
    newer = restoring.newer_beside(host, documents_beside_roots(places.state_dir, documents, host=host.uuid))
    mirrors = Mirrors(
        places.state_dir,
        facts=HostFacts(config.SCHEMA, contents.host_uuid, contents.host_serial, contents.run),
    )
    mirrors.note_all(documents, host=contents.host_uuid, host_serial=contents.host_serial)

    disk = Disk()
    engine = LxcEngine(
        state_dir=places.state_dir,
        run_dir=places.run_dir,
        requires_apparmor=settings.confinement.apparmor == "required",
    )
    about = {
        "version": VERSION,
        "build": BUILD,
        "pid": os.getpid(),
        "state_dir": str(places.state_dir),
        "run_dir": str(places.run_dir),
        "engine": engine.about(),
    }
    kernel = Kernel()
    # Before the first look, so that nothing is missed between that and those that follow.
    news = kernel.listen((settings.routes.announce_protocol, settings.routes.present_protocol))
    boot = boot_identity()
    host_settings = HostSettings(places.run_dir / "host-settings.conf", boot=boot)
    if not host_settings.was_kept:
        # On a boot on which a daemon ran that kept no such notes, that one has switched it on, if anybody has.
        host_settings.note({IPV6_FORWARDING: "0"} if boot == contents.boot else {})
    daemon = assemble(
        host=host, kernel=kernel, engine=engine, roots=RootDirectories(places.state_dir), store=store, disk=disk,
        mirrors=mirrors, host_settings=host_settings, editions=Editions(places.run_dir / "editions"),
        pending_starts=PendingStarts(places.run_dir / "pending-starts"),
        booted=BootedHost(boot, contents.boot, NotedShutdown(places.state_dir)),
        about=about, begun=contents.pending, run=contents.run, above=authority_above(settings, host),
        moments=MomentsFile(places.run_dir / "since.json"),
        routing=Routing(BirdEngine(settings.announce), RouterFile(places.state_dir), read_password),
    )  # fmt: skip

    stop = asyncio.Event()

    def end() -> None:
        daemon.phase.daemon_ends()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, end)
    writer = asyncio.create_task(daemon.turns.run(), name="writer")
    await daemon.records.begin()
    await daemon.parking.park_old(newer)
    await bring_up(daemon, is_new_boot=daemon.phase.is_new)
    reconciler = asyncio.create_task(daemon.reconciler.run(news), name="reconciler")
    server = Server(daemon, str(places.run_dir / "osctld.sock"), access=access, limits=Limits.of(settings.socket))
    server.start(kept)
    for name in kept.keys() - {server.name}:
        drop(name)
    server.is_kept = keep(server.listener, server.name)
    tasks = {writer, reconciler}
    tasks.add(mirroring := asyncio.create_task(mirrors.run(), name="mirrors"))
    mirroring.add_done_callback(log_failure)
    tasks.add(asyncio.create_task(shorten_history(daemon.records), name="history"))
    tasks.add(unblocking := asyncio.create_task(daemon.blocking.run(), name="blocking"))
    unblocking.add_done_callback(log_failure)
    tasks.add(watching := asyncio.create_task(daemon.condition.run(), name="condition"))
    watching.add_done_callback(log_failure)
    tasks.add(stopped := asyncio.create_task(daemon.stopped.run(), name="stopped"))
    stopped.add_done_callback(log_failure)
    tasks.add(tracked := asyncio.create_task(daemon.tracked.run(), name="tracked"))
    tracked.add_done_callback(log_failure)
    tasks.add(announcing := asyncio.create_task(daemon.announcements.run(), name="announcements"))
    announcing.add_done_callback(log_failure)
    tasks.add(routing := asyncio.create_task(daemon.router.run(), name="router"))
    routing.add_done_callback(log_failure)
    tasks.add(failing := asyncio.create_task(daemon.failures.run(), name="failures"))
    failing.add_done_callback(log_failure)
    tasks.add(writing := asyncio.create_task(daemon.guest_files.run(), name="guest files"))
    writing.add_done_callback(log_failure)
    if daemon.reservations is not None:
        tasks.add(reserving := asyncio.create_task(daemon.reservations.run(), name="reservations"))
        reserving.add_done_callback(log_failure)
    daemon.boot.begin()
    # All that is found by its files is loaded now: a package's upgrade may replace them under us.
    catalogue(), requests(), commands()
    # What exists now stays for ever: the collector need not look at it again and again.
    gc.collect()
    gc.freeze()
    log.info("version %s, build %s, ready on %s", VERSION, BUILD, places.run_dir / "osctld.sock")
    notify("READY=1")
    tasks.add(asyncio.create_task(feed_watchdog(), name="watchdog"))

    await asyncio.wait({asyncio.create_task(stop.wait()), writer, reconciler}, return_when=asyncio.FIRST_COMPLETED)
    notify("STOPPING=1")
    await daemon.boot.end(take_time=lambda seconds: notify(f"EXTEND_TIMEOUT_USEC={seconds * 1e6:.0f}"))
    for task in (writer, reconciler):
        if task.done():
            raise RuntimeError(f"the {task.get_name()} ended") from task.exception()
    await server.close()
    # Containers keep running: their monitors are not our children.
    for task in tasks:
        task.cancel()
    news.close()
    await mirrors.write()
    await daemon.failures.write()
    disk.close()
    store.close()


def authority_above(settings: Settings, host: Host) -> RemoteAuthority | None:
    """Who is asked for addresses beside this host."""
    wanted = settings.authority
    if not wanted.socket:
        return None
    return RemoteAuthority(wanted.socket, host_uuid=host.uuid, timeout_seconds=wanted.timeout)


async def shorten_history(records: Records) -> None:
    """Forget what is too old, once a day; runs until cancelled."""
    while True:
        await asyncio.sleep(_DAY)
        await records.shorten_history()


def open_store(places: Places) -> tuple[Store, Contents]:
    """The store, and what is in it. Raises Unavailable, with what to do, when it cannot be used."""
    maintenance = maintenance_of(places)
    if (refusal := maintenance.refusal_to_start()) is not None:
        raise Unavailable(refusal, code="store-missing")
    try:
        store = Store(
            places.state_dir / FILE, schema=config.SCHEMA, new_host_uuid=str(uuid.uuid4()),
            upgraded=config.upgraded,
        )  # fmt: skip
    except Unavailable as error:
        raise maintenance.way_back(error) from error
    try:
        store.begin_run()
        return store, store.load()
    except Unavailable as error:
        store.close()
        raise maintenance.way_back(error) from error


async def bring_up(daemon: Daemon, *, is_new_boot: bool) -> None:
    """Adopt what runs, bring the kernel to what was saved, start again what asked for a reboot meanwhile."""
    supervisor = daemon.supervisor
    await asyncio.gather(supervisor.roots.collect(daemon.host.containers), supervisor.runtime.end_orphans())
    rebooted = [name for name in daemon.host.containers if await supervisor.adopt(name)]
    if is_new_boot:
        daemon.host_sync.begin_anew()
    try:
        await daemon.reconciler.reconcile()
    except OsctlError as error:
        # A host on which something cannot be set still needs a daemon that answers; the reconciler tries again.
        log.error("reconcile: %s", error.message)
    # Until the host's boot is over, that one starts everything.
    unfinished = [name for name in daemon.host.containers if not is_new_boot and supervisor.retries.is_pending(name)]
    for name in dict.fromkeys((*rebooted, *unfinished)):
        if daemon.phase.refusal_to_start(name) is None:
            supervisor.begin_unattended(name)
    for each in list(daemon.host.containers.values()):
        await supervisor.adopted(each.name)
        # On the same boot, one that is gone ended by itself while nobody looked: it is not brought back.
        is_gone = daemon.lives.state(each.name) == "stopped" and each.name not in (*rebooted, *unfinished)
        if each.is_wanted and is_gone and not is_new_boot:
            await supervisor.ended(each.name)
