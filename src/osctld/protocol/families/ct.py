"""Containers."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import msgspec

from osctld.commands.ct_del import CtDel
from osctld.commands.ct_exec import CtExec
from osctld.commands.ct_ls import container_row
from osctld.commands.ct_new import CtNew
from osctld.commands.ct_restart import CtRestart
from osctld.commands.ct_set_autostart import CtSetAutostart
from osctld.commands.ct_start import CtStart
from osctld.commands.ct_stop import CtStop
from osctld.commands.ct_unset_autostart import CtUnsetAutostart
from osctld.core.command import SECRET, Action, Edited, Listing, Observed, Reply
from osctld.core.config.autostart import USUAL_DELAY, USUAL_PRIORITY
from osctld.core.config.host import POOL, Container, Host
from osctld.core.config.life import StopMethod
from osctld.core.config.surroundings import Surroundings
from osctld.core.errors import Refused
from osctld.protocol.request import ActRequest, EditRequest, ViewRequest, check_pool, find_container

#: Seconds, where a request does not say how long to wait for a start or a poweroff.
USUAL_SECONDS = 60

#: The only group, with and without the slash that people omit.
GROUPS = ("/default", "default")

#: Instead of a path: the archive comes as a descriptor.
STREAM = "-"


class ShownContainer(msgspec.Struct, frozen=True):
    """`lxc_dir` is there while the container runs, as is the cgroup `group_path`, relative to what
    `group_cgsubsystems` tells."""

    pool: str
    id: str
    user: str
    group: str
    dataset: str | None
    rootfs: str
    lxc_path: str
    lxc_dir: str
    group_path: str
    distribution: str
    version: str
    state: str
    init_pid: int | None
    autostart: bool
    autostart_priority: int | None
    autostart_delay: int | None
    hostname: str | None
    dns_resolvers: list[str] | None
    nesting: bool
    seccomp_profile: str | None
    log_file: str


class ExitStatusAnswer(msgspec.Struct, frozen=True):
    exitstatus: int


class TemplateOfRepository(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    distribution: str | None = None
    version: str | None = None
    arch: str | None = None
    vendor: str | None = None
    variant: str | None = None


class Template(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A template by name (`remote`), an archive at a path, or one that comes as a descriptor (`stream`)."""

    type: Literal["remote", "archive", "stream"]
    path: str | None = None
    template: TemplateOfRepository = TemplateOfRepository()


class CtList(ViewRequest, frozen=True, kw_only=True):
    words: ClassVar[tuple[str, ...]] = ("ct", "list")
    answers: ClassVar[Any] = list[ShownContainer]

    ids: tuple[str, ...] = ()
    pool: str | tuple[str, ...] | None = None  # type: ignore[assignment]  # here alone it is a filter
    user: tuple[str, ...] | None = None
    group: tuple[str, ...] | None = None
    distribution: tuple[str, ...] | None = None
    version: tuple[str, ...] | None = None
    state: tuple[str, ...] | None = None

    def view(self, host: Host, observed: Observed) -> Reply:
        # One that does not exist, or no longer does, is omitted, as by the original.
        named = None if not self.ids else {each.removeprefix(f"{POOL}:") for each in self.ids}
        chosen = [each for each in host.sorted_containers if named is None or each.name in named]
        rows = [_shown(each, observed) for each in chosen]
        pools = (self.pool,) if isinstance(self.pool, str) else self.pool
        for field, wanted in (
            ("pool", pools),
            ("user", self.user),
            ("group", self.group),
            ("distribution", self.distribution),
            ("version", self.version),
            ("state", self.state),
        ):
            if wanted is not None:
                rows = [row for row in rows if row[field] in wanted]
        return Listing(columns=(), shown=(), rows=tuple(rows))


class CtShow(ViewRequest, frozen=True, kw_only=True):
    words: ClassVar[tuple[str, ...]] = ("ct", "show")
    answers: ClassVar[Any] = ShownContainer

    id: str

    def view(self, host: Host, observed: Observed) -> Reply:
        row = _shown(find_container(host, self.id, pool=self.pool), observed)
        return Listing(columns=(), shown=(), rows=(row,), is_record=True)


class CtCreate(ActRequest, frozen=True, kw_only=True):
    """Only busybox is built here; all else comes as an archive. What belongs to repositories and datasets is not."""

    words: ClassVar[tuple[str, ...]] = ("ct", "create")

    id: str
    user: str | None = None
    group: str | None = None
    dataset: str | None = None
    distribution: str | None = None
    version: str | None = None
    arch: str | None = None
    vendor: str | None = None
    variant: str | None = None
    repository: str | None = None
    no_template: bool = False
    template: Template | None = None

    def act(self, host: Host) -> Action:
        check_pool(self.pool)
        if self.group is not None and self.group not in GROUPS:
            raise Refused(f"group not found: {self.group!r}", code="group-not-found", subject=self.group)
        for what, value in (("dataset", self.dataset), ("repository", self.repository)):
            if value is not None:
                raise Refused(f"{what} not found: {value!r}", code=f"{what}-not-found", subject=value)
        named = self.template.template if self.template is not None else TemplateOfRepository()
        for what in ("vendor", "variant"):
            value = getattr(self, what) or getattr(named, what)
            if value not in (None, "default"):
                raise Refused(f"{what} not found: {value!r}", code=f"{what}-not-found", subject=value)
        if self.no_template:
            raise Refused(
                f"{self.id!r}: no_template is not supported, provide template archive or stream",
                code="unsupported",
                subject=self.id,
            )
        distribution = self.distribution or named.distribution
        archive = self._archive()
        if archive is None and distribution is None:
            raise Refused(
                f"{self.id!r}: provide template archive, stream or existing dataset", code="no-root", subject=self.id
            )
        version = self.version or named.version
        return CtNew(
            container=self.id,
            distribution=distribution,
            from_archive=archive,
            user=self.user,
            **({} if version is None else {"version": version}),
        ).act(host)

    def _archive(self) -> str | None:
        match self.template:
            case Template(type="stream", path=path):
                return path or STREAM
            case Template(type="archive", path=path):
                if path is None:
                    raise Refused(f"{self.id!r}: template archive without a path", code="no-root", subject=self.id)
                return path
        return None


class CtDelete(ActRequest, frozen=True, kw_only=True):
    words: ClassVar[tuple[str, ...]] = ("ct", "delete")

    id: str
    force: bool = False

    def act(self, host: Host) -> Action:
        return CtDel(container=find_container(host, self.id, pool=self.pool).name, force=self.force).act(host)


class CtStartRequest(ActRequest, frozen=True, kw_only=True):
    """`wait` in seconds; false does not wait. Who asks for a place in the queue of starts, with whatever priority, gets
    the first one: it is always empty."""

    words: ClassVar[tuple[str, ...]] = ("ct", "start")

    id: str
    wait: int | bool = USUAL_SECONDS
    queue: bool = False
    priority: int | None = None
    debug: Literal[False] = False
    force: bool = False

    def act(self, host: Host) -> Action:
        name = find_container(host, self.id, pool=self.pool).name
        return CtStart(container=name, wait=_seconds(self.wait)).act(host)


class CtStopRequest(ActRequest, frozen=True, kw_only=True):
    words: ClassVar[tuple[str, ...]] = ("ct", "stop")

    id: str
    timeout: int = USUAL_SECONDS
    method: str = StopMethod.SHUTDOWN_OR_KILL.value
    progress: bool = True

    def act(self, host: Host) -> Action:
        name = find_container(host, self.id, pool=self.pool).name
        method = _method(self.method)
        return CtStop(
            container=name,
            timeout=self.timeout,
            kill=method is StopMethod.KILL,
            dont_kill=method is StopMethod.SHUTDOWN_OR_FAIL,
        ).act(host)


class CtRestartRequest(ActRequest, frozen=True, kw_only=True):
    """A reboot is a restart here too: the guest is asked to end, and is started when it has."""

    words: ClassVar[tuple[str, ...]] = ("ct", "restart")

    id: str
    wait: int | bool = USUAL_SECONDS
    reboot: bool = False
    stop_timeout: int = USUAL_SECONDS
    stop_method: str = StopMethod.SHUTDOWN_OR_KILL.value

    def act(self, host: Host) -> Action:
        name = find_container(host, self.id, pool=self.pool).name
        method = _method(self.stop_method)
        return CtRestart(
            container=name,
            wait=_seconds(self.wait),
            timeout=self.stop_timeout,
            kill=method is StopMethod.KILL,
            dont_kill=method is StopMethod.SHUTDOWN_OR_FAIL,
        ).act(host)


class HowToAutostart(msgspec.Struct, frozen=True):
    priority: int = USUAL_PRIORITY
    delay: int = USUAL_DELAY


class CtSetRequest(EditRequest, frozen=True, kw_only=True):
    """Properties of a container; those that it has not here are refused."""

    words: ClassVar[tuple[str, ...]] = ("ct", "set")

    id: str
    nesting: bool | None = None
    autostart: HowToAutostart | None = None
    hostname: Any = None
    dns_resolvers: Any = None
    distribution: Any = None
    seccomp_profile: Any = None
    attrs: Any = None

    def edit(self, host: Host, surroundings: Surroundings) -> Edited:
        _refuse_unsupported(self)
        container = find_container(host, self.id, pool=self.pool)
        if self.nesting is not None:
            container = container.with_nesting(has_nesting=self.nesting)
        after = host.with_container(container)
        if self.autostart is not None:
            how = self.autostart
            command = CtSetAutostart(container=container.name, priority=how.priority, delay=how.delay)
            return command.edit(after, surroundings)
        return Edited(after, container.name)


class CtUnsetRequest(EditRequest, frozen=True, kw_only=True):
    """Properties to unset: true each."""

    words: ClassVar[tuple[str, ...]] = ("ct", "unset")

    id: str
    nesting: bool = False
    autostart: bool = False
    hostname: Any = None
    dns_resolvers: Any = None
    seccomp_profile: Any = None
    attrs: Any = None

    def edit(self, host: Host, surroundings: Surroundings) -> Edited:
        _refuse_unsupported(self)
        container = find_container(host, self.id, pool=self.pool)
        if self.nesting:
            container = container.with_nesting(has_nesting=False)
        after = host.with_container(container)
        if self.autostart:
            return CtUnsetAutostart(container=container.name).edit(after, surroundings)
        return Edited(after, container.name)


class CtExecRequest(ActRequest, frozen=True, kw_only=True):
    """Its standard input, output and error come as descriptors when the answer is `continue`. With `run`, in a stopped
    container too, with its interfaces if `network`."""

    words: ClassVar[tuple[str, ...]] = ("ct", "exec")
    answers: ClassVar[Any] = ExitStatusAnswer

    id: str
    cmd: Annotated[tuple[str, ...], SECRET]
    run: bool = False
    network: bool = False

    def act(self, host: Host) -> Action:
        if not self.cmd:
            raise Refused(f"{self.id!r}: cmd is empty", code="bad-opts", subject="cmd")
        name = find_container(host, self.id, pool=self.pool).name
        return CtExec(container=name, command=self.cmd, run=self.run, network=self.network).act(host)


def _shown(container: Container, observed: Observed) -> dict[str, Any]:
    row = container_row(container, observed)
    engine = observed.daemon["engine"]
    return {
        "pool": row["pool"],
        "id": row["id"],
        "user": row["user"],
        "group": row["group"],
        "dataset": None,
        "rootfs": row["rootfs"],
        "lxc_path": engine["lxc_path"],
        "lxc_dir": f"{engine['lxc_path']}/{container.name}",
        "group_path": f"{engine['cgroup_prefix']}{container.name}",
        "distribution": row["distribution"],
        "version": row["version"],
        "state": row["state"],
        "init_pid": row["init_pid"],
        "autostart": row["autostart"],
        "autostart_priority": row["autostart_priority"],
        "autostart_delay": row["autostart_delay"],
        "hostname": None,
        "dns_resolvers": None,
        "nesting": row["nesting"],
        "seccomp_profile": None,
        "log_file": f"{observed.daemon['state_dir']}/log/ct/{container.name}.log",
    }


def _refuse_unsupported(request: CtSetRequest | CtUnsetRequest) -> None:
    for name in ("hostname", "dns_resolvers", "distribution", "seccomp_profile", "attrs"):
        if getattr(request, name, None) is not None:
            raise Refused(f"{request.id!r}: {name} is not supported", code="unsupported", subject=name)


def _seconds(wait: int | bool) -> int:
    if wait is True:
        return USUAL_SECONDS
    return int(wait)


def _method(text: str) -> StopMethod:
    try:
        return StopMethod(text)
    except ValueError:
        raise Refused(
            f"unknown stop method {text!r} (expected {', '.join(StopMethod)})", code="bad-method", subject=text
        ) from None
