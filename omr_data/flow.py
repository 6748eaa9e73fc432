"""The words a recipe is made of. Building a flow runs nothing.

**Source**: reads one dataset and converts each raw row into a Record. It is a leaf of the flow.
**Step**: a Spec with one method, in one of five shapes:
    Map     record -> record               annotate
    Filter  record -> reason or None       drop with a reason
    Expand  record -> records              one to several (or none, with a reason)
    GlobalStep    key columns -> decisions    a barrier: deduplicate, sample
    AskStep     record -> requests, answers -> record   calls a teacher
**Flow**: a tree of sources and steps; `union` joins flows, `mix` joins them with a number of rows each.

Map, Filter and Expand see one record at a time and are fused into one pass over a shard. A GlobalStep sees ids and key
columns of the whole input, never whole records or pixels. An AskStep sees one record at a time; asking is the engine's work.
"""

import hashlib
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from omr_data.errors import OmrError, RecipeError
from omr_data.identity import Canonical, Spec, canonical, digest, to_json
from omr_data.records import Failure, ImageRef, Message, Record, Request, Response

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa


# ---------------------------------------------------------------------------------------------- sources


class Images(Protocol):
    """Where a source puts the images of a row. Both calls keep the original bytes and raise BadRow on a broken image."""

    def from_bytes(self, data: bytes) -> ImageRef: ...

    def from_file(self, relative: str) -> ImageRef: ...


@dataclass(frozen=True, slots=True)
class Pin:
    """Which bytes a dataset is: a Hub commit (40 hex digits), or the digest of the files read, or both.

    The digest (sha256 over relative paths and contents) stands where files come from a mirror or a local folder.
    """

    commit: str | None = None
    digest: str | None = None


@dataclass(frozen=True, slots=True)
class Files:
    """The files of one dataset on this machine: paths relative to the root, sorted."""

    root: Path = Path()
    paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a source that one worker reads: rows [start, stop) of one file. It becomes one shard."""

    path: str
    start: int
    stop: int


class DatasetLocator(Protocol):
    """Where this machine keeps datasets. Pinning is cheap and happens at plan time; fetching may download."""

    def resolve_hub(self, repo: str, commit: str | None, patterns: Sequence[str]) -> Pin: ...

    def download_hub(self, repo: str, commit: str | None, patterns: Sequence[str]) -> Files: ...

    def resolve_local(self, folder: Path, patterns: Sequence[str]) -> Pin: ...

    def find_local(self, folder: Path, patterns: Sequence[str]) -> Files: ...


@dataclass(frozen=True)
class Source(Spec):
    """A dataset. Subclasses read rows; `convert` is the one place where malformed input is met."""

    def resolve(self, locator: DatasetLocator) -> Pin:
        """Which bytes will be read. A generated source is its own identity."""
        return Pin()

    def problem(self) -> OmrError | None:
        """Why this source cannot be read yet, if so; a plan shows it."""
        return None

    def download(self, locator: DatasetLocator) -> Files:
        """The files to read. A generated source has none."""
        return Files()

    @abstractmethod
    def parts(self, files: Files) -> Sequence[Part]:
        """The pieces to read, in order. Each becomes one shard, so this must not depend on the machine."""

    @abstractmethod
    def rows(self, files: Files, part: Part) -> Iterator[Mapping[str, Any]]:
        """The raw rows of one part, in order."""

    @abstractmethod
    def convert(self, row: Mapping[str, Any], images: Images) -> Record:
        """One raw row as a Record.

        Raises:
            BadRow: the row cannot become a Record; the reason is counted and the row can be looked up.
        """

    def then(self, *steps: "Step") -> "Flow":
        """This source followed by the steps, in order."""
        return as_flow(self).then(*steps)


# ------------------------------------------------------------------------------------------------ steps


@dataclass(frozen=True)
class Step(Spec):
    """Base of the five shapes. `checkpoint` asks for a shard of its own after this step (for steps worth keeping)."""

    checkpoint: ClassVar[bool] = False

    def tally(self, record: Record) -> Mapping[str, int]:
        """Counts of one record that came out of this step, summed in the ledger beside its rows (verdicts, say)."""
        return {}


@dataclass(frozen=True)
class Map(Step):
    """Annotates: one record in, one record out, with the same id."""

    @abstractmethod
    def apply(self, record: Record) -> Record: ...


@dataclass(frozen=True)
class BatchMap(Map):
    """A Map that is faster on many records at once (batched verification). The result must not depend on the batch."""

    @abstractmethod
    def apply_batch(self, records: Sequence[Record]) -> Sequence[Record]: ...

    def apply(self, record: Record) -> Record:
        return self.apply_batch([record])[0]


@dataclass(frozen=True)
class Filter(Step):
    """Drops: returns the reason in a few words, or None to keep. Equal reasons are counted together."""

    @abstractmethod
    def reason(self, record: Record) -> str | None: ...


@dataclass(frozen=True)
class Expand(Step):
    """One record to several, each with an id of its own. Returning a string drops the record with that reason."""

    @abstractmethod
    def expand(self, record: Record) -> Sequence[Record] | str: ...


@dataclass(frozen=True, slots=True)
class Decisions:
    """What a GlobalStep decided: `drops` maps an id to its reason; `tables` are kept beside the step (duplicate pairs, hits)."""

    drops: Mapping[str, str]
    tables: Mapping[str, "pl.DataFrame"] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Columns:
    """What a GlobalStep sees of a flow: all its `extract_keys` frames as one, without the `payload` columns.

    `payload` is a lazy scan of `id` and the payload columns, `rows` one of the whole records on disk. Both are for the few rows
    that a decision must see closer: filter them by id, or go through them in pieces.
    """

    keys: "pl.DataFrame"
    payload: "pl.LazyFrame"
    rows: "pl.LazyFrame"


@dataclass(frozen=True)
class GlobalStep(Step):
    """A barrier. `extract_keys` runs per shard in the workers; `decide` sees all key rows, in shard order, in one process.

    `decide` must not depend on the order of its rows. `lazy_columns` names payload columns that stay on disk until asked for.
    """

    lazy_columns: ClassVar[tuple[str, ...]] = ()

    @property
    def references(self) -> tuple[Source, ...]:
        """Other sources to decide against (benchmarks). They are read, pinned and narrowed like the data, never released."""
        return ()

    @abstractmethod
    def extract_keys(
        self, shard: "pa.Table", read_image: Callable[[ImageRef], bytes]
    ) -> "pl.DataFrame":
        """A frame with an `id` column and whatever key columns `decide` needs."""

    @abstractmethod
    def decide(self, data: Columns, references: Sequence[Columns]) -> Decisions: ...


class ReadImage(Protocol):
    """Reads the original bytes of an image. Picklable, so that worker processes can have one."""

    def __call__(self, image: ImageRef, /) -> bytes: ...


Batch = Sequence[Request]
Answers = Sequence[tuple[Request, Sequence[Response | Failure]]]


@dataclass(slots=True)
class Budget:
    """What a run may spend, and what it has: US dollars and requests. None is no limit. No part of any identity.

    `reached` stays true once a request was not allowed: what is under way may turn out cheaper than it was thought.
    """

    usd: float | None = None
    requests: int | None = None
    spent: float = 0.0
    sent: int = 0
    reached: bool = False

    def allows(self, under_way: float = 0.0) -> bool:
        """Whether one more request may be sent, while so many dollars are already on their way."""
        allowed = self.room(under_way)
        self.reached |= not allowed
        return allowed

    def room(self, under_way: float = 0.0) -> bool:
        """Whether one more request would be allowed, for a teacher that can wait for what is under way."""
        return (self.requests is None or self.sent < self.requests) and (
            self.usd is None or self.spent + under_way < self.usd
        )

    def within(self, batches: "Iterator[Batch]") -> "Iterator[Batch]":
        """The batches that the limit allows, each question counted as one request: for teachers that cost nothing."""
        while self.allows() and (batch := next(batches, None)) is not None:
            self.sent += len(batch)
            yield batch


class Session(Protocol):
    """A teacher at work: takes batches of requests, gives the answers as they come, in any order."""

    def answer(self, batches: Iterator[Batch]) -> Iterator[Answers]:
        """Every attempt of every request comes back once, as a Response or a Failure; a request may come back in parts.

        Batches are taken only as fast as they are answered, so that the engine can stream millions of them. It ends early
        when the budget is spent.
        """
        ...

    def note(self) -> str:
        """What a person should see beside the progress and the cost: what is in flight, tokens a second. May be empty."""
        ...


@dataclass(frozen=True, slots=True)
class Estimate:
    """What asking is expected to take. Tokens and dollars are rough; dollars are None where no price is known."""

    requests: int
    prompt_tokens: int
    completion_tokens: int
    usd: float | None


@dataclass(frozen=True)
class Teacher(Spec):
    """Answers requests. Its identity fields (model, revision, sampling) are part of every rollout key; URLs are not."""

    def request(
        self, messages: Sequence[Message], images: Sequence[ImageRef], attempts: int
    ) -> Request:
        """So many answers to one chat. Its key is the sha256 of everything that decides the answer, and of nothing else."""
        identity: Canonical = {
            "teacher": canonical(self),
            "messages": [{"role": message.role, "text": message.text} for message in messages],
            "images": [image.sha256 for image in images],
        }
        return Request(
            digest(identity),
            tuple(messages),
            tuple(images),
            tuple(range(attempts)),
            to_json(identity),
        )

    @property
    def batch(self) -> int:
        """Questions per unit of work. A batch is stored in one transaction, and its members never change on a rerun."""
        return 1

    @property
    @abstractmethod
    def model_id(self) -> str:
        """The name recorded with every response."""

    def kept_in(self, folder: Path) -> "Teacher":
        """This teacher with a folder that outlives the process, for one that must remember what it has under way."""
        return self

    @abstractmethod
    def open(
        self, workers: int, read_image: ReadImage, budget: Budget
    ) -> AbstractContextManager[Session]:
        """Connects, or starts `workers` processes. Raises TeacherError or MissingExtra where that cannot be."""

    def estimate(self, requests: Iterator[Request]) -> Estimate | None:
        """What answering these would take, for a teacher that costs something; None for one that does not."""
        return None


@dataclass(frozen=True)
class AskStep(Step):
    """Asks a teacher. The engine stores every answer under its rollout key before `attach` sees it."""

    @abstractmethod
    def get_teacher(self) -> Teacher:
        """The teacher to ask."""

    @abstractmethod
    def requests(self, record: Record) -> Sequence[Request]:
        """What to ask for this record, each with all attempt numbers wanted. None is fine."""

    @abstractmethod
    def attach(self, record: Record, answers: Sequence[Sequence[Response]]) -> Record:
        """The record with what was answered: for each request its responses in order of attempt; missing ones are recorded failures."""


# ------------------------------------------------------------------------------------------------- flows


@dataclass(frozen=True)
class Flow:
    """A node of the tree: a source (no parents), a step over its parent, or a union of several parents.

    The further parents of a GlobalStep are its references.
    """

    spec: Source | Step | None
    parents: tuple["Flow", ...] = ()

    def then(self, *steps: Step) -> "Flow":
        """This flow followed by the steps, in order."""
        flow = self
        for step in steps:
            if not isinstance(step, Step):
                raise RecipeError(
                    f"then() takes steps, and got {step!r}. Join flows with union() or mix(); {_HINT}"
                )
            canonical(step)
            references = step.references if isinstance(step, GlobalStep) else ()
            flow = Flow(step, (flow, *(as_flow(source) for source in references)))
        return flow


_HINT = "a function becomes a step by deriving a class from Map, Filter or Expand."


def as_flow(data: Flow | Source) -> Flow:
    """A source is a flow of one node."""
    if isinstance(data, Source):
        canonical(data)
        return Flow(data)
    if isinstance(data, Flow):
        return data
    raise RecipeError(f"a flow or a source is needed here, and this is {data!r}.")


def union(*flows: Flow | Source) -> Flow:
    """All rows of all flows, one flow after the other. Ids must be unique across them."""
    if not flows:
        raise RecipeError("union() needs at least one flow.")
    if len(flows) == 1:
        return as_flow(flows[0])
    return Flow(None, tuple(as_flow(flow) for flow in flows))


ALL = "all"


@dataclass(frozen=True)
class Take(GlobalStep):
    """Keeps `rows` rows, those with the smallest sha256(seed, id): the same rows whatever the order or worker count.

    Raises:
        RecipeError (while deciding): the flow has fewer rows than asked for.
    """

    name: ClassVar[str] = "mix.Take"
    rows: int
    seed: int = 0

    def extract_keys(
        self, shard: "pa.Table", read_image: Callable[[ImageRef], bytes]
    ) -> "pl.DataFrame":
        import polars as pl

        ids = shard.column("id").to_pylist()
        order = [hashlib.sha256(f"{self.seed}:{id_}".encode()).digest() for id_ in ids]
        return pl.DataFrame(
            {"id": ids, "order": order}, schema={"id": pl.String, "order": pl.Binary}
        )

    def decide(self, data: Columns, references: Sequence[Columns]) -> Decisions:
        have = data.keys.height
        if have < self.rows:
            raise RecipeError(
                f"{self.name} wants {self.rows:,} rows of a flow that has {have:,}. Lower the number, or give ALL to take every row."
            )
        left_out = data.keys.sort("order", "id")["id"].to_list()[self.rows :]
        return Decisions(dict.fromkeys(left_out, "not among the rows chosen for the mix"))


def mix(parts: Mapping[Flow | Source, int | str], seed: int = 0) -> Flow:
    """Joins flows with a number of rows each: `mix({distilled: ALL, maths.Source(): 91_953}, seed=0)`."""
    flows = []
    for part, rows in parts.items():
        if rows == ALL:
            flows.append(as_flow(part))
        elif isinstance(rows, int) and rows >= 0:
            flows.append(as_flow(part).then(Take(rows, seed)))
        else:
            raise RecipeError(
                f"mix() takes a number of rows or ALL for each flow, and got {rows!r}."
            )
    return union(*flows)
