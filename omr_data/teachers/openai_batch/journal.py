"""What was bought and not collected yet: one JSON file for each batch, on disk before the batch is.

An `Entry` is one batch: the provider's URL, the id of the uploaded file of requests, the id of the
batch made from it (not known at first), and which attempts of which questions it asks for.

Why this survives SIGKILL at any moment. A batch is made from an uploaded file, whose id the
provider keeps with it. A kill comes

- before the entry is written: a file alone costs nothing;
- after the entry, before the batch's id is in it: whether a batch was made from that file, the
  provider's list of batches tells;
- after the batch's id is written: it is asked for by its id;
- while its answers are stored: the entry stays until the last one is committed. What the store
  holds is not wanted any more, and the rest is read from the same output again.

Metadata of the batch alone would not do: finding it means reading the whole list of an account,
what it asks for would have to be downloaded again, and some providers drop it. A file here alone
would not do either: a batch is paid for before its id is known.
"""

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from omr_data.errors import StoreError
from omr_data.store.atomic import write_text

Lines = tuple[tuple[str, int, int], ...]
"""Requests of a batch: the question's key, its first attempt, and how many attempts."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One batch. Its attempts are consecutive numbers for each line."""

    path: Path
    """The entry's own file."""
    url: str
    """The provider's URL, without secrets."""
    file: str
    """The id of the uploaded file of requests."""
    batch: str | None
    """The id of the batch. None while it is not known."""
    lines: Lines
    """What it asks for, as far as it is not collected yet."""

    @classmethod
    def read(cls, path: Path) -> "Entry":
        """Reads an entry's file. Raises StoreError where it is none."""
        try:
            made = json.loads(path.read_bytes())
            lines = tuple((key, first, count) for key, first, count in made["lines"])
            return cls(path, made["url"], made["file"], made["batch"], lines)
        except (OSError, ValueError, KeyError, TypeError) as error:
            # Never skipped: without the entry, everything in it would be paid for again.
            raise StoreError(
                f"{path} should hold a batch that was paid for, and cannot be read: {error}. "
                "Move it away to go on; what the batch asked for is then asked for again."
            ) from error

    def age(self, now: float) -> float:
        """Seconds since it was written."""
        return max(0.0, now - self.path.stat().st_mtime)


@dataclass(frozen=True, slots=True)
class BatchJournal:
    """The entries in one folder."""

    folder: Path
    """Where the files are."""

    def entries(self) -> list[Entry]:
        """All entries. Raises StoreError where a file is none."""
        return [Entry.read(path) for path in sorted(self.folder.glob("*.json"))]

    def new_path(self) -> Path:
        """A path for a new entry."""
        # Random, so that two builds of one workspace never write one file.
        return self.folder / f"{secrets.token_hex(8)}.json"

    def write(self, entry: Entry) -> None:
        """Writes an entry, new or changed, to the disk. One without lines is forgotten."""
        if not entry.lines:
            entry.path.unlink(missing_ok=True)
            return
        # Keys and numbers only: the questions themselves are worked out again by the build.
        made = {"url": entry.url, "file": entry.file, "batch": entry.batch, "lines": entry.lines}
        write_text(entry.path, json.dumps(made, separators=(",", ":")))

    def draft(self) -> Path:
        """A temporary file for requests on their way out, or answers on their way in.

        The workspace sweeps it after a kill.
        """
        # The process id keeps a draft of a living process from being swept.
        return self.folder / f".{os.getpid()}.jsonl.tmp"
