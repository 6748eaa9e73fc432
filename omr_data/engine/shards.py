"""The work on one shard: a pure function of its input, run in any process.

The engine maps `make_shard` and `make_keys` over shards. Each takes one small picklable task and
commits its result by itself, so that a crash loses at most the shards that are being worked on.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omr_data.engine.requests import Wanted, read_wanted
from omr_data.errors import BadRow, OmrError, SourceError, StepError, StoreError
from omr_data.records import Record, Response, check_marks
from omr_data.source import Files, Part, Source
from omr_data.sources.tables import place_of
from omr_data.step import AskStep, BatchMap, Expand, Filter, GlobalStep, Map, Step
from omr_data.store.images import ImageStore, RowImages
from omr_data.store.ledger import Count
from omr_data.store.rollouts import RolloutStore
from omr_data.store.shards import Dropped, StageFolder, read_records, read_shard
from omr_data.teacher import AttemptStatus

# Plain tuples and not classes: they are pickled with every task, and unpacked where they are made.
Fused = tuple[tuple[Step, str], ...]
"""Local steps that run in one pass, each with its fingerprint."""
StepResult = tuple[list[Record], list[Dropped], Count]
"""What a step made of a shard: the records that came out, the dropped ones, and its count."""

RAW_CHARACTERS = 2_000
"""Characters of a malformed row that are kept, to look it up. A cell may hold gigabytes."""


@dataclass(frozen=True, slots=True)
class ReadPart:
    """The input of a stage that starts with a source: one part of its rows."""

    source: Source
    """The source."""
    fingerprint: str
    """The fingerprint of its node."""
    files: Files
    """Its files on this machine."""
    part: Part
    """The rows to read."""
    images: ImageStore
    """Where images are stored."""


@dataclass(frozen=True, slots=True)
class ApplyDecisions:
    """The input of a stage that starts with a GlobalStep: a shard, less the rows it decided
    against."""

    step: GlobalStep
    """The step."""
    fingerprint: str
    """The fingerprint of its node."""
    shard: Path
    """The shard of an earlier stage."""
    drops: Mapping[str, str]
    """Reasons by id, of this shard's rows only, so that a task stays small."""


@dataclass(frozen=True, slots=True)
class AttachAnswers:
    """The input of a stage that starts with an AskStep: a shard, and the stored answers to it."""

    step: AskStep
    """The step."""
    fingerprint: str
    """The fingerprint of its node."""
    shard: Path
    """The shard of an earlier stage."""
    rollouts: Path
    """The file of the rollout store."""
    requests: Path
    """The requests of the shard, as `make_requests` wrote them."""


@dataclass(frozen=True, slots=True)
class ReadShard:
    """The input of a stage that only continues an earlier one: its shard as it is."""

    shard: Path
    """The shard of the earlier stage."""


Input = ReadPart | ApplyDecisions | AttachAnswers | ReadShard


@dataclass(frozen=True, slots=True)
class ShardTask:
    """Make one shard of a stage."""

    folder: StageFolder
    """The stage."""
    number: int
    """The number of the shard."""
    input: Input
    """What it is made from."""
    steps: Fused
    """The steps to run over it."""


@dataclass(frozen=True, slots=True)
class KeysTask:
    """Take a GlobalStep's key columns of one input shard."""

    folder: StageFolder
    """The stage of the step."""
    side: int
    """0 for the data, 1 and up for the step's references."""
    number: int
    """The number of the input shard on its side."""
    step: GlobalStep
    """The step."""
    shard: Path
    """The input shard."""
    images: ImageStore
    """Where the step reads images."""


def make_shard(task: ShardTask) -> int:
    """Makes and commits one shard; returns its number of rows. Raises OmrError."""
    records, dropped, counts = read_input(task.input)
    # In memory from step to step: a shard is small, and writing between them is what fusing saves.
    for step, fingerprint in task.steps:
        records, step_dropped, count = apply_step(step, fingerprint, records)
        dropped += step_dropped
        counts.append(count)
    task.folder.commit(task.number, records, dropped, counts)
    return len(records)


def make_keys(task: KeysTask) -> int:
    """Takes and commits the key columns of one shard; returns its number of rows. Raises
    OmrError."""
    # As a table: key columns are vectorized, and Record objects would cost most of the time.
    table = read_shard(task.shard)
    try:
        frame = task.step.extract_keys(table, task.images)
    except OmrError:
        raise
    except Exception as error:
        raise StepError(
            f"{task.step.name} failed on the shard {task.shard}: {type(error).__name__}: {error}"
        ) from error
    task.folder.commit_keys(task.side, task.number, frame)
    return int(table.num_rows)


def read_input(input: Input) -> tuple[list[Record], list[Dropped], list[Count]]:
    """Returns the records that enter a stage's steps, with what its head dropped and counted."""
    match input:
        case ReadPart():
            records, dropped, count = read_part(input)
        case ApplyDecisions():
            records, dropped, count = apply_decisions(input)
        case AttachAnswers():
            records, dropped, count = attach_answers(input)
        case ReadShard():
            # No step was run: the counts of the earlier stage hold these rows already.
            return read_records(input.shard), [], []
    return records, dropped, [count]


def read_part(task: ReadPart) -> StepResult:
    """Reads and converts the rows of one part. Malformed rows are dropped and can be looked up.

    Raises:
        SourceError: The rows cannot be read.
        StepError: `convert` failed with something else than BadRow.
    """
    source = task.source
    root = task.files.images or task.files.root
    # Wrapped for one source: paths in its rows may only lead to files that its pin covers.
    images = RowImages(root, task.images, task.files.readable)
    records: list[Record] = []
    dropped: list[Dropped] = []
    for number, row in enumerate(raw_rows(task), task.part.start):
        try:
            records.append(check_marks(source.convert(row, images)))
        except BadRow as bad:
            raw = raw_record(task, number, row)
            where = f"{task.part.path or source.name}, row {number + 1}"
            # Text formats know the line, which is easier to find in an editor than a row number.
            if "_line" in row:
                where = place_of(task.files, task.part, row)
            detail = f"{where}: {bad.detail or bad.reason}"
            dropped.append(Dropped(raw, source.name, bad.reason, detail))
        except OmrError:
            raise
        except Exception as error:
            raise StepError(
                f"{source.name}.convert failed on row {number} of "
                f"{task.part.path or source.name}: {type(error).__name__}: {error}. "
                "Raise BadRow(reason, detail) there if the row is at fault."
            ) from error
    read = len(records) + len(dropped)
    count = _count(source, task.fingerprint, read, len(records), records, dropped)
    return records, dropped, count


def raw_rows(task: ReadPart) -> Iterator[Mapping[str, Any]]:
    """Yields the raw rows of a part. Raises SourceError where a library fails on a damaged file."""
    try:
        yield from task.source.rows(task.files, task.part)
    except OmrError:
        raise
    except Exception as error:
        where = task.files.root / task.part.path
        raise SourceError(
            f"{task.source.name} cannot read {where}, rows {task.part.start:,} to "
            f"{task.part.stop - 1:,}: {type(error).__name__}: {error}. "
            "The file is damaged, or its layout has changed: fetch it again."
        ) from error


def raw_record(task: ReadPart, number: int, row: Mapping[str, Any]) -> Record:
    """Returns a record that stands for a malformed row, with the start of its text in `meta`.

    Args:
        task: The part that the row is from.
        number: The number of the row in its file.
        row: The row.
    """
    shown = dict(row)
    for key, value in row.items():
        # Images as numbers: their bytes say nothing to a person, and would fill what is kept.
        if isinstance(value, bytes):
            shown[key] = f"<{len(value):,} bytes>"
    text = json.dumps(shown, ensure_ascii=False, default=str)[:RAW_CHARACTERS]
    # Half of a surrogate pair cannot be stored as UTF-8, and this row may be malformed in any way.
    storable = text.encode(errors="replace").decode()
    return Record(
        id=f"{task.part.path}:{number}",
        source=task.source.name,
        license="",
        question="",
        answer="",
        meta={"row": storable},
    )


def apply_decisions(task: ApplyDecisions) -> StepResult:
    """Drops the rows of a shard that a GlobalStep decided against."""
    # In the order of the shard, so that a decision changes which rows there are and nothing else.
    before = read_records(task.shard)
    records = [record for record in before if record.id not in task.drops]
    dropped = [
        Dropped(record, task.step.name, task.drops[record.id])
        for record in before
        if record.id in task.drops
    ]
    count = _count(task.step, task.fingerprint, len(before), len(records), records, dropped)
    return records, dropped, count


def attach_answers(task: AttachAnswers) -> StepResult:
    """Attaches the stored answers to the records of a shard."""
    before = read_records(task.shard)
    groups: list[list[Wanted]] = [[] for _ in before]
    for one in read_wanted(task.requests):
        groups[one.record].append(one)
    # A set: records that share a request are common, such as duplicates across datasets.
    wanted_keys = set[str]()
    for group in groups:
        wanted_keys.update(one.key for one in group)
    keys = sorted(wanted_keys)
    found: dict[str, list[Response]] = {}
    unanswered: dict[str, dict[int, AttemptStatus]] = {}
    if keys:
        # One query for the whole shard: a query for each record would take longer than decoding.
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


def apply_step(step: Step, fingerprint: str, records: Sequence[Record]) -> StepResult:
    """Runs one local step over the records of a shard.

    Args:
        step: A Map, BatchMap, Filter or Expand.
        fingerprint: The fingerprint of its node.
        records: The records that enter it.

    Raises:
        StepError: The step failed, or returned something that its shape does not allow.
    """
    after: list[Record] = []
    dropped: list[Dropped] = []
    if isinstance(step, BatchMap):
        after = run_batch(step, records)
        return after, [], _count(step, fingerprint, len(records), len(after), after, [])
    for record in records:
        result = run_step(step, record)
        # Shape and result together, so that each wrong pair ends in one place with one message.
        match step, result:
            case Map(), Record() if result.id == record.id:
                after.append(result)
            case Filter(), None:
                after.append(record)
            case Filter() | Expand(), str():
                dropped.append(Dropped(record, step.name, result))
            case Expand(), list() | tuple() if result and all(
                isinstance(one, Record) for one in result
            ):
                after += result
            case _:
                raise StepError(
                    f"{step.name} returned {str(result)[:100]!r} for record {record.id}. "
                    f"{must_return(step)}"
                )
    rows_kept = len(records) - len(dropped)
    return after, dropped, _count(step, fingerprint, len(records), rows_kept, after, dropped)


def must_return(step: Step) -> str:
    """Returns what the shape of a step allows it to return, as advice to its author."""
    match step:
        case Map():
            return "A Map returns one Record with the same id."
        # The two messages name the type, because the usual mistake is a bool or an empty list.
        case Filter():
            return (
                "A Filter returns None to keep a record, or the reason for dropping it as a string."
            )
    return (
        "An Expand returns a non-empty list of Records, or the reason for dropping the record as "
        "a string."
    )


def run_step(step: Step, record: Record) -> object:
    """Returns what a step made of one record. Raises StepError where it fails."""
    # Any exception, because a step may be of a recipe. The message names the record, so that its
    # author can try it alone.
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


def run_batch(step: BatchMap, records: Sequence[Record]) -> list[Record]:
    """Returns the records that a BatchMap annotated. Raises StepError for other ids or an order."""
    try:
        after = list(step.apply_batch(records))
    except OmrError:
        raise
    except Exception as error:
        raise StepError(
            f"{step.name} failed on a batch of {len(records)} records: "
            f"{type(error).__name__}: {error}"
        ) from error
    # A batch that comes back in another order would attach one record's annotation to another.
    returned = [getattr(record, "id", None) for record in after]
    if returned != [record.id for record in records]:
        raise StepError(
            f"{step.name} must return one Record with the same id for each record, in the same "
            "order."
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
    # Tallied here and not in the step, so that a step cannot forget records that it expanded.
    tally: Counter[str] = Counter()
    if isinstance(spec, Step):
        for record in after:
            tally.update(spec.tally(record))
    # Reasons only: details are of one record each, and counting them would list every record.
    reasons = Counter(drop.reason for drop in dropped)
    return Count(spec.name, fingerprint, rows_in, len(after), rows_kept, reasons, tally)
