"""The program osctld. It sees to its memory before anything else is loaded; `service` does the rest."""

from __future__ import annotations

import ctypes
import sys

# asyncio and hashlib load OpenSSL where they find it: 5 MB resident for what nobody here uses. Both do without.
sys.modules["ssl"] = None  # type: ignore[assignment]
sys.modules["_hashlib"] = None  # type: ignore[assignment]

# M_ARENA_MAX (glibc, malloc.h): threads come and go here, and each would leave an arena of its own behind.
ctypes.CDLL(None).mallopt(-8, 1)

try:
    from osctld.service import main
except ImportError as error:
    # The one package that is compiled is so for one version of Python, and distributions go on to the next.
    here = f"Python {sys.version_info[0]}.{sys.version_info[1]}"
    sys.exit(f"error: {error}; was osctld installed for another Python than this, {here}? Install it again")

if __name__ == "__main__":
    sys.exit(main())
