"""From one version to another and back, from source and as a package, while containers and commands go on."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from machine.containers import ADDRESS_6, is_content, new_container, pings
from machine.host_level import CHANGED, HOST_LEVEL, UNTOUCHED
from machine.laboratory.checkout import ROOT, files
from machine.laboratory.machine import CHECKOUT, Machine, Machines

#: The last version before an installation was a tree for each build, and before the present schema of the store.
BEFORE = "98c1f96"
OLD_CHECKOUT = "/root/osctl-before"
#: Each line: status, microseconds, and the last of what was said.
CALLS = """
while [ ! -e /run/calls.stop ]; do
    begun=${EPOCHREALTIME/./}
    said=$(osctl ct ls 2>&1)
    status=$?
    echo "$status $((${EPOCHREALTIME/./} - begun)) ${said##*$'\\n'}" >>/run/calls
done
"""
#: What may have changed when a package is gone: what packages and logs are about, and the kernel's own.
NO_TRACE = " -o ".join(f"-path {each}" for each in ("/var/lib/dpkg", "/var/lib/apt", "/var/cache", "/var/log", "/tmp"))


class Calls:
    """`osctl ct ls` again and again, as scripts call it."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        machine.run("rm -f /run/calls /run/calls.stop")
        machine.put("/run/calls.sh", CALLS)
        machine.start("bash /run/calls.sh")
        machine.wait_until("grep -q running /run/calls", "commands are answered")

    def end(self) -> list[tuple[int, str]]:
        """Status and last words of each."""
        self.machine.run("touch /run/calls.stop; sleep 2")
        lines = self.machine.run("cat /run/calls").output.splitlines()
        parsed = [each.split(" ", 2) for each in lines]
        longest = max(int(micros) for _, micros, _ in parsed) / 1e6
        print(f"{len(parsed)} commands, the longest took {longest:.1f} s")
        return [(int(status), said) for status, _, said in parsed]


def build_of(machine: Machine) -> str:
    """The build of client and daemon, which is one."""
    lines = machine.run("osctl --version").output.splitlines()
    assert len(lines) == 1, lines
    build = lines[0].rpartition(" ")[2]
    assert machine.run("osctl self status -H -o build").output.strip() == build
    return build


def assert_all_answered(going_on: Sequence[object]) -> None:
    for each in going_on:
        answered, lost = each.end()  # type: ignore[attr-defined]
        assert answered > 10
        assert lost == []


@pytest.mark.time_limit(1200)
def test_an_upgrade_loses_no_ping_and_no_command_and_what_runs_is_what_was_installed(machine: Machine) -> None:
    address = new_container(machine)
    before = build_of(machine)
    going_on, calls = [pings(machine, address), pings(machine, ADDRESS_6)], Calls(machine)

    machine.run(f"echo '# changed' >>{CHECKOUT}/src/osctld/turns.py && cd {CHECKOUT} && ./dev install", 600)

    assert_all_answered(going_on)
    said = calls.end()
    assert len(said) > 10
    assert [each for each in said if each[0] != 0 or "running" not in each[1]] == []
    after = build_of(machine)
    assert after != before
    assert machine.run(f"tail -n 1 /usr/local/lib/osctl/{after}/osctld/turns.py").output == "# changed\n"
    assert machine.run("ls /usr/local/lib/osctl").output.split() == [*sorted([after, "current"])]


@pytest.mark.time_limit(1200)
def test_a_version_whose_daemon_does_not_start_is_not_left_installed(machine: Machine) -> None:
    address = new_container(machine)
    before = build_of(machine)
    unit = machine.run("cat /etc/systemd/system/osctld.service").output
    going_on = [pings(machine, address)]

    machine.run(f"""
        cd {CHECKOUT}
        sed -i 's/^    kept = take_kept_sockets()/    raise SystemExit(7)/' src/osctld/service.py
        grep -q 'raise SystemExit(7)' src/osctld/service.py
        echo '# another unit' >>packaging/osctld.service
    """)
    failed = machine.run(f"cd {CHECKOUT} && ./dev install", 600, check=False)

    assert failed.status == 1, failed.output
    assert "what was installed before is in use again\n" in failed.output
    assert "systemctl restart osctld.service: " in failed.output
    machine.wait_until("osctl ct ls", "the daemon answers")
    assert build_of(machine) == before
    assert machine.run("cat /etc/systemd/system/osctld.service").output == unit
    assert machine.run("ls /usr/local/lib/osctl").output.split() == [*sorted([before, "current"])]
    assert_all_answered(going_on)


@pytest.mark.time_limit(1200)
def test_an_upgrade_loads_its_profiles_while_guests_that_they_confine_run_on(machine: Machine) -> None:
    new_container(machine)
    profile = "/etc/apparmor.d/lxc-osctl"
    pid = machine.run("osctl ct show -H -o init_pid web").output.strip()

    machine.run(
        f"cd {CHECKOUT} && echo 'profile lxc-osctl-newer {{ }}' >>packaging/apparmor/lxc-osctl && ./dev install", 600
    )

    assert "lxc-osctl-newer (enforce)" in machine.run("cat /sys/kernel/security/apparmor/profiles").output
    assert machine.run(f"tail -n 1 {profile}").output == "profile lxc-osctl-newer { }\n"
    assert machine.run(f"cat /proc/{pid}/attr/current").output.startswith("lxc-osctl (enforce)")


@pytest.mark.time_limit(2400)
def test_one_can_go_from_the_version_before_to_this_one_and_back(machines: Machines) -> None:
    machine = machines.start("prepared")
    machine.put("/tmp/before.tar.gz", checkout_before())
    machine.run(f"mkdir {OLD_CHECKOUT} && tar -xzmf /tmp/before.tar.gz -C {OLD_CHECKOUT}")
    machine.run(f"cd {OLD_CHECKOUT} && ./dev install", 1200)
    address = new_container(machine)
    going_on, calls = [pings(machine, address), pings(machine, ADDRESS_6)], Calls(machine)

    machine.put_checkout()
    machine.run(f"cd {CHECKOUT} && ./dev install", 600)

    said = calls.end()
    # The program was never missing. Its daemon was, for a moment: the old one's socket was not kept.
    assert {status for status, _ in said} <= {0, 69, 1}
    assert not any("No such file" in words and "osctld.sock" not in words for _, words in said)
    build_of(machine)
    assert machine.run("find /usr/local/lib/osctl -name pyvenv.cfg").output == ""
    assert machine.run("osctl ct ls").output.count("running") == 1
    assert machine.run("ls /var/lib/osctl/osctl.sqlite.schema2").output

    machine.run("systemctl stop osctld && osctld --restore-schema 2")
    machine.run(f"cd {OLD_CHECKOUT} && ./dev install", 1200)

    assert "osctl version 0.1.0\n" in machine.run("osctl --version").output
    machine.wait_until("osctl ct ls | grep -q running", "the daemon of before finds its container")
    assert_all_answered(going_on)


def checkout_before() -> bytes:
    """The files of that version, from the history, which CI fetches whole."""
    return subprocess.run(
        ["git", "-c", f"safe.directory={ROOT}", "archive", "--format=tar.gz", BEFORE],
        cwd=ROOT, capture_output=True, check=True,
    ).stdout  # fmt: skip


# --- as a package -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """Two packages for each release, the second of other contents; made when they are first asked for."""
    return Packages(tmp_path_factory.mktemp("packages"))


class Packages(dict[str, tuple[Path, Path]]):
    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def __missing__(self, suite: str) -> tuple[Path, Path]:
        first = self.folder / suite
        for name in files():
            (first / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, first / name, follow_symlinks=False)
        shutil.copytree(ROOT / ".git", first / ".git") if (ROOT / ".git").is_dir() else None
        made = [make_package(first, suite, self.folder / f"{suite}-1.deb")]
        with (first / "src/osctld/daemon/turns.py").open("a") as file:
            file.write("# changed\n")
        made.append(make_package(first, suite, self.folder / f"{suite}-2.deb"))
        self[suite] = (made[0], made[1])
        return self[suite]


def make_package(root: Path, suite: str, target: Path) -> Path:
    done = subprocess.run([str(root / "dev"), "deb", suite], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Path(shutil.copy(root / done.stdout.strip(), target))


def with_package(machine: Machine, package: Path) -> str:
    """The command that installs a package, older or newer, as an operator would."""
    machine.put("/tmp/osctl.deb", package.read_bytes())
    return "apt-get install -y --no-install-recommends --allow-downgrades /tmp/osctl.deb"


def all_files(machine: Machine) -> set[str]:
    machine.run("systemctl daemon-reload")
    return set(machine.run(f"find / -xdev \\( {NO_TRACE} \\) -prune -o -print").output.splitlines())


@pytest.mark.time_limit(1800)
def test_a_package_is_installed_upgraded_removed_and_purged(
    machines: Machines, packages: dict[str, tuple[Path, Path]]
) -> None:
    first, second = packages[machines.release.suite]
    machine = machines.start("prepared")
    before = all_files(machine)

    machine.run(with_package(machine, first), 900)
    assert machine.run("systemctl is-active osctld; systemctl is-enabled osctld").output == "active\nenabled\n"
    is_content(machine)
    assert machine.run("systemctl --failed --plain --no-legend").output == ""
    address = new_container(machine)
    old = build_of(machine)
    going_on, calls = [pings(machine, address), pings(machine, ADDRESS_6)], Calls(machine)

    machine.run(with_package(machine, second), 900)

    said = calls.end()
    assert len(said) > 10
    assert [each for each in said if each[0] != 0 or "running" not in each[1]] == []
    assert build_of(machine) != old

    removed = machine.run("apt-get remove -y osctl", 300).output

    stay = "osctl: containers are running: forwarding, accept_ra and the packet filter stay until the next boot"
    assert stay in removed
    assert machine.run(HOST_LEVEL).output == CHANGED
    assert machine.run("command -v osctl osctld", check=False).output == ""
    assert machine.run("cat /etc/osctl/osctld.toml").output  # a conffile, until it is purged
    assert_all_answered(going_on)

    # Purged while there is a container: what is known of it stays, and a package finds it again.
    machine.run("apt-get purge -y osctl", 300)
    machine.run("ls /var/lib/osctl/ct/web/rootfs/bin/busybox")
    machine.run(with_package(machine, first), 900)
    assert machine.run("osctl ct ls").output.count("running") == 1
    machine.run("osctl ct stop -k web; osctl ct del web", 120)

    machine.run("apt-get purge -y osctl", 300)

    left = {each for each in all_files(machine) - before if "osctl" in each}
    assert left == set()
    assert machine.run(HOST_LEVEL).output == UNTOUCHED


@pytest.mark.time_limit(1200)
def test_a_package_tells_of_the_bridge_that_lxc_starts_unless_that_was_masked(
    machines: Machines, packages: dict[str, tuple[Path, Path]]
) -> None:
    package, _ = packages[machines.release.suite]
    machine = machines.start("bare")

    machine.run("systemctl mask lxc-net")
    said = machine.run(with_package(machine, package), 900).output

    assert "lxcbr0" not in said
    assert machine.run("cat /proc/sys/net/ipv4/ip_forward").output == "0\n"
    assert machine.run("ls -d /sys/class/net/lxcbr0", check=False).status != 0

    machine.run("apt-get purge -y osctl lxc && systemctl unmask lxc-net && systemctl daemon-reload", 300)
    said = machine.run(with_package(machine, package), 900).output

    assert "osctl: it is not needed here; to be rid of it: systemctl disable --now lxc-net" in said
    machine.run("systemctl disable --now lxc-net && test ! -e /sys/class/net/lxcbr0")
    machine.run("systemctl is-active osctld")


@pytest.mark.time_limit(1800)
def test_the_packages_own_test_runs_the_readmes_example(
    machines: Machines, packages: dict[str, tuple[Path, Path]]
) -> None:
    package, _ = packages[machines.release.suite]
    machine = machines.start("prepared")
    machine.put("/tmp/osctl.deb", package.read_bytes())
    machine.put("/tmp/tests.tar.gz", source_with_tests())
    machine.run("mkdir /tmp/source && tar -xzf /tmp/tests.tar.gz -C /tmp/source")
    machine.run("apt-get install -y --no-install-recommends autopkgtest", 600)

    # This machine is the testbed, and one for nothing else.
    options = "--ignore-restrictions=isolation-machine"
    command = f"cd /tmp && autopkgtest {options} /tmp/osctl.deb /tmp/source -- null"
    done = machine.run(command, 900, check=False)

    assert done.status == 0, done.output[-4000:]
    assert re.search(r"(?m)^example +PASS$", done.output)
    machine.run("systemctl is-active osctld")


def source_with_tests() -> bytes:
    """The tests alone: a tree with more in it would have to be built, by packages that a machine does not reach."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        tar.add(ROOT / "packaging/debian/tests", "debian/tests")
        log = b"osctl (0) UNRELEASED; urgency=medium\n\n  * Tests.\n\n -- A <a@b.c>  Thu, 01 Jan 1970 00:00:00 +0000\n"
        about = tarfile.TarInfo("debian/changelog")
        about.size = len(log)
        tar.addfile(about, io.BytesIO(log))
    return stream.getvalue()


def test_an_installation_from_source_and_a_package_beside_each_other_are_found(
    machine: Machine, packages: dict[str, tuple[Path, Path]]
) -> None:
    package, _ = packages[machine.release.suite]

    said = machine.run(with_package(machine, package), 900).output

    assert "./dev install has put another osctl into /usr/local, and that one runs" in said
    assert "osctl is installed twice" in machine.run("osctl self check", check=False).output
    refused = machine.run(f"cd {CHECKOUT} && ./dev install", 300, check=False)
    assert refused.status == 1
    assert "the Debian package osctl is installed, and only one can run" in refused.output
