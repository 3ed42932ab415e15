"""The nftables tables of ours: which sources a container may use, what must not leave by the link it came from, and
how often it may ask who the host is.

They know no container. They look at links of our group and at the routing table: what is routed to a link may be
sent from it. Counters are kept per link in sets that the packet path itself fills. The second table holds the part for
ARP, which has a family of its own; both come and go together.
"""

from __future__ import annotations

from osctld.core.kernel_state import HOST, PacketFilter

FAMILY, NAME = "inet", "osctl"
TABLE = f"{FAMILY} {NAME}"
ARP_TABLE = f"arp {NAME}"

#: Grows with every change of the rules, so that a newer daemon replaces an older one's table.
VERSION = 3

#: How many rules TABLE has. One that was flushed keeps its chains and checks nothing.
RULES = 18

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


def removal() -> str:
    """What `nft -f` takes to remove the tables, whether they are there or not."""
    return "".join(f"add table {table}\ndelete table {table}\n" for table in (TABLE, ARP_TABLE))


def script(wanted: PacketFilter) -> str:
    """What `nft -f` takes to make the tables, replacing those that are there, as one transaction.

    Source check: priority -310 is before connection tracking (-200) and its raw rules, so that forged packets cost
    nothing more. `fib saddr . iif oif` looks the source up among the routes through the link it came by; for several
    interfaces of one container, `siblings` holds the pairs of links that may carry each other's sources.
    Neighbour solicitations and multicast listener reports from :: are a guest's duplicate address detection
    (RFC 4862 5.4, RFC 3590) and never leave the link; nor does anything else that comes from a link-local address.

    What would go back by the link it came from is looked for first: a guest that forwards sends back what others sent
    to addresses that it does not have, and that is no forgery. So does, by another interface, one whose default route
    is not the link of that network.

    Asking: who solicits a neighbour, or speaks from a link-local address, makes the host remember a neighbour, and the
    table of these is one for the whole host (1024 entries, gc_thresh3). A guest has permanent entries for the host
    and asks only after losing them, so once a second is plenty. Entries younger than 5 s are never collected
    (neigh_forced_gc in linux/net/core/neighbour.c): it takes some seventy containers at once to fill the table.

    Counting and dropping are rules of their own: a set that is full ends the rule that adds to it, and what stands
    behind it in that rule does not happen.
    """
    links = f"iifgroup {wanted.group}"
    rarely = "limit rate over 1/second burst 5 packets"
    return f"""\
{removal()}\
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
    set asking {{
        type ifname
        size 65535
        flags dynamic, timeout
        timeout 1m
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
        ip6 saddr fe80::/10 jump link_local
        icmpv6 type nd-neighbor-solicit update @asking {{ iifname {rarely} }} drop
        meta pkttype host fib daddr . iif oif exists goto bounce
        fib saddr . iif oif exists accept
        iif . fib saddr oif @siblings accept
        iif . fib daddr oif @siblings goto bounce
        goto forge
    }}
    chain bounce {{
        update @bounced {{ iifname }}
        drop
    }}
    chain forge {{
        update @spoofed {{ iifname }}
        drop
    }}
    chain link_local {{
        icmpv6 type {{ mld-listener-report, mld-listener-reduction, mld2-listener-report }} accept
        icmpv6 type nd-router-solicit drop
        ip6 daddr != {{ fe80::/10, ff00::/8 }} fib daddr type != local goto forge
        update @asking {{ iifname {rarely} }} drop
        accept
    }}
}}
table {ARP_TABLE} {{
    set asking {{
        type ifname
        size 65535
        flags dynamic, timeout
        timeout 1m
    }}
    chain input {{
        type filter hook input priority 0; policy accept;
        meta {links} update @asking {{ iifname {rarely} }} drop
    }}
}}
"""
