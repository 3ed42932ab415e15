"""Whether tests notice what is changed in the rules that matter most. Run by `./dev mutate [--sample N] [NAME...]`.

cosmic-ray changes one thing at a time in a copy of the repository, and runs that module's tests. What no test notices
is told as a difference; which of those nobody can notice, and why, is in docs/testing.md. Annotations are left alone:
nothing is done with them.

Exit status 1 when a smaller share than the goal was noticed.
"""

from __future__ import annotations

import argparse
import ast
import random
import shutil
import subprocess
import sys
from pathlib import Path

from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import WorkerOutcome, WorkItem, WorkResult

ROOT = Path(__file__).resolve().parent.parent
PLACE = ROOT / ".cache" / "mutation"
GOAL = 0.9
#: Seconds: what runs longer than this has been changed so that it never ends.
TIMEOUT = 300

#: Modules below src/osctld/core by the name that they are asked for, and their tests, below tests/pure.
MODULES = {
    "rules": ("authority/rules.py", "test_authority_rules.py test_claims.py"),
    "ownership": ("reconcile/ownership.py", "test_ownership.py test_plan.py"),
    "drift": ("reconcile/drift.py", "test_drift.py"),
    "planner": ("plan/planner.py", "test_plan.py test_drift.py"),
}


def copied_tree() -> Path:
    """What is in the repository and not ignored, in a place of its own."""
    tree = PLACE / "tree"
    shutil.rmtree(tree, ignore_errors=True)
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    for name in filter(None, names):
        source, target = ROOT / name, tree / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
    return tree


def is_in_annotation(item: WorkItem, text: str) -> bool:
    """Whether all that a mutation changes is in an annotation."""
    (mutation,) = item.mutations
    line, column = mutation.start_pos
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


def run(name: str, tree: Path, *, sample: int | None, seed: int) -> tuple[int, int]:
    """Mutate one module; how many were noticed, and how many there were."""
    module, tests = MODULES[name]
    path = f"src/osctld/core/{module}"
    text = (tree / path).read_text()
    command = f"{sys.executable} -m pytest -x -q -n 0 " + " ".join(f"tests/pure/{each}" for each in tests.split())
    settings, session = PLACE / f"{name}.toml", PLACE / f"{name}.sqlite"
    settings.write_text(
        f'[cosmic-ray]\nmodule-path = "{path}"\ntimeout = {TIMEOUT}\nexcluded-modules = []\n'
        f'test-command = "{command}"\n[cosmic-ray.distributor]\nname = "local"\n'
    )
    session.unlink(missing_ok=True)
    for words in (("baseline", str(settings)), ("init", str(settings), str(session))):
        subprocess.run([sys.executable, "-m", "cosmic_ray.cli", *words], cwd=tree, check=True)
    with use_db(session, WorkDB.Mode.open) as database:
        items = [each for each in database.work_items if not is_in_annotation(each, text)]
        chosen = random.Random(seed).sample(items, min(sample or len(items), len(items)))
        kept = {each.job_id for each in chosen}
        for each in database.work_items:
            if each.job_id not in kept:
                database.set_result(each.job_id, WorkResult(worker_outcome=WorkerOutcome.SKIPPED))
    subprocess.run([sys.executable, "-m", "cosmic_ray.cli", "exec", str(settings), str(session)], cwd=tree, check=True)
    with use_db(session, WorkDB.Mode.open) as database:
        results = [result for _, result in database.completed_work_items if result.worker_outcome == "normal"]
    noticed = sum(result.is_killed for result in results)
    for result in results:
        if not result.is_killed:
            print(f"{name}: not noticed:\n{result.diff}")
    print(f"{name}: {noticed} of {len(results)} noticed")
    return noticed, len(results)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, help="so many of each module, chosen at random")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("names", nargs="*", choices=[*MODULES, []], default=[])
    arguments = parser.parse_args()
    tree = copied_tree()
    found = [run(each, tree, sample=arguments.sample, seed=arguments.seed) for each in arguments.names or MODULES]
    noticed, all_of_them = (sum(each) for each in zip(*found, strict=True))
    share = noticed / max(all_of_them, 1)
    print(f"{noticed} of {all_of_them} noticed: {100 * share:.0f} %, goal {100 * GOAL:.0f} %")
    return 0 if share >= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
