"""The daemon's settings, as an operator writes them in TOML."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, NoReturn, get_args, get_origin

import msgspec
from msgspec import Meta

from osctld.core.address.addresses import Address, Network, reason_not_routable, reason_not_unicast
from osctld.core.address.via import LONGEST_PREFIX, Via
from osctld.core.config.announcing import AnnounceSettings, NeighborSettings, check_announcing
from osctld.core.errors import Refused

#: Seconds. What is left of the 25 minutes that packaging/osctl-shutdown.service has is for those that are killed.
LONGEST_SHUTDOWN = 1200
#: Lines of the history that are kept at least.
LEAST_HISTORY = 100

_POOL_NAME = re.compile(r"[a-z0-9_-]{1,100}", re.IGNORECASE | re.ASCII)


class RouteSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the routes of osctld on the host are marked, to distinguish them from all others."""

    announce_protocol: Annotated[
        int, Meta(description="Protocol number of routes that a routing daemon may announce, 5 to 255.")
    ] = 111
    present_protocol: Annotated[
        int, Meta(description="Protocol number of routes that are present but not announced, 5 to 255.")
    ] = 112
    ipv6_metric: Annotated[
        int,
        Meta(
            description="Metric of IPv6 routes to containers. With the kernel's default of 1024 they would lose to "
            "those of BIRD (32) and FRR (20) when the fabric reflects a prefix back to this host."
        ),
    ] = 8
    host_source: Annotated[
        tuple[str, ...],
        Meta(
            description="The host's source addresses towards containers (src of its routes), at most one of each IP "
            "version. They must be addresses of the host. Unset: those of the interconnecting networks."
        ),
    ] = ()

    def source(self, version: int) -> Address | None:
        """The host's source address on routes to containers; None where the kernel chooses."""
        addresses = map(Address.parse, self.host_source)
        return next((each for each in addresses if each.version == version), None)


class IdSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The user and group ids on the host that containers run under, 65536 for each user.

    By default 1879048192 to 2147352575: above the subordinate ids of useradd, above the range of systemd-nspawn, below
    2^31, and used by neither (see systemd's documentation of user and group ids).
    """

    first: Annotated[int, Meta(description="First id, above 65535.")] = 0x7000_0000
    last: Annotated[int, Meta(description="Last id.")] = 0x7FFD_FFFF


class HostSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What osctld does on the host apart from the links of containers."""

    manage_forwarding: Annotated[
        bool,
        Meta(
            description="Enable forwarding where containers need it: on their links, on the uplinks, and for IPv6 on "
            "all links. If false, osctl self check prints the commands, and starts of containers log a "
            "warning."
        ),
    ] = True
    uplinks: Annotated[
        tuple[str, ...] | None,
        Meta(
            description="Links that lead to the outside. Unset: the links of default routes in any routing table and "
            "of routes from routing daemons or, if there are none, all links that have an address."
        ),
    ] = None
    link_group: Annotated[
        int,
        Meta(description="Link group (ip link ... group) of the links of containers, which the packet filter matches."),
    ] = 111
    bridge_link_group: Annotated[
        int,
        Meta(
            description="Link group of those links of containers that are ports of bridges. What comes from such a "
            "link while it is no port is dropped."
        ),
    ] = 112
    transit: Annotated[
        Literal["auto", "reject", "allow"],
        Meta(
            description="Packets forwarded between two links that belong to no container. Forwarding is enabled for "
            'containers and should not turn the host into a router: "auto" rejects such packets as long as only osctld '
            'has enabled forwarding, "reject" always rejects them, "allow" always lets them through.'
        ),
    ] = "auto"
    stopped: Annotated[
        Literal["reject", "unreachable", "none"],
        Meta(
            description="How packets from outside for a stopped container are answered, which would otherwise go back "
            'to where they came from. With "reject", the packet filter answers that the address is unreachable; with '
            '"unreachable", routes of that type with the highest metric do, also for packets of the host and of other '
            'containers; with "none", nothing is done.'
        ),
    ] = "reject"
    foreign_master: Annotated[
        Literal["release", "report"],
        Meta(
            description='What happens when somebody adds the link of a container to a bridge or bond: "release" '
            'removes it again, "report" leaves it there and reports it. Packets that enter a bridge '
            "through it are dropped in either case."
        ),
    ] = "release"

    @property
    def link_groups(self) -> tuple[int, ...]:
        """The groups of all links of containers."""
        return self.link_group, self.bridge_link_group


class ConfinementSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How containers are confined beyond their user namespaces."""

    apparmor: Annotated[
        Literal["required", "off"],
        Meta(
            description='With "required", if the kernel has AppArmor, a container starts confined by the profile '
            'lxc-osctl or not at all; with "off" it runs unconfined.'
        ),
    ] = "required"


class ViaSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where interconnecting networks are allocated from if none is given."""

    ipv4_pools: Annotated[
        tuple[str, ...],
        Meta(
            description="Networks that IPv4 interconnecting networks are allocated from, in order. By default "
            "link-local, which no router forwards."
        ),
    ] = ("169.254.0.0/16",)
    ipv6_pools: Annotated[
        tuple[str, ...],
        Meta(
            description="Networks that IPv6 interconnecting networks are allocated from, in order. Empty: a unique "
            "local /48 of the host, chosen at random once (RFC 4193)."
        ),
    ] = ()
    # RFC 3927 2.1 reserves the first and the last 256 link-local addresses; clouds answer on those of 169.254.169.0/24.
    reserved: Annotated[
        tuple[str, ...], Meta(description="Parts of the pools, of either IP version, that are not allocated.")
    ] = ("169.254.0.0/24", "169.254.169.0/24", "169.254.255.0/24")
    ipv4_length: Annotated[int, Meta(description="Prefix length of allocated IPv4 networks, up to 31.")] = 31
    ipv6_length: Annotated[int, Meta(description="Prefix length of allocated IPv6 networks, up to 127.")] = 127

    def pools(self, version: int) -> tuple[str, ...]:
        return self.ipv4_pools if version == 4 else self.ipv6_pools

    def length(self, version: int) -> int:
        return self.ipv4_length if version == 4 else self.ipv6_length


class SocketSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who, besides root, may connect to the daemon's socket, and the limits that apply."""

    group: Annotated[
        str, Meta(description="Group, by name or number, whose members may do everything. Empty: root only.")
    ] = ""
    read_only_group: Annotated[
        str,
        Meta(
            description="Group whose members may run commands that change nothing: lists, show, check, status, "
            "history, monitor, wait, help, completion. Everything else, including dry runs, is refused "
            "with exit status 77."
        ),
    ] = ""
    connections: Annotated[
        int,
        Meta(
            description="Maximum number of simultaneous connections, at least 8. A quarter of them is reserved "
            "for root."
        ),
    ] = 1024
    connections_per_user: Annotated[
        int,
        Meta(
            description="Maximum number of simultaneous connections of each user other than root. Each "
            "connection performs one request at a time."
        ),
    ] = 64
    request_seconds: Annotated[
        int,
        Meta(
            description="Maximum seconds between the first byte of a request and its last; then the connection "
            "is closed."
        ),
    ] = 60
    answer_seconds: Annotated[
        int,
        Meta(
            description="Seconds until the connection of a client that reads none of its answer is closed. Readers of "
            "events are not limited."
        ),
    ] = 60


class BootSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What happens to containers when the host comes up."""

    at_once: Annotated[
        int, Meta(description="Number of containers that are started at a time when the host comes up, 1 to 1000.")
    ] = 8


class ShutdownSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What happens to containers when the host goes down, and with osctl self shutdown."""

    timeout: Annotated[
        int,
        Meta(
            description="Seconds that all containers together have to power off, 0 to 1200; those still running then "
            "are killed. The limit of the unit (TimeoutStopSec) is 25 minutes, and systemd's limit for "
            "the shutdown of the host is 30."
        ),
    ] = 120


class AddressPoolSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Addresses that are assigned one by one (osctl ct netif ip add --from-pool NAME): one table for each pool, with a
    NAME chosen by the operator."""

    networks: Annotated[
        tuple[str, ...],
        Meta(
            description="Networks whose addresses are assigned, in order, except network and broadcast addresses and "
            "those that the host itself uses. A pool without networks is empty."
        ),
    ] = ()
    quiet_seconds: Annotated[
        int,
        Meta(description="Seconds before a deleted address is assigned again, 0 or more."),
    ] = 3600


class AuthoritySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An authority on addresses above this host, which osctld asks before a container gets an address or a network."""

    socket: Annotated[
        str,
        Meta(
            description="Unix socket of the authority; docs/programs.md describes the protocol. Empty: this "
            "host decides alone."
        ),
    ] = ""
    timeout: Annotated[
        int, Meta(description="Seconds to wait for an answer, 1 or more; only the command that needs the answer waits.")
    ] = 30


class HistorySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long osctl history goes back. Who held which network is kept forever, see osctl-net(8)."""

    days: Annotated[int, Meta(description="Days after which entries are removed; 0 keeps entries of any age.")] = 0
    lines: Annotated[int, Meta(description="Number of entries that are kept, at least 100.")] = 100_000


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All settings: a table of the file for each field, a key of the table for each of its own.

    The manual is generated from these declarations: the description of each key ends with a full stop.
    """

    routes: RouteSettings = RouteSettings()
    ids: IdSettings = IdSettings()
    host: HostSettings = HostSettings()
    via: ViaSettings = ViaSettings()
    socket: SocketSettings = SocketSettings()
    confinement: ConfinementSettings = ConfinementSettings()
    boot: BootSettings = BootSettings()
    shutdown: ShutdownSettings = ShutdownSettings()
    history: HistorySettings = HistorySettings()
    authority: AuthoritySettings = AuthoritySettings()
    announce: AnnounceSettings = AnnounceSettings()
    neighbors: dict[str, NeighborSettings] = {}
    addresses: dict[str, AddressPoolSettings] = {}


#: `[table]` and `key = value` as far as our settings need them: no key has a dot or an equals sign in it.
_HEADER = re.compile(r"\s*\[\s*([^\[\]]+?)\s*\]")
_ASSIGNMENT = re.compile(r"\s*([^#=\[\]{}]+?)\s*=")


def parse_settings(text: str, *, file: str) -> Settings:
    """Read settings. Raises Refused with file and line for bad TOML, an unknown key or a value that makes no sense."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Refused(f"{file}: {error}", code="bad-settings", subject=file) from None
    _refuse_unknown(data, Settings, text=text, file=file)
    try:
        settings = msgspec.convert(data, Settings)
    except msgspec.ValidationError as error:
        what, _, path = str(error).partition(" - at `$.")
        key = path.rstrip("`").partition("[")[0]
        raise Refused(
            f"{file}:{_line_of(key, text)}: {key} = {_value_at(key, data)!r}: {what.replace('`', '').lower()}",
            code="bad-settings",
            subject=key,
        ) from None
    _check(settings, text=text, file=file)
    return settings


def _check(settings: Settings, *, text: str, file: str) -> None:
    def refuse(key: str, why: str) -> NoReturn:
        raise Refused(f"{file}:{_line_of(key, text)}: {key}: {why}", code="bad-settings", subject=key)

    for name in ("announce_protocol", "present_protocol"):
        # Up to 4 the kernel itself gives meaning to a protocol (linux/include/uapi/linux/rtnetlink.h); one byte.
        if not 4 < getattr(settings.routes, name) < 256:
            refuse(f"routes.{name}", f"{getattr(settings.routes, name)} is not a protocol number from 5 to 255")
    if settings.routes.announce_protocol == settings.routes.present_protocol:
        refuse(
            "routes.present_protocol",
            f"{settings.routes.present_protocol}: announced and present routes need different protocol numbers",
        )
    if not 0 < settings.routes.ipv6_metric < 2**32:
        refuse("routes.ipv6_metric", f"{settings.routes.ipv6_metric} is not a metric from 1 to 4294967295")
    sources: set[int] = set()
    for text_of_source in settings.routes.host_source:
        source = _address("routes.host_source", text_of_source, refuse)
        if source.version in sources:
            refuse("routes.host_source", f"{text_of_source} is a second IPv{source.version} address")
        sources.add(source.version)
    for name in ("link_group", "bridge_link_group"):
        if not 0 < getattr(settings.host, name) < 2**31:
            refuse(f"host.{name}", f"{getattr(settings.host, name)} is not a group number from 1 to 2147483647")
    if settings.host.link_group == settings.host.bridge_link_group:
        refuse(
            "host.bridge_link_group",
            f"{settings.host.bridge_link_group}: links that are ports of bridges need a group of their own",
        )
    if settings.ids.first < 65536 or settings.ids.last >= 2**32 or settings.ids.last - settings.ids.first < 65535:
        refuse(
            "ids.first",
            f"ids {settings.ids.first} to {settings.ids.last} do not include a range of 65536 ids above 65535",
        )
    for name, least in (("connections", 8), ("connections_per_user", 1), ("request_seconds", 1), ("answer_seconds", 1)):
        if getattr(settings.socket, name) < least:
            refuse(f"socket.{name}", f"{getattr(settings.socket, name)} is less than {least}")
    if not 0 < settings.boot.at_once <= 1000:
        refuse("boot.at_once", f"{settings.boot.at_once} is not a number from 1 to 1000")
    if not 0 <= settings.shutdown.timeout <= LONGEST_SHUTDOWN:
        refuse(
            "shutdown.timeout", f"{settings.shutdown.timeout} is not a number of seconds from 0 to {LONGEST_SHUTDOWN}"
        )
    if settings.authority.timeout < 1:
        refuse("authority.timeout", f"{settings.authority.timeout} is less than 1")
    if settings.history.days < 0:
        refuse("history.days", f"{settings.history.days} is less than 0")
    if settings.history.lines < LEAST_HISTORY:
        refuse("history.lines", f"{settings.history.lines} is less than {LEAST_HISTORY}")
    for version in (4, 6):
        _check_pools(settings.via, version, refuse)
    _check_address_pools(settings.addresses, refuse)
    check_announcing(settings.announce, settings.neighbors, refuse)
    for each in settings.via.reserved:
        _network("via.reserved", each, refuse)


def _check_pools(via: ViaSettings, version: int, refuse: Callable[[str, str], NoReturn]) -> None:
    length = via.length(version)
    if not 0 < length <= LONGEST_PREFIX[version]:
        refuse(f"via.ipv{version}_length", f"{length} is not a prefix length from 1 to {LONGEST_PREFIX[version]}")
    key = f"via.ipv{version}_pools"
    for text in via.pools(version):
        pool = _network(key, text, refuse)
        if pool.version != version:
            refuse(key, f"{text} is not an IPv{version} network")
        if pool.length > length:
            refuse(key, f"{text} is too small for a /{length}")
        try:
            Via.make(msgspec.structs.replace(pool, length=length))
        except Refused as refused:
            refuse(key, refused.message)
    if version == 4 and not via.ipv4_pools:
        refuse(key, "is empty, give a network")


def _check_address_pools(pools: Mapping[str, AddressPoolSettings], refuse: Callable[[str, str], NoReturn]) -> None:
    known: dict[Network, str] = {}
    for name, pool in pools.items():
        key = f"addresses.{name}"
        if not _POOL_NAME.fullmatch(name):
            refuse(key, f"{name!r} is not a valid name (expected 1 to 100 characters of a-z A-Z 0-9 _ -)")
        if pool.quiet_seconds < 0:
            refuse(f"{key}.quiet_seconds", f"{pool.quiet_seconds} is less than 0")
        for text in pool.networks:
            network = _network(f"{key}.networks", text, refuse)
            reason = reason_not_routable(network)
            if reason is not None:
                refuse(f"{key}.networks", f"{text} cannot be routed, it overlaps {reason}")
            for other, its_name in known.items():
                if other.overlaps(network):
                    refuse(f"{key}.networks", f"{text} overlaps {other} of addresses.{its_name}")
            known[network] = name


def _address(key: str, text: str, refuse: Callable[[str, str], NoReturn]) -> Address:
    try:
        address = Address.parse(text)
    except Refused as refused:
        refuse(key, refused.message)
    reason = reason_not_unicast(address)
    if reason is not None:
        refuse(key, f"{text} is {reason}")
    return address


def _network(key: str, text: str, refuse: Callable[[str, str], NoReturn]) -> Network:
    try:
        return Network.parse(text)
    except Refused as refused:
        refuse(key, refused.message)


def _refuse_unknown(
    data: dict[str, Any], struct: type[msgspec.Struct], *, text: str, file: str, table: str = ""
) -> None:
    known = {each.name: each.type for each in msgspec.structs.fields(struct)}
    for key, value in data.items():
        dotted = f"{table}.{key}" if table else key
        if key not in known:
            raise Refused(
                f"{file}:{_line_of(dotted, text)}: unknown setting {dotted!r}", code="bad-settings", subject=dotted
            )
        inner = known[key]
        if get_origin(inner) is dict and isinstance(value, dict):
            for name, each in value.items():
                if isinstance(each, dict):
                    _refuse_unknown(each, get_args(inner)[1], text=text, file=file, table=f"{dotted}.{name}")
        if isinstance(inner, type) and issubclass(inner, msgspec.Struct) and isinstance(value, dict):
            _refuse_unknown(value, inner, text=text, file=file, table=dotted)


def _value_at(dotted: str, data: dict[str, Any]) -> Any:
    value: Any = data
    for key in dotted.split("."):
        value = value[key]
    return value


def _line_of(dotted: str, text: str) -> int:
    """The line that sets a key, or heads its table; tomllib does not keep positions."""
    table: list[str] = []
    nearest = 1
    for number, line in enumerate(text.splitlines(), start=1):
        header = _HEADER.match(line)
        if header is not None:
            table = found = _names(header[1])
        else:
            assignment = _ASSIGNMENT.match(line)
            if assignment is None:
                continue
            found = [*table, *_names(assignment[1])]
        if ".".join(found) == dotted:
            return number
        if dotted.startswith(".".join(found) + "."):
            nearest = number  # an inline table, or the header that comes before the key
    return nearest


def _names(dotted: str) -> list[str]:
    return [name.strip().strip("\"'") for name in dotted.split(".")]
