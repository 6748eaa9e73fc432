"""Measures one module: python -m tests.mutants MODULE [--sample 150] [--seed 0] [--jobs 2]."""

import argparse
import compileall
import json
import math
import os
import random
import shutil
import signal
import tempfile
import time
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.mutants import trial
from tests.mutants.generate import Mutant, mutants
from tests.mutants.targets import tests_of

ROOT = Path(__file__).parents[2]
COPIED = ("omr_data", "tests", "recipes", "cards", "docs", "benchmarks")
COPIED_FILES = ("pyproject.toml", "README.md", "Makefile", "CONTRIBUTING.md", "CHANGELOG.md")
EQUIVALENT = Path(__file__).parent / "equivalent.toml"
RESULTS = ROOT / ".mutants"
LEAST_SECONDS = 20.0
"""A trial is stopped after three times what its tests take, and not before this."""


@dataclass(slots=True)
class Slot:
    """One copy of the repository, and the trial that runs in it."""

    copy: Path
    """The folder of the copy."""
    mutant: Mutant | None = None
    """What is on trial. None while the slot is free."""
    original: str = ""
    """The text of the mutant's file without the change."""
    child: int = 0
    """The process of the trial, which leads a group of its own."""
    deadline: float = 0.0
    """When the trial is stopped, in seconds of `time.monotonic`."""

    def begin(self, mutant: Mutant, tests: Sequence[str], limit: float) -> None:
        """Writes the mutant into the copy and starts its tests.

        Args:
            mutant: What to write.
            tests: Paths or ids of the tests to run.
            limit: Seconds until the trial is stopped.
        """
        file = self.copy / mutant.path
        self.mutant, self.original = mutant, file.read_text(encoding="utf-8")
        file.write_text(mutant.source, encoding="utf-8")
        self.child = trial.start(self.copy, tests)
        self.deadline = time.monotonic() + limit

    def finish(self) -> None:
        """Puts the original file back."""
        assert self.mutant is not None
        trial.stop(self.child)
        (self.copy / self.mutant.path).write_text(self.original, encoding="utf-8")
        self.mutant = None


@dataclass(slots=True)
class Outcome:
    """What the trials of a module tell."""

    killed: int = 0
    """Mutants that a test failed for."""
    timed_out: int = 0
    """Mutants that were stopped; they count as killed."""
    survivors: list[Mutant] = field(default_factory=list)
    """Mutants that every test passed for."""
    equivalent: list[Mutant] = field(default_factory=list)
    """Mutants that were not tried, because they are listed as equivalent."""


def main() -> None:
    """Measures a module, prints the score with its interval, and the survivors with their diffs."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument(
        "module", help="a file or folder of omr_data: plan, operators, train/losses"
    )
    parser.add_argument("--sample", type=int, default=150, help="how many mutants, at most")
    parser.add_argument("--seed", type=int, default=0, help="another seed samples others")
    parser.add_argument("--jobs", type=int, default=2, help="how many trials at once")
    parser.add_argument("--tests", nargs="*", help="run these tests instead of those in targets.py")
    arguments = parser.parse_args()
    # A path works too: omr_data/plan.py is plan.
    module = arguments.module.removeprefix("omr_data/").removesuffix(".py").strip("/")
    files = _files(module)
    tests = arguments.tests or tests_of(module)
    tests = [path for path in tests if (ROOT / path.partition("::")[0]).exists()]
    everything = [mutant for file in files for mutant in mutants(ROOT, file)]
    chosen = everything
    if len(everything) > arguments.sample:
        chosen = random.Random(arguments.seed).sample(everything, arguments.sample)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="omr-mutants-") as folder:
        outcome = _measure(Path(folder), chosen, files, tests, arguments.jobs)
    _report(module, len(everything), outcome, time.monotonic() - started)


def _files(module: str) -> list[str]:
    folder = ROOT / "omr_data" / module
    found = sorted(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]
    missing = [path for path in found if not path.is_file()]
    if missing:
        raise SystemExit(f"There is no {missing[0]}. Name a file or a folder of omr_data.")
    return [path.relative_to(ROOT).as_posix() for path in found if path.name != "__init__.py"]


def _measure(
    folder: Path, chosen: Sequence[Mutant], files: Sequence[str], tests: Sequence[str], jobs: int
) -> Outcome:
    slots = [Slot(copy_repository(folder / str(number))) for number in range(jobs)]
    base = trial.baseline(slots[0].copy, tests, files)
    print(f"{len(base.seconds)} tests pass in {sum(base.seconds.values()):.1f} s", flush=True)
    for slot in slots:
        _compile(slot.copy, files)
    trial.share_imports(base.modules)
    listed = _listed_equivalents()
    outcome = Outcome()
    waiting = list(chosen)
    done = 0
    while waiting or any(slot.mutant for slot in slots):
        for slot in slots:
            if slot.mutant is None and waiting:
                mutant = waiting.pop(0)
                if (mutant.path, *mutant.changed) in listed:
                    outcome.equivalent.append(mutant)
                    continue
                covering, seconds = _covering(base, mutant, tests)
                slot.begin(mutant, covering, max(LEAST_SECONDS, 3 * seconds))
        if finished := _wait(slots):
            slot, code = finished
            _count(outcome, slot, code)
            done += 1
            if done % 25 == 0:
                print(
                    f"{done} of {len(chosen)} mutants, {len(outcome.survivors)} survive", flush=True
                )
    return outcome


def copy_repository(copy: Path) -> Path:
    """Copies what tests need to an empty folder, and returns that folder."""
    # Two trials at once write two mutants, so each slot has a repository of its own.
    for name in COPIED:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", ".omr")
            shutil.copytree(ROOT / name, copy / name, ignore=ignored)
    for name in COPIED_FILES:
        if (ROOT / name).is_file():
            shutil.copy(ROOT / name, copy / name)
    return copy


def _compile(copy: Path, files: Sequence[str]) -> None:
    compileall.compile_dir(copy / "omr_data", quiet=2)
    for file in files:
        path = copy / file
        for stale in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
            stale.unlink()


def _covering(
    base: trial.Baseline, mutant: Mutant, tests: Sequence[str]
) -> tuple[Sequence[str], float]:
    """The tests that run the mutant's lines, quickest first, and their seconds.

    All of them where none does: the line runs at import, or in a process that a test starts.
    """
    lines = base.covered.get(mutant.path, {})
    found = {
        test
        for line, ids in lines.items()
        if mutant.first_line <= line <= mutant.last_line
        for test in ids
        if test
    }
    if not found:
        return tests, sum(base.seconds.values())
    ordered = sorted(found, key=lambda test: base.seconds.get(test, 0.0))
    return ordered, sum(base.seconds.get(test, 0.0) for test in ordered)


def _wait(slots: Sequence[Slot]) -> tuple[Slot, int | None] | None:
    """Waits a moment for a trial to end. Its exit code is None where it took too long."""
    for slot in slots:
        if slot.mutant is None:
            continue
        ended, status = os.waitpid(slot.child, os.WNOHANG)
        if ended:
            return slot, os.waitstatus_to_exitcode(status)
        if time.monotonic() > slot.deadline:
            os.killpg(slot.child, signal.SIGKILL)
            os.waitpid(slot.child, 0)
            return slot, None
    time.sleep(0.01)
    return None


def _count(outcome: Outcome, slot: Slot, code: int | None) -> None:
    assert slot.mutant is not None
    match code:
        case None:
            outcome.timed_out += 1
        case 0:
            outcome.survivors.append(slot.mutant)
        case trial.CRASHED:
            log = (slot.copy / "trial.log").read_text(errors="replace")
            raise SystemExit(f"A trial could not be run. Its output:\n{log}")
        case _:
            outcome.killed += 1
    slot.finish()


def _listed_equivalents() -> set[tuple[str, str, str]]:
    listed = tomllib.loads(EQUIVALENT.read_text(encoding="utf-8")).get("mutant", [])
    return {(one["file"], one["before"], one["after"]) for one in listed}


def interval(hits: int, total: int) -> tuple[float, float]:
    """The 95% Wilson interval of a share.

    Args:
        hits: How many of the sample have the property.
        total: The size of the sample.
    """
    if not total:
        return 0.0, 1.0
    z = 1.959964
    share = hits / total
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    spread = z / (1 + z * z / total)
    spread *= math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return max(0.0, middle - spread), min(1.0, middle + spread)


def _report(module: str, available: int, outcome: Outcome, seconds: float) -> None:
    for mutant in outcome.survivors:
        print(f"\nSURVIVES {mutant.path}:{mutant.first_line} (mutant {mutant.number})")
        print(mutant.diff)
    dead = outcome.killed + outcome.timed_out
    total = dead + len(outcome.survivors)
    low, high = interval(dead, total)
    score = dead / total if total else 0.0
    print(
        f"\n{module}: {score:.1%} killed (95% interval {low:.1%} to {high:.1%}): {dead} of {total} "
        f"mutants, {outcome.timed_out} of them by time, and {len(outcome.equivalent)} listed as "
        f"equivalent; {available} mutants exist; {seconds:.0f} s"
    )
    RESULTS.mkdir(exist_ok=True)
    summary = {
        "module": module,
        "score": score,
        "interval": [low, high],
        "killed": dead,
        "trials": total,
        "timed_out": outcome.timed_out,
        "equivalent": len(outcome.equivalent),
        "available": available,
        "seconds": round(seconds),
    }
    (RESULTS / f"{module.replace('/', '-')}.json").write_text(json.dumps(summary, indent=1))


if __name__ == "__main__":
    main()
