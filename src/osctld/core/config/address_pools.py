"""Address pools: the next free address, and how many are free."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from heapq import merge

import msgspec

from osctld.core.address.addresses import BITS, VERSION_OF_PACKED, Address, Network, PackedNetwork
from osctld.core.authority.host_networks import HostNetwork, HostSpace, Use
from osctld.core.authority.rules import Holdings
from osctld.core.config.settings import AddressPoolSettings, Settings
from osctld.core.errors import Refused, Unavailable


class AddressPool(msgspec.Struct, frozen=True):
    """Networks whose addresses are assigned one by one. A released one rests for this number of seconds."""

    name: str
    networks: tuple[Network, ...]
    quiet_seconds: int

    @classmethod
    def of(cls, name: str, settings: AddressPoolSettings) -> AddressPool:
        return cls(name, tuple(map(Network.parse, settings.networks)), settings.quiet_seconds)

    def resting(self, released: Mapping[PackedNetwork, float]) -> list[PackedNetwork]:
        """Addresses of the pool among those that were given back, each with the seconds since then, which rest."""
        return [packed for packed, since in released.items() if since < self.quiet_seconds and self.includes(packed)]

    def includes(self, packed: PackedNetwork) -> bool:
        """Whether it is one address of the pool."""
        network = Network.from_packed(packed)
        return network.length == BITS[network.version] and any(each.includes(network) for each in self.networks)

    @property
    def sizes(self) -> int:
        """How many addresses could be assigned if none were in use."""
        return sum(last - first + 1 for first, last in map(_usable, self.networks))

    @property
    def text(self) -> str:
        return ", ".join(map(str, self.networks)) or "nothing"


def pools_of(settings: Settings) -> list[AddressPool]:
    return [AddressPool.of(name, each) for name, each in settings.addresses.items()]


def find_pool(pools: Iterable[AddressPool], name: str) -> AddressPool:
    """Raise Refused, naming the existing pools, if there is none of that name."""
    names = []
    for each in pools:
        if each.name == name:
            return each
        names.append(each.name)
    there = f"there are: {', '.join(names)}" if names else "the settings define none"
    raise Refused(f"{name!r}: address pool not found; {there}", code="pool-not-found", subject=name)


def next_address(
    pool: AddressPool,
    *,
    holdings: Holdings,
    space: HostSpace,
    resting: Collection[PackedNetwork] = (),
    version: int | None = None,
) -> Address:
    """The first address of a pool that nobody holds, that the host does not use and that does not rest.

    Raises Unavailable, naming the pool, when there is none; of one IP version only if that is given.
    """
    asleep = 0
    for network in pool.networks:
        if version not in (None, network.version):
            continue
        of_pool = [each for each in resting if _is_in(each, network)]
        asleep += len(of_pool)
        found = _first_free(network, holdings, space, of_pool)
        if found is not None:
            return found
    which = f" IPv{version}" if version is not None else ""
    rest = f"; {asleep} released recently, available again within {pool.quiet_seconds} s" if asleep else ""
    raise Unavailable(
        f"{pool.name!r}: no free{which} address in addresses.{pool.name} = {pool.text}{rest}",
        code="pool-exhausted",
        subject=pool.name,
    )


class PoolUse(msgspec.Struct, frozen=True):
    """How many addresses of a pool are held, by anybody, used by the host itself, resting, and free."""

    size: int
    held: int
    host: int
    resting: int

    @property
    def free(self) -> int:
        return self.size - self.held - self.host - self.resting


def use_of(
    pool: AddressPool, *, holdings: Holdings, space: HostSpace, resting: Collection[PackedNetwork] = ()
) -> PoolUse:
    """Count what is used of a pool. An address is counted once, whoever uses it first: holders, the host, rest."""
    held = host = asleep = 0
    for network in pool.networks:
        usable = _usable(network)
        by_holders = _merged(usable, _ranges(claim.network for claim in holdings.overlapping(network)))
        by_host = _merged(usable, _ranges(each.network for each in _in_use(space, network)))
        resting_here = _merged(usable, _ranges(map(Network.from_packed, (r for r in resting if _is_in(r, network)))))
        first = list(by_holders)
        both = list(_merged(usable, merge(first, by_host)))
        all_of_it = list(_merged(usable, merge(both, resting_here)))
        held += _count(first)
        host += _count(both) - _count(first)
        asleep += _count(all_of_it) - _count(both)
    return PoolUse(pool.sizes, held, host, asleep)


def _first_free(
    network: Network, holdings: Holdings, space: HostSpace, resting: Iterable[PackedNetwork]
) -> Address | None:
    number, last = usable = _usable(network)
    obstacles = merge(
        _ranges(claim.network for claim in holdings.overlapping(network)),
        _ranges(each.network for each in _in_use(space, network)),
        _ranges(map(Network.from_packed, resting)),
    )
    for first, end in _merged(usable, obstacles):
        if number < first:
            break
        number = end + 1
    return Address(network.version, number) if number <= last else None


def _in_use(space: HostSpace, pool: Network) -> Iterator[HostNetwork]:
    """What the host uses inside of a pool's network. A network around it is a question for the authority."""
    for each in space.overlapping(pool):
        if each.use is not Use.LEARNED and pool.includes(each.network) and each.network != pool:
            yield each


def _usable(network: Network) -> tuple[int, int]:
    """Numbers of the first and the last address that may be assigned: neither network nor broadcast address, and of
    IPv6 not the routers' own."""
    first, last = network.number, network.last.number
    if network.length < BITS[network.version] - 1:
        first += 1
        last -= network.version == 4
    return first, last


def _ranges(networks: Iterable[Network]) -> list[tuple[int, int]]:
    return sorted((each.number, each.last.number) for each in networks)


def _merged(usable: tuple[int, int], ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Ranges in the order of their first numbers, as far as they are usable, those that touch as one."""
    current: tuple[int, int] | None = None
    for begin, end in ranges:
        first, last = max(begin, usable[0]), min(end, usable[1])
        if first > last:
            continue
        if current is None:
            current = first, last
        elif first <= current[1] + 1:
            current = current[0], max(current[1], last)
        else:
            yield current
            current = first, last
    if current is not None:
        yield current


def _count(ranges: Iterable[tuple[int, int]]) -> int:
    return sum(last - first + 1 for first, last in ranges)


def _is_in(packed: PackedNetwork, network: Network) -> bool:
    return VERSION_OF_PACKED[len(packed)] == network.version and network.includes(Network.from_packed(packed))
