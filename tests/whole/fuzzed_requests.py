"""Requests of any kind: bytes, JSON that is no request, typed requests and argument vectors that are nearly right.

What is nearly right is made of the commands' own declarations, so that a new command or option is fuzzed from its
first day on. Values come from small sets, so that requests meet the same containers and interfaces.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as some

from osctld.cli.parse import Parameter, signature
from osctld.core.command import Command, GlobalOptions, Option
from osctld.protocol.catalogue import commands, requests
from whole.random_commands import ADDRESSES_4, ADDRESSES_6, NONSENSE, VIAS_4, VIAS_6

#: Commands without an end, or with one that comes when it likes: they are asked for, and left.
ENDLESS = (b"monitor", b"subscribe", b"wait")

_KINDS = {**requests(), **commands()}
_GLOBAL = tuple(
    name
    for each in signature(GlobalOptions).options
    for name in each.declaration.names  # type: ignore[union-attr]
)

_NAMES = some.sampled_from(
    ["web", "db", "eth0", "eth1", "new", "default:web", "default:", ":", "nosuch", "all", "-", ""]
)
_ADDRESSES = some.sampled_from([*ADDRESSES_4[:6], *ADDRESSES_6[:6], *VIAS_4[:6], *VIAS_6[:6], *NONSENSE])
_ODD = some.sampled_from(
    ["", "-", "--", "-1", "0", "1", "9" * 30, "0x10", "1e9", "\u0000", "\u001b[2J", "\ud800", "\udcff", "ž" * 50,
     "a" * 3000, "running", "+state", "id,ip", "%s%n", "../../x", "/dev/null", "busybox", "4", "6", "default", "true"]
)  # fmt: skip
_WORD = some.one_of(_NAMES, _NAMES, _ADDRESSES, _ODD, some.text(max_size=8))
_NUMBERS = some.sampled_from([0, 1, -1, 4, 6, 1280, 1500, 65535, 2**31, 2**63, 2**64, 10**40, 1.5, 1e308])
_PLAIN = some.one_of(_WORD, _NUMBERS, some.booleans(), some.none())
_VALUE = some.one_of(
    *(_PLAIN, _PLAIN, some.lists(_WORD, max_size=4), some.lists(_PLAIN, max_size=3)),
    some.dictionaries(_WORD, _PLAIN, max_size=2),
)  # fmt: skip


#: What makes sense for an argument or key of such a name, so that most requests get past the first look at them.
_SENSIBLE: dict[str, some.SearchStrategy[Any]] = {
    **dict.fromkeys(("container", "id", "containers", "ids"), some.sampled_from(["web", "web", "web", "db", "new"])),
    **dict.fromkeys(("netif", "name", "to_netif", "names"), some.sampled_from(["eth0", "eth0", "eth0", "eth1"])),
    **dict.fromkeys(
        ("address", "addresses", "addr", "networks", "network", "via", "before", "route_as", "host_addr", "ct_addr"),
        _ADDRESSES,
    ),
    **dict.fromkeys(("mtu", "wait", "timeout", "version", "ip_version"), some.sampled_from([4, 6, 1, 0, 1400])),
    "states": some.sampled_from(["running", "stopped"]),
    "distribution": some.just("busybox"),
    "type": some.just("routed"),
    "command": some.sampled_from(["true", "false"]),
    "cmd": some.sampled_from(["true", "false"]),
}


def _sensible(name: str, otherwise: some.SearchStrategy[Any]) -> some.SearchStrategy[Any]:
    """Five times of six what makes sense, where that is known."""
    known = _SENSIBLE.get(name)
    return otherwise if known is None else some.one_of(known, known, known, known, known, otherwise)


@some.composite
def argument_vectors(draw: some.DrawFn) -> list[str]:
    """The words of a command and of its arguments and options, some of them left out, doubled or out of place."""
    kind: type[Command] = draw(some.sampled_from(tuple(commands().values())))
    declared = signature(kind)
    words = list(kind.words)
    for each in declared.arguments:
        word = _sensible(each.field, _WORD).map(str)
        words += draw(some.lists(word, min_size=1, max_size=3)) if each.is_tuple else [draw(word)]
    for each in declared.options:
        if draw(some.integers(0, 3)) == 0:
            words += _spelled(draw, each)
    if draw(some.integers(0, 5)) == 0:
        words.insert(draw(some.integers(0, len(words))), draw(some.sampled_from(_GLOBAL)))
    return draw(_bent(words))


def _spelled(draw: some.DrawFn, parameter: Parameter) -> list[str]:
    declaration = parameter.declaration
    name = draw(some.sampled_from(declaration.names))  # type: ignore[union-attr]
    if not isinstance(declaration, Option):
        return [name]
    known = some.sampled_from([*declaration.choices, *declaration.keywords, "1"])
    value = str(draw(_sensible(parameter.field, some.one_of(_WORD, known))))
    return [f"{name}={value}"] if draw(some.booleans()) else [name, value]


@some.composite
def _bent(draw: some.DrawFn, words: list[str]) -> list[str]:
    words = list(words)
    match draw(some.integers(0, 15)):
        case 0 if words:
            del words[draw(some.integers(0, len(words) - 1))]
        case 1 if words:
            words.insert(draw(some.integers(0, len(words))), draw(_WORD))
        case 2 if words:
            words[draw(some.integers(0, len(words) - 1))] = draw(_WORD)
        case 3:
            words.reverse()
        case 4:
            words.insert(0, draw(some.sampled_from(["--complete", "help", *_GLOBAL])))
    return words


#: Keys whose value is a list.
_LISTS = ("containers", "ids", "names", "addresses", "networks", "states", "command", "cmd")


@some.composite
def typed_requests(draw: some.DrawFn) -> dict[str, Any]:
    """A request of ours or of the original's, its keys mostly its own, their values often of another type."""
    name = draw(some.sampled_from(tuple(_KINDS)))
    fields = _KINDS[name].__struct_fields__
    opts: dict[str, Any] = {}
    for each in fields:
        if draw(some.integers(0, 3)) == 0 and each not in ("container", "id", "netif", "name"):
            continue
        value = draw(_sensible(each, _VALUE))
        opts[each] = [value] if each in _LISTS and draw(some.integers(0, 9)) else value
    if draw(some.integers(0, 5)) == 0:
        opts[draw(some.sampled_from(["dry_run", "cli", "pool", "extra", "", "id", "container"]))] = draw(_VALUE)
    asked: dict[str, Any] = {"cmd": name, "opts": opts}
    if draw(some.integers(0, 9)) == 0:
        asked[draw(some.sampled_from(["cmd", "opts", "more"]))] = draw(_VALUE)
    return asked


def _command_line(words: list[str]) -> dict[str, Any]:
    return {"cmd": "cli", "opts": {"argv": words, "columns": 80}}


_DOCUMENTS = some.recursive(
    _PLAIN, lambda inner: some.lists(inner, max_size=4) | some.dictionaries(some.text(max_size=5), inner, max_size=4)
)
_SIGNALS = some.integers(-1, 70).map(lambda number: {"signal": number})
_HUGE = some.sampled_from(
    [b"[" * 5000, b'{"cmd":' * 2000, b'{"cmd":"cli","opts":{"argv":[' + b'"x",' * 50_000 + b'"x"]}}', b"9" * 100_000,
     b'{"cmd":"self_ping","opts":{"a":' + b"[" * 500 + b"]" * 500 + b"}}", b'{"cmd":"cli","cmd":"ct_ls","opts":{}}',
     b'{"cmd":"ct_ls","opts":NaN}', b"\xef\xbb\xbf{}", b'{"cmd":"\\ud800"}', b'"\\u0000"', b"\x00" * 1000]
)  # fmt: skip


def _line(document: Any) -> bytes:
    return json.dumps(document).encode()


@some.composite
def _broken(draw: some.DrawFn, whole: some.SearchStrategy[bytes]) -> bytes:
    """A line with some bytes of it changed, or its end cut off."""
    line = bytearray(draw(whole))
    for _ in range(draw(some.integers(0, 3))):
        line[draw(some.integers(0, len(line) - 1))] = draw(some.integers(0, 255))
    return bytes(line[: draw(some.integers(1, len(line)))]) if draw(some.booleans()) else bytes(line)


_RIGHT = some.one_of(argument_vectors().map(_command_line).map(_line), typed_requests().map(_line))


@some.composite
def lines(draw: some.DrawFn) -> bytes:
    """What somebody may send as one line: two of three are nearly right."""
    others = (_broken(_RIGHT), _DOCUMENTS.map(_line), _SIGNALS.map(_line), some.binary(max_size=80), _HUGE)
    kind = draw(some.integers(0, 3 * len(others) - 1))
    line = draw(others[kind] if kind < len(others) else _RIGHT)
    return line.replace(b"\n", b" ") or b" "


def client_arguments() -> some.SearchStrategy[list[bytes]]:
    """Argument vectors for the client itself: what a process can be given."""
    words = some.one_of(argument_vectors(), some.lists(_WORD | some.just("--socket"), max_size=4))
    return words.map(lambda each: [_as_argument(word) for word in each])


def _as_argument(word: str) -> bytes:
    return word.encode("utf-8", "surrogatepass").replace(b"\0", b"")
