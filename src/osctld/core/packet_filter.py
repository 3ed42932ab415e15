"""The nftables table of ours: which sources a container may use, and what must not leave by the link it came from.

The table knows no container. It looks at links of our group and at the routing table: what is routed to a link may be
sent from it. Counters are kept per link in sets that the packet path itself fills.
"""

from __future__ import annotations

from osctld.core.kernel_state import HOST, PacketFilter

FAMILY, NAME = "inet", "osctl"
TABLE = f"{FAMILY} {NAME}"

#: Grows with every change of the rules, so that a newer daemon replaces an older one's table.
VERSION = 1

#: An empty chain whose name says which rules the table holds; table comments need a newer kernel than we do.
_MARK = "rules_"


def packet_filter(group: int) -> PacketFilter:
    """The table for links of this group."""
    return PacketFilter(HOST, TABLE, version=VERSION, group=group)


def mark(wanted: PacketFilter) -> str:
    """The name of the chain that marks the table."""
    return f"{_MARK}{wanted.version}_{wanted.group}"


def read_mark(chain: str) -> PacketFilter | None:
    """The table that a chain's name marks; None when it is not such a name."""
    version, _, group = chain.removeprefix(_MARK).partition("_")
    if not chain.startswith(_MARK) or not version.isdigit() or not group.isdigit():
        return None
    return PacketFilter(HOST, TABLE, version=int(version), group=int(group))


def script(wanted: PacketFilter) -> str:
    """What `nft -f` takes to make the table, replacing one that is there, as one transaction.

    Source check: priority -310 is before connection tracking (-200) and its raw rules, so that forged packets cost
    nothing more. `fib saddr . iif oif` looks the source up among the routes through the link it came by; for several
    interfaces of one container, `siblings` holds the pairs of links that may carry each other's sources.
    Neighbour solicitations and multicast listener reports from :: are a guest's duplicate address detection
    (RFC 4862 5.4, RFC 3590) and never leave the link.
    """
    links = f"iifgroup {wanted.group}"
    return f"""\
add table {TABLE}
delete table {TABLE}
table {TABLE} {{
    set siblings {{
        type iface_index . iface_index
    }}
    set spoofed {{
        type ifname
        size 65535
        flags dynamic
        counter
    }}
    set bounced {{
        type ifname
        size 65535
        flags dynamic
        counter
    }}
    chain {mark(wanted)} {{
    }}
    chain source_check {{
        type filter hook prerouting priority -310; policy accept;
        meta {links} jump from_container
    }}
    chain from_container {{
        ip6 saddr :: ip6 daddr ff02::/16 icmpv6 type {{
            nd-neighbor-solicit, mld-listener-report, mld2-listener-report
        }} accept
        fib saddr . iif oif exists accept
        iif . fib saddr oif @siblings accept
        update @spoofed {{ iifname }} drop
    }}
    chain forwarded {{
        type filter hook forward priority -10; policy accept;
        meta {links} jump leaving_container
    }}
    chain leaving_container {{
        ip6 saddr fe80::/10 update @spoofed {{ iifname }} drop
        fib daddr . iif oif exists update @bounced {{ iifname }} drop
    }}
}}
"""
