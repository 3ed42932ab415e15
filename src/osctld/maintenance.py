"""What osctld does to its store while no daemon serves: look it over, rebuild it, go back to an earlier schema.

Containers are not touched: they run on without a daemon.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from osctld import config
from osctld.core.config import restoring
from osctld.core.config.host import Container
from osctld.core.errors import OsctlError, Refused, Unavailable
from osctld.shell.store import durable, files, mirrors
from osctld.shell.store.copies import without_log
from osctld.shell.store.database import Store
from osctld.shell.store.files import Readable
from osctld.shell.store.rows import HistoryLine, Replacement
from osctld.shell.store.schema import copy_of_schema

FILE = "osctl.sqlite"

#: Less free space than this, in bytes, is worth a word: a change of 100,000 routes writes 30 MB.
LITTLE_SPACE = 64 << 20


class Finding(msgspec.Struct, frozen=True):
    """Something that is wrong, and what to do. Unless it is an error, osctld can start."""

    what: str
    remedy: str
    is_error: bool = True

    def __str__(self) -> str:
        return f"{'error' if self.is_error else 'warning'}: {self.what}; {self.remedy}"


class Maintenance:
    """On the state directory of one daemon. `option` is what names it on a command line, with a blank before it."""

    def __init__(self, state_dir: Path, *, option: str = "") -> None:
        self._state = state_dir
        self._file = state_dir / FILE
        self._option = option

    def command(self, words: str) -> str:
        return f"osctld{self._option} {words}"

    # --- look ------------------------------------------------------------------------------------------------------

    def check(self, tell: Callable[[str], None]) -> bool:
        """Tell what is wrong with what is kept, and what to do; whether a daemon can do with it. Changes nothing."""
        findings = [*self._disk(), *self._store()]
        for each in findings:
            tell(str(each))
        is_sound = not any(each.is_error for each in findings)
        if is_sound:
            found = files.read(self._file)
            tell(
                f"{self._file}: no store yet; the first start of osctld creates it" if found is None
                else f"{self._file}: sound, schema {found.schema}, containers: {len(found.documents)}"
            )  # fmt: skip
        return is_sound

    def refusal_to_start(self) -> str | None:
        """Why a daemon would do harm with what there is; None: it would not."""
        if self._file.exists():
            return None
        known = list(mirrors.mirrored(self._state))
        if not known:
            return None
        return (
            f"{self._file}: missing, and {len(known)} containers have documents beside their root directories; "
            f"{self.command('--recover')} rebuilds it from them"
        )

    def way_back(self, error: Unavailable) -> Unavailable:
        """The same refusal of a store, with the command that helps."""
        match error.code:
            case "store-schema" if (copy := copy_of_schema(self._file, config.SCHEMA)).exists():
                command = self.command(f"--restore-schema {config.SCHEMA}")
                return error.suggesting(f"{command} goes back to {copy}, as it was before the upgrade")
            case "store-schema":
                return error.suggesting("there is no copy from before the upgrade, install the newer osctld again")
            case _:
                return error.suggesting(f"{self.command('--check')} shows more")

    def _disk(self) -> Iterator[Finding]:
        try:
            about = os.statvfs(self._state)
        except OSError as error:
            yield Finding(f"{self._state}: {error.strerror}", "the first start of osctld creates it", is_error=False)
            return
        if (refusal := durable.write_nothing_lasting(self._state)) is not None:
            yield Finding(
                f"{self._state}: cannot be written: {refusal.strerror}",
                "look for disk errors in the kernel log (dmesg), and remount it read-write",
            )
        free = about.f_bavail * about.f_frsize
        if free < LITTLE_SPACE:
            yield Finding(
                f"{self._state}: {free >> 20} MB free", f"find what fills it: du -xh -d 2 {self._state}",
                is_error=free < LITTLE_SPACE // 16,
            )  # fmt: skip

    def _store(self) -> Iterator[Finding]:
        if (refusal := self.refusal_to_start()) is not None:
            what, _, remedy = refusal.partition("; ")
            yield Finding(what, remedy)
            return
        found = files.read(self._file)
        if found is None:
            return
        recover = self.command("--recover") + " rebuilds it"
        if found.problems:
            yield Finding(f"{self._file}: damaged: {found.problems[0]}", recover)
            return
        if found.schema > config.SCHEMA:
            error = self.way_back(Unavailable(f"{self._file}: has schema {found.schema}", code="store-schema"))
            what, _, remedy = error.message.partition("; ")
            yield Finding(f"{what}, this osctld supports {config.SCHEMA}", remedy)
            return
        if found.schema < config.SCHEMA:
            yield Finding(
                f"{self._file}: has schema {found.schema}",
                f"the next start copies it and upgrades it to {config.SCHEMA}",
                is_error=False,
            )
        try:
            containers = _containers(found.documents, found.schema)
        except ValueError as error:
            yield Finding(f"{self._file}: damaged: {error}", recover)
            return
        if (held := _holdings_differ(found, containers)) is not None:
            yield Finding(f"{self._file}: damaged: {held}", recover)
        yield from self._roots(found, containers)

    def _roots(self, found: Readable, containers: Mapping[str, Container]) -> Iterator[Finding]:
        for name in sorted(containers):
            place = self._state / "ct" / name
            if not (place / "rootfs").is_dir():
                yield Finding(
                    f"{name}: no root directory {place}/rootfs", f"put it back, or delete the container: osctl ct del "
                                                                 f"{name}",
                    is_error=False,
                )  # fmt: skip
                continue
            try:
                mirror = mirrors.read_mirror(self._state, name)
            except (OSError, ValueError) as error:
                mirror, why = None, f": {error}"
            else:
                why = ""
            if mirror is None or (mirror.schema == found.schema and mirror.document != found.documents[name]):
                yield Finding(
                    f"{place}/{mirrors.CONTAINER_FILE}: differs from the stored document of {name}{why}",
                    "a running osctld rewrites it within a second, a stopped one when it starts", is_error=False,
                )  # fmt: skip
        for each in sorted((self._state / "ct").iterdir()) if (self._state / "ct").is_dir() else ():
            if each.name not in containers:
                remedy = (
                    f"{self.command('--recover --force')} adds the container, mv removes the directory"
                    if (each / mirrors.CONTAINER_FILE).is_file()
                    else "it is unused, move it away"
                )
                yield Finding(f"{each}: belongs to no container", remedy, is_error=False)

    # --- rebuild ---------------------------------------------------------------------------------------------------

    def recover(self, tell: Callable[[str], None], *, is_forced: bool) -> None:
        """Rebuild the store from the documents beside the containers' roots, and from what can be read of the old one.

        The old one is kept aside. Raises Refused when it is sound, unless forced, or when there is nothing to make it
        of; ApplyFailed when the disk says no.
        """
        found = files.read(self._file)
        if found is not None and not is_forced:
            self._demand_damage(found)
        if found is not None and found.schema > config.SCHEMA and not found.problems:
            reason = f"{self._file}: has schema {found.schema}, this osctld supports {config.SCHEMA}"
            raise Refused(reason, code="store-schema")
        old = found or Readable(())
        facts = mirrors.read_host_facts(self._state)
        containers: dict[str, Container] = {}
        hosts = [facts.host] if facts is not None else []
        for name in sorted(each.name for each in self._directories()):
            container, lines, host = self._container(name, old)
            hosts += [host] if host else []
            for line in lines:
                tell(line)
            if container is not None:
                containers[name] = container
        for name in sorted(old.documents.keys() - containers.keys()):
            tell(f"{name}: not rebuilt, there is no directory {self._state}/ct/{name}")
        if not containers and not old.host_uuid and facts is None:
            raise Refused(f"{self._state}: nothing to rebuild a store from", code="nothing-found")
        if old.host_uuid and _is_uuid(old.host_uuid):
            hosts.insert(0, old.host_uuid)
        if not hosts:
            hosts = [str(uuid.uuid4())]
            tell(f"host: identity unknown, it is {hosts[0]} now")
        clash = restoring.first_clash(containers.values())
        if clash is not None:
            tell(f"warning: {clash.message}; remove it from one of them")
        new = Replacement(
            host_uuid=hosts[0],
            host_serial=max(old.host_serial, facts.serial if facts else 0, len(containers)),
            documents={name: config.encode_container(each) for name, each in containers.items()},
            holdings=[row for each in containers.values() for row in config.holding_rows(each.claims())],
            # There may have been an unrecorded run: sequence numbers of events must not repeat.
            least_run=max(old.run, facts.run if facts else 0) + 1,
            boot=old.boot,
            history=[each for each in old.history if _is_line(each)],
            line=HistoryLine(time.time(), "osctld --recover"),
            pending={name: each for name, each in old.pending.items() if name in containers},
            uplinks=old.uplinks,
            blocks=old.blocks,
            log=old.log,
        )
        kept = files.put_in_place(self._file, self._made_of(new), aside=_now("damaged"))
        self._forget_begun()
        tell(f"history: {len(new.history or ())} lines")
        if kept is not None:
            tell(f"the previous store: {kept}")
        tell(f"{self._file}: rebuilt, containers: {len(containers)}")

    def _demand_damage(self, found: Readable) -> None:
        """Raises Refused for a store with which nothing is wrong."""
        if found.problems:
            return
        with contextlib.suppress(ValueError):
            containers = _containers(found.documents, found.schema) if found.schema <= config.SCHEMA else {}
            if found.schema > config.SCHEMA or _holdings_differ(found, containers) is None:
                raise Refused(f"{self._file}: sound; --force rebuilds it nevertheless", code="store-sound")

    def _directories(self) -> list[Path]:
        place = self._state / "ct"
        return [each for each in place.iterdir() if each.is_dir()] if place.is_dir() else []

    def _container(self, name: str, old: Readable) -> tuple[Container | None, list[str], str]:
        """The newest valid document of a container, messages about it, and whose host it was."""
        lines = []
        candidates: list[tuple[Container, str]] = []
        host = ""
        place = self._state / "ct" / name
        try:
            mirror = mirrors.read_mirror(self._state, name)
            if mirror is not None:
                container = _container(mirror.document, mirror.schema, name)
                candidates.append((container, str(place / mirrors.CONTAINER_FILE)))
                host = mirror.host
        except (OSError, ValueError) as error:
            lines.append(f"{name}: {place}/{mirrors.CONTAINER_FILE} cannot be used: {error}")
        if name in old.documents:
            try:
                stored = (_container(old.documents[name], old.schema, name), "the previous store")
                # A mirror comes within a second after the save; a store that lost its log may be days older.
                is_newer = not candidates or _is_later(old.history, place / mirrors.CONTAINER_FILE)
                candidates.insert(0 if is_newer else len(candidates), stored)
            except ValueError as error:
                lines.append(f"{name}: its document in the previous store cannot be used: {error}")
        if not candidates:
            return None, [*lines, f"{name}: not rebuilt, {place} has no document"], host
        container, source = candidates[0]
        lines.append(f"{name}: from {source}, interfaces: {len(container.interfaces)}")
        if not (place / "rootfs").is_dir():
            lines.append(f"{name}: no root directory {place}/rootfs")
        return container, lines, host

    def _made_of(self, new: Replacement) -> bytes:
        """A whole new store with this in it, as the content of a file."""
        with tempfile.TemporaryDirectory(dir=self._state, prefix=".store-") as place:
            file = Path(place) / FILE
            store = Store(file, schema=config.SCHEMA, new_host_uuid=new.host_uuid)
            try:
                store.replace(new)
            finally:
                store.close()
            files.settle_log(file)
            return file.read_bytes()

    def _forget_begun(self) -> None:
        """A root that was placed counts as a container's, whether the rebuilt store knows it or not."""
        for note in (self._state / "building").glob("*/placed"):
            note.unlink(missing_ok=True)

    # --- back to an earlier schema ---------------------------------------------------------------------------------

    def restore_schema(self, schema: int, tell: Callable[[str], None]) -> None:
        """Go back to the copy that was made before the store had a newer schema; the newer one is kept aside.

        Raises Refused if there is no copy, ApplyFailed if the disk refuses.
        """
        content = files.read_copy_of_schema(self._file, schema)
        then = files.read(copy_of_schema(self._file, schema))
        now = files.read(self._file)
        assert then is not None
        if now is not None and not now.problems and now.schema <= schema:
            raise Refused(
                f"{self._file}: already has schema {now.schema}, nothing is newer than the copy", code="nothing-newer"
            )
        if now is not None and not now.problems:
            files.settle_log(self._file)
            if schema >= 2:
                content = _with_pending(content, {
                    name: document for name, document in now.documents.items()
                    if name in then.documents and document != then.documents[name]
                })  # fmt: skip
        kept = files.put_in_place(self._file, content, aside=_now(f"left-schema{now.schema}" if now else "left"))
        self._forget_begun()
        if now is not None:
            for name in sorted(now.documents.keys() - then.documents.keys()):
                tell(f"{name}: not in the copy; its root directory stays at {self._state}/ct/{name}")
            for name in sorted(then.documents.keys() - now.documents.keys()):
                tell(f"{name}: deleted since then; it has no root directory")
        if then.history:
            made = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(then.history[-1].time))
            tell(f"the last change in the copy: {made}, {then.history[-1].command}")
        if kept is not None:
            tell(f"the previous store: {kept}")
        tell(f"{self._file}: schema {schema}, containers: {len(then.documents)}")


def _with_pending(content: bytes, pending: Mapping[str, bytes]) -> bytes:
    """The same store, with notes that these documents were begun: what they left in guests is then cleared away."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    with contextlib.closing(connection):
        connection.deserialize(without_log(content))
        connection.executemany("INSERT OR REPLACE INTO pending VALUES (?, ?)", pending.items())
        return connection.serialize()


def _container(document: bytes, schema: int, name: str) -> Container:
    """Raises ValueError for what is none of that name."""
    if schema > config.SCHEMA:
        raise ValueError(f"it has schema {schema}, this osctld supports {config.SCHEMA}")
    try:
        container = config.decode_container(config.upgraded(document, schema) if schema < config.SCHEMA else document)
    except (msgspec.MsgspecError, OsctlError, UnicodeDecodeError, TypeError) as error:
        raise ValueError(str(error)) from error
    if container.name != name:
        raise ValueError(f"it belongs to {container.name}")
    return container


def _containers(documents: Mapping[str, bytes], schema: int) -> dict[str, Container]:
    containers = {}
    for name, document in documents.items():
        try:
            containers[name] = _container(document, schema, name)
        except ValueError as error:
            raise ValueError(f"the document of {name}: {error}") from error
    return containers


def _holdings_differ(found: Readable, containers: Mapping[str, Container]) -> str | None:
    """What the rows of holdings say otherwise than the documents; None: nothing."""
    wanted = {
        (
            *(rows.version, rows.networks[at : at + size], rows.length, rows.kind),
            *(rows.holder.container, rows.holder.interface),
        )
        for container in containers.values()
        for rows in config.holding_rows(container.claims())
        for size in ({4: 4, 6: 16}[rows.version],)
        for at in range(0, len(rows.networks), size)
    }
    there = {row[:6] for row in found.holdings}
    for what, rows in (("lacks", wanted - there), ("has surplus", there - wanted)):
        if rows:
            return f"the table of holdings {what} rows, one of {min(rows, key=str)[4]}"
    return None


def _is_later(history: Sequence[HistoryLine], mirror: Path) -> bool:
    """Whether something was saved after a mirror was written."""
    return bool(history) and _is_line(history[-1]) and history[-1].time > mirror.stat().st_mtime


def _is_line(line: HistoryLine) -> bool:
    return isinstance(line.time, (int, float)) and isinstance(line.command, str)


def _is_uuid(text: str) -> bool:
    with contextlib.suppress(ValueError):
        return str(uuid.UUID(text)) == text
    return False


def _now(what: str) -> str:
    return f"{what}-{time.strftime('%Y%m%dT%H%M%S')}"
