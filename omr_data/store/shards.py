"""Shards: parquet files of records, one folder a stage.

stages/<step>-<fingerprint>/
    shard-00000.parquet     the records that came out, in order
    dropped-00000.parquet   the records that did not, each with its step, reason and detail (absent when none was)
    ledger-00000.json       written last: the shard is whole
    keys-0-00000.parquet  a GlobalStep's key columns of one input shard
    requests-00000.parquet  an AskStep's requests of one input shard
    table-<name>.parquet    what a GlobalStep found (duplicate pairs, contamination hits)
    stage.json              written when every shard is there: the stage is done
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omr_data.errors import StoreError
from omr_data.records import Record, from_table, schema, to_table
from omr_data.store.atomic import atomic_path, write_text
from omr_data.store.ledger import (
    Count,
    ShardEntry,
    count_from_json,
    read_entry,
    read_json,
    sum_counts,
    write_entry,
)

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Dropped:
    """A record that a step dropped: by which step, for which counted reason, and what was wrong with this one."""

    record: Record
    step: str
    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class StageFolder:
    """The folder of one stage. Any process may write its shards; equal numbers hold equal bytes."""

    path: Path

    def shard(self, number: int) -> Path:
        """Where a shard's records are."""
        return self.path / f"shard-{number:05}.parquet"

    def dropped(self, number: int) -> Path:
        """Where a shard's dropped records are."""
        return self.path / f"dropped-{number:05}.parquet"

    def entry(self, number: int) -> Path:
        """Where a shard's ledger entry is."""
        return self.path / f"ledger-{number:05}.json"

    def keys(self, side: int, number: int) -> Path:
        """Where a GlobalStep's key columns of one input shard are; side 0 is the data, 1 and up its references."""
        return self.path / f"keys-{side}-{number:05}.parquet"

    def requests(self, number: int) -> Path:
        """Where an AskStep's requests of one input shard are."""
        return self.path / f"requests-{number:05}.parquet"

    def table(self, name: str) -> Path:
        """Where a GlobalStep's side table is."""
        return self.path / f"table-{name}.parquet"

    def tables(self) -> list[str]:
        """The names of the side tables that are there."""
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
        """Writes a shard: records, dropped ones, then the ledger entry. Raises StoreError; nothing half-written stays."""
        size = write_parquet(self.shard(number), to_table(records))
        if dropped:
            write_parquet(self.dropped(number), _dropped_table(dropped))
        write_entry(
            self.entry(number), ShardEntry(number, len(records), size, len(dropped), tuple(counts))
        )

    def finish(self, shards: int, name: str) -> None:
        """Writes the stage's summary after its last shard: the stage is done."""
        entries = [read_entry(self.entry(number)) for number in range(shards)]
        counts = sum_counts(entry.counts for entry in entries)
        summary = {
            "stage": name,
            "rows": sum(entry.rows for entry in entries),
            "counts": [count.to_json() for count in counts],
            "shards": [
                {"rows": entry.rows, "size": entry.size, "dropped": entry.dropped}
                for entry in entries
            ],
        }
        write_text(self.path / "stage.json", json.dumps(summary, ensure_ascii=False, indent=1))

    def done(self) -> bool:
        """Whether the stage is whole. Raises StoreError when a shard that it lists is gone or has another size."""
        if not (self.path / "stage.json").exists():
            return False
        for number, shard in enumerate(self.summary()["shards"]):
            path = self.shard(number)
            if not path.exists() or path.stat().st_size != shard["size"]:
                raise StoreError(
                    f"{path} is missing or was changed after it was written. "
                    f"Delete the folder {self.path} and build again; rollouts are kept."
                )
        return True

    def summary(self) -> dict[str, Any]:
        """The finished stage's rows, counts and shards."""
        return read_json(self.path / "stage.json")

    def counts(self) -> list[Count]:
        """The finished stage's counts, step by step."""
        return [count_from_json(count) for count in self.summary()["counts"]]

    def shards(self) -> list[Path]:
        """The finished stage's shards, in order."""
        return [self.shard(number) for number in range(len(self.summary()["shards"]))]


def write_parquet(path: Path, table: "pa.Table") -> int:
    """Writes one parquet file atomically and returns its size in bytes. The same table always gives the same bytes."""
    import pyarrow.parquet as pq

    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", compression_level=3)
    return path.stat().st_size


def write_frame(path: Path, frame: "pl.DataFrame") -> None:
    """Writes one polars frame as parquet, atomically."""
    with atomic_path(path) as temporary:
        frame.write_parquet(temporary)


def read_shard(path: Path) -> "pa.Table":
    """The records of one shard as a table. Raises StoreError when it is missing, damaged or of another schema."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path).read()
    except (OSError, pa.ArrowException) as error:
        raise StoreError(
            f"the shard {path} cannot be read: {error}. Delete the folder {path.parent} and build again."
        ) from error
    missing = set(schema().names) - set(table.column_names)
    if missing:
        raise StoreError(
            f"the shard {path} lacks the columns {', '.join(sorted(missing))}. Delete the folder {path.parent} and build again."
        )
    return table


def read_records(path: Path) -> list[Record]:
    """The records of one shard, in order. Raises StoreError."""
    return from_table(read_shard(path))


def iter_dropped(folder: StageFolder) -> Iterator[dict[str, Any]]:
    """The dropped rows of a stage as plain values, in order: `step`, `reason`, `detail` and the record's columns."""
    import pyarrow.parquet as pq

    for path in sorted(folder.path.glob("dropped-*.parquet")):
        yield from pq.ParquetFile(path).read().to_pylist()


def _dropped_table(dropped: Sequence[Dropped]) -> "pa.Table":
    import pyarrow as pa

    table = to_table([drop.record for drop in dropped])
    for name in ("step", "reason", "detail"):
        table = table.append_column(
            name, pa.array([getattr(drop, name) for drop in dropped], pa.string())
        )
    return table
