"""What every step keeps to. A new file in omr_data/operators/ is found here by itself.

Each step has a fixture (tests/fixtures/steps) and a golden output (tests/golden/steps); see
tests/contracts/steps.py for both. A step without them fails with words that say what to add.
"""

import json
import pickle
import sys
import types
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from omr_data.records import Record, from_table, to_table
from omr_data.step import AskStep, Expand, Filter, GlobalStep, Map, Step
from tests.contracts.golden import output
from tests.contracts.steps import (
    FIXTURES,
    GOLDEN,
    Output,
    cut,
    read_fixture,
    run,
    shuffled,
    step_classes,
)

STEPS = step_classes()
every_step = pytest.mark.parametrize("cls", STEPS, ids=lambda cls: cls.name)


@every_step
def test_a_step_gives_its_golden_output(cls: type[Step], tmp_path: Path) -> None:
    found = output(cls, tmp_path)
    path = GOLDEN / f"{cls.name}.json"
    command = f"python -m tests.contracts.golden {cls.name}"
    assert path.is_file(), f"{cls.name} has no golden output. Run `{command}` and read the result."
    golden = json.loads(path.read_text(encoding="utf-8"))
    assert golden["fixture"] == found["fixture"], (
        f"The fixture of {cls.name} has changed. Run `{command}` and read what changed."
    )
    if golden["revision"] != cls.revision:
        pytest.fail(
            f"{cls.name} has revision {cls.revision} and its golden output is of revision "
            f"{golden['revision']}. Run `{command}` and read what changed."
        )
    for name, case in golden["cases"].items():
        assert found["cases"][name] == case, (
            f"{cls.name} gives another output for the case {name!r} and still has revision "
            f"{cls.revision}. Results of the old behavior are in people's caches: set `revision: "
            f"ClassVar[int] = {cls.revision + 1}` in {cls.__module__} and run `{command}`, or undo "
            "the change."
        )
    assert found == golden


@every_step
def test_a_fixture_shows_what_its_step_does(cls: type[Step], tmp_path: Path) -> None:
    fixture = read_fixture(cls)
    kept: list[Record] = []
    dropped: dict[str, str] = {}
    for number, step in enumerate(fixture.cases.values()):
        result = run(step, fixture, tmp_path / str(number), [fixture.records])
        kept += result.kept
        dropped |= result.dropped
    assert kept, f"No case of the fixture of {cls.name} keeps a record: add one that is kept."
    if issubclass(cls, Filter | Expand | GlobalStep):
        assert dropped, (
            f"No case of the fixture of {cls.name} drops a record: add one that it drops."
        )
    if issubclass(cls, Map | AskStep | Expand):
        assert set(map(repr, kept)) - set(map(repr, fixture.records)), (
            f"No case of the fixture of {cls.name} changes a record: add one that it changes."
        )


@every_step
def test_a_pickled_step_is_the_same_step(cls: type[Step], tmp_path: Path) -> None:
    """Steps travel to worker processes."""
    fixture = read_fixture(cls)
    for name, step in fixture.cases.items():
        copy = pickle.loads(pickle.dumps(step))
        assert copy == step
        expected = run(step, fixture, tmp_path / name / "step", [fixture.records])
        assert run(copy, fixture, tmp_path / name / "copy", [fixture.records]) == expected


@every_step
def test_the_result_does_not_depend_on_order_or_shards(cls: type[Step], tmp_path: Path) -> None:
    """Workers finish in any order, and a build that goes on after a crash may cut other shards."""
    fixture = read_fixture(cls)
    for name, step in fixture.cases.items():
        expected = _by_id(run(step, fixture, tmp_path / name / "whole", [fixture.records]))
        cuts = [cut(fixture.records, 2), *shuffled([fixture.records])]
        for number, shards in enumerate(cuts):
            result = run(step, fixture, tmp_path / name / str(number), shards)
            assert _by_id(result) == expected, f"{cls.name}, case {name!r}"


@every_step
def test_what_a_step_makes_survives_the_store(cls: type[Step], tmp_path: Path) -> None:
    """A shard is written and read again between two passes: no field may change on the way."""
    fixture = read_fixture(cls)
    for name, step in fixture.cases.items():
        kept = run(step, fixture, tmp_path / name, [fixture.records]).kept
        stored = from_table(to_table(kept))
        assert stored == kept
        assert len({record.id for record in kept}) == len(kept), "two rows share an id"


@every_step
def test_a_tally_counts_in_whole_numbers(cls: type[Step], tmp_path: Path) -> None:
    """The ledger sums tallies of shards, so each count is a number of something in one record."""
    fixture = read_fixture(cls)
    for name, step in fixture.cases.items():
        for record in run(step, fixture, tmp_path / name, [fixture.records]).kept:
            for label, count in step.tally(record).items():
                assert isinstance(label, str)
                assert type(count) is int and count >= 0, f"{cls.name} counts {label}: {count!r}"


def test_every_file_of_a_fixture_or_golden_output_belongs_to_a_step() -> None:
    names = {cls.name for cls in STEPS}
    stray = [
        path.relative_to(FIXTURES.parents[1]).as_posix()
        for folder in (FIXTURES, GOLDEN)
        for path in sorted(folder.glob("*.json"))
        if path.stem not in names
    ]
    assert not stray, f"No step has the name of these files. Rename or delete them: {stray}"


@dataclass(frozen=True)
class Unfinished(Filter):
    """A step that somebody has just written."""

    def reason(self, record: Record) -> str | None:
        return None


def test_a_step_without_a_fixture_is_refused_with_words_that_say_what_to_add() -> None:
    with pytest.raises(AssertionError) as refused:
        read_fixture(Unfinished)
    message = str(refused.value)
    assert "tests/fixtures/steps/Unfinished.json" in message
    assert "python -m tests.contracts.golden Unfinished" in message


def test_a_new_file_with_a_step_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = types.ModuleType("fresh_steps")
    package.__path__ = [str(tmp_path)]
    (tmp_path / "lately.py").write_text(
        "from tests.contracts.test_operators import Unfinished\n"
        "class Written(Unfinished):\n    pass\n"
        "class _Base(Unfinished):\n    pass\n"
    )
    monkeypatch.setitem(sys.modules, "fresh_steps", package)
    assert [cls.name for cls in step_classes(package)] == ["Written"]


def _by_id(result: Output) -> tuple[Sequence[object], ...]:
    """The output without its order."""
    kept = sorted(result.kept, key=lambda record: record.id)
    tables = sorted((name, sorted(map(repr, rows))) for name, rows in result.tables.items())
    return kept, sorted(result.dropped.items()), sorted(result.tally.items()), tables
