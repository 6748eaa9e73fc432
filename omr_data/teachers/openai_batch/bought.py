"""A batch that was paid for, and what this run wants of it."""

from dataclasses import dataclass, field

from openai.types import Batch as Remote

from omr_data.teachers.openai_batch.journal import Entry
from omr_data.teachers.openai_batch.lines import BatchLine
from omr_data.teachers.openai_batch.provider import FINAL


@dataclass(slots=True)
class Load:
    """What this run put into one batch."""

    lines: list[BatchLine] = field(default_factory=list)
    """The lines, in order."""
    size: int = 0
    """Bytes."""
    reserved: dict[str, float] = field(default_factory=dict)
    """US dollars that each line can cost at most, by its name."""


@dataclass(slots=True, eq=False)
class Bought:
    """A batch, and the lines of it that this run wants."""

    entry: Entry
    """What the journal holds of it."""
    claimed: dict[str, BatchLine] = field(default_factory=dict)
    """Wanted lines by name."""
    load: Load = field(default_factory=Load)
    """What this run paid for. Empty for a batch of an earlier run, which paid for it then."""
    remote: Remote | None = None
    """What the provider last said of it."""
    alone: bool = False
    """Whether no other batch of this run was under way at any time since it was bought."""
    ended_at: float | None = None
    """When it was first seen to have ended, on the monotonic clock."""

    @property
    def has_ended(self) -> bool:
        """Whether the provider is done with it, though its files may not be listed yet."""
        return self.remote is not None and self.remote.status in FINAL

    @property
    def done(self) -> int:
        """Requests that the provider is done with, failed ones included."""
        counts = self.remote and self.remote.request_counts
        # Some providers send no counts before a batch begins.
        if not counts:
            return 0
        return counts.completed + counts.failed

    @property
    def seconds(self) -> float:
        """From making the batch to its end, as far as the provider says."""
        remote = self.remote
        assert remote is not None  # it has ended
        ended = remote.completed_at or remote.expired_at or remote.cancelled_at
        return float(max(0, (ended or remote.created_at) - remote.created_at))

    def has_files(self) -> bool:
        """Whether what it answered can be read, as far as the provider's counts tell.

        A batch can be "completed" a moment before its file ids appear.
        """
        remote = self.remote
        if remote is None or remote.status not in FINAL:
            return False
        if remote.output_file_id or remote.error_file_id or remote.status == "failed":
            return True
        # One that was cancelled before it began has no files, and needs none.
        return remote.status != "completed" and not self.done
