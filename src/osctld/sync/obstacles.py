"""Routes of others on the host that ours yield to, and nothing but ours: a container starts, and is edited, without.

Null routes are known beforehand (`core.authority.null_routes`), and so is what is blocked on purpose. That a route of
somebody else's is under a key of ours the kernel tells when it refuses ours, and only then is it looked at who that is:
to know it beforehand would cost a look at all routes of the host. Either way ours comes back when the way is free.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from osctld.core.authority.blocks import Block
from osctld.core.authority.null_routes import NullRoute, Yielded, with_gateways_on_link, without_routes, yielding
from osctld.core.config.host import Container
from osctld.core.config.settings import Settings
from osctld.core.errors import Conflict
from osctld.core.plan.kernel_state import HOST, KernelState, Key, Route


class KernelRoutes(Protocol):
    """The port to the host's routes of others."""

    def null_routes(self, *, own_protocols: Iterable[int]) -> Sequence[NullRoute]: ...
    def routes_under(self, routes: Collection[Route]) -> Mapping[Key, Route | NullRoute]:
        """What is there under the keys of these routes, by key; for those where nothing is, none."""


class Obstacles:
    def __init__(
        self, kernel: KernelRoutes, settings: Settings, *, blocks: Callable[[], Collection[Block]] = tuple
    ) -> None:
        """`blocks` tells what is blocked on purpose now."""
        self._kernel = kernel
        self._blocks_now = blocks
        self._expected: Collection[Block] | None = None
        self._own = (settings.routes.announce_protocol, settings.routes.present_protocol)
        #: Routes that the kernel refused because of somebody else's, by container.
        self._refused: dict[str, dict[Key, Yielded]] = {}
        #: Told before it is looked at who is in the way: from then on it has to be heard when they go.
        self.on_refused: Callable[[], None] = lambda: None
        #: What is reported of each container, as last observed.
        self._told: dict[str, tuple[Yielded, ...]] = {}

    def reduce(self, name: str, desired: KernelState) -> tuple[KernelState, tuple[Yielded, ...]]:
        """What is left of all that is wanted for a container, and what yields of it."""
        left, yielded = yielding(desired, self._null_routes(), self._blocks)
        refused = self._refused.get(name)
        if refused:
            there = [each for key, each in refused.items() if key in left]
            left, yielded = without_routes(left, [each.route for each in there]), (*yielded, *there)
        return with_gateways_on_link(left, yielded) if yielded else left, yielded

    def refuse_asked(self, yielded: Iterable[Yielded], before: KernelState, *, container: Container) -> None:
        """Raise Conflict when a change asks for exactly what yields."""
        for each in yielded:
            if each.route.key not in before:
                raise Conflict(
                    f"{each}; {each.command} makes room for {container.name}",
                    code="foreign-object" if isinstance(each.to, Route) else "null-routed",
                    subject=str(each.route.network),
                    holder=str(each.to),
                )

    def note_refused(self, name: str, routes: Iterable[Route]) -> bool:
        """The kernel has refused these routes because there are others under their keys; whether that says anything
        new, so that it makes sense to plan once more."""
        known = self._refused.setdefault(name, {})
        new = {each.key: each for each in routes if each.namespace == HOST and each.key not in known}
        if new:
            self.on_refused()
        there = self._kernel.routes_under(new.values()) if new else {}
        known.update({key: Yielded(new[key], other) for key, other in there.items()})
        return bool(new)  # where the other has gone meanwhile, the kernel takes ours now

    def try_again(self, name: str) -> None:
        """Let the kernel decide again whether it refuses."""
        self._refused.pop(name, None)

    def may_be_for(self, name: str) -> bool:
        """Whether there can be anything against a container's routes; nearly always there is not."""
        return bool(self._refused.get(name) or self._told.get(name) or self._blocks or self._null_routes())

    @property
    def _blocks(self) -> Collection[Block]:
        return self._expected if self._expected is not None else self._blocks_now()

    @contextlib.contextmanager
    def expecting(self, blocks: Collection[Block]) -> Iterator[None]:
        """Plan as if these networks were blocked, and no others."""
        self._expected = blocks
        try:
            yield
        finally:
            self._expected = None

    def _null_routes(self) -> Sequence[NullRoute]:
        return self._kernel.null_routes(own_protocols=self._own)

    @property
    def refused_of(self) -> frozenset[str]:
        """Containers with routes that the kernel has refused."""
        return frozenset(name for name, found in self._refused.items() if found)

    # --- told -----------------------------------------------------------------------------------------------------

    def told(self, name: str) -> tuple[Yielded, ...]:
        return self._told.get(name, ())

    def tell(self, name: str, yielded: tuple[Yielded, ...]) -> bool:
        """Record what is reported of a container; return whether it has changed."""
        if yielded == self._told.get(name, ()):
            return False
        self._told[name] = yielded
        if not yielded:
            del self._told[name]
        return True

    @property
    def all_told(self) -> tuple[tuple[str, Yielded], ...]:
        """Container and what yields of it, of all."""
        return tuple((name, each) for name, found in sorted(self._told.items()) for each in found)

    def forget(self, name: str) -> None:
        self._refused.pop(name, None)
        self._told.pop(name, None)
