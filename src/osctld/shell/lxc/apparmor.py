"""AppArmor on this host: its state, our profiles, policies of guests; apparmor_parser(8), securityfs.

Nothing is executed but to load our profiles when they are not, by the first container that needs them.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from pathlib import Path

from osctld.core.config.confinement import PARSER, AppArmorFacts
from osctld.core.errors import Unavailable
from osctld.shell.process.subprocesses import CLEAN_ENVIRONMENT, is_installed

_SWITCH = Path("/sys/module/apparmor/parameters/enabled")
_POLICY = Path("/sys/kernel/security/apparmor")
_NAMESPACES = _POLICY / "policy/namespaces"
_LOADED = re.compile(r"^(?P<name>\S+) \((?P<mode>\w+)\)$", re.MULTILINE)
#: Where an installation has them, in which an operator may have added to them; and those that this program carries.
_INSTALLED = Path("/etc/apparmor.d/lxc-osctl")
_CARRIED = Path(__file__).with_name("lxc-osctl")
_LOAD_SECONDS = 60.0


def look() -> AppArmorFacts:
    """See what this host has of it."""
    file = str(_INSTALLED if _INSTALLED.exists() else _CARRIED)
    if not _is_on():
        return AppArmorFacts(is_on=False, has_parser=is_installed(PARSER), file=file)
    loaded = ""
    with contextlib.suppress(OSError):  # securityfs is not mounted, or not for us
        loaded = (_POLICY / "profiles").read_text(encoding="utf-8", errors="replace")
    return AppArmorFacts(
        is_on=True,
        modes={each["name"]: each["mode"] for each in _LOADED.finditer(loaded)},
        has_parser=is_installed(PARSER),
        has_namespaces=_says_yes(_POLICY / "features/domain/stack") and _says_no(_POLICY / ".ns_stacked"),
        file=file,
    )


def _is_on() -> bool:
    with contextlib.suppress(OSError):
        return _SWITCH.read_text(encoding="ascii").startswith("Y")
    return False


def _says_yes(file: Path) -> bool:
    with contextlib.suppress(OSError):
        return file.read_text(encoding="ascii").startswith("yes")
    return False


def _says_no(file: Path) -> bool:
    with contextlib.suppress(OSError):
        return file.read_text(encoding="ascii").startswith("no")
    return False


def with_profiles_loaded() -> AppArmorFacts:
    """See what there is, after loading our profiles if the kernel wants for them and the parser is there.

    Raises Unavailable with the parser's words when it refuses them.
    """
    facts = look()
    if not facts.is_on or not facts.missing or not facts.has_parser:
        return facts
    try:
        ran = subprocess.run(
            [PARSER, "--replace", facts.file], stdin=subprocess.DEVNULL, capture_output=True, cwd="/",
            env=CLEAN_ENVIRONMENT, timeout=_LOAD_SECONDS, check=False, start_new_session=True,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"AppArmor profiles of {facts.file} cannot be loaded: {error}", code="not-confined") from None
    if ran.returncode != 0:
        said = ran.stderr.decode(errors="replace").strip().splitlines()
        raise Unavailable(
            f"AppArmor profiles of {facts.file} cannot be loaded: "
            f"{said[-1] if said else f'{PARSER} ended with status {ran.returncode}'}",
            code="not-confined",
        )
    return look()


def make_namespace(name: str) -> None:
    """Create an empty policy namespace for a guest, after removing one left by an earlier run. Raises OSError."""
    remove_namespace(name)
    (_NAMESPACES / name).mkdir()


def remove_namespace(name: str) -> None:
    """Remove a guest's own policy with all profiles in it; nothing happens when there is none."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        os.rmdir(_NAMESPACES / name)


def label_of(pid: int) -> str:
    """The label of a process, "" when it is gone or the kernel keeps none."""
    for name in ("apparmor/current", "current"):  # the first one from Linux 5.1 on
        with contextlib.suppress(OSError):
            return Path(f"/proc/{pid}/attr/{name}").read_text(encoding="utf-8", errors="replace").strip("\0\n")
    return ""
