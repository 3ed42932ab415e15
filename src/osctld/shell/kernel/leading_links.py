"""Which links of this namespace lead out, as its routes say: by a default route, or by what a routing daemon learned.

A routing daemon may have learned a million routes. The kernel is asked link by link, so that it passes over the routes
of all others, and its dump of a link is read up to the first route that leads out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

from osctld.core.address.addresses import Address
from osctld.core.plan.kernel_state import MAIN_TABLE
from osctld.shell.kernel.host_uses import PROTOCOLS_OF_HOSTS, matches, ways
from osctld.shell.kernel.netlink import U32, NetlinkSocket, any_in_dumps, attribute, attributes
from osctld.shell.kernel.rtnetlink import (
    FAMILY,
    RTA_OIF,
    RTM_F_CLONED,
    RTM_GETROUTE,
    RTMSG,
    RTN_UNICAST,
    RTPROT_RA,
)

#: Protocols of routes that no routing daemon brought; the first two are RTPROT_UNSPEC and RTPROT_REDIRECT.
NOT_LEARNED = frozenset({0, 1, *PROTOCOLS_OF_HOSTS})

_FAMILIES = frozenset(FAMILY.values())
_ANY_FAMILY, _ANY_TABLE, _LOCAL_TABLE = 0, 0, 255


def leading_links(links: Sequence[int], *, own_protocols: Collection[int]) -> frozenset[int]:
    """Of these links those that carry a default route, in whatever table, or a route that a routing daemon learned.

    What has one of `own_protocols` was not learned. Asked in the namespace of the caller. Raises OSError.
    """
    not_learned = NOT_LEARNED.union(own_protocols)

    def leads_out(data: bytes) -> bool:
        family, length, _, _, table, protocol, _, kind, flags = RTMSG.unpack_from(data)
        if kind != RTN_UNICAST or family not in _FAMILIES or table == _LOCAL_TABLE or flags & RTM_F_CLONED:
            return False
        return not length or protocol not in not_learned

    asked = RTMSG.pack(_ANY_FAMILY, 0, 0, 0, _ANY_TABLE, 0, 0, RTN_UNICAST, 0)
    found = any_in_dumps(RTM_GETROUTE, (asked + attribute(RTA_OIF, U32.pack(each)) for each in links), leads_out)
    return frozenset(link for link, leads in zip(links, found, strict=True) if leads)


def links_with_advertised_default(through: NetlinkSocket) -> frozenset[int]:
    """The links by which the main table has a default route that a router advertised. Raises OSError."""
    asked = RTMSG.pack(FAMILY[6], 0, 0, 0, MAIN_TABLE, RTPROT_RA, 0, RTN_UNICAST, 0)
    return frozenset(_links_of_defaults(through.dump(RTM_GETROUTE, asked)))


def has_ipv6_default(through: NetlinkSocket, links: Collection[int]) -> bool:
    """Whether what the host sends to nobody in particular leaves by one of these links. Raises OSError."""
    # The kernel keeps IPv6 routes in no order. This address, reserved by RFC 4291 and given to nobody, is where nothing
    # but the default route leads.
    return any(link in links for link in _links_of_defaults(matches(through, Address(6, 2))))


def _links_of_defaults(found: Iterable[bytes]) -> Iterator[int]:
    for data in found:
        _, length, _, _, _, _, _, kind, flags = RTMSG.unpack_from(data)
        if not length and kind == RTN_UNICAST and not flags & RTM_F_CLONED:
            yield from (link for link, _ in ways(attributes(data, RTMSG.size)))
