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
    """Rows of one step. `came` entered, `went` came out; an Expand lets one row become several."""

    step: str
    fingerprint: str
    came: int = 0
    went: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    tally: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Count") -> None:
        """Adds the rows of another shard."""
        self.came += other.came
        self.went += other.went
        self.kept += other.kept
        self.dropped.update(other.dropped)
        self.tally.update(other.tally)

    def check(self, where: str) -> None:
        """Raises StoreError when the rows do not add up: kept + dropped must be what came in."""
        if self.came != self.kept + self.dropped.total():
            raise StoreError(
                f"{where}: {self.step} took {self.came:,} rows, kept {self.kept:,} and dropped {self.dropped.total():,}, "
                "which does not add up. This is a fault in the engine or a damaged ledger; delete that folder and build again."
            )

    def to_json(self) -> dict[str, Any]:
        """Plain data, with reasons and tallies in alphabetical order."""
        return {
            "step": self.step,
            "fingerprint": self.fingerprint,
            "in": self.came,
            "kept": self.kept,
            "out": self.went,
            "dropped": dict(sorted(self.dropped.items())),
            "tally": dict(sorted(self.tally.items())),
        }


def count_from_json(data: Mapping[str, Any]) -> Count:
    """Inverse of `Count.to_json`."""
    return Count(
        data["step"],
        data["fingerprint"],
        data["in"],
        data["out"],
        data["kept"],
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
