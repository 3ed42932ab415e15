"""Fixtures for tests of the whole system."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest

from whole.bare_daemon import BARE
from whole.host import Topology, differences


@pytest.fixture
def host() -> Iterator[Topology]:
    """A host of its own with a router and a running daemon, and no container yet."""
    with Topology() as topology:
        yield topology


@pytest.fixture
def bare() -> Iterator[Topology]:
    """The same with containers that are bare network namespaces."""
    with Topology(program=BARE) as topology:
        yield topology


@pytest.fixture(scope="module")
def idle_host() -> Iterator[Topology]:
    """One host for all tests of a file: for those that leave nothing running on it, such as refusals."""
    with Topology() as topology:
        yield topology


@pytest.fixture(scope="module")
def used_host(idle_host: Topology) -> Topology:
    """The same when it has had a container: it forwards from then on."""
    idle_host.new_container("first")
    idle_host.delete_containers()
    return idle_host


@pytest.fixture
def shared(used_host: Topology) -> Iterator[Topology]:
    """One host for all tests of a file, each with containers of its own, of which nothing must be left."""
    before = used_host.comparable_state()
    yield used_host
    used_host.delete_containers()
    # Counters of what was dropped stay: they tell of the past.
    assert not [each for each in differences(before, used_host.comparable_state()) if " counter" not in each]
    assert used_host.stored()["holding"] == []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the logs of daemons with a failure."""
    report = yield
    if report.failed and isinstance(item, pytest.Function):
        topologies = {id(each): each for each in item.funcargs.values() if isinstance(each, Topology)}
        report.sections += [("osctld", each.log_text()) for each in topologies.values()]
    return report
