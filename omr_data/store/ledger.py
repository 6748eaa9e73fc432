"""Row accounting: every row that enters a step comes out of it, or is dropped for a counted reason.

**Count**: the rows of one step: how many entered, came out and were dropped, by reason.
**ShardEntry**: the ledger's line about one finished shard: its counts, and the sha256 of its files.

An entry is written after the files that it describes, so its presence means that the shard is
whole. Entries are **sealed**: they hold the sha256 of themselves, because a flipped bit in a count
would otherwise be read as another number of rows.
"""

import hashlib
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
    """Rows of one step, in one shard or summed over many."""

    step: str
    """The name of the step."""
    fingerprint: str
    """The fingerprint of the step's node in the plan."""
    rows_in: int = 0
    """Rows that entered."""
    rows_out: int = 0
    """Rows that came out. An Expand makes several of one."""
    rows_kept: int = 0
    """Rows that entered and were not dropped."""
    dropped: Counter[str] = field(default_factory=Counter)
    """Rows that were dropped, by reason."""
    tally: Counter[str] = field(default_factory=Counter)
    """What the step counted about the rows that came out, such as verdicts."""

    def add(self, other: "Count") -> None:
        """Adds the rows of another shard."""
        # In place: a full build adds a thousand shards for each step.
        self.rows_in += other.rows_in
        self.rows_out += other.rows_out
        self.rows_kept += other.rows_kept
        self.dropped.update(other.dropped)
        self.tally.update(other.tally)

    def check(self, where: str) -> None:
        """Checks that rows kept and rows dropped are the rows that entered.

        Args:
            where: The file or recipe that is named in the message.

        Raises:
            StoreError: The rows do not add up.
        """
        # Rows that came out are not part of it: an Expand makes several of one.
        if self.rows_in != self.rows_kept + self.dropped.total():
            raise StoreError(
                f"{where}: {self.step} took {self.rows_in:,} rows, kept {self.rows_kept:,} and "
                f"dropped {self.dropped.total():,}, which does not add up. This is a fault in the "
                "engine or a damaged ledger; delete that folder and build again."
            )

    def to_json(self) -> dict[str, Any]:
        """Returns plain data, with reasons and tallies in alphabetical order."""
        # Sorted, because the order in which reasons first occur depends on the shard.
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
    """Returns the Count that `Count.to_json` wrote."""
    return Count(
        step=data["step"],
        fingerprint=data["fingerprint"],
        rows_in=data["rows_in"],
        rows_out=data["rows_out"],
        rows_kept=data["rows_kept"],
        dropped=Counter(data["dropped"]),
        tally=Counter(data["tally"]),
    )


def sum_counts(entries: Iterable[Sequence[Count]]) -> list[Count]:
    """Sums the counts of many shards, step by step, in the order of the first shard."""
    total: dict[str, Count] = {}
    # By fingerprint, because one step may stand twice in a stage.
    for counts in entries:
        for count in counts:
            total.setdefault(count.fingerprint, Count(count.step, count.fingerprint)).add(count)
    return list(total.values())


@dataclass(frozen=True, slots=True)
class ShardEntry:
    """One finished shard."""

    number: int
    """The number of the shard in its stage."""
    rows: int
    """Records in the shard."""
    dropped: int
    """Records that were dropped on the way to it."""
    counts: tuple[Count, ...]
    """The counts of the steps that made it, in order."""
    sha256: str
    """The digest of the file of records."""
    dropped_sha256: str | None = None
    """The digest of the file of dropped records. None where none was dropped."""

    def to_json(self) -> dict[str, Any]:
        """Returns plain data."""
        return {
            "number": self.number,
            "rows": self.rows,
            "dropped": self.dropped,
            "counts": [count.to_json() for count in self.counts],
            "sha256": self.sha256,
            "dropped_sha256": self.dropped_sha256,
        }


def write_entry(path: Path, entry: ShardEntry) -> None:
    """Commits a shard whose files are written.

    Raises:
        StoreError: A count does not add up, or the disk refuses the write.
    """
    # A wrong count is cheapest to find where it is made, before anything builds on it.
    for count in entry.counts:
        count.check(str(path))
    write_sealed(path, entry.to_json())


def read_entry(path: Path) -> ShardEntry:
    """Reads a shard's entry. Raises StoreError when it is missing or damaged."""
    # The counts are not added up again: the seal says that they are what `write_entry` checked.
    data = read_sealed(path)
    counts = tuple(count_from_json(count) for count in data["counts"])
    return ShardEntry(**{**data, "counts": counts})


def seal(body: Mapping[str, Any]) -> str:
    """Returns the sha256 of a JSON object, whatever the order of its keys and its layout."""
    # Parsed and written again, so that what counts is what a reader would get.
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def write_sealed(path: Path, body: Mapping[str, Any]) -> None:
    """Writes a JSON object together with its seal. Raises StoreError."""
    # With line breaks, for people: what is sealed does not depend on the layout.
    text = json.dumps({"seal": seal(body), "body": body}, ensure_ascii=False, indent=1)
    write_text(path, text + "\n")


def read_sealed(path: Path) -> dict[str, Any]:
    """Reads a JSON object that `write_sealed` wrote. Raises StoreError when it was changed."""
    data = read_json(path)
    body = data.get("body")
    if not isinstance(body, dict) or data.get("seal") != seal(body):
        raise StoreError(
            f"{path} was changed after it was written, or an older version wrote it. "
            f"Delete the folder {path.parent} and build again; rollouts are kept."
        )
    return body


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object. Raises StoreError when the file is missing or holds something else."""
    advice = f"Delete the folder {path.parent} and build again."
    try:
        data = json.loads(path.read_bytes())
    # Nested a thousand times, a damaged or hostile file exhausts the parser's stack.
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"{path} cannot be read ({error}). {advice}") from error
    # Valid JSON can still be something else: a damaged file may be cut to a number.
    if not isinstance(data, dict):
        raise StoreError(f"{path} holds no JSON object. {advice}")
    return data
