"""nftables through libnftables in our own process: the maintained engine, and no fork.

Commands and answers are those of nft(8) and libnftables-json(5). The library waits for its socket by select(2), and is
ended with the whole process by the C library when that has a number of 1024 or more: a context has to be made before
descriptors are many, and kept.
"""

from __future__ import annotations

import ctypes
import json
import threading
from typing import Any

from osctld.core.errors import Unavailable

LIBRARY = "libnftables.so.1"
#: nftables/include/nftables/libnftables.h
_JSON_OUTPUT = 1 << 4
_TERSE_OUTPUT = 1 << 11


class Nftables:
    """One context of the library, which is not made for several threads at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._library = _load()
        self._context: int = 0
        if self._library is not None:
            self._context = self._library.nft_ctx_new(0)
            self._library.nft_ctx_buffer_output(self._context)
            self._library.nft_ctx_buffer_error(self._context)

    def close(self) -> None:
        """Give back the library's memory, and its socket, which would keep a network namespace alive."""
        with self._lock:
            if self._library is not None:
                self._library.nft_ctx_free(self._context)
                self._library = None

    def run(self, command: str) -> str | None:
        """Perform commands as one transaction: None, or the first line of what nft says against it."""
        with self._lock:
            status, _, error = self._run(command, flags=0)
        if status == 0:
            return None
        return _first_line(error, status)

    def list(self, command: str, *, terse: bool = False) -> list[dict[str, Any]] | None:
        """List something as JSON objects, without the elements of sets when terse; None if there is none.

        Raises Unavailable if nft fails.
        """
        with self._lock:
            status, output, error = self._run(command, flags=_JSON_OUTPUT | (_TERSE_OUTPUT if terse else 0))
        if status != 0:
            if "No such file or directory" in error:
                return None
            raise Unavailable(f"nft {command}: {_first_line(error, status)}", code="nftables-unreadable")
        listed: list[dict[str, Any]] = json.loads(output)["nftables"]
        return listed

    def _run(self, command: str, *, flags: int) -> tuple[int, str, str]:
        library = self._library
        if library is None:
            raise Unavailable(f"{LIBRARY} is missing; install nftables", code="no-nftables")
        library.nft_ctx_output_set_flags(self._context, flags)
        status = library.nft_run_cmd_from_buffer(self._context, command.encode())
        output = library.nft_ctx_get_output_buffer(self._context) or b""
        error = library.nft_ctx_get_error_buffer(self._context) or b""
        return status, output.decode(), error.decode()


def _load() -> ctypes.CDLL | None:
    """The library; None if it is not installed, which is reported when it is needed."""
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError:
        return None
    library.nft_ctx_new.restype = ctypes.c_void_p
    library.nft_ctx_new.argtypes = [ctypes.c_uint32]
    library.nft_ctx_free.argtypes = [ctypes.c_void_p]
    library.nft_ctx_buffer_output.argtypes = library.nft_ctx_buffer_error.argtypes = [ctypes.c_void_p]
    library.nft_ctx_output_set_flags.argtypes = [ctypes.c_void_p, ctypes.c_uint]
    library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    for each in (library.nft_ctx_get_output_buffer, library.nft_ctx_get_error_buffer):
        each.restype = ctypes.c_char_p
        each.argtypes = [ctypes.c_void_p]
    return library


def _first_line(error: str, status: int) -> str:
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    return lines[0] if lines else f"nft failed with status {status}"
