"""Fixtures for tests of the whole system."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest

from whole.host import Topology, differences


@pytest.fixture
def host() -> Iterator[Topology]:
    """A host of its own with a router and a running daemon, and no container yet."""
    with Topology() as topology:
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
def shared_host(used_host: Topology) -> Iterator[Topology]:
    """One host for all tests of a file, each with containers of its own, of which nothing must be left."""
    before = used_host.comparable_state()
    yield used_host
    used_host.delete_containers()
    # Counters of what was dropped stay: they tell of the past.
    assert not [each for each in differences(before, used_host.comparable_state()) if " counter" not in each]
    assert used_host.stored()["holding"] == []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the daemon's log with a failure."""
    report = yield
    if report.failed and isinstance(item, pytest.Function):
        for name in ("host", "idle_host"):
            topology = item.funcargs.get(name)
            if isinstance(topology, Topology):
                report.sections.append(("osctld", topology.log_text()))
    return report
