"""Shards: parquet files of records, in one folder per stage.

    stages/<step>-<fingerprint>/
        shard-00000.parquet     the records that came out, in order
        dropped-00000.parquet   the records that did not, each with its step, reason and detail
        ledger-00000.json       written last: the shard is whole; holds the sha256 of both files
        keys-0-00000.parquet    a GlobalStep's key columns of one input shard
        keys-0-00000.json       written after them, with their sha256
        requests-00000.parquet  an AskStep's requests of one input shard
        table-<name>.parquet    what a GlobalStep found (duplicate pairs, contamination hits)
        stage.json              written when every shard is there: the stage is done

The bytes of a file are compared with its sha256 whenever the file is read. Parquet alone would not
notice most flipped bits: they decode as other text. Hashing costs about 1 ms per MB, which is 1 to
2% of what decoding the same bytes into records takes.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omr_data.errors import StoreError
from omr_data.records import Record, from_table, schema, to_table
from omr_data.store.atomic import atomic_path
from omr_data.store.ledger import (
    Count,
    ShardEntry,
    count_from_json,
    read_entry,
    read_sealed,
    sum_counts,
    write_entry,
    write_sealed,
)

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Dropped:
    """A record that a step dropped."""

    record: Record
    """The record as it entered the step."""
    step: str
    """The name of the step."""
    reason: str
    """The reason, which is counted."""
    detail: str = ""
    """What was wrong with this record in particular."""

    def __post_init__(self) -> None:
        # Reasons quote the data, which may hold half of a surrogate pair: that has no UTF-8 form.
        for name in ("reason", "detail"):
            text: str = getattr(self, name)
            object.__setattr__(self, name, text.encode(errors="replace").decode())


@dataclass(frozen=True, slots=True)
class StageFolder:
    """The folder of one stage. Any process may write its shards; equal numbers hold equal bytes."""

    path: Path
    """The folder."""

    def shard(self, number: int) -> Path:
        """Returns the file of a shard's records."""
        return self.path / f"shard-{number:05}.parquet"

    def dropped(self, number: int) -> Path:
        """Returns the file of a shard's dropped records."""
        return self.path / f"dropped-{number:05}.parquet"

    def entry(self, number: int) -> Path:
        """Returns the file of a shard's ledger entry."""
        return self.path / f"ledger-{number:05}.json"

    def keys(self, side: int, number: int) -> Path:
        """Returns the file of a GlobalStep's key columns.

        Args:
            side: 0 for the data, 1 and up for the step's references.
            number: The input shard.
        """
        return self.path / f"keys-{side}-{number:05}.parquet"

    def requests(self, number: int) -> Path:
        """Where an AskStep's requests of one input shard are."""
        return self.path / f"requests-{number:05}.parquet"

    def table(self, name: str) -> Path:
        """Returns the file of a GlobalStep's side table."""
        return self.path / f"table-{name}.parquet"

    def tables(self) -> list[str]:
        """Returns the names of the side tables that exist."""
        return sorted(
            path.stem.removeprefix("table-") for path in self.path.glob("table-*.parquet")
        )

    def commit(
        self,
        number: int,
        records: Sequence[Record],
        dropped: Sequence[Dropped],
        counts: Sequence[Count],
    ) -> None:
        """Writes a shard: records, dropped records, then the ledger entry.

        Args:
            number: The number of the shard.
            records: The records that came out of the stage's last step.
            dropped: The records that its steps dropped.
            counts: The counts of its steps, in order.

        Raises:
            StoreError: The counts do not add up, or the disk refuses a write.
        """
        # The entry comes last: killed before it, the shard is made again from the same input.
        sha256 = write_parquet(self.shard(number), to_table(records))
        dropped_sha256 = None
        if dropped:
            dropped_sha256 = write_parquet(self.dropped(number), _dropped_table(dropped))
        write_entry(
            self.entry(number),
            ShardEntry(number, len(records), len(dropped), tuple(counts), sha256, dropped_sha256),
        )

    def commit_keys(self, side: int, number: int, frame: "pl.DataFrame") -> None:
        """Writes the key columns of one input shard, then their digest.

        Args:
            side: 0 for the data, 1 and up for the step's references.
            number: The input shard.
            frame: The key columns, one row for each record.

        Raises:
            StoreError: The disk refuses a write.
        """
        # The digest last: killed before it, the columns are taken again.
        path = self.keys(side, number)
        write_sealed(path.with_suffix(".json"), {"sha256": write_frame(path, frame)})

    def has_keys(self, side: int, number: int) -> bool:
        """Tells whether the key columns of an input shard are whole.

        Raises:
            StoreError: They were changed after they were written.
        """
        path = self.keys(side, number)
        entry = path.with_suffix(".json")
        if not entry.exists():
            return False
        check_file(path, read_sealed(entry)["sha256"])
        return True

    def commit_requests(self, number: int, table: "pa.Table") -> None:
        """Writes an AskStep's requests of one input shard, then their digest.

        Args:
            number: The input shard.
            table: The requests, those of one record together.

        Raises:
            StoreError: The disk refuses a write.
        """
        # The digest last, as for key columns. A damaged prompt must never be sent and paid for.
        path = self.requests(number)
        write_sealed(path.with_suffix(".json"), {"sha256": write_parquet(path, table)})

    def has_requests(self, number: int) -> bool:
        """Tells whether the requests of an input shard are whole.

        Raises:
            StoreError: They were changed after they were written.
        """
        path = self.requests(number)
        entry = path.with_suffix(".json")
        if not entry.exists():
            return False
        check_file(path, read_sealed(entry)["sha256"])
        return True

    def has_shard(self, number: int) -> bool:
        """Tells whether a shard is whole.

        Raises:
            StoreError: It was changed after it was written.
        """
        if not self.entry(number).exists():
            return False
        entry = read_entry(self.entry(number))
        check_file(self.shard(number), entry.sha256)
        if entry.dropped_sha256 is not None:
            check_file(self.dropped(number), entry.dropped_sha256)
        return True

    def finish(self, shards: int, name: str) -> None:
        """Writes the stage's summary: the stage is done.

        Args:
            shards: How many shards the stage has. Each must be committed.
            name: The name of the stage's last step.

        Raises:
            StoreError: A shard has no entry, or the disk refuses the write.
        """
        # Read back from disk, so that the summary cannot say more than what is stored.
        entries = [read_entry(self.entry(number)) for number in range(shards)]
        counts = sum_counts(entry.counts for entry in entries)
        tables = {name: file_sha256(self.table(name)) for name in self.tables()}
        summary = {
            "stage": name,
            "rows": sum(entry.rows for entry in entries),
            "counts": [count.to_json() for count in counts],
            "shards": [
                {
                    "rows": entry.rows,
                    "dropped": entry.dropped,
                    "size": self.shard(entry.number).stat().st_size,
                    "sha256": entry.sha256,
                }
                for entry in entries
            ],
            "tables": tables,
        }
        write_sealed(self.path / "stage.json", summary)

    def done(self) -> bool:
        """Tells whether the stage is done, without reading its shards.

        Raises:
            StoreError: A shard that the summary lists is missing or has another size.
        """
        if not (self.path / "stage.json").exists():
            return False
        for number, shard in enumerate(self.summary()["shards"]):
            path = self.shard(number)
            # Content is checked where a shard is read. A plan asks for every stage of a recipe,
            # and must not read gigabytes to answer.
            if not path.exists() or path.stat().st_size != shard["size"]:
                raise StoreError(_changed(path))
        return True

    def summary(self) -> dict[str, Any]:
        """Returns the finished stage's rows, counts and shards. Raises StoreError."""
        return read_sealed(self.path / "stage.json")

    def counts(self) -> list[Count]:
        """Returns the finished stage's counts, step by step."""
        return [count_from_json(count) for count in self.summary()["counts"]]

    def shards(self) -> list[Path]:
        """Returns the finished stage's shards, in order."""
        return [self.shard(number) for number in range(len(self.summary()["shards"]))]

    def check(self) -> Iterator[str]:
        """Yields what is wrong with the files of this stage, finished or not. Reads every byte."""
        # By entry and not by file: a shard without one is not committed, and is made again.
        for entry in sorted(self.path.glob("ledger-*.json")):
            yield from _fault(self.has_shard, int(entry.stem.removeprefix("ledger-")))
        for entry in sorted(self.path.glob("keys-*-*.json")):
            _, side, number = entry.stem.split("-")
            yield from _fault(self.has_keys, int(side), int(number))
        for entry in sorted(self.path.glob("requests-*.json")):
            yield from _fault(self.has_requests, int(entry.stem.removeprefix("requests-")))
        yield from _fault(self._check_summary)

    def _check_summary(self) -> None:
        # A stage that is being built has no summary, and nothing is wrong with that.
        if not self.done():
            return
        summary = self.summary()
        # Each list names what exists, so a file that was deleted together with its entry is
        # noticed.
        for number, shard in enumerate(summary["shards"]):
            if read_entry(self.entry(number)).sha256 != shard["sha256"]:
                raise StoreError(_changed(self.shard(number)))
        for name, sha256 in summary["tables"].items():
            check_file(self.table(name), sha256)


def _fault(check: Callable[..., object], *arguments: int) -> Iterator[str]:
    """Yields the message of the StoreError that a check raises, if it raises one."""
    try:
        check(*arguments)
    except StoreError as error:
        yield str(error)


def write_parquet(path: Path, table: "pa.Table") -> str:
    """Writes one parquet file atomically and returns its sha256. Equal tables give equal bytes."""
    import pyarrow.parquet as pq

    with atomic_path(path) as temporary:
        pq.write_table(
            table, temporary, compression="zstd", compression_level=3, write_page_checksum=True
        )
        # Hashed before the rename, so that the digest is of what was written, not of what a
        # faulty disk may return later.
        return file_sha256(temporary)


def write_frame(path: Path, frame: "pl.DataFrame") -> str:
    """Writes one polars frame as parquet, atomically, and returns the file's sha256."""
    with atomic_path(path) as temporary:
        frame.write_parquet(temporary)
        return file_sha256(temporary)


def file_sha256(path: Path) -> str:
    """Returns the sha256 of a file. Raises StoreError when it cannot be read."""
    try:
        with open(path, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise StoreError(_changed(path)) from error


def check_file(path: Path, sha256: str) -> None:
    """Raises StoreError when a file is missing or its bytes have another digest."""
    if file_sha256(path) != sha256:
        raise StoreError(_changed(path))


def check_shard(path: Path) -> None:
    """Raises StoreError when a shard is missing, damaged or has no ledger entry."""
    number = int(path.stem.removeprefix("shard-"))
    check_file(path, read_entry(StageFolder(path.parent).entry(number)).sha256)


def read_shard(path: Path) -> "pa.Table":
    """Reads the records of one shard as a table.

    Raises:
        StoreError: The file is missing, damaged, of another schema, or has no ledger entry.
    """
    # From the path alone, so that a task can be sent to a worker without its stage.
    folder = StageFolder(path.parent)
    number = int(path.stem.removeprefix("shard-"))
    table = _read_checked(path, read_entry(folder.entry(number)).sha256)
    # Older and newer versions of this package have other columns; their shards look whole.
    missing = set(schema().names) - set(table.column_names)
    if missing:
        raise StoreError(
            f"the shard {path} lacks the columns {', '.join(sorted(missing))}. "
            f"Delete the folder {path.parent} and build again."
        )
    return table


def _read_checked(path: Path, sha256: str) -> "pa.Table":
    """Reads a parquet file whose bytes have this digest."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    # The file is read once: the bytes that are hashed are the ones that are decoded. This holds one
    # compressed shard in memory, a small part of its decoded records.
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StoreError(_changed(path)) from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise StoreError(_changed(path))
    try:
        # One thread: shards are decoded by many processes at once, and a pool of threads per
        # process would only compete with them.
        return pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False)
    except (OSError, pa.ArrowException) as error:
        raise StoreError(
            f"{path} cannot be read: {error}. {_ADVICE.format(path.parent)}"
        ) from error


def read_records(path: Path) -> list[Record]:
    """Reads the records of one shard, in order. Raises StoreError."""
    return from_table(read_shard(path))


def iter_dropped(folder: StageFolder) -> Iterator[dict[str, Any]]:
    """Yields the dropped rows of a finished stage, in order.

    Each is a dict of the record's columns, and `step`, `reason` and `detail`. Raises StoreError.
    """
    # One shard at a time: a step may drop more rows than memory holds.
    for number in range(len(folder.summary()["shards"])):
        sha256 = read_entry(folder.entry(number)).dropped_sha256
        if sha256 is not None:
            yield from _read_checked(folder.dropped(number), sha256).to_pylist()


def _dropped_table(dropped: Sequence[Dropped]) -> "pa.Table":
    import pyarrow as pa

    # The same columns as a shard, and three more, so that one reader shows both.
    table = to_table([drop.record for drop in dropped])
    extra: Mapping[str, list[str]] = {
        "step": [drop.step for drop in dropped],
        "reason": [drop.reason for drop in dropped],
        "detail": [drop.detail for drop in dropped],
    }
    for name, values in extra.items():
        table = table.append_column(name, pa.array(values, pa.string()))
    return table


_ADVICE = "Delete the folder {} and build again; rollouts are kept."


def _changed(path: Path) -> str:
    return f"{path} is missing or was changed after it was written. {_ADVICE.format(path.parent)}"
