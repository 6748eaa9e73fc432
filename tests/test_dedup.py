"""What is there twice is found, and neither order nor workers change the result."""

import random
from pathlib import Path

import pytest

from omr_data.errors import RecipeError
from omr_data.operators import dedup
from omr_data.step import GlobalStep
from tests.builders import record
from tests.dedup_rows import WORDS, ImageBytes, decide, drawing, edited, jaccard, text


def test_exact_ignores_case_and_spaces_and_sees_options_and_images(tmp_path: Path) -> None:
    stored_images = ImageBytes()
    red, blue = (stored_images.put(drawing(color)) for color in ("red", "blue"))
    one = record("b/1", question="How many?", options=("1", "2"))
    records = [
        one,
        record("a/2", question="how  MANY?", options=("1", "2")),
        record("c/3", question="How many?", options=("1", "3")),
        record("c/4", question="<image>How many?", images=(red,)),
        record("c/5", question="<image>How many?", images=(blue,)),
        record("c/6", question="<image>how many?", images=(red,)),
    ]
    decisions = decide(dedup.Exact(), records, tmp_path, stored_images)
    assert set(decisions.drops) == {"b/1", "c/6"}
    assert set(decisions.drops.values()) == {"the same problem is there already"}
    assert decisions.tables["pairs"].select("dropped", "kept").rows() == [
        ("b/1", "a/2"),
        ("c/6", "c/4"),
    ]


def test_near_text_finds_every_pair_over_the_threshold_and_no_other(tmp_path: Path) -> None:
    records, close = [], set()
    for number in range(300):
        original = text(number)
        records.append(record(f"a/{number:04}", question=original))
        copy = edited(original, (0.0, 0.005, 0.01, 0.03, 0.1)[number % 5], number)
        records.append(record(f"b/{number:04}", question=copy))
        if jaccard(original, copy) >= 0.8:
            close.add(f"b/{number:04}")
    decisions = decide(dedup.NearText(threshold=0.8), records, tmp_path)
    dropped = set(decisions.drops)
    assert dropped <= close
    assert len(dropped) >= 0.98 * len(close)
    assert decisions.tables["pairs"]["similarity"].min() >= 0.8  # type: ignore[operator]
    similar = dict(decisions.tables["pairs"].select("dropped", "similarity").iter_rows())
    for id_, similarity in list(similar.items())[:20]:
        number = int(id_[2:])
        assert similarity == pytest.approx(
            jaccard(records[2 * number].question, records[2 * number + 1].question)
        )


@pytest.mark.parametrize(
    "step",
    [dedup.Exact(), dedup.NearText(threshold=0.7), dedup.NearPair(threshold=0.7)],
    ids=lambda step: step.name,
)
def test_the_result_does_not_depend_on_order_or_on_shards(step: GlobalStep, tmp_path: Path) -> None:
    stored_images = ImageBytes()
    image = (stored_images.put(drawing("red")),)
    records = [
        record(f"{'ab'[number % 2]}/{number:03}", question=edited(text(number // 4), 0.01, number))
        for number in range(80)
    ]
    records += [
        record(f"c/{number}", question="<image>" + text(number // 3), images=image)
        for number in range(9)
    ]
    results = []
    for parts, seed in ((1, 0), (3, 1), (7, 2)):
        shuffled = random.Random(seed).sample(records, len(records))
        results.append(decide(step, shuffled, tmp_path / str(parts), stored_images, parts=parts))
    assert results[0].drops
    assert results[0].drops == results[1].drops == results[2].drops
    assert results[0].tables["pairs"].equals(results[1].tables["pairs"])


def test_the_source_that_comes_first_in_the_priority_keeps_its_row(tmp_path: Path) -> None:
    records = [
        record("a/1", source="cheap", question=text(1)),
        record("b/1", source="good", question=text(1)),
    ]
    assert set(decide(dedup.Exact(), records, tmp_path).drops) == {"b/1"}
    assert set(decide(dedup.Exact(priority=("good",)), records, tmp_path).drops) == {"a/1"}
    assert set(decide(dedup.NearText(priority=("good",)), records, tmp_path).drops) == {"a/1"}


def test_duplicates_are_counted_by_the_sources_of_both_sides(tmp_path: Path) -> None:
    records = [record(f"a/{number}", source="one", question=text(number)) for number in range(5)]
    records += [record(f"b/{number}", source="two", question=text(number)) for number in range(3)]
    records += [
        record("c/0", source="two", question=text(99)),
        record("c/1", source="two", question=text(99)),
    ]
    counted = decide(dedup.Exact(), records, tmp_path / "1").tables["sources"]
    assert counted.rows() == [("two", "one", 3, 1.0), ("two", "two", 1, 1.0)]
    assert decide(dedup.Exact(), records[:5], tmp_path / "2").tables["sources"].height == 0


def test_texts_without_words_are_like_no_other(tmp_path: Path) -> None:
    records = [
        record(f"a/{number}", question=question)
        for number, question in enumerate(["", "", "...", "?!", "one", "one"])
    ]
    assert set(decide(dedup.NearText(), records, tmp_path).drops) == {"a/5"}


@pytest.mark.build
def test_many_equal_rows_are_no_quadratic_work(tmp_path: Path) -> None:
    """100,000 equal rows would be five thousand million pairs."""
    stored_images = ImageBytes()
    image = (stored_images.put(drawing("red")),)
    records = [record(f"a/{number:05}", question=text(1, 30)) for number in range(100_000)]
    assert len(decide(dedup.NearText(), records, tmp_path / "words").drops) == 99_999
    image_rows = [
        record(f"a/{number:05}", question="<image>" + text(number % 2, 30), images=image)
        for number in range(6_000)
    ]
    assert (
        len(decide(dedup.NearPair(), image_rows, tmp_path / "pairs", stored_images).drops) == 5_998
    )


@pytest.mark.build
def test_a_question_of_ten_megabytes_is_one_row_like_any_other(tmp_path: Path) -> None:
    huge = " ".join(WORDS[number * 7 % 3_000] + str(number) for number in range(1_000_000))
    assert len(huge) > 10_000_000
    records = [
        record("a/1", question=huge),
        record("a/2", question=huge + " end"),
        record("a/3", question=text(1)),
    ]
    assert set(decide(dedup.NearText(), records, tmp_path).drops) == {"a/2"}


def test_a_threshold_that_is_none_is_refused() -> None:
    with pytest.raises(RecipeError, match="it is over 0 and at most 1"):
        dedup.NearText(threshold=80)
