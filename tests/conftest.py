"""Rules for all tests: the machine stays as it was, no test hangs, no silent skips, no shrinking suite."""

from __future__ import annotations

import os
import signal
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType

import pytest
from xdist.workermanage import WorkerController

import hypothesis_profiles  # noqa: F401 - chosen before the first test is looked at
from kernel_capabilities import PROBES, has_kernel_capability
from machine_snapshot import SECTIONS_OF_THE_WHOLE_MACHINE, Snapshot, settled_differences, take_snapshot

TESTS = Path(__file__).parent
#: Quick answers first; containers last.
ORDER = (".", "pure", "store", "server", "kernel", "lxc", "whole")
#: Folders whose tests touch the machine.
WITH_SNAPSHOT = ("server", "kernel", "lxc", "whole")
NEED_ROOT = ("lxc", "whole")
#: The one reason that a full run accepts for a skip.
KERNEL_LACKS = "the kernel lacks "

#: Long ones that would otherwise come last, when there is nothing left to run beside them.
FIRST_OF_MANY_WORKERS = "tests/whole/test_state_machine.py"

#: Others make and end containers meanwhile: another run, or the other workers of this one.
IS_MACHINE_SHARED = bool(os.environ.get("OSCTL_TESTS_SHARE_MACHINE") or os.environ.get("PYTEST_XDIST_WORKER"))

#: A property of a test that is printed when all are done: `record_property("told", text)`.
TOLD = "told"

_MACHINE_BEFORE = pytest.StashKey[Snapshot]()
_complaints: list[str] = []
_told: list[str] = []


def pytest_configure() -> None:
    """Let Ctrl-C and its kin reach the programs under test also when this run was put into the background.

    A shell without job control starts such a run with these signals ignored, and every child inherits that.
    """
    for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGQUIT, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--full", action="store_true", help="demand the floors of tests/floors.toml, and no skip but for the kernel"
    )


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """A worker for each core, as `./dev test` asks for; a part of the tests is sooner done without any."""
    return len(os.sched_getaffinity(0)) if is_full(config) else 0


def is_full(config: pytest.Config) -> bool:
    """Whether all tests were asked for."""
    option = config.option
    is_everything = config.args_source is pytest.Config.ArgsSource.TESTPATHS and not (
        option.keyword or option.markexpr or option.deselect or option.lf
    )
    return bool(option.full) or is_everything


def is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def has_workers(config: pytest.Config) -> bool:
    return config.option.dist != "no" and not is_worker(config)


def folder_of(path: Path) -> str:
    """The folder below tests/ that a test is in; `.` for those at the top."""
    parts = path.relative_to(TESTS).parts
    return parts[0] if len(parts) > 1 else "."


def _rank(item: pytest.Item) -> int:
    if is_worker(item.config) and item.nodeid.startswith(FIRST_OF_MANY_WORKERS):
        return -1
    folder = folder_of(item.path)
    return ORDER.index(folder) if folder in ORDER else len(ORDER)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=_rank)
    for item in items:
        for mark in item.iter_markers("requires_kernel"):
            name = mark.args[0]
            if name not in PROBES:
                raise pytest.UsageError(f"{item.nodeid}: no probe for {name!r} in kernel_capabilities.py")
            try:
                is_there = has_kernel_capability(name)
            except RuntimeError as error:
                raise pytest.UsageError(str(error)) from None
            if not is_there:
                item.add_marker(pytest.mark.skip(reason=f"{KERNEL_LACKS}{name}"))
        if folder_of(item.path) in NEED_ROOT and os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="needs root"))

    if is_full(config) and not is_worker(config):
        _demand_floors(Counter(folder_of(item.path) for item in items))


def pytest_xdist_node_collection_finished(node: WorkerController, ids: Sequence[str]) -> None:
    """Each worker collects all tests; what one of them found is what there is."""
    if is_full(node.config) and node.gateway.id == "gw0":
        _demand_floors(Counter(folder_of(node.config.rootpath / each.partition("::")[0]) for each in ids))


def _demand_floors(counted: Mapping[str, int]) -> None:
    floors = tomllib.loads((TESTS / "floors.toml").read_text())
    _complaints.extend(
        f"tests/{folder}: {counted.get(folder, 0)} tests collected, at least {floor} expected"
        for folder, floor in floors.items()
        if counted.get(folder, 0) < floor
    )
    _complaints.extend(
        f"tests/{folder}: not in tests/floors.toml" for folder in sorted(counted) if folder not in floors
    )


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not reason.removeprefix("Skipped: ").startswith(KERNEL_LACKS):
            _complaints.append(f"{report.nodeid}: skipped: {reason}")
    if report.when == "call":
        _told.extend(str(text) for name, text in report.user_properties if name == TOLD)


def pytest_sessionstart(session: pytest.Session) -> None:
    """What is beyond the sight of workers is looked at around all of them."""
    if has_workers(session.config):
        session.config.stash[_MACHINE_BEFORE] = _take()


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    config = session.config
    if not is_full(config):
        _complaints.clear()
    before = config.stash.get(_MACHINE_BEFORE, None)
    if before is not None and (found := settled_differences(before, _take)):
        _complaints.append("the machine is not as it was (of which test, tells a run with -n 0):")
        _complaints.extend(f"  {each}" for each in found)
    if _complaints and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for text in _told:
        terminalreporter.section("told by a test")
        terminalreporter.line(text)
    if _complaints:
        terminalreporter.section("what no single test says", red=True)
        for line in _complaints:
            terminalreporter.line(line)


# --- the machine stays as it was ---------------------------------------------------------------------------------


def _take() -> Snapshot:
    return take_snapshot(is_machine_shared=IS_MACHINE_SHARED)


def _demand_equality(before: Snapshot) -> None:
    found = settled_differences(before, _take)
    if found:
        hint = ""
        if any(line.startswith(SECTIONS_OF_THE_WHOLE_MACHINE) for line in found):
            hint = "\n(another test run on this machine? then set OSCTL_TESTS_SHARE_MACHINE=1)"
        pytest.fail("the machine is not as it was:\n  " + "\n  ".join(found) + hint, pytrace=False)


@pytest.fixture(scope="session", autouse=True)
def machine_stays_as_it_was(request: pytest.FixtureRequest) -> Iterator[None]:
    """Also what module and session fixtures made is gone at the end."""
    if not any(folder_of(item.path) in WITH_SNAPSHOT for item in request.session.items):
        yield
        return
    before = _take()
    yield
    _demand_equality(before)


@pytest.fixture(autouse=True)
def host_snapshot(request: pytest.FixtureRequest) -> Iterator[None]:
    """Nothing that a test made outlives it, and nothing that was there is gone."""
    if folder_of(request.path) not in WITH_SNAPSHOT:
        yield
        return
    before = _take()
    yield
    _demand_equality(before)


# --- no test hangs -----------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def time_limit(request: pytest.FixtureRequest) -> Iterator[None]:
    """Interrupt a test that takes too long, so that its fixtures still clean up."""
    mark = request.node.get_closest_marker("time_limit")
    seconds: float = mark.args[0] if mark else 60

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"{request.node.nodeid} took longer than {seconds} s")

    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, previous)
