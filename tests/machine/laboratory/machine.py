"""A machine as tests see it: run, reboot, pull the plug."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from machine.laboratory import checkout
from machine.laboratory.hand import Done, Hand
from machine.laboratory.images import Image, image
from machine.laboratory.places import cache, keep_the_newest, mark_as_used, not_counted, tell
from machine.laboratory.qemu import MEMORY_MIB, Card, MachineError, Qemu
from machine.laboratory.releases import Release

T = TypeVar("T")

#: Seconds until the agent answers after power on, and until systemd has done all it wants to. 30 to 70 is usual.
BOOT_SECONDS = 600.0
#: The emulated kernel sometimes dies within its first seconds: 1 of 7 boots, in enqueue_timer at 1.3 s.
DIES_EARLY = re.compile(r"Kernel panic - not syncing|enqueue_timer")
#: So many states of a release are kept, the ones used last: each is a product of some checkout, installed.
KEPT_STATES = 8
KINDS = ("installed", "prepared", "bare")
#: Where the checkout lies inside.
CHECKOUT = "/root/osctl"


class Machine:
    """A running machine, with a disk of its own that is thrown away in the end."""

    def __init__(self, folder: Path, booted_by: Image, disk: Path, state: Path | None, cards: Sequence[Card],
                 kernel_arguments: str, memory_mib: int, more: Sequence[str]) -> None:  # fmt: skip
        self.folder = folder
        self.release = booted_by.release
        self.kernel_arguments = kernel_arguments
        self._image = booted_by
        self._disk = disk
        self._memory_mib = memory_mib
        self._more = tuple(more)
        self._hand = Hand(folder / "hand", console=lambda: self._console_bytes().decode(errors="replace"))
        self._qemu = self._start_qemu(() if state else cards, state)
        try:
            if state is None:
                self._wait_for_boot(0, other_than="", timeout_seconds=BOOT_SECONDS)
            else:
                self.run("true")
                for each in cards:
                    self.add_card(each)
        except BaseException:
            self.end()
            raise

    # --- inside -------------------------------------------------------------------------------------------------

    def run(self, command: str, timeout_seconds: float = 120, *, check: bool = True) -> Done:
        """Run a command by bash, as root in /root; `status` 124 says that it took too long and was killed.

        Raises MachineError, with all that it wrote, when it fails; with `check=False` only when there is no answer.
        """
        done = self._hand.run(command, timeout_seconds)
        if check and done.status:
            raise MachineError(f"status {done.status} after {done.seconds:.0f} s: {command}\n{done.output}")
        return done

    def start(self, command: str) -> None:
        """Start a command that goes on by itself, as unit of its own: it outlives agent and caller."""
        self.run(f"systemd-run --quiet --collect bash -c {_quoted(command)}")

    def put(self, path: str, content: str | bytes, mode: int = 0o644) -> None:
        """Write a file inside, and its directories."""
        self._hand.put(path, content.encode() if isinstance(content, str) else content, mode)

    def put_checkout(self, path: str = CHECKOUT) -> None:
        """The present checkout, uncommitted files included; what was set up there before (.venv, .cache) stays."""
        self.put("/tmp/checkout.tar.gz", checkout.archive())
        kept = "! -name .venv ! -name .cache"
        self.run(f"mkdir -p {path} && find {path} -mindepth 1 -maxdepth 1 {kept} -exec rm -rf {{}} + && "
                 f"tar -xzmf /tmp/checkout.tar.gz -C {path} && rm /tmp/checkout.tar.gz")  # fmt: skip

    def wait_until(self, command: str, what: str, timeout_seconds: float = 120) -> Done:
        """Ask a command until it succeeds. Raises MachineError with its last words."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            done = self.run(command, check=False)
            if done.status == 0:
                return done
            if time.monotonic() > deadline:
                told = f"{command}: {done.status}\n{done.output}"
                raise MachineError(f"not within {timeout_seconds:.0f} s: {what}\n{told}")
            time.sleep(0.3)

    @property
    def boot_id(self) -> str:
        return self.run("cat /proc/sys/kernel/random/boot_id").output.strip()

    # --- power --------------------------------------------------------------------------------------------------

    def reboot(self, *, command: str = "systemctl reboot", timeout_seconds: float = BOOT_SECONDS) -> float:
        """Reboot by a command inside, and wait until the machine has booted; seconds that both took."""
        before, begun = self.boot_id, time.monotonic()
        at = self._console_length()
        self._say(command)
        self._wait_for_boot(at, other_than=before, timeout_seconds=timeout_seconds)
        return time.monotonic() - begun

    def poweroff(self, *, command: str = "systemctl poweroff", timeout_seconds: float = 300) -> float:
        """Shut down by a command inside; seconds until the power is off. `power_on` boots the same disk again."""
        begun = time.monotonic()
        self._say(command)
        try:
            self._qemu.process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            raise MachineError(f"not off {timeout_seconds:.0f} s after {command!r}\n{self.console()[-3000:]}") from None
        return time.monotonic() - begun

    def power_cut(self) -> None:
        """Pull the plug: what was not brought to the disk is lost. `power_on` boots the same disk again."""
        self._qemu.kill()

    def power_on(self, *, kernel_arguments: str | None = None, cards: Sequence[Card] | None = None) -> None:
        """Boot the disk as it was left, and wait for that; with other arguments or cards when they are given."""
        if self._qemu.is_running:
            raise MachineError("the machine is on")
        if kernel_arguments is not None:
            self.kernel_arguments = kernel_arguments
        self._power_on(self._qemu.cards if cards is None else cards)

    @property
    def is_on(self) -> bool:
        return self._qemu.is_running

    def wait_until_off(self, timeout_seconds: float = 300) -> None:
        self._qemu.process.wait(timeout_seconds)

    # --- hardware -----------------------------------------------------------------------------------------------

    def add_card(self, card: Card) -> None:
        """Plug a network card in, and wait until udev has named it."""
        self._qemu.add_card(card)
        mac = card.mac(self._qemu.cards.index(card))
        self.wait_until(f"grep -l {mac} /sys/class/net/*/address && udevadm settle", f"there is {card}")

    def set_link(self, is_up: bool, card: str = "card0") -> None:
        """Plug a network card's cable in, or pull it out."""
        self._qemu.set_link(card, is_up)

    def link_name(self, card: str = "card0") -> str:
        """What the machine calls a network card."""
        position = next(at for at, each in enumerate(self._qemu.cards) if each.id == card)
        mac = self._qemu.cards[position].mac(position)
        return self.run(f"basename $(dirname $(grep -l {mac} /sys/class/net/*/address))").output.strip()

    def monitor(self, command: str, **arguments: object) -> object:
        """Ask QEMU's monitor (QMP)."""
        return self._qemu.monitor(command, **arguments)

    def console(self) -> str:
        """All that was written to the serial console so far, over all boots."""
        return self._console_bytes().decode(errors="replace")

    def wait_for_console(
        self, pattern: str, *, times: int = 1, since: int = 0, timeout_seconds: float = 120
    ) -> list[str]:
        """All that a pattern finds in what the console said from a place on, once it is so often there.

        Raises MachineError with its last words.
        """
        deadline = time.monotonic() + timeout_seconds
        while len(found := re.findall(pattern, self.console()[since:])) < times:
            if time.monotonic() > deadline or not self.is_on:
                raise MachineError(f"the console does not say {pattern!r} {times} times\n{self.console()[-2000:]}")
            time.sleep(0.05)
        return found

    # --- for the laboratory -------------------------------------------------------------------------------------

    def keep_state(self, file: Path) -> None:
        """Write down where the machine is, with its disk, and end it."""
        self.run("sync")
        self._qemu.keep_state(file)

    def end(self) -> None:
        self._qemu.kill()

    # --- how ----------------------------------------------------------------------------------------------------

    def _power_on(self, cards: Sequence[Card]) -> None:
        self._qemu.kill()  # it has ended by itself; what talked to it is closed
        at = self._console_length()
        self._qemu = self._start_qemu(cards, None)
        self._wait_for_boot(at, other_than="", timeout_seconds=BOOT_SECONDS)

    def _start_qemu(self, cards: Sequence[Card], state: Path | None) -> Qemu:
        return Qemu(self.folder, self._image, self._disk, cards=cards, memory_mib=self._memory_mib, more=self._more,
                    kernel_arguments=self.kernel_arguments, state=state)  # fmt: skip

    def _say(self, command: str) -> None:
        """Have a command started that may take the agent's answer with it."""
        self.run(f"(sleep 0.2; {command}) >/dev/null 2>&1 &")

    def _wait_for_boot(self, console_at: int, *, other_than: str, timeout_seconds: float) -> None:
        deadline = time.monotonic() + timeout_seconds
        deaths = 0
        while True:
            if DIES_EARLY.search(self._console_bytes()[console_at:].decode(errors="replace")):
                deaths += 1
                if deaths > 2:
                    raise MachineError(f"the kernel died {deaths} times\n{self.console()[-4000:]}")
                tell("the emulated kernel died while it booted, as it sometimes does: booted again")
                self._qemu.kill()
                console_at = self._console_length()
                self._qemu = self._start_qemu(self._qemu.cards, None)
                deadline = time.monotonic() + timeout_seconds
            if not self._qemu.is_running:
                raise MachineError(f"the machine went off while it booted\n{self.console()[-4000:]}")
            try:
                if self._hand.run("cat /proc/sys/kernel/random/boot_id", 5, 5).output.strip() not in ("", other_than):
                    break
            except MachineError as error:
                if time.monotonic() > deadline:
                    raise MachineError(f"did not boot: {error}\n{self.console()[-4000:]}") from None
            time.sleep(0.3)
        left = max(1.0, deadline - time.monotonic())
        self.run("systemctl is-system-running --wait || true", left)

    def _console_bytes(self) -> bytes:
        file = self.folder / "console.log"
        return file.read_bytes() if file.exists() else b""

    def _console_length(self) -> int:
        return len(self._console_bytes())


class Machines:
    """Makes machines of one release, one at a time, each from a kept state unless it has to boot."""

    _numbers = itertools.count(1)

    def __init__(self, release: Release) -> None:
        self.release = release
        self.present: Machine | None = None

    def start(
        self,
        kind: str = "installed",
        *,
        cards: Sequence[Card] = (),
        boot: bool = False,
        kernel_arguments: str = "",
        memory_mib: int = MEMORY_MIB,
        more: Sequence[str] = (),
    ) -> Machine:
        """A machine that has booted; the one before ends.

        kind              "bare": nothing of ours, and no package that we need; "prepared": those packages, and the
                          checkout's .venv; "installed": prepared, and the present checkout installed by `./dev install`
        cards             network cards; none unless said. A machine that goes on from a state gets them plugged in
        boot              boot it rather than go on from a state (2 s against 30 to 70)
        kernel_arguments  more for the kernel's command line; `more`: for QEMU's; `memory_mib`: each makes it boot
        """
        self.end()
        must_boot = boot or bool(kernel_arguments) or bool(more) or memory_mib != MEMORY_MIB
        booted_by, disk, state = self._state(kind)
        self.present = self._make(
            booted_by, disk, None if must_boot else state, cards, kernel_arguments, memory_mib, more
        )
        return self.present

    def again(self, kept: Path) -> Machine:
        """A machine that boots a disk which a failure left."""
        booted_by = image(self.release, "bare")
        self.present = self._make(booted_by, kept / "disk.qcow2", None, (), "", MEMORY_MIB, ())
        return self.present

    def end(self) -> None:
        """End the present machine and throw its disk away."""
        if self.present is not None:
            self.present.end()
            shutil.rmtree(self.present.folder, ignore_errors=True)
            self.present = None

    def rescue(self, name: str) -> Path | None:
        """Keep what tells why a test failed: console log, journal, disk. Where they are; the machine stays."""
        machine = self.present
        if machine is None:
            return None
        kept = cache() / "failures" / re.sub(r"[^\w.-]+", "-", name)[-120:].strip("-")
        shutil.rmtree(kept, ignore_errors=True)
        keep_the_newest(cache() / "failures", "*", 4)
        kept.mkdir(parents=True)
        (kept / "release").write_text(f"{self.release.name}\n")
        if machine.is_on:
            try:
                (kept / "journal").write_text(machine.run("sync; journalctl --no-pager -o short-precise", 60).output)
            except MachineError as error:
                (kept / "journal").write_text(f"the machine did not give it: {error}\n")
        for each in ("console.log", "qemu.log", "disk.qcow2"):
            if (machine.folder / each).exists():
                shutil.copy(machine.folder / each, kept / each)
        return kept

    # --- states -------------------------------------------------------------------------------------------------

    def _state(self, kind: str) -> tuple[Image, Path, Path]:
        """The disk of a kind, and the state that goes with it."""
        with not_counted():
            if kind == "installed":
                return self._kept_state("prepared", f"installed-{checkout.hash_of_what_is_installed()}", self._install)
            return self._kept_state(kind, kind, lambda booted_by: self._make(
                booted_by, booted_by.disk, None, (), "", MEMORY_MIB, ()
            ))  # fmt: skip

    def _kept_state(self, kind: str, name: str, make: Callable[[Image], Machine]) -> tuple[Image, Path, Path]:
        booted_by = image(self.release, kind)
        folder = booted_by.disk.parent / "states" / name
        if not (folder / "memory").exists():
            keep_the_newest(folder.parent, "installed-*", KEPT_STATES)
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            begun = time.monotonic()
            tell(f"making the state {name} of {self.release.name}")
            machine = make(booted_by)
            try:
                machine.keep_state(folder / "unfinished")
                shutil.move(machine.folder / "disk.qcow2", folder / "disk.qcow2")
                (folder / "unfinished").rename(folder / "memory")
            finally:
                machine.end()
                shutil.rmtree(machine.folder, ignore_errors=True)
            tell(f"that took {time.monotonic() - begun:.0f} s")
        mark_as_used(folder)
        return booted_by, folder / "disk.qcow2", folder / "memory"

    def _install(self, _booted_by: Image) -> Machine:
        booted_by, disk, state = self._state("prepared")
        machine = self._make(booted_by, disk, state, (), "", MEMORY_MIB, ())
        try:
            machine.put_checkout()
            machine.run(f"cd {CHECKOUT} && ./dev install", 900)
            machine.wait_until("osctl ct ls", "the daemon answers")
        except BaseException:
            machine.end()
            shutil.rmtree(machine.folder, ignore_errors=True)
            raise
        return machine

    def _make(self, booted_by: Image, disk: Path, state: Path | None, cards: Sequence[Card], kernel_arguments: str,
              memory_mib: int, more: Sequence[str]) -> Machine:  # fmt: skip
        folder = _folder_of_a_run(next(self._numbers))
        layer = folder / "disk.qcow2"
        try:
            below = ["-F", disk.suffix.lstrip("."), "-b", str(disk)]
            subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *below, str(layer)], check=True)
            return Machine(folder, booted_by, layer, state, cards, kernel_arguments, memory_mib, more)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise


def _folder_of_a_run(number: int) -> Path:
    """An empty folder for disk and sockets; its path is short, as a socket's has to be (107 bytes)."""
    folder = cache() / "runs" / str(number)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


@contextmanager
def machines_of(release: Release) -> Iterator[Machines]:
    """Machines of a release; the last of them ends here."""
    machines = Machines(release)
    try:
        yield machines
    finally:
        machines.end()
