"""An authority on addresses that is another process, behind a Unix socket: a line of JSON asked, one answered.

    {"ask": "claim", "host": UUID, "reserve": BOOL, "holdings": [HOLDING]}
        {"granted": {"reservation": NAME, "epoch": N}}    or {"held": {"network": NETWORK, "holder": TEXT}}
    {"ask": "keep" | "give-back", "host": UUID, "reservation": NAME}    {"done": true}
    {"ask": "release", "host": UUID, "holdings": [HOLDING]}             {"done": true}
    {"ask": "settle", "host": UUID, "holdings": [HOLDING]}              {"done": true, "lost": [HOLDING]}

HOLDING: {"network": NETWORK, "kind": "via" | "route" | "address", "holder": UUID, "container": UUID, "label": TEXT},
and of an address on a bridge of the host "link": NAME; it is used there, and not routed by the host.
Instead of any answer {"error": TEXT} says that it cannot answer now.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection
from typing import Any

from osctld.core.authority.authority import Need, Reservation
from osctld.core.errors import Conflict, Unavailable

_LONGEST_LINE = 1 << 26


class RemoteAuthority:
    def __init__(self, socket: str, *, host_uuid: str, timeout_seconds: float) -> None:
        self._socket = socket
        self._host = host_uuid
        self._timeout = timeout_seconds

    async def claim(self, needs: Collection[Need], /, *, reserves: bool) -> Reservation | None:
        answer = await self._ask("claim", reserve=reserves, holdings=_holdings(needs))
        held = answer.get("held")
        if held is not None:
            network, holder = str(held.get("network", "")), str(held.get("holder", ""))
            raise Conflict(f"{network}: held by {holder}", code="address-held", subject=network, holder=holder)
        granted = answer.get("granted")
        if not isinstance(granted, dict):
            raise self._unavailable("unexpected answer")
        if not reserves:
            return None
        return Reservation(str(granted.get("reservation", "")), int(granted.get("epoch", 1)))

    async def keep(self, reservation: Reservation, /) -> None:
        await self._ask("keep", reservation=reservation.name)

    async def give_back(self, reservation: Reservation, /) -> None:
        await self._ask("give-back", reservation=reservation.name)

    async def release(self, needs: Collection[Need], /) -> None:
        await self._ask("release", holdings=_holdings(needs))

    async def settle(self, needs: Collection[Need], /) -> Collection[Need]:
        answer = await self._ask("settle", holdings=_holdings(needs))
        lost = {(str(each.get("network")), str(each.get("holder"))) for each in answer.get("lost", ())}
        return [each for each in needs if (str(each.network), each.holder.uuid) in lost]

    async def _ask(self, what: str, **opts: Any) -> dict[str, Any]:
        line = json.dumps({"ask": what, "host": self._host, **opts}).encode() + b"\n"
        try:
            async with asyncio.timeout(self._timeout):
                reader, writer = await asyncio.open_unix_connection(self._socket, limit=_LONGEST_LINE)
                try:
                    writer.write(line)
                    await writer.drain()
                    answer = json.loads(await reader.readline() or b"null")
                finally:
                    writer.close()
        except TimeoutError:
            raise self._unavailable(f"no answer within {self._timeout:g} s") from None
        except OSError as error:
            raise self._unavailable(error.strerror or str(error)) from error
        except ValueError as error:  # no JSON, or a line without end
            raise self._unavailable("the answer is not JSON") from error
        if not isinstance(answer, dict):
            raise self._unavailable("the connection was closed without an answer")
        if "error" in answer:
            raise self._unavailable(str(answer["error"]))
        return answer

    def _unavailable(self, why: str) -> Unavailable:
        return Unavailable(f"the authority on addresses at {self._socket}: {why}", code="authority-away")


def _holdings(needs: Collection[Need]) -> list[dict[str, str]]:
    return [
        {
            "network": str(each.network),
            "kind": each.kind.value,
            "holder": each.holder.uuid,
            "container": each.holder.container_uuid,
            "label": str(each.holder),
            **({"link": each.link} if each.link else {}),
        }
        for each in needs
    ]
