"""What can go wrong, sorted by who can fix it.

    OsctlError
    ├── UsageError      the words of the command line make no sense         exit 64
    ├── Refused         the request makes no sense for this configuration   exit 1
    │   └── Conflict    something else holds what was asked for             exit 1
    ├── Denied          not for this user                                   exit 77
    ├── Unavailable     not now: try again                                  exit 1
    └── ApplyFailed     the kernel or the engine said no, in its own words  exit 1

Every message is one line that quotes what the person gave and names the cause. `code` is stable and meant for
programs; `subject` is the thing the request was about; `holder` is who has it already.
"""

from __future__ import annotations

from typing import ClassVar, Self


class OsctlError(Exception):
    """Base of everything that osctld answers to a person instead of logging a traceback."""

    exit_status: ClassVar[int] = 1
    default_code: ClassVar[str] = "failed"

    def __init__(self, message: str, *, code: str = "", subject: str = "", holder: str = "") -> None:
        super().__init__(" ".join(message.split("\n")))
        self.code = code or self.default_code
        self.subject = subject
        self.holder = holder

    @property
    def message(self) -> str:
        return str(self.args[0])

    def quoting(self, typed: str) -> Self:
        """The same error, with what a person typed in front where the message has it in another spelling only."""
        if typed in self.message:
            return self
        subject, colon, rest = self.message.partition(": ")
        is_same_without_length = colon and typed.startswith(f"{subject}/")
        text = f"{typed}: {rest if is_same_without_length else self.message}"
        return type(self)(text, code=self.code, subject=self.subject, holder=self.holder)

    def suggesting(self, suggestion: str) -> Self:
        """The same error, followed by what to ask for instead."""
        text = f"{self.message}; {suggestion}"
        return type(self)(text, code=self.code, subject=self.subject, holder=self.holder)


class UsageError(OsctlError):
    """Unknown command or option, missing or surplus argument, a value of the wrong type."""

    exit_status = 64  # EX_USAGE of sysexits.h
    default_code = "usage"


class Refused(OsctlError):
    """The request makes no sense for the present configuration; nothing was changed."""

    default_code = "refused"


class Conflict(Refused):
    """Another interface, or the host itself, holds what was asked for; nothing was changed."""

    default_code = "conflict"


class Denied(OsctlError):
    """Whoever asks may not have this done; nothing was changed."""

    exit_status = 77  # EX_NOPERM of sysexits.h
    default_code = "permission-denied"


class Unavailable(OsctlError):
    """Something needed is away for now; nothing was changed and trying again may work."""

    default_code = "unavailable"


class ApplyFailed(OsctlError):
    """The kernel, the engine or the disk refused a step; completed steps were undone, unless it was a repair."""

    default_code = "apply-failed"
