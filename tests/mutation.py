"""Whether tests notice what is changed in the rules that matter most. Run by `./dev mutate [--sample N] [NAME...]`.

cosmic-ray says what can be changed in a module, one thing at a time. Each change meets those of that module's tests
that come by the changed lines, the quick ones first, in a process of its own, forked from one that has imported pytest
already; nothing on disk is touched. What no test notices is told
as a difference; which of those nobody can notice, and why, is in docs/testing.md. Annotations are left alone: nothing
is done with them.

Exit status 1 when a smaller share than the goal was noticed.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import random
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import hypothesis
import msgspec
import pytest
from cosmic_ray.commands.init import _all_work_items as possible_changes
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator
from cosmic_ray.work_item import MutationSpec

WARM = (hypothesis, msgspec)  # imported once rather than by each child

ROOT = Path(__file__).resolve().parent.parent
GOAL = 0.9
#: Seconds: what runs longer than this has been changed so that it never ends.
TIMEOUT = 300

#: That modules are imported already, and so not rewritten, is on purpose.
_OPTIONS = ("-q", "-n", "0", "-W", "ignore:Module already imported so cannot be rewritten")

#: Modules below src/osctld/core by the name that they are asked for, and their tests, below tests/pure.
MODULES = {
    "rules": ("authority/rules.py", "test_authority_rules.py test_claims.py"),
    "ownership": ("reconcile/ownership.py", "test_ownership.py test_plan.py"),
    "drift": ("reconcile/drift.py", "test_drift.py"),
    "planner": ("plan/planner.py", "test_plan.py test_drift.py"),
}


#: What is the same by its kind: all that is compared by identity in these modules are members of enumerations and None,
#: of which there is one each.
SAME = ("ReplaceComparisonOperator_Is_Eq", "ReplaceComparisonOperator_IsNot_NotEq")


class Mutant(msgspec.Struct, frozen=True):
    module: str
    path: Path
    text: str
    tests: tuple[str, ...]

    def lines(self) -> set[int]:
        """Those of the original that are changed; the one before what was only added."""
        before, after = self.path.read_text().splitlines(), self.text.splitlines()
        steps = difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
        return {
            number
            for kind, first, last, _, _ in steps
            if kind != "equal"
            for number in range(first + 1, max(last, first + 1) + 1)
        }

    def difference(self) -> str:
        """What was changed."""
        before, after = self.path.read_text().splitlines(), self.text.splitlines()
        return "\n".join(difflib.unified_diff(before, after, str(self.path), "changed", n=2, lineterm=""))


class Course:
    """A pytest plugin: by which lines of a file each test comes, and how long it takes."""

    def __init__(self, path: Path) -> None:
        self._file = str(path)
        self.lines: dict[str, set[int]] = {}
        self.seconds: dict[str, float] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        came_by = self.lines.setdefault(item.nodeid, set())

        def trace(frame: FrameType, event: str, _: Any) -> Any:
            if frame.f_code.co_filename != self._file:
                return None
            if event == "line":
                came_by.add(frame.f_lineno)
            return trace

        began = time.monotonic()
        sys.settrace(trace)
        try:
            return (yield)
        finally:
            sys.settrace(None)
            self.seconds[item.nodeid] = time.monotonic() - began


class Importing(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports the mutant instead of what is in its file."""

    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:  # noqa: ARG002
        if fullname != self._mutant.module:
            return None
        return importlib.util.spec_from_loader(fullname, self, origin=str(self._mutant.path))

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self._mutant.text, str(self._mutant.path), "exec"), module.__dict__)


def mutants(name: str) -> Iterator[Mutant]:
    """Each change of one module."""
    below, tests = MODULES[name]
    path = ROOT / "src/osctld/core" / below
    text = path.read_text()
    module = f"osctld.core.{below.removesuffix('.py').replace('/', '.')}"
    for item in possible_changes([path], {}):
        (change,) = item.mutations
        if change.operator_name.endswith(SAME) or is_in_annotation(change, text):
            continue
        changed = mutate_code(text, get_operator(change.operator_name)(**change.operator_args), change.occurrence)
        if changed is not None and changed != text:
            yield Mutant(module, path, changed, tuple(f"tests/pure/{each}" for each in tests.split()))


def is_in_annotation(change: MutationSpec, text: str) -> bool:
    """Whether all that a change concerns is in an annotation."""
    line, column = change.start_pos
    for node in ast.walk(ast.parse(text)):
        found = (
            node.annotation
            if isinstance(node, ast.arg | ast.AnnAssign)
            else node.returns
            if isinstance(node, ast.FunctionDef)
            else None
        )
        if found is not None and (found.lineno, found.col_offset) <= (line, column) < (
            found.end_lineno or line,
            found.end_col_offset or 0,
        ):
            return True
    return False


def course_of(mutant: Mutant) -> Course:
    """What the tests do in the unchanged module. Ends the program when one of them fails."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.dup2(os.open(os.devnull, os.O_RDWR), 1)
            course = Course(mutant.path)
            status = int(pytest.main([*_OPTIONS, *mutant.tests], plugins=[course]))
            with os.fdopen(writing, "wb") as through:
                through.write(msgspec.json.encode((status, course.lines, course.seconds)))
        finally:
            os._exit(0)  # whoever reads notices when nothing was written
    os.close(writing)
    with os.fdopen(reading, "rb") as through:
        told = through.read()
    os.waitpid(child, 0)
    if not told:
        raise SystemExit(f"error: {mutant.module}: its tests could not be run")
    status, lines, seconds = msgspec.json.decode(told, type=tuple[int, dict[str, set[int]], dict[str, float]])
    if status:
        raise SystemExit(f"error: {mutant.module}: its tests fail without any change")
    course = Course(mutant.path)
    course.lines, course.seconds = lines, seconds
    return course


def tests_for(mutant: Mutant, course: Course) -> Sequence[str]:
    """The tests that come by what is changed, the quick ones first; all of them for what is done at import."""
    lines = mutant.lines()
    concerned = [each for each, came_by in course.lines.items() if came_by & lines]
    return sorted(concerned or course.lines, key=lambda each: course.seconds[each])


def is_noticed(mutant: Mutant, tests: Sequence[str]) -> bool:
    """Whether a test fails."""
    child = os.fork()
    if child == 0:
        status = 70
        try:
            os.setsid()
            nothing = os.open(os.devnull, os.O_RDWR)
            for number in range(3):
                os.dup2(nothing, number)
            sys.meta_path.insert(0, Importing(mutant))
            status = int(pytest.main(["-x", *_OPTIONS, *tests]))
        finally:
            os._exit(status)
    ends = time.monotonic() + TIMEOUT
    while True:
        pid, waited = os.waitpid(child, os.WNOHANG)
        if pid:
            return waited != 0
        if time.monotonic() > ends:
            os.killpg(child, signal.SIGKILL)
        time.sleep(0.05)


def run(name: str, *, sample: int | None, seed: int, workers: int) -> tuple[int, int]:
    """Mutate one module; how many were noticed, and how many there were."""
    chosen = list(mutants(name))
    chosen = random.Random(seed).sample(chosen, min(sample or len(chosen), len(chosen)))
    course = course_of(chosen[0])
    with ThreadPoolExecutor(workers) as pool:
        results = pool.map(lambda each: is_noticed(each, tests_for(each, course)), chosen)
        noticed = 0
        for number, (mutant, result) in enumerate(zip(chosen, results, strict=True), 1):
            noticed += result
            if number % 50 == 0:
                print(f"{name}: {noticed} of the first {number} noticed", file=sys.stderr, flush=True)
            if not result:
                print(f"{name}: not noticed:\n{mutant.difference()}", flush=True)
    print(f"{name}: {noticed} of {len(chosen)} noticed", flush=True)
    return noticed, len(chosen)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, help="so many of each module, chosen at random")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="so many at once")
    parser.add_argument("names", nargs="*", choices=[*MODULES, []], default=[])
    arguments = parser.parse_args()
    os.chdir(ROOT)
    # The same examples each time, and other work on this machine is none of these tests' matter.
    os.environ |= {"HYPOTHESIS_PROFILE": "ci", "OSCTL_TESTS_SHARE_MACHINE": "1"}
    found = [
        run(each, sample=arguments.sample, seed=arguments.seed, workers=arguments.workers)
        for each in arguments.names or MODULES
    ]
    noticed, all_of_them = (sum(each) for each in zip(*found, strict=True))
    share = noticed / max(all_of_them, 1)
    print(f"{noticed} of {all_of_them} noticed: {100 * share:.0f} %, goal {100 * GOAL:.0f} %")
    return 0 if share >= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
