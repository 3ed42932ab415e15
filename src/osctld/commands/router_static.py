"""Print the static routes that a router needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from osctld.announce.static.dialect import dialects
from osctld.core.address.next_hop import NextHop
from osctld.core.command import Column, Example, Flag, Look, LookCommand, Option, PrintStaticRoutes
from osctld.core.config.host import Host
from osctld.core.errors import Refused, UsageError

COLUMNS = (
    Column("version", "4 or 6", type=int),
    Column("network"),
    Column("next_hop"),
    Column("link", "the router's link to the next hop, if it was named", type=str | None),
    Column("change", "with --since: add or remove", type=str | None),
)

USUAL = "ip"


class RouterStatic(LookCommand, frozen=True, kw_only=True):
    """Print the static routes by which a router reaches the containers of this host.

    They lead to all networks that are routed to containers, running or stopped, and to public interconnecting networks,
    aggregated to as few routes as possible. Not printed are networks that are parked or on standby, private
    interconnecting networks, additional allowed sources, and addresses that are unrouted. The routes of an IP version
    without next hop are left out, which a line on standard error says.

    The formats bird, ifupdown, netplan and networkd are files; the others are commands. With --since, commands are only
    what has to be removed and added, and a file is printed as a whole if something has changed. FILE must not have been
    edited: a line that was not printed by this command is refused.
    """

    words: ClassVar[tuple[str, ...]] = ("router", "static")
    examples: ClassVar[tuple[Example, ...]] = (
        Example("osctl router static --next-hop 192.0.2.1 --next-hop 2001:db8:1::1", "Print lines for ip -batch"),
        Example(
            "osctl router static --next-hop 192.0.2.1 --next-hop fe80::1%eth0 --format bird >routes.conf",
            "Write a file for BIRD on the router",
        ),
        Example(
            "osctl router static --next-hop fe80::1%eth0 --ipv4-via-ipv6",
            "Route IPv4 through an IPv6 next hop, too",
        ),
        Example(
            "osctl -q router static --next-hop 192.0.2.1 >routes && "
            "osctl -q router static --next-hop 192.0.2.1 --since routes",
            "Print only what has changed since the routes were last printed",
        ),
    )
    columns: ClassVar[tuple[Column, ...]] = COLUMNS

    next_hop: Annotated[
        tuple[str, ...],
        Option(
            ("--next-hop",),
            "ADDR[%LINK]",
            "Address of this host to which the router sends the packets; one for each IP version. LINK is the router's "
            "link to it: required for link-local addresses and by ifupdown and netplan",
        ),
    ]
    format: Annotated[
        str,
        Option(("--format",), "FORMAT", f"For the router: {', '.join(dialects())} (default: {USUAL})",
               choices=tuple(dialects())),
    ] = USUAL  # fmt: skip
    ipv4_via_ipv6: Annotated[
        bool,
        Flag(
            ("--ipv4-via-ipv6",),
            "Route IPv4 networks through the IPv6 next hop, too; only "
            + ", ".join(name for name, each in dialects().items() if each.takes_ipv4_via_ipv6),
        ),
    ] = False
    since: Annotated[
        str | None,
        Option(("--since",), "FILE", "Print what has changed since this output of the same format", is_file=True),
    ] = None

    def act(self, host: Host) -> Look:
        dialect = dialects()[self.format]
        return PrintStaticRoutes(self.format, dialect.prepared(self._next_hops()), self.since)

    def _next_hops(self) -> Mapping[int, NextHop]:
        """The next hop of each IP version. Raises Refused and UsageError."""
        found: dict[int, NextHop] = {}
        for text in self.next_hop:
            hop = NextHop.parse(text)
            if hop.version in found:
                raise Refused(
                    f"{text}: a second IPv{hop.version} next hop, beside {found[hop.version]}",
                    code="bad-next-hop",
                    subject=text,
                )
            found[hop.version] = hop
        if not found:
            raise UsageError("missing option --next-hop ADDR[%LINK]")
        if self.ipv4_via_ipv6:
            if 6 not in found:
                raise UsageError("--ipv4-via-ipv6 requires an IPv6 --next-hop")
            if 4 in found:
                raise UsageError(f"--ipv4-via-ipv6 cannot be combined with the IPv4 --next-hop {found[4]}")
            found[4] = found[6]
        return found
