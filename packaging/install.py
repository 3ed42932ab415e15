"""Build the tree that runs, and put it into a system: all of it, or nothing.

    install.py install --wheels DIR [--destdir DIR]   /usr/local, from a checkout: what `./dev install` does
    install.py uninstall [--destdir DIR]
    install.py package --wheels DIR --destdir DIR     the same files where a Debian package has them
    install.py build                                  print the build of this checkout

Standard library only, on the interpreter that the program will run on. docs/adr/0017-installation.md tells why.

    /usr/local/lib/osctl/BUILD/      a tree: packages, scripts, and copies of what belongs elsewhere in the system
    /usr/local/lib/osctl/current     a link to the tree that is in use; replaced by rename(2), in one moment
    /usr/local/bin/osctl             a link to ../lib/osctl/current/bin/osctl
"""

from __future__ import annotations

import argparse
import compileall
import contextlib
import ctypes
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

SOURCE = Path(__file__).resolve().parent.parent
PACKAGING = SOURCE / "packaging"
PACKAGES = ("osctl", "osctld")
SCRIPTS = ("osctl", "osctld")
#: Where a build's name is written into: one line of each, which says `development` in a checkout.
NAMED = ("osctl/__main__.py", "osctld/cli/version.py")
UNNAMED_LINE = 'BUILD = "development"\n'

PREFIX = "/usr/local"
LIBRARY = f"{PREFIX}/lib/osctl"
PACKAGE_LIBRARY = "/usr/lib/osctl"
CURRENT = "current"
#: In a tree: copies of the files that belong outside of it, by their path there.
SYSTEM = "system"
LOCK = ".lock"
#: There where the kernel has AppArmor.
LOADED_PROFILES = Path("/sys/kernel/security/apparmor/profiles")
#: What is not whole yet begins so.
UNFINISHED = ".osctl-new-"
#: Seconds that a client which is just starting from an old tree gets before that is removed.
GRACE_SECONDS = 1.0


class Failure(Exception):
    """Told in one line; what was installed before is as it was."""


# --- the tree ---------------------------------------------------------------------------------------------------------


def build_name() -> str:
    """Twelve hexadecimal digits from all that runs: our sources, and the locked versions of others'."""
    digest = hashlib.sha256()
    for file in (*sources(), PACKAGING / "requirements.txt"):
        digest.update(f"{file.relative_to(SOURCE)}\0{file.stat().st_size}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:12]


def sources() -> list[Path]:
    """The files of both packages, without what an interpreter left beside them."""
    found = (each for package in PACKAGES for each in (SOURCE / "src" / package).rglob("*"))
    return sorted(each for each in found if each.is_file() and "__pycache__" not in each.parts)


def make_tree(tree: Path, *, place: str, wheels: Path) -> None:
    """Write all that runs into an empty directory; `place` is its path in the finished system."""
    build = build_name()
    for file in sources():
        target = tree / file.relative_to(SOURCE / "src")
        target.parent.mkdir(parents=True, exist_ok=True)
        data = file.read_bytes()
        if str(target.relative_to(tree)) in NAMED:
            data = named(data.decode(), build, file).encode()
        target.write_bytes(data)
    for wheel in locked_wheels(wheels):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(tree)
    (tree / "bin").mkdir()
    for script in SCRIPTS:
        target = tree / "bin" / script
        target.write_text(script_text(script, place))
        target.chmod(0o755)


def named(text: str, build: str, file: Path) -> str:
    if text.count(UNNAMED_LINE) != 1:
        raise Failure(f"{file}: the line {UNNAMED_LINE.strip()!r} is not there exactly once")
    return text.replace(UNNAMED_LINE, f'BUILD = "{build}"\n')


def script_text(script: str, place: str) -> str:
    """The script as it is in the checkout, with the system's interpreter and the tree's place.

    -I and -S: nothing of the environment, the user or other packages is seen, and the start is 4 ms shorter. -B: a
    client that runs while a package is upgraded would leave byte code of the old sources, which is taken for that of
    new ones of the same time and size, as two packages of one commit have them.
    """
    first, second, *rest = (SOURCE / "scripts" / script).read_text().splitlines()
    if (first, second) != ("#!python", "import sys"):
        raise Failure(f"scripts/{script} begins with something else than '#!python' and 'import sys'")
    lines = ["#!/usr/bin/python3 -ISB", second, f'sys.path.append("{place}")', *rest]
    return "".join(f"{line}\n" for line in lines)


def locked_wheels(directory: Path) -> list[Path]:
    """The wheels in a directory, one for each locked package. Raises Failure for others, or with other contents."""
    text = (PACKAGING / "requirements.txt").read_text()
    names = re.findall(r"(?m)^([\w.-]+)==", text)
    hashes = set(re.findall(r"--hash=sha256:([0-9a-f]{64})", text))
    wheels = sorted(directory.glob("*.whl"))
    if sorted(each.name.partition("-")[0].replace("_", "-") for each in wheels) != sorted(names):
        raise Failure(f"{directory} does not hold one wheel of each of: {' '.join(names)}")
    for wheel in wheels:
        if hashlib.sha256(wheel.read_bytes()).hexdigest() not in hashes:
            raise Failure(f"{wheel} is not what packaging/requirements.txt locks")
    return wheels


# --- files beside the tree --------------------------------------------------------------------------------------------


def system_files(*, is_package: bool) -> dict[str, Path]:
    """What belongs into the system beside the tree, by its path there. What has a folder is found in it."""
    configuration, data, share = ("/usr/lib", "/usr/share", "/usr/share") if is_package else (
        "/etc", "/usr/share", f"{PREFIX}/share",
    )  # fmt: skip
    files = {
        "/etc/iproute2/rt_protos.d/osctl.conf": PACKAGING / "rt_protos.conf",
        f"{configuration}/udev/rules.d/70-osctl.rules": PACKAGING / "mark.rules",
        f"{configuration}/udev/rules.d/zz-osctl.rules": PACKAGING / "last.rules",
        f"{configuration}/systemd/network/05-osctl.network": PACKAGING / "osctl.network",
        f"{configuration}/systemd/network/05-osctl.link": PACKAGING / "osctl.link",
        f"{configuration}/NetworkManager/conf.d/osctl.conf": PACKAGING / "networkmanager.conf",
        f"{data}/bash-completion/completions/osctl": PACKAGING / "completion/osctl.bash",
        f"{data}/zsh/vendor-completions/_osctl": PACKAGING / "completion/osctl.zsh",
        f"{data}/fish/vendor_completions.d/osctl.fish": PACKAGING / "completion/osctl.fish",
    }
    for unit in PACKAGING.glob("*.service"):
        files[f"{configuration}/systemd/system/{unit.name}"] = unit
    for profile in (PACKAGING / "apparmor").glob("*"):
        files[f"/etc/apparmor.d/{profile.name}"] = profile
    for page in (SOURCE / "docs/man").iterdir():
        files[f"{share}/man/man{page.suffix[1:]}/{page.name}"] = page
    return files


def put(data: bytes, target: Path) -> None:
    """Write a file atomically. One with the same content is left alone, so that no change is reported."""
    if target.is_file() and not target.is_symlink() and target.read_bytes() == data:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    new = unfinished(target)
    new.write_bytes(data)
    new.chmod(0o644)
    new.replace(target)


def point(link: Path, to: str) -> None:
    """Make a symbolic link lead somewhere else in one moment."""
    if link.is_symlink() and os.readlink(link) == to:
        return
    link.parent.mkdir(parents=True, exist_ok=True)
    new = unfinished(link)
    new.unlink(missing_ok=True)
    new.symlink_to(to)
    new.replace(link)


def unfinished(path: Path) -> Path:
    """What a path is called until it is whole: hidden, so that nobody who reads the folder takes it for theirs."""
    return path.with_name(f"{UNFINISHED}{path.name}")


# --- a system ---------------------------------------------------------------------------------------------------------


class System:
    """The system below `root`, `/` or a directory that will be one."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.library = self.at(LIBRARY)
        #: Whether this is the system that runs now, by systemd.
        self.is_live = root == Path("/") and Path("/run/systemd/system").is_dir()

    def at(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    @property
    def current(self) -> str | None:
        """The name of the tree in use."""
        link = self.library / CURRENT
        return os.readlink(link) if link.is_symlink() else None

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        self.library.mkdir(parents=True, exist_ok=True)
        with (self.library / LOCK).open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Failure(f"{self.library}: another installation is under way") from None
            yield

    # --- install ------------------------------------------------------------------------------------------------------

    def install(self, wheels: Path) -> None:
        with self.locked():
            for leftover in self.library.glob(f"{UNFINISHED}*"):
                remove(leftover)
            before = self.current
            is_update = before is not None or self.has_former_layout
            name = self.build(wheels)
            try:
                self.switch(name)
                self.place_files(name)
                self.restart()
            except BaseException:  # a Ctrl-C must not leave half of each
                self.go_back(before, name)
                raise
            if is_update:
                time.sleep(GRACE_SECONDS)
            self.sweep(name)

    def build(self, wheels: Path) -> str:
        """Make a tree beside the one in use, see that it runs, and return its name."""
        name = base = build_name()
        for number in range(2, sys.maxsize):
            if not (self.library / name).exists():
                break
            name = f"{base}.{number}"  # the same build again: what is there may be damaged
        tree = unfinished(self.library / name)
        place = f"{LIBRARY}/{name}"
        try:
            tree.mkdir()
            make_tree(tree, place=place, wheels=wheels)
            compile_tree(tree, place=place)
            for path, source in system_files(is_package=False).items():
                put(source.read_bytes(), tree / SYSTEM / path.lstrip("/"))
            check(tree, base)
            sync(tree)  # after a power cut, a link must not lead to files of length 0
            tree.rename(self.library / name)
        except BaseException:
            remove(tree)
            raise
        return name

    def switch(self, name: str) -> None:
        point(self.library / CURRENT, name)
        for script in SCRIPTS:
            point(self.at(f"{PREFIX}/bin/{script}"), f"../lib/osctl/{CURRENT}/bin/{script}")

    def place_files(self, name: str) -> None:
        """Bring the files outside to what a tree says, and take away what only others said.

        One that cannot be keeps no other from it. Raises OSError for the first such one.
        """
        failed: list[OSError] = []
        files = self.files_of(name)
        for path, copy in files.items():
            try:
                put(copy.read_bytes(), self.at(path))
            except OSError as error:
                failed.append(error)
        for path in {each for other in self.trees() for each in self.files_of(other)} - files.keys():
            try:
                self.at(path).unlink(missing_ok=True)
            except OSError as error:
                failed.append(error)
        sync(self.library)
        for error in failed:
            raise error

    def restart(self) -> None:
        if not self.is_live:
            return
        run("udevadm", "control", "--reload", is_needed=False)  # no udev in a container
        if LOADED_PROFILES.exists():  # what runs is confined by the new ones at once
            for profile in (PACKAGING / "apparmor").glob("*"):
                run("apparmor_parser", "--replace", f"/etc/apparmor.d/{profile.name}")
        run("systemctl", "daemon-reload")
        for unit in enabled_units():
            run("systemctl", "enable", "--quiet", unit)
        run("systemctl", "restart", "osctld.service")  # touches no container
        for unit in enabled_units():
            run("systemctl", "start", unit)

    def go_back(self, before: str | None, name: str) -> None:
        """Put what was there before into use again."""
        if before is not None and (self.library / before).is_dir():
            self.switch(before)
            try:
                self.place_files(before)
            except OSError as error:  # all else of it has to be put back nevertheless
                print(f"{error.filename}: {error.strerror}", file=sys.stderr)
        elif self.has_former_layout:
            for script in SCRIPTS:
                point(self.at(f"{PREFIX}/bin/{script}"), f"../lib/osctl/bin/{script}")
            (self.library / CURRENT).unlink(missing_ok=True)
        else:
            return
        print("what was installed before is in use again", file=sys.stderr)
        if self.is_live:
            run("systemctl", "daemon-reload", is_needed=False)
            run("systemctl", "reset-failed", "osctld.service", is_needed=False)  # starts that failed count no more
            run("systemctl", "restart", "osctld.service", is_needed=False)
        remove(self.library / name)

    def sweep(self, name: str) -> None:
        """Remove all trees but one, and what an environment in the library itself consisted of."""
        for each in self.library.iterdir():
            if each.name not in (LOCK, CURRENT, name):
                remove(each)

    @property
    def has_former_layout(self) -> bool:
        """Whether the library itself is a virtual environment, as it was before there were trees."""
        return (self.library / "pyvenv.cfg").exists()

    def trees(self) -> list[str]:
        return [each.name for each in self.library.glob("*") if (each / SYSTEM).is_dir() and not each.is_symlink()]

    def files_of(self, name: str) -> dict[str, Path]:
        """The files that belong outside, by their path there."""
        copies = self.library / name / SYSTEM
        return {f"/{each.relative_to(copies)}": each for each in copies.rglob("*") if each.is_file()}

    # --- uninstall ----------------------------------------------------------------------------------------------------

    def uninstall(self) -> None:
        files = set(system_files(is_package=False))
        for name in self.trees():
            files |= self.files_of(name).keys()
        units = [each for each in files if each.startswith("/etc/systemd/system/") and self.at(each).exists()]
        if self.is_live:
            for unit in sorted(units):
                run("systemctl", "disable", "--quiet", "--now", Path(unit).name)
            subprocess.run([PACKAGING / "put-back"], stdin=subprocess.DEVNULL, check=False)
        for path in (*files, *(f"{PREFIX}/bin/{script}" for script in SCRIPTS)):
            self.at(path).unlink(missing_ok=True)
            unfinished(self.at(path)).unlink(missing_ok=True)
        remove(self.library)
        if self.is_live:
            run("systemctl", "daemon-reload")
            run("udevadm", "control", "--reload", is_needed=False)


def enabled_units() -> list[str]:
    """Our units that want to be started at boot."""
    return sorted(each.name for each in PACKAGING.glob("*.service") if "\n[Install]\n" in each.read_text())


def compile_tree(tree: Path, *, place: str) -> None:
    if not compileall.compile_dir(tree, ddir=place, quiet=2):
        raise Failure("the sources cannot be compiled")


def check(tree: Path, build: str) -> None:
    """Start both programs of a tree as far as their version: everything is imported, or nothing is installed."""
    for script in SCRIPTS:
        program = f"import sys; sys.path.append({str(tree)!r}); from {script}.__main__ import main; sys.exit(main())"
        done = subprocess.run(
            [sys.executable, "-ISBc", program, "--version"],
            env={**os.environ, "OSCTL_SOCKET": "/nonexistent"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0 or build not in done.stdout:
            said = (done.stderr or done.stdout).strip().splitlines() or [f"status {done.returncode}"]
            raise Failure(f"{script} of the new tree does not run: {said[-1].removeprefix('error: ')}")


def sync(path: Path) -> None:
    """Have the file system that holds a path on disk: files, names and links (syncfs(2))."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(path))
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def run(*command: str, is_needed: bool = True) -> None:
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        if is_needed:
            raise Failure(f"no {command[0]!r}") from None
        return
    if done.returncode != 0 and is_needed:
        said = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        raise Failure(f"{' '.join(command)}: {said[0]}")


# --- a package --------------------------------------------------------------------------------------------------------


def make_package(root: Path, wheels: Path) -> None:
    """Write what a Debian package holds; its helpers compile, compress and set times."""
    tree = root / PACKAGE_LIBRARY.lstrip("/")
    tree.mkdir(parents=True)
    make_tree(tree, place=PACKAGE_LIBRARY, wheels=wheels)
    (root / "usr/bin").mkdir()
    for script in SCRIPTS:
        (tree / "bin" / script).rename(root / "usr/bin" / script)
    (tree / "bin").rmdir()
    files = {**system_files(is_package=True), "/etc/osctl/osctld.toml": PACKAGING / "osctld.toml"}
    for path, source in files.items():
        data = source.read_bytes()
        if source.suffix == ".service":
            data = data.replace(f"{PREFIX}/bin/".encode(), b"/usr/bin/")
        put(data, root / path.lstrip("/"))


def main() -> int:
    parser = argparse.ArgumentParser(description="Install osctl.")
    parser.add_argument("action", choices=("install", "uninstall", "package", "build"))
    parser.add_argument("--destdir", type=Path, default=Path("/"))
    parser.add_argument("--wheels", type=Path)
    given = parser.parse_args()
    os.umask(0o022)
    try:
        match given.action:
            case "build":
                print(build_name())
            case "install":
                system = System(given.destdir)
                system.install(given.wheels or missing("--wheels"))
            case "uninstall":
                System(given.destdir).uninstall()
            case "package":
                make_package(given.destdir, given.wheels or missing("--wheels"))
    except Failure as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {error.filename or given.destdir}: {error.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def missing(option: str) -> NoReturn:
    raise Failure(f"{option} is missing")


if __name__ == "__main__":
    sys.exit(main())
