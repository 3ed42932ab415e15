"""The Debian packages: what is in them, and that whoever makes them makes the same."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGING = ROOT / "packaging"


def made(root: Path, release: str, *, umask: int = 0o022) -> Path:
    """Make a release's package in a checkout."""
    done = subprocess.run(
        [str(root / "dev"), "deb", release],
        capture_output=True, text=True, check=False, timeout=900, umask=umask,
        env={**os.environ, "LANG": "de_DE.UTF-8", "TZ": "Asia/Tokyo"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return root / done.stdout.strip()


@pytest.mark.time_limit(1800)
def test_a_package_made_twice_is_the_same_and_holds_what_the_installation_brings(tmp_path: Path) -> None:
    first = made(ROOT, "trixie")
    other = tmp_path / "some" / "where else"
    # With its history: the time of the last commit is the time of all that is in the package.
    shutil.copytree(ROOT, other, symlinks=True, ignore=shutil.ignore_patterns(".venv", ".cache", "__pycache__", "dist"))
    shutil.copytree(ROOT / ".cache/wheels", other / ".cache/wheels")

    second = made(other, "trixie", umask=0o077)

    assert first.name == second.name
    digests = [hashlib.sha256(each.read_bytes()).hexdigest() for each in (first, second)]
    assert digests[0] == digests[1]

    listed = subprocess.run(
        ["dpkg-deb", "--fsys-tarfile", str(first)], capture_output=True, check=True, timeout=60
    ).stdout
    names = subprocess.run(["tar", "-t"], input=listed, capture_output=True, check=True, timeout=60).stdout.decode()
    files = {each.removeprefix(".") for each in names.splitlines()}
    assert {
        *("/usr/bin/osctl", "/usr/bin/osctld", "/usr/lib/osctl/osctld/daemon/perform.py", "/etc/osctl/osctld.toml"),
        *("/usr/lib/udev/rules.d/70-osctl.rules", "/usr/lib/udev/rules.d/zz-osctl.rules"),
        *("/usr/lib/systemd/network/05-osctl.network", "/usr/lib/systemd/network/05-osctl.link"),
        *("/usr/lib/NetworkManager/conf.d/osctl.conf", "/etc/iproute2/rt_protos.d/osctl.conf"),
        *("/usr/share/bash-completion/completions/osctl", "/usr/share/man/man7/osctl-routed.7.gz"),
    } <= files
    units = {f"/usr/lib/systemd/system/{each.name}" for each in PACKAGING.glob("*.service")}
    profiles = {f"/etc/apparmor.d/{each.name}" for each in (PACKAGING / "apparmor").glob("*")}
    assert units | profiles <= files
    assert not any("/usr/local/" in each or "__pycache__" in each for each in files)
    extract = ["tar", "-xO", "./usr/lib/systemd/system/osctld.service"]
    unit = subprocess.run(extract, input=listed, capture_output=True, check=True, timeout=60).stdout.decode()
    assert "ExecStart=/usr/bin/osctld\n" in unit
    assert "/usr/local/" not in unit
    assert any("cpython-313" in each for each in files)
    depends = subprocess.run(
        ["dpkg-deb", "-f", str(first), "Depends"], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert "python3 (>= 3.13~), python3 (<< 3.14~)" in depends
    subprocess.run(["dpkg-deb", "--control", str(first), str(tmp_path / "control")], check=True, timeout=60)
    removed, purged = after(tmp_path / "control/postrm")
    stays = "osctl: containers are running: forwarding, accept_ra and the packet filter stay until the next boot\n"
    by_hand = "osctl: once none is running, restore settings with: sysctl -p /run/osctl/host-settings.conf\n"
    assert removed == f"{stays}{by_hand}forwarding 1, accept_ra 2\n"
    assert purged == "forwarding 0, accept_ra 1\nnothing in /run/osctl\n"


def after(postrm: Path) -> tuple[str, str]:
    """What is said and set when a package is removed while a container runs, and purged when none runs any more.

    In namespaces of its own: nothing of this machine is touched.
    """
    script = """
        for directory in /run /var/lib /etc/apparmor.d; do
            [ ! -d $directory ] || mount -t tmpfs tmpfs $directory
        done
        cd /proc/sys/net/ipv6/conf
        tell() { echo "forwarding $(cat all/forwarding), accept_ra $(cat default/accept_ra)"; }
        mkdir -p /run/osctl /var/lib/osctl/ct
        echo '# as it was before osctld changed it, on boot 0' >/run/osctl/host-settings.conf
        for each in all/forwarding default/accept_ra; do
            echo "net/ipv6/conf/$each = $(cat $each)" >>/run/osctl/host-settings.conf
        done
        echo 2 >default/accept_ra
        echo 1 >all/forwarding
        ip link add osweb-eth0 type veth peer name inside
        sh "$1" remove
        tell
        echo --
        ip link del osweb-eth0
        sh "$1" purge
        tell
        [ -e /run/osctl ] || echo nothing in /run/osctl
    """
    command = ["unshare", "--net", "--mount", "sh", "-euc", script, "sh", str(postrm)]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=120,
        env={**os.environ, "DPKG_MAINTSCRIPT_PACKAGE": "osctl"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    removed, _, purged = done.stdout.partition("--\n")
    return removed, purged


def test_a_release_that_no_package_is_made_for_is_refused() -> None:
    done = subprocess.run(
        [str(ROOT / "dev"), "deb", "potato"], capture_output=True, text=True, check=False, timeout=280
    )

    assert done.returncode == 1
    assert done.stderr.endswith("error: no package is made for 'potato'; there are: bookworm trixie noble\n")


def test_a_package_depends_on_what_dev_install_installs() -> None:
    wanted = set(re.findall(r"(?m)^RUN_PACKAGES='(.*)'", (ROOT / "dev").read_text())[0].split())
    control = (PACKAGING / "debian/control").read_text()
    depends = set(re.findall(r"(?m)^ ([a-z][a-z0-9-]*)(?:,| \(|$)", control.partition("Depends: ${")[2]))

    # Essential packages are not to be named; the demo alone needs ping.
    assert wanted - {"tar", "gzip", "iputils-ping", "python3"} <= depends
    assert "iputils-ping" in control


def test_the_settings_of_a_package_are_a_conffile_and_its_example_is_the_readmes() -> None:
    example = (PACKAGING / "debian/tests/example").read_text()
    readme = (ROOT / "README.md").read_text()

    for line in re.findall(r"(?m)^# (osctl ct .*myct01.*)$", readme)[:4]:
        assert f"\n{line}\n" in example
