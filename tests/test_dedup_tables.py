"""Who stays can be chosen; tables say what was dropped, what disagrees and what was close."""

from pathlib import Path

import pytest

from omr_data.errors import RecipeError
from omr_data.operators import decontaminate, dedup
from omr_data.sources import gsm8k
from tests.builders import record
from tests.dedup_rows import decide, text


def test_a_preference_decides_which_copy_stays(tmp_path: Path) -> None:
    rows = [
        record("a", question="What is 3 + 4?", license="CC-BY-NC-4.0"),
        record("b", question="What is 3 + 4 ?", license="MIT", answer=""),
    ]
    kept = {
        prefer: set(decide(dedup.Exact(prefer=prefer), rows, tmp_path).drops)
        for prefer in (("source_order",), ("license",), ("gold", "license"), ("longest",))
    }
    assert kept == {
        ("source_order",): {"b"},
        ("license",): {"a"},
        ("gold", "license"): {"b"},
        ("longest",): {"a"},
    }
    with pytest.raises(RecipeError, match="prefer has 'newest'"):
        dedup.Exact(prefer=("newest",))  # type: ignore[arg-type]


def test_copies_with_different_gold_answers_are_a_table_and_a_choice(tmp_path: Path) -> None:
    rows = [
        record("a", question="What is 3 + 4?", answer="7"),
        record("b", question="what is 3+4", answer="8"),
        record("c", question="What is 1 + 1?", answer="1,000"),
        record("d", question="What is 1+1?", answer="1000"),
    ]
    first = decide(dedup.Exact(), rows, tmp_path)
    assert first.tables["conflicts"].select("dropped", "kept").rows() == [("b", "a")]
    assert set(first.drops) == {"b", "d"}
    none = decide(dedup.Exact(conflicts="drop all"), rows, tmp_path)
    assert set(none.drops) == {"a", "b", "d"}


def test_two_joined_questions_do_not_make_copies_of_each_other(tmp_path: Path) -> None:
    one, other = text(1, 30), text(2, 30)
    rows = [
        record("a", question=one),
        record("b", question=other),
        record("c", question=f"{one} {other}"),
    ]
    assert set(decide(dedup.NearText(), rows, tmp_path).drops) == {"c"}


def test_a_step_that_would_drop_a_fifth_of_a_large_source_stops(tmp_path: Path) -> None:
    rows = [record(f"a/{number}", question=text(number, 12)) for number in range(500)]
    benchmark = rows[:120]
    step = decontaminate.Against((gsm8k.Source(split="test"),), policy="text")
    with pytest.raises(RecipeError, match=r"demo: 120 of 500 rows \(24%\)[\s\S]*limit=1.0"):
        decide(step, rows, tmp_path, benchmark=benchmark)
    allowed = decontaminate.Against((gsm8k.Source(split="test"),), policy="text", limit=1.0)
    assert len(decide(allowed, rows, tmp_path, benchmark=benchmark).drops) == 120


def test_problems_that_differ_in_numbers_only_are_one_group() -> None:
    rows = [
        record("a", question="Tom has 3 apples."),
        record("b", question="Tom has 12 apples."),
        record("c", question="Tom has 3 pears."),
    ]
    groups = [one.group for one in dedup.Templates().apply_batch(rows)]
    assert groups[0] == groups[1] != groups[2] and all(groups)
