"""mix joins flows with a number of rows each, and takes the same rows in any order."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omr_data.errors import RecipeError
from omr_data.flow import Flow, union
from omr_data.identity import fingerprint
from omr_data.operators.mix import ALL, Take, mix
from omr_data.records import to_table
from omr_data.sources import gsm8k, puzzlevqa
from omr_data.step import Columns
from tests.builders import record

MATH, PUZZLES = gsm8k.Source(), puzzlevqa.Source()


def keys(step: Take, ids: list[str], cut: int = 1_000) -> Columns:
    """The key columns of some records, extracted shard by shard."""
    shards = [ids[start : start + cut] for start in range(0, len(ids), cut)] or [[]]
    frames = [
        step.extract_keys(to_table([record(id_) for id_ in shard]), lambda image: b"")
        for shard in shards
    ]
    return Columns(pl.concat(frames), pl.LazyFrame(), pl.LazyFrame())


def taken(step: Take, ids: list[str], cut: int = 1_000) -> set[str]:
    return set(ids) - step.decide(keys(step, ids, cut), []).drops.keys()


names = st.lists(st.text("ab/01é", max_size=6), unique=True, min_size=1, max_size=30)


@given(names, st.data())
def test_take_keeps_exactly_the_number_asked_for_in_any_order_and_cut(
    ids: list[str], data: st.DataObject
) -> None:
    step = Take(data.draw(st.integers(0, len(ids))), seed=data.draw(st.integers(0, 3)))
    chosen = taken(step, ids)
    assert len(chosen) == step.rows
    order = data.draw(st.permutations(ids))
    assert taken(step, order, data.draw(st.integers(1, 5))) == chosen


@given(names, st.data())
def test_taking_more_adds_rows_and_replaces_none(ids: list[str], data: st.DataObject) -> None:
    rows = data.draw(st.integers(0, len(ids)))
    more = data.draw(st.integers(rows, len(ids)))
    assert taken(Take(rows), ids) <= taken(Take(more), ids)


@given(names, st.text("xyz", min_size=1, max_size=4), st.data())
def test_a_new_row_replaces_at_most_one_of_the_chosen(
    ids: list[str], new: str, data: st.DataObject
) -> None:
    step = Take(data.draw(st.integers(0, len(ids))))
    before, after = taken(step, ids), taken(step, [*ids, new])
    assert len(before - after) <= 1
    assert after - before <= {new}


def test_the_rows_of_a_seed_are_fixed_for_good() -> None:
    """A release is made again from its plan, so the hash behind the choice must never change."""
    ids = [f"r/{number}" for number in range(10)]
    assert taken(Take(3), ids) == {"r/0", "r/4", "r/6"}
    assert taken(Take(3, seed=1), ids) == {"r/2", "r/5", "r/9"}


def test_dropped_rows_are_counted_under_one_reason() -> None:
    step = Take(1)
    drops = step.decide(keys(step, ["a", "b", "c"]), []).drops
    assert set(drops.values()) == {"not among the rows chosen for the mix"}


def test_a_shard_without_rows_has_the_same_key_columns() -> None:
    step = Take(1)
    empty, full = keys(step, []).keys, keys(step, ["a"]).keys
    assert empty.schema == full.schema == {"id": pl.String, "order": pl.Binary}
    assert taken(Take(0), []) == set()


def test_take_refuses_more_rows_than_there_are_and_names_both_numbers() -> None:
    with pytest.raises(RecipeError, match=r"mix\.Take wants 1,005 rows of a flow that has 2") as no:
        Take(1_005).decide(keys(Take(1_005), ["a", "b"]), [])
    assert "Lower the number, or give ALL" in str(no.value)


def test_mix_takes_whole_flows_and_numbers_of_rows_in_order() -> None:
    flow = mix({MATH: ALL, PUZZLES: 5}, seed=7)
    assert flow == union(MATH, PUZZLES.then(Take(5, 7)))
    assert [parent.spec for parent in flow.parents] == [MATH, Take(5, 7)]
    # The word itself works too, so that a recipe can take it from an argument of the command line.
    assert mix({MATH: "all", PUZZLES: 5}, seed=7) == flow


def test_a_mix_of_one_is_that_flow_and_not_a_union() -> None:
    assert mix({MATH: ALL}) == Flow(MATH)
    assert mix({MATH: 3}) == MATH.then(Take(3))


def test_the_seed_of_a_mix_is_part_of_its_identity_and_zero_by_default() -> None:
    assert mix({MATH: 3}) == mix({MATH: 3}, seed=0) != mix({MATH: 3}, seed=1)
    assert fingerprint(Take(3)) == fingerprint(Take(3, 0)) != fingerprint(Take(3, 1))


@pytest.mark.parametrize("rows", ["half", 0.5, -1, True, None, "5"])
def test_mix_refuses_what_is_not_a_number_of_rows(rows: object) -> None:
    with pytest.raises(RecipeError, match="whole number of rows or ALL") as refused:
        mix({MATH: rows})  # type: ignore[dict-item]
    assert repr(rows) in str(refused.value)


def test_mix_takes_no_rows_of_a_flow_but_needs_a_flow() -> None:
    assert mix({MATH: 0, PUZZLES: ALL}) == union(MATH.then(Take(0)), PUZZLES)
    with pytest.raises(RecipeError, match="at least one flow"):
        mix({})
    with pytest.raises(RecipeError, match="a flow or a source is needed here"):
        mix({"gsm8k": ALL})  # type: ignore[dict-item]
