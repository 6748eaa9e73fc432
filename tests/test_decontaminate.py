"""Benchmark problems are found in training data, and similar problems stay."""

import json
from pathlib import Path

import polars as pl
import pytest
from PIL import Image

from omr_data.errors import RecipeError
from omr_data.operators import decontaminate
from omr_data.similar.images import image_hashes
from omr_data.similar.looks import same_image
from omr_data.sources import algopuzzlevqa, gsm8k, puzzlevqa
from tests.builders import record
from tests.dedup_rows import ImageBytes, changed, decide, encoded, photograph, text


@pytest.mark.build
def test_planted_benchmark_questions_are_found_and_near_misses_stay(
    mirror: Path, tmp_path: Path
) -> None:
    lines = (mirror / "openai/gsm8k/test.jsonl").read_text().splitlines()
    benchmark = [
        record(f"gsm8k/test/{number:05}", question=json.loads(line)["question"])
        for number, line in enumerate(lines)
    ]
    long = [one for one in benchmark if len(one.question.split()) >= 25][:60]
    planted = [
        record(f"copy/{one.id}", question=f"Solve this!  {one.question.upper()}")
        for one in long[:30]
    ]
    planted += [
        record(f"typo/{one.id}", question=one.question.replace(" the ", " teh ").replace(", ", " "))
        for one in long[30:60]
    ]
    digits = str.maketrans("123456789", "234567891")
    misses = [
        record(f"template/{one.id}", question=one.question.translate(digits))
        for one in long
        if any(map(str.isdigit, one.question))
    ]
    train = [
        json.loads(line)["question"]
        for line in (mirror / "openai/gsm8k/train.jsonl").read_text().splitlines()[:1_500]
    ]
    clean = [record(f"train/{number}", question=question) for number, question in enumerate(train)]
    step = decontaminate.Against((gsm8k.Source(split="test"),), policy="text")
    decisions = decide(step, [*planted, *misses, *clean], tmp_path, benchmark=benchmark)
    assert {one.id for one in planted} <= set(decisions.drops)
    assert not {one.id for one in misses} & set(decisions.drops)
    hits = decisions.tables["hits"]
    assert hits.filter(pl.col("id") == planted[0].id)["benchmark_id"].to_list() == [long[0].id]
    assert set(hits["by"].unique()) <= {"same", "near", "inside", "13 words"}
    both = hits.filter(pl.col("id") == planted[0].id).row(0, named=True)
    assert (both["question"], both["question_of_benchmark"]) == (
        planted[0].question,
        long[0].question,
    )
    counts = decisions.tables["benchmarks"]
    assert counts["problems"].sum() == hits["id"].n_unique() and set(counts["benchmark"]) == {
        "gsm8k.Source"
    }
    assert sum(id_.startswith("train/") for id_ in decisions.drops) <= 3


@pytest.mark.slow
def test_planted_benchmark_images_are_found_and_the_policy_decides(tmp_path: Path) -> None:
    stored_images = ImageBytes()
    images = [photograph(seed) for seed in range(30)]
    benchmark = [
        record(
            f"bench/{number}",
            question=text(number, 30),
            images=(stored_images.put(encoded(image, "PNG")),),
        )
        for number, image in enumerate(images)
    ]
    planted = [
        record(
            f"{how}/{number}", question=text(1_000 + number, 30), images=(stored_images.put(data),)
        )
        for number, image in enumerate(images)
        for how, data in changed(image).items()
    ]
    clean = [
        record(
            f"clean/{number}", images=(stored_images.put(encoded(photograph(500 + number), "PNG")),)
        )
        for number in range(30)
    ]
    both = [record("both/1", question=text(1, 30), images=benchmark[1].images)]
    words = [record("words/1", question=text(2, 30), images=clean[0].images)]
    every = [*planted, *clean, *both, *words]
    found = {}
    for policy in ("image", "text", "text or image", "text and image"):
        step = decontaminate.Against((puzzlevqa.Source(),), policy=policy)  # type: ignore[arg-type]
        found[policy] = set(
            decide(
                step, every, tmp_path / policy.replace(" ", "_"), stored_images, benchmark=benchmark
            ).drops
        )
    ids = {one.id for one in planted}
    assert found["image"] == ids | {"both/1"}
    assert found["text"] == {"both/1", "words/1"}
    assert found["text or image"] == ids | {"both/1", "words/1"}
    assert found["text and image"] == {"both/1"}


def test_options_that_differ_make_another_problem(tmp_path: Path) -> None:
    asked = "Which of these animals is the largest one that lives in the sea today?"
    benchmark = [record("bench/1", question=asked, options=("whale", "shark"))]
    records = [
        record("a/1", question=asked, options=("Whale", "seal")),
        record("a/2", question=asked, options=("ray", "seal")),
        record("a/3", question=asked),
    ]
    step = decontaminate.Against((algopuzzlevqa.Source(),), policy="text")
    assert set(decide(step, records, tmp_path, benchmark=benchmark).drops) == {"a/1", "a/3"}


def test_decontamination_without_benchmarks_is_refused() -> None:
    with pytest.raises(RecipeError, match="has no benchmarks"):
        decontaminate.Against(())


def test_thumbnails_tell_images_of_one_template_apart() -> None:
    image = Image.new("RGB", (512, 512), "white")
    other = image.copy()
    other.paste("black", (250, 250, 266, 266))
    assert not same_image(
        image_hashes(encoded(image, "PNG")).thumbnail, image_hashes(encoded(other, "PNG")).thumbnail
    )
    assert same_image(
        image_hashes(encoded(other, "PNG")).thumbnail,
        image_hashes(encoded(other.resize((400, 400)), "JPEG", quality=70)).thumbnail,
    )
