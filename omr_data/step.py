"""Everything that the author of an operator needs: the shapes that a step can have.

A **step** is a frozen dataclass with one method. Its shape decides what the engine may do with it:

    Map         record -> record                        annotates
    BatchMap    records -> records                      annotates many at once, for speed only
    Filter      record -> reason or None                drops with a reason
    Expand      record -> records or reason             splits one record into several
    GlobalStep  key columns of all rows -> decisions    compares rows: deduplicate, sample
    AskStep     record -> requests; answers -> record   calls a model

Map, BatchMap, Filter and Expand see one shard at a time. The engine fuses consecutive ones into a
single pass. A GlobalStep ends a pass, because it needs the key columns of every row. An AskStep
ends one too, because answers arrive in any order and are stored before they are attached.

Adding an operator is adding one file to `omr_data/operators/` with its fixture (see
docs/howto/add-an-operator.md), or a class in a recipe:

    @dataclass(frozen=True)
    class AtMost(Filter):
        letters: int

        def reason(self, record: Record) -> str | None:
            if len(record.question) <= self.letters:
                return None
            return f"the question is longer than {self.letters} letters"

Bump `revision` whenever the result of a step changes for the same input: it is part of the
fingerprint, so cached results of the old behavior are not used for the new one.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from omr_data.flow import StepNode
from omr_data.records import ImageRef, Record, Response
from omr_data.source import Source
from omr_data.teacher import Request, Teacher

# polars and pyarrow take 0.3 s to import, and a recipe that is only planned needs neither.
if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa


@dataclass(frozen=True)
class Step(StepNode):
    """Base of the shapes. Derive from one of the shapes, not from this class."""

    checkpoint: ClassVar[bool] = False
    """Whether the engine writes shards after this step even where it could fuse it with the next.
    True costs disk space; it is for steps that are slow and whose followers change often."""

    def tally(self, record: Record) -> Mapping[str, int]:
        """Counts something about one record that came out of this step, such as its verdicts.

        The ledger sums the counts and the build shows them beside the step's rows.
        """
        # Rows in, out and dropped are counted by the engine, so most steps have nothing to add.
        return {}


@dataclass(frozen=True)
class Map(Step):
    """Annotates: one record in, one record out."""

    @abstractmethod
    def apply(self, record: Record) -> Record:
        """Returns the annotated record. Its id must be the same."""


@dataclass(frozen=True)
class BatchMap(Map):
    """A Map that is faster on many records at once, such as verification in worker processes.

    The result must not depend on which records share a batch: a batch is whatever part of a shard
    reached this step, and resuming after a crash may cut shards at other places.
    """

    @abstractmethod
    def apply_batch(self, records: Sequence[Record]) -> Sequence[Record]:
        """Returns the annotated records, in the same order and with the same ids."""

    def apply(self, record: Record) -> Record:
        """Annotates one record, as a batch of one."""
        # A BatchMap is a Map, so code that handles one record at a time needs no second case.
        return self.apply_batch([record])[0]


@dataclass(frozen=True)
class Filter(Step):
    """Drops records."""

    # A reason in place of a bool: a step that drops rows without saying why cannot be written.
    @abstractmethod
    def reason(self, record: Record) -> str | None:
        """Returns None to keep the record, or why it is dropped in a few words.

        Equal reasons are counted together, so leave ids and numbers of the record out of them.
        """


@dataclass(frozen=True)
class Expand(Step):
    """Splits one record into several."""

    # An empty list is refused for the same reason that a Filter returns words: a record that
    # becomes nothing would be a drop that nobody counts.
    @abstractmethod
    def expand(self, record: Record) -> Sequence[Record] | str:
        """Returns at least one record, each with its own id, or the reason for dropping it."""


@dataclass(frozen=True, slots=True)
class Columns:
    """What a GlobalStep sees of one flow.

    Key columns are in memory for all rows at once: about 100 bytes a row is what a machine with
    24 GB can hold for a hundred million rows. Everything larger is a payload column on disk.
    """

    keys: "pl.DataFrame"
    """What `extract_keys` returned for all shards, in one frame, without payload columns."""
    payload: "pl.LazyFrame"
    """A lazy scan of `id` and the payload columns. Filter it by id before collecting it."""
    rows: "pl.LazyFrame"
    """A lazy scan of the whole records on disk, for the few that a decision must read."""


@dataclass(frozen=True, slots=True)
class Decisions:
    """What a GlobalStep decided."""

    drops: Mapping[str, str]
    """The ids of the records to drop, each with its reason."""
    tables: Mapping[str, "pl.DataFrame"] = field(default_factory=dict)
    """Tables to keep beside the step, by name, such as the pairs of duplicates. They are shown by
    `omr show --table NAME`."""


@dataclass(frozen=True)
class GlobalStep(Step):
    """Decides about rows by comparing them with all others, from a few columns of each."""

    lazy_columns: ClassVar[tuple[str, ...]] = ()
    """Columns of `extract_keys` that stay on disk until `decide` asks for them: the payload."""

    @property
    def references(self) -> tuple[Source, ...]:
        """Other sources to compare with, such as benchmarks.

        The engine reads and pins them like the data. Their rows are never released.
        """
        return ()

    # Two methods, because the first runs on all machines and the second on one: what crosses
    # between them is columns, so that a hundred million rows fit into memory.
    @abstractmethod
    def extract_keys(
        self, shard: "pa.Table", read_image: Callable[[ImageRef], bytes]
    ) -> "pl.DataFrame":
        """Takes the key columns of one shard. Runs in worker processes.

        Args:
            shard: Records in the schema of `omr_data.records.schema`.
            read_image: Reads the original bytes of an image.

        Returns:
            One row for each record: its `id`, and whatever columns `decide` needs.
        """

    @abstractmethod
    def decide(self, data: Columns, references: Sequence[Columns]) -> Decisions:
        """Decides about all rows, in one process. The result must not depend on their order.

        Args:
            data: The rows to decide about.
            references: The rows of each source of `references`, in its order.
        """


@dataclass(frozen=True)
class AskStep(Step):
    """Asks a model.

    The engine stores every answer under its rollout key before `attach` sees it.
    """

    # A step says what to ask and never calls the teacher itself. The price of that is a second pass
    # over the shards; what it buys is that no error of a step can lose an answer that was paid for.

    @abstractmethod
    def get_teacher(self) -> Teacher:
        """Returns the teacher or judge to ask."""

    @property
    def unanswered_at_most(self) -> float:
        """The share of attempts that a release may leave refused or rejected. 1.0 sets none."""
        return 1.0

    @abstractmethod
    def requests(self, record: Record) -> Sequence[Request]:
        """Returns what to ask about this record, each with all attempt numbers wanted.

        It must be a pure function of the record. The engine calls it once per record and build,
        and keeps the requests beside the stage.
        """

    @abstractmethod
    def attach(self, record: Record, answers: Sequence[Sequence[Response]]) -> Record:
        """Returns the record with what was answered.

        Args:
            record: The record as `requests` saw it.
            answers: For each request, its responses in order of attempt. An attempt that failed for
                good has no response here.
        """
