"""Rollouts as parquet, to publish: whoever has them replays a release without a teacher.

One row for each settled attempt, answers first, ordered by key and attempt. `request` is the
canonical JSON that `key` is the sha256 of. `status` is answered, refused or rejected; of the last
two, `kind`, `detail` and `http_status` say why, and the columns of an answer are empty.

Files carry `format: 2` and page checksums. Files of format 1 have no such mark, and answers only:
they are read too, and their keys are renewed. So is a whole store of either format.
"""

import hashlib
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import chain, groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omr_data.errors import StoreError
from omr_data.records import ANSWER_FINISH_REASONS, Response
from omr_data.store.atomic import atomic_path
from omr_data.store.rollout_rows import FORMAT, renew_identity
from omr_data.store.rollouts import RolloutStore
from omr_data.teacher import AttemptStatus, Failure, Request

if TYPE_CHECKING:
    import pyarrow as pa

ROWS = 2_000
"""Rows in memory at once."""
FORMAT_KEY = b"omr_data.format"
"""Name of the format's number in the file's metadata."""
SQLITE_HEAD = b"SQLite format 3\x00"

ANSWER_COLUMNS = (
    "model",
    "finish_reason",
    "prompt_tokens",
    "completion_tokens",
    "seconds",
    "logprob",
    "text",
    "reasoning",
)
FAILURE_COLUMNS = ("kind", "detail", "http_status", "tries")
FIRST_COLUMNS = ("key", "request", "attempt", *ANSWER_COLUMNS)
"""Columns of format 1; `logprob` came later."""

Row = tuple[str, str, Response | Failure]


def export_rollouts(store: RolloutStore, path: Path) -> tuple[int, int]:
    """Writes every settled attempt of a store.

    Args:
        store: The store.
        path: The parquet file.

    Returns:
        How many answers, and how many requests.

    Raises:
        StoreError: The store is damaged, or the disk refuses the write.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    # Read back by the import, which must know how keys were made.
    schema = _schema().with_metadata({FORMAT_KEY: str(FORMAT)})
    answers = 0
    with (
        atomic_path(path) as scratch,
        pq.ParquetWriter(scratch, schema, compression="zstd", write_page_checksum=True) as writer,
    ):
        for page in store.pages(ROWS):
            rows = [_to_row(*row) for row in page]
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
            answers += sum(isinstance(result, Response) for _, _, result in page)
    return answers, store.stats().requests


def import_rollouts(store: RolloutStore, path: Path) -> tuple[int, int]:
    """Puts every settled attempt of a file into a store, after the whole file was checked.

    Args:
        store: The store.
        path: An exported parquet file, or the `rollouts.sqlite` of another workspace.

    Returns:
        How many answers there were, and how many are new.

    Raises:
        StoreError: The file is not an export, has another format, or a key is not the sha256 of its
            request. Nothing was imported.
    """
    with open(path, "rb") as file:
        # By its first bytes, because people rename files.
        is_store = file.read(len(SQLITE_HEAD)) == SQLITE_HEAD
    if not is_store:
        return _import(store, lambda: _read_export(path))
    with tempfile.TemporaryDirectory(dir=store.path.parent, prefix=".import-") as folder:
        # A copy, so that reading one of an earlier format does not upgrade the original.
        copy = Path(folder) / "rollouts.sqlite"
        with (
            closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as source,
            closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target)
        with RolloutStore.read(copy) as other:
            return _import(store, lambda: chain.from_iterable(other.pages(ROWS)))


def _import(store: RolloutStore, read: Callable[[], Iterator[Row]]) -> tuple[int, int]:
    # The first pass only checks: nothing of a damaged file is stored.
    answers = sum(isinstance(result, Response) for _, _, result in read())
    # Counted by the store: answers that it has already are left as they are.
    before = store.stats().rollouts
    rows = read()
    while chunk := list(islice(rows, ROWS)):
        store.put(
            (Request(key, (), (), (), identity), [result for *_, result in members])
            for (key, identity), members in groupby(chunk, key=lambda row: row[:2])
        )
    return answers, store.stats().rollouts - before


def _read_export(path: Path) -> Iterator[Row]:
    """Yields the rows of an export, checked. Raises StoreError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    asked_as, known = "", ("", "")
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            version = _format(path, file.schema_arrow)
            wanted = [name for name in _schema().names if name in file.schema_arrow.names]
            for batch in file.iter_batches(batch_size=ROWS, columns=wanted):
                for row in batch.to_pylist():
                    key, identity = row.pop("key"), row.pop("request")
                    # Rows of a request stand together, so its identity is hashed once.
                    if asked_as != key:
                        asked_as = key
                        known = _todays_request(path, key, identity, version)
                    yield *known, _from_row(known[0], row)
    except (pa.ArrowException, OSError) as error:
        raise StoreError(
            f"{path} cannot be read: {error}. Give a file that `omr rollouts export` wrote."
        ) from error


def _format(path: Path, schema: "pa.Schema") -> int:
    """The format of an export. Raises StoreError for one that cannot be read."""
    said = (schema.metadata or {}).get(FORMAT_KEY, b"1")
    if said not in (b"1", str(FORMAT).encode()):
        raise StoreError(
            f"{path} has format {said.decode('utf-8', 'replace')}, which another version of "
            f"omr_data made; this one reads formats 1 and {FORMAT}. Import it with that version, "
            "or export it again with this one."
        )
    # `logprob` came to format 1 later, so it may be missing there.
    needed = set(_schema().names) - {"logprob"}
    if said == b"1":
        needed &= set(FIRST_COLUMNS)
    missing = sorted(needed - set(schema.names))
    if missing:
        raise StoreError(
            f"{path} is not an export of rollouts: it has no column {', '.join(missing)}."
        )
    return int(said)


def _todays_request(path: Path, key: str, identity: str, version: int) -> tuple[str, str]:
    """The key and the identity that a request of some format has in this version.

    Raises:
        StoreError: The key is not the sha256 of the request.
    """
    # Checked against what the file says, before anything is renewed.
    if hashlib.sha256(identity.encode()).hexdigest() != key:
        raise StoreError(
            f"{path}: the key {key[:12]} is not the sha256 of its request. The file was changed; "
            "nothing was imported."
        )
    if version > 1:
        return key, identity
    # Format 1 wrote some requests in another way, so their keys were others.
    renewed = renew_identity(identity)
    return hashlib.sha256(renewed.encode()).hexdigest(), renewed


def _to_row(key: str, identity: str, result: Response | Failure) -> dict[str, Any]:
    row: dict[str, Any] = {"key": key, "request": identity, "attempt": result.attempt}
    if isinstance(result, Response):
        row["status"] = AttemptStatus.ANSWERED.value
        return row | {name: getattr(result, name) for name in ANSWER_COLUMNS}
    # Columns of an answer are left out, and become nulls.
    row["status"] = result.status.value
    return row | {name: getattr(result, name) for name in FAILURE_COLUMNS}


def _from_row(key: str, row: dict[str, Any]) -> Response | Failure:
    """The result of one row without `key` and `request`."""
    # Format 1 had no such column: it held answers only.
    status = AttemptStatus(row.pop("status", AttemptStatus.ANSWERED.value))
    attempt = row["attempt"]
    if status is not AttemptStatus.ANSWERED:
        return Failure(attempt, status, **{name: row[name] for name in FAILURE_COLUMNS})
    answer = {name: row[name] for name in ANSWER_COLUMNS if name in row}
    if answer["finish_reason"] in ANSWER_FINISH_REASONS:
        return Response(attempt=attempt, key=key, **answer)
    # Format 1 stored whatever a server sent. What is not an answer is asked for again.
    kind = f"finish reason {answer['finish_reason']}"
    return Failure(attempt, AttemptStatus.FAILED, kind, "an earlier version stored it as an answer")


def _schema() -> "pa.Schema":
    import pyarrow as pa

    text, whole = pa.string(), pa.int64()
    return pa.schema(
        {
            "key": text,
            "request": text,
            "attempt": whole,
            "status": text,
            "model": text,
            "finish_reason": text,
            "prompt_tokens": whole,
            "completion_tokens": whole,
            "seconds": pa.float64(),
            "logprob": pa.float64(),
            "text": text,
            "reasoning": text,
            "kind": text,
            "detail": text,
            "http_status": whole,
            "tries": whole,
        }
    )
