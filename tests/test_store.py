"""Bytes on disk are there whole or not at all, and are checked when they are read."""

import hashlib
import resource
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from omr_data.errors import BadRow, StoreError
from omr_data.records import to_table
from omr_data.store.atomic import atomic_path, write_bytes
from omr_data.store.images import ImageStore
from omr_data.store.replay import export_rollouts, import_rollouts
from omr_data.store.rollouts import RolloutStore
from omr_data.teacher import AttemptStatus, Failure, Request
from tests.builders import png, record, response


def test_a_failed_write_leaves_the_old_file_and_no_temporary_one(tmp_path: Path) -> None:
    target = tmp_path / "shard"
    write_bytes(target, b"old")
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.write_bytes(b"half")
        raise RuntimeError("stopped in the middle")
    assert [path.name for path in tmp_path.iterdir()] == ["shard"]
    assert target.read_bytes() == b"old"


def test_a_full_disk_is_an_error_that_says_what_to_do_and_leaves_nothing(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from omr_data.store.atomic import write_bytes\n"
        "from omr_data.errors import StoreError\n"
        "try: write_bytes(Path(sys.argv[1]), b'x' * 100_000)\n"
        "except StoreError as error: print(error)"
    )

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "shard"],
        preexec_fn=limit,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "cannot be written" in done.stdout
    assert "Free some space" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_an_image_keeps_its_original_bytes(tmp_path: Path) -> None:
    store = ImageStore(tmp_path)
    ref = store.put(png("red"))
    assert (ref.width, ref.height, ref.format) == (8, 6, "PNG")
    assert store.read(ref) == png("red")
    assert store.put(png("red")) == ref


@pytest.mark.parametrize(
    "data", [b"", b"not an image", png()[:-30], png()[:40]], ids=["empty", "text", "cut", "header"]
)
def test_a_broken_image_is_a_bad_row(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(BadRow, match="image broken"):
        ImageStore(tmp_path).put(data)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.build
def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    with pytest.raises(BadRow, match="image too large"):
        ImageStore(tmp_path).put(png(size=(20_000, 6_000)))


def test_a_flipped_byte_in_a_stored_image_is_noticed(tmp_path: Path) -> None:
    store = ImageStore(tmp_path)
    ref = store.put(png())
    store.path(ref).write_bytes(png("blue"))
    with pytest.raises(StoreError, match="no longer holds"):
        store.read(ref)


KEY = "ab" * 32


def ask(*attempts: int) -> Request:
    return Request(KEY, (), (), attempts, identity='{"question":"3+4"}')


def test_rollouts_come_back_in_order_of_attempt(tmp_path: Path) -> None:
    path = tmp_path / "rollouts.sqlite"
    with RolloutStore.write(path) as store:
        store.put(
            [(ask(0, 1), [response("b", 1, key=KEY), response("a", 0, key=KEY, reasoning="hm")])]
        )
    with RolloutStore.read(path) as store:
        assert store.responses([KEY, "cd" * 32]) == {
            KEY: [response("a", 0, key=KEY, reasoning="hm"), response("b", 1, key=KEY)]
        }
        assert store.stats().rollouts == 2


def test_a_paid_answer_is_never_replaced(tmp_path: Path) -> None:
    with RolloutStore.write(tmp_path / "rollouts.sqlite") as store:
        store.put([(ask(0), [response("first", 0)])])
        store.put([(ask(0), [response("second", 0)])])
        assert store.responses([KEY])[KEY][0].text == "first"


def test_what_only_the_store_keeps_of_an_answer_is_exported_and_imported_and_no_part_of_a_record(
    tmp_path: Path,
) -> None:
    import polars as pl

    answer = response(key="0" * 64, seconds=1.5, logprob=-2.25)
    assert to_table([record(responses=(answer,))]) == to_table(
        [record(responses=(replace(answer, seconds=0.0, logprob=None),))]
    )
    identity = '{"asked":1}'
    key = hashlib.sha256(identity.encode()).hexdigest()
    exported, older = tmp_path / "rollouts.parquet", tmp_path / "older.parquet"
    with RolloutStore.write(tmp_path / "one.sqlite") as store:
        store.put(
            [
                (
                    Request(key, (), (), (0, 1), identity),
                    [replace(answer, key=key), response(attempt=1, key=key)],
                )
            ]
        )
        export_rollouts(store, exported)
    with RolloutStore.write(tmp_path / "two.sqlite") as store:
        assert import_rollouts(store, exported) == (2, 2)
        assert [(one.seconds, one.logprob) for one in store.responses([key])[key]] == [
            (1.5, -2.25),
            (0.0, None),
        ]
    pl.read_parquet(exported).drop("logprob").write_parquet(older)
    with RolloutStore.write(tmp_path / "three.sqlite") as store:
        assert import_rollouts(store, older) == (2, 2)
        assert [one.logprob for one in store.responses([key])[key]] == [None, None]


def test_a_failure_is_asked_again_only_if_that_may_help(tmp_path: Path) -> None:
    with RolloutStore.write(tmp_path / "rollouts.sqlite") as store:
        store.put(
            [
                (
                    ask(0, 1),
                    [
                        Failure(0, AttemptStatus.FAILED, "timeout", ""),
                        Failure(1, AttemptStatus.REJECTED, "rejected", "", http_status=400),
                    ],
                )
            ]
        )
        assert store.settled([KEY]) == {KEY: {1}}
        store.put([(ask(0), [response("late", 0)])])
        assert store.settled([KEY]) == {KEY: {0, 1}}
        assert (store.stats().failures, store.stats().rejected) == (0, 1)


def test_a_missing_or_foreign_store_file_is_a_clear_error(tmp_path: Path) -> None:
    with (
        pytest.raises(StoreError, match="the rollout store .* does not exist"),
        RolloutStore.read(tmp_path / "none"),
    ):
        pass
    (tmp_path / "text").write_text("hello, this is no database at all, only some text " * 100)
    with pytest.raises(StoreError, match="not a database"), RolloutStore.write(tmp_path / "text"):
        pass


@pytest.mark.parametrize("tables", [0, 1, 2])
def test_a_store_whose_making_was_cut_short_is_no_store_yet_and_is_made_whole(
    tmp_path: Path, tables: int
) -> None:
    path = tmp_path / "rollouts.sqlite"
    with RolloutStore.write(path):
        pass
    assert RolloutStore.is_there(path)
    with closing(sqlite3.connect(path)) as connection:
        for name in ("failures", "rollouts", "requests")[tables:]:
            connection.execute(f"DROP TABLE {name}")
        connection.execute("PRAGMA user_version = 0")
        connection.commit()
    assert not RolloutStore.is_there(path)
    with (
        pytest.raises(StoreError, match="rollout store .* does not exist"),
        RolloutStore.read(path),
    ):
        pass
    with RolloutStore.write(path) as store:
        assert store.stats().rollouts == 0
    assert RolloutStore.is_there(path)
