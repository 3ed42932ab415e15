"""Fixtures for tests with real containers.

Every test has a network namespace of its own as "the host": LXC's command sockets are abstract Unix sockets, which each
network namespace has for itself. An `async def` test runs on its own event loop in a thread of its own, and only that
thread, what it executes and the threads that it makes are in the namespace.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lxc.lxc_host import Busybox, Traces, in_own_network_namespace, make_engine, make_spec, open_descriptors
from osctld.core.config.life import ContainerSpec
from osctld.shell.lxc.engine import LxcEngine, is_installed
from osctld.shell.rootfs.busybox import build_busybox
from patience import SLOWNESS

TEST_SECONDS = 120.0 * SLOWNESS


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    reason = ""
    if os.geteuid() != 0:
        reason = "containers are started by root"
    elif not is_installed():
        reason = "LXC is not installed"
    if reason:
        for item in items:
            if here in item.path.parents:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a coroutine function as a test."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(pyfuncitem.obj).parameters}

    async def bounded() -> None:
        async with asyncio.timeout(TEST_SECONDS):
            await pyfuncitem.obj(**arguments)

    in_own_network_namespace(lambda: asyncio.run(bounded()))
    return True


@pytest.fixture
def base() -> Iterator[Path]:
    """A directory that everybody may search, as /run/osctl is."""
    path = Path(tempfile.mkdtemp(prefix="osctl-test-"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(f"/run/lxc/lock{path}", ignore_errors=True)  # not every test forgets its containers
    if not [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(path) in line]:
        shutil.rmtree(path)


@pytest.fixture
def traces(base: Path) -> Traces:
    return Traces(base)


@pytest.fixture(autouse=True)
def leaves_nothing(traces: Traces) -> Iterator[None]:
    gc.collect()
    before, descriptors = traces.all(), open_descriptors()
    yield
    gc.collect()
    after = traces.all()
    opened = {number: name for number, name in open_descriptors().items() if number not in descriptors}
    if after != before:
        traces.sweep()  # a failed test must not disturb the next one
    assert after == before
    assert not opened


@pytest.fixture
def engine(base: Path) -> LxcEngine:
    return make_engine(base)


@pytest.fixture
def busybox(base: Path) -> Busybox:
    """Build a busybox guest; `boot` is shell script that its first process runs."""

    async def build(name: str = "web", *, boot: str = "") -> ContainerSpec:
        spec = make_spec(base, name)
        await build_busybox(spec.root_directory)
        if boot:
            script = Path(spec.root_directory, "etc/rc.local")
            script.write_text("#!/bin/sh\n" + boot)
            script.chmod(0o755)
        return spec

    return build
