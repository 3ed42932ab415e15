"""The daemon's settings, as an operator writes them in TOML."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from typing import Annotated, Any, NoReturn

import msgspec
from msgspec import Meta

from osctld.core.addresses import Address, Network, reason_not_unicast
from osctld.core.errors import Refused
from osctld.core.via import LONGEST_PREFIX, Via


class RouteSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How our routes on the host are marked, so that they can be told from everyone else's."""

    announce_protocol: Annotated[
        int, Meta(description="Protocol number of routes that a routing daemon may announce, 5 to 255.")
    ] = 111
    present_protocol: Annotated[
        int, Meta(description="Protocol number of routes that are present and not announced, 5 to 255.")
    ] = 112
    ipv6_metric: Annotated[
        int,
        Meta(
            description="Metric of IPv6 routes to containers. The kernel's default of 1024 would lose against BIRD's "
            "32 and FRR's 20 when the fabric reflects a prefix back to us."
        ),
    ] = 8
    host_source: Annotated[
        tuple[str, ...],
        Meta(
            description="Addresses that the host speaks from to containers (src of its routes), one of each IP version "
            "at most. They must be the host's own. Unset: those of the interconnecting networks."
        ),
    ] = ()

    def source(self, version: int) -> Address | None:
        """The address that routes to containers name for the host to speak from; None where the kernel chooses."""
        addresses = map(Address.parse, self.host_source)
        return next((each for each in addresses if each.version == version), None)


class IdSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The user and group ids on the host that containers run under, 65536 for each user.

    By default 1879048192 to 2147352575: above what useradd hands out as subordinate ids, above what systemd-nspawn
    takes, below 2^31, and not used by either (systemd's list of user and group ids).
    """

    first: Annotated[int, Meta(description="The first id of all, above 65535.")] = 0x7000_0000
    last: Annotated[int, Meta(description="The last id of all.")] = 0x7FFD_FFFF


class HostSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What osctld does on the host beside the links of containers."""

    manage_forwarding: Annotated[
        bool,
        Meta(
            description="Switch forwarding on where containers need it: on our links, on the uplinks, and for IPv6 as "
            "a whole. Off: osctl self check prints the commands, and a start warns."
        ),
    ] = True
    uplinks: Annotated[
        tuple[str, ...] | None,
        Meta(
            description="Links that lead out. Unset: those that carry a default route or, where there is none, all "
            "that have an address."
        ),
    ] = None
    link_group: Annotated[
        int, Meta(description="Group number of our links (ip link ... group), which the packet filter keys on.")
    ] = 111


class ViaSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where interconnecting networks come from that nobody named."""

    ipv4_pools: Annotated[
        tuple[str, ...],
        Meta(
            description="Networks that IPv4 ones are cut from, in order. By default link-local: no router forwards it."
        ),
    ] = ("169.254.0.0/16",)
    ipv6_pools: Annotated[
        tuple[str, ...],
        Meta(
            description="Networks that IPv6 ones are cut from, in order. Empty: a unique-local /48 of the host's own, "
            "which is random and kept (RFC 4193)."
        ),
    ] = ()
    # RFC 3927 2.1 reserves the first and the last 256 link-local addresses; clouds answer on those of 169.254.169.0/24.
    reserved: Annotated[
        tuple[str, ...], Meta(description="Parts of the pools that are left alone, of either IP version.")
    ] = ("169.254.0.0/24", "169.254.169.0/24", "169.254.255.0/24")
    ipv4_length: Annotated[int, Meta(description="Prefix length of the IPv4 networks that are cut, up to 31.")] = 31
    ipv6_length: Annotated[int, Meta(description="Prefix length of the IPv6 networks that are cut, up to 127.")] = 127

    def pools(self, version: int) -> tuple[str, ...]:
        return self.ipv4_pools if version == 4 else self.ipv6_pools

    def length(self, version: int) -> int:
        return self.ipv4_length if version == 4 else self.ipv6_length


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All settings: a table of the file for each field, a key of the table for each of its own.

    The manual is made from these declarations: each key has a description in words that end with a full stop.
    """

    routes: RouteSettings = RouteSettings()
    ids: IdSettings = IdSettings()
    host: HostSettings = HostSettings()
    via: ViaSettings = ViaSettings()


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
            refuse("routes.host_source", f"{text_of_source} is a second one of IPv{source.version}")
        sources.add(source.version)
    if not 0 < settings.host.link_group < 2**31:
        refuse("host.link_group", f"{settings.host.link_group} is not a group number from 1 to 2147483647")
    if settings.ids.first < 65536 or settings.ids.last >= 2**32 or settings.ids.last - settings.ids.first < 65535:
        refuse("ids.first", f"ids {settings.ids.first} to {settings.ids.last} hold no range of 65536 above 65535")
    for version in (4, 6):
        _check_pools(settings.via, version, refuse)
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
            refuse(key, f"{text} is no IPv{version} network")
        if pool.length > length:
            refuse(key, f"{text} holds no /{length}")
        try:
            Via.make(msgspec.structs.replace(pool, length=length))
        except Refused as refused:
            refuse(key, refused.message)
    if version == 4 and not via.ipv4_pools:
        refuse(key, "is empty, give a network")


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
