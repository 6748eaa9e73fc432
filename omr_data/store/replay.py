"""Rollouts as parquet, to publish: whoever has them replays a release without a teacher.

One row for each answer: `key`, `request` (the canonical JSON that the key is the sha256 of), `attempt`, `model`,
`finish_reason`, `prompt_tokens`, `completion_tokens`, `seconds`, `logprob`, `text` and `reasoning`, ordered by key and attempt.
A file that was written before `logprob` was kept has no such column.
"""

import hashlib
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omr_data.errors import StoreError
from omr_data.records import Response
from omr_data.store.atomic import atomic_path
from omr_data.store.rollouts import RolloutStore
from omr_data.teacher import Request

if TYPE_CHECKING:
    import pyarrow as pa

ROWS = 2_000
"""Rows in memory at once."""


def export_rollouts(store: RolloutStore, path: Path) -> tuple[int, int]:
    """Writes every answer of a store; returns how many answers and requests. Raises StoreError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = 0
    with (
        atomic_path(path) as scratch,
        pq.ParquetWriter(scratch, _schema(), compression="zstd") as writer,
    ):
        for chunk in store.pages(ROWS):
            writer.write_table(
                pa.Table.from_pylist(
                    [_row(identity, response) for identity, response in chunk], schema=_schema()
                )
            )
            rows += len(chunk)
    return rows, store.stats().requests


def import_rollouts(store: RolloutStore, path: Path) -> tuple[int, int]:
    """Puts every answer of a file into a store; returns how many there were, and how many are new.

    The whole file is checked before anything is stored.

    Raises:
        StoreError: the file is no export, or a key is not the sha256 of its request.
    """
    seen = sum(1 for _ in _checked(path))
    before = store.stats().rollouts
    rows = iter(_checked(path))
    while chunk := [row for row, _ in zip(rows, range(ROWS), strict=False)]:
        store.put(
            (Request(key, (), (), (), identity), [response for *_, response in members])
            for (key, identity), members in groupby(chunk, key=lambda row: (row[0], row[1]))
        )
    return seen, store.stats().rollouts - before


def _checked(path: Path) -> Iterator[tuple[str, str, Response]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    known = ""
    try:
        with pq.ParquetFile(path) as file:
            there = file.schema_arrow.names
            if missing := sorted({*_schema().names} - {"logprob", *there}):
                raise StoreError(
                    f"{path} is no export of rollouts: it has no column {', '.join(missing)}."
                )
            for batch in file.iter_batches(
                batch_size=ROWS, columns=[name for name in _schema().names if name in there]
            ):
                for row in batch.to_pylist():
                    key, identity = row.pop("key"), row.pop("request")
                    if key != known and hashlib.sha256(identity.encode()).hexdigest() != key:
                        raise StoreError(
                            f"{path}: the key {key[:12]} is not the sha256 of its request. The file was changed; nothing was imported."
                        )
                    known = key
                    yield key, identity, Response(**row, key=key)
    except (pa.ArrowException, OSError) as error:
        raise StoreError(
            f"{path} cannot be read: {error}. Give a file that `omr rollouts export` wrote."
        ) from error


def _row(identity: str, response: Response) -> dict[str, Any]:
    return {name: getattr(response, name) for name in _schema().names if name != "request"} | {
        "request": identity
    }


def _schema() -> "pa.Schema":
    import pyarrow as pa

    text, whole = pa.string(), pa.int64()
    return pa.schema(
        {
            "key": text,
            "request": text,
            "attempt": whole,
            "model": text,
            "finish_reason": text,
            "prompt_tokens": whole,
            "completion_tokens": whole,
            "seconds": pa.float64(),
            "logprob": pa.float64(),
            "text": text,
            "reasoning": text,
        }
    )
