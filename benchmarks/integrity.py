"""What integrity costs: the time that digests take of a build and a release.

    python benchmarks/integrity.py [--rows 2400]

Builds synthetic questions with answers of the test double and releases them, in one process. Every
call that hashes a stored file, or writes and reads page checksums, is timed where it happens: the
share of the whole is the cost. Timing two builds against each other cannot show it, because builds
on a shared machine differ by more than it.
"""

import argparse
import hashlib
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from rich.console import Console

from omr_data import Recipe
from omr_data.engine.build import build
from omr_data.operators import difficulty, explode, rollout, verify
from omr_data.plan import make_plan
from omr_data.processes import SerialMapper
from omr_data.progress import reporter
from omr_data.release.package import release
from omr_data.release.verify import release_problems
from omr_data.sources import synthetic
from omr_data.sources.locator import LocalDatasets
from omr_data.store import ledger, shards
from omr_data.store.check import workspace_problems
from omr_data.store.workspace import Workspace
from omr_data.teacher import Budget
from omr_data.teachers import echo


class Clock:
    """Seconds spent in some functions."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def around(self, function: Any) -> Any:
        """Returns the function with its time counted. Calls inside one another count once."""
        inside = False

        def timed(*arguments: Any, **named: Any) -> Any:
            nonlocal inside
            if inside:
                return function(*arguments, **named)
            inside, start = True, time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                self.seconds += time.perf_counter() - start
                inside = False

        return timed


class TimedHashlib:
    """The part of hashlib that the store uses, with its time counted."""

    def __init__(self, clock: Clock) -> None:
        self.sha256 = clock.around(hashlib.sha256)
        self.file_digest = clock.around(hashlib.file_digest)


def page_checksums(path: Path) -> tuple[float, float]:
    """Seconds to write a table of a file with and without page checksums, the best of 50."""
    table = pq.read_table(path)
    best = []
    for checksums in (True, False):
        times = []
        for _ in range(50):
            start = time.perf_counter()
            pq.write_table(
                table,
                path.with_suffix(".copy"),
                compression="zstd",
                compression_level=3,
                write_page_checksum=checksums,
            )
            times.append(time.perf_counter() - start)
        best.append(min(times))
    path.with_suffix(".copy").unlink()
    return best[0], best[1]


def main() -> None:
    """Builds, releases, checks, and prints what each took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_400)
    rows = parser.parse_args().rows
    data = synthetic.Source(count=rows, families=("larger", "bars", "choice")).then(
        rollout.Sample(echo.Teacher(), n=8),
        verify.Answers(),
        difficulty.PassRate(),
        explode.Right(),
    )
    plan = make_plan(Recipe("integrity", "1.0.0", data), LocalDatasets())
    clock = Clock()
    shards.hashlib = TimedHashlib(clock)  # type: ignore[attr-defined]
    ledger.seal = clock.around(ledger.seal)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        workspace = Workspace(folder / "work")
        said = reporter(Console(stderr=True))
        start = time.perf_counter()
        with workspace.lock():
            built = build(plan, workspace, LocalDatasets(), SerialMapper(), 1, said, Budget())
        made = release(built, workspace, folder / "releases", None, SerialMapper(), said)
        whole = time.perf_counter() - start
        hashing = clock.seconds
        start = time.perf_counter()
        problems = [*workspace_problems(workspace), *release_problems(made)]
        checking = time.perf_counter() - start
        with_checksums, without = page_checksums(built.result[0])
        print(
            json.dumps(
                {
                    "rows": rows,
                    "build and release, seconds": round(whole, 2),
                    "digests, seconds": round(hashing, 3),
                    "digests, share": round(hashing / whole, 4),
                    "page checksums, share of writing a shard": round(
                        with_checksums / without - 1, 4
                    ),
                    "omr check and verify-release, seconds": round(checking, 2),
                    "problems": len(problems),
                },
                indent=1,
            )
        )


if __name__ == "__main__":
    main()
