"""Rules for all tests: the machine stays as it was, no test hangs, no silent skips, no shrinking suite."""

from __future__ import annotations

import json
import os
import resource
import signal
import tomllib
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from xdist.workermanage import WorkerController

import hypothesis_profiles  # noqa: F401 - chosen before the first test is looked at
from kernel_capabilities import PROBES, has_kernel_capability
from machine_snapshot import SECTIONS_OF_THE_WHOLE_MACHINE, Snapshot, settled_differences, take_snapshot
from patience import Patience

TESTS = Path(__file__).parent
#: Quick answers first; containers last.
ORDER = (".", "pure", "store", "server", "kernel", "lxc", "whole")
#: Folders whose tests touch the machine.
WITH_SNAPSHOT = ("server", "kernel", "lxc", "whole")
NEED_ROOT = ("lxc", "whole", "machine")
#: Tests with whole machines: a run of their own, `./dev machine`.
MACHINE = TESTS / "machine"
#: Seconds that a test may take unless it says so; one with whole machines.
USUAL_SECONDS, MACHINE_SECONDS = 60.0, 900.0
#: The one reason that a full run accepts for a skip.
KERNEL_LACKS = "the kernel lacks "

#: Long ones that would otherwise come last, when there is nothing left to run beside them.
FIRST_OF_MANY_WORKERS = "tests/whole/test_state_machine.py"

#: Others make and end containers meanwhile: another run, or the other workers of this one.
IS_MACHINE_SHARED = bool(os.environ.get("OSCTL_TESTS_SHARE_MACHINE") or os.environ.get("PYTEST_XDIST_WORKER"))

#: A property of a test that is printed when all are done: `record_property("told", text)`.
TOLD = "told"

_MACHINE_BEFORE = pytest.StashKey[Snapshot]()
#: What a test found and left; None while that may have changed.
_MACHINE_NOW = pytest.StashKey[Snapshot | None]()
_complaints: list[str] = []
_told: list[str] = []


def pytest_configure() -> None:
    """Let signals reach the programs under test, whatever whoever started this run had it ignore or block.

    A shell without job control starts a run in the background with Ctrl-C ignored, nohup(1) with hang-ups; every child
    inherits that. What this run itself is not to hear, it goes on not to hear.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    usual: dict[int, Any] = dict.fromkeys((signal.SIGQUIT, signal.SIGCHLD), signal.SIG_DFL)
    usual[signal.SIGINT] = signal.default_int_handler
    for number in signal.valid_signals() - {signal.SIGPIPE, signal.SIGXFSZ}:  # Python's own, undone for each child
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual.get(number, lambda _number, _frame: None))
    # A login's soft limit is often 1024; what the service gives the daemon is far more.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 1 << 16)), hard))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--full", action="store_true", help="demand the floors of tests/floors.toml, and no skip but for the kernel"
    )
    # The next four are given by `./dev machine` and `.ci/run`.
    parser.addoption("--release", action="append", default=[], help="a release that tests/machine shall boot")
    parser.addoption("--in-ci", action="store_true", help="of tests/machine, those that CI runs")
    parser.addoption("--keep-reports", metavar="FILE", help="write down how each test ended")
    parser.addoption("--count-reports", metavar="FILE", help="count the tests of another run, which kept its reports")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    return True if collection_path == MACHINE and not is_of_machines(config) else None


def is_of_machines(config: pytest.Config) -> bool:
    """Whether this run is one of tests/machine."""
    named = ((config.invocation_params.dir / each.partition("::")[0]).resolve() for each in config.args)
    return any(MACHINE in (each, *each.parents) for each in named)


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

    if is_full(config) and not is_worker(config) and not is_of_machines(config):
        _demand_floors(Counter(folder_of(item.path) for item in items))


def pytest_collection_finish(session: pytest.Session) -> None:
    config = session.config
    if is_full(config) and is_of_machines(config):
        # Each test once for each release.
        kind = "machine, of them in CI" if config.option.in_ci else "machine"
        _demand_floors({kind: len(session.items) // max(1, len(config.option.release))})


def pytest_xdist_node_collection_finished(node: WorkerController, ids: Sequence[str]) -> None:
    """Each worker collects all tests; what one of them found is what there is."""
    if is_full(node.config) and node.gateway.id == "gw0":
        _demand_floors(Counter(folder_of(node.config.rootpath / each.partition("::")[0]) for each in ids))


def _demand_floors(counted: Mapping[str, int]) -> None:
    floors = tomllib.loads((TESTS / "floors.toml").read_text())
    of_machines = any(name.startswith("machine") for name in counted)
    for name in [each for each in floors if each.startswith("machine") or of_machines]:
        if name not in counted:
            del floors[name]
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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if (name := item.config.option.keep_reports) and (report.when == "call" or not report.passed):
        with Path(name).open("a") as file:
            json.dump(item.config.hook.pytest_report_to_serializable(config=item.config, report=report), file)
            file.write("\n")
    return report


def _count_reports(config: pytest.Config, file: Path) -> None:
    """Count the tests of another run as if they were of this one: its failures are failures here."""
    reporter = config.pluginmanager.getplugin("terminalreporter")
    if not file.exists() or not file.read_text():
        _complaints.append(f"{file}: no test was run")
        return
    for line in file.read_text().splitlines():
        report = config.hook.pytest_report_from_serializable(config=config, data=json.loads(line))
        category, _, _ = config.hook.pytest_report_teststatus(report=report, config=config)
        reporter.stats.setdefault(category, []).append(report)
        pytest_runtest_logreport(report)
        if report.failed:
            _complaints.append(f"{report.nodeid}: failed")


def pytest_sessionstart(session: pytest.Session) -> None:
    """What is beyond the sight of workers is looked at around all of them."""
    if has_workers(session.config):
        session.config.stash[_MACHINE_BEFORE] = _take()


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    config = session.config
    if not is_full(config):
        _complaints.clear()
    if config.option.count_reports and not is_worker(config):
        _count_reports(config, Path(config.option.count_reports))
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
        request.config.stash[_MACHINE_NOW] = None
        yield
        return
    # As the test before found it and left it, unless something else has been at work since.
    before = request.config.stash.get(_MACHINE_NOW, None) or _take()
    request.config.stash[_MACHINE_NOW] = None
    yield
    _demand_equality(before)
    request.config.stash[_MACHINE_NOW] = before


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest) -> Iterator[None]:
    """What a fixture of more than one test makes is not of the test that comes next."""
    if fixturedef.scope != "function":
        request.config.stash[_MACHINE_NOW] = None
    return (yield)


def pytest_fixture_post_finalizer(fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest) -> None:
    """Nor what it takes away."""
    if fixturedef.scope != "function":
        request.config.stash[_MACHINE_NOW] = None


# --- no test hangs -----------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def time_limit(request: pytest.FixtureRequest) -> Iterator[None]:
    """Interrupt a test that takes too long, so that its fixtures still clean up."""
    mark = request.node.get_closest_marker("time_limit")
    usual = MACHINE_SECONDS if folder_of(request.path) == "machine" else USUAL_SECONDS
    seconds: float = mark.args[0] if mark else usual
    patience = Patience(seconds)

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        if not patience.is_over:
            signal.setitimer(signal.ITIMER_REAL, max(patience.left, 0.1))
            return
        raise TimeoutError(f"{request.node.nodeid} took longer than {patience.seconds} s")

    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, patience.seconds)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, previous)
