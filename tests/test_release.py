"""A release is whole, loadable, described, never changed, and refused when it is not what was
promised."""

import hashlib
import json
import os
import resource
import signal
import subprocess
from pathlib import Path

import datasets
import pyarrow.parquet as pq
import pytest

from omr_data.errors import ReleaseError
from omr_data.records import ImageRef, Message
from omr_data.release.card import card
from omr_data.release.rows import GROUP_ROWS, release_schema, row, write_rows
from tests.builders import png, record, response
from tests.omr import LOGGED, ROOT, command, environment, omr


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small release, built once."""
    folder = tmp_path_factory.mktemp("release")
    places = ("--work", folder / "work", "--releases", folder / "releases", "--workers", 1)
    omr("build", LOGGED, "--set", "questions=60", *places, OMR_TEST_LOG=folder / "log")
    return folder


@pytest.mark.build
def test_load_dataset_reads_it_with_images_and_messages(built: Path, tmp_path: Path) -> None:
    loaded = datasets.load_dataset(
        str(built / "releases/logged/1.0.0"), split="train", cache_dir=str(tmp_path)
    )
    manifest = json.loads((built / "releases/logged/1.0.0/manifest.json").read_text())
    assert len(loaded) == manifest["rows"] > 0
    first = loaded[0]
    assert first["images"][0].size == (64, 64)
    assert [message["role"] for message in first["messages"]] == ["user", "assistant"]
    assert first["messages"][0]["content"].startswith("<image>")
    assert first["messages"][1]["content"].endswith("</answer>")
    assert len(set(loaded["id"])) == len(loaded)


@pytest.mark.build
def test_two_releases_of_one_folder_name_are_two_to_load_dataset(
    built: Path, tmp_path: Path
) -> None:
    """`datasets` caches local folders by their last name, which is the version."""
    places = ("--work", tmp_path / "work", "--releases", tmp_path, "--workers", 1)
    omr("build", LOGGED, "--set", "questions=30", *places, OMR_TEST_LOG=tmp_path / "log")
    folders = [built / "releases/logged/1.0.0", tmp_path / "logged/1.0.0"]
    rows = [json.loads((folder / "manifest.json").read_text())["rows"] for folder in folders]
    loaded = [
        datasets.load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))
        for folder in folders
    ]
    assert [len(data) for data in loaded] == rows
    assert rows[0] != rows[1]


@pytest.mark.build
def test_the_manifest_names_every_file_with_its_digest(built: Path) -> None:
    folder = built / "releases/logged/1.0.0"
    manifest = json.loads((folder / "manifest.json").read_text())
    listed = {file["path"]: file["sha256"] for file in manifest["files"]}
    there = {
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    } - {"manifest.json"}
    assert set(listed) == there
    assert len([path for path in listed if path.startswith("data/")]) >= 2
    assert all(
        hashlib.sha256((folder / path).read_bytes()).hexdigest() == digest
        for path, digest in listed.items()
    )


@pytest.mark.build
def test_the_card_can_be_read_by_the_hub_and_shows_the_counts(built: Path) -> None:
    text = (built / "releases/logged/1.0.0/README.md").read_text()
    from huggingface_hub import DatasetCard

    parsed = DatasetCard(text)
    assert parsed.data.license == "cc0-1.0"
    assert parsed.data.configs[0]["data_files"][0]["path"] == "data/train-*.parquet"
    assert "| rollout.Sample | 60 | 0 | 60 |" in text


@pytest.mark.build
def test_a_version_that_was_released_from_another_plan_is_refused_before_anything_runs(
    built: Path,
) -> None:
    places = ("--work", built / "work", "--releases", built / "releases", "--workers", 1)
    before = (built / "log").read_text()
    done = omr(
        "build",
        LOGGED,
        "--set",
        "questions=60",
        "--set",
        "rollouts=6",
        *places,
        code=1,
        OMR_TEST_LOG=built / "log",
    )
    assert "DriftError: logged@1.0.0 was released from" in done.stderr
    assert "rollout.Sample.n: 4 -> 6" in done.stderr
    assert "Bump the version" in done.stderr
    assert (built / "log").read_text() == before


@pytest.mark.build
def test_release_alone_refuses_what_is_not_built_and_releases_what_is(
    built: Path, tmp_path: Path
) -> None:
    done = omr(
        "release",
        LOGGED,
        "--set",
        "questions=30",
        "--work",
        built / "work",
        "--releases",
        tmp_path,
        code=1,
    )
    assert "is not built yet" in done.stderr
    omr(
        "release",
        LOGGED,
        "--set",
        "questions=60",
        "--work",
        built / "work",
        "--releases",
        tmp_path,
        "--workers",
        1,
    )
    assert (tmp_path / "logged/1.0.0/manifest.json").read_bytes() == (
        built / "releases/logged/1.0.0/manifest.json"
    ).read_bytes()


@pytest.mark.build
def test_a_full_disk_loses_nothing_and_the_same_command_goes_on(tmp_path: Path) -> None:
    """The limit on file size stands for a full disk: the system refuses the write there too."""
    places = ("--work", tmp_path / "work", "--releases", tmp_path / "releases", "--workers", "1")

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, 12_000))

    arguments = command("build", LOGGED, "--set", "questions=300", *places)
    full = subprocess.run(
        arguments,
        env=environment(OMR_TEST_LOG=tmp_path / "log"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        preexec_fn=limit,
    )
    assert full.returncode == 1
    assert "StoreError" in full.stderr
    assert "Traceback" not in full.stderr
    assert not list(tmp_path.rglob(".*.tmp"))
    omr("build", LOGGED, "--set", "questions=300", *places, OMR_TEST_LOG=tmp_path / "log")
    assert (tmp_path / "releases/logged/1.0.0/manifest.json").exists()


@pytest.mark.build
def test_fewer_rows_than_promised_are_refused(tmp_path: Path) -> None:
    recipe = tmp_path / "short.py"
    recipe.write_text(
        "from omr_data import Recipe\nfrom omr_data.operators import explode, rollout, verify\n"
        "from omr_data.sources import synthetic\nfrom omr_data.teachers import echo\n"
        "def recipe() -> Recipe:\n"
        "    asked = synthetic.Source(count=90).then(rollout.Sample(echo.Teacher(), n=4))\n"
        "    data = asked.then(verify.Answers(), explode.Right())\n"
        "    return Recipe('short', '1.0.0', data, rows=range(1_000, 2_000))\n"
    )
    done = omr(
        "build",
        recipe,
        "--work",
        tmp_path / "work",
        "--releases",
        tmp_path / "releases",
        "--workers",
        1,
        code=1,
    )
    assert "the recipe promises 1,000 to 1,999" in done.stderr
    assert not (tmp_path / "releases/short").exists() or not list(
        (tmp_path / "releases/short").iterdir()
    )


IMAGE = ImageRef("ab" * 32, 8, 6, "PNG")


def test_a_row_is_the_chat_as_the_teacher_saw_it_with_reasoning_back_in_its_tags() -> None:
    one = record(
        images=(IMAGE,),
        prompt=(Message("system", "Think."), Message("user", "<image>What?")),
        responses=(response("<answer>7</answer>", reasoning="so"),),
    )
    made = row(one, lambda ref: png())
    assert [message["role"] for message in made["messages"]] == ["system", "user", "assistant"]
    assert made["messages"][2]["content"] == "<think>so</think><answer>7</answer>"
    assert made["images"] == [{"bytes": png(), "path": f"{'ab' * 32}.png"}]


def test_a_record_without_a_response_is_a_problem() -> None:
    made = row(record(options=("7", "8")), lambda image: b"")
    assert [message["role"] for message in made["messages"]] == ["user"]
    assert (made["answer"], made["options"], made["question_id"], made["model"]) == (
        "7",
        ["7", "8"],
        "demo/1",
        None,
    )
    assert set(made) == set(release_schema().names)


def test_a_record_with_several_responses_is_no_row() -> None:
    with pytest.raises(ReleaseError, match=r"End the recipe with explode.Right\(\)"):
        row(record(responses=(response(), response(attempt=1))), lambda ref: b"")


def test_row_groups_are_bounded_and_a_repeated_image_is_stored_once(tmp_path: Path) -> None:
    noise = os.urandom(200_000)
    records = [
        record(f"r/{number}", images=(IMAGE,), responses=(response(),))
        for number in range(GROUP_ROWS + 1)
    ]
    write_rows(tmp_path / "file.parquet", records[:300], lambda ref: noise)
    assert (tmp_path / "file.parquet").stat().st_size < 2 * len(noise)
    write_rows(tmp_path / "small.parquet", records, lambda ref: b"x")
    assert pq.read_metadata(tmp_path / "small.parquet").num_row_groups == 2


def test_a_card_with_an_unknown_place_is_refused_and_data_cannot_break_its_tables() -> None:
    manifest = {
        "name": "x", "version": "1.0.0", "rows": 1, "sources": [], "counts": [], "files": [],
        "by_source": [{"source": "a|<b>", "license": "MIT", "rows": 1, "questions": 1}],
    }  # fmt: skip
    with pytest.raises(ReleaseError, match=r"a placeholder \{\{nonsense\}\}, which does not exist"):
        card(manifest, "{{nonsense}}")
    assert "| a\\|&lt;b> | MIT | 1 | 1 |" in card(manifest, "{{sources}}")
