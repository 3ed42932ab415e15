"""The program osctld. It sees to its memory before anything else is loaded; `service` does the rest."""

from __future__ import annotations

import ctypes
import sys

# asyncio and hashlib load OpenSSL if they find it: 5 MB resident that is not used here. Both work without it.
sys.modules["ssl"] = None  # type: ignore[assignment]
sys.modules["_hashlib"] = None  # type: ignore[assignment]

# M_ARENA_MAX (glibc, malloc.h): threads come and go here, and each would leave an arena of its own behind.
ctypes.CDLL(None).mallopt(-8, 1)

try:
    from osctld.service import main
except ImportError as error:
    # The one compiled package is compiled for one version of Python, and distributions upgrade Python.
    here = f"Python {sys.version_info[0]}.{sys.version_info[1]}"
    sys.exit(f"error: {error}; if osctld was installed for a Python other than this {here}, install it again")

if __name__ == "__main__":
    sys.exit(main())
