"""What the machine looks like from outside: everything that a test could leave behind."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from patience import Patience

#: Section to lines, each one thing that exists.
Snapshot: TypeAlias = Mapping[str, frozenset[str]]

#: Several test runs on one machine, each with its own containers: then these say nothing about this one.
SECTIONS_OF_THE_WHOLE_MACHINE = ("processes", "cgroups", "network namespaces", "mounts", "files")


def _batch(option: str, *questions: str) -> str:
    """One process for several questions."""
    text = "\n".join(questions)
    return f"echo '{text}' | ip -force -json {option} -batch -"


_SEPARATOR = "--next--"
# A process for each question would be most of what a look costs, and there is a look after each test.
_COMMANDS = {
    "links and neighbours": _batch("-details", "addr show", "neigh show nud permanent", "neigh show proxy"),
    "IPv4 routes and rules": _batch("-4", "route show table all", "rule show"),
    "IPv6 routes and rules": _batch("-6", "route show table all", "rule show"),
    "firewall": "nft --stateless list ruleset",
    "sysctls": "cd /proc/sys/net && grep -s . ipv4/ip_forward ipv6/conf/all/forwarding ipv4/conf/all/rp_filter",
}
_SCRIPT = f"; echo {_SEPARATOR}; ".join(f"{{ {command}; }} 2>/dev/null" for command in _COMMANDS.values())
#: What changes by itself: remaining life times of leases, counters, ages.
VOLATILE = frozenset(
    ("valid_life_time", "preferred_life_time", "expires", "stats", "stats64", "cache", "used", "updated", "confirmed")
)
_PROCESSES = re.compile(r"lxc|osctld|unshare|nsenter|tcpdump|bird|zebra|bgpd|ospf6?d|watchfrr")
_DIRECTORIES = (Path("/run/osctl"), Path("/var/lib/osctl"), Path("/etc/osctl"))

# The namespace in which the tests were started, whichever the test's thread is in by now.
_START = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def take_snapshot(*, is_machine_shared: bool = False) -> Snapshot:
    """Look at the machine; about 30 ms."""
    result = dict(_network())
    if not is_machine_shared:
        result["processes"] = _processes()
        result["cgroups"] = _cgroups()
        result["network namespaces"] = frozenset(_names("/run/netns"))
        result["mounts"] = _mounts()
        result["files"] = _files()
    return result


def differences(before: Snapshot, after: Snapshot) -> list[str]:
    """One line for each thing that came or went."""
    return [
        f"{section}: {sign} {line}"
        for section in before
        for sign, lines in (
            ("left behind", after[section] - before[section]),
            ("gone", before[section] - after[section]),
        )
        for line in sorted(lines)
    ]


def settled_differences(before: Snapshot, take: Callable[[], Snapshot], *, seconds: float = 5.0) -> list[str]:
    """The differences that stay: a dying process or namespace takes the kernel some milliseconds."""
    patience = Patience(seconds)
    while found := differences(before, take()):
        if patience.is_over:
            return found
        time.sleep(0.05)
    return []


def _network() -> Mapping[str, frozenset[str]]:
    output = subprocess.run(
        ["nsenter", f"--net=/proc/self/fd/{_START}", "sh", "-c", _SCRIPT],
        stdout=subprocess.PIPE,
        pass_fds=[_START],
        check=False,  # without privileges, or without nft, that section is empty each time
        text=True,
        timeout=30,
    ).stdout
    parts = output.split(_SEPARATOR)
    return {name: frozenset(_lines(part)) for name, part in zip(_COMMANDS, parts, strict=False)}


def _lines(text: str) -> list[str]:
    """Lines of plain text; of JSON, one line for each object in it."""
    found: list[str] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        if line.startswith("[{"):
            found.extend(json.dumps(without(VOLATILE, each), sort_keys=True) for each in json.loads(line))
        else:
            found.append(line)
    return found


def without(keys: frozenset[str], value: Any) -> Any:
    """The same data without these keys, at any depth."""
    match value:
        case dict():
            return {key: without(keys, each) for key, each in value.items() if key not in keys}
        case list():
            return [without(keys, each) for each in value]
        case _:
            return value


def _processes() -> frozenset[str]:
    """Command lines, each with its count: a daemon that the test itself started anew is the same to the machine."""
    found: Counter[str] = Counter()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            name, _, fields = Path("/proc", pid, "stat").read_text().partition("(")[2].rpartition(") ")
            if fields.startswith("Z"):  # ended; its parent has not looked yet
                continue
            line = Path("/proc", pid, "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if _PROCESSES.match(name) or line.startswith("[lxc monitor]"):
            found[line or name] += 1
    return frozenset(f"{line} ({number})" for line, count in found.items() for number in range(1, count + 1))


def cgroup_places() -> set[Path]:
    """Where LXC makes cgroups: at the top of each hierarchy, or in the cgroup that these tests run in."""
    top = Path("/sys/fs/cgroup")
    own = {line.split(":", 2)[2].strip("/\n") for line in Path("/proc/self/cgroup").read_text().splitlines()}
    hierarchies = [top, *(each for each in top.iterdir() if each.is_dir())] if top.is_dir() else []
    return {hierarchy / each for hierarchy in hierarchies for each in {"", *own}}


def _cgroups() -> frozenset[str]:
    return frozenset(str(each) for place in cgroup_places() for each in place.glob("lxc*"))


def _mounts() -> frozenset[str]:
    found = set()
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        kind = fields[fields.index("-") + 1]
        # `ip netns add` makes /run/netns a mount the first time, for good; the names below are a section of their own.
        if not fields[4].startswith(("/run/netns", "/var/run/netns")):
            found.add(f"{fields[4]} {kind}")
    return frozenset(found)


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except FileNotFoundError:
        return []


def _files() -> frozenset[str]:
    return frozenset(
        os.path.join(parent, name)
        for directory in _DIRECTORIES
        for parent, directories, files in os.walk(directory)
        for name in (*directories, *files)
    )
