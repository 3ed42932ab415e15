"""Who may run what: root and one group everything, another group commands that only look.

The kind of a command says whether it looks (`Command.looks`): there is no list here, and one that nobody thought about
is not for readers.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum

import msgspec

from osctld.core.command import Command
from osctld.core.errors import Denied

_ROOT = 0


class Role(Enum):
    """What a client may do."""

    NOBODY = "nobody"
    READER = "reader"
    OPERATOR = "operator"


class Access(msgspec.Struct, frozen=True):
    """The groups, by number, whose members may connect; None: no group. Root may, and who the daemon runs as."""

    operators: int | None = None
    readers: int | None = None
    daemon_user: int = _ROOT

    def role(self, *, user: int, groups: Collection[int]) -> Role:
        """The role of a process with this user id, and with these group ids: its own and the supplementary ones."""
        if user in (_ROOT, self.daemon_user) or self.operators in groups:
            return Role.OPERATOR
        if self.readers in groups:
            return Role.READER
        return Role.NOBODY

    @property
    def mode(self) -> int:
        """The mode of the socket's file: as narrow as says who may connect. A file has one group, so that for two of
        them it is open, and the daemon alone decides."""
        groups = {self.operators, self.readers} - {None}
        return {0: 0o600, 1: 0o660}.get(len(groups), 0o666)

    @property
    def group(self) -> int | None:
        """The group of the socket's file; None: it does not matter."""
        groups = {self.operators, self.readers} - {None}
        return groups.pop() if len(groups) == 1 else None


def check_may(role: Role, command: Command) -> None:
    """Raise Denied unless somebody of this role may have the command performed."""
    if role is Role.OPERATOR or (role is Role.READER and command.looks):
        return
    words = " ".join(command.words)
    raise Denied(f"permission denied: {words!r} is not available to members of the read-only group", subject=words)
