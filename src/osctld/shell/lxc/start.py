"""One start: from the wish to have a container to its running first process.

    make_namespaces -> (the caller prepares the network) -> launch

Whatever fails or is cancelled on the way leaves neither process nor mount nor cgroup.
"""

from __future__ import annotations

import asyncio
import os
from asyncio.subprocess import DEVNULL, Process

from osctld.core.config import confinement
from osctld.core.config.life import ContainerSpec
from osctld.core.errors import ApplyFailed
from osctld.shell.lxc import apparmor, files, leftovers, life
from osctld.shell.lxc.life import START_SECONDS, Life
from osctld.shell.lxc.places import Places
from osctld.shell.process import namespace_holder, pidfds
from osctld.shell.process.namespace_holder import Namespaces
from osctld.shell.process.subprocesses import execute, kill, to_the_end
from osctld.shell.rootfs import guest_root, idmapped_mount
from osctld.shell.rootfs.busybox import require_static_busybox
from osctld.shell.rootfs.guest_root import InitKind


async def make_namespaces(places: Places, spec: ContainerSpec) -> Namespaces:
    """Make a container's user and network namespaces; prepare meanwhile what needs no network.

    Raises ApplyFailed or Unavailable with the reason; nothing is left then.
    """
    container = spec.container
    preparing = asyncio.ensure_future(asyncio.to_thread(_prepare, places, spec))
    namespaces: Namespaces | None = None
    try:
        namespaces = await namespace_holder.make_namespaces(container, id_map=spec.id_map)
        await to_the_end(preparing)
        return namespaces
    except BaseException:
        await to_the_end(asyncio.wait([preparing]))
        preparing.exception()  # two may have failed: one is reported
        if namespaces is not None:
            await to_the_end(namespaces.release())
        await to_the_end(leftovers.sweep(places, container, patience_seconds=0))
        raise


def _prepare(places: Places, spec: ContainerSpec) -> None:
    container = spec.container
    try:
        root = os.open(spec.root_directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ApplyFailed(
            f"'{container}': root directory '{spec.root_directory}' cannot be opened: {error.strerror}",
            subject=container,
        ) from error
    try:
        init = InitKind.OTHER
        if spec.runs_init:
            init = guest_root.init_kind(root, container=container, root_directory=spec.root_directory)
            guest_root.write_hostname(root, spec.hostname)
        else:
            require_static_busybox(files.HOLDER)
    except OSError as error:
        raise ApplyFailed(
            f"'{container}': its name cannot be written below '{spec.root_directory}': {error.strerror}",
            subject=container,
        ) from error
    finally:
        os.close(root)
    label = _confine(places, spec)
    config = files.config_text(
        spec,
        mount_point=places.mount_point(container),
        hook=places.hook,
        seccomp=places.seccomp,
        names=places.cgroups_of(container),
        init=init,
        apparmor_label=label,
    )
    try:
        places.make_directory(container, config=config)
        if not spec.runs_init:
            places.record_transient(container)
        if label is not None:
            places.record_label(container, label)
            if places.policy_of(container) in label:
                apparmor.make_namespace(places.policy_of(container))
        places.begin_log(container)
    except OSError as error:
        raise ApplyFailed(f"'{container}': start cannot be prepared: {error}", subject=container) from error


def _confine(places: Places, spec: ContainerSpec) -> str | None:
    facts = apparmor.with_profiles_loaded() if places.requires_apparmor else apparmor.look()
    return confinement.apparmor_label(
        facts,
        container=spec.container,
        is_required=places.requires_apparmor,
        has_nesting=spec.has_nesting,
        namespace=places.policy_of(spec.container),
    )


async def abandon(places: Places, namespaces: Namespaces) -> None:
    """Give up between make_namespaces and launch: nothing is left."""
    await to_the_end(namespaces.release())
    await to_the_end(leftovers.sweep(places, namespaces.container, patience_seconds=0))


class _Progress:
    """How far a start has got."""

    def __init__(self) -> None:
        self.process: Process | None = None
        self.parting: asyncio.Future[tuple[None, None]] | None = None
        self.life: Life | None = None


async def launch(places: Places, spec: ContainerSpec, namespaces: Namespaces) -> Life:
    """Start the container in namespaces that the caller has prepared, and let their holder go.

    Raises ApplyFailed or Unavailable with the reason, quoting LXC's log; nothing is left then.
    """
    container = spec.container
    lock = places.lock(container)
    progress = _Progress()
    try:
        await to_the_end(asyncio.to_thread(_mount, places, spec, namespaces))
        progress.process = await _execute_start(places, container, namespaces, lock=lock)
        await _await_start(places, container, progress.process)
        # LXC has joined the namespaces and holds the root.
        progress.parting = asyncio.ensure_future(
            asyncio.gather(
                asyncio.to_thread(idmapped_mount.detach, str(places.mount_point(container))), namespaces.release()
            )
        )
        progress.life = await life.meet(places, container)
        await life.await_init(places, progress.life, network=namespaces.network)
        await to_the_end(progress.parting)
    except BaseException:
        await to_the_end(_undo_launch(places, container, progress, namespaces))
        raise
    finally:
        os.close(lock)
    return progress.life


def _mount(places: Places, spec: ContainerSpec, namespaces: Namespaces) -> None:
    container = spec.container
    try:
        places.record_network(container, namespaces.network)
        user_namespace = os.open(f"/proc/{namespaces.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise ApplyFailed(f"'{container}': start cannot be prepared: {error}", subject=container) from error
    try:
        if pidfds.has_ended(namespaces.pidfd):
            raise ApplyFailed(f"'{container}': its namespaces are gone", subject=container)
        idmapped_mount.attach(spec.root_directory, str(places.mount_point(container)), user_namespace=user_namespace)
    finally:
        os.close(user_namespace)


async def _execute_start(places: Places, container: str, namespaces: Namespaces, *, lock: int) -> Process:
    log = os.open(places.log(container), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        return await execute(
            "lxc-start", "-P", places.lxc_path, "-n", container, "--daemon", "--quiet",
            "--logfile", str(places.log(container)), "--logpriority", "ERROR",
            "--define", f"{files.GUARD_KEY}=",
            "--define", f"lxc.namespace.share.user={namespaces.pid}",
            "--define", f"lxc.namespace.share.net={namespaces.pid}",
            subject=container, stdin=DEVNULL, stdout=log, stderr=log, cwd="/", pass_fds=(lock,), start_new_session=True,
        )  # fmt: skip
    finally:
        os.close(log)


async def _await_start(places: Places, container: str, process: Process) -> None:
    try:
        async with asyncio.timeout(START_SECONDS):
            status = await process.wait()
    except TimeoutError as error:
        raise ApplyFailed(f"'{container}': did not start within {START_SECONDS:g} s", subject=container) from error
    if status != 0:
        raise places.failed_start(container, f"lxc-start ended with status {status}")


async def _undo_launch(places: Places, container: str, progress: _Progress, namespaces: Namespaces) -> None:
    patience = 1.0
    process = progress.process
    try:
        if process is None or process.returncode in (None, 0):
            patience = 0.0  # nothing is at its end by itself
        if process is not None:
            await kill(process)
        if progress.parting is not None:
            await asyncio.wait([progress.parting])
        if progress.life is not None:
            progress.life.close()
        await leftovers.sweep(places, container, patience_seconds=patience)
    finally:
        await namespaces.release()
