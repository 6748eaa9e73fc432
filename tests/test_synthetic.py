"""Synthetic problems are exact, legible, deterministic, and never shared between splits."""

import hashlib
import io

import pytest
from PIL import Image

from omr_data.errors import SourceError
from omr_data.records import ImageRef, Record
from omr_data.source import Files
from omr_data.sources.synthetic import FAMILIES, LEVELS, Problem, Source, distinct, draw, split_of
from omr_data.store.images import inspect_image

SPLITS = ("teacher", "train", "heldout")


class Kept:
    """Images that are only looked at."""

    def from_bytes(self, data: bytes) -> ImageRef:
        return inspect_image(data)

    def from_file(self, relative: str) -> ImageRef:
        raise AssertionError("synthetic problems have no files")


def records(source: Source) -> list[Record]:
    parts = source.parts(Files())
    return [source.convert(row, Kept()) for part in parts for row in source.rows(Files(), part)]


def solve(problem: Problem) -> int:
    """The answer worked out from the question and what is drawn, not by the code that made it."""
    words = problem.question.split()
    if problem.family == "text":
        left, sign, right = int(words[2]), words[3], int(words[4].rstrip("?"))
        return left + right if sign == "+" else left - right
    heights = dict(zip(problem.colors, problem.numbers, strict=False))
    named = [word.rstrip("?") for word in words if word.rstrip("?") in heights]
    if named:
        return sum(heights[name] for name in named)
    if "sum" in words:
        return sum(problem.numbers)
    if "difference" in words:
        return max(problem.numbers) - min(problem.numbers)
    return max(problem.numbers)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("level", LEVELS)
def test_answers_are_right_and_are_among_the_options(family: str, level: int) -> None:
    for problem in distinct("train", family, level, 40):
        assert problem.answer == str(solve(problem)), problem
        if problem.options:
            assert len(set(problem.options)) == 4
            assert problem.answer in problem.options


@pytest.mark.parametrize("family", FAMILIES)
def test_no_problem_is_in_two_splits_in_any_order_of_its_numbers(family: str) -> None:
    operands = {
        split: {
            problem.operands for level in LEVELS for problem in distinct(split, family, level, 40)
        }
        for split in SPLITS
    }
    assert not operands["teacher"] & operands["train"]
    assert not operands["teacher"] & operands["heldout"]
    assert not operands["train"] & operands["heldout"]
    swapped = Problem(family, 1, "What?", "7", "", (4, 3))
    assert split_of(swapped) == split_of(Problem(family, 1, "What?", "7", "", (3, 4)))


def test_all_rows_are_different_problems_with_ids_of_their_own() -> None:
    found = records(Source(count=300))
    assert len({record.id for record in found}) == 300
    assert len({(record.question, record.images, record.options) for record in found}) == 300
    assert {record.meta["family"] for record in found} == set(FAMILIES)


def test_the_same_source_gives_the_same_rows_and_another_seed_gives_others() -> None:
    assert records(Source(count=60)) == records(Source(count=60))
    assert records(Source(count=60)) != records(Source(count=60, seed=1))


def test_a_smaller_part_holds_the_rows_of_the_whole() -> None:
    source = Source(count=700)
    assert [len(list(source.rows(Files(), part))) for part in source.parts(Files())] == [
        300,
        300,
        100,
    ]


def test_images_have_kept_their_golden_bytes() -> None:
    """A change here changes every rollout key: bump synthetic.Source.revision with it."""
    pixels = hashlib.sha256()
    for family in FAMILIES[1:]:
        for problem in distinct("train", family, 1, 3):
            pixels.update(Image.open(io.BytesIO(draw(problem))).tobytes())
    assert pixels.hexdigest()[:16] == "fd989898ea43ffa5"


def test_harder_levels_have_larger_numbers() -> None:
    means = [
        sum(int(problem.answer) for problem in distinct("train", "sum", level, 60)) / 60
        for level in LEVELS
    ]
    assert means == sorted(means)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"families": ("circles",)}, "no family 'circles'"),
        ({"levels": (4,)}, "no level 4"),
        ({"count": 0}, "at least one"),
    ],
)
def test_what_it_cannot_draw_is_refused_when_it_is_declared(
    wanted: dict[str, object], message: str
) -> None:
    with pytest.raises(SourceError, match=message):
        Source(**wanted)  # type: ignore[arg-type]


@pytest.mark.build
def test_more_problems_than_there_are_is_an_error_that_says_so() -> None:
    with pytest.raises(SourceError, match="has only about"):
        distinct("heldout", "sum", 1, 5_000)
