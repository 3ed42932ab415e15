"""BIRD: the file that its configuration includes, and what its control socket answers.

The file has routing tables, filters and protocols of its own, all named `osctl...`, so that nothing of the operator's
configuration is touched: a kernel protocol learns the announcement table, and sessions export what it learned. It is
valid for BIRD 2.0.12 to 3.3.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

import msgspec

from osctld.core.address.addresses import BITS, VERSIONS, Network
from osctld.core.config.announcing import NeighborSettings, networks_of
from osctld.core.config.settings import Settings

PACKAGE = "bird2"
#: Versions from which on all that is written here was loaded and run.
OLDEST = (2, 0, 12)

#: Prefix of every symbol: BIRD has one space of names for the whole configuration. Sessions are `osctl_NAME`, all else
#: begins with `osctl4` or `osctl6`, so that no name of a neighbour can be that of something else.
PREFIX = "osctl"

#: The kernel drops notifications that a default buffer cannot hold; BIRD then misses routes until its next scan.
_BUFFER = 8 << 20
_SCAN_SECONDS = 10
#: A router that is silent for so many intervals of this length is dead.
_BFD_INTERVAL_MS, _BFD_MULTIPLIER = 100, 3
#: TCP_MD5SIG_MAXKEYLEN of linux/include/uapi/linux/tcp.h.
LONGEST_PASSWORD = 80
#: What stands for a password where anybody may read it.
CONCEALED = "********"

NOTHING = """\
# Written by osctld, which announces nothing: see osctl router enable.
"""

_INCLUDE = re.compile(r'^[^#\n]*?\binclude\s+"([^"\n]+)"\s*;', re.MULTILINE)


def configuration(settings: Settings, passwords: Mapping[str, str]) -> str:
    """The file to be included; `passwords` are those of the neighbours that have one, by name."""
    return "\n".join(_lines(settings, passwords)) + "\n"


def _lines(settings: Settings, passwords: Mapping[str, str]) -> Iterator[str]:
    announce = settings.announce
    allowed = networks_of(announce.networks)
    neighbors = sorted(settings.neighbors.items())
    yield "# Written by osctld from its settings (osctld.toml); changes made here are lost."
    for version in VERSIONS:
        yield ""
        yield f"ipv{version} table {PREFIX}{version};"
        yield f"define {PREFIX}{version}_allowed = {_prefixes(allowed, version)};"
        yield f"filter {PREFIX}{version}_learn {{"
        yield f"  if krt_source = {settings.routes.announce_protocol} && net ~ {PREFIX}{version}_allowed then accept;"
        yield "  reject;"
        yield "}"
        yield f"protocol kernel {PREFIX}{version}_kernel {{"
        yield f"  kernel table {announce.table}; learn; persist; graceful restart;"
        yield f"  netlink rx buffer {_BUFFER}; scan time {_SCAN_SECONDS};"
        yield (f"  ipv{version} {{ table {PREFIX}{version}; import filter {PREFIX}{version}_learn; export none; }};")
        yield "}"
    if any(each.bfd for _, each in neighbors):
        yield ""
        yield f"protocol bfd {PREFIX}4_bfd {{"
        yield f'  interface "*" {{ interval {_BFD_INTERVAL_MS} ms; multiplier {_BFD_MULTIPLIER}; }};'
        yield "}"
    for name, each in neighbors:
        yield from _session(name, each, allowed, local_as=announce.local_as, password=passwords.get(name))


def _session(
    name: str, neighbor: NeighborSettings, allowed: Sequence[Network], *, local_as: int, password: str | None
) -> Iterator[str]:
    networks = networks_of(neighbor.networks) if neighbor.networks else allowed
    for version in neighbor.versions:
        yield ""
        yield f"define {PREFIX}{version}_{name}_networks = {_prefixes(networks, version)};"
        yield f"filter {PREFIX}{version}_{name}_out {{"
        yield f"  if source != RTS_INHERIT || net !~ {PREFIX}{version}_{name}_networks then reject;"
        for each in neighbor.communities:
            yield f"  bgp_community.add(({each.replace(':', ',')}));"
        yield "  accept;"
        yield "}"
    yield f"protocol bgp {protocol_of(name)} {{"
    yield f"  local as {local_as}; neighbor {neighbor.address} as {neighbor.remote_as};"
    if neighbor.remote_as == local_as:
        yield "  direct;"  # the next hop is on the link, and need not be looked up
    yield f"  hold time {neighbor.hold_seconds}; connect retry time 5; error wait time 1,30; graceful restart on;"
    if neighbor.bfd:
        yield "  bfd on;"
    if password is not None:
        yield f'  password "{password}";'
    for version in neighbor.versions:
        extended = " extended next hop on;" if version == 4 and neighbor.link else ""
        yield (
            f"  ipv{version} {{ table {PREFIX}{version}; import none; export filter {PREFIX}{version}_{name}_out;"
            f"{extended} next hop self; export limit {neighbor.limit} action warn; }};"
        )
    yield "}"


def protocol_of(name: str) -> str:
    """The name of a neighbour's session in BIRD."""
    return f"{PREFIX}_{name}"


def _prefixes(networks: Iterable[Network], version: int) -> str:
    """A set of all networks that lie in these."""
    found = [f"{each}{{{each.length},{BITS[version]}}}" for each in networks if each.version == version]
    return f"[ {', '.join(found)} ]"


def reason_unfit(password: str) -> str | None:
    """Why a password cannot be written into the file; None when it can."""
    if not password:
        return "is empty"
    if len(password.encode()) > LONGEST_PASSWORD:
        return f"is longer than {LONGEST_PASSWORD} bytes"
    if any(each in '"\\' or not each.isprintable() for each in password):
        return "contains a quote, a backslash or a control character"
    return None


def without_passwords(text: str) -> str:
    """A file of ours as anybody may read it."""
    return re.sub(r'(?m)^(  password )"[^"\n]*";', rf'\1"{CONCEALED}";', text)


def includes(text: str, file: str, *, of: str) -> bool:
    """Whether a configuration file, `of` this path, includes a file: paths are relative to it, and may be patterns."""
    return any(fnmatchcase(file, _beside(of, pattern)) for pattern in _INCLUDE.findall(text))


def including(text: str, file: str, instead: str, *, of: str) -> str:
    """The same text with another file included in the place of `file`."""

    def replaced(match: re.Match[str]) -> str:
        pattern = match[1]
        path = _beside(of, pattern)
        # Others by their whole paths: the text will stand in another folder.
        return match[0].replace(f'"{pattern}"', f'"{instead if fnmatchcase(file, path) else path}"')

    return _INCLUDE.sub(replaced, text)


def _beside(file: str, path: str) -> str:
    """A path as it is written in a file: one that is not absolute begins in the file's own folder."""
    return path if path.startswith("/") else f"{file.rpartition('/')[0]}/{path}"


# --- answers --------------------------------------------------------------------------------------------------------


class Channel(msgspec.Struct, frozen=True):
    """What a session carries of one IP version."""

    exported: int
    received: int


class Session(msgspec.Struct, frozen=True):
    """A session as BIRD shows it: its state in BIRD's own words, since when, and what it carries by IP version."""

    state: str
    since: str
    info: str
    channels: Mapping[int, Channel]

    @property
    def is_up(self) -> bool:
        return self.state == "up"


_VERSION = re.compile(r"BIRD v?(\d+)\.(\d+)(?:\.(\d+))?")
_COUNTS = re.compile(r"Routes:\s+(?P<counts>.*)")
_CHANNEL = re.compile(r"Channel ipv([46])\b")


def version_of(greeting: str) -> tuple[int, int, int] | None:
    """The version in what BIRD says first; None for another program."""
    found = _VERSION.search(greeting)
    return (int(found[1]), int(found[2]), int(found[3] or 0)) if found else None


def counted(lines: Iterable[str]) -> int:
    """The number of networks in an answer to `show route ... count` of one table; 0 for any other answer."""
    found = (re.search(r"routes for (\d+) networks", line) for line in lines)
    return next((int(each[1]) for each in found if each is not None), 0)


def sessions(lines: Iterable[str]) -> dict[str, Session]:
    """The protocols in an answer to `show protocols all`, by their names."""
    found: dict[str, Session] = {}
    name = ""
    version = 0
    for line in lines:
        if line[:1].strip():
            # Name, kind, table, state, since (a time, or a date and a time), info.
            words = line.split()
            if len(words) < 5 or words[0] == "Name":
                name = ""
                continue
            name, version = words[0], 0
            rest = words[4:]
            since = [rest.pop(0)]
            if rest and re.fullmatch(r"\d\d:\d\d:\d\d(\.\d+)?", rest[0]):
                since.append(rest.pop(0))
            found[name] = Session(words[3], " ".join(since), " ".join(rest), {})
        elif name and (channel := _CHANNEL.search(line)) is not None:
            version = int(channel[1])
        elif name and version and (counts := _COUNTS.search(line)) is not None:
            numbers = {word: int(number) for number, word in re.findall(r"(\d+) (\w+)", counts["counts"])}
            carried = Channel(numbers.get("exported", 0), numbers.get("imported", 0))
            before = found[name]
            found[name] = msgspec.structs.replace(before, channels={**before.channels, version: carried})
    return found
