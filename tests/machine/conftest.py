"""Fixtures for tests with whole machines. CONTRIBUTING.md, *Machine tests*, says how to write, run and debug one."""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeAlias

import pytest

from machine.laboratory.console import talk_to
from machine.laboratory.machine import Machine, Machines, machines_of
from machine.laboratory.places import the_only_laboratory, uncaptured
from machine.laboratory.releases import Release, in_turn, release_named

HERE = Path(__file__).parent
IN_CI = "ci"
Laboratory: TypeAlias = Callable[[Release], AbstractContextManager[Machines]]
Hook: TypeAlias = Generator[None, pytest.TestReport, pytest.TestReport]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--console", action="store_true", help="talk to the machine of a test that failed, on its console")


def pytest_configure(config: pytest.Config) -> None:
    uncaptured[0] = config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "release" in metafunc.fixturenames:
        named: list[str] = metafunc.config.option.release
        releases = [release_named(each) for each in named] or [in_turn()]
        metafunc.parametrize("release", releases, ids=[each.name for each in releases], scope="session")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.option.in_ci:
        left_out = [each for each in items if HERE in each.path.parents and not each.get_closest_marker(IN_CI)]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [each for each in items if each not in left_out]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Hook:
    """Keep what a failed test's machine can tell, while it is there, and name the folder."""
    report: pytest.TestReport = yield
    machines = getattr(item, "funcargs", {}).get("machines")
    if report.failed and isinstance(machines, Machines) and machines.present is not None and call.when != "teardown":
        signal.setitimer(signal.ITIMER_REAL, 0)
        kept = machines.rescue(item.nodeid.partition("::")[2])
        said = f"console log, journal and disk are in {kept}; boot that disk: ./dev machine shell {kept}"
        report.sections.append(("the machine", said))
        if item.config.option.console and machines.present.is_on:
            with uncaptured[0]():
                talk_to(machines.present)
    return report


@pytest.fixture(scope="session")
def laboratory() -> Iterator[Laboratory]:
    """Nobody else runs machines meanwhile."""
    with the_only_laboratory():
        yield machines_of


@pytest.fixture
def machines(release: Release, laboratory: Laboratory) -> Iterator[Machines]:
    """Makes machines: `machines.start(...)`."""
    with laboratory(release) as made:
        yield made


@pytest.fixture
def bare(machines: Machines) -> Machine:
    """A machine that has booted and has nothing of ours."""
    return machines.start("bare")


@pytest.fixture
def machine(machines: Machines) -> Machine:
    """A machine that has booted, with the present checkout installed by `./dev install`."""
    return machines.start("installed")
