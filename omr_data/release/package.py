"""A release: `releases/<name>/<version>/`, made once and never changed.

    README.md         the dataset card
    manifest.json     the plan, every step's counts, sources with commits, the sha256 of each file
    data/train-*.parquet      and data/<split>-*.parquet for each other split of the records

It is written beside its place and renamed into it, so that it is there whole or not at all. It
holds nothing that differs between two runs (no times, no machine), so equal plans give equal bytes.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from omr_data.engine.build import Built
from omr_data.engine.unanswered import check_unanswered
from omr_data.errors import DriftError, ReleaseError
from omr_data.plan import Plan, differences
from omr_data.processes import Mapper
from omr_data.progress import Reporter
from omr_data.records import Record
from omr_data.release.card import card
from omr_data.release.manifest import make_manifest, read_manifest, write_manifest
from omr_data.release.rows import write_rows
from omr_data.release.verify import file_line, release_problems
from omr_data.step import AskStep
from omr_data.store.atomic import new_folder, write_text
from omr_data.store.images import ImageStore
from omr_data.store.shards import read_records, read_shard
from omr_data.store.workspace import Workspace

SHARD_BYTES = 500_000_000
"""Bytes of a data file, about."""


DEFAULT_SPLIT = "train"
"""The split of records that no step put into one."""


@dataclass(slots=True)
class SplitContents:
    """What one split of a release will hold."""

    rows: int = 0
    """Rows of the split."""
    size: int = 0
    """Bytes of the split, estimated."""
    shards: list[tuple[Path, int]] = field(default_factory=list)
    """The shards that hold its rows, each with the number that its first row has in the split."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What a release will hold, from one pass over the records."""

    rows: int
    """Rows in all."""
    by_source: dict[tuple[str, str], tuple[int, int]]
    """Rows and questions by (source, license), sorted."""
    splits: dict[str, SplitContents]
    """What each split holds, sorted by its name."""


@dataclass(frozen=True, slots=True)
class FileTask:
    """Write one file of a release."""

    path: Path
    """The file."""
    split: str
    """The split whose rows it holds."""
    shards: tuple[tuple[Path, int], ...]
    """The shards that hold its rows, each with the number that its first row has in the split."""
    start: int
    """The number of the file's first row in the split."""
    stop: int
    """The number of the row after its last one."""
    images: ImageStore
    """Where images are read."""


def release_folder(plan: Plan, releases: Path) -> Path:
    """Returns where this recipe's version is, or will be."""
    return releases / plan.recipe.name / plan.recipe.version


def check_drift(plan: Plan, releases: Path) -> bool:
    """Tells whether this version is released already, from this very plan.

    Cheap: it reads the manifest only. Call it before anything is paid for.

    Args:
        plan: The plan.
        releases: The folder of releases.

    Raises:
        DriftError: The version was released from another plan. The message says where they differ.
        ReleaseError: What is there is damaged, or of another format.
    """
    folder = release_folder(plan, releases)
    if not folder.exists():
        return False
    released = read_manifest(folder)["plan"]
    if released["fingerprint"] == plan.fingerprint:
        return True
    found = differences(released, plan.to_json()) or ["how its steps are joined"]
    more = f" (and {len(found) - 3} more)" if len(found) > 3 else ""
    raise DriftError(
        f"{plan.recipe.name}@{plan.recipe.version} was released from "
        f"{released['fingerprint'][:8]}; this recipe is {plan.fingerprint[:8]}. It differs at "
        f"{'; '.join(found[:3])}{more}. Bump the version, or restore what was."
    )


def release(
    built: Built,
    workspace: Workspace,
    releases: Path,
    prose: str | None,
    mapper: Mapper,
    reporter: Reporter,
) -> Path:
    """Writes the release. Does nothing when it is there already, whole and from the same plan.

    Args:
        built: The plan, built.
        workspace: Where its images are.
        releases: The folder of releases. Several workspaces may share it.
        prose: The part of the card that is written by hand. None makes a plain card.
        mapper: Runs the writing of files.
        reporter: Where progress is shown.

    Returns:
        The folder of the release.

    Raises:
        ReleaseError: The rows are not what the recipe promises, what is there already is damaged,
            or the disk refuses a write.
    """
    plan = built.plan
    folder = release_folder(plan, releases)
    if check_drift(plan, releases):
        # A person reads "released" as "can be trained on", so every byte is read again.
        if problems := release_problems(folder):
            listed = "\n".join(f"  - {problem}" for problem in problems[:10])
            raise ReleaseError(
                f"{folder} was released from this plan and is damaged:\n{listed}\nDelete that "
                "folder and run the same command again: it is written from what is built."
            )
        return folder

    counts = {count.fingerprint: count for count in built.counts()}
    asked = [
        (node.spec, counts[node.fingerprint])
        for node in plan.nodes
        if isinstance(node.spec, AskStep)
    ]
    check_unanswered(asked, workspace.rollouts, reporter)
    contents = read_contents(built)
    check_rows(plan, contents)
    try:
        with new_folder(folder) as temporary:
            files = write_files(contents, temporary, workspace.images, mapper, reporter)
            manifest = make_manifest(built, contents.rows, contents.by_source, files)
            # After the manifest's other files: the card shows a digest of the data.
            readme = temporary / "README.md"
            write_text(readme, card(manifest, prose))
            manifest["files"].insert(0, file_line(temporary, readme))
            write_manifest(temporary, manifest)
    except FileExistsError:
        # Another workspace released this version since the check above. It had the same right to;
        # what is there now is the release, if it is of the same plan.
        check_drift(plan, releases)
    except OSError as error:
        raise ReleaseError(
            f"{folder} cannot be written: {error.strerror or error}. Nothing half-written was "
            "left, and the build is kept: free some space or choose another folder with "
            "--releases, and run the same command again."
        ) from error
    return folder


def read_contents(built: Built) -> Contents:
    """Counts the rows of the result in one pass. Raises ReleaseError when an id is there twice."""
    # All ids are in memory, at about 100 bytes each. Earlier checks are of one source or one step,
    # and a plan may join sources after them.
    ids: set[str] = set()
    counted: dict[tuple[str, str], int] = {}
    questions: dict[tuple[str, str], set[str]] = {}
    splits: dict[str, SplitContents] = {}
    columns = ["id", "source", "license", "question_id", "split", "images"]
    rows = 0
    for shard in built.result:
        table = read_shard(shard)
        for one in table.select(columns).to_pylist():
            rows += 1
            ids.add(one["id"])
            if len(ids) < rows:
                raise ReleaseError(
                    f"the id {one['id']!r} is there twice. Ids must be unique: give the sources "
                    "different dataset names."
                )
            key = (one["source"], one["license"])
            counted[key] = counted.get(key, 0) + 1
            questions.setdefault(key, set()).add(one["question_id"] or one["id"])
            split = splits.setdefault(one["split"] or DEFAULT_SPLIT, SplitContents())
            if not split.shards or split.shards[-1][0] != shard:
                split.shards.append((shard, split.rows))
            split.rows += 1
            # An image takes about half a byte a pixel as PNG or JPEG. Only the number of files
            # depends on it, so reading the images to know better is not worth it.
            split.size += sum(image["width"] * image["height"] // 2 for image in one["images"])
            split.size += table.nbytes // table.num_rows
    by_source = {key: (counted[key], len(questions[key])) for key in sorted(counted)}
    return Contents(rows, by_source, dict(sorted(splits.items())))


def check_rows(plan: Plan, contents: Contents) -> None:
    """Raises ReleaseError when the number of rows is 0, or not what the recipe promises."""
    if not contents.rows:
        raise ReleaseError(
            f"{plan.recipe.name} has no rows to release. `omr show --dropped` says what each step "
            "dropped, and why."
        )
    for name in contents.splits:
        # `datasets` refuses other names, and a name with a slash would leave the folder.
        if not re.fullmatch(r"\w+", name, re.ASCII):
            raise ReleaseError(
                f"{plan.recipe.name} has rows of the split {name!r}. Splits are named with "
                'letters, digits and "_" alone, such as "validation": rename it in the step or '
                "source that sets Record.split."
            )
    # Checked late, and still before anything is written: only now are the rows known.
    promised = plan.recipe.rows
    if promised is not None and contents.rows not in promised:
        raise ReleaseError(
            f"{plan.recipe.name} has {contents.rows:,} rows, and the recipe promises "
            f"{promised.start:,} to {promised.stop - 1:,}. `omr show --dropped` says where rows "
            "went; change the recipe, or what it promises."
        )


def write_files(
    contents: Contents, folder: Path, images: ImageStore, mapper: Mapper, reporter: Reporter
) -> list[dict[str, Any]]:
    """Writes the data files of a release.

    Args:
        contents: The rows.
        folder: The folder of the release.
        images: Where images are read.
        mapper: Runs the writing of files.
        reporter: Where progress is shown.

    Returns:
        What the manifest says about each file.
    """
    tasks = []
    for name, split in contents.splits.items():
        # At least two, so that the layout of a tiny release is that of a large one.
        number = max(2, math.ceil(split.size / SHARD_BYTES))
        edges = [split.rows * index // number for index in range(number + 1)]
        for index, (start, stop) in enumerate(pairwise(edges)):
            path = folder / "data" / f"{name}-{index:05}-of-{number:05}.parquet"
            # Only shards with rows of this file, so that no worker reads the whole result.
            shards = _overlapping(split, start, stop)
            tasks.append(FileTask(path, name, shards, start, stop, images))
    with reporter.bar("writing the release", len(tasks), "files") as bar:
        for _ in mapper.map(write_file, tasks):
            bar.advance(1)
    return [file_line(folder, task.path) | {"rows": task.stop - task.start} for task in tasks]


def _overlapping(split: SplitContents, start: int, stop: int) -> tuple[tuple[Path, int], ...]:
    """The shards that hold some of the split's rows from start to stop."""
    found: Sequence[tuple[Path, int]] = split.shards
    # A shard ends where the next one starts.
    ends = [*(first for _, first in found[1:]), split.rows]
    return tuple(
        (shard, first)
        for (shard, first), end in zip(found, ends, strict=True)
        if first < stop and end > start
    )


def write_file(task: FileTask) -> None:
    """Writes one file of a release. Runs in any process. Raises StoreError for a damaged shard."""

    def records() -> Iterator[Record]:
        # One shard in memory at a time. Only the first and the last hold rows of other files too.
        for shard, first in task.shards:
            kept = [
                one for one in read_records(shard) if (one.split or DEFAULT_SPLIT) == task.split
            ]
            yield from kept[max(0, task.start - first) : task.stop - first]

    write_rows(task.path, records(), task.images)
