"""A daemon whose service manager left a second root below the first: its children's namespaces hold one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

#: As systemd 252 gives a unit mounts of its own: a copy of the root moved over the root. The /proc that is seen then is
#: covered in part, as that of a guest is.
MOVED = """
set -e
mount --make-rslave /
mount -t tmpfs none /run
mkdir /run/new /run/seen
mount --rbind / /run/new
cd /run/new
mount --move . /
exec chroot . sh -euc "$1" sh "$2"
"""
#: In a new user namespace with mounts and process ids of its own. It fails where no whole /proc is anywhere.
ASK = """
mount --bind /proc/sys /proc/sys
mount --bind /proc/meminfo /proc/meminfo
unshare --user --map-root-user --mount --pid --fork mount -t proc proc /mnt
"""
LEAVE = f"""{sys.executable} -c '
import os, subprocess, sys
from osctld.shell import covered_root
os.chdir("/usr")
assert covered_root.leave()
assert os.getcwd() == "/"
assert not covered_root.leave()
assert os.listdir("/run/seen") == []
sys.exit(subprocess.run(["sh", "-euc", sys.argv[1]]).returncode)
' "$1"
"""


def moved(program: str, argument: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "sh", "-euc", MOVED, "sh", program, argument],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )


def test_a_root_below_the_root_lets_a_user_namespace_mount_proc_until_it_is_left() -> None:
    with_it, without = moved(ASK, ""), moved(LEAVE, ASK)

    assert with_it.returncode == 0, with_it.stderr
    assert without.returncode == 32, without.stderr
    assert "mount: /mnt: permission denied" in without.stderr
