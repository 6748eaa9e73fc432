"""Building a flow runs nothing and refuses what cannot work."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
import pytest

from omr_data.errors import RecipeError
from omr_data.flow import union
from omr_data.operators.mix import ALL, Take, mix
from omr_data.records import Record, to_table
from omr_data.source import Files, Images, Part, Source
from omr_data.step import Columns, Map
from tests.builders import record


@dataclass(frozen=True)
class Numbers(Source):
    count: int = 3

    def parts(self, files: Files) -> Sequence[Part]:
        return [Part("", 0, self.count)]

    def rows(self, files: Files, part: Part) -> Iterator[Mapping[str, Any]]:
        return ({"n": n} for n in range(part.start, part.stop))

    def convert(self, row: Mapping[str, Any], images: Images) -> Record:
        return record(f"numbers/{row['n']}")


@dataclass(frozen=True)
class Same(Map):
    def apply(self, record: Record) -> Record:
        return record


def test_then_adds_one_node_for_each_step() -> None:
    flow = Numbers().then(Same(), Same())
    assert flow.parents[0].parents[0].spec == Numbers()


def test_a_function_is_no_step_and_the_message_says_what_to_do() -> None:
    with pytest.raises(RecipeError, match="derives from Map"):
        Numbers().then(lambda record: record)  # type: ignore[arg-type]


def test_union_and_mix_keep_the_order_of_their_parts() -> None:
    a, b = Numbers(1), Numbers(2)
    assert [flow.spec for flow in union(a, b).parents] == [a, b]
    assert [flow.spec for flow in mix({a: ALL, b: 1}).parents] == [a, Take(1, 0)]


def test_mix_refuses_a_share_that_is_no_number_of_rows() -> None:
    with pytest.raises(RecipeError, match="number of rows or ALL"):
        mix({Numbers(): "half"})


def columns(step: Take, ids: list[str]) -> Columns:
    return Columns(
        step.extract_keys(to_table([record(id_) for id_ in ids]), lambda ref: b""),
        pl.LazyFrame(),
        pl.LazyFrame(),
    )


def test_take_chooses_the_same_rows_in_any_order() -> None:
    step, ids = Take(3, seed=1), [f"r/{n}" for n in range(10)]
    dropped = step.decide(columns(step, ids), []).drops
    assert len(dropped) == 7
    assert dropped.keys() == step.decide(columns(step, ids[::-1]), []).drops.keys()
    assert dropped.keys() != Take(3, seed=2).decide(columns(Take(3, seed=2), ids), []).drops.keys()


def test_take_refuses_more_rows_than_there_are() -> None:
    step = Take(5)
    with pytest.raises(RecipeError, match="wants 5 rows of a flow that has 2"):
        step.decide(columns(step, ["a", "b"]), [])
