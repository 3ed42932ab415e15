"""The present checkout as a value: what git knows and what is not committed yet, without what was built."""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[3]

#: Folders and files that make no difference to what is installed.
NOT_INSTALLED = ("tests/", "bench/", ".ci/", "docs/adr/", "CHANGELOG.md", "CONTRIBUTING.md", "ARCHITECTURE.md")
#: What decides which packages, wheels and cached files an image holds.
FOR_IMAGES = ("uv.lock", "packaging/tools.txt", "packaging/requirements.txt")


def files(root: Path = ROOT) -> list[Path]:
    """All files, relative to the checkout, also those that are not committed; ignored ones are not of it."""
    listed = subprocess.run(
        ["git", "-c", f"safe.directory={root}", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        capture_output=True,
        check=True,
    ).stdout.decode()
    return sorted(Path(each) for each in set(listed.split("\0")) if each and (root / each).is_file())


def hash_of_what_is_installed(root: Path = ROOT) -> str:
    return hash_of(root, (each for each in files(root) if not str(each).startswith(NOT_INSTALLED)))


def hash_of(root: Path, names: Iterable[Path]) -> str:
    """Of names, contents and modes of files; 16 hexadecimal digits."""
    total = hashlib.sha256()
    for each in names:
        content = (root / each).read_bytes()
        mode = (root / each).stat().st_mode & 0o111
        total.update(f"{each}\0{mode}\0{len(content)}\0".encode() + content)
    return total.hexdigest()[:16]


def archive(root: Path = ROOT) -> bytes:
    """All files as a tar archive, compressed."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz", compresslevel=1) as tar:
        for each in files(root):
            information = tar.gettarinfo(root / each, str(each))
            information.uid = information.gid = 0
            information.uname = information.gname = "root"
            with (root / each).open("rb") as content:
                tar.addfile(information, content)
    return stream.getvalue()


def packages(variable: str, root: Path = ROOT) -> list[str]:
    """The packages that `./dev` names in a variable, such as RUN_PACKAGES."""
    for line in (root / "dev").read_text().splitlines():
        if line.startswith(f"{variable}='"):
            return line.split("'")[1].split()
    raise LookupError(f"./dev does not set {variable} on a line of its own")
