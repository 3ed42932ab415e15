"""What is ours: the one place that says by which marks a restarted daemon knows its own objects.

On the host: links by their recorded name, and by prefix and group those that nobody records any more; everything
on such a link, except routes of other protocols, which somebody else put there. In a guest: what the saved
configuration names, and nothing else; all other things there are the tenant's.
"""

from __future__ import annotations

from collections.abc import Iterable

from osctld.core.kernel_state import HOST, KernelObject, KernelState, Link, Route, Sysctl, Veth
from osctld.core.settings import Settings

#: Every host link of ours starts with this, and no container or person should name one so.
LINK_PREFIX = "os"


def is_abandoned_link(each: KernelObject, *, settings: Settings, recorded: Iterable[str]) -> bool:
    """Whether a host link is one that we made and that no interface records any more."""
    return (
        isinstance(each, Veth)
        and each.name.startswith(LINK_PREFIX)
        and each.group == settings.host.link_group
        and each.name not in recorded
    )


def split(observed: KernelState, *, saved: KernelState, settings: Settings) -> tuple[KernelState, KernelState]:
    """Part what was observed into ours and the rest. `saved` is what the saved configuration asks for."""
    ours: list[KernelObject] = []
    foreign: list[KernelObject] = []
    for key, each in observed.items():
        mine = _is_ours_on_host(each, saved, settings) if each.namespace == HOST else key in saved
        (ours if mine else foreign).append(each)
    return KernelState(ours), KernelState(foreign)


def _is_ours_on_host(each: KernelObject, saved: KernelState, settings: Settings) -> bool:
    match each:
        case Route():
            return each.protocol in (settings.routes.announce_protocol, settings.routes.present_protocol)
        case Veth():
            return each.key in saved or each.group == settings.host.link_group
        case Link():
            # Under a name of ours but not made by us: in the way, not ours to change.
            return False
        case Sysctl():
            return bool(each.link)
        case _:
            return True
