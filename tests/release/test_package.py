"""A release is whole, described, made once, and refused when it is not what was promised."""

import json
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet as pq
import pytest

from omr_data import Expand, Flow, Map, Recipe, Record, Source, union
from omr_data.engine.build import Built, build
from omr_data.errors import DriftError, ReleaseError, StoreError
from omr_data.operators import explode, rollout, verify
from omr_data.plan import make_plan
from omr_data.processes import SerialMapper
from omr_data.release import package
from omr_data.release.card import card
from omr_data.release.manifest import manifest_text, read_manifest
from omr_data.release.package import check_drift, release
from omr_data.release.verify import release_problems
from omr_data.sources.locator import LocalDatasets
from omr_data.store.workspace import Workspace
from omr_data.teacher import Budget
from omr_data.teachers import echo
from tests.builders import png
from tests.engine.tiny import Numbers, Odd, Said, Same

GOLDEN = Path(__file__).parents[1] / "golden" / "release"


@dataclass(frozen=True)
class Pictured(Numbers):
    """Numbers with an image each."""

    def convert(self, row: Any, images: Any) -> Record:
        made = super().convert(row, images)
        question = f"<image>{made.question}"
        return replace(made, question=question, images=(images.from_bytes(png("blue")),))


@dataclass(frozen=True)
class Twice(Expand):
    """Two records of each, of one question."""

    def expand(self, record: Record) -> Sequence[Record]:
        return [
            replace(record, id=f"{record.id}#{number}", question_id=record.id)
            for number in range(2)
        ]


def built(
    data: Flow | Source, folder: Path, version: str = "1.0.0", rows: range | None = None
) -> Built:
    plan = make_plan(Recipe("tiny", version, data, rows), LocalDatasets())
    workspace = Workspace(folder / "work")
    with workspace.lock():
        return build(plan, workspace, LocalDatasets(), SerialMapper(), 1, Said(), Budget())


def released(
    data: Flow | Source, folder: Path, releases: Path | None = None, **recipe: Any
) -> Path:
    made = built(data, folder, **recipe)
    return release(
        made,
        Workspace(folder / "work"),
        releases or folder / "releases",
        None,
        SerialMapper(),
        Said(),
    )


MIXED = union(
    Pictured(4, "first").then(Odd(), Twice()),
    Numbers(3, "second", bad=2, license="Apache-2.0").then(Same()),
)


def stable(text: str) -> str:
    """The text without what depends on the version of this package and of pyarrow."""
    text = re.sub(r'"(sha256|size)": ("\w+"|\d+)', r'"\1": "..."', text)
    text = re.sub(r"data sha256 \w+", "data sha256 ...", text)
    # Digests of code are tested beside it, and these classes may move with the tests.
    text = re.sub(r'"(code|fingerprint)": "\w+"', r'"\1": "..."', text)
    return re.sub(r'"made_by": "omr-data [\w.]+"', '"made_by": "omr-data ..."', text)


@pytest.mark.parametrize("name", ["manifest.json", "README.md", "rows.json"])
def test_a_release_is_its_golden_one(tmp_path: Path, name: str) -> None:
    """To accept a change, delete the golden file and run this test twice."""
    folder = released(MIXED, tmp_path)
    if name == "rows.json":
        rows: list[Any] = []
        for path in sorted((folder / "data").iterdir()):
            rows += pq.read_table(path).to_pylist()
        text = json.dumps(rows, indent=1, default=lambda data: f"<{len(data)} bytes>") + "\n"
    else:
        text = stable((folder / name).read_text(encoding="utf-8"))
    golden = GOLDEN / name
    if not golden.exists():
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(text, encoding="utf-8")
        pytest.fail(f"{golden} was missing and is written now: read it, and commit it")
    assert text == golden.read_text(encoding="utf-8")


def test_the_rows_of_a_release_are_the_rows_of_its_shards_in_order(tmp_path: Path) -> None:
    folder = released(Numbers(9), tmp_path)
    files = sorted((folder / "data").iterdir())
    ids = [pq.read_table(path)["id"].to_pylist() for path in files]
    assert ids == [[f"numbers/{n}" for n in range(4)], [f"numbers/{n}" for n in range(4, 9)]]
    assert [line["rows"] for line in read_manifest(folder)["files"][1:]] == [4, 5]


def test_a_large_release_has_more_files_that_hold_each_row_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(package, "SHARD_BYTES", 200)
    folder = released(Numbers(9), tmp_path)
    files = sorted((folder / "data").iterdir())
    assert len(files) > 4
    ids: list[str] = []
    for path in files:
        ids += pq.read_table(path)["id"].to_pylist()
    assert ids == [f"numbers/{n}" for n in range(9)]


@dataclass(frozen=True)
class Put(Map):
    """Puts records into splits: those whose answer is even into the one that is named."""

    split: str = "validation"

    def apply(self, record: Record) -> Record:
        return record if int(record.answer) % 2 else replace(record, split=self.split)


def test_each_split_of_the_records_is_a_split_of_the_release(tmp_path: Path) -> None:
    """Records without a split are for training, so a release without splits is one of `train`."""
    folder = released(Numbers(9).then(Put()), tmp_path)
    loaded = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert {name: loaded[name]["id"][:] for name in loaded} == {
        "train": [f"numbers/{n}" for n in range(0, 9, 2)],
        "validation": [f"numbers/{n}" for n in range(1, 9, 2)],
    }
    assert release_problems(folder) == []
    rows = {line["path"]: line["rows"] for line in read_manifest(folder)["files"][1:]}
    assert rows == {
        "data/train-00000-of-00002.parquet": 2,
        "data/train-00001-of-00002.parquet": 3,
        "data/validation-00000-of-00002.parquet": 2,
        "data/validation-00001-of-00002.parquet": 2,
    }


@pytest.mark.parametrize("name", ["../../out", "a-b", "a b", "größe"])
def test_a_split_that_cannot_be_the_name_of_files_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ReleaseError, match=r'letters, digits and "_" alone'):
        released(Numbers(9).then(Put(name)), tmp_path)
    assert not (tmp_path / "releases").exists()


def test_an_exploded_record_keeps_its_question(tmp_path: Path) -> None:
    asked = Numbers(40).then(rollout.Sample(echo.Teacher(), n=8), verify.Answers(), explode.Right())
    folder = released(asked, tmp_path)
    rows = [
        row
        for path in sorted((folder / "data").iterdir())
        for row in pq.read_table(path).to_pylist()
    ]
    assert rows
    for row in rows:
        question, _, _ = row["id"].partition("#")
        assert row["question_id"] == question
    questions = len({row["question_id"] for row in rows})
    assert read_manifest(folder)["by_source"][0]["questions"] == questions < len(rows)


def test_a_second_release_of_one_plan_does_nothing(tmp_path: Path) -> None:
    folder = released(Numbers(5), tmp_path)
    before = (folder / "manifest.json").stat()
    assert released(Numbers(5), tmp_path) == folder
    assert (folder / "manifest.json").stat() == before


def test_another_plan_under_one_version_is_refused_with_the_difference(tmp_path: Path) -> None:
    released(Numbers(5), tmp_path)
    with pytest.raises(DriftError, match=r"differs at Numbers\.count: 5 -> 6\. Bump the version"):
        released(Numbers(6), tmp_path)
    many = union(Numbers(6, "a"), Numbers(7, "b")).then(Same())
    with pytest.raises(DriftError, match=r"\(and \d+ more\)"):
        released(many, tmp_path)
    assert not check_drift(built(Numbers(6), tmp_path, "1.0.1").plan, tmp_path / "releases")


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGES = {
    "a flipped bit in the data": lambda folder: flip(next((folder / "data").iterdir())),
    "a flipped bit in the card": lambda folder: flip(folder / "README.md"),
    "a data file that is gone": lambda folder: next((folder / "data").iterdir()).unlink(),
    "a data file that is cut": lambda folder: (folder / "README.md").write_text("short"),
    "a file that nobody listed": lambda folder: (folder / "data/x.parquet").write_text("x"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_release_is_not_called_released(tmp_path: Path, damage: Any) -> None:
    folder = released(Numbers(5), tmp_path)
    assert release_problems(folder) == []
    damage(folder)
    assert len(release_problems(folder)) == 1
    with pytest.raises(ReleaseError, match="is damaged:\n  - .*\nDelete that folder and run"):
        released(Numbers(5), tmp_path)


def test_no_flipped_bit_of_a_manifest_passes(tmp_path: Path) -> None:
    folder = released(Numbers(2), tmp_path)
    path = folder / "manifest.json"
    data = path.read_bytes()
    for bit in range(0, 8 * len(data), 97):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        assert release_problems(folder), bit


def test_hidden_files_that_clients_leave_are_no_part_of_a_release(tmp_path: Path) -> None:
    folder = released(Numbers(2), tmp_path)
    (folder / ".cache").mkdir()
    (folder / ".cache" / "x.lock").write_text("")
    assert release_problems(folder) == []


@pytest.mark.parametrize("path", ["../../secret", "/etc/passwd"])
def test_a_manifest_that_lists_files_outside_is_refused(tmp_path: Path, path: str) -> None:
    folder = released(Numbers(2), tmp_path)
    manifest = read_manifest(folder)
    manifest["files"][0]["path"] = path
    (folder / "manifest.json").write_text(manifest_text(manifest), encoding="utf-8")
    assert "outside the release" in release_problems(folder)[0]


def test_a_release_of_another_format_is_refused_with_what_made_it(tmp_path: Path) -> None:
    folder = released(Numbers(2), tmp_path)
    manifest = read_manifest(folder) | {"format": 1, "made_by": "omr-data 0.0.1"}
    (folder / "manifest.json").write_text(manifest_text(manifest), encoding="utf-8")
    with pytest.raises(StoreError, match=r"has format 1 \(omr-data 0.0.1 made it\)"):
        released(Numbers(2), tmp_path)


def test_two_workspaces_that_release_one_version_at_once_leave_one_whole_release(
    tmp_path: Path,
) -> None:
    makers = [built(Numbers(9), tmp_path / name) for name in ("one", "two", "three")]
    errors: list[BaseException] = []

    def make(made: Built, name: str) -> None:
        workspace = Workspace(tmp_path / name / "work")
        try:
            release(made, workspace, tmp_path / "shared", None, SerialMapper(), Said())
        except BaseException as error:
            errors.append(error)

    names = ("one", "two", "three")
    threads = [threading.Thread(target=make, args=pair) for pair in zip(makers, names, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert release_problems(tmp_path / "shared/tiny/1.0.0") == []
    assert [path.name for path in (tmp_path / "shared/tiny").iterdir()] == ["1.0.0"]


def test_a_release_that_another_workspace_made_meanwhile_is_checked_for_drift(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = built(Numbers(5), tmp_path)
    other = tmp_path / "other"
    contents = package.read_contents

    def slow(built: Built) -> Any:
        monkeypatch.setattr(package, "read_contents", contents)
        released(Numbers(6), other, tmp_path / "releases")
        return contents(built)

    monkeypatch.setattr(package, "read_contents", slow)
    with pytest.raises(DriftError, match="Numbers.count: 6 -> 5"):
        release(
            made, Workspace(tmp_path / "work"), tmp_path / "releases", None, SerialMapper(), Said()
        )


def test_twin_ids_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="the id 'numbers/0' is there twice"):
        released(union(Numbers(2), Numbers(3)), tmp_path)
    assert not (tmp_path / "releases").exists()


@pytest.mark.parametrize(
    ("rows", "words"),
    [(range(6, 9), "has 5 rows, and the recipe promises 6 to 8"), (range(1, 5), "promises 1 to 4")],
)
def test_another_number_of_rows_than_promised_is_refused(
    tmp_path: Path, rows: range, words: str
) -> None:
    with pytest.raises(ReleaseError, match=words):
        released(Numbers(5), tmp_path, rows=rows)
    assert released(Numbers(5), tmp_path, rows=range(5, 6)).exists()


def test_nothing_is_no_release(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="has no rows to release"):
        released(Numbers(4, bad=1), tmp_path)


def test_a_full_disk_is_a_release_error_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(task: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(package, "write_file", full)
    with pytest.raises(ReleaseError, match="cannot be written: No space left.*--releases"):
        released(Numbers(4), tmp_path)
    assert list((tmp_path / "releases/tiny").iterdir()) == []


def manifest(*licenses: str, rows: int = 1, **fields: Any) -> dict[str, Any]:
    """A manifest with one source of each license."""
    by_source = [
        {"source": f"s{number}", "license": license, "rows": 1, "questions": 1}
        for number, license in enumerate(licenses)
    ]
    return {
        "name": "x",
        "version": "1.0.0",
        "rows": rows,
        "sources": [],
        "counts": [],
        "files": [],
        "by_source": by_source,
    } | fields


def test_a_set_of_one_license_has_it_and_a_mixed_one_says_that_rows_have_theirs() -> None:
    one = card(manifest("MIT", "MIT"), "")
    assert "license: mit\n" in one
    assert "license_name" not in one
    for licenses in (("MIT", "Apache-2.0"), ("Apache-2.0", "MIT")):
        mixed = card(manifest(*licenses), "")
        assert "license: other\nlicense_name: per-row\nlicense_link: README.md\n" in mixed


@pytest.mark.parametrize(
    ("rows", "category"),
    [
        (1, "n<1K"),
        (999, "n<1K"),
        (1_000, "1K<n<10K"),
        (99_999, "10K<n<100K"),
        (100_000, "100K<n<1M"),
        (9_999_999, "1M<n<10M"),
        (10_000_000, "10M<n<100M"),
    ],
)
def test_the_size_category_is_the_hubs(rows: int, category: str) -> None:
    assert f"size_categories:\n- {category}\n" in card(manifest("MIT", rows=rows), "")


def test_cells_of_a_table_cannot_end_it() -> None:
    counts = [{"step": "a|b", "dropped": {"<b>&\nx": 2}, "rows_in": 3, "rows_out": 1, "tally": {}}]
    text = card(manifest("MIT", counts=counts), "{{dropped}}\n{{steps}}")
    assert "| a\\|b | &lt;b>&amp; x | 2 |" in text
    assert "| a\\|b | 3 | 2 | 1 |  |" in text
    assert "Nothing was dropped." in card(manifest("MIT"), "{{dropped}}")


def test_two_releases_of_other_data_have_other_descriptions() -> None:
    one, other = (
        card(manifest("MIT", files=[{"sha256": digest * 64}]), "") for digest in ("a", "b")
    )
    assert one != other
