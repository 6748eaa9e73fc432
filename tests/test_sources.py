"""Each source reads its dataset's rows as they are, and malformed rows become counted drops."""

import json
from pathlib import Path
from typing import Any

import pytest

from omr_data.errors import BadRow, SourceError, UnpinnedError
from omr_data.records import IMAGE_MARK, Record
from omr_data.source import Source
from omr_data.sources import algopuzzlevqa, gsm8k, imagefolder, puzzlevqa
from omr_data.sources.locator import LocalDatasets
from omr_data.store.images import ImageStore, RowImages
from tests.builders import png

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def read(source: Source, locator: LocalDatasets, work: Path, limit: int = 10_000) -> list[Record]:
    found = source.download(locator)
    images = RowImages(found.root, ImageStore(work))
    rows = [row for part in source.parts(found) for row in source.rows(found, part)]
    return [source.convert(row, images) for row in rows[:limit]]


@pytest.mark.slow
def test_puzzlevqa_has_2000_puzzles_with_text_options(mirror: Path, tmp_path: Path) -> None:
    source, locator = puzzlevqa.Source(), LocalDatasets(mirror)
    found = source.download(locator)
    assert len(source.parts(found)) == 20
    records = read(source, locator, tmp_path, limit=300)
    assert all(
        r.answer in r.options and r.question.startswith(IMAGE_MARK) and len(r.images) == 1
        for r in records
    )
    assert len({r.id for r in records}) == 300
    assert len({r.question for r in records}) < 20


@pytest.mark.slow
def test_algopuzzlevqa_reads_every_kind(mirror: Path, tmp_path: Path) -> None:
    records = read(algopuzzlevqa.Source(), LocalDatasets(mirror), tmp_path)
    assert len(records) == 540
    assert {len(r.options) for r in records} == {2, 4}


@pytest.mark.slow
def test_gsm8k_gold_answers_are_what_follows_the_hashes(mirror: Path, tmp_path: Path) -> None:
    train = read(gsm8k.Source(), LocalDatasets(mirror), tmp_path)
    test = read(gsm8k.Source(split="test"), LocalDatasets(mirror), tmp_path)
    assert (len(train), len(test)) == (7_473, 1_319)
    assert train[0].answer == "72"
    assert all("#" not in r.answer for r in train)


def test_a_mirror_pins_by_digest_and_keeps_the_commit_beside_it(hub_fixtures: Path) -> None:
    pin = LocalDatasets(hub_fixtures, {"openai/gsm8k": COMMIT}).resolve_hub(
        "openai/gsm8k", None, ("train.jsonl",)
    )
    assert pin.commit == COMMIT
    assert (
        pin.digest
        == LocalDatasets(hub_fixtures).resolve_hub("openai/gsm8k", None, ("train.jsonl",)).digest
    )


def test_an_unpinned_source_is_refused_with_the_command_that_pins_it() -> None:
    with pytest.raises(UnpinnedError, match=r"omr pin recipes/mine\.py"):
        puzzlevqa.Source().resolve(LocalDatasets(recipe="recipes/mine.py"))


def test_a_branch_is_no_pin() -> None:
    with pytest.raises(UnpinnedError, match="Branches and tags move"):
        puzzlevqa.Source(commit="main").resolve(LocalDatasets())


def test_a_missing_mirror_or_dataset_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"mirror folder .* does not exist"):
        puzzlevqa.Source().resolve(LocalDatasets(tmp_path / "none"))
    with pytest.raises(SourceError, match="has no dataset declare-lab/PuzzleVQA"):
        puzzlevqa.Source().resolve(LocalDatasets(tmp_path))


def puzzle(**fields: Any) -> dict[str, Any]:
    return {
        "image": "images/a.png",
        "question": "Which?",
        "answer": 1,
        "options": [1, 2],
        "_line": 0,
        "_file": "demo",
    } | fields


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"image": "../../secret.png"}, "image path leaves the dataset"),
        ({"image": "/etc/passwd"}, "image path leaves the dataset"),
        ({"image": "images/none.png"}, "image missing"),
        ({"image": "images/broken.png"}, "image broken"),
        ({"answer": 3}, "not among the options"),
        ({"options": [1, 1]}, "two options are the same"),
        ({"options": "1, 2"}, "no list"),
        ({"question": " "}, "is empty"),
        ({"question": "<image><image>"}, "image marks do not match"),
        ({"_broken": "not JSON"}, "the row cannot be read"),
    ],
)
def test_a_malformed_row_is_a_bad_row_with_a_reason(
    tmp_path: Path, fields: dict[str, Any], reason: str
) -> None:
    folder = tmp_path / "set" / "data" / "images"
    folder.mkdir(parents=True)
    (tmp_path / "secret.png").write_bytes(png())
    (folder / "a.png").write_bytes(png())
    (folder / "broken.png").write_bytes(png()[:-30])
    images = RowImages(tmp_path / "set", ImageStore(tmp_path / "store"))
    assert puzzlevqa.Source().convert(puzzle(), images).answer == "1"
    with pytest.raises(BadRow, match=reason):
        puzzlevqa.Source().convert(puzzle(**fields), images)


def test_an_imagefolder_changes_identity_with_its_images(tmp_path: Path) -> None:
    (tmp_path / "metadata.jsonl").write_text(
        json.dumps({"file_name": "a.png", "question": "Colour?", "answer": "red"}) + "\n"
    )
    (tmp_path / "a.png").write_bytes(png("red"))
    source = imagefolder.Source(tmp_path, dataset="mine", license="MIT")
    before = source.resolve(LocalDatasets())
    assert read(source, LocalDatasets(), tmp_path.parent / "store")[0].question == "<image>Colour?"
    (tmp_path / "a.png").write_bytes(png("blue"))
    assert source.resolve(LocalDatasets()) != before
