"""On labeled pairs, every step finds copies and keeps problems apart, in seven languages."""

from collections.abc import Sequence

import pytest

from omr_data.operators import dedup
from omr_data.step import GlobalStep
from tests.truth.duplicates import make
from tests.truth.duplicates.score import (
    EXACT_KINDS,
    NEAR_KINDS,
    Pair,
    found_by_against,
    found_by_step,
    load,
    shares,
)

PAIRS = load()


def sample(every: int) -> list[Pair]:
    """Some of the pairs, with all kinds and languages among them."""
    return PAIRS[::every]


def check(pairs: Sequence[Pair], found: Sequence[bool]) -> None:
    """Copies that differ in form are all found; other problems are merged in 0.5% at most."""
    missed = [
        (pair.kind, pair.language, pair.sides[1].question)
        for pair, one in zip(pairs, found, strict=True)
        if pair.kind in EXACT_KINDS and pair.same and not one
    ]
    merged = [
        (pair.kind, pair.language, pair.sides[1].question)
        for pair, one in zip(pairs, found, strict=True)
        if not pair.same and one
    ]
    assert not missed
    assert len(merged) <= 0.005 * sum(not pair.same for pair in pairs), merged


def test_the_truth_set_is_what_its_generator_makes() -> None:
    made = list(make.pairs())
    assert len(PAIRS) >= 1_500
    assert [pair.sides[1].question for pair in PAIRS[: len(made)]] == [
        line["other"]["question"] for line in made
    ]
    assert {pair.language for pair in PAIRS} == set(make.NAMES)


@pytest.mark.slow
@pytest.mark.parametrize("step", [dedup.Exact(), dedup.NearText(), dedup.NearPair()])
def test_copies_are_found_and_one_changed_number_or_sign_is_another_problem(
    step: GlobalStep,
) -> None:
    found = found_by_step(step, PAIRS)
    check(PAIRS, found)
    if not isinstance(step, dedup.Exact):
        recall = shares(PAIRS, found)
        assert all(recall[True, kind] >= 0.9 for kind in NEAR_KINDS), recall


@pytest.mark.build
def test_exact_finds_copies_that_differ_in_form_and_nothing_else() -> None:
    pairs = sample(4)
    check(pairs, found_by_step(dedup.Exact(), pairs))


@pytest.mark.slow
def test_benchmark_problems_are_found_by_the_same_rule() -> None:
    found = found_by_against(PAIRS)
    check(PAIRS, found)
    recall = shares(PAIRS, found)
    assert all(recall[True, kind] >= 0.9 for kind in NEAR_KINDS), recall
