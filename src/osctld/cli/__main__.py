"""What osctl runs when no daemon answers: the same parser says what is wrong with the words, or shows help.

    python -m osctld.cli [--unavailable STATUS MESSAGE] ARGV...

When there is nothing wrong with the words, MESSAGE is the error, with that exit status.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence

from osctld.cli.help import USUAL_COLUMNS
from osctld.cli.interpret import error_line, interpret
from osctld.core.errors import Unavailable
from osctld.core.wire import CliResponse

_EX_UNAVAILABLE, _EX_NOPERM = 69, 77  # sysexits.h
_BROKEN_PIPE = 128 + 13  # as a shell reports a process that SIGPIPE ended


def answer(argv: Sequence[str], *, columns: int) -> CliResponse:
    """The whole answer to the words above."""
    status, message = _EX_UNAVAILABLE, "osctld was not contacted"
    if argv[:1] == ["--unavailable"]:
        status, message, argv = int(argv[1]), argv[2], argv[3:]
    interpreted = interpret(argv, columns=columns)
    if isinstance(interpreted, CliResponse):
        return interpreted
    error = Unavailable(message, code="not-permitted" if status == _EX_NOPERM else "no-daemon")
    return CliResponse(stderr=error_line(error, is_json=interpreted.options.json), exit=status)


def main() -> int:
    response = answer(sys.argv[1:], columns=shutil.get_terminal_size((USUAL_COLUMNS, 24)).columns)
    try:
        sys.stderr.write(response.stderr)
        sys.stdout.write(response.stdout)
        sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter would try again at its end, and complain.
        sys.stdout = None
        return _BROKEN_PIPE
    return response.exit


if __name__ == "__main__":
    sys.exit(main())
