"""One look at all of our links on the host, for those who then look at one container after the other."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from osctld.core.plan.kernel_state import HOST, FilterElement, KernelObject, Routes
from osctld.shell.kernel import rtnetlink_dumps
from osctld.shell.kernel.netlink import NetlinkSocket
from osctld.shell.kernel.rtnetlink_dumps import LinkFacts


class HostSide:
    """What was there: links by name, what is on each, and elements of the packet filter.

    To ask the kernel for one link's routes costs a walk over those of all links, so a thousand links a thousand walks.
    """

    def __init__(self, through: NetlinkSocket, names: Collection[str], elements: Iterable[FilterElement]) -> None:
        wanted = frozenset(names)
        self._links = {link.name: link for link in rtnetlink_dumps.dump_links(through) if link.name in wanted}
        self._objects: dict[str, list[KernelObject | Routes]] = {name: [] for name in self._links}
        for each in rtnetlink_dumps.objects_on(through, self._links.values(), HOST):
            self._objects[each.way.link if isinstance(each, Routes) else each.link].append(each)
        self._elements = frozenset(elements)

    def links(self, names: Iterable[str]) -> list[LinkFacts]:
        return [self._links[name] for name in names if name in self._links]

    def objects_on(self, links: Iterable[LinkFacts]) -> Iterator[KernelObject | Routes]:
        for link in links:
            yield from self._objects[link.name]

    def present(self, elements: Iterable[FilterElement]) -> Iterator[FilterElement]:
        return (each for each in elements if each in self._elements)
