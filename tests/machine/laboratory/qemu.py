"""One QEMU process, and its monitor."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from machine.laboratory.images import Image

#: What a machine is. A kept state can only be gone on with by the same one.
PROCESSORS = 2
MEMORY_MIB = 3072
KERNEL_ARGUMENTS = "root=/dev/vda rw console=ttyS0 quiet loglevel=4 mitigations=off systemd.show_status=auto"
#: All is emulated: help by hardware is rarely there inside of what runs tests, and would make another machine of it.
EMULATION = ("-accel", "tcg,thread=multi", "-cpu", "max")
#: Emulated processors take so many times as long.
SLOWNESS = 10
#: The first of the slots that network cards are put into.
FIRST_SLOT = 0x10


class MachineError(Exception):
    """The machine did not do what it was asked to; the message says what, and what it said."""


class KernelDiedError(MachineError):
    """The machine's kernel has panicked; the message has the last of its console.

    QEMU's own doing if it is `Oops: int3`: with several emulated processors, one goes on to execute a breakpoint that
    another has put into the kernel's code for a moment, to change it (seen with QEMU 7.2 and Linux 6.12, once in some
    hours of tests that open packet sockets).
    """


@dataclass(frozen=True)
class Card:
    """A network card. `backend` is QEMU's -netdev without its id; the default reaches nothing but QEMU itself.

    That default, QEMU's user network, leases 10.0.2.15 by DHCP and advertises fec0::/64 by itself.
    """

    id: str = "card0"
    backend: str = "user,restrict=on,ipv4=on,ipv6=on"  # one of them alone turns the other off
    has_carrier: bool = True

    def mac(self, position: int) -> str:
        return f"52:54:00:00:00:{FIRST_SLOT + position:02x}"


class Qemu:
    """A running QEMU. Ends with this process, however that ends."""

    def __init__(
        self,
        folder: Path,
        image: Image,
        disk: Path,
        *,
        kernel_arguments: str = "",
        cards: Sequence[Card] = (),
        memory_mib: int = MEMORY_MIB,
        more: Sequence[str] = (),
        state: Path | None = None,
    ) -> None:
        """Start one that boots `disk`, or goes on with a kept `state` of it: then without cards, see `add_card`."""
        self.folder = folder
        self.cards = list(cards)
        for name in ("monitor", "hand", "console"):
            (folder / name).unlink(missing_ok=True)
        log_to = f"logfile={folder}/console.log,logappend=on"
        argv = [
            # Killed when the one that started it is gone, and not by the Ctrl-C that its terminal sends to all.
            *("setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64", *EMULATION, "-smp", str(PROCESSORS)),
            *("-m", str(memory_mib), "-display", "none", "-nodefaults", "-S"),
            *("-kernel", str(image.kernel), "-initrd", str(image.initrd)),
            *("-append", f"{KERNEL_ARGUMENTS} {kernel_arguments}".strip()),
            *("-drive", f"file={disk},if=virtio,cache=writeback,discard=unmap"),
            *("-qmp", f"unix:{folder}/monitor,server=on,wait=off"),
            *("-chardev", f"socket,id=console,path={folder}/console,server=on,wait=off,{log_to}"),
            *("-serial", "chardev:console", "-device", "virtio-rng-pci", "-device", "virtio-serial"),
            *("-chardev", f"socket,id=hand,path={folder}/hand,server=on,wait=off"),
            *("-device", "virtserialport,chardev=hand,name=laboratory"),
        ]
        for position, card in enumerate(self.cards):
            argv += ["-netdev", f"{card.backend},id={card.id}-net", "-device", _device(card, position)]
        argv += more
        if state is not None:
            argv += ["-incoming", f"exec:cat {shlex.quote(str(state))}"]
        self._socket = socket.socket(socket.AF_UNIX)
        self._lines = self._socket.makefile("r")
        with (folder / "qemu.log").open("ab") as log:
            self.process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        try:
            self._greet()
            if state is not None:
                self._wait_for_migration("inmigrate")
            for card in self.cards:
                if not card.has_carrier:
                    self.monitor("set_link", name=card.id, up=False)
            self.monitor("cont")
        except BaseException:
            self.kill()
            raise

    # --- the monitor --------------------------------------------------------------------------------------------

    def _greet(self) -> None:
        deadline = time.monotonic() + 30
        while True:
            if self.process.poll() is not None:
                raise MachineError(f"QEMU did not start: {(self.folder / 'qemu.log').read_text(errors='replace')}")
            try:
                self._socket.connect(str(self.folder / "monitor"))
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        self._socket.settimeout(60)
        json.loads(self._lines.readline())
        self.monitor("qmp_capabilities")

    def monitor(self, command: str, **arguments: Any) -> Any:
        """Ask the monitor (QMP; `_` in names of arguments is `-` there). Raises MachineError when it refuses."""
        asked: dict[str, Any] = {"execute": command}
        if arguments:
            asked["arguments"] = {name.replace("_", "-"): value for name, value in arguments.items()}
        self._socket.sendall(json.dumps(asked).encode() + b"\n")
        while line := self._lines.readline():
            answer = json.loads(line)
            if "error" in answer:
                raise MachineError(f"QEMU refuses {command} {arguments}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]
        raise MachineError(f"QEMU is gone: {(self.folder / 'qemu.log').read_text(errors='replace')}")

    def set_link(self, card: str, is_up: bool) -> None:
        """Plug a network card's cable in, or pull it out."""
        self.monitor("set_link", name=card, up=is_up)

    def add_card(self, card: Card) -> None:
        """Plug a network card into the running machine."""
        position = len(self.cards)
        self.monitor("human-monitor-command", command_line=f"netdev_add {card.backend},id={card.id}-net")
        self.monitor("human-monitor-command", command_line=f"device_add {_device(card, position)}")
        if not card.has_carrier:
            self.set_link(card.id, False)
        self.cards.append(card)

    # --- states -------------------------------------------------------------------------------------------------

    def keep_state(self, file: Path) -> None:
        """Stop the machine where it is, write that down, and end QEMU. Its disk belongs to the state."""
        self.monitor("stop")
        self.monitor("migrate-set-parameters", max_bandwidth=1 << 40)
        self.monitor("migrate", uri=f"exec:cat >{shlex.quote(str(file))}")
        deadline = time.monotonic() + 300
        while (status := self.monitor("query-migrate").get("status")) != "completed":
            if status == "failed" or time.monotonic() > deadline:
                raise MachineError(f"the state was not kept: {self.monitor('query-migrate')}")
            time.sleep(0.1)
        self.monitor("quit")
        self.process.wait(60)
        self.kill()

    def _wait_for_migration(self, state: str) -> None:
        deadline = time.monotonic() + 120
        while self.monitor("query-status")["status"] == state:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise MachineError(f"the state was not read: {(self.folder / 'qemu.log').read_text(errors='replace')}")
            time.sleep(0.05)

    # --- the end ------------------------------------------------------------------------------------------------

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        """Pull the plug: what the machine had not brought to its disk is lost."""
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(30)
        self._lines.close()
        self._socket.close()


def _device(card: Card, position: int) -> str:
    address = f"0x{FIRST_SLOT + position:x}"
    return f"virtio-net-pci,netdev={card.id}-net,id={card.id},mac={card.mac(position)},addr={address},romfile="
