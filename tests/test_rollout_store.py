"""The store of paid answers notices damage, keeps its format, and takes over older stores."""

import hashlib
import json
import random
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import zstandard

from omr_data.errors import OmrError, StoreError
from omr_data.identity import to_json
from omr_data.operators.rollout import Sample
from omr_data.records import Response
from omr_data.store.replay import export_rollouts, import_rollouts
from omr_data.store.rollout_rows import FORMAT, renew_identity
from omr_data.store.rollouts import RolloutStore
from omr_data.teacher import AttemptStatus, Failure, Request
from omr_data.teachers.openai_api import Teacher
from tests.builders import record

FLIPS = 100


def requests(count: int) -> list[Request]:
    teacher = Teacher("tiny")
    records = [record(id=f"q/{one}", question=f"What is {one} + 1?") for one in range(count)]
    return [request for one in records for request in Sample(teacher, n=3).requests(one)]


def fill(path: Path, count: int = 40) -> list[Request]:
    """A store with two answers and one rejected attempt for each request."""
    asked = requests(count)
    with RolloutStore.write(path) as store:
        for number, request in enumerate(asked):
            answers = [
                Response(f"<answer>{number}</answer> " * 20, attempt, "tiny", key=request.key)
                for attempt in (0, 1)
            ]
            failed = Failure(2, AttemptStatus.REJECTED, "rejected", "too long", 400)
            store.put([(request, [*answers, failed])])
        store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return asked


def everything(path: Path, asked: list[Request]) -> tuple[Any, ...]:
    """All that a build reads of a store."""
    keys = [request.key for request in asked]
    with RolloutStore.read(path) as store:
        return store.responses(keys), store.unanswered(keys), store.settled(keys)


@pytest.mark.build
def test_a_bit_that_flips_in_a_store_is_noticed_or_changes_nothing_that_is_read(
    tmp_path: Path,
) -> None:
    whole = tmp_path / "rollouts.sqlite"
    asked = fill(whole)
    right = everything(whole, asked)
    data, chance = whole.read_bytes(), random.Random(0)
    noticed = harmless = 0
    for _ in range(FLIPS):
        flipped = bytearray(data)
        place = chance.randrange(len(data))
        flipped[place] ^= 1 << chance.randrange(8)
        damaged = tmp_path / "damaged.sqlite"
        damaged.write_bytes(flipped)
        try:
            found = everything(damaged, asked)
        except OmrError:
            noticed += 1
            continue
        # What is gone is asked for again. What is there must be what was stored.
        for part, truth in zip(found[:2], right[:2], strict=True):
            for key, value in part.items():
                assert value == truth[key] or set(map(str, value)) <= set(map(str, truth[key]))
        harmless += 1
    assert noticed + harmless == FLIPS
    # Most of the file is free space and text that another flip would have hit.
    assert noticed > FLIPS // 10


def test_a_check_of_the_store_names_each_damaged_row(tmp_path: Path) -> None:
    path = tmp_path / "rollouts.sqlite"
    fill(path, 3)
    with RolloutStore.read(path) as store:
        assert not list(store.check())
    with sqlite3.connect(path) as database:
        database.execute("UPDATE rollouts SET finish_reason = 'length' WHERE attempt = 1")
        database.execute("UPDATE failures SET attempt = 7")
    with RolloutStore.read(path) as store:
        lines = list(store.check())
    assert sum("attempt 1 of the key" in line for line in lines) == 3
    assert sum("attempt 7 of the key" in line for line in lines) == 3


def test_a_store_of_another_format_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "rollouts.sqlite"
    fill(path, 1)
    with sqlite3.connect(path) as database:
        database.execute(f"PRAGMA user_version = {FORMAT + 1}")
    for use in (RolloutStore.read, RolloutStore.write):
        with pytest.raises(StoreError, match="has format 3.*omr rollouts export"), use(path):
            pass


# ------------------------------------------------------------------------- format 1 and exports

OLD = """
CREATE TABLE requests (key BLOB PRIMARY KEY, identity BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE rollouts (
    key BLOB NOT NULL, attempt INTEGER NOT NULL, model TEXT NOT NULL,
    finish_reason TEXT NOT NULL, prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL, seconds REAL NOT NULL, stored_at REAL NOT NULL,
    body BLOB NOT NULL, PRIMARY KEY (key, attempt)) WITHOUT ROWID;
CREATE TABLE failures (
    key BLOB NOT NULL, attempt INTEGER NOT NULL, kind TEXT NOT NULL, status INTEGER NOT NULL,
    tries INTEGER NOT NULL, retriable INTEGER NOT NULL, detail TEXT NOT NULL,
    stored_at REAL NOT NULL, PRIMARY KEY (key, attempt)) WITHOUT ROWID;
PRAGMA user_version = 1;
"""


def old_identity(request: Request) -> str:
    """A request's identity as format 1 wrote it: with fields that are None, and JSON as given."""
    identity = json.loads(request.identity)
    fields = identity["teacher"]["fields"]
    for name in ("revision_of_model", "top_p", "top_k", "response_format"):
        fields[name] = None
    fields["extra_body"] = "{ }"
    return to_json(identity)


def old_store(path: Path, request: Request) -> None:
    """A store of format 1 with an answer, an abort that was stored as one, and a rejection."""
    identity = old_identity(request)
    key = hashlib.sha256(identity.encode()).digest()
    pack = zstandard.ZstdCompressor().compress
    body = pack(json.dumps({"text": "<answer>1</answer>"}).encode())
    with sqlite3.connect(path) as database:
        database.executescript(OLD)
        database.execute("INSERT INTO requests VALUES (?, ?)", (key, pack(identity.encode())))
        for attempt, reason in enumerate(("stop", "abort")):
            row = (key, attempt, "tiny", reason, 5, 6, 0.5, 1.0, body)
            database.execute("INSERT INTO rollouts VALUES (?,?,?,?,?,?,?,?,?)", row)
        rejected = (key, 2, "rejected", 400, 1, 0, "n must be 1", 1.0)
        database.execute("INSERT INTO failures VALUES (?,?,?,?,?,?,?,?)", rejected)


def test_a_store_of_format_1_is_found_again_and_what_was_no_answer_can_be_asked(
    tmp_path: Path,
) -> None:
    (request,) = requests(1)
    path, other = tmp_path / "rollouts.sqlite", tmp_path / "other.sqlite"
    old_store(path, request)
    before = path.read_bytes()
    with RolloutStore.write(other) as store:
        assert import_rollouts(store, path) == (1, 1)
    assert path.read_bytes() == before
    for opened in (path, other):
        with RolloutStore.read(opened) as store:
            assert store.settled([request.key]) == {request.key: {0}}
            (answer,) = store.responses([request.key])[request.key]
            assert (answer.text, answer.prompt_tokens) == ("<answer>1</answer>", 5)
            assert not list(store.check())
    with RolloutStore.read(path) as store:
        assert [(one.status, one.kind) for one in store.failure_groups()] == [
            (AttemptStatus.FAILED, "finish reason abort"),
            (AttemptStatus.FAILED, "rejected"),
        ]


def test_an_export_holds_every_settled_attempt_and_another_format_is_refused(
    tmp_path: Path,
) -> None:
    import pyarrow.parquet as pq

    path, copy, file = (tmp_path / name for name in ("a.sqlite", "b.sqlite", "rollouts.parquet"))
    asked = fill(path, 5)
    with RolloutStore.read(path) as store:
        assert export_rollouts(store, file) == (10, 5)
    with RolloutStore.write(copy) as store:
        assert import_rollouts(store, file) == (10, 10)
    assert everything(copy, asked) == everything(path, asked)

    table = pq.read_table(file)
    assert table.schema.metadata[b"omr_data.format"] == b"2"
    pq.write_table(table.replace_schema_metadata({"omr_data.format": "9"}), file)
    with RolloutStore.write(copy) as store, pytest.raises(StoreError, match="has format 9"):
        import_rollouts(store, file)


def test_an_export_of_format_1_is_imported_under_today_s_keys(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (request,) = requests(1)
    identity = old_identity(request)
    answer = {"model": "tiny", "prompt_tokens": 1, "completion_tokens": 2, "seconds": 0.0}
    row = {"key": hashlib.sha256(identity.encode()).hexdigest(), "request": identity} | answer
    rows = [
        row | {"attempt": 0, "finish_reason": "stop", "text": "one", "reasoning": None},
        row | {"attempt": 1, "finish_reason": "error", "text": "two", "reasoning": "hm"},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "old.parquet")
    with RolloutStore.write(tmp_path / "rollouts.sqlite") as store:
        assert import_rollouts(store, tmp_path / "old.parquet") == (1, 1)
        assert store.settled([request.key]) == {request.key: {0}}


def test_an_identity_of_today_stays_as_it_is() -> None:
    (request,) = requests(1)
    assert renew_identity(request.identity) == request.identity
