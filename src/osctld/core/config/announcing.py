"""Settings of announcing: what may be announced, and to whom."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated, NoReturn

import msgspec
from msgspec import Meta

from osctld.core.address.addresses import Address, Network, reason_not_routable
from osctld.core.errors import Refused

#: An AS number has 32 bits; 0, 65535 and 4294967295 are reserved (RFC 7607, RFC 7300), 23456 stands for those that an
#: old router cannot express (RFC 6793).
_LARGEST_AS, _RESERVED_AS = 2**32 - 1, frozenset({0, 23456, 65535, 2**32 - 1})

#: Table 255 holds the host's own addresses; 253, 254 and 0 are the kernel's too (linux/rtnetlink.h, enum rt_class_t).
_LAST_TABLE_OF_KERNEL, _LAST_TABLE = 255, 65535

_NAME = re.compile(r"[a-z][a-z0-9_]{0,30}", re.ASCII)
_LINK = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}", re.ASCII)
_COMMUNITY = re.compile(r"(\d{1,5}):(\d{1,5})", re.ASCII)

Refuse = Callable[[str, str], NoReturn]


class NeighborSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Routers that networks are announced to by BGP: one table for each, with a NAME chosen by the operator."""

    address: Annotated[
        str,
        Meta(
            description="Address of the router, IPv4 or IPv6; required. A link-local address needs its link, as in "
            '"fe80::1%eth0"; such a session needs no other address on the link and carries both IP versions (RFC 8950).'
        ),
    ] = ""
    remote_as: Annotated[int, Meta(description="AS number of the router, that of this host for iBGP; required.")] = 0
    limit: Annotated[
        int,
        Meta(
            description="Maximum number of networks that are announced to this router, of each IP version; required. "
            "What is beyond it is announced to nobody, and osctl self check says so; networks that are announced "
            "already come first."
        ),
    ] = 0
    networks: Annotated[
        tuple[str, ...],
        Meta(description="Announce only what lies in these networks to this router. Empty: all of announce.networks."),
    ] = ()
    communities: Annotated[
        tuple[str, ...], Meta(description='BGP communities of all that is announced to this router, as in "65001:77".')
    ] = ()
    password_file: Annotated[
        str,
        Meta(
            description="File that holds the password of the session (TCP MD5, RFC 2385), readable by root only. "
            "Empty: no password."
        ),
    ] = ""
    bfd: Annotated[bool, Meta(description="Detect a dead router within a fraction of a second by BFD.")] = False
    hold_seconds: Annotated[
        int, Meta(description="Seconds without a message after which the session is taken to be dead, 3 to 65535.")
    ] = 90

    @property
    def link(self) -> str:
        """The link that a link-local address is on; empty for other addresses."""
        return self.address.partition("%")[2]

    @property
    def peer(self) -> Address:
        return Address.parse(self.address.partition("%")[0])

    @property
    def versions(self) -> tuple[int, ...]:
        """The IP versions whose networks the session carries."""
        return (4, 6) if self.link else (self.peer.version,)


class AnnounceSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which networks of containers a routing daemon announces, and to whom. Nothing is announced before osctl router
    enable."""

    networks: Annotated[
        tuple[str, ...],
        Meta(
            description="Networks of which parts may be announced: what is routed to a running container and lies in "
            "one of these. Empty: nothing is announced."
        ),
    ] = ()
    table: Annotated[
        int,
        Meta(
            description="Routing table that holds a copy of each route that is announced, for the routing daemon to "
            "read, 256 to 65535. No rule may look it up, and nobody else may use it."
        ),
    ] = 1111
    local_as: Annotated[int, Meta(description="AS number of this host. 0: none, and no router can be named.")] = 0
    bird_config: Annotated[str, Meta(description="Configuration file of BIRD, which is read and not changed.")] = (
        "/etc/bird/bird.conf"
    )
    bird_include: Annotated[
        str, Meta(description="File that osctld writes for BIRD, and that the configuration file of BIRD includes.")
    ] = "/etc/bird/osctl.conf"
    bird_socket: Annotated[str, Meta(description="Control socket of BIRD.")] = "/run/bird/bird.ctl"


def check_announcing(settings: AnnounceSettings, neighbors: Mapping[str, NeighborSettings], refuse: Refuse) -> None:
    """Call `refuse` with a key and the reason if something makes no sense."""
    allowed = [_network("announce.networks", each, refuse) for each in settings.networks]
    if not _LAST_TABLE_OF_KERNEL < settings.table <= _LAST_TABLE:
        refuse("announce.table", f"{settings.table} is not a table from {_LAST_TABLE_OF_KERNEL + 1} to {_LAST_TABLE}")
    if settings.local_as and not _is_as(settings.local_as):
        refuse("announce.local_as", f"{settings.local_as} is not an AS number")
    for name in ("bird_config", "bird_include", "bird_socket"):
        path = getattr(settings, name)
        # It is written into BIRD's configuration in quotes, which know no escapes.
        if not path.startswith("/") or any(each in path for each in '"\n\\'):
            refuse(f"announce.{name}", f"{path!r} is not an absolute path")
    known: dict[str, str] = {}
    for name, each in neighbors.items():
        key = f"neighbors.{name}"
        if not _NAME.fullmatch(name):
            refuse(key, f"{name!r} is not a valid name (expected 1 to 31 characters of a-z 0-9 _, a letter first)")
        if not settings.local_as:
            refuse(key, "requires announce.local_as, the AS number of this host")
        _check_neighbor(key, each, allowed, refuse)
        if each.address in known:
            refuse(f"{key}.address", f"{each.address} is the address of {known[each.address]!r} too")
        known[each.address] = name


def _check_neighbor(key: str, neighbor: NeighborSettings, allowed: list[Network], refuse: Refuse) -> None:
    for name in ("address", "remote_as", "limit"):
        if not getattr(neighbor, name):
            refuse(f"{key}.{name}", f"is missing; each neighbor needs {name}")
    text, percent, link = neighbor.address.partition("%")
    try:
        address = Address.parse(text)
    except Refused as refused:
        refuse(f"{key}.address", refused.message)
    is_link_local = Network.parse("fe80::/10").includes(address)
    if is_link_local and not percent:
        refuse(f"{key}.address", f"{text} needs its link, as in {text}%eth0")
    if percent and not is_link_local:
        refuse(f"{key}.address", f"{text} is not link-local, and needs no link")
    if percent and not _LINK.fullmatch(link):
        refuse(f"{key}.address", f"{link!r} is not the name of a link")
    if not is_link_local and (reason := reason_not_routable(address.as_network())) is not None:
        refuse(f"{key}.address", f"{text} overlaps {reason}")
    if not _is_as(neighbor.remote_as):
        refuse(f"{key}.remote_as", f"{neighbor.remote_as} is not an AS number")
    if neighbor.limit < 1:
        refuse(f"{key}.limit", f"{neighbor.limit} is less than 1")
    # RFC 4271 4.2: zero or at least three seconds; zero would keep a dead router's routes for ever.
    if not 3 <= neighbor.hold_seconds <= 65535:
        refuse(f"{key}.hold_seconds", f"{neighbor.hold_seconds} is not a number of seconds from 3 to 65535")
    for each in neighbor.networks:
        network = _network(f"{key}.networks", each, refuse)
        if not any(other.includes(network) for other in allowed):
            refuse(f"{key}.networks", f"{each} lies in none of announce.networks")
    for each in neighbor.communities:
        match = _COMMUNITY.fullmatch(each)
        if match is None or not all(int(part) < 65536 for part in match.groups()):
            refuse(f"{key}.communities", f"{each!r} is not a community such as 65001:77")
    if neighbor.password_file and not neighbor.password_file.startswith("/"):
        refuse(f"{key}.password_file", f"{neighbor.password_file!r} is not an absolute path")


def _network(key: str, text: str, refuse: Refuse) -> Network:
    try:
        network = Network.parse(text)
    except Refused as refused:
        refuse(key, refused.message)
    reason = "the default route" if network.is_default else reason_not_routable(network)
    if reason is not None:
        refuse(key, f"{text} cannot be announced, it overlaps {reason}")
    return network


def _is_as(number: int) -> bool:
    return 0 < number <= _LARGEST_AS and number not in _RESERVED_AS


def networks_of(texts: tuple[str, ...]) -> tuple[Network, ...]:
    """Networks of a setting that was checked, in order."""
    return tuple(sorted(map(Network.parse, texts)))
