"""A terminal for tests: its keyboard and screen, and the side that a program has."""

from __future__ import annotations

import fcntl
import os
import struct
import termios
from types import TracebackType
from typing import Self


class Terminal:
    """`program` is the descriptor that a program has as its standard streams."""

    def __init__(self, *, rows: int = 24, columns: int = 80) -> None:
        self._master, self.program = os.openpty()
        os.set_blocking(self._master, False)
        self._seen = b""
        self.resize(rows, columns)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for descriptor in (self._master, self.program):
            if descriptor >= 0:
                os.close(descriptor)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def shown(self) -> bytes:
        """All that was sent to it so far."""
        try:
            while piece := os.read(self._master, 1 << 16):
                self._seen += piece
        except OSError:  # nothing more for now, or for ever
            pass
        return self._seen

    def screen(self) -> str:
        """All that can be read on it so far."""
        return self.shown().decode(errors="replace").replace("\r", "")

    def hang_up(self) -> None:
        os.close(self._master)
        self._master = -1

    @property
    def is_raw(self) -> bool:
        return not termios.tcgetattr(self.program)[3] & (termios.ICANON | termios.ECHO)
