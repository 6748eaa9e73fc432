"""Row accounting: every row that enters a step comes out of it or is dropped for a counted reason.

**Count**: the rows of one step: in, out, dropped by reason, and what the step tallied.
A shard's counts are written after its files, and mean that it is whole; a stage's are their sum.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omr_data.errors import StoreError
from omr_data.store.atomic import write_text


@dataclass(slots=True)
class Count:
    """Rows of one step. `rows_in` entered, `rows_out` came out; an Expand lets one row become several."""

    step: str
    fingerprint: str
    rows_in: int = 0
    rows_out: int = 0
    rows_kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    tally: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Count") -> None:
        """Adds the rows of another shard."""
        self.rows_in += other.rows_in
        self.rows_out += other.rows_out
        self.rows_kept += other.rows_kept
        self.dropped.update(other.dropped)
        self.tally.update(other.tally)

    def check(self, where: str) -> None:
        """Raises StoreError when the rows do not add up: kept + dropped must be what came in."""
        if self.rows_in != self.rows_kept + self.dropped.total():
            raise StoreError(
                f"{where}: {self.step} took {self.rows_in:,} rows, kept {self.rows_kept:,} and dropped {self.dropped.total():,}, "
                "which does not add up. This is a fault in the engine or a damaged ledger; delete that folder and build again."
            )

    def to_json(self) -> dict[str, Any]:
        """Plain data, with reasons and tallies in alphabetical order."""
        return {
            "step": self.step,
            "fingerprint": self.fingerprint,
            "rows_in": self.rows_in,
            "rows_kept": self.rows_kept,
            "rows_out": self.rows_out,
            "dropped": dict(sorted(self.dropped.items())),
            "tally": dict(sorted(self.tally.items())),
        }


def count_from_json(data: Mapping[str, Any]) -> Count:
    """Inverse of `Count.to_json`."""
    return Count(
        data["step"],
        data["fingerprint"],
        data["rows_in"],
        data["rows_out"],
        data["rows_kept"],
        Counter(data["dropped"]),
        Counter(data["tally"]),
    )


@dataclass(frozen=True, slots=True)
class ShardEntry:
    """One finished shard: its number, rows, file size in bytes, dropped rows, and the counts of its steps."""

    number: int
    rows: int
    size: int
    dropped: int
    counts: tuple[Count, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "number": self.number,
            "rows": self.rows,
            "size": self.size,
            "dropped": self.dropped,
            "counts": [count.to_json() for count in self.counts],
        }


def write_entry(path: Path, entry: ShardEntry) -> None:
    """Commits a shard: its files are already there. Raises StoreError."""
    for count in entry.counts:
        count.check(str(path))
    write_text(path, json.dumps(entry.to_json(), ensure_ascii=False))


def read_entry(path: Path) -> ShardEntry:
    """A shard's entry. Raises StoreError when it is missing or damaged."""
    data = read_json(path)
    counts = tuple(count_from_json(count) for count in data["counts"])
    return ShardEntry(data["number"], data["rows"], data["size"], data["dropped"], counts)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object in a file. Raises StoreError when it is missing or damaged."""
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise StoreError(
            f"{path} cannot be read ({error}). Delete the folder {path.parent} and build again."
        ) from error
    if not isinstance(data, dict):
        raise StoreError(
            f"{path} holds no JSON object. Delete the folder {path.parent} and build again."
        )
    return data


def sum_counts(entries: Iterable[Sequence[Count]]) -> list[Count]:
    """The counts of many shards, step by step, in the order of the first."""
    total: dict[str, Count] = {}
    for counts in entries:
        for count in counts:
            total.setdefault(count.fingerprint, Count(count.step, count.fingerprint)).add(count)
    return list(total.values())
