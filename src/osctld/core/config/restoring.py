"""Whether a copy of a whole configuration may replace the current one, and messages about it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

import msgspec

from osctld.core.address.addresses import Network
from osctld.core.authority.claims import Claims
from osctld.core.config.host import Container, Host
from osctld.core.config.surroundings import Surroundings
from osctld.core.errors import Conflict, Refused


def check_restorable(
    here: Host,
    there: Host,
    surroundings: Surroundings,
    *,
    running: Collection[str],
    replaces_host: bool,
    copy: str,
) -> None:
    """Raise Refused, or Conflict, when `there` cannot take the place of `here`. `copy` is what the person calls it.

    Nothing that is only here gets lost by it, and no kernel has to change: what differs is stopped.
    """
    if here.uuid != there.uuid and not replaces_host:
        raise Refused(
            f"{copy!r}: made on another host ({there.uuid}); --replace-host makes this machine that host",
            code="other-host",
            subject=copy,
        )
    for name, present in sorted(here.containers.items()):
        then = there.containers.get(name)
        if then is None:
            raise Refused(f"{name!r}: not in {copy!r}; delete the container first", code="not-in-copy", subject=name)
        if then.uuid != present.uuid:
            raise Refused(
                f"{name!r}: a different container in {copy!r}; delete the present one first",
                code="not-in-copy",
                subject=name,
            )
        if name in running and is_different(present, then):
            raise Refused(
                f"{name!r}: running, and configured differently in {copy!r}; stop the container first",
                code="running",
                subject=name,
            )
    clash = first_clash(there.containers.values())
    if clash is not None:
        raise clash
    for container in there.containers.values():
        present_claims = here.containers[container.name].claims() if container.name in here.containers else ()
        for claim in (each for claims in container.claims() if claims not in present_claims for each in claims):
            try:
                surroundings.check_free_on_host(claim.network, is_forced=True)
            except Conflict as conflict:
                raise Conflict(
                    f"{container.name} of {copy!r}: {conflict.message}",
                    code=conflict.code,
                    subject=conflict.subject,
                    holder=conflict.holder,
                ) from None


def first_clash(containers: Iterable[Container]) -> Conflict | None:
    """Two containers that hold the same; a part of another's network may have been given on."""
    known = Claims()
    for container in sorted(containers, key=lambda each: each.name):
        claims = container.claims()
        for claim in (each for one in claims for each in one):
            for held in known.overlapping(claim.network):
                if held.network == claim.network and held.holder != claim.holder and held.may_meet(claim):
                    return Conflict(
                        f"{claim.network}: {held}, and also held by {claim.holder}",
                        code="address-held",
                        subject=str(claim.network),
                        holder=str(held.holder),
                    )
        known.update(removed=(), added=claims)
    return None


def is_different(one: Container, other: Container) -> bool:
    """Whether they differ in anything other than `is_wanted` and the generation."""
    return msgspec.structs.replace(one, is_wanted=other.is_wanted, generation=other.generation) != other


def given_up(here: Host, there: Host, ended: Mapping[str, Collection[Network]]) -> dict[str, tuple[Network, ...]]:
    """What containers of a copy hold that they have given up since it was made, by container.

    `ended`: which holdings have ended since then, by the UUID of the container. Such a network may have been given to a
    holder that this host does not know: it comes back parked.
    """
    found = {}
    for name, then in there.containers.items():
        present = here.containers.get(name)
        held = _networks_of(present) if present is not None and present.uuid == then.uuid else frozenset()
        lost = (_networks_of(then) & frozenset(ended.get(then.uuid, ()))) - held
        if lost:
            found[name] = tuple(sorted(lost))
    return found


def newer_beside(host: Host, documents: Iterable[Container]) -> dict[str, tuple[Network, ...]]:
    """By container, what containers of an old store hold but newer documents do not give them.

    `documents` were found beside the containers' roots.
    """
    newer = {}
    for each in documents:
        kept = host.containers.get(each.name)
        if kept is None or kept.uuid != each.uuid or each.generation > kept.generation:
            newer[each.uuid] = _networks_of(each)
    found = {}
    for name, container in host.containers.items():
        held = _networks_of(container)
        lost = held - newer.get(container.uuid, held)
        for uuid, networks in newer.items():
            lost |= held & networks if uuid != container.uuid else frozenset()
        lost -= frozenset(container.set_aside)
        if lost:
            found[name] = tuple(sorted(lost))
    return found


def _networks_of(container: Container) -> frozenset[Network]:
    return frozenset(each.network for claims in container.claims() for each in claims)


def restored(here: Host, there: Host, *, running: Collection[str], parked: Mapping[str, Collection[Network]]) -> Host:
    """The new configuration: what is in the copy, but that what runs now is wanted, and these networks are parked.

    Numbers of containers that this host has had are not given again, nor generations that a container has had.
    """
    containers = {}
    for name, then in there.containers.items():
        after = then.with_parked((*then.parked, *parked.get(name, ())))
        present = here.containers.get(name)
        if present is not None and is_different(present, after):
            after = msgspec.structs.replace(after, generation=max(present.generation, then.generation) + 1)
        containers[name] = msgspec.structs.replace(after, is_wanted=then.is_wanted or name in running)
    serial = max(here.serial, there.serial)
    # What is blocked now was blocked for a reason of today's; another host takes its own along.
    blocks = here.blocks if here.uuid == there.uuid else there.blocks
    return msgspec.structs.replace(here, uuid=there.uuid, containers=containers, serial=serial, blocks=blocks)


def to_be_started(there: Host, *, running: Collection[str]) -> list[str]:
    """Those that ran when the copy was made and are stopped here."""
    return sorted(name for name, each in there.containers.items() if each.is_wanted and name not in running)


def told_of_restore(
    here: Host,
    there: Host,
    *,
    running: Collection[str],
    parked: Mapping[str, Collection[Network]],
    has_root: Callable[[str], bool],
    root: Callable[[str], str],
) -> tuple[str, ...]:
    """What a restore changes, and what it cannot bring back."""
    lines = []
    if here.uuid != there.uuid:
        lines.append(f"this host is {there.uuid} now, it was {here.uuid}")
    for name, then in sorted(there.containers.items()):
        present = here.containers.get(name)
        if present is None:
            lines.append(f"{name}: added")
        elif is_different(present, then):
            lines.append(f"{name}: restored")
        if parked.get(name):
            lines.append(
                f"{name}: parked, because given up since then: {', '.join(map(str, parked[name]))};"
                f" osctl ct netif take {name} NETIF all takes them back"
            )
        if not has_root(name):
            lines.append(f"{name}: no root directory, which the copy does not include; put it at {root(name)}")
    stopped = to_be_started(there, running=running)
    if stopped:
        lines.append(f"running then, to be started when osctld next starts: {', '.join(stopped)}")
    return tuple(lines) or ("no differences",)
