"""Dedup and decontamination in a build: counted, looked up, and the same for any workers."""

from pathlib import Path

import pytest

from omr_data.store.ledger import read_json
from tests.mirrors import small_mirror
from tests.omr import digests, omr

pytestmark = pytest.mark.build

RECIPE = """
from omr_data import Recipe, union
from omr_data.operators import decontaminate, dedup, explode, rollout, verify
from omr_data.sources import gsm8k, puzzlevqa
from omr_data.teachers import echo

def recipe() -> Recipe:
    rows = union(gsm8k.Source(split="train"), puzzlevqa.Source()).then(
        dedup.Exact(),
        dedup.NearPair(threshold=0.9),
        decontaminate.Against((gsm8k.Source(split="test"),), policy="text"),
    )
    answered = rows.then(rollout.Sample(echo.Teacher(), n=1), verify.Answers(), explode.Right())
    return Recipe("clean", "1.0.0", answered)
"""


@pytest.fixture(scope="module")
def built(mirror: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clean")
    (folder / "clean.py").write_text(RECIPE)
    omr(
        "build",
        folder / "clean.py",
        "--mirror",
        mirror,
        "--work",
        folder / "work",
        "--releases",
        folder / "releases",
        "--workers",
        2,
    )
    return folder


def test_real_rows_are_deduplicated_and_decontaminated_and_each_is_counted(built: Path) -> None:
    manifest = read_json(built / "releases/clean/1.0.0/manifest.json")
    counts = {line["step"]: line for line in manifest["counts"]}
    exact, near, against = (
        counts[name] for name in ("dedup.Exact", "dedup.NearPair", "decontaminate.Against")
    )
    assert exact["rows_in"] == 7_473 + 2_000
    assert sum(exact["dropped"].values()) == 172
    assert near["rows_in"] == exact["rows_out"]
    # Thirteen puzzles repeat another's image, question and answer with one other wrong option; one
    # question of GSM8K is there in two wordings.
    assert 13 <= sum(near["dropped"].values()) <= 14
    assert against["rows_in"] == near["rows_out"] and against["rows_out"] > 9_000
    assert all(
        line["rows_kept"] + sum(line["dropped"].values()) == line["rows_in"]
        for line in counts.values()
    )


def test_pairs_and_hits_can_be_looked_up(built: Path, mirror: Path) -> None:
    places = ("--mirror", mirror, "--work", built / "work")
    shown = omr(
        "show",
        built / "clean.py",
        *places,
        "--step",
        "dedup.Exact",
        "--table",
        "pairs",
        "--rows",
        5,
    ).stdout
    assert "dropped_source" in shown and "5 of 172 rows" in shown
    counted = omr(
        "show", built / "clean.py", *places, "--step", "dedup.Exact", "--table", "sources"
    ).stdout
    assert "puzzlevqa" in counted and "172" in counted
    hits = omr(
        "show", built / "clean.py", *places, "--step", "decontaminate.Against", "--table", "hits"
    ).stdout
    assert "benchmark_id" in hits and "question_of_benchmark" in hits


def test_one_worker_and_two_give_the_same_release(mirror: Path, tmp_path: Path) -> None:
    small_mirror(mirror, tmp_path / "mirror", rows=20)
    (tmp_path / "clean.py").write_text(RECIPE)
    for workers in (1, 2):
        places = (
            "--mirror",
            tmp_path / "mirror",
            "--work",
            tmp_path / f"work{workers}",
            "--releases",
            tmp_path / f"releases{workers}",
        )
        omr("build", tmp_path / "clean.py", *places, "--workers", workers)
    assert digests(tmp_path / "releases1") == digests(tmp_path / "releases2")
