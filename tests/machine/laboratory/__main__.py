"""What `./dev machine` does with its arguments."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from machine.laboratory import checkout
from machine.laboratory.console import talk_to
from machine.laboratory.machine import KINDS, machines_of
from machine.laboratory.places import the_only_laboratory
from machine.laboratory.releases import USUAL, in_turn, release_named

USAGE = """\
usage: ./dev machine [RELEASE...] [ARGS...]        all machine tests, or those that ARGS to pytest choose
       ./dev machine --ci                          CI's part of them, on the release whose turn it is today
       ./dev machine shell [RELEASE [KIND]]        a console of a machine: installed (the default), prepared or bare
       ./dev machine shell FOLDER                  a console of what a failed test left there
"""


def shell(arguments: list[str]) -> int:
    named = arguments[0] if arguments else in_turn().name
    with the_only_laboratory():
        if "/" in named:
            kept = Path(named)
            if not (kept / "release").is_file():
                raise ValueError(f"no failed test left anything in {named!r}")
            with machines_of(release_named((kept / "release").read_text().strip())) as machines:
                talk_to(machines.again(kept))
        else:
            kind = arguments[1] if len(arguments) > 1 else "installed"
            if kind not in KINDS:
                raise ValueError(f"no kind of machine {kind!r}; there are {', '.join(KINDS)}")
            with machines_of(release_named(named)) as machines:
                talk_to(machines.start(kind))
    return 0


def test(arguments: list[str]) -> int:
    releases = []
    while arguments and not arguments[0].startswith("-") and "/" not in arguments[0]:
        releases.append(release_named(arguments.pop(0)).name)
    is_in_ci = arguments[:1] == ["--ci"]
    if is_in_ci:
        arguments[:1] = ["--full", "--in-ci"]
        releases = releases or [in_turn().name]
        print(f"machine tests of CI, on {', '.join(releases)}, whose turn it is", flush=True)
    elif not arguments:
        arguments = ["--full"]
    options = [f"--release={each}" for each in releases or USUAL]
    paths = [] if any("/" in each for each in arguments if not each.startswith("-")) else ["tests/machine"]
    argv = [sys.executable, "-m", "pytest", "-n", "0", *options, *paths, *arguments]
    os.chdir(checkout.ROOT)
    os.execv(argv[0], argv)


def main() -> int:
    arguments = sys.argv[1:]
    if arguments[:1] in (["help"], ["-h"], ["--help"]):
        print(USAGE, end="")
        return 0
    try:
        if arguments[:1] == ["shell"]:
            return shell(arguments[1:])
        return test(arguments)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
