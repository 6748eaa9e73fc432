"""Stored bytes are checked when they are read, and say what to do when they were changed."""

import io
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from omr_data.errors import BadRow, StoreError
from omr_data.records import Response
from omr_data.store import atomic
from omr_data.store.atomic import new_folder, replaced_folder
from omr_data.store.check import workspace_problems
from omr_data.store.datafiles import why_not_data
from omr_data.store.images import ImageStore, RowImages, inspect_image
from omr_data.store.ledger import (
    Count,
    ShardEntry,
    count_from_json,
    read_entry,
    read_json,
    read_sealed,
    sum_counts,
    write_entry,
    write_sealed,
)
from omr_data.store.rollout_rows import RowCodec, renew_identity
from omr_data.store.shards import (
    Dropped,
    StageFolder,
    check_shard,
    file_sha256,
    iter_dropped,
    read_records,
    read_shard,
    write_parquet,
)
from omr_data.store.workspace import Workspace, check_format, sweep
from omr_data.teacher import JSON_FIELDS, AttemptStatus, Failure
from tests.builders import png, record
from tests.engine.tiny import DropLast, Numbers, Odd, run

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@settings(max_examples=20)
@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), json_values))
def test_a_sealed_object_comes_back(tmp_path_factory: pytest.TempPathFactory, body: dict) -> None:  # type: ignore[type-arg]
    path = tmp_path_factory.mktemp("sealed") / "x.json"
    write_sealed(path, body)
    assert read_sealed(path) == body


def test_no_flipped_bit_of_a_sealed_object_is_read_as_another_object(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    body = {"rows": 12, "name": "ä", "counts": [{"dropped": {"short": 3}}]}
    write_sealed(path, body)
    data = path.read_bytes()
    for bit in range(0, 8 * len(data), 5):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        try:
            assert read_sealed(path) == body, bit
        except StoreError as error:
            assert "build again" in str(error)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"a": 1}', '{"seal": "x", "body": 3}', "[" * 99_999]
)
def test_a_file_that_is_no_sealed_object_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(StoreError, match=r"x\.json .*Delete the folder .* and build again"):
        read_sealed(tmp_path / "x.json")
    with pytest.raises(StoreError, match="cannot be read"):
        read_json(tmp_path / "none.json")


def count(**fields: object) -> Count:
    return Count(**{"step": "Odd", "fingerprint": "f" * 64} | fields)  # type: ignore[arg-type]


def test_counts_are_summed_step_by_step_and_survive_json() -> None:
    one = count(rows_in=3, rows_out=4, rows_kept=2)
    one.dropped.update(short=1)
    one.tally.update(seen=4)
    total = sum_counts([[one, count(fingerprint="0" * 64)], [one]])
    assert [each.fingerprint[0] for each in total] == ["f", "0"]
    assert (total[0].rows_in, total[0].rows_out, total[0].rows_kept) == (6, 8, 4)
    assert (total[0].dropped, total[0].tally) == ({"short": 2}, {"seen": 8})
    assert count_from_json(json.loads(json.dumps(one.to_json()))) == one


def test_an_entry_whose_rows_do_not_add_up_is_not_written(tmp_path: Path) -> None:
    wrong = ShardEntry(0, 1, 0, (count(rows_in=3, rows_kept=1),), "0" * 64)
    with pytest.raises(StoreError, match="took 3 rows, kept 1 and dropped 0"):
        write_entry(tmp_path / "ledger-00000.json", wrong)
    assert list(tmp_path.iterdir()) == []


def test_an_entry_comes_back_as_it_was(tmp_path: Path) -> None:
    entry = ShardEntry(7, 1, 2, (count(rows_in=1, rows_kept=1),), "a" * 64, "b" * 64)
    write_entry(tmp_path / "x.json", entry)
    assert read_entry(tmp_path / "x.json") == entry


def stage(folder: Path) -> StageFolder:
    """A finished stage of one shard."""
    made = StageFolder(folder / "stages" / "Odd-0123456789abcdef")
    made.commit(0, [record("r/1"), record("r/2")], [], [count(rows_in=2, rows_kept=2, rows_out=2)])
    made.finish(1, "Odd")
    return made


def test_a_shard_comes_back_as_it_was(tmp_path: Path) -> None:
    folder = stage(tmp_path)
    assert folder.done()
    assert folder.has_shard(0)
    assert not folder.has_shard(1)
    assert read_records(folder.shard(0)) == [record("r/1"), record("r/2")]
    check_shard(folder.shard(0))
    assert folder.summary()["rows"] == 2
    assert [each.rows_in for each in folder.counts()] == [2]


def test_no_flipped_bit_of_a_shard_is_read(tmp_path: Path) -> None:
    folder = stage(tmp_path)
    path = folder.shard(0)
    data = path.read_bytes()
    for bit in range(0, 8 * len(data), 997):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        for read in (read_shard, check_shard):
            with pytest.raises(StoreError, match="was changed after it was written"):
                read(path)


def test_a_shard_without_its_entry_is_not_read(tmp_path: Path) -> None:
    folder = stage(tmp_path)
    folder.entry(0).unlink()
    with pytest.raises(StoreError, match=r"ledger-00000\.json cannot be read"):
        read_shard(folder.shard(0))


def test_a_shard_of_other_columns_is_refused_with_their_names(tmp_path: Path) -> None:
    import pyarrow as pa

    folder = stage(tmp_path)
    sha256 = write_parquet(folder.shard(0), pa.table({"id": ["a"]}))
    entry = read_entry(folder.entry(0))
    write_entry(folder.entry(0), ShardEntry(0, 1, 0, entry.counts, sha256))
    with pytest.raises(StoreError, match="lacks the columns .*license"):
        read_shard(folder.shard(0))


def test_a_file_with_a_right_digest_that_is_no_parquet_is_a_clear_error(tmp_path: Path) -> None:
    import hashlib

    folder = stage(tmp_path)
    folder.shard(0).write_bytes(b"not parquet")
    entry = ShardEntry(0, 1, 0, (), hashlib.sha256(b"not parquet").hexdigest())
    write_entry(folder.entry(0), entry)
    with pytest.raises(StoreError, match="cannot be read"):
        read_shard(folder.shard(0))


@pytest.mark.parametrize("change", [b"", b"longer than before"], ids=["gone", "other size"])
def test_a_stage_is_not_done_when_a_shard_is_gone_or_of_another_size(
    tmp_path: Path, change: bytes
) -> None:
    folder = stage(tmp_path)
    path = folder.shard(0)
    if change:
        path.write_bytes(path.read_bytes() + change)
    else:
        path.unlink()
    with pytest.raises(StoreError, match="Delete the folder .* rollouts are kept"):
        folder.done()


def test_a_stage_without_a_summary_is_not_done(tmp_path: Path) -> None:
    folder = stage(tmp_path)
    (folder.path / "stage.json").unlink()
    assert not folder.done()
    with pytest.raises(StoreError, match=r"ledger-00001\.json cannot be read"):
        folder.finish(2, "Odd")


def workspace(folder: Path) -> Workspace:
    """A workspace with every kind of file."""
    run(Numbers(5).then(Odd(), DropLast((Numbers(3),)), Odd()), folder)
    made = Workspace(folder / "work")
    made.images.put(png())
    return made


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


FILES = (
    "shard-00000.parquet",
    "dropped-00000.parquet",
    "ledger-00000.json",
    "keys-0-00000.parquet",
    "keys-1-00001.json",
    "table-ids.parquet",
    "stage.json",
    "images/*/*",
)


@pytest.mark.parametrize("name", FILES)
def test_omr_check_names_each_kind_of_damaged_file(tmp_path: Path, name: str) -> None:
    made = workspace(tmp_path)
    assert list(workspace_problems(made)) == []
    path = next(path for path in made.root.rglob("*") if path.is_file() and path.match(name))
    flip(path)
    problems = list(workspace_problems(made))
    assert problems
    assert all(str(path.parent) in problem for problem in problems)


@pytest.mark.parametrize("name", ["ledger-00000.json", "table-ids.parquet", "shard-00000.parquet"])
def test_omr_check_notices_what_is_gone(tmp_path: Path, name: str) -> None:
    made = workspace(tmp_path)
    next(made.root.rglob(name)).unlink()
    assert list(workspace_problems(made))


def test_omr_check_refuses_what_is_no_workspace(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="the workspace .* does not exist"):
        list(workspace_problems(Workspace(tmp_path / "none")))


def test_a_rollout_store_that_is_none_is_a_problem(tmp_path: Path) -> None:
    made = workspace(tmp_path)
    made.rollouts.write_bytes(b"")
    assert "not a rollout store" in "".join(workspace_problems(made))
    made.rollouts.write_bytes(b"no database at all, only text" * 500)
    assert "rollout" in "".join(workspace_problems(made))


def test_a_workspace_says_what_made_it_and_another_format_is_refused(tmp_path: Path) -> None:
    made = Workspace(tmp_path)
    made.check_format()
    with made.lock():
        pass
    marker = json.loads((tmp_path / "workspace.json").read_text())
    assert marker["format"] == 2
    assert marker["made_by"].startswith("omr-data ")
    made.check_format()
    with pytest.raises(StoreError, match=r"the thing has format 9 \(omr-data 7 made it\).*Do this"):
        check_format({"format": 9, "made_by": "omr-data 7"}, 2, "the thing", "Do this.")


def test_only_one_holds_a_workspace_and_a_killed_one_is_swept(tmp_path: Path) -> None:
    made = Workspace(tmp_path)
    with made.lock():
        (tmp_path / ".half.1.tmp").write_text("half")
        with pytest.raises(StoreError, match="another build is running"), made.lock():
            pass
    assert (tmp_path / ".half.1.tmp").exists()
    (tmp_path / "lock").write_text("running")
    with made.lock():
        assert not (tmp_path / ".half.1.tmp").exists()
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(StoreError, match="Choose another folder with --work"),
        Workspace(tmp_path / "file" / "below").lock(),
    ):
        pass


def test_sweeping_leaves_folders_and_other_files(tmp_path: Path) -> None:
    (tmp_path / ".x.tmp").mkdir()
    (tmp_path / ".x.tmp" / ".y.tmp").write_text("")
    (tmp_path / "z.tmp").write_text("")
    sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == [".x.tmp", "z.tmp"]


def test_a_new_folder_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a" / "1.0.0"
    with pytest.raises(RuntimeError), new_folder(path) as temporary:
        (temporary / "file").write_text("half")
        raise RuntimeError
    assert list((tmp_path / "a").iterdir()) == []
    with new_folder(path) as temporary:
        assert temporary.parent == path.parent
        (temporary / "file").write_text("whole")
        assert not path.exists()
    assert (path / "file").read_text() == "whole"
    assert path.stat().st_mode & 0o777 == 0o755
    assert [each.name for each in path.parent.iterdir()] == ["1.0.0"]


def test_of_two_who_make_one_folder_the_first_wins_and_neither_deletes_the_other(
    tmp_path: Path,
) -> None:
    path = tmp_path / "1.0.0"
    with pytest.raises(FileExistsError), new_folder(path) as slow:
        (slow / "file").write_text("slow")
        with new_folder(path) as fast:
            (fast / "file").write_text("fast")
        assert (slow / "file").exists()
    assert (path / "file").read_text() == "fast"
    assert [each.name for each in tmp_path.iterdir()] == ["1.0.0"]


def test_what_a_killed_process_left_is_deleted_and_what_a_live_one_writes_is_not(
    tmp_path: Path,
) -> None:
    (tmp_path / ".1.0.0.killed.tmp").mkdir()
    with new_folder(tmp_path / "1.0.0") as live:
        assert not (tmp_path / ".1.0.0.killed.tmp").exists()
        (live / "file").write_text("")
        with new_folder(tmp_path / "1.0.0"):
            assert live.exists()
            (tmp_path / "1.0.0").mkdir()  # an empty folder is no release, and may be replaced
        (tmp_path / "1.0.0").rmdir()


def test_a_replaced_folder_keeps_the_old_one_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "export"
    for text in ("one", "two"):
        with replaced_folder(path) as temporary:
            (temporary / "file").write_text(text)
            assert not path.exists() or (path / "file").read_text() == "one"
        assert (path / "file").read_text() == text
    with pytest.raises(RuntimeError), replaced_folder(path):
        raise RuntimeError
    assert [each.name for each in tmp_path.iterdir()] == ["export"]
    assert (path / "file").read_text() == "two"


def test_every_file_and_folder_is_flushed_before_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[Path] = []
    monkeypatch.setattr(atomic, "_fsync", lambda path, flags: flushed.append(path))
    with new_folder(tmp_path / "x") as temporary:
        (temporary / "data").mkdir()
        (temporary / "data" / "file").write_text("")
    inside = [path.relative_to(temporary).as_posix() for path in flushed[:-1]]
    assert sorted(inside) == [".", "data", "data/file"]
    assert flushed[-1] == tmp_path


def dataset(folder: Path) -> Path:
    """A dataset with everything in it that is not data."""
    root = folder / "set"
    for name in (
        "a/one.png",
        ".omr/images/x.png",
        "a/.hidden.png",
        "ws/x.png",
        "old/x.png",
        "releases/set/1.0.0/x.png",
        "other/x.png",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(png())
    (root / "ws/workspace.json").write_text("{}")
    (root / "old/rollouts.sqlite").write_text("")
    (root / "releases/set/1.0.0/manifest.json").write_text('{"plan": {}, "files": []}')
    (root / "other/manifest.json").write_text('{"name": "an app of the web"}')
    (folder / "outside.png").write_bytes(png("blue"))
    (root / "leaving.png").symlink_to(folder / "outside.png")
    (root / "staying.png").symlink_to(root / "a/one.png")
    (root / "linked").symlink_to(root / "a")
    return root


NOT_DATA = {
    ".omr/images/x.png": "hidden folder",
    "a/.hidden.png": "hidden",
    "ws/x.png": "workspace or a release",
    "old/x.png": "workspace or a release",
    "releases/set/1.0.0/x.png": "workspace or a release",
    "leaving.png": "leaves the dataset",
    "linked/one.png": "a link to another folder",
}


@pytest.mark.parametrize(("path", "words"), NOT_DATA.items(), ids=NOT_DATA)
def test_what_is_not_data_is_neither_digested_nor_read(
    tmp_path: Path, path: str, words: str
) -> None:
    root = dataset(tmp_path)
    assert words in str(why_not_data(root, path))
    with pytest.raises(BadRow, match=f"not part of the dataset: .*{words}"):
        RowImages(root, ImageStore(tmp_path / "images")).from_file(path)


@pytest.mark.parametrize("path", ["a/one.png", "staying.png", "other/x.png"])
def test_what_is_data_is_read(tmp_path: Path, path: str) -> None:
    root = dataset(tmp_path)
    assert why_not_data(root, path) is None
    images = RowImages(root, ImageStore(tmp_path / "images"))
    assert images.from_file(path).width == 8
    listed = RowImages(root, ImageStore(tmp_path / "images"), frozenset(["b.png"]))
    with pytest.raises(BadRow, match="outside the files that the source lists"):
        listed.from_file(path)


def test_the_files_of_the_hubs_cache_are_data_although_they_are_links(tmp_path: Path) -> None:
    root = tmp_path / "cache" / "snapshots" / "0123"
    root.mkdir(parents=True)
    (tmp_path / "cache/blobs").mkdir()
    (tmp_path / "cache/blobs/abc").write_bytes(png())
    (root / "x.png").symlink_to(tmp_path / "cache/blobs/abc")
    assert why_not_data(root, "x.png") is None


ESCAPES = ["../secret.png", "/etc/passwd", "a\\b.png", "a\0.png", "none.png", "a\ud83d.png", "a"]


@pytest.mark.parametrize("path", ESCAPES, ids=map(ascii, ESCAPES))
def test_a_hostile_or_missing_path_is_a_bad_row(tmp_path: Path, path: str) -> None:
    with pytest.raises(BadRow, match="leaves the dataset|image missing"):
        RowImages(dataset(tmp_path), ImageStore(tmp_path / "images")).from_file(path)


def test_temporary_images_are_not_checked_and_stored_ones_are(tmp_path: Path) -> None:
    store = ImageStore(tmp_path)
    ref = store.put(png())
    # What a killed build left: its name is not a digest, and the next build deletes it.
    (store.path(ref).parent / ".half.tmp").write_bytes(b"half")
    assert list(store.check()) == []
    store.path(ref).write_bytes(b"other")
    assert len(list(store.check())) == 1


def test_an_image_of_a_format_that_is_not_listed_is_refused() -> None:
    with pytest.raises(BadRow, match="image broken"):
        inspect_image(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EOF\n")
    stream = io.BytesIO()
    # PPM is read by Pillow, and is not among our formats.
    Image.new("RGB", (4, 4)).save(stream, "PPM")
    with pytest.raises(BadRow, match="image broken"):
        inspect_image(stream.getvalue())


def test_dropped_rows_come_back_in_order_with_step_and_reason(tmp_path: Path) -> None:
    folder = StageFolder(tmp_path / "stage")
    for number, names in enumerate((["b", "a"], [], ["c"])):
        drops = [Dropped(record(name), "Step", "short", f"{name} is short") for name in names]
        count = Count("Step", "f" * 64, 1 + len(names), 1, 1, Counter({"short": len(names)}))
        folder.commit(number, [record(f"kept/{number}")], drops, [count])
    folder.finish(3, "Step")
    found = [(row["id"], row["step"], row["reason"], row["detail"]) for row in iter_dropped(folder)]
    assert found == [(name, "Step", "short", f"{name} is short") for name in ("b", "a", "c")]


def test_advice_about_a_changed_file_names_its_folder(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as error:
        file_sha256(tmp_path / "gone.parquet")
    assert str(error.value).endswith(
        f"Delete the folder {tmp_path} and build again; rollouts are kept."
    )


def test_a_new_folder_makes_the_folders_above_it(tmp_path: Path) -> None:
    with new_folder(tmp_path / "a" / "b" / "c") as folder:
        (folder / "file").write_text("x")
    assert (tmp_path / "a/b/c/file").read_text() == "x"


def test_rows_of_the_rollout_store_keep_every_value(tmp_path: Path) -> None:
    codec = RowCodec(tmp_path)
    answer = Response(
        text="7",
        attempt=3,
        model="m",
        finish_reason="stop",
        reasoning="so",
        prompt_tokens=11,
        completion_tokens=13,
        key="ab" * 32,
        seconds=1.5,
        logprob=-0.25,
    )
    assert codec.response(codec.rollout_row(bytes.fromhex(answer.key), answer, 1.0)) == answer
    failed = Failure(4, AttemptStatus.REFUSED, "content filter", "no", 400, 5)
    row = codec.failure_row(bytes.fromhex(answer.key), failed, 1.0)
    assert codec.failure(row) == (answer.key, failed)


def test_an_old_identity_is_written_as_todays(tmp_path: Path) -> None:
    old = {
        "messages": [{"fields": {"none": None, "kept": 1}}],
        "teacher": {"fields": {"temperature": None, "top_p": None, "extra": '{"b": 1.0, "a": 2}'}},
    }
    assert json.loads(renew_identity(json.dumps(old))) == {
        "messages": [{"fields": {"kept": 1}}],
        "teacher": {"fields": {"temperature": None, "extra": '{"b": 1.0, "a": 2}'}},
    }
    name = sorted(JSON_FIELDS)[0]
    assert json.loads(renew_identity(json.dumps({name: '{"b": 1.0, "a": 0.5}'}))) == {
        name: '{"a":0.5,"b":1}'
    }
