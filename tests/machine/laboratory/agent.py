"""The hand inside a machine: does what comes over the virtio port, one JSON document a line each way.

Runs alone, by the machine's own Python: it imports the standard library only.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import threading
import time
from typing import Any

PORT = "/dev/virtio-ports/laboratory"
_writing = threading.Lock()


def answer(descriptor: int, value: dict[str, Any]) -> None:
    data = json.dumps(value).encode() + b"\n"
    with _writing:
        while data:
            data = data[os.write(descriptor, data) :]


def run(command: str, timeout: float) -> dict[str, Any]:
    """Run a command in a session of its own; one that takes too long is ended with all that it started there."""
    process = subprocess.Popen(
        ["/bin/bash", "-c", command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd="/root",
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=timeout)
        status = process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        try:
            output, _ = process.communicate(timeout=5)
        except subprocess.TimeoutExpired as held:  # by something that left the session
            output = held.output or b""
        status = 124
    return {"status": status, "output": base64.b64encode(output).decode()}


def put(path: str, mode: int, content: bytes) -> dict[str, Any]:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(content)
    os.chmod(path, mode)
    return {"status": 0, "output": ""}


def perform(descriptor: int, request: dict[str, Any]) -> None:
    try:
        if "command" in request:
            done = run(request["command"], request["timeout"])
        else:
            done = put(request["path"], request["mode"], base64.b64decode(request["content"]))
    except OSError as error:
        done = {"status": 125, "output": base64.b64encode(str(error).encode()).decode()}
    answer(descriptor, {"id": request["id"], **done})


def main() -> None:
    while not os.path.exists(PORT):
        time.sleep(0.1)
    descriptor = os.open(PORT, os.O_RDWR)
    parts: list[bytes] = []
    while True:
        try:
            data = os.read(descriptor, 1 << 16)
        except OSError:
            data = b""
        if not data:  # nobody at the other end
            time.sleep(0.1)
            continue
        parts.append(data)
        if b"\n" not in data:  # a file comes in very many pieces
            continue
        *lines, rest = b"".join(parts).split(b"\n")
        parts = [rest]
        for line in lines:
            try:
                request = json.loads(line)
            except ValueError:  # the rest of a line whose beginning went to a life before
                continue
            if isinstance(request, dict):
                threading.Thread(target=perform, args=(descriptor, request), daemon=True).start()


if __name__ == "__main__":
    main()
