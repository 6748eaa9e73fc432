"""Paid answers: one SQLite file that outlives every recipe, and that nothing deletes from automatically.

**Key**: sha256 of the request's canonical JSON: the messages with image hashes in place of pixels, the model, its revision
and every sampling parameter. An answer is found by its key and attempt number, so URLs, concurrency and row order never
miss, and going from 8 to 16 attempts asks for exactly the 8 that are not there.

One process writes (WAL, one transaction per group of batches, fsynced); any number read.
"""

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zstandard

from omr_data.errors import StoreError
from omr_data.records import Response
from omr_data.teacher import Failure, Request

_SCHEMA = """
CREATE TABLE IF NOT EXISTS requests (key BLOB PRIMARY KEY, identity BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rollouts (
    key BLOB NOT NULL, attempt INTEGER NOT NULL, model TEXT NOT NULL, finish_reason TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, seconds REAL NOT NULL, stored_at REAL NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (key, attempt)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS failures (
    key BLOB NOT NULL, attempt INTEGER NOT NULL, kind TEXT NOT NULL, status INTEGER NOT NULL, tries INTEGER NOT NULL,
    retriable INTEGER NOT NULL, detail TEXT NOT NULL, stored_at REAL NOT NULL,
    PRIMARY KEY (key, attempt)) WITHOUT ROWID;
PRAGMA user_version = 1;
"""


_COLUMNS = (
    "hex(key), attempt, model, finish_reason, prompt_tokens, completion_tokens, seconds, body"
)


@dataclass(frozen=True, slots=True)
class RolloutStats:
    """What a store holds. Tokens are the sums over all rollouts, as the servers counted them."""

    requests: int
    rollouts: int
    failures: int
    prompt_tokens: int
    completion_tokens: int
    models: dict[str, int]


class RolloutStore:
    """The store at one path. Open it with `write` or `read`; both are context managers.

    Raises:
        StoreError: the file is no rollout store, is locked by another build, or the disk refuses the write.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._db = connection
        self._compress = zstandard.ZstdCompressor(level=3)
        self._decompress = zstandard.ZstdDecompressor()

    @classmethod
    @contextmanager
    def write(cls, path: Path) -> "Iterator[RolloutStore]":
        """Opens for writing and creates the file if needed. One writer at a time."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with _errors(path):
            connection = sqlite3.connect(
                path, timeout=30, check_same_thread=False, isolation_level=None
            )
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
                connection.executescript(_SCHEMA)
                yield cls(path, connection)
            finally:
                connection.close()

    @staticmethod
    def is_there(path: Path) -> bool:
        """Whether there is a store to read. A process that was killed while it made one has left a file without all tables."""
        if not path.exists():
            return False
        with (
            _errors(path),
            closing(
                sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=30)
            ) as connection,
        ):
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            tables = {
                name
                for (name,) in connection.execute(
                    "SELECT name FROM sqlite_master WHERE type = 'table'"
                )
            }
        return bool(version) or not tables <= {"requests", "rollouts", "failures"}

    @classmethod
    @contextmanager
    def read(cls, path: Path) -> "Iterator[RolloutStore]":
        """Opens for reading only. Raises StoreError when there is no such store."""
        if not cls.is_there(path):
            raise StoreError(
                f"there is no rollout store at {path}. A build makes one, and `omr rollouts import` fills one."
            )
        with _errors(path):
            connection = sqlite3.connect(
                f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=30, check_same_thread=False
            )
            try:
                yield cls(path, connection)
            finally:
                connection.close()

    def attempts(self, keys: Sequence[str]) -> dict[str, set[int]]:
        """The attempt numbers that are stored, by key. Keys with none are absent."""
        found: dict[str, set[int]] = {}
        for key, attempt in self._select(
            "SELECT hex(key), attempt FROM rollouts WHERE key IN ({})", keys
        ):
            found.setdefault(key.lower(), set()).add(attempt)
        return found

    def settled(self, keys: Sequence[str]) -> dict[str, set[int]]:
        """The attempt numbers that need no asking: answered, or failed in a way that asking again cannot mend."""
        found = self.attempts(keys)
        for key, attempt in self._select(
            "SELECT hex(key), attempt FROM failures WHERE retriable = 0 AND key IN ({})", keys
        ):
            found.setdefault(key.lower(), set()).add(attempt)
        return found

    def responses(self, keys: Sequence[str]) -> dict[str, list[Response]]:
        """The stored responses by key, in order of attempt. Keys with none are absent."""
        found: dict[str, list[Response]] = {}
        for row in self._select(
            f"SELECT {_COLUMNS} FROM rollouts WHERE key IN ({{}}) ORDER BY key, attempt", keys
        ):
            response = self._response(row)
            found.setdefault(response.key, []).append(response)
        return found

    def pages(self, rows: int) -> Iterator[list[tuple[str, Response]]]:
        """Every answer with its request's identity, so many at a time, in order of key and attempt."""
        columns = ", ".join(
            f"rollouts.{name}" for name in _COLUMNS.removeprefix("hex(key), ").split(", ")
        )
        cursor = self._db.execute(
            f"SELECT hex(rollouts.key), {columns}, identity FROM rollouts JOIN requests USING (key) ORDER BY rollouts.key, attempt"
        )
        while page := cursor.fetchmany(rows):
            yield [
                (self._decompress.decompress(row[-1]).decode(), self._response(row[:-1]))
                for row in page
            ]

    def _response(self, row: tuple[Any, ...]) -> Response:
        key, attempt, model, finish_reason, prompt_tokens, completion_tokens, seconds, body = row
        content = json.loads(self._decompress.decompress(body))
        return Response(
            text=content["text"],
            attempt=attempt,
            model=model,
            finish_reason=finish_reason,
            reasoning=content.get("reasoning"),
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            key=key.lower(),
            seconds=seconds,
            logprob=content.get("logprob"),
        )

    def put(self, answers: Iterable[tuple[Request, Sequence[Response | Failure]]]) -> None:
        """Stores answers and failures in one transaction: all of them or, if the process dies, none.

        An answer that is already there stays; a failure is forgotten once its attempt is answered.
        """
        now = time.time()
        rollouts, failures = [], []
        identities: dict[bytes, str] = {}
        for request, results in answers:
            key = bytes.fromhex(request.key)
            identities[key] = request.identity
            for result in results:
                if isinstance(result, Failure):
                    failures.append(
                        (
                            key,
                            result.attempt,
                            result.kind,
                            result.status,
                            result.tries,
                            result.retriable,
                            result.detail,
                            now,
                        )
                    )
                else:
                    rollouts.append(self._row(key, result, now))
        requests = [
            (key, self._compress.compress(identity.encode()))
            for key, identity in identities.items()
        ]
        with _errors(self.path), self._transaction():
            self._db.executemany("INSERT OR IGNORE INTO requests VALUES (?, ?)", requests)
            self._db.executemany(
                "INSERT OR IGNORE INTO rollouts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rollouts
            )
            self._db.executemany(
                "DELETE FROM failures WHERE key = ? AND attempt = ?", [row[:2] for row in rollouts]
            )
            self._db.executemany(
                "INSERT OR REPLACE INTO failures VALUES (?, ?, ?, ?, ?, ?, ?, ?)", failures
            )

    def stats(self) -> RolloutStats:
        """Counts over the whole store. Reads every rollout's header, not its text."""
        count = self._db.execute(
            "SELECT count(*), coalesce(sum(prompt_tokens), 0), coalesce(sum(completion_tokens), 0) FROM rollouts"
        )
        rollouts, prompt_tokens, completion_tokens = count.fetchone()
        (requests,) = self._db.execute("SELECT count(*) FROM requests").fetchone()
        (failures,) = self._db.execute("SELECT count(*) FROM failures").fetchone()
        models = dict(
            self._db.execute(
                "SELECT model, count(*) FROM rollouts GROUP BY model ORDER BY model"
            ).fetchall()
        )
        return RolloutStats(requests, rollouts, failures, prompt_tokens, completion_tokens, models)

    def check(self) -> Iterator[str]:
        """Reads the whole store, and yields what is damaged, one line each."""
        for (line,) in self._db.execute("PRAGMA integrity_check"):
            if line != "ok":
                yield f"{self.path}: {line}"

    def _row(self, key: bytes, response: Response, now: float) -> tuple[Any, ...]:
        optional = {"reasoning": response.reasoning, "logprob": response.logprob}
        content = {"text": response.text} | {
            name: value for name, value in optional.items() if value is not None
        }
        body = self._compress.compress(json.dumps(content, ensure_ascii=False).encode())
        return (
            key,
            response.attempt,
            response.model,
            response.finish_reason,
            response.prompt_tokens,
            response.completion_tokens,
            response.seconds,
            now,
            body,
        )

    def _select(self, query: str, keys: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        # SQLite takes at most 32,766 parameters a statement.
        for start in range(0, len(keys), 10_000):
            chunk = [bytes.fromhex(key) for key in keys[start : start + 10_000]]
            yield from self._db.execute(query.format(",".join("?" * len(chunk))), chunk)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except GeneratorExit:
            # Ctrl-C between the statements of a caller can abandon this generator. It is collected
            # after the database was closed, which rolled the transaction back.
            raise
        except BaseException:
            if self._db.in_transaction:  # a full disk may have rolled it back already
                self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(
            f"the rollout store {path}: {error}. What was committed before is kept; mend the cause and run again."
        ) from error
