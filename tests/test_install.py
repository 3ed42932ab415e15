"""`./dev install` and what it puts into a system."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from osctld.core.ownership import LINK_PREFIX
from osctld.core.settings import Settings

ROOT = Path(__file__).parent.parent
PACKAGING = ROOT / "packaging"


def dev(target: str, destination: Path) -> None:
    subprocess.run(
        [str(ROOT / "dev"), target],
        env={**os.environ, "DESTDIR": str(destination)},
        stdout=subprocess.DEVNULL,
        check=True,
        timeout=120,
    )


def files_below(directory: Path) -> set[str]:
    return {
        f"/{each.relative_to(directory)}" for each in directory.rglob("*") if each.is_file() or each.is_symlink()
    }


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
    for script in ("osctl", "osctld"):
        first, *rest = (tmp_path / "usr/local/bin" / script).read_text().splitlines()
        assert first == "#!/usr/local/lib/osctl/bin/python"
        assert rest == (ROOT / "scripts" / script).read_text().splitlines()[1:]
    # Nothing of the clone is needed any more: the packages are copies.
    where = subprocess.run(
        [str(tmp_path / "usr/local/lib/osctl/bin/python"), "-I", "-c", "import osctl, osctld; print(osctld.__file__)"],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    ).stdout
    assert where.startswith(str(tmp_path))

    dev("uninstall", tmp_path)

    assert files_below(tmp_path) == set()


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

    assert told.startswith("error: missing packages: lxc nftables iproute2 ") == is_missing


def test_installed_files_say_what_the_settings_say() -> None:
    settings = Settings()

    names = dict(re.findall(r"(?m)^(\d+)\s+(\S+)$", (PACKAGING / "rt_protos.conf").read_text()))
    assert names == {
        str(settings.routes.announce_protocol): "osctl",
        str(settings.routes.present_protocol): "osctl-present",
    }
    for rules in ("mark.rules", "last.rules"):
        text = (PACKAGING / rules).read_text()
        assert f'ATTR{{netdev_group}}=="{settings.host.link_group}"' in text
        assert f'KERNEL=="{LINK_PREFIX}*"' in text


def test_stopping_the_service_touches_no_container() -> None:
    unit = (PACKAGING / "osctld.service").read_text()

    assert "KillMode=process" in unit.splitlines()
    assert "Type=notify" in unit.splitlines()


@pytest.mark.parametrize("script", ["osctl", "osctld"])
def test_scripts_are_raw_and_import_one_thing(script: str) -> None:
    file = ROOT / "scripts" / script

    assert file.read_text() == f"#!python\nimport sys\nfrom {script}.__main__ import main\nsys.exit(main())\n"
    assert os.access(file, os.X_OK)
