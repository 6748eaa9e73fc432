"""Who stays can be chosen; tables say what was dropped, what disagrees and what was close."""

import io
import re
from pathlib import Path

import polars as pl
import pytest
from rich.console import Console

from omr_data.cli.show import print_table, read_condition
from omr_data.errors import RecipeError
from omr_data.operators import decontaminate, dedup
from omr_data.sources import gsm8k
from omr_data.store.shards import StageFolder
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


def test_a_shown_table_is_sorted_and_filtered_by_columns_and_ids(tmp_path: Path) -> None:
    frame = {
        "dropped": ["b/1", "b/2", "c/1"],
        "kept": ["a/1", "c/9", "a/2"],
        "similarity": [0.8, 0.9, 1.0],
        "kept_source": ["a", "c", "a"],
    }
    folder = StageFolder(tmp_path)
    pl.DataFrame(frame).write_parquet(folder.table("pairs"))

    def shown(sort: str = "", where: tuple[tuple[str, str], ...] = (), prefix: str = "") -> str:
        console = Console(file=io.StringIO(), width=100)
        print_table(console, folder, "pairs", 10, sort, where, prefix)
        assert isinstance(console.file, io.StringIO)
        return console.file.getvalue()

    assert re.findall("[bc]/[12](?= +[ac]/)", shown(sort="similarity")) == ["c/1", "b/2", "b/1"]
    kept = shown(where=(("kept_source", "a"),))
    assert "2 of 2 rows" in kept and "b/2" not in kept
    either = shown(prefix="c/")
    assert "2 of 2 rows" in either and "b/1" not in either
    with pytest.raises(RecipeError, match="no column weight"):
        shown(sort="weight")
    with pytest.raises(RecipeError, match="column=value"):
        read_condition("kept_source")
