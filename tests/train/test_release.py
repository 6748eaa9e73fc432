"""What is a release is opened, and what is not one is told what it lacks."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as parquet
import pytest

from omr_data.errors import TrainError
from omr_data.records import Record
from omr_data.train import sft
from omr_data.train.release import PolicyPrompt, open_release
from omr_data.train.settings import SFT
from tests.omr import ROOT
from tests.train.helpers import write_release


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_release(tmp_path_factory.mktemp("release"), answered=True, count=12)


def damaged(release: Path, folder: Path, rows: int, drop: str = "") -> Path:
    """A copy with other rows or one column less."""
    copy = folder / "copy"
    shutil.copytree(release, copy)
    file = next(copy.glob("data/*.parquet"))
    table = parquet.read_table(file)
    parquet.write_table(table.drop_columns([drop] if drop else []).slice(0, rows), file)
    return copy


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("nowhere", "the release nowhere does not exist. Give a folder"),
        ("some/repository", "organization/name@version"),
        (str(ROOT), "has no manifest.json, so it is not a release"),
    ],
)
def test_what_is_not_a_release_is_refused(name: str, complaint: str) -> None:
    with pytest.raises(TrainError, match=complaint):
        open_release(name)


def test_an_empty_release_is_said_to_be_empty(release: Path, tmp_path: Path) -> None:
    empty = damaged(release, tmp_path, 0)
    (empty / "manifest.json").write_text('{"format": 2, "rows": 0}')
    with pytest.raises(TrainError, match=r"has no rows: its recipe left nothing. See the drops"):
        open_release(str(empty))


@pytest.mark.parametrize("number", [1, 3, None])
def test_a_release_of_another_format_is_refused_by_name(
    release: Path, tmp_path: Path, number: int | None
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(release, copy)
    (copy / "manifest.json").write_text(json.dumps({"format": number, "rows": 12}))
    with pytest.raises(TrainError, match=f"has format {number} .* reads format 2"):
        open_release(str(copy))


@pytest.mark.parametrize("text", ["", "{", "[]", '"text"'])
def test_a_manifest_that_is_none_is_refused(release: Path, tmp_path: Path, text: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(release, copy)
    (copy / "manifest.json").write_text(text)
    with pytest.raises(TrainError, match="copy cannot be read"):
        open_release(str(copy))


def test_rows_that_are_missing_are_noticed(release: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="has 5 rows, and its manifest says 12"):
        open_release(str(damaged(release, tmp_path, 5)))


def test_a_column_that_is_missing_is_named(release: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="has no column question_id, so it is not a release"):
        open_release(str(damaged(release, tmp_path, 12, drop="question_id")))


def test_a_prompt_is_the_chat_up_to_the_answer(release: Path) -> None:
    opened = open_release(str(release))
    assert len(opened) == len(opened.prompts()) == 12
    messages, images = opened.chat(3)
    prompt = opened.prompt(3)
    assert messages[-1]["role"] == "assistant"
    assert list(prompt.messages) == messages[:-1]
    assert list(prompt.images) == images
    assert prompt.source == "synthetic"
    assert prompt.gold in messages[-1]["content"]


def test_a_question_with_several_answers_is_asked_once(release: Path, tmp_path: Path) -> None:
    copy = damaged(release, tmp_path, 12)
    file = next(copy.glob("data/*.parquet"))
    table = parquet.read_table(file)
    question = table.column("question_id").to_pylist()
    question[4] = question[2]
    place = table.column_names.index("question_id")
    parquet.write_table(table.set_column(place, "question_id", [question]), file)
    assert open_release(str(copy)).prompt_numbers() == [0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11]


def test_a_release_is_known_by_its_manifest(release: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(release, copy)
    assert open_release(str(copy)).identity == open_release(str(release)).identity
    (copy / "manifest.json").write_text((release / "manifest.json").read_text() + "\n")
    assert open_release(str(copy)).identity != open_release(str(release)).identity


def test_a_record_is_asked_as_a_teacher_is_asked_it() -> None:
    record = Record("a/1", "a", "MIT", "<image>Which?", "B", options=("cat", "dog"))
    prompt = PolicyPrompt.from_record(record, [b"data"])
    assert prompt.messages[0]["content"] == "<image>Which?\nOptions:\n(A) cat\n(B) dog"
    assert (prompt.id, prompt.gold, prompt.options) == ("a/1", "B", ("cat", "dog"))
    assert (prompt.images, prompt.source) == ((b"data",), "a")


def test_sft_on_problems_alone_says_that_there_are_no_answers(tmp_path: Path) -> None:
    problems = write_release(tmp_path, answered=False, count=6)
    settings = SFT(steps=1)
    with pytest.raises(TrainError) as caught:
        sft.train(settings, str(problems), tmp_path / "run")
    assert "no assistant turn (6)" in str(caught.value)
    assert "Give a release whose rows hold responses" in str(caught.value)
    assert "pack_length" not in str(caught.value)
    assert json.loads((problems / "manifest.json").read_text())["rows"] == 6
