"""Runs any step of the package on its fixture, the way the engine would.

tests/fixtures/steps/<noun>.<Variant>.json holds the input of one step:

    {
      "records": [{"id": "a", "images": [{"pattern": "red", "size": [20, 40]}]}, ...],
      "references": [[...]],
      "cases": {"default": {}, "only small ones": {"at_most": 64}}
    }

A record is written with the fields that matter; the others are those of `tests.builders.record`. An
image is a pattern and a size; its bytes are made here. `references` are the rows of each reference
source of a GlobalStep. A case is one set of arguments of the step. An argument that is a Spec of
its own is written as {"$": "omr_data.teachers.echo.Teacher", "answers": ["7"]}.

tests/golden/steps/<noun>.<Variant>.json holds what came out, with the revision of the step. It is
written by `python -m tests.contracts.golden`.
"""

import dataclasses
import hashlib
import importlib
import inspect
import io
import json
import pkgutil
import random
import types
import typing
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
from PIL import Image

from omr_data import operators
from omr_data.engine.shards import apply_step
from omr_data.records import ImageRef, Record, Response, to_table
from omr_data.step import AskStep, Columns, GlobalStep, Step
from omr_data.teacher import Budget, Request
from tests.builders import record as build_record

FIXTURES = Path(__file__).parents[1] / "fixtures" / "steps"
GOLDEN = Path(__file__).parents[1] / "golden" / "steps"


def step_classes(package: types.ModuleType = operators) -> list[type[Step]]:
    """Returns every public step that a package defines, in order of name."""
    found = []
    for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        module = importlib.import_module(info.name)
        for name, value in vars(module).items():
            if not inspect.isclass(value) or not issubclass(value, Step):
                continue
            # A base of others needs no fixture: those derived from it stand for it.
            is_base = name.startswith("_") or _is_abstract(value)
            if value.__module__ == info.name and not is_base:
                found.append(value)
    return sorted(found, key=lambda step: step.name)


def _is_abstract(cls: type) -> bool:
    # Not inspect.isabstract: a Spec has no ABCMeta, so Python keeps no list of abstract methods.
    members = (getattr(cls, name, None) for name in dir(cls))
    return any(getattr(member, "__isabstractmethod__", False) for member in members)


@dataclass(slots=True)
class Fixture:
    """The input of one step, read from its file."""

    records: list[Record]
    """The rows, in order."""
    references: list[list[Record]]
    """The rows of each reference source."""
    cases: dict[str, Step]
    """The step with the arguments of each case, by the name of the case."""
    images: dict[str, bytes]
    """The bytes of the images, by sha256."""
    digest: str
    """sha256 of the file: another input may give another output without a bump."""


@dataclass(slots=True)
class Output:
    """What one case gave."""

    kept: list[Record] = field(default_factory=list)
    """The rows that came out."""
    dropped: dict[str, str] = field(default_factory=dict)
    """The rows that did not, with their reasons."""
    tally: Counter[str] = field(default_factory=Counter)
    """The step's own counts, summed."""
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """The tables of a GlobalStep, as rows."""

    def to_json(self, before: Sequence[Record]) -> dict[str, Any]:
        """Returns the output as it is written to a golden file.

        A row that is the same as before is written as its id, so that the file shows what changed.

        Args:
            before: The rows that went in.
        """
        unchanged = {record.id: record for record in before}
        kept = [
            record.id if unchanged.get(record.id) == record else sparse(record)
            for record in self.kept
        ]
        return {
            "kept": kept,
            "dropped": dict(sorted(self.dropped.items())),
            "tally": dict(sorted(self.tally.items())),
            "tables": {name: _rounded(rows) for name, rows in sorted(self.tables.items())},
        }


def _rounded(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rounds scores to six places: the last ones depend on the processor."""
    return [
        {
            name: round(value, 6) if isinstance(value, float) else value
            for name, value in row.items()
        }
        for row in rows
    ]


def read_fixture(cls: type[Step], folder: Path = FIXTURES) -> Fixture:
    """Reads the fixture of one step.

    Args:
        cls: The step.
        folder: Where fixtures are.

    Raises:
        AssertionError: There is none. The message says what to add.
    """
    path = folder / f"{cls.name}.json"
    assert path.is_file(), missing(cls, path)
    text = path.read_text(encoding="utf-8")
    data = json.loads(text)
    images: dict[str, bytes] = {}
    records = [_record(row, images) for row in data["records"]]
    references = [[_record(row, images) for row in rows] for rows in data.get("references", [])]
    cases = {name: cls(**_arguments(values)) for name, values in data["cases"].items()}
    return Fixture(records, references, cases, images, hashlib.sha256(text.encode()).hexdigest())


def missing(cls: type[Step], path: Path) -> str:
    """Says what to add for a step without a fixture.

    Args:
        cls: The step.
        path: Where its fixture should be.
    """
    return (
        f"{cls.__module__}.{cls.__qualname__} is a step without a fixture. Add "
        f"tests/fixtures/steps/{path.name} with a few records and at least one case of arguments "
        "(limits.ImageSide.json beside it is a short example, tests/contracts/steps.py explains "
        f"the format), then run `python -m tests.contracts.golden {cls.name}`, read the golden "
        "file that it writes, and commit both."
    )


def run(step: Step, fixture: Fixture, folder: Path, cuts: Sequence[Sequence[Record]]) -> Output:
    """Runs one step over shards, as the engine does.

    Args:
        step: The step.
        fixture: Its fixture, for the references and the images.
        folder: Where shards are written for a GlobalStep.
        cuts: The rows, cut into shards.
    """
    if isinstance(step, GlobalStep):
        return _decide(step, fixture, folder, cuts)
    if isinstance(step, AskStep):
        return _ask(step, fixture, cuts)
    output = Output()
    for shard in cuts:
        kept, dropped, count = apply_step(step, "fingerprint", shard)
        output.kept += kept
        output.dropped |= {drop.record.id: drop.reason for drop in dropped}
        output.tally.update(count.tally)
    return output


def _decide(
    step: GlobalStep, fixture: Fixture, folder: Path, cuts: Sequence[Sequence[Record]]
) -> Output:
    data = _columns(step, fixture, folder / "data", cuts)
    references = [
        _columns(step, fixture, folder / f"reference{number}", [rows])
        for number, rows in enumerate(fixture.references)
    ]
    decisions = step.decide(data, references)
    rows = [record for shard in cuts for record in shard]
    kept = [record for record in rows if record.id not in decisions.drops]
    tables = {name: table.to_dicts() for name, table in decisions.tables.items()}
    tally: Counter[str] = Counter()
    for record in kept:
        tally.update(step.tally(record))
    return Output(kept, dict(decisions.drops), tally, tables)


def _columns(
    step: GlobalStep, fixture: Fixture, folder: Path, cuts: Sequence[Sequence[Record]]
) -> Columns:
    folder.mkdir(parents=True, exist_ok=True)
    frames = []
    for number, shard in enumerate(cuts):
        table = to_table(shard)
        frames.append(step.extract_keys(table, lambda image: fixture.images[image.sha256]))
        pq.write_table(table, folder / f"{number:03}.parquet")
    keys = pl.concat(frames)
    return Columns(
        keys.drop(step.lazy_columns),
        keys.lazy().select("id", *step.lazy_columns),
        pl.scan_parquet(folder / "*.parquet"),
    )


def _ask(step: AskStep, fixture: Fixture, cuts: Sequence[Sequence[Record]]) -> Output:
    rows = [record for shard in cuts for record in shard]
    # Equal requests are asked once, as the engine does: two records can share their answers.
    wanted = {request.key: request for record in rows for request in step.requests(record)}
    answers = _answers(step, fixture, list(wanted.values()))
    output = Output()
    for record in rows:
        found = [
            [one for one in answers[request.key] if one.attempt in request.attempts]
            for request in step.requests(record)
        ]
        record = step.attach(record, found)
        output.kept.append(record)
        output.tally.update(step.tally(record))
    return output


def _answers(
    step: AskStep, fixture: Fixture, requests: Sequence[Request]
) -> dict[str, list[Response]]:
    answers: dict[str, list[Response]] = {request.key: [] for request in requests}
    teacher = step.get_teacher()
    with teacher.open(1, lambda image: fixture.images[image.sha256], Budget()) as session:
        for results in session.answer(iter([requests])):
            for request, got in results:
                answers[request.key] += [one for one in got if isinstance(one, Response)]
    return {
        key: sorted(responses, key=lambda response: response.attempt)
        for key, responses in answers.items()
    }


def cut(records: Sequence[Record], size: int) -> list[list[Record]]:
    """Cuts rows into shards of one size.

    Args:
        records: The rows.
        size: Rows per shard; the last may have fewer.
    """
    return [list(records[start : start + size]) for start in range(0, len(records), size)]


def sparse(value: Any) -> Any:
    """Returns records as JSON without the fields that have their default.

    A new optional field then changes no golden file, as it changes no fingerprint.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        shown = {}
        for one in dataclasses.fields(value):
            item = getattr(value, one.name)
            if one.compare and item != _default(one):
                shown[one.name] = sparse(item)
        return shown
    if isinstance(value, Mapping):
        return {key: sparse(item) for key, item in sorted(value.items())}
    if isinstance(value, tuple | list):
        return [sparse(item) for item in value]
    return value


def _default(one: "dataclasses.Field[Any]") -> Any:
    if one.default_factory is not dataclasses.MISSING:
        return one.default_factory()
    return one.default


def _record(row: Mapping[str, Any], images: dict[str, bytes]) -> Record:
    row = dict(row)
    refs = tuple(_image(one, images) for one in row.pop("images", ()))
    row["responses"] = [
        {"attempt": number, "model": "demo-teacher"} | response
        for number, response in enumerate(row.get("responses", ()))
    ]
    hints = typing.get_type_hints(Record)
    return build_record(images=refs, **{name: _decode(hints[name], row[name]) for name in row})


def _decode(hint: Any, value: Any) -> Any:
    """Reads a value of a record by the type of its field."""
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        hints = typing.get_type_hints(hint)
        return hint(**{name: _decode(hints[name], item) for name, item in value.items()})
    if origin is tuple:
        return tuple(_decode(inside[0], item) for item in value)
    if origin in (types.UnionType, typing.Union) and value is not None:
        return _decode(next(one for one in inside if one is not type(None)), value)
    return value


def _arguments(values: Any) -> Any:
    """Reads the arguments of a step: lists become tuples, and {"$": NAME} becomes a Spec."""
    if isinstance(values, list):
        return tuple(_arguments(value) for value in values)
    if isinstance(values, dict):
        read = {name: _arguments(value) for name, value in values.items() if name != "$"}
        if "$" not in values:
            return read
        module, _, name = values["$"].rpartition(".")
        return getattr(importlib.import_module(module), name)(**read)
    return values


def _image(one: Mapping[str, Any], images: dict[str, bytes]) -> ImageRef:
    width, height = one["size"]
    buffer = io.BytesIO()
    pixels = _pixels(one["pattern"], width, height)
    # Without compression: its bytes differ between builds of zlib.
    pixels.save(buffer, "PNG", compress_level=0)
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    images[digest] = buffer.getvalue()
    return ImageRef(digest, width, height, "PNG")


def _pixels(pattern: str, width: int, height: int) -> Image.Image:
    """Makes an image: a color by its name, or "blocks N", 8 x 8 gray blocks from a seed."""
    kind, _, seed = pattern.partition(" ")
    if kind != "blocks":
        return Image.new("RGB", (width, height), pattern)
    chance = random.Random(int(seed))
    blocks = Image.new("L", (8, 8))
    blocks.putdata([chance.randrange(256) for _ in range(64)])
    return blocks.resize((width, height), Image.Resampling.NEAREST).convert("RGB")


def shuffled(cuts: Sequence[Sequence[Record]]) -> Iterator[list[list[Record]]]:
    """Yields the same rows in other orders, cut into other shards."""
    rows = [record for shard in cuts for record in shard]
    yield cut(rows[::-1], 1)
    random.Random(0).shuffle(rows)
    yield cut(rows, 3)
