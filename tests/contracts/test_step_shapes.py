"""What the engine refuses of a step, whatever it does: each shape has one contract."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from omr_data.engine.shards import apply_step
from omr_data.errors import RecipeError, StepError
from omr_data.records import Record
from omr_data.step import BatchMap, Expand, Filter, Map, Step
from tests.builders import record


@dataclass(frozen=True)
class AnyMap(Map):
    """A Map that does what a test says."""

    def apply(self, record: Record) -> Record:
        return DOES["map"](record)


@dataclass(frozen=True)
class AnyBatchMap(BatchMap):
    """A BatchMap that does what a test says."""

    def apply_batch(self, records: Sequence[Record]) -> Sequence[Record]:
        return DOES["batch"](records)


@dataclass(frozen=True)
class AnyFilter(Filter):
    """A Filter that does what a test says."""

    def reason(self, record: Record) -> str | None:
        return DOES["filter"](record)


@dataclass(frozen=True)
class AnyExpand(Expand):
    """An Expand that does what a test says."""

    def expand(self, record: Record) -> Sequence[Record] | str:
        return DOES["expand"](record)


DOES: dict[str, Callable[[Any], Any]] = {}
"""What the steps above do. A step itself holds no function: a function has no stable identity."""

TWO = [record("a"), record("b")]


def run(step: Step, does: Callable[[Any], Any]) -> tuple[list[str], dict[str, str]]:
    """The ids that come out, and the reasons for those that do not."""
    for name in ("map", "batch", "filter", "expand"):
        DOES[name] = does
    kept, dropped, count = apply_step(step, "fingerprint", TWO)
    # The sums of the ledger balance, whatever the step does.
    assert count.rows_in == len(TWO) == count.rows_kept + sum(count.dropped.values())
    assert count.rows_out == len(kept)
    return [one.id for one in kept], {drop.record.id: drop.reason for drop in dropped}


def renamed(one: Record) -> Record:
    return replace(one, id=one.id + "'")


def fails(one: Any) -> Any:
    raise ZeroDivisionError("division by zero")


def refuses(one: Any) -> Any:
    raise RecipeError("put verify.Answers() before it")


BAD = {
    "a Map that changes the id": (AnyMap(), renamed),
    "a Map that returns nothing": (AnyMap(), lambda one: None),
    "a Map that returns several": (AnyMap(), lambda one: [one]),
    "a BatchMap that changes an id": (AnyBatchMap(), lambda all_: [renamed(one) for one in all_]),
    "a BatchMap that leaves one out": (AnyBatchMap(), lambda all_: all_[1:]),
    "a BatchMap that gives one twice": (AnyBatchMap(), lambda all_: [*all_, all_[-1]]),
    "a BatchMap that changes the order": (AnyBatchMap(), lambda all_: all_[::-1]),
    "a Filter that answers True": (AnyFilter(), lambda one: True),
    "a Filter that answers False": (AnyFilter(), lambda one: False),
    "a Filter that returns the record": (AnyFilter(), lambda one: one),
    "an Expand that returns nothing": (AnyExpand(), lambda one: None),
    "an Expand that returns no record": (AnyExpand(), lambda one: []),
    "an Expand that returns one bare record": (AnyExpand(), lambda one: one),
    "an Expand that returns something else among records": (AnyExpand(), lambda one: [one, "x"]),
}


@pytest.mark.parametrize("case", BAD)
def test_a_step_that_breaks_its_shape_is_refused_by_name(case: str) -> None:
    step, does = BAD[case]
    with pytest.raises(StepError) as refused:
        run(step, does)
    message = str(refused.value)
    assert step.name in message
    if not isinstance(step, BatchMap):
        assert "record a" in message
    # The message says what the shape must return.
    assert re.search("An? (Map|Filter|Expand) returns|must return one Record", message)


@pytest.mark.parametrize("step", [AnyMap(), AnyBatchMap(), AnyFilter(), AnyExpand()], ids=str)
def test_a_step_that_fails_is_named_with_its_record_and_the_first_error(step: Step) -> None:
    with pytest.raises(StepError, match="ZeroDivisionError: division by zero") as refused:
        run(step, fails)
    assert step.name in str(refused.value)
    assert isinstance(refused.value.__cause__, ZeroDivisionError)
    assert ("batch of 2" if isinstance(step, BatchMap) else "record a") in str(refused.value)


@pytest.mark.parametrize("step", [AnyMap(), AnyBatchMap(), AnyFilter(), AnyExpand()], ids=str)
def test_an_error_of_the_package_passes_through_a_step_as_it_is(step: Step) -> None:
    with pytest.raises(RecipeError, match="put verify"):
        run(step, refuses)


def test_each_shape_keeps_and_drops_as_it_says() -> None:
    assert run(AnyMap(), lambda one: one) == (["a", "b"], {})
    assert run(AnyBatchMap(), lambda all_: list(all_)) == (["a", "b"], {})
    only_a = {"b": "too long"}
    assert run(AnyFilter(), lambda one: None if one.id == "a" else "too long") == (["a"], only_a)
    # An empty reason is a reason: only None keeps a record.
    assert run(AnyFilter(), lambda one: "") == ([], {"a": "", "b": ""})
    assert run(AnyExpand(), lambda one: [one, renamed(one)]) == (["a", "a'", "b", "b'"], {})
    assert run(AnyExpand(), lambda one: (one,)) == (["a", "b"], {})
    assert run(AnyExpand(), lambda one: [one] if one.id == "a" else "too long") == (["a"], only_a)


def test_a_batch_map_applies_to_one_record_as_a_batch_of_one() -> None:
    DOES["batch"] = lambda all_: [replace(one, answer=str(len(all_))) for one in all_]
    assert AnyBatchMap().apply(record("a")).answer == "1"
