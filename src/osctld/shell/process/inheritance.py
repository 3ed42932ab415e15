"""What the daemon has and its children must not inherit: guests have to be as if started manually.

A child inherits its parent's limits and its place in the order in which the kernel kills when memory ends. The daemon
holds several descriptors for each container, and must not be what dies first; a guest, an archive being unpacked or a
command inside has no such claim.
"""

from __future__ import annotations

import resource
from pathlib import Path

#: What the kernel gives everybody (INR_OPEN_CUR in linux/include/uapi/linux/fs.h), and programs that use select(2)
#: rely on.
USUAL_DESCRIPTORS = 1024
SCORE = Path("/proc/self/oom_score_adj")
_USUAL_SCORE = 0
#: A shell of a millisecond, rather than a function between fork and exec: that would copy the daemon's page tables.
_RESET = 'ulimit -S -n "$1" && echo "$2" >/proc/self/oom_score_adj && shift 2 && exec "$@"'


def take_all_descriptors() -> None:
    """Raise this process's soft limit of descriptors to the hard one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def as_others(*command: str) -> tuple[str, ...]:
    """The words that execute a command with the limits and the score that everybody has."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    score = int(SCORE.read_text(encoding="ascii"))
    if soft <= USUAL_DESCRIPTORS and score >= _USUAL_SCORE:
        return command
    descriptors = min(soft, USUAL_DESCRIPTORS)
    return ("/bin/sh", "-c", _RESET, "sh", str(descriptors), str(max(score, _USUAL_SCORE)), *command)
