"""Read the settings, take the lock, bring everything to what was saved, and serve until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import gc
import logging
import os
import signal
import socket
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from osctld import config
from osctld.cli.version import VERSION
from osctld.core.errors import OsctlError, Refused, Unavailable, UsageError
from osctld.core.host import Host
from osctld.core.settings import Settings, parse_settings
from osctld.daemon import Daemon
from osctld.lives import Lives, log_failure
from osctld.server.listener import Server
from osctld.shell.host_boot import boot_identity
from osctld.shell.kernel import Kernel
from osctld.shell.lxc import LxcEngine
from osctld.shell.roots import RootDirectories
from osctld.shell.store import Store

log = logging.getLogger("osctld")

USAGE = "usage: osctld [--config FILE] [--state-dir DIR] [--run-dir DIR]"


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
            print(f"osctld {VERSION}")
            return 0
        places, is_config_named = parse_arguments(sys.argv[1:])
        settings = read_settings(places.config, must_exist=is_config_named)
        make_directories(places)
        with lock(places.state_dir), lock(places.run_dir):
            asyncio.run(serve(places, settings))
    except OsctlError as error:
        print(f"error: {error.message}", file=sys.stderr)
        return error.exit_status
    return 0


def parse_arguments(arguments: list[str]) -> tuple[Places, bool]:
    """Read the command line. Raises UsageError."""
    given: dict[str, Path] = {}
    words = iter(arguments)
    for word in words:
        name, equals, value = word.partition("=")
        if name not in ("--config", "--state-dir", "--run-dir"):
            raise UsageError(f"unknown argument: {word} ({USAGE})")
        if not equals:
            value = next(words, "")
        if not value:
            raise UsageError(f"missing value of {name} ({USAGE})")
        given[name.lstrip("-").replace("-", "_")] = Path(value).absolute()
    return Places(**given), "config" in given


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
        places.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        places.state_dir.chmod(0o700)
        places.run_dir.mkdir(parents=True, exist_ok=True, mode=0o711)
    except OSError as error:
        raise Unavailable(f"{error.filename}: {error.strerror}", code="no-directory") from error


@contextlib.contextmanager
def lock(directory: Path) -> Iterator[None]:
    """Hold a directory for this daemon alone. Raises Unavailable when another one has it."""
    file = directory / "osctld.lock"
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
            raise Unavailable(
                f"{directory} is in use by another osctld" + (f", process {holder}" if holder else ""),
                code="second-daemon",
                subject=str(directory),
                holder=holder,
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


async def serve(places: Places, settings: Settings) -> None:
    """Everything between the lock and the last answer."""
    store = Store(places.state_dir / "osctl.sqlite", schema=config.SCHEMA, new_host_uuid=str(uuid.uuid4()))
    store.begin_run()
    contents = store.load()
    host = Host(uuid=contents.host_uuid, settings=settings, serial=contents.host_serial)
    for document in contents.documents:
        host = host.with_container(config.decode_container(document))

    disk = ThreadPoolExecutor(1, thread_name_prefix="disk")
    engine = LxcEngine(state_dir=places.state_dir, run_dir=places.run_dir)
    lives = Lives(
        engine=engine,
        roots=RootDirectories(places.state_dir),
        disk=disk,
    )
    about = {
        "version": VERSION,
        "pid": os.getpid(),
        "state_dir": str(places.state_dir),
        "run_dir": str(places.run_dir),
        "engine": engine.about(),
    }
    kernel = Kernel()
    # Before the first look, so that nothing is missed between that and those that follow.
    news = kernel.listen((settings.routes.announce_protocol, settings.routes.present_protocol))
    daemon = Daemon(
        host=host, kernel=kernel, store=store, begun=contents.pending, lives=lives, about=about, run=contents.run
    )
    lives.attach(daemon)

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    writer = asyncio.create_task(daemon.turns.run(), name="writer")
    boot = boot_identity()
    await bring_up(daemon, is_new_boot=boot != contents.boot)
    reconciler = asyncio.create_task(daemon.reconciler.run(news), name="reconciler")
    server = Server(daemon, str(places.run_dir / "osctld.sock"))
    server.start()
    tasks = {writer, reconciler}
    if boot != contents.boot:
        tasks.add(starter := asyncio.create_task(daemon.start_wanted(boot), name="starter"))
        starter.add_done_callback(tasks.discard)
        starter.add_done_callback(log_failure)
    # What exists now stays for ever: the collector need not look at it again and again.
    gc.collect()
    gc.freeze()
    log.info("ready on %s", places.run_dir / "osctld.sock")
    notify("READY=1")

    await asyncio.wait({asyncio.create_task(stop.wait()), writer, reconciler}, return_when=asyncio.FIRST_COMPLETED)
    notify("STOPPING=1")
    for task in (writer, reconciler):
        if task.done():
            task.result()
    await server.close()
    # Containers go on: their monitors are no children of ours.
    for task in tasks:
        task.cancel()
    news.close()
    disk.shutdown(wait=True)
    store.close()


async def bring_up(daemon: Daemon, *, is_new_boot: bool) -> None:
    """Adopt what runs, bring the kernel to what was saved, start again what asked for a reboot meanwhile."""
    await asyncio.gather(daemon.lives.roots.collect(), daemon.lives.engine.end_orphans())
    rebooted = [name for name in daemon.host.containers if await daemon.lives.adopt(name)]
    try:
        await daemon.reconciler.reconcile()
    except OsctlError as error:
        # A host on which something cannot be set still needs a daemon that answers; the reconciler tries again.
        log.error("reconcile: %s", error.message)
    for name in rebooted:
        await daemon.lives.start(name, wait_seconds=0)
    for each in list(daemon.host.containers.values()):
        await daemon.adopted(each.name)
        # On the same boot, one that is gone ended by itself while nobody looked: it is not brought back.
        is_gone = daemon.lives.state(each.name) == "stopped" and each.name not in rebooted
        if each.is_wanted and is_gone and not is_new_boot:
            await daemon.ended(each.name)


def notify(state: str) -> None:
    """Tell the service manager (sd_notify(3)), if there is one."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, kind) as sender:
        sender.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)
