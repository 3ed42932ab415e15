"""Programs that the daemon executes, and Debian's package of each."""

from __future__ import annotations

from osctld.core.errors import Unavailable

#: Those without which no container is made, started or entered. What cat and rm are in (coreutils) no Debian lacks.
NEEDED = {
    "lxc-start": "lxc",
    "lxc-attach": "lxc",
    "unshare": "util-linux",
    "setsid": "util-linux",
    "tar": "tar",
}

#: Those that read what tar hands to them, by its options.
DECOMPRESSORS = {
    "gzip": "gzip",
    "xz": "xz-utils",
    "zstd": "zstd",
    "bzip2": "bzip2",
}

PACKAGES = {
    **NEEDED,
    **DECOMPRESSORS,
    "busybox": "busybox-static",
    "apparmor_parser": "apparmor",
    "cat": "coreutils",
    "rm": "coreutils",
}


def missing(program: str, *, why: str = "", subject: str = "") -> Unavailable:
    """The error for a program that is not installed. `why` says what needs it."""
    return Unavailable(
        f"{f'{why}; ' if why else ''}program {program!r} is missing; install {PACKAGES.get(program, program)}",
        code="program-missing",
        subject=subject,
    )
