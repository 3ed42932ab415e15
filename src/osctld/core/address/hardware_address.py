"""MAC addresses that people choose, whole or in part."""

from __future__ import annotations

import hashlib
import re

from osctld.core.errors import Refused

_PATTERN = re.compile(r"(?:[0-9a-fx]{2}:){5}[0-9a-fx]{2}", re.ASCII)


def complete_mac(pattern: str, *, interface_uuid: str) -> str:
    """Read `02:ab:cd:xx:xx:xx`, each `x` a hexadecimal digit of no matter.

    Those derive from the interface's UUID, so that the address is the same at every start and in a dry run. Where
    the second digit is free, the address is a unicast and locally administered one (IEEE 802: bits 1 and 2 of the
    first octet). Raises Refused, quoting the pattern, for anything else than a unicast address.
    """
    text = pattern.lower()
    if not _PATTERN.fullmatch(text):
        raise _refused(pattern, "is not a MAC address, expected six hexadecimal octets such as 02:xx:xx:xx:xx:01")
    # One digest digit for each digit of the address, at the same place.
    free = hashlib.sha256(f"{interface_uuid}:{text}".encode()).hexdigest()
    digits = [chosen if digit == "x" else digit for digit, chosen in zip(text, free, strict=False)]
    if text[1] == "x":
        digits[1] = f"{int(digits[1], 16) & 0b1100 | 0b0010:x}"
    mac = "".join(digits)
    if int(mac[:2], 16) & 1:
        raise _refused(pattern, "is a multicast address: the first octet must be even")
    if set(mac) <= set("0:"):
        raise _refused(pattern, "is not a valid interface address")
    return mac


def _refused(pattern: str, why: str) -> Refused:
    return Refused(f"{pattern!r} {why}", code="bad-hwaddr", subject=pattern)
