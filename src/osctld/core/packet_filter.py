"""The nftables tables of ours: which sources a container may use, what must not leave by the link it came from, how
often it may ask who the host is, which networks stay on this host, and what may be sent from though it is not routed.

They know no container. They look at links of our group and at the routing table: what is routed to a link may be
sent from it. What the routing table does not tell is in sets. Counters are kept per link in sets that the
packet path itself fills. The second table holds the part for ARP, which has a family of its own; both come and go
together.
"""

from __future__ import annotations

from osctld.core.addresses import Network
from osctld.core.errors import Refused
from osctld.core.kernel_state import HOST, FilterElement, PacketFilter, PermittedSource, PrivateNetwork, SiblingLinks

FAMILY, NAME = "inet", "osctl"
TABLE = f"{FAMILY} {NAME}"
ARP_TABLE = f"arp {NAME}"

#: Grows with every change of the rules, so that a newer daemon replaces an older one's table.
VERSION = 6

#: How many rules TABLE has. One that was flushed keeps its chains and checks nothing.
RULES = 33

#: The sets that plans fill.
OWN, SIBLINGS = "own", "siblings"
PRIVATE = {4: "private4", 6: "private6"}
SOURCES = {4: "sources4", 6: "sources6"}

#: The sets in which the packet path counts, by link, what it dropped, rejected, or let pass by permission alone.
COUNTERS = ("spoofed", "bounced", "rejected", "permitted")

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


def set_of(each: FilterElement) -> str:
    """The set that an element belongs to."""
    if isinstance(each, SiblingLinks):
        return OWN if each.link == each.sibling else SIBLINGS
    return (SOURCES if isinstance(each, PermittedSource) else PRIVATE)[each.network.version]


def element(each: FilterElement) -> tuple[str, str, str]:
    """An element of a set as nft takes it: table and set, the element to be added, and its key alone."""
    if isinstance(each, SiblingLinks):
        # A link that is gone has but its number.
        words = (name if name.isdigit() else f'"{name}"' for name in (each.link, each.sibling))
        key = " . ".join(words)
        return f"{TABLE} {set_of(each)}", key, key
    if isinstance(each, PermittedSource):
        key = f'"{each.link}" . {each.network}'
        return f"{TABLE} {set_of(each)}", key, key
    key = str(each.network)
    return f"{TABLE} {set_of(each)}", f'{key} comment "{private_comment(each)}"', key


def private_comment(each: PrivateNetwork) -> str:
    """Network and link in the comment of an element: a program that asks for one end of a range is told that."""
    return f"{each.network} dev {each.link}"


def read_private_comment(comment: str) -> PrivateNetwork | None:
    """The network that a comment tells; None when it is no such comment."""
    network, word, link = comment.partition(" dev ")
    try:
        return PrivateNetwork(HOST, link, Network.parse(network)) if word else None
    except Refused:
        return None


def removal() -> str:
    """What `nft -f` takes to remove the tables, whether they are there or not."""
    return "".join(f"add table {table}\ndelete table {table}\n" for table in (TABLE, ARP_TABLE))


def script(wanted: PacketFilter) -> str:
    """What `nft -f` takes to make the tables, replacing those that are there, as one transaction.

    Source check: priority -310 is before connection tracking (-200) and its raw rules, so that forged packets cost
    nothing more. `fib saddr oif` is the link that the host would answer by: where the best route leads, so that a
    part of a network that was given to another container is not the first one's any more. `own` holds each link with
    itself; for several interfaces of one container, `siblings` holds the pairs of links that may carry each other's
    sources.
    Neighbour solicitations and multicast listener reports from :: are a guest's duplicate address detection
    (RFC 4862 5.4, RFC 3590) and never leave the link; nor does anything else that comes from a link-local address.

    What would go back by the link it came from is looked for first: a guest that forwards sends back what others sent
    to addresses that it does not have, and that is no forgery. So does, by another interface, one whose default route
    is not the link of that network. That goes for permitted sources too: what a guest sends back would go round.

    Permitted sources are looked for when nothing else lets a packet in, and ordinary packets never come so far. The
    host's own addresses are nobody else's source, whatever is permitted: for IPv6 the kernel does not see to that.

    Asking: who solicits a neighbour, or speaks from a link-local address, makes the host remember a neighbour, and the
    table of these is one for the whole host (1024 entries, gc_thresh3). A guest has permanent entries for the host
    and asks only after losing them, so once a second is plenty. Entries younger than 5 s are never collected
    (neigh_forced_gc in linux/net/core/neighbour.c): it takes some seventy containers at once to fill the table.

    Private networks: forwarding is the first place that knows where a packet comes from and where it goes. It is before
    all other tables there, so that none of them takes up, counts or logs what is rejected. What the kernel itself
    sends, and what stays among links of our group, passes.

    Counting and dropping are rules of their own: a set that is full ends the rule that adds to it, and what stands
    behind it in that rule does not happen.
    """
    links = f"iifgroup {wanted.group}"
    rarely = "limit rate over 1/second burst 5 packets"
    return f"""\
{removal()}\
table {TABLE} {{
    set own {{
        type iface_index . iface_index
    }}
    set siblings {{
        type iface_index . iface_index
    }}
    set private4 {{
        type ipv4_addr
        flags interval
    }}
    set private6 {{
        type ipv6_addr
        flags interval
    }}
    set sources4 {{
        type ifname . ipv4_addr
        flags interval
    }}
    set sources6 {{
        type ifname . ipv6_addr
        flags interval
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
    set rejected {{
        type ifname
        size 65535
        flags dynamic
        counter
    }}
    set permitted {{
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
        meta pkttype host iif . fib daddr oif @own goto bounce
        iif . fib saddr oif @own accept
        iif . fib saddr oif @siblings accept
        iif . fib daddr oif @siblings goto bounce
        fib saddr type {{ local, broadcast, anycast, multicast }} goto forge
        iifname . ip saddr @sources4 goto permit
        iifname . ip6 saddr @sources6 goto permit
        goto forge
    }}
    chain bounce {{
        update @bounced {{ iifname }}
        drop
    }}
    chain permit {{
        update @permitted {{ iifname }}
        accept
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
    chain private_networks {{
        type filter hook forward priority -310; policy accept;
        meta {links} meta oifgroup != {wanted.group} jump leaving
        meta oifgroup {wanted.group} meta iifgroup != {wanted.group} jump entering
    }}
    chain leaving {{
        ip saddr @private4 goto reject_leaving
        ip6 saddr @private6 goto reject_leaving
    }}
    chain entering {{
        ip daddr @private4 goto reject_entering
        ip6 daddr @private6 goto reject_entering
    }}
    chain reject_leaving {{
        update @rejected {{ iifname }}
        reject with icmpx admin-prohibited
    }}
    chain reject_entering {{
        update @rejected {{ oifname }}
        reject with icmpx admin-prohibited
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
