"""A tiny recipe that is built in this process: numbers, and steps over them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from omr_data import Filter, Flow, GlobalStep, Map, Recipe, Record, Source
from omr_data.engine.build import Built, build
from omr_data.errors import BadRow
from omr_data.plan import make_plan
from omr_data.processes import Mapper, SerialMapper
from omr_data.progress import Bar
from omr_data.source import Files, Images, Part
from omr_data.sources.locator import LocalDatasets
from omr_data.step import Columns, Decisions
from omr_data.store.workspace import Workspace
from omr_data.teacher import Answers, Batch, Budget, ReadImage, Session
from omr_data.teachers import echo


@dataclass(frozen=True)
class Numbers(Source):
    """Questions about 0, 1, 2 ... in parts of two rows. Multiples of `bad` are malformed."""

    count: int = 5
    dataset: str = "numbers"
    bad: int = 0
    license: str = "MIT"

    def parts(self, files: Files) -> Sequence[Part]:
        return [Part("", start, min(start + 2, self.count)) for start in range(0, self.count, 2)]

    def rows(self, files: Files, part: Part) -> Iterator[Mapping[str, Any]]:
        for number in range(part.start, part.stop):
            yield {"number": number}

    def convert(self, row: Mapping[str, Any], images: Images) -> Record:
        number = row["number"]
        if self.bad and number % self.bad == 0:
            raise BadRow("a multiple", f"{number} \ud83d")
        return Record(
            id=f"{self.dataset}/{number}",
            source=self.dataset,
            license=self.license,
            question=f"What is {number} + 1?",
            answer=str(number + 1),
        )


@dataclass(frozen=True)
class Same(Map):
    """Leaves a record as it is, and counts it."""

    def apply(self, record: Record) -> Record:
        return record

    def tally(self, record: Record) -> Mapping[str, int]:
        return {"seen": 1}


@dataclass(frozen=True)
class Odd(Filter):
    """Drops records whose answer is even."""

    def reason(self, record: Record) -> str | None:
        return None if int(record.answer) % 2 else "even"


@dataclass(frozen=True)
class DropLast(GlobalStep):
    """Drops the last id in alphabetical order, and those that a reference holds too."""

    against: tuple[Source, ...] = ()

    @property
    def references(self) -> tuple[Source, ...]:
        return self.against

    def extract_keys(self, shard: Any, read_image: Any) -> Any:
        import polars as pl

        return pl.DataFrame({"id": shard["id"].to_pylist(), "answer": shard["answer"].to_pylist()})

    def decide(self, data: Columns, references: Sequence[Columns]) -> Decisions:
        last = max(data.keys["id"])
        drops = {last: "the last"}
        for reference in references:
            known = set(reference.keys["answer"])
            hits = data.keys.filter(data.keys["answer"].is_in(known))["id"]
            drops |= dict.fromkeys(hits, "known")
        return Decisions(drops, {"ids": data.keys.select("id").sort("id")})


@dataclass(frozen=True)
class Forgetful(echo.Teacher):
    """Leaves the last attempt of each group of answers out."""

    @contextmanager
    def open(self, workers: int, read_image: ReadImage, budget: Budget) -> Iterator[Session]:
        with super().open(workers, read_image, budget) as session:
            yield ForgetfulSession(session)


@dataclass(frozen=True)
class ForgetfulSession:
    session: Session

    def answer(self, batches: Iterator[Batch]) -> Iterator[Answers]:
        for answers in self.session.answer(batches):
            *most, (request, results) = answers
            yield [*most, (request, results[:-1])]

    def note(self) -> str:
        return ""


@dataclass
class Said:
    """A reporter that remembers what was said."""

    lines: list[str] = field(default_factory=list)
    bars: list[tuple[str, int]] = field(default_factory=list)

    def say(self, line: str) -> None:
        self.lines.append(line)

    @contextmanager
    def bar(self, label: str, total: int, unit: str) -> Iterator[Bar]:
        self.bars.append((label, total))
        yield Nothing()


class Nothing:
    def advance(self, amount: int, note: str = "") -> None:
        pass


def run(
    data: Flow | Source,
    folder: Path,
    said: Said | None = None,
    mapper: Mapper | None = None,
    locator: LocalDatasets | None = None,
) -> Built:
    """Builds some data in a workspace below a folder."""
    locator = locator or LocalDatasets()
    plan = make_plan(Recipe("tiny", "1.0.0", data), locator)
    workspace = Workspace(folder / "work")
    with workspace.lock():
        return build(
            plan, workspace, locator, mapper or SerialMapper(), 1, said or Said(), Budget()
        )


def renamed(record: Record) -> Record:
    """The record under another id."""
    return replace(record, id="other")
