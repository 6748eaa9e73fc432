"""A release: `releases/<name>/<version>/`, made once and never changed.

    README.md         the dataset card
    manifest.json     the plan, the counts of every step, sources with commits, and the sha256 of each file
    data/train-*.parquet

It is written beside its place and renamed into it, so that it is there whole or not at all. It holds nothing that differs
between two runs (no times, no machine), so equal plans give equal bytes.
"""

import hashlib
import json
import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from omr_data.engine.build import Built
from omr_data.engine.unanswered import check_unanswered
from omr_data.errors import DriftError, ReleaseError
from omr_data.plan import Plan, differences
from omr_data.processes import Mapper
from omr_data.progress import Reporter
from omr_data.release.card import card
from omr_data.release.rows import write_rows
from omr_data.source import Source
from omr_data.step import AskStep
from omr_data.store.images import ImageStore
from omr_data.store.ledger import Count, read_json
from omr_data.store.shards import read_records, read_shard
from omr_data.store.workspace import Workspace

FORMAT = 1
SHARD_BYTES = 500_000_000


@dataclass(frozen=True, slots=True)
class Contents:
    """What a release will hold, from one pass over the records: rows, and rows and questions by (source, license)."""

    rows: int
    size: int
    by_source: dict[tuple[str, str], tuple[int, int]]


@dataclass(frozen=True, slots=True)
class FileTask:
    """Write one file of a release: rows start to stop over the shards given, whose first row has number `first`."""

    path: Path
    shards: tuple[tuple[Path, int], ...]
    start: int
    stop: int
    images: ImageStore


def release_folder(plan: Plan, releases: Path) -> Path:
    """Where this recipe's version is, or will be."""
    return releases / plan.recipe.name / plan.recipe.version


def check_drift(plan: Plan, releases: Path) -> bool:
    """Whether this version is released already, from this very plan. Cheap: call it before anything is paid for.

    Raises:
        DriftError: it was released from another plan; the message says where they differ.
    """
    folder = release_folder(plan, releases)
    if not folder.exists():
        return False
    released = read_json(folder / "manifest.json")["plan"]
    if released["fingerprint"] == plan.fingerprint:
        return True
    found = differences(released, plan.to_json()) or ["how its steps are joined"]
    more = f" (and {len(found) - 3} more)" if len(found) > 3 else ""
    raise DriftError(
        f"{plan.recipe.name}@{plan.recipe.version} was released from {released['fingerprint'][:8]}; this recipe is {plan.fingerprint[:8]}. "
        f"It differs at {'; '.join(found[:3])}{more}. Bump the version, or restore what was."
    )


def release(
    built: Built,
    workspace: Workspace,
    releases: Path,
    prose: str | None,
    mapper: Mapper,
    reporter: Reporter,
) -> Path:
    """Writes the release and returns its folder; does nothing when it is there from the same plan.

    `prose` is the hand-written part of the card. Raises ReleaseError when the rows are not what the recipe promises.
    """
    plan = built.plan
    folder = release_folder(plan, releases)
    if check_drift(plan, releases):
        return folder
    check_unanswered(_asked(built), workspace.rollouts, reporter)
    contents = _contents(built)
    _check_rows(plan, contents)
    folder.parent.mkdir(parents=True, exist_ok=True)
    for stale in folder.parent.glob(f".{folder.name}.*.tmp"):
        shutil.rmtree(stale)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        files = _write_files(built, contents, temporary, workspace, mapper, reporter)
        manifest = _manifest(built, contents, files)
        (temporary / "README.md").write_text(card(manifest, prose), encoding="utf-8")
        manifest["files"].insert(0, _file(temporary, temporary / "README.md"))
        (temporary / "manifest.json").write_text(
            json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        os.sync()
        temporary.rename(folder)
    except OSError as error:
        raise ReleaseError(
            f"{folder} cannot be written: {error.strerror or error}. Nothing half-written was left, and the build is kept: "
            "free some space or choose another folder with --releases, and run the same command again."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _asked(built: Built) -> list[tuple[AskStep, Count]]:
    """The AskSteps of the plan, with what was counted of each."""
    counts = {count.fingerprint: count for count in built.counts()}
    return [
        (node.spec, counts[node.fingerprint])
        for node in built.plan.nodes
        if isinstance(node.spec, AskStep)
    ]


def _contents(built: Built) -> Contents:
    """One pass over the result. Raises ReleaseError when an id is there twice."""
    ids: set[str] = set()
    rows = size = 0
    by_source: dict[tuple[str, str], tuple[int, set[str]]] = {}
    for shard in built.result:
        table = read_shard(shard)
        size += table.nbytes
        for one in table.select(["id", "source", "license", "question_id", "images"]).to_pylist():
            rows += 1
            ids.add(one["id"])
            if len(ids) < rows:
                raise ReleaseError(
                    f"the id {one['id']!r} is there twice. Ids must be unique: give the sources different dataset names."
                )
            count, questions = by_source.get((one["source"], one["license"]), (0, set()))
            questions.add(one["question_id"] or one["id"])
            by_source[one["source"], one["license"]] = (count + 1, questions)
            # An image of w x h pixels is about half a byte a pixel as PNG or JPEG; only the number of files depends on it.
            size += sum(image["width"] * image["height"] // 2 for image in one["images"])
    return Contents(
        rows,
        size,
        {key: (count, len(questions)) for key, (count, questions) in sorted(by_source.items())},
    )


def _check_rows(plan: Plan, contents: Contents) -> None:
    if not contents.rows:
        raise ReleaseError(
            f"{plan.recipe.name} has no rows to release. `omr show --dropped` says what each step dropped, and why."
        )
    promised = plan.recipe.rows
    if promised is not None and contents.rows not in promised:
        raise ReleaseError(
            f"{plan.recipe.name} has {contents.rows:,} rows, and the recipe promises {promised.start:,} to {promised.stop - 1:,}. "
            "`omr show --dropped` says where rows went; change the recipe, or what it promises."
        )


def _write_files(
    built: Built,
    contents: Contents,
    temporary: Path,
    workspace: Workspace,
    mapper: Mapper,
    reporter: Reporter,
) -> list[dict[str, Any]]:
    number = max(2, math.ceil(contents.size / SHARD_BYTES))
    starts, first = [], 0
    for shard, rows in zip(built.result, _rows_of(built), strict=True):
        starts.append((shard, first))
        first += rows
    edges = [contents.rows * index // number for index in range(number + 1)]
    tasks = []
    for index, (start, stop) in enumerate(pairwise(edges)):
        path = temporary / "data" / f"train-{index:05}-of-{number:05}.parquet"
        tasks.append(
            FileTask(path, _overlapping(starts, first, start, stop), start, stop, workspace.images)
        )
    with reporter.bar("writing the release", number, "files") as bar:
        for _ in mapper.map(write_file, tasks):
            bar.advance(1)
    return [_file(temporary, task.path) | {"rows": task.stop - task.start} for task in tasks]


def _rows_of(built: Built) -> list[int]:
    return [
        shard["rows"]
        for stage in built.cut.result
        for shard in built.folders[stage].summary()["shards"]
    ]


def _overlapping(
    starts: Sequence[tuple[Path, int]], total: int, start: int, stop: int
) -> tuple[tuple[Path, int], ...]:
    ends = [*(first for _, first in starts[1:]), total]
    return tuple(
        (shard, first)
        for (shard, first), end in zip(starts, ends, strict=True)
        if first < stop and end > start
    )


def write_file(task: FileTask) -> None:
    """Writes one file of a release. Runs in any process."""
    records = (
        record
        for shard, first in task.shards
        for number, record in enumerate(read_records(shard), first)
        if task.start <= number < task.stop
    )
    write_rows(task.path, records, task.images)


def _file(root: Path, path: Path) -> dict[str, Any]:
    with open(path, "rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    return {
        "path": path.relative_to(root).as_posix(),
        "size": path.stat().st_size,
        "sha256": sha256,
    }


def _manifest(built: Built, contents: Contents, files: list[dict[str, Any]]) -> dict[str, Any]:
    plan = built.plan
    sources = [
        {
            "name": node.name,
            "repo": getattr(node.spec, "repo", None),
            "commit": node.pin.commit,
            "digest": node.pin.digest,
        }
        for node in plan.nodes
        if isinstance(node.spec, Source)
    ]
    return {
        "format": FORMAT,
        "name": plan.recipe.name,
        "version": plan.recipe.version,
        "rows": contents.rows,
        "by_source": [
            {"source": source, "license": license, "rows": rows, "questions": questions}
            for (source, license), (rows, questions) in contents.by_source.items()
        ],
        "sources": sources,
        "counts": [count.to_json() for count in built.counts()],
        "files": files,
        "plan": plan.to_json(),
    }
