"""Each test runs in network namespaces of its own; nothing of the machine is touched."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kernel.network_namespaces import Host, own_network_namespace
from osctld.core.plan.kernel_state import guest
from osctld.shell.kernel.port import Kernel

GUEST = guest("web01")


@pytest.fixture
def host() -> Iterator[Host]:
    """This test's host namespace, entered, and the namespace of one guest, `web01`."""
    with own_network_namespace():
        made = Host()
        made.add_guest(GUEST)
        yield made
        made.close()


@pytest.fixture
def kernel(host: Host) -> Iterator[Kernel]:  # noqa: ARG001 - made inside of it
    made = Kernel()
    yield made
    made.close()
