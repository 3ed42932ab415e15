"""A person at a machine's serial console."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
import termios
import tty

from machine.laboratory.machine import Machine

LEAVE = b"\x1d"  # Ctrl-]


def talk_to(machine: Machine) -> None:
    """Join the terminal with the console, until Ctrl-] or until the machine is off. root is logged in there."""
    print(f"\nconsole of {machine.release.name}; Ctrl-] leaves it and ends the machine", flush=True)
    entrance, out = sys.stdin.fileno(), sys.stdout.fileno()
    is_terminal = os.isatty(entrance)
    before = termios.tcgetattr(entrance) if is_terminal else []
    with socket.socket(socket.AF_UNIX) as console:
        console.connect(str(machine.folder / "console"))
        console.sendall(b"\n")
        try:
            if is_terminal:
                tty.setraw(entrance)
            while machine.is_on:
                ready, _, _ = select.select([entrance, console], [], [], 1)
                if console in ready:
                    data = console.recv(4096)
                    if not data:
                        return
                    os.write(out, data)
                if entrance in ready:
                    data = os.read(entrance, 4096)
                    console.sendall(data.partition(LEAVE)[0])
                    if LEAVE in data or not data:
                        return
        finally:
            if is_terminal:
                with contextlib.suppress(termios.error):
                    termios.tcsetattr(entrance, termios.TCSADRAIN, before)
            print(flush=True)
