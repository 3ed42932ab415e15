"""An authority on addresses for tests: a process of its own that does what a file says, and writes down what it hears.

    python authority_process.py SOCKET STATE LOG

STATE, read at each question: {"delay": {NETWORK or "": SECONDS}, "held": {NETWORK: HOLDER}, "error": TEXT,
"lost": [NETWORK], "epoch": NUMBER of what is granted, "kill": PID that is killed after a claim was reserved and before
it is answered}.
LOG: a line of JSON for each question when it is answered, with what is reserved and held after it; LOG.asked: one when
it is asked.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any


class Authority:
    def __init__(self, state: Path, log: Path) -> None:
        self._state = state
        self._log = log
        #: Networks with the UUIDs of their holders.
        self._reserved: dict[str, set[tuple[str, str]]] = {}
        self._held: set[tuple[str, str]] = set()
        self._number = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        question = json.loads(await reader.readline())
        wanted: dict[str, Any] = json.loads(self._state.read_text())
        networks = [each["network"] for each in question.get("holdings", ())]
        with self._log.with_suffix(".asked").open("a") as asked:
            asked.write(json.dumps({"ask": question["ask"], "networks": sorted(networks)}) + "\n")
        delays = wanted.get("delay", {})
        await asyncio.sleep(max([delays.get("", 0), *(delays.get(each, 0) for each in networks)]))
        answer = {"error": wanted["error"]} if wanted.get("error") else self._answer(question, networks, wanted)
        reserved = [each for those in self._reserved.values() for each, _ in those]
        about = {"reserved": sorted(reserved), "held": sorted(each for each, _ in self._held)}
        with self._log.open("a") as log:
            log.write(json.dumps({**question, "networks": sorted(networks), **about}) + "\n")
        if question["ask"] == "claim" and wanted.get("kill"):
            os.kill(wanted["kill"], signal.SIGKILL)
        writer.write(json.dumps(answer).encode() + b"\n")
        await writer.drain()
        writer.close()

    def _answer(self, question: dict[str, Any], networks: list[str], wanted: dict[str, Any]) -> dict[str, Any]:
        holdings = {(each["network"], each["holder"]) for each in question.get("holdings", ())}
        match question["ask"]:
            case "claim":
                for each in networks:
                    if each in wanted.get("held", {}):
                        return {"held": {"network": each, "holder": wanted["held"][each]}}
                self._number += 1
                name = f"r{self._number}"
                if question["reserve"]:
                    self._reserved[name] = holdings
                return {"granted": {"reservation": name, "epoch": wanted.get("epoch", self._number)}}
            case "keep":
                self._held.update(self._reserved.pop(question["reservation"], set()))
            case "give-back":
                self._reserved.pop(question["reservation"], None)
            case "release":
                self._held -= holdings
            case "settle":
                self._reserved.clear()
                lost = wanted.get("lost", [])
                self._held = {each for each in holdings if each[0] not in lost}
                return {"done": True, "lost": [each for each in question["holdings"] if each["network"] in lost]}
        return {"done": True}


async def main() -> None:
    socket, state, log = sys.argv[1:]
    authority = Authority(Path(state), Path(log))
    Path(socket).unlink(missing_ok=True)
    server = await asyncio.start_unix_server(authority.serve, socket, limit=1 << 26)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
