"""`./dev install` and what it puts into a system."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import osctl.__main__ as client
from osctld.cli.version import BUILD, VERSION
from osctld.core.config.settings import Settings
from osctld.core.plan.kernel_state import LINK_PREFIX
from whole.host import wait_until

ROOT = Path(__file__).parent.parent
PACKAGING = ROOT / "packaging"
LIBRARY = "usr/local/lib/osctl"

#: Runs the installer and ends it, as a power switch would, at the Nth change that it makes to a file system. With 0 it
#: names the changes instead, and when it waits for the disk.
KILLED = """
import os, runpy, signal, sys
last, count = int(sys.argv.pop(1)), 0
CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.symlink", "os.chmod"}
def hook(event, args):
    global count
    if event in CHANGES or event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR):
        count += 1
        if count == last:
            os.kill(os.getpid(), signal.SIGKILL)
        if last == 0:
            print(event, args[1] if event == "os.rename" else args[0], flush=True)
    if event == "ctypes.dlsym" and args[1] == "syncfs" and last == 0:
        print("sync", flush=True)
sys.addaudithook(hook)
sys.argv.pop(0)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def dev(target: str, destination: Path, *, root: Path = ROOT, environment: dict[str, str] | None = None) -> None:
    subprocess.run(
        [str(root / "dev"), target],
        env={**os.environ, **(environment or {}), "DESTDIR": str(destination)},
        stdout=subprocess.DEVNULL,
        check=True,
        timeout=120,
    )


def files_below(directory: Path) -> set[str]:
    return {f"/{each.relative_to(directory)}" for each in directory.rglob("*") if each.is_file() or each.is_symlink()}


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A checkout of its own, with what was fetched before, and no environment."""
    dev("install", tmp_path / "first")  # fetches
    target = tmp_path / "clone"
    target.mkdir()
    for name in ("src", "scripts", "packaging", "docs"):
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dev", "pyproject.toml", "uv.lock", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, target / name)
    shutil.copytree(ROOT / ".cache/wheels", target / ".cache/wheels")
    return target


class Installed:
    """A directory as a system that runs what is installed in it: where /usr/local is the one there."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "usr/local").mkdir(parents=True, exist_ok=True)

    def inside(self, script: str) -> list[str]:
        mounts = 'mount --bind "$1/usr/local" /usr/local'
        return ["unshare", "--mount", "sh", "-euc", f"{mounts}\n{script}", "sh", str(self.root)]

    def version(self, program: str = "osctl") -> str:
        """What a program says of itself, without a daemon."""
        return subprocess.run(
            self.inside(f"exec {program} --version"),
            env={"PATH": "/usr/local/bin:/usr/bin:/bin", "OSCTL_SOCKET": "/nonexistent"},
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        ).stdout.strip()

    def build(self) -> str:
        """The build that is installed: both programs say the same."""
        builds = {self.version(each).rpartition(" ")[2] for each in ("osctl", "osctld")}
        assert len(builds) == 1
        return builds.pop()


def installer(clone: Path, root: Path, *, before: tuple[str, ...] = ()) -> list[str]:
    (wheels,) = (each for each in (clone / ".cache/wheels").iterdir() if each.name == tag())
    program = [str(clone / "packaging/install.py"), "install", "--destdir", str(root), "--wheels", str(wheels)]
    return ["/usr/bin/python3", "-B", *before, *program]


def tag() -> str:
    program = 'import sys; print("%d%d" % sys.version_info[:2])'
    return subprocess.run(
        ["/usr/bin/python3", "-c", program], capture_output=True, text=True, check=True, timeout=30
    ).stdout.strip()


def change(clone: Path, text: str = "# changed\n") -> None:
    """Change one source file: what is installed from now on is another build."""
    with (clone / "src/osctld/daemon/turns.py").open("a") as file:
        file.write(text)


def install_in_the_former_way(clone: Path, root: Path) -> None:
    """As it was before there were trees: the library itself is a virtual environment, and the links lead into it."""
    library = root / LIBRARY
    subprocess.run(["/usr/bin/python3", "-m", "venv", "--without-pip", str(library)], check=True, timeout=60)
    (packages,) = (library / "lib").glob("python3*/site-packages")
    for name in ("osctl", "osctld"):
        shutil.copytree(clone / "src" / name, packages / name)
        script = library / "bin" / name
        text = (clone / "scripts" / name).read_text().replace("#!python", "#!/usr/local/lib/osctl/bin/python", 1)
        script.write_text(text)
        script.chmod(0o755)
        (root / "usr/local/bin").mkdir(exist_ok=True)
        (root / "usr/local/bin" / name).symlink_to(f"../lib/osctl/bin/{name}")
    (wheel,) = (clone / ".cache/wheels" / tag()).glob("*.whl")
    subprocess.run(["unzip", "-q", str(wheel), "-d", str(packages)], check=True, timeout=30)


@pytest.mark.time_limit(180)
def test_an_installation_runs_from_its_place_and_is_gone_after_uninstall(tmp_path: Path) -> None:
    dev("install", tmp_path)

    files = files_below(tmp_path)
    assert {
        "/usr/local/bin/osctl",
        "/usr/local/bin/osctld",
        "/etc/systemd/system/osctld.service",
        "/etc/iproute2/rt_protos.d/osctl.conf",
    } <= files
    # The places where shells look by themselves; those below /usr/local are known to some of them only.
    completions = {
        "/usr/share/bash-completion/completions/osctl",
        "/usr/share/zsh/vendor-completions/_osctl",
        "/usr/share/fish/vendor_completions.d/osctl.fish",
    }
    assert completions <= files
    assert {"/usr/local/share/man/man8/osctl.8", "/usr/local/share/man/man7/osctl-routed.7"} <= files
    places = ("/usr/local/bin/", "/usr/local/lib/osctl/", "/usr/local/share/man/man", "/etc/")
    outside = {each for each in files - completions if not each.startswith(places)}
    assert outside == set()
    # Nothing of the clone is needed any more.
    tree = f"/{LIBRARY}/{Installed(tmp_path).build()}"
    for script in ("osctl", "osctld"):
        first, second, third, *rest = (tmp_path / "usr/local/bin" / script).read_text().splitlines()
        assert (first, second, third) == ("#!/usr/bin/python3 -ISB", "import sys", f'sys.path.append("{tree}")')
        assert rest == (ROOT / "scripts" / script).read_text().splitlines()[2:]

    dev("uninstall", tmp_path)

    assert files_below(tmp_path) == set()


@pytest.mark.time_limit(180)
def test_what_runs_is_what_was_installed_and_says_which_it_is(clone: Path, tmp_path: Path) -> None:
    system = Installed(tmp_path / "first")
    first = system.build()
    assert re.fullmatch("[0-9a-f]{12}", first)

    change(clone)
    dev("install", system.root, root=clone)

    second = system.build()
    assert second != first
    tree = system.root / LIBRARY / second
    assert (tree / "osctld/daemon/turns.py").read_text() == (clone / "src/osctld/daemon/turns.py").read_text()
    # The same contents are the same build, wherever they lie; of trees, one is left.
    dev("install", system.root, root=clone)
    assert system.build() == second
    assert len([each for each in (system.root / LIBRARY).iterdir() if each.is_dir() and not each.is_symlink()]) == 1
    # To install needs no environment of developers.
    assert not (clone / ".venv").exists()
    assert not (clone / ".cache/tools").exists()


@pytest.mark.time_limit(180)
@pytest.mark.parametrize("former", [False, True], ids=["upgrade", "from the former layout"])
def test_no_call_of_the_client_fails_while_another_version_is_installed(
    clone: Path, tmp_path: Path, former: bool
) -> None:
    system = Installed(tmp_path / "second" if former else tmp_path / "first")
    if former:
        install_in_the_former_way(clone, system.root)
    before = system.build()
    change(clone)
    log, stop = tmp_path / "log", tmp_path / "stop"
    loop = 'while [ ! -e "$0" ]; do osctl --version || echo failed; done'

    with log.open("w") as output:
        calls = subprocess.Popen(
            system.inside(f"exec sh -c '{loop}' {stop}"),
            env={"PATH": "/usr/local/bin:/usr/bin:/bin", "OSCTL_SOCKET": "/nonexistent"},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until(lambda: before in log.read_text(), "the client is called again and again")
        for _ in range(3):
            subprocess.run(installer(clone, system.root), check=True, timeout=60)
            change(clone)
        after = system.build()
        wait_until(lambda: after in log.read_text(), "the new client is called")
    finally:
        stop.touch()
        calls.wait(30)

    said = log.read_text().splitlines()
    assert {each.partition(",")[0] for each in said} == {f"osctl version {VERSION}"}
    builds = [each.rpartition(" ")[2] for each in said]
    assert builds == sorted(builds, key=builds.index)  # never back again
    assert (len(set(builds)), builds[0], builds[-1]) == (4, before, after)


@pytest.fixture
def memory() -> Iterator[Path]:
    """A directory that no disk has to hold: an installation waits for all that was written, by others too."""
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="osctl-test-") as directory:
        yield Path(directory)


@pytest.mark.time_limit(300)
@pytest.mark.parametrize("former", [False, True], ids=["upgrade", "from the former layout"])
def test_an_installation_that_is_killed_at_any_moment_leaves_one_that_works(
    clone: Path, tmp_path: Path, memory: Path, former: bool
) -> None:
    original = tmp_path / ("former" if former else "first")
    if former:
        (original / "usr/local").mkdir(parents=True)
        install_in_the_former_way(clone, original)
    before = Installed(original).build()
    change(clone)

    def fresh(name: str) -> Installed:
        shutil.rmtree(memory / name, ignore_errors=True)
        shutil.copytree(original, memory / name, symlinks=True)
        return Installed(memory / name)

    def install(system: Installed, moment: int) -> subprocess.CompletedProcess[str]:
        command = installer(clone, system.root, before=("-c", KILLED, str(moment)))
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    whole = fresh("whole")
    steps = [each for each in install(whole, 0).stdout.splitlines() if each != "sync"]
    after = whole.build()
    assert after != before
    switch = next(number for number, each in enumerate(steps, start=1) if each.endswith(f"{LIBRARY}/current"))
    # All around the switch, where it matters; some of the many others.
    moments = [*range(1, switch, switch // 4), *range(switch - 1, switch + 6), (switch + len(steps)) // 2, len(steps)]

    for moment in moments:
        system = fresh("killed")
        assert install(system, moment).returncode == -signal.SIGKILL
        builds = [system.version(each).rpartition(" ")[2] for each in ("osctl", "osctld")]
        told = f"killed at {steps[moment - 1]}"
        if former:  # its two links are replaced one after the other
            assert set(builds) <= {before, after}, told
            assert moment > switch or builds == [before, before], told
        else:
            assert builds == [before if moment <= switch else after] * 2, told

    # And what a killed one left behind is swept by the next.
    subprocess.run(installer(clone, system.root), check=True, timeout=60)
    first, again = files_below(whole.root), files_below(system.root)
    assert {each.replace(f"{after}.2", after) for each in again} == first


@pytest.mark.time_limit(120)
def test_a_tree_is_on_the_disk_before_anything_leads_to_it_and_so_is_all_in_the_end(
    clone: Path, tmp_path: Path
) -> None:
    system = Installed(tmp_path / "first")
    change(clone)

    command = installer(clone, system.root, before=("-c", KILLED, "0"))
    steps = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()

    tree = f"{LIBRARY}/{system.build()}"
    named = next(number for number, each in enumerate(steps) if each == f"os.rename {system.root}/{tree}")
    switched = next(number for number, each in enumerate(steps) if each.endswith(f"{LIBRARY}/current"))
    assert steps[named - 1] == "sync"
    assert named < switched
    assert "sync" in steps[switched:]


@pytest.mark.time_limit(120)
def test_files_that_cannot_be_put_in_their_places_leave_what_was_installed(clone: Path, tmp_path: Path) -> None:
    system = Installed(tmp_path / "first")
    build = system.build()
    unit = system.root / "etc/systemd/system/osctld.service"
    before = unit.read_text()
    change(clone)
    with (clone / "packaging/osctld.service").open("a") as file:
        file.write("# another unit\n")
    # A page that the new one brings, and something in its way.
    (clone / "docs/man/osctl-new.8").write_text(".TH new\n")
    page = system.root / "usr/local/share/man/man8/osctl-new.8"
    page.mkdir()

    done = subprocess.run(installer(clone, system.root), capture_output=True, text=True, check=False, timeout=60)

    assert done.returncode == 1
    left, again, error = done.stderr.splitlines()
    assert again == "what was installed before is in use again"
    assert error.startswith("error: ")
    assert all(each.endswith("osctl-new.8: Is a directory") for each in (left, error))
    assert system.build() == build
    assert unit.read_text() == before


@pytest.mark.time_limit(120)
def test_a_full_disk_leaves_what_was_installed(clone: Path, tmp_path: Path) -> None:
    system = Installed(tmp_path / "small")
    change(clone)
    first = " ".join(installer(ROOT, system.root))
    second = " ".join(installer(clone, system.root))
    script = f"""
        mount -t tmpfs -o size=16m tmpfs "$1/usr/local"
        {first}
        mount --bind "$1/usr/local" /usr/local
        osctl --version
        dd if=/dev/zero of=/usr/local/filler bs=64k status=none 2>/dev/null || true
        truncate -s -1M /usr/local/filler
        if {second}; then exit 9; fi
        osctl --version
        ls -A /usr/local/lib/osctl
        rm /usr/local/filler
        {second}
        osctl --version
    """
    environment = {"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "OSCTL_SOCKET": "/nonexistent"}

    done = subprocess.run(
        ["unshare", "--mount", "sh", "-euc", script, "sh", str(system.root)],
        env=environment, capture_output=True, text=True, check=True, timeout=100,
    )  # fmt: skip

    before, still, lock, current, tree, after = done.stdout.split("\n")[:6]
    assert before == still != after
    assert (lock, current, tree) == (".lock", "current", before.rpartition(" ")[2]) or tree == "current"
    assert re.fullmatch(r"error: /.*: No space left on device\n", done.stderr)


@pytest.mark.time_limit(120)
def test_without_a_network_nothing_is_changed(clone: Path, tmp_path: Path) -> None:
    system = Installed(tmp_path / "first")
    files, build = files_below(system.root), system.build()
    change(clone)
    shutil.rmtree(clone / ".cache/wheels")
    nowhere = {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": str(tmp_path)}

    done = subprocess.run(
        [str(clone / "dev"), "install"],
        env={**os.environ, **nowhere, "DESTDIR": str(system.root)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 1
    assert done.stderr.endswith("error: the requirements of the daemon cannot be fetched; nothing was changed\n")
    assert (files_below(system.root), system.build()) == (files, build)


@pytest.mark.time_limit(120)
def test_a_tree_that_does_not_run_is_not_installed(clone: Path, tmp_path: Path) -> None:
    system = Installed(tmp_path / "first")
    files, build = files_below(system.root), system.build()
    change(clone, "import nothing_of_that_name\n")

    done = subprocess.run(installer(clone, system.root), capture_output=True, text=True, check=False, timeout=60)

    assert done.stderr == (
        "error: osctld of the new tree does not run: No module named 'nothing_of_that_name'; if osctld"
        f" was installed for a Python other than this Python {tag()[0]}.{tag()[1:]}, install it again\n"
    )
    assert done.returncode == 1
    assert (files_below(system.root), system.build()) == (files, build)


@pytest.mark.time_limit(120)
def test_a_wheel_that_is_not_the_locked_one_is_refused(clone: Path, tmp_path: Path) -> None:
    (wheel,) = (clone / ".cache/wheels" / tag()).glob("*.whl")
    with wheel.open("ab") as file:
        file.write(b"\0")

    done = subprocess.run(installer(clone, tmp_path / "other"), capture_output=True, text=True, check=False, timeout=60)

    assert done.stderr == f"error: {wheel} is not what packaging/requirements.txt locks\n"
    assert done.returncode == 1


@pytest.mark.time_limit(180)
def test_the_environment_follows_the_scripts(clone: Path) -> None:
    shutil.copytree(ROOT / ".cache/tools", clone / ".cache/tools", symlinks=True)
    subprocess.run([str(clone / "dev"), "setup"], check=True, timeout=120)
    with (clone / "scripts/osctl").open("a") as file:
        file.write("# changed\n")

    subprocess.run([str(clone / "dev"), "setup"], check=True, timeout=120)

    assert (clone / ".venv/bin/osctl").read_text().endswith("# changed\n")


def test_what_is_fetched_is_what_the_lock_file_says() -> None:
    locked = {each["name"]: each for each in tomllib.loads((ROOT / "uv.lock").read_text())["package"]}
    runtime = [each["name"] for each in locked["osctl"]["dependencies"]]
    text = (PACKAGING / "requirements.txt").read_text()

    assert set(re.findall(r"(?m)^(\S+==\S+)", text)) == {f"{each}=={locked[each]['version']}" for each in runtime}
    files = [each for name in runtime for each in (locked[name]["sdist"], *locked[name]["wheels"])]
    assert set(re.findall(r"--hash=(\S+)", text)) == {each["hash"] for each in files}


def test_all_name_the_same_version_and_a_checkout_names_no_build() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert {project["version"], VERSION, client.VERSION} == {VERSION}
    assert (BUILD, client.BUILD) == ("development", "development")


@pytest.mark.parametrize(("status", "is_missing"), [("not-installed ", True), ("", True), ("installed ", False)])
def test_a_package_that_is_only_known_by_name_is_missing(tmp_path: Path, status: str, is_missing: bool) -> None:
    for program, said in (("dpkg-query", f"printf '{status}'"), ("id", "echo 1000"), ("sha256sum", "exit 1")):
        (tmp_path / program).write_text(f"#!/bin/sh\n{said}\n")
        (tmp_path / program).chmod(0o755)

    told = subprocess.run(
        [str(ROOT / "dev"), "setup"],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    ).stderr

    assert told.startswith("error: missing packages: lxc ") == is_missing


def test_installed_files_say_what_the_settings_say() -> None:
    settings = Settings()

    names = dict(re.findall(r"(?m)^(\d+)\s+(\S+)$", (PACKAGING / "rt_protos.conf").read_text()))
    assert names == {
        str(settings.routes.announce_protocol): "osctl",
        str(settings.routes.present_protocol): "osctl-present",
    }
    for rules in ("mark.rules", "last.rules"):
        text = (PACKAGING / rules).read_text()
        groups = "|".join(map(str, settings.host.link_groups))
        assert f'ATTR{{netdev_group}}=="{groups}"' in text
        assert f'KERNEL=="{LINK_PREFIX}*"' in text
    assert f"interface-name:{LINK_PREFIX}*-*\n" in (PACKAGING / "networkmanager.conf").read_text()


def test_stopping_the_service_touches_no_container() -> None:
    unit = (PACKAGING / "osctld.service").read_text()

    assert "KillMode=process" in unit.splitlines()
    assert "Type=notify" in unit.splitlines()


@pytest.mark.parametrize("script", ["osctl", "osctld"])
def test_scripts_are_raw_and_import_one_thing(script: str) -> None:
    file = ROOT / "scripts" / script

    assert file.read_text() == f"#!python\nimport sys\nfrom {script}.__main__ import main\nsys.exit(main())\n"
    assert os.access(file, os.X_OK)
