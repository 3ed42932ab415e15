"""Automatic interconnecting networks: the next free one from the pools in the settings."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Iterator
from heapq import merge

from osctld.core.address.addresses import BITS, Network
from osctld.core.address.via import Via
from osctld.core.authority.host_networks import Use
from osctld.core.config.host import Host
from osctld.core.config.surroundings import Surroundings
from osctld.core.errors import Unavailable


def unique_local_network(host_uuid: str) -> Network:
    """A /48 of the host: RFC 4193 requires 40 bits after fd00::/8 that are unlikely to be used elsewhere.

    They derive from the host's UUID, which is random and kept.
    """
    bits = hashlib.sha256(uuid.UUID(host_uuid).bytes).digest()[:5]
    return Network(6, int.from_bytes(b"\xfd" + bits, "big") << (BITS[6] - 48), 48)


def pools(host: Host, version: int) -> tuple[Network, ...]:
    """The networks that interconnecting networks of a version are allocated from."""
    named = tuple(map(Network.parse, host.settings.via.pools(version)))
    return named or (unique_local_network(host.uuid),)


def automatic_via(host: Host, surroundings: Surroundings, version: int, *, is_public: bool | None = None) -> Via:
    """The first network of the pools that nobody holds, that the host does not use and that is not reserved.

    Raises Unavailable, naming the setting, when none is left.
    """
    length = host.settings.via.length(version)
    kept_free = [
        *map(Network.parse, host.settings.via.reserved),
        *(each.network for each in surroundings.networks if each.use is not Use.LEARNED),
    ]
    for pool in pools(host, version):
        aside = sorted(each for each in kept_free if each.overlaps(pool))
        held = (claim.network for claim in surroundings.holdings.overlapping(pool))
        found = _first_gap(pool, length, merge(_from_its_start(held, pool), _from_its_start(aside, pool)))
        if found is not None:
            return Via.make(found, is_public=is_public)
    names = ", ".join(map(str, pools(host, version)))
    raise Unavailable(
        f"no free IPv{version} network of /{length} in via.ipv{version}_pools = {names}",
        code="via-exhausted",
        subject=f"via.ipv{version}_pools",
    )


def _from_its_start(networks: Iterable[Network], pool: Network) -> Iterator[tuple[int, int]]:
    """First and last number of each network, as far as they are in the pool."""
    for each in networks:
        yield max(each.number, pool.number), each.last.number


def _first_gap(pool: Network, length: int, obstacles: Iterable[tuple[int, int]]) -> Network | None:
    """The first network of that length before, between or behind obstacles in the order of their first numbers."""
    size = 1 << (BITS[pool.version] - length)
    number, end = pool.number, pool.number + pool.size
    for first, last in obstacles:
        if number + size <= first:
            break
        if last >= number:
            number = (last // size + 1) * size
    return Network(pool.version, number, length) if number + size <= end else None
