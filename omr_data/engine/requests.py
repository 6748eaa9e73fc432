"""Requests of an AskStep, worked out once per shard and kept beside the stage.

They are needed to count what is missing, to ask, and to attach the answers. Making them renders
every prompt and hashes it, so each shard's requests are a parquet file of their own. Counting and
attaching read only its keys and attempt numbers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omr_data.errors import OmrError, StepError, StoreError
from omr_data.records import ImageRef, Message
from omr_data.step import AskStep
from omr_data.store.shards import StageFolder, read_records
from omr_data.teacher import Request

if TYPE_CHECKING:
    import pyarrow as pa

ROWS = 1_000
"""Requests in memory at once."""


@dataclass(frozen=True, slots=True)
class RequestsTask:
    """Work out the requests of one input shard."""

    folder: StageFolder
    """The folder of the AskStep's stage."""
    number: int
    """The shard's number."""
    step: AskStep
    """The step that asks."""
    shard: Path
    """The input shard."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one record wants to know from one request."""

    record: int
    """The record's place in its shard."""
    key: str
    """The request's key."""
    attempts: tuple[int, ...]
    """The attempt numbers."""


def make_requests(task: RequestsTask) -> int:
    """Works out and commits the requests of one shard. Returns how many there are."""
    import pyarrow as pa

    rows = []
    # Rows of one record stand together, in the order that `attach` expects.
    for number, group in enumerate(iter_groups(task.step, task.shard)):
        for request in group:
            row = {
                "record": number,
                "key": request.key,
                "attempts": list(request.attempts),
                "messages": [{"role": one.role, "text": one.text} for one in request.messages],
                "images": [asdict(image) for image in request.images],
                "identity": request.identity,
            }
            rows.append(row)
    table = pa.Table.from_pylist(rows, schema=requests_schema())
    task.folder.commit_requests(task.number, table)
    return len(rows)


def iter_groups(step: AskStep, shard: Path) -> Iterator[Sequence[Request]]:
    """Yields the requests of each record of a shard. Raises StepError for a fault in the step.

    Args:
        step: The step that asks.
        shard: The input shard.
    """
    for record in read_records(shard):
        try:
            yield step.requests(record)
        except OmrError:
            raise
        except Exception as error:
            raise StepError(
                f"{step.name} failed on record {record.id}: {type(error).__name__}: {error}"
            ) from error


def read_requests(path: Path) -> Iterator[Request]:
    """Yields the requests of one file, in order of their records. Raises StoreError."""
    for row in _rows(path, None):
        yield Request(
            key=row["key"],
            messages=tuple(Message(**message) for message in row["messages"]),
            images=tuple(ImageRef(**image) for image in row["images"]),
            attempts=tuple(row["attempts"]),
            identity=row["identity"],
        )


def read_wanted(path: Path) -> Iterator[Wanted]:
    """Yields keys and attempts of one file, without the texts. Raises StoreError."""
    for row in _rows(path, ["record", "key", "attempts"]):
        yield Wanted(row["record"], row["key"], tuple(row["attempts"]))


def _rows(path: Path, columns: list[str] | None) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            # Page checksums are verified: a damaged prompt must not be paid for.
            for batch in file.iter_batches(batch_size=ROWS, columns=columns):
                yield from batch.to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise StoreError(
            f"the requests {path} cannot be read: {error}. Delete that file and build again; "
            "rollouts are kept."
        ) from error


def requests_schema() -> "pa.Schema":
    """Returns the Arrow schema of a file of requests."""
    import pyarrow as pa

    # Declared and not inferred: a shard without images would otherwise have a column of nulls.
    text, whole = pa.string(), pa.int64()
    image = {
        "sha256": text,
        "width": whole,
        "height": whole,
        "format": text,
        "orientation": whole,
    }
    return pa.schema(
        {
            "record": whole,
            "key": text,
            "attempts": pa.list_(whole),
            "messages": pa.list_(pa.struct({"role": text, "text": text})),
            "images": pa.list_(pa.struct(image)),
            "identity": text,
        }
    )
