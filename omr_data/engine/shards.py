"""The work on one shard: a pure function of its input, run in any process. The engine maps these over shards.

Each function takes one small picklable task and commits its shard by itself, so that a crash loses at most the shards
being worked on.
"""

import functools
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omr_data.engine.requests import Wanted, read_wanted
from omr_data.errors import BadRow, OmrError, StepError, StoreError
from omr_data.records import Record, Response, check_marks
from omr_data.source import Files, Part, Source
from omr_data.sources.tables import place_of
from omr_data.step import AskStep, BatchMap, Expand, Filter, GlobalStep, Map, Step
from omr_data.store.images import ImageStore, RowImages
from omr_data.store.ledger import Count
from omr_data.store.rollouts import RolloutStore
from omr_data.store.shards import Dropped, StageFolder, read_records, read_shard, write_frame
from omr_data.teacher import AttemptStatus

Fused = tuple[tuple[Step, str], ...]
"""Local steps with their fingerprints."""


@dataclass(frozen=True, slots=True)
class ReadPart:
    """Read one part of a source, then the fused steps."""

    source: Source
    fingerprint: str
    files: Files
    part: Part
    images: ImageStore


@dataclass(frozen=True, slots=True)
class ApplyDecisions:
    """Drop the rows that a GlobalStep decided against, then the fused steps. `drops` holds this shard's ids only."""

    step: GlobalStep
    fingerprint: str
    shard: Path
    drops: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class AttachAnswers:
    """Attach the stored answers to each record, then the fused steps."""

    step: AskStep
    fingerprint: str
    shard: Path
    rollouts: Path
    requests: Path
    """The requests of the shard, as `make_requests` wrote them."""


@dataclass(frozen=True, slots=True)
class ReadShard:
    """Read one shard of an earlier stage, then the fused steps."""

    shard: Path


Input = ReadPart | ApplyDecisions | AttachAnswers | ReadShard


@dataclass(frozen=True, slots=True)
class ShardTask:
    """Make one shard of a stage."""

    folder: StageFolder
    number: int
    input: Input
    steps: Fused


@dataclass(frozen=True, slots=True)
class KeysTask:
    """Take a GlobalStep's key columns of one input shard."""

    folder: StageFolder
    side: int
    number: int
    step: GlobalStep
    shard: Path
    images: ImageStore


def make_shard(task: ShardTask) -> int:
    """Makes and commits one shard; returns its number of rows. Raises OmrError."""
    records, dropped, counts = _head(task.input)
    for step, fingerprint in task.steps:
        records, step_dropped, count = apply_step(step, fingerprint, records)
        dropped += step_dropped
        counts.append(count)
    task.folder.commit(task.number, records, dropped, counts)
    return len(records)


def make_keys(task: KeysTask) -> int:
    """Takes and commits the key columns of one shard; returns its number of rows. Raises OmrError."""
    table = read_shard(task.shard)
    try:
        frame = task.step.extract_keys(table, task.images)
    except OmrError:
        raise
    except Exception as error:
        raise StepError(
            f"{task.step.name} failed on the shard {task.shard}: {type(error).__name__}: {error}"
        ) from error
    write_frame(task.folder.keys(task.side, task.number), frame)
    return int(table.num_rows)


def _head(input: Input) -> tuple[list[Record], list[Dropped], list[Count]]:
    match input:
        case ReadPart():
            records, dropped, count = read_part(input)
        case ApplyDecisions():
            records, dropped, count = _apply_decisions(input)
        case AttachAnswers():
            records, dropped, count = _attach(input)
        case ReadShard():
            return read_records(input.shard), [], []
    return records, dropped, [count]


def read_part(task: ReadPart) -> tuple[list[Record], list[Dropped], Count]:
    """Reads and converts the rows of one part; malformed ones are dropped and can be looked up."""
    images = RowImages(task.files.images or task.files.root, task.images)
    records, dropped = [], []
    read = 0
    for number, row in enumerate(task.source.rows(task.files, task.part), task.part.start):
        read += 1
        try:
            records.append(check_marks(task.source.convert(row, images)))
        except BadRow as bad:
            where = f"{task.part.path or task.source.name}, row {number + 1}"
            if "_line" in row:
                where = place_of(task.files, task.part, row)
            detail = f"{where}: {bad.detail or bad.reason}"
            dropped.append(Dropped(_raw(task, number, row), task.source.name, bad.reason, detail))
        except OmrError:
            raise
        except Exception as error:
            where = f"row {number} of {task.part.path or task.source.name}"
            raise StepError(
                f"{task.source.name}.convert failed on {where}: {type(error).__name__}: {error}. "
                "Raise BadRow(reason, detail) there if the row is at fault."
            ) from error
    return (
        records,
        dropped,
        _count(task.source, task.fingerprint, read, len(records), records, dropped),
    )


def _raw(task: ReadPart, number: int, row: Mapping[str, Any]) -> Record:
    """A row that did not become a record, as one: its text, at most 2,000 characters of it, is in `meta`."""
    shown = {
        key: f"<{len(value):,} bytes>" if isinstance(value, bytes) else value
        for key, value in row.items()
    }
    raw = json.dumps(shown, ensure_ascii=False, default=str)[:2_000]
    return Record(
        id=f"{task.part.path}:{number}",
        source=task.source.name,
        license="",
        question="",
        answer="",
        meta={"row": raw},
    )


def _apply_decisions(task: ApplyDecisions) -> tuple[list[Record], list[Dropped], Count]:
    before = read_records(task.shard)
    records = [record for record in before if record.id not in task.drops]
    dropped = [
        Dropped(record, task.step.name, task.drops[record.id])
        for record in before
        if record.id in task.drops
    ]
    return (
        records,
        dropped,
        _count(task.step, task.fingerprint, len(before), len(records), records, dropped),
    )


def _attach(task: AttachAnswers) -> tuple[list[Record], list[Dropped], Count]:
    before = read_records(task.shard)
    groups: list[list[Wanted]] = [[] for _ in before]
    for one in read_wanted(task.requests):
        groups[one.record].append(one)
    keys = sorted({one.key for group in groups for one in group})
    found: dict[str, list[Response]] = {}
    unanswered: dict[str, dict[int, AttemptStatus]] = {}
    if keys:
        with RolloutStore.read(task.rollouts) as store:
            found, unanswered = store.responses(keys), store.unanswered(keys)
    records, open_attempts = [], Counter[str]()
    for record, group in zip(before, groups, strict=True):
        answers = []
        for one in group:
            wanted = set(one.attempts)
            answers.append([got for got in found.get(one.key, []) if got.attempt in wanted])
            settled = unanswered.get(one.key, {})
            statuses = [settled[attempt].value for attempt in wanted if attempt in settled]
            # Everything was asked for before: what is gone now was damaged in between.
            if len(answers[-1]) + len(statuses) < len(wanted):
                raise StoreError(
                    f"answers to {record.id} that were stored are not in {task.rollouts} any "
                    "more. Restore it from a copy, or run the build again to ask for them."
                )
            open_attempts.update(statuses)
        records.append(task.step.attach(record, answers))
    count = _count(task.step, task.fingerprint, len(before), len(records), records, [])
    # "refused" and "rejected" stand beside what the step itself counts.
    count.tally.update(open_attempts)
    return records, [], count


def apply_step(
    step: Step, fingerprint: str, records: Sequence[Record]
) -> tuple[list[Record], list[Dropped], Count]:
    """Runs one local step over the records of a shard. Raises StepError when the step itself fails."""
    after: list[Record] = []
    dropped: list[Dropped] = []
    rows_kept = 0
    if isinstance(step, BatchMap):
        after = _checked_many(step, records)
        return after, [], _count(step, fingerprint, len(records), len(after), after, [])
    run = functools.partial(_run, step)
    for record in records:
        result = run(record)
        match step, result:
            case Map(), Record() if result.id == record.id:
                after.append(result)
            case Filter(), None:
                after.append(record)
            case Filter() | Expand(), str():
                dropped.append(Dropped(record, step.name, result))
                continue
            case Expand(), list() | tuple() if result and all(
                isinstance(one, Record) for one in result
            ):
                after += result
            case _:
                raise StepError(
                    f"{step.name} returned {str(result)[:100]!r} for record {record.id}. {_MUST[_shape(step)]}"
                )
        rows_kept += 1
    return after, dropped, _count(step, fingerprint, len(records), rows_kept, after, dropped)


_MUST = {
    Map: "A Map returns one Record with the same id.",
    Filter: "A Filter returns None to keep a record, or the reason for dropping it as a string.",
    Expand: "An Expand returns a non-empty list of Records, or the reason for dropping the record as a string.",
}


def _shape(step: Step) -> type[Step]:
    return next(shape for shape in _MUST if isinstance(step, shape))


def _run(step: Step, record: Record) -> object:
    try:
        match step:
            case Map():
                return step.apply(record)
            case Filter():
                return step.reason(record)
            case Expand():
                return step.expand(record)
    except OmrError:
        raise
    except Exception as error:
        raise StepError(
            f"{step.name} failed on record {record.id}: {type(error).__name__}: {error}"
        ) from error
    raise StepError(
        f"{step.name} has no shape that runs on one record: derive it from Map, Filter or Expand."
    )


def _checked_many(step: BatchMap, records: Sequence[Record]) -> list[Record]:
    try:
        after = list(step.apply_batch(records))
    except OmrError:
        raise
    except Exception as error:
        raise StepError(
            f"{step.name} failed on a batch of {len(records)} records: {type(error).__name__}: {error}"
        ) from error
    if [record.id for record in after] != [record.id for record in records]:
        raise StepError(
            f"{step.name} must return one Record with the same id for each record, in the same order."
        )
    return after


def _count(
    spec: Source | Step,
    fingerprint: str,
    rows_in: int,
    rows_kept: int,
    after: Sequence[Record],
    dropped: Sequence[Dropped],
) -> Count:
    tally: Counter[str] = Counter()
    if isinstance(spec, Step):
        for record in after:
            tally.update(spec.tally(record))
    reasons = Counter(drop.reason for drop in dropped)
    return Count(spec.name, fingerprint, rows_in, len(after), rows_kept, reasons, tally)
