"""Containers."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import msgspec

from osctld.commands.ct_del import CtDel
from osctld.commands.ct_exec import CtExec
from osctld.commands.ct_ls import container_row
from osctld.commands.ct_new import CtNew
from osctld.commands.ct_restart import CtRestart
from osctld.commands.ct_start import CtStart
from osctld.commands.ct_stop import CtStop
from osctld.core.command import Action, Listing, Observed, Reply
from osctld.core.errors import Refused
from osctld.core.host import Container, Host
from osctld.core.life import StopMethod
from osctld.protocol.request import ActRequest, ViewRequest, check_pool, find_container

#: Seconds, where a request does not say how long to wait for a start or a poweroff.
USUAL_SECONDS = 60

#: The one group that there is, with and without the slash that people leave away.
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


class TemplateOfRepository(msgspec.Struct, frozen=True):
    distribution: str | None = None
    version: str | None = None


class Template(msgspec.Struct, frozen=True):
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
        chosen = [find_container(host, each) for each in self.ids] if self.ids else host.sorted_containers
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
        if self.no_template:
            raise Refused(
                f"{self.id!r}: no_template is not supported, provide template archive or stream",
                code="unsupported",
                subject=self.id,
            )
        named = self.template.template if self.template is not None else TemplateOfRepository()
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
                    raise Refused(f"{self.id!r}: a template archive without path", code="no-root", subject=self.id)
                return path
        return None


class CtDelete(ActRequest, frozen=True, kw_only=True):
    words: ClassVar[tuple[str, ...]] = ("ct", "delete")

    id: str
    force: bool = False

    def act(self, host: Host) -> Action:
        return CtDel(container=find_container(host, self.id, pool=self.pool).name, force=self.force).act(host)


class CtStartRequest(ActRequest, frozen=True, kw_only=True):
    """`wait` in seconds; false does not wait."""

    words: ClassVar[tuple[str, ...]] = ("ct", "start")

    id: str
    wait: int | bool = USUAL_SECONDS

    def act(self, host: Host) -> Action:
        name = find_container(host, self.id, pool=self.pool).name
        return CtStart(container=name, wait=_seconds(self.wait)).act(host)


class CtStopRequest(ActRequest, frozen=True, kw_only=True):
    words: ClassVar[tuple[str, ...]] = ("ct", "stop")

    id: str
    timeout: int = USUAL_SECONDS
    method: str = StopMethod.SHUTDOWN_OR_KILL.value

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


class CtExecRequest(ActRequest, frozen=True, kw_only=True):
    """Its standard input, output and error come as descriptors when the answer is `continue`."""

    words: ClassVar[tuple[str, ...]] = ("ct", "exec")
    answers: ClassVar[Any] = ExitStatusAnswer

    id: str
    cmd: tuple[str, ...]

    def act(self, host: Host) -> Action:
        if not self.cmd:
            raise Refused(f"{self.id!r}: cmd is empty, there is nothing to run", code="bad-opts", subject="cmd")
        return CtExec(container=find_container(host, self.id, pool=self.pool).name, command=self.cmd).act(host)


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
        "autostart": container.is_wanted,
        "autostart_priority": None,
        "autostart_delay": None,
        "hostname": None,
        "dns_resolvers": None,
        "nesting": False,
        "seccomp_profile": None,
        "log_file": f"{observed.daemon['state_dir']}/log/ct/{container.name}.log",
    }


def _seconds(wait: int | bool) -> int:
    if wait is True:
        return USUAL_SECONDS
    return int(wait)


def _method(text: str) -> StopMethod:
    try:
        return StopMethod(text)
    except ValueError:
        raise Refused(
            f"unknown stop method {text!r}, there are {', '.join(StopMethod)}", code="bad-method", subject=text
        ) from None
