"""Who may import whom, and what the repository may not contain. The table is the contract."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src"

#: Module or package -> what it may import of ours besides itself. The longest name that fits a file counts.
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "osctl": (),
    "osctld": (),  # version alone: imported by everybody
    "osctld.core": (),
    "osctld.netif": ("osctld.core",),
    "osctld.guest": ("osctld.core",),
    "osctld.announce": ("osctld.core",),
    "osctld.commands": ("osctld.core", "osctld.netif", "osctld.guest", "osctld.announce"),
    "osctld.config": ("osctld.core", "osctld.netif"),
    "osctld.cli": ("osctld.core", "osctld.commands"),
    "osctld.protocol": ("osctld.core", "osctld.netif", "osctld.commands", "osctld.cli"),
    "osctld.shell": ("osctld.core",),  # it acts and does not decide
    "osctld.lives": ("osctld.core", "osctld.shell"),
    "osctld.daemon": (
        *("osctld.core", "osctld.netif", "osctld.guest", "osctld.announce", "osctld.commands"),
        *("osctld.config", "osctld.shell", "osctld.lives", "osctld.turns", "osctld.network", "osctld.reconciler"),
        *("osctld.event_log", "osctld.records", "osctld.actions"),
    ),
    "osctld.actions": (
        *("osctld.core", "osctld.shell", "osctld.lives", "osctld.turns", "osctld.network", "osctld.reconciler"),
        *("osctld.event_log", "osctld.records"),
    ),
    "osctld.records": ("osctld.core", "osctld.config", "osctld.shell", "osctld.lives", "osctld.event_log"),
    "osctld.turns": (),
    "osctld.event_log": ("osctld.core",),
    "osctld.network": ("osctld.core", "osctld.config", "osctld.shell", "osctld.lives"),
    "osctld.reconciler": ("osctld.core", "osctld.lives", "osctld.network", "osctld.turns"),
    "osctld.server": ("osctld.core", "osctld.cli", "osctld.protocol"),
    "osctld.service": ("osctld",),  # joins them all
    "osctld.__main__": ("osctld.service",),
}

#: Values and functions of values: no I/O, no time, no chance. Those come in as arguments.
PURE = (
    *("osctld.core", "osctld.netif", "osctld.guest", "osctld.announce"),
    *("osctld.commands", "osctld.cli", "osctld.protocol", "osctld.config"),
)
#: `python -m osctld.cli` is a program: it prints.
NOT_PURE = ("osctld.cli.__main__",)
IMPURE_MODULES = {
    *("os", "posix", "io", "pathlib", "shutil", "tempfile", "glob", "fcntl", "sqlite3", "mmap"),
    *("socket", "_socket", "select", "selectors", "ssl", "subprocess", "multiprocessing", "signal", "ctypes"),
    *("asyncio", "threading", "concurrent", "time", "datetime", "random", "secrets", "logging"),
}
#: What is in those modules and does nothing but reckon.
PURE_NAMES = {"socket": {"AF_INET", "AF_INET6", "inet_ntop", "inet_pton"}}
IMPURE_CALLS = {"open", "print", "input", "exec", "eval", "uuid1", "uuid4"}

#: What the interpreter has loaded anyhow, or can load without looking for a file.
CLIENT_MODULES = {"sys", "posix", "errno", "_socket", "_json", "_signal", "__future__", "osctl"}
#: What it loads once `ct exec` has to do with a terminal, and not before.
CLIENT_MODULES_AT_A_TERMINAL = {"termios"}
CLIENT = ("osctl", "osctl.__main__")

VAGUE_NAMES = {"utils", "util", "helpers", "helper", "manager", "common", "misc", "base", "tools"}

FRONT_HALL = {
    *("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE", "pyproject.toml", "uv.lock", "dev"),
    *("src", "tests", "docs", "bench", "demo", "packaging", "scripts", ".ci", ".gitignore"),
}


class Module(NamedTuple):
    name: str
    file: Path
    tree: ast.Module


class Import(NamedTuple):
    line: int
    module: str
    is_for_types: bool
    name: str = ""


def modules() -> Iterator[Module]:
    for file in sorted(SOURCE.rglob("*.py")):
        parts = file.relative_to(SOURCE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        yield Module(name, file, ast.parse(file.read_text(), str(file)))



MODULES = tuple(modules())
NAMES = {each.name for each in MODULES}


def imports(module: Module) -> Iterator[Import]:
    """All imports of a file, wherever they stand: those for type checkers and those inside functions too."""
    for_types = {
        each
        for node in ast.walk(module.tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for statement in node.body
        for each in ast.walk(statement)
    }
    for node in ast.walk(module.tree):
        match node:
            case ast.Import():
                for each in node.names:
                    yield Import(node.lineno, each.name, node in for_types)
            case ast.ImportFrom():
                assert node.level == 0, f"{module.file}:{node.lineno}: relative import"
                assert node.module is not None
                for each in node.names:
                    full = f"{node.module}.{each.name}"
                    yield Import(node.lineno, full if full in NAMES else node.module, node in for_types, each.name)


def called(node: ast.Call) -> str:
    """The name that is called; of `module.function`, only for modules that are mixed."""
    match node.func:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=ast.Name(id="uuid" | "builtins"), attr=name):
            return name
    return ""


def is_inside(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def contract_of(name: str) -> str:
    return max((each for each in MAY_IMPORT if is_inside(name, each)), key=len)


def is_pure(name: str) -> bool:
    return name not in NOT_PURE and any(is_inside(name, each) for each in PURE)


def where(module: Module, line: int) -> str:
    return f"{module.file.relative_to(ROOT)}:{line}"


def test_the_sweep_sees_the_program() -> None:
    assert len(MODULES) > 40
    assert {"osctl.__main__", "osctld.daemon", "osctld.core.plan", "osctld.commands.ct_netif_ip_add"} <= NAMES
    assert sum(is_pure(name) for name in NAMES) > 20


def test_every_module_has_a_contract_of_its_own() -> None:
    without = [name for name in NAMES if contract_of(name) in ("osctl", "osctld") and name.count(".") > 0]

    assert sorted(without) == sorted(name for name in NAMES if name.startswith("osctl."))


def test_imports_keep_to_the_contracts() -> None:
    broken = []
    for module in MODULES:
        own = contract_of(module.name)
        for line, imported, _, _ in imports(module):
            if not is_inside(imported, "osctl") and not is_inside(imported, "osctld"):
                continue
            is_allowed = (
                (imported == "osctld" and own != "osctl")
                or contract_of(imported) == own
                or any(is_inside(imported, each) for each in MAY_IMPORT[own])
            )
            if not is_allowed:
                broken.append(f"{where(module, line)}: {module.name} imports {imported}")

    assert broken == []


def test_pure_modules_import_nothing_that_acts() -> None:
    broken = [
        f"{where(module, line)}: imports {imported}"
        for module in MODULES
        if is_pure(module.name)
        for line, imported, _, name in imports(module)
        if imported.partition(".")[0] in IMPURE_MODULES and name not in PURE_NAMES.get(imported, ())
    ]

    assert broken == []


def test_pure_modules_open_and_print_nothing() -> None:
    broken = [
        f"{where(module, node.lineno)}: calls {called(node)}()"
        for module in MODULES
        if is_pure(module.name)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and called(node) in IMPURE_CALLS
    ]

    assert broken == []


def test_the_client_imports_what_costs_nothing() -> None:
    broken = [
        f"{where(module, line)}: imports {imported}"
        for module in MODULES
        if module.name in CLIENT
        for line, imported, is_for_types, _ in imports(module)
        if imported.partition(".")[0] not in CLIENT_MODULES | CLIENT_MODULES_AT_A_TERMINAL and not is_for_types
    ]

    assert broken == []


def test_the_client_loads_nothing_more_at_run_time() -> None:
    program = "import sys; before = set(sys.modules); import osctl.__main__; print(*set(sys.modules) - before)"

    output = subprocess.run(
        [sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True, timeout=30
    ).stdout

    assert {each.partition(".")[0] for each in output.split()} <= CLIENT_MODULES


def test_only_the_program_itself_is_imported_beside_the_standard_library() -> None:
    known = sys.stdlib_module_names | {"osctl", "osctld", "msgspec"}
    broken = [
        f"{where(module, line)}: imports {imported}"
        for module in MODULES
        for line, imported, _, _ in imports(module)
        if imported.partition(".")[0] not in known
    ]

    assert broken == []


def test_modules_are_named_by_what_they_are() -> None:
    assert [name for name in NAMES if set(name.split(".")) & VAGUE_NAMES] == []


def repository_files() -> list[Path]:
    if not (ROOT / ".git").exists():
        pytest.fail("not a git clone: what belongs to the repository cannot be told")
    listed = subprocess.run(
        ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    ).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def test_the_front_hall_is_clean() -> None:
    top = {each.relative_to(ROOT).parts[0] for each in repository_files()}

    assert top - FRONT_HALL == set()


def test_no_file_names_somebody_s_machine() -> None:
    home = re.compile(r"(?<![\w.])/(?:home|Users|work|farm|root/\.)[/\w]")
    found = [
        f"{file.relative_to(ROOT)}:{number}: {line.strip()}"
        for file in repository_files()
        if file.suffix != ".lock"
        for number, line in enumerate(file.read_text(errors="replace").splitlines(), start=1)
        if home.search(line) and "re.compile" not in line
    ]

    assert found == []


def test_the_lock_file_knows_only_the_public_index() -> None:
    hosts = set(re.findall(r"\w+://([^/\"]+)", (ROOT / "uv.lock").read_text()))

    assert hosts == {"pypi.org", "files.pythonhosted.org"}


def test_files_end_with_one_newline_and_have_no_trailing_blanks() -> None:
    found = []
    for file in repository_files():
        text = file.read_text(errors="replace")
        if text and (not text.endswith("\n") or text.endswith("\n\n")):
            found.append(f"{file.relative_to(ROOT)}: end")
        if re.search(r"[ \t]$", text, re.MULTILINE):
            found.append(f"{file.relative_to(ROOT)}: trailing blanks")

    assert found == []
