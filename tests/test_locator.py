"""What is read of a dataset is what is digested, and nothing else."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from omr_data import Source
from omr_data.errors import SourceError, UnpinnedError
from omr_data.sources import files, imagefolder
from omr_data.sources.locator import LocalDatasets, digest_files, read_pins
from omr_data.store.shards import iter_dropped, read_records
from tests.builders import png
from tests.engine.tiny import run
from tests.omr import ROOT, command, environment
from tests.store.test_integrity import dataset

HERE = LocalDatasets()


def rows(folder: Path, *images: str) -> None:
    lines = [
        json.dumps({"question": f"<image>Which {number}?", "answer": "1", "file_name": image})
        for number, image in enumerate(images)
    ]
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_hidden_files_links_workspaces_and_releases_are_not_found(tmp_path: Path) -> None:
    found = HERE.find_local(dataset(tmp_path), ("**/*.png",))
    assert found.paths == ("a/one.png", "other/x.png", "staying.png")
    shutil.rmtree(tmp_path / "set" / "a")
    (tmp_path / "set" / "staying.png").unlink()
    (tmp_path / "set" / "other" / "x.png").unlink()
    with pytest.raises(SourceError, match="has no file that matches"):
        HERE.find_local(tmp_path / "set", ("**/*.png",))


def test_a_build_in_the_folder_of_its_own_rows_finds_each_row_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text('{"question": "1 + 1?", "answer": "2"}\n' * 3)
    here = files.Source(".", dataset="mine", license="MIT")
    for _ in range(2):
        built = run(here, tmp_path)
        assert sum(len(read_records(shard)) for shard in built.result) == 3


def test_every_image_that_is_read_is_digested(tmp_path: Path) -> None:
    root = tmp_path / "set"
    (root / "sub").mkdir(parents=True)
    for name in ("a.png", "sub/B.PNG", ".hidden.png"):
        (root / name).write_bytes(png())
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "c.png").write_bytes(png())
    (root / "linked").symlink_to(tmp_path / "out")
    rows(root, "a.png", "sub/B.PNG", ".hidden.png", "linked/c.png", "none.png")
    source = imagefolder.Source(root, dataset="set", license="MIT")
    built = run(source, tmp_path)
    assert sum(len(read_records(shard)) for shard in built.result) == 2
    reasons = [row["reason"] for row in iter_dropped(built.folders[0])]
    assert reasons == ["image is not part of the dataset"] * 2 + ["image missing"]
    before = source.resolve(HERE)
    for name in ("a.png", "sub/B.PNG"):
        (root / name).write_bytes(png("blue"))
        after = source.resolve(HERE)
        assert after != before
        before = after
    (tmp_path / "out" / "c.png").write_bytes(png("green"))
    assert source.resolve(HERE) == before


def test_the_digest_covers_names_and_contents(tmp_path: Path) -> None:
    digests = set()
    for name, text in (("a", "x"), ("b", "x"), ("a", "y")):
        folder = tmp_path / f"{name}{text}"
        folder.mkdir()
        (folder / f"{name}.txt").write_text(text)
        digests.add(digest_files(HERE.find_local(folder, ("*.txt",))))
    assert len(digests) == 3


def test_a_damaged_parquet_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "rows.parquet"
    table = pa.table({"question": ["What?"] * 500, "answer": [str(n) for n in range(500)]})
    pq.write_table(table, path, compression="zstd")
    data = bytearray(path.read_bytes())
    data[20:200] = bytes(180)
    path.write_bytes(data)
    with pytest.raises(SourceError, match=r"rows\.parquet"):
        run(files.Source(path, dataset="mine", license="MIT"), tmp_path)
    path.write_bytes(b"PAR1 and nothing else PAR1")
    with pytest.raises(SourceError, match=r"parquet"):
        run(files.Source(path, dataset="mine", license="MIT"), tmp_path)


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("{", SourceError, "is not valid JSON"),
        ("[]", SourceError, "must be one JSON object"),
        ('{"a/b": "main"}', UnpinnedError, "a/b is pinned to 'main', which is not a commit"),
    ],
)
def test_pins_that_pin_nothing_are_refused(
    tmp_path: Path, text: str, error: type[Exception], words: str
) -> None:
    (tmp_path / "pins.json").write_text(text)
    with pytest.raises(error, match=words):
        read_pins(tmp_path / "pins.json")
    assert read_pins(tmp_path / "none.json") == {}


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    source: Source = files.Source(tmp_path / "none" / "x.jsonl", dataset="d", license="MIT")
    with pytest.raises(SourceError, match="none"):
        source.resolve(HERE)


@pytest.mark.build
def test_a_locale_without_utf8_builds_and_releases_the_same(tmp_path: Path) -> None:
    recipe = tmp_path / "plain.py"
    recipe.write_text(
        "from omr_data import Recipe\nfrom omr_data.sources import synthetic\n"
        "# Grüße\ndef recipe() -> Recipe:\n"
        "    return Recipe('plain', '1.0.0', synthetic.Source(count=9))\n",
        encoding="utf-8",
    )
    (tmp_path / "cards").mkdir()
    (tmp_path / "cards/plain.md").write_text("# Grüße 😀\n\n{{sources}}\n", encoding="utf-8")
    places = ("--work", tmp_path / "work", "--releases", tmp_path / "releases", "--workers", 1)
    subprocess.run(
        command("build", recipe, *places),
        env=environment(PYTHONUTF8="0", PYTHONCOERCECLOCALE="0", LC_ALL="C"),
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    card = (tmp_path / "releases/plain/1.0.0/README.md").read_text(encoding="utf-8")
    assert "# Grüße 😀" in card
