"""Who may import whom, and what the repository may not contain. The table is the contract."""

from __future__ import annotations

import ast
import itertools
import re
import subprocess
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from osctld.netif.interface_type import InterfaceType, interface_types

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src"
TESTS = ROOT / "tests"

#: Module or package -> what it may import of ours besides itself. The longest name that fits a file counts.
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "osctl": (),
    "osctld": (),  # version alone: imported by everybody
    # Their own descriptions alone; what is in them follows.
    "osctld.daemon": (),
    "osctld.lifecycle": (),
    "osctld.sync": (),
    "osctld.core": (),
    "osctld.netif": ("osctld.core",),
    "osctld.guest": ("osctld.core",),
    "osctld.announce": ("osctld.core",),
    "osctld.commands": ("osctld.core", "osctld.netif", "osctld.guest", "osctld.announce"),
    "osctld.config": ("osctld.core", "osctld.netif"),
    "osctld.cli": ("osctld.core", "osctld.commands"),
    "osctld.protocol": ("osctld.core", "osctld.netif", "osctld.commands", "osctld.cli"),
    "osctld.shell": ("osctld.core",),  # it acts and does not decide
    "osctld.lifecycle.engine": ("osctld.core",),
    "osctld.lifecycle.lives": ("osctld.core", "osctld.lifecycle.engine", "osctld.shell"),
    "osctld.aside": (),  # imported by whoever has much to do
    "osctld.daemon.disk": (),
    "osctld.daemon.tasks": ("osctld.core",),
    "osctld.daemon.turns": (),
    "osctld.daemon.event_log": ("osctld.core",),
    "osctld.sync.ports": ("osctld.core",),
    "osctld.sync.mending": (),
    "osctld.sync.host_look": ("osctld.core",),
    "osctld.sync.drift": ("osctld.core",),
    "osctld.daemon.records": (
        *("osctld.core", "osctld.config", "osctld.cli.version", "osctld.shell", "osctld.lifecycle.lives"),
        *("osctld.daemon.event_log", "osctld.daemon.disk"),
    ),
    "osctld.daemon.failures": ("osctld.core", "osctld.daemon.disk", "osctld.shell.store"),
    "osctld.daemon.change_notes": (
        *("osctld.core", "osctld.config", "osctld.daemon.disk", "osctld.sync.ports", "osctld.daemon.records"),
    ),
    "osctld.daemon.effects": ("osctld.core", "osctld.daemon.change_notes", "osctld.sync.plan_sender"),
    "osctld.daemon.kernel_effects": ("osctld.core", "osctld.daemon.effects", "osctld.daemon.records"),
    "osctld.sync.obstacles": ("osctld.core",),
    "osctld.sync.arrivals": ("osctld.core", "osctld.sync.ports", "osctld.daemon.tasks"),
    "osctld.sync.plan_sender": (
        *("osctld.core", "osctld.daemon.change_notes", "osctld.sync.mending", "osctld.sync.obstacles"),
        *("osctld.sync.arrivals", "osctld.sync.ports"),
    ),
    "osctld.sync.tracked": ("osctld.core",),
    "osctld.sync.stopped": ("osctld.aside", "osctld.core", "osctld.sync.ports"),
    "osctld.sync.ways": ("osctld.core", "osctld.sync.ports"),
    "osctld.sync.routers": ("osctld.core", "osctld.sync.ports", "osctld.daemon.tasks"),
    "osctld.sync.host": (
        *("osctld.core", "osctld.sync.host_look", "osctld.sync.mending", "osctld.sync.plan_sender"),
        *("osctld.sync.ports", "osctld.sync.routers", "osctld.sync.stopped", "osctld.sync.ways"),
    ),
    "osctld.sync.containers": (
        "osctld.aside",
        *("osctld.core", "osctld.daemon.change_notes", "osctld.sync.drift", "osctld.sync.host"),
        *("osctld.sync.plan_sender", "osctld.sync.ports", "osctld.sync.obstacles"),
    ),
    "osctld.sync.bird_engine": ("osctld.core", "osctld.announce", "osctld.shell.routing"),
    "osctld.sync.announcements": (*("osctld.core", "osctld.announce", "osctld.sync.containers", "osctld.sync.ports"),),
    "osctld.lifecycle.host_phase": ("osctld.core", "osctld.daemon.disk", "osctld.shell"),
    "osctld.lifecycle.retries": (
        *("osctld.core", "osctld.daemon.records", "osctld.daemon.tasks", "osctld.lifecycle.host_phase"),
        "osctld.lifecycle.lives",
    ),
    "osctld.daemon.guest_files": (
        *("osctld.core", "osctld.guest", "osctld.shell.rootfs", "osctld.lifecycle.lives", "osctld.daemon.records"),
        "osctld.sync.host",
    ),
    "osctld.lifecycle.supervisor": (
        "osctld.daemon.guest_files",
        *("osctld.core", "osctld.sync.containers", "osctld.lifecycle.engine", "osctld.daemon.event_log"),
        *("osctld.lifecycle.host_phase", "osctld.sync.host", "osctld.lifecycle.lives", "osctld.daemon.records"),
        "osctld.lifecycle.retries",
        *("osctld.daemon.tasks", "osctld.daemon.turns"),
    ),
    "osctld.lifecycle.boot": (
        *("osctld.core", "osctld.daemon.event_log", "osctld.lifecycle.host_phase", "osctld.lifecycle.lives"),
        *("osctld.daemon.records", "osctld.shell", "osctld.lifecycle.supervisor", "osctld.daemon.tasks"),
        *("osctld.daemon.turns",),
    ),
    "osctld.daemon.net_actions": (
        "osctld.aside",
        *("osctld.core", "osctld.commands", "osctld.sync.host", "osctld.daemon.records", "osctld.daemon.turns"),
    ),
    "osctld.daemon.static_routes": (
        *("osctld.aside", "osctld.core", "osctld.announce", "osctld.commands", "osctld.daemon.records"),
    ),
    "osctld.daemon.router": (
        *("osctld.core", "osctld.announce", "osctld.commands", "osctld.daemon.disk", "osctld.daemon.records"),
        "osctld.sync.announcements",
    ),
    "osctld.daemon.parking": ("osctld.core", "osctld.daemon.event_log", "osctld.daemon.records", "osctld.daemon.turns"),
    "osctld.daemon.reservations": ("osctld.core",),
    "osctld.sync.reconciler": (
        *("osctld.core", "osctld.daemon.change_notes", "osctld.sync.containers", "osctld.sync.drift"),
        *("osctld.sync.host", "osctld.sync.mending", "osctld.sync.plan_sender", "osctld.sync.ports"),
        *("osctld.daemon.records", "osctld.daemon.turns", "osctld.sync.obstacles"),
    ),
    "osctld.daemon.since": (),
    "osctld.daemon.blocking": (
        *("osctld.core", "osctld.commands", "osctld.daemon.effects", "osctld.daemon.kernel_effects"),
        *("osctld.daemon.records", "osctld.daemon.turns", "osctld.sync.containers", "osctld.sync.host"),
        *("osctld.sync.obstacles", "osctld.sync.ports"),
    ),
    "osctld.daemon.condition": (
        *("osctld.core", "osctld.netif", "osctld.shell", "osctld.daemon.records", "osctld.daemon.since"),
        *("osctld.lifecycle.host_phase", "osctld.lifecycle.lives", "osctld.sync.drift", "osctld.sync.host"),
        *("osctld.sync.obstacles", "osctld.sync.ports", "osctld.sync.reconciler", "osctld.sync.ways"),
        "osctld.daemon.guest_files",
    ),
    "osctld.daemon.actions": (
        *("osctld.core", "osctld.shell", "osctld.lifecycle.boot", "osctld.sync.containers"),
        *("osctld.daemon.event_log", "osctld.lifecycle.host_phase", "osctld.sync.host", "osctld.lifecycle.lives"),
        *("osctld.sync.reconciler", "osctld.daemon.records", "osctld.lifecycle.supervisor", "osctld.daemon.turns"),
        *("osctld.sync.stopped", "osctld.daemon.net_actions", "osctld.sync.obstacles", "osctld.daemon.condition"),
        *("osctld.daemon.blocking", "osctld.daemon.failures", "osctld.daemon.guest_files"),
        *("osctld.daemon.static_routes", "osctld.daemon.router", "osctld.sync.announcements"),
    ),
    "osctld.daemon.perform": (
        *("osctld.aside", "osctld.daemon.router", "osctld.sync.announcements"),
        *("osctld.core", "osctld.daemon.actions", "osctld.lifecycle.boot", "osctld.sync.containers"),
        *("osctld.sync.drift", "osctld.daemon.effects", "osctld.daemon.event_log", "osctld.lifecycle.host_phase"),
        *("osctld.sync.host", "osctld.daemon.kernel_effects", "osctld.lifecycle.lives", "osctld.sync.ports"),
        *("osctld.sync.reconciler", "osctld.daemon.records", "osctld.lifecycle.supervisor", "osctld.daemon.turns"),
        *("osctld.sync.stopped", "osctld.sync.tracked"),
        *("osctld.sync.obstacles", "osctld.sync.plan_sender", "osctld.daemon.parking", "osctld.daemon.reservations"),
        *("osctld.daemon.condition", "osctld.daemon.blocking", "osctld.daemon.failures", "osctld.daemon.guest_files"),
    ),
    "osctld.maintenance": ("osctld.core", "osctld.config", "osctld.shell"),
    "osctld.at_shutdown": (
        *("osctl.client", "osctld.core", "osctld.config", "osctld.lifecycle.engine", "osctld.shell"),
        *("osctld.lifecycle.boot",),
    ),
    "osctld.assembly": ("osctld",),  # joins them all
    "osctld.server": ("osctld.aside", "osctld.core", "osctld.cli", "osctld.protocol"),
    "osctld.service": ("osctld",),  # starts them all
    "osctld.__main__": ("osctld.service",),
}

#: The same within the core, from its first folder to its last. `osctld.core.command` and what is beside it may import
#: all but `health`, and of them folders use the errors, events and persons alone; `health` says its findings as rows.
CORE_MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "address": (),
    "plan": ("address",),
    "authority": ("address", "plan"),
    "config": ("address", "plan", "authority"),
    "reconcile": ("address", "plan", "authority", "config"),
    "health": ("address", "plan", "authority", "config", "reconcile", "command"),
}
CORE_OF_ALL = ("errors", "events", "person")

#: Who may look into the folder of a type of interface: commands for what interfaces of that type alone have.
COMMANDS_OF_TYPES = {
    "routed": (
        *("osctld.commands.ct_netif_ip_move", "osctld.commands.ct_netif_route_", "osctld.commands.ct_netif_source_"),
        "osctld.protocol.families.netif",  # `netif_route_list`
    ),
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


def modules(folder: Path) -> Iterator[Module]:
    for file in sorted(folder.rglob("*.py")):
        parts = file.relative_to(folder).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        yield Module(name, file, ast.parse(file.read_text(), str(file)))


MODULES = tuple(modules(SOURCE))
TEST_MODULES = tuple(modules(TESTS))
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
    assert {
        "osctl.__main__",
        "osctld.daemon.perform",
        "osctld.core.plan.planner",
        "osctld.commands.ct_netif_ip_add",
    } <= NAMES
    assert sum(is_pure(name) for name in NAMES) > 20
    assert {"conftest", "whole.host", "whole.test_daemon"} <= {each.name for each in TEST_MODULES}


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


def folder_of_core(name: str) -> str:
    return name.removeprefix("osctld.core.").partition(".")[0]


def test_the_folders_of_the_core_form_no_circle() -> None:
    folders = {each.name for each in (SOURCE / "osctld/core").iterdir() if each.is_dir() and each.name != "__pycache__"}
    assert folders == CORE_MAY_IMPORT.keys()
    broken = [
        f"{where(module, line)}: {module.name} imports {imported}"
        for module in MODULES
        if is_inside(module.name, "osctld.core") and (own := folder_of_core(module.name)) in CORE_MAY_IMPORT
        for line, imported, _, _ in imports(module)
        if is_inside(imported, "osctld.core")
        and folder_of_core(imported) not in (own, *CORE_OF_ALL, *CORE_MAY_IMPORT[own])
    ]

    assert broken == []


def test_no_type_of_interface_is_named_outside_of_its_own_place() -> None:
    types = interface_types()
    assert types
    broken = []
    for module in MODULES:
        for name, kind in types.items():
            place = f"osctld.netif.{name}"
            if is_inside(module.name, place):
                continue
            may_look = module.name.startswith(COMMANDS_OF_TYPES.get(name, ()))
            broken += [
                f"{where(module, line)}: imports {imported}"
                for line, imported, _, _ in imports(module)
                if is_inside(imported, place) and not may_look
            ]
            classes = {each.__name__ for each in vars(sys.modules[place]).values() if isinstance(each, type)}
            classes |= {kind.new.__name__, kind.options.__name__, kind.document.__name__, interface_class(kind)}
            broken += [
                f"{where(module, node.lineno)}: names {node.id}"
                for node in ast.walk(module.tree)
                if isinstance(node, ast.Name) and node.id in classes
            ]

    assert broken == []


def interface_class(kind: InterfaceType[Any]) -> str:
    """The name of the class of a type's interfaces: what is made of a document."""
    return str(typing.get_type_hints(kind.decode)["return"].__name__)


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


def test_test_modules_import_none_of_each_other() -> None:
    """What several need is in a module beside them, which says what it holds; a test that is imported runs twice."""
    broken = [
        f"{where(module, line)}: imports {imported}, {name}"
        for module in TEST_MODULES
        for line, imported, _, name in imports(module)
        if any(part.startswith("test_") for part in (*imported.split("."), name))
    ]

    assert broken == []


def fixtures(module: Module) -> dict[str, int]:
    """The fixtures that a file defines, and where."""
    return {
        node.name: node.lineno
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and any(ast.unparse(each).partition("(")[0] == "pytest.fixture" for each in node.decorator_list)
    }


def test_a_fixture_of_a_folder_means_the_same_in_all_its_files() -> None:
    """What a file wants otherwise has a name that says so."""
    of_folders = {each.file.parent: fixtures(each) for each in TEST_MODULES if each.file.name == "conftest.py"}
    assert "host" in of_folders[TESTS / "whole"]
    broken = [
        f"{where(module, line)}: another fixture {name} than that of {folder.relative_to(ROOT)}/conftest.py"
        for module in TEST_MODULES
        for name, line in fixtures(module).items()
        for folder, others in of_folders.items()
        if name in others and folder in module.file.parents and module.file != folder / "conftest.py"
    ]

    assert broken == []


def named_in_strings(module: Module) -> Iterator[tuple[int, str]]:
    """Names that are given as text beside what has them, as for setattr(); and those with dots, as for monkeypatch."""
    for node in ast.walk(module.tree):
        match node:
            case ast.Call(args=values) | ast.Tuple(elts=values):
                for before, each in itertools.pairwise(values):
                    if isinstance(before, ast.Name | ast.Attribute) and isinstance(each, ast.Constant):
                        yield each.lineno, str(each.value)
            case ast.Constant(value=str(text)) if text.startswith(("osctl.", "osctld.")):
                yield node.lineno, text.rpartition(".")[2]


def test_tests_reach_into_nothing_private_of_the_program() -> None:
    """Neither by import, nor by a name in a string, which no linter looks at."""
    broken = [
        f"{where(module, line)}: {name}"
        for module in TEST_MODULES
        for line, name in (
            *named_in_strings(module),
            *((line, name) for line, imported, _, name in imports(module) if imported.startswith("osctl")),
        )
        if re.fullmatch(r"_[a-zA-Z]\w*(?<!__)", name)
    ]

    assert broken == []


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


def test_programs_are_executed_in_one_place() -> None:
    """There they lose what only the daemon shall have: its environment, its descriptors, its place when memory ends."""
    found = {
        module.name
        for module in MODULES
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute)
        and node.attr in ("create_subprocess_exec", "create_subprocess_shell", "Popen", "posix_spawn", "fork", "system")
    }

    assert found == {"osctld.shell.process.subprocesses"}


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
