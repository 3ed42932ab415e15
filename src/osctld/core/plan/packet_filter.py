"""The nftables tables of ours: which sources a container may use, what must not leave by the link it came from, how
often it may ask who the host is, which networks stay on this host, and what may be sent from though it is not routed.

They know no container. They look at links of our group and at the routing table: what is routed to a link may be
sent from it. What the routing table does not tell is in sets. A link from which more may be sent has a set of its own
and a chain that looks into it, made with the first such network, removed with the last: from one set that matches
both link and network, the kernel takes 20 to 40 ms to remove one element of 1000 (nft_pipapo_remove compares them one
by one). Counters are kept per link in sets that the packet path itself fills. The second table holds the part for
ARP, which has a family of its own; both come and go together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from osctld.core.address.addresses import Network
from osctld.core.errors import Refused
from osctld.core.plan.kernel_state import (
    HOST,
    FilterElement,
    PacketFilter,
    PermittedSource,
    PrivateNetwork,
    SiblingLinks,
    StoppedNetwork,
)

FAMILY, NAME = "inet", "osctl"
TABLE = f"{FAMILY} {NAME}"
ARP_TABLE = f"arp {NAME}"
BRIDGE_TABLE = f"bridge {NAME}"
TABLES = (TABLE, ARP_TABLE, BRIDGE_TABLE)

#: Grows with every change of the rules, so that a newer daemon replaces an older one's table.
VERSION = 14

#: How many rules TABLE has, beside one for each IP version that does not pass between foreign links.
_RULES = 52

#: The sets that plans fill.
OWN, SIBLINGS = "own", "siblings"
PRIVATE = {4: "private4", 6: "private6"}
STOPPED = {4: "stopped4", 6: "stopped6"}

#: What the name of a link's own set, and of the chain that looks into it, begins with.
SOURCES = {4: "sources4", 6: "sources6"}
ROUTED = {4: "routed4", 6: "routed6"}
#: The map from links to these chains, by that. Before version 13 there were sets called as the names begin.
MAP = {each: f"{each}_by_link" for names in (ROUTED, SOURCES) for each in names.values()}
#: Where a chain leads, to another one or, as "", to the packet being accepted.
LEADS_TO = dict.fromkeys(ROUTED.values(), "") | dict.fromkeys(SOURCES.values(), "permit")
VERSION_OF = {each: version for names in (ROUTED, SOURCES) for version, each in names.items()}

#: The sets in which the packet path counts, by link, what it dropped, rejected, or let pass by permission alone.
COUNTERS = ("spoofed", "bounced", "rejected", "permitted", "limited")
#: Of these, what ARP_TABLE counts as well, in a set of the same name.
ARP_COUNTERS = ("limited",)
#: What BRIDGE_TABLE counts.
BRIDGE_COUNTERS = ("bridged",)

#: The bit of a packet's mark that says, between two of our chains, that a bridge is passing it on.
_PASSED_ON = 0x8000_0000

#: An empty chain whose name says which rules the table holds; table comments need a newer kernel than we do.
_MARK = "rules_"
_OF_LINKS = tuple(f"{each}_" for each in VERSION_OF)
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")


def packet_filter(group: int, *, bridge_group: int, no_transit: tuple[int, ...] = ()) -> PacketFilter:
    """The tables for links of these groups; between others, packets of the IP versions `no_transit` do not pass."""
    return PacketFilter(
        HOST, TABLE, version=VERSION, group=group, bridge_group=bridge_group, no_transit=no_transit
    )


def mark(wanted: PacketFilter) -> str:
    """The name of the chain that marks the table."""
    groups = (wanted.group, wanted.bridge_group)
    return "_".join([f"{_MARK}{wanted.version}", *map(str, groups), *map(str, wanted.no_transit)])


def read_mark(chain: str) -> PacketFilter | None:
    """The table that a chain's name marks; None when it is not such a name."""
    words = chain.removeprefix(_MARK).split("_")
    if not chain.startswith(_MARK) or len(words) < 2 or not all(map(str.isdigit, words)):
        return None
    version, group, *rest = map(int, words)
    # Before version 14 there was one group.
    bridge_group, no_transit = (rest[0], rest[1:]) if version >= 14 and rest else (0, rest)
    return PacketFilter(
        HOST, TABLE, version=version, group=group, bridge_group=bridge_group, no_transit=tuple(no_transit)
    )


def rules(wanted: PacketFilter, chains: Iterable[str]) -> int:
    """How many rules TABLE has with these chains. One that was flushed keeps its chains and checks nothing."""
    of_links = sum(each.startswith(_OF_LINKS) for each in chains)
    return _RULES + len(wanted.no_transit) + of_links


def set_of(each: FilterElement) -> str:
    """The set that an element belongs to."""
    if isinstance(each, SiblingLinks):
        return OWN if each.link == each.sibling else SIBLINGS
    if isinstance(each, StoppedNetwork):
        return STOPPED[each.network.version]
    if isinstance(each, PermittedSource):
        return name_of_link(kind_of(each), each.link)
    return PRIVATE[each.network.version]


def element(each: FilterElement) -> tuple[str, str, str]:
    """An element of a set as nft takes it: table and set, the element to be added, and its key alone."""
    if isinstance(each, SiblingLinks):
        # A link that is gone has but its number.
        words = (name if name.isdigit() else f'"{name}"' for name in (each.link, each.sibling))
        key = " . ".join(words)
        return f"{TABLE} {set_of(each)}", key, key
    key = str(each.network)
    if isinstance(each, StoppedNetwork):
        return f"{TABLE} {set_of(each)}", key, key
    return f"{TABLE} {set_of(each)}", f'{key} comment "{comment(each)}"', key


def comment(each: PrivateNetwork | PermittedSource) -> str:
    """Network and link in the comment of an element: a program that asks for one end of a range is told that."""
    return f"{each.network} dev {each.link}"


def read_comment(text: str) -> tuple[Network, str] | None:
    """Network and link that a comment tells; None when it is no such comment."""
    network, word, link = text.partition(" dev ")
    try:
        return (Network.parse(network), link) if word else None
    except Refused:
        return None


def kind_of(each: PermittedSource) -> str:
    """What the name of the set that a source belongs to begins with."""
    return (ROUTED if each.is_routed else SOURCES)[each.network.version]


def name_of_link(kind: str, link: str) -> str:
    """The name of a link's own set and chain of one kind. Names of links have characters that nft(8) takes in none."""
    return f"{kind}_{_spelled(link)}"


def _spelled(link: str) -> str:
    return "".join(
        each if each in _PLAIN else "".join(f".{octet:02x}" for octet in each.encode(errors="surrogateescape"))
        for each in link
    )


def sets_of_links(elements: Iterable[FilterElement]) -> str:
    """What `nft -f` takes to make what links need for these elements, in a table that has none of it yet."""
    sources = (each for each in elements if isinstance(each, PermittedSource))
    wanted = dict.fromkeys((kind_of(each), each.link) for each in sources)
    return "".join(f"{line}\n" for kind, link in wanted for line in _set_of_link(kind, link))


def addition(each: PermittedSource) -> str:
    """What nft(8) takes, as one transaction, to add a source whether its link has a set of its own already or not."""
    kind = kind_of(each)
    place, element_, _ = element(each)
    return "; ".join((*_set_of_link(kind, each.link), f"add element {place} {{ {element_} }}"))


def removal_of_last(each: PermittedSource) -> str:
    """What nft(8) takes, as one transaction, to remove the last source in its link's own set, and that with it."""
    kind = kind_of(each)
    name = f"{TABLE} {name_of_link(kind, each.link)}"
    leading = f'delete element {TABLE} {MAP[kind]} {{ "{each.link}" }}'
    return f"{leading}; flush chain {name}; delete chain {name}; delete set {name}"


def _set_of_link(kind: str, link: str) -> Iterator[str]:
    """Commands that may be repeated."""
    name, version, to = name_of_link(kind, link), VERSION_OF[kind], LEADS_TO[kind]
    yield f"add set {TABLE} {name} {{ type ipv{version}_addr; flags interval; }}"
    yield f"add chain {TABLE} {name}"
    yield f"flush chain {TABLE} {name}"
    address = "ip saddr" if version == 4 else "ip6 saddr"
    yield f"add rule {TABLE} {name} {address} @{name} {f'goto {to}' if to else 'accept'}"
    yield f'add element {TABLE} {MAP[kind]} {{ "{link}" : jump {name} }}'


def removal() -> str:
    """What `nft -f` takes to remove the tables, whether they are there or not."""
    return "".join(f"add table {table}\ndelete table {table}\n" for table in TABLES)


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

    A link-local address that is not the host's own is behind the link that the packet came by, if it is anywhere: the
    kernel would send it back there, and ask for that neighbour before. Whoever names very many of them would fill the
    table of neighbours.

    Permitted sources are looked for when nothing else lets a packet in, and ordinary packets never come so far. The
    host's own addresses are nobody else's source, whatever is permitted: for IPv6 the kernel does not see to that.

    Rules: `fib` looks up as if the host itself sent to the source of a packet, and obeys the routing rules for that,
    though what comes for the container need not be subject to them. While such a rule stands, what is routed to the
    container is in sets `routed4_LINK` and `routed6_LINK`.

    Remembering: whom the host answers on the link, it remembers as a neighbour, and the table of these is one for the
    whole host (1024 entries, gc_thresh3). Of link-local addresses it is a new one that is limited, and nothing that it
    says from then on: routing protocols use them. One that is silent for two minutes is new again, so that a
    link has some eight at a time. Solicitations of routers make nobody known: every guest sends them, and the host's
    kernel answers none. Who solicits a neighbour from another address is remembered too, and never spoken to by that: a
    guest has permanent entries for the host and asks only after losing them, once a second is plenty, and so it is of
    ARP. Entries that changed within 5 s are never collected (neigh_forced_gc in linux/net/core/neighbour.c): it takes
    some fifty containers at once to fill the table.

    Private networks: forwarding is the first place that knows where a packet comes from and where it goes. It is before
    all other tables there, so that none of them takes up, counts or logs what is rejected. What the kernel itself
    sends, and what stays among links of our group, passes. So do errors without which others send on what cannot
    arrive, or do not see the way: a container that only routes has no other address to send them from. An error is
    short and one piece (RFC 1812, 4.3.2.3; RFC 4443, 2.4), so that it is no way for anything else.

    Stopped containers: their routes have gone, and what comes for them from beyond would go back there. What the host
    and its containers send follows the host's routes: somebody may have moved an address to another host by hand.

    Transit: where we were who switched forwarding on, it is for containers. What comes by a link that is not of our
    group and would leave by another such one, or by the same, was not forwarded before, and is not now.

    Bridges: our links are nobody's ports. Whoever makes one a port takes it out of the host's routing, and with that
    out of the source check: what enters a bridge by it goes no further, from its first packet on.

    Ports of bridges have a group of their own, and the host sees what they carry as coming from the bridge. What comes
    by such a link itself comes while it is no port, because somebody took it out or the bridge is gone: the host would
    take it for its own, unchecked.

    Where br_netfilter is loaded, what a bridge passes on from port to port goes through the chains for forwarding as
    well, as if it came by the bridge and left by it (br_nf_forward in linux/net/bridge/br_netfilter_hooks.c). It is no
    transit: nobody routes it. It bears a mark from right before that to right behind, which nobody else sees.

    Counting and dropping are rules of their own: a set that is full ends the rule that adds to it, and what stands
    behind it in that rule does not happen.
    """
    links = f"iifgroup {wanted.group}"
    rarely = "limit rate over 1/second burst 5 packets"
    seldom = "limit rate over 2/minute burst 4 packets"
    one_piece_4, one_piece_6 = "ip frag-off & 0x3fff == 0 ip length <= 576", "exthdr frag missing ip6 length <= 1240"
    transit = "".join(
        f"        meta iifgroup != {wanted.group} meta oifgroup != {wanted.group} meta nfproto ipv{version}"
        " reject with icmpx admin-prohibited\n"
        for version in wanted.no_transit
    )
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
    map routed4_by_link {{
        type ifname : verdict
    }}
    map routed6_by_link {{
        type ifname : verdict
    }}
    map sources4_by_link {{
        type ifname : verdict
    }}
    map sources6_by_link {{
        type ifname : verdict
    }}
    set stopped4 {{
        type ipv4_addr
        flags interval
    }}
    set stopped6 {{
        type ipv6_addr
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
    set limited {{
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
    set strange {{
        type ifname
        size 65535
        flags dynamic, timeout
        timeout 2m
    }}
    set remembered {{
        type ifname . ipv6_addr
        size 65535
        flags dynamic, timeout
        timeout 2m
    }}
    chain {mark(wanted)} {{
    }}
    chain source_check {{
        type filter hook prerouting priority -310; policy accept;
        meta {links} jump from_container
        meta iifgroup {wanted.bridge_group} drop
    }}
    chain from_container {{
        ip6 saddr :: ip6 daddr ff02::/16 icmpv6 type {{
            nd-neighbor-solicit, mld-listener-report, mld2-listener-report
        }} accept
        ip6 saddr fe80::/10 goto link_local
        icmpv6 type nd-neighbor-solicit update @asking {{ iifname {rarely} }} goto limiting
        meta pkttype host iif . fib daddr oif @own goto bounce
        iif . fib saddr oif @own accept
        iif . fib saddr oif @siblings accept
        iif . fib daddr oif @siblings goto bounce
        fib saddr type {{ local, broadcast, anycast, multicast }} goto forge
        meta nfproto ipv4 iifname vmap @routed4_by_link
        meta nfproto ipv6 iifname vmap @routed6_by_link
        meta nfproto ipv4 iifname vmap @sources4_by_link
        meta nfproto ipv6 iifname vmap @sources6_by_link
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
    chain limiting {{
        update @limited {{ iifname }}
        drop
    }}
    chain link_local {{
        icmpv6 type {{ mld-listener-report, mld-listener-reduction, mld2-listener-report }} accept
        ip6 daddr != {{ fe80::/10, ff00::/8 }} fib daddr type != local goto forge
        meta pkttype host ip6 daddr fe80::/10 fib daddr . iif type != local goto bounce
        iifname . ip6 saddr @remembered update @remembered {{ iifname . ip6 saddr }} accept
        icmpv6 type nd-router-solicit goto limiting
        update @strange {{ iifname {seldom} }} goto limiting
        add @remembered {{ iifname . ip6 saddr }} accept
        goto limiting
    }}
    chain private_networks {{
        type filter hook forward priority -310; policy accept;
        meta mark & {_PASSED_ON:#x} != 0 goto passed_on
        meta {links} meta oifgroup != {wanted.group} jump leaving
        meta oifgroup {wanted.group} meta iifgroup != {wanted.group} jump entering
        meta iifgroup != {wanted.group} meta oifgroup != {wanted.group} ip daddr @stopped4 goto reject_stopped
        meta iifgroup != {wanted.group} meta oifgroup != {wanted.group} ip6 daddr @stopped6 goto reject_stopped
{transit}\
    }}
    chain passed_on {{
        meta mark set meta mark & {_PASSED_ON - 1:#x}
        accept
    }}
    chain reject_stopped {{
        reject with icmpx host-unreachable
    }}
    chain leaving {{
        ip saddr @private4 goto leaving4
        ip6 saddr @private6 goto leaving6
    }}
    chain leaving4 {{
        icmp type destination-unreachable icmp code frag-needed {one_piece_4} accept
        icmp type {{ time-exceeded, parameter-problem }} {one_piece_4} accept
        goto reject_leaving
    }}
    chain leaving6 {{
        icmpv6 type {{ packet-too-big, time-exceeded, parameter-problem }} {one_piece_6} accept
        goto reject_leaving
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
    set limited {{
        type ifname
        size 65535
        flags dynamic
        counter
    }}
    chain input {{
        type filter hook input priority 0; policy accept;
        meta {links} update @asking {{ iifname {rarely} }} goto limiting
        meta iifgroup {wanted.bridge_group} drop
    }}
    chain limiting {{
        update @limited {{ iifname }}
        drop
    }}
}}
table {BRIDGE_TABLE} {{
    set bridged {{
        type ifname
        size 65535
        flags dynamic
        counter
    }}
    chain ports {{
        type filter hook prerouting priority -310; policy accept;
        meta {links} update @bridged {{ iifname }}
        meta {links} drop
    }}
    chain passing_on {{
        type filter hook forward priority -2; policy accept;
        meta mark & {_PASSED_ON:#x} == 0 meta mark set meta mark | {_PASSED_ON:#x}
    }}
    chain passed_on {{
        type filter hook forward priority 1; policy accept;
        meta mark & {_PASSED_ON:#x} != 0 meta mark set meta mark & {_PASSED_ON - 1:#x}
    }}
}}
"""
