"""The project's tests of the kernel, of containers and of the whole, on the releases' own kernels and programs."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from machine.laboratory.machine import CHECKOUT, Machine, Machines
from machine.laboratory.qemu import SLOWNESS, KernelDiedError

#: What a kernel or a release makes a difference to. The rest of these folders asks the same of the same code.
PARTS = {
    "kernel": ("tests/kernel -k 'not law and not twin'", 100),
    "containers": ("tests/lxc/test_busybox_life.py tests/lxc/test_failed_starts.py tests/lxc/test_execute.py", 30),
    "whole": ("tests/whole/test_addresses.py tests/whole/test_isolation.py tests/whole/test_live_links.py", 30),
}


#: How a kernel dies whose emulated processors see changes of its code at different times: nothing to do with the tests.
EMULATOR_S_FAULT = "Oops: int3"


@pytest.mark.time_limit(7200)
@pytest.mark.parametrize("part", PARTS)
def test_the_projects_own_tests_hold_on_this_release_with_the_product_installed(
    machines: Machines, part: str, record_property: Callable[[str, object], None]
) -> None:
    words, at_least = PARTS[part]
    try:
        machine, said = tested(machines, words)
    except KernelDiedError as died:
        if EMULATOR_S_FAULT not in str(died):
            raise
        machine, said = tested(machines, words)

    assert re.search(r"\d+ (failed|error)", said) is None, said
    passed = int((re.search(r"(\d+) passed", said) or [0, 0])[1])
    assert passed >= at_least, said
    record_property("told", f"{machine.release.name}, {part}: {said.splitlines()[-1].strip('= ')}")


def tested(machines: Machines, words: str) -> tuple[Machine, str]:
    machine = machines.start("installed")
    machine.put_checkout()
    machine.run(f"cd {CHECKOUT} && ./dev setup", 600)
    return machine, run_tests(machine, words)


def run_tests(machine: Machine, words: str) -> str:
    """What pytest said, beginning with its summary."""
    environment = f"OSCTL_TESTS_SHARE_MACHINE=1 OSCTL_TESTS_SLOWNESS={SLOWNESS}"
    done = machine.run(
        f"cd {CHECKOUT} && {environment} .venv/bin/python -m pytest -n 2 --tb=short --color=no {words}",
        3000,
        check=False,
    )
    at = max(0, done.output.find("= FAILURES"), done.output.find("= ERRORS"), len(done.output) - 20_000)
    return done.output[at:].rstrip()
