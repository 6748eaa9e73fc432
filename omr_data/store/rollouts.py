"""Paid answers: one SQLite file that outlives every recipe. Nothing deletes from it automatically.

The key of an answer is the sha256 of its request's canonical JSON: the messages with image hashes
in place of pixels, the model, its revision and every sampling parameter. An answer is found by its
key and attempt number. So URLs, concurrency and row order never miss, and going from 8 to 16
attempts asks for exactly the 8 that are not there.

SQLite pages have no checksums, so each row carries the sha256 of what it stores, and is checked
whenever it is read. One process writes (WAL, one transaction per group of batches, fsynced); any
number read.
"""

import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from omr_data.errors import StoreError
from omr_data.records import Response, storable_text
from omr_data.store.rollout_files import (
    FailureGroup,
    RolloutStats,
    check_format,
    connect_to_read,
    format_of,
    sqlite_errors,
    table_names,
)
from omr_data.store.rollout_rows import (
    FAILURE_COLUMNS,
    FORMAT,
    ROLLOUT_COLUMNS,
    SCHEMA,
    TABLES,
    RowCodec,
    upgrade,
)
from omr_data.teacher import AttemptStatus, Failure, Request

KEYS_AT_ONCE = 10_000
"""SQLite takes at most 32,766 parameters a statement."""

_SETTLED = "('refused', 'rejected')"


class RolloutStore:
    """The store at one path. Open it with `write` or `read`; both are context managers.

    Raises:
        StoreError: The file is not a rollout store, is damaged, has another format, is locked by
            another build, or the disk refuses the write.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self.replaced = 0
        """Characters of answers that could not be stored, since the store was opened."""
        self._db = connection
        self._codec = RowCodec(path)

    @classmethod
    @contextmanager
    def write(cls, path: Path) -> "Iterator[RolloutStore]":
        """Opens for writing, creates the file if needed and upgrades one of format 1.

        One writer at a time.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        with sqlite_errors(path):
            connection = sqlite3.connect(
                path, timeout=30, check_same_thread=False, isolation_level=None
            )
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                # A committed answer was paid for, so it must survive a power cut as well.
                connection.execute("PRAGMA synchronous = FULL")
                # Finds damaged pages when they are read, and not when they crash a query.
                connection.execute("PRAGMA cell_size_check = ON")
                store = cls(path, connection)
                store._make_tables()
                yield store
            finally:
                connection.close()

    @staticmethod
    def is_there(path: Path) -> bool:
        """Whether there is a store to read.

        A process that was killed while it made one has left a file without all tables.
        """
        if not path.exists():
            return False
        with sqlite_errors(path), closing(connect_to_read(path)) as connection:
            version = format_of(connection)
            tables = table_names(connection)
        return bool(version) or not tables <= TABLES

    @classmethod
    @contextmanager
    def read(cls, path: Path) -> "Iterator[RolloutStore]":
        """Opens for reading only. Raises StoreError when the store does not exist."""
        if not cls.is_there(path):
            raise StoreError(
                f"the rollout store {path} does not exist. A build makes one, and "
                "`omr rollouts import` fills one."
            )
        with sqlite_errors(path):
            connection = connect_to_read(path)
            try:
                if format_of(connection) < FORMAT:
                    connection.close()
                    with cls.write(path):
                        pass  # opening it for writing upgrades it
                    connection = connect_to_read(path)
                check_format(path, connection)
                yield cls(path, connection)
            finally:
                connection.close()

    def _make_tables(self) -> None:
        """Makes the tables, or upgrades those of format 1, all in one transaction."""
        version = format_of(self._db)
        if version == 0 and (foreign := table_names(self._db) - TABLES):
            raise StoreError(
                f"{self.path} is not a rollout store: it has the table {min(foreign)}. "
                "Choose another workspace with --work."
            )
        if version > 1:
            check_format(self.path, self._db)
            return
        with self._transaction():
            if version == 0:
                for table in table_names(self._db):
                    # Left empty by a process that was killed while it made them.
                    self._db.execute(f"DROP TABLE {table}")
                for statement in SCHEMA:
                    self._db.execute(statement)
            else:
                upgrade(self._db, self._codec)
            self._db.execute(f"PRAGMA user_version = {FORMAT}")

    # ------------------------------------------------------------------------------ reading

    def settled(self, keys: Sequence[str]) -> dict[str, set[int]]:
        """The attempt numbers that need no asking, by key: answered, refused or rejected."""
        found: dict[str, set[int]] = {}
        query = "SELECT hex(key), attempt FROM rollouts WHERE key IN ({})"
        for key, attempt in self._select(query, keys):
            found.setdefault(key.lower(), set()).add(attempt)
        # Failed attempts are not in it: they are what a run asks for again.
        for key, failures in self.unanswered(keys).items():
            found.setdefault(key, set()).update(failures)
        return found

    def responses(self, keys: Sequence[str]) -> dict[str, list[Response]]:
        """The stored responses by key, in order of attempt. Keys with none are absent."""
        found: dict[str, list[Response]] = {}
        query = f"SELECT {ROLLOUT_COLUMNS} FROM rollouts WHERE key IN ({{}}) ORDER BY key, attempt"
        for row in self._select(query, keys):
            response = self._codec.response(row)
            found.setdefault(response.key, []).append(response)
        return found

    def unanswered(self, keys: Sequence[str]) -> dict[str, dict[int, AttemptStatus]]:
        """The attempts that are settled without an answer, by key. Keys with none are absent."""
        found: dict[str, dict[int, AttemptStatus]] = {}
        query = (
            f"SELECT {FAILURE_COLUMNS} FROM failures WHERE status IN {_SETTLED} AND key IN ({{}})"
        )
        for row in self._select(query, keys):
            key, failed = self._codec.failure(row)
            found.setdefault(key, {})[failed.attempt] = failed.status
        return found

    def pages(self, rows: int) -> Iterator[list[tuple[str, str, Response | Failure]]]:
        """Yields every settled attempt, first answers, then refused and rejected attempts.

        Args:
            rows: How many at a time.

        Yields:
            Key, canonical JSON of the request, and the response or failure; each kind in order of
            key and attempt.
        """
        yield from self._pages("rollouts", ROLLOUT_COLUMNS, "", rows)
        yield from self._pages("failures", FAILURE_COLUMNS, f"WHERE status IN {_SETTLED}", rows)

    def _pages(
        self, table: str, columns: str, where: str, rows: int
    ) -> Iterator[list[tuple[str, str, Response | Failure]]]:
        # Pages come from one statement, so that a write in between cannot skip rows.
        cursor = self._db.execute(
            f"SELECT {columns}, identity FROM {table} JOIN requests USING (key) {where} "
            "ORDER BY key, attempt"
        )
        while page := cursor.fetchmany(rows):
            found: list[tuple[str, str, Response | Failure]] = []
            for *row, packed in page:
                if table == "rollouts":
                    response = self._codec.response(row)
                    found.append((response.key, self._codec.unpack(packed), response))
                else:
                    key, failed = self._codec.failure(row)
                    found.append((key, self._codec.unpack(packed), failed))
            yield found

    def stats(self) -> RolloutStats:
        """Counts over the whole store. Reads every rollout's header, not its text."""
        tokens = self._db.execute(
            "SELECT count(*), coalesce(sum(prompt_tokens), 0), "
            "coalesce(sum(completion_tokens), 0) FROM rollouts"
        )
        rollouts, prompt_tokens, completion_tokens = tokens.fetchone()
        (requests,) = self._db.execute("SELECT count(*) FROM requests").fetchone()
        # Failures are few, so they are counted without an index.
        by_status = self._db.execute("SELECT status, count(*) FROM failures GROUP BY status")
        failures = dict(by_status.fetchall())
        by_model = self._db.execute(
            "SELECT model, count(*) FROM rollouts GROUP BY model ORDER BY model"
        )
        return RolloutStats(
            requests=requests,
            rollouts=rollouts,
            failures=failures.get(AttemptStatus.FAILED.value, 0),
            refused=failures.get(AttemptStatus.REFUSED.value, 0),
            rejected=failures.get(AttemptStatus.REJECTED.value, 0),
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            models=dict(by_model.fetchall()),
        )

    def failure_groups(self) -> list[FailureGroup]:
        """Failures by status, kind and HTTP status, the largest group first."""
        # With min(), SQLite takes the other columns from the row that holds the minimum.
        query = (
            "SELECT status, kind, http_status, count(*), detail, identity, min(stored_at) "
            "FROM failures JOIN requests USING (key) GROUP BY status, kind, http_status "
            "ORDER BY count(*) DESC, status, kind, http_status"
        )
        return [
            FailureGroup(
                AttemptStatus(status), kind, http_status, count, detail, self._codec.unpack(packed)
            )
            for status, kind, http_status, count, detail, packed, _ in self._db.execute(query)
        ]

    def check(self) -> Iterator[str]:
        """Reads the whole store, and yields what is damaged, one line each."""
        for (line,) in self._db.execute("PRAGMA integrity_check"):
            if line != "ok":
                yield f"{self.path}: {line}"
        for key, packed in self._db.execute("SELECT hex(key), identity FROM requests"):
            yield from self._codec.faults_of_request(key.lower(), packed)
        for row in self._db.execute(f"SELECT {ROLLOUT_COLUMNS} FROM rollouts"):
            yield from self._codec.faults(row, self._codec.response)
        for row in self._db.execute(f"SELECT {FAILURE_COLUMNS} FROM failures"):
            yield from self._codec.faults(row, self._codec.failure)

    # ------------------------------------------------------------------------------ writing

    def put(self, answers: Iterable[tuple[Request, Sequence[Response | Failure]]]) -> None:
        """Stores answers and failures in one transaction: all or, if the process dies, none.

        An answer that is already there stays. A failure is forgotten once its attempt is answered,
        and is not stored for an answered one.
        """
        now = time.time()
        rollouts, failures = [], []
        identities: dict[bytes, str] = {}
        for request, results in answers:
            key = bytes.fromhex(request.key)
            identities[key] = request.identity
            for result in results:
                if isinstance(result, Failure):
                    failures.append(self._codec.failure_row(key, result, now))
                else:
                    storable = self._storable(result)
                    rollouts.append(self._codec.rollout_row(key, storable, now))
        # Stored once for all attempts, and even for failures: an error needs its question.
        requests = [(key, self._codec.pack(text)) for key, text in identities.items()]
        with sqlite_errors(self.path), self._transaction():
            self._db.executemany("INSERT OR IGNORE INTO requests VALUES (?, ?)", requests)
            self._db.executemany(
                # IGNORE and not REPLACE: a stored answer is what releases were built of.
                f"INSERT OR IGNORE INTO rollouts VALUES ({_places(ROLLOUT_COLUMNS)})",
                rollouts,
            )
            self._db.executemany(
                "DELETE FROM failures WHERE key = ? AND attempt = ?", [row[:2] for row in rollouts]
            )
            self._db.executemany(
                f"INSERT OR REPLACE INTO failures SELECT {_places(FAILURE_COLUMNS)} "
                "WHERE NOT EXISTS (SELECT 1 FROM rollouts WHERE key = ?1 AND attempt = ?2)",
                failures,
            )

    def _storable(self, response: Response) -> Response:
        """The response with text that can be stored, and what was replaced counted.

        Teachers of this package replace theirs; a recipe's own may not.
        """
        text, in_text = storable_text(response.text)
        reasoning, in_reasoning = storable_text(response.reasoning or "")
        model, in_model = storable_text(response.model)
        if in_text or in_reasoning or in_model:
            self.replaced += in_text + in_reasoning + in_model
            return replace(response, text=text, reasoning=reasoning or None, model=model)
        return response

    def forget_failures(self, kind: str | None = None) -> int:
        """Forgets failures, so that the next run asks for their attempts again.

        Args:
            kind: A kind ("content filter") or a status ("rejected"). None forgets all of them.

        Returns:
            How many attempts were forgotten.
        """
        # Kinds and statuses share no word, so one option names either.
        where = "?1 IS NULL OR kind = ?1 OR status = ?1"
        with sqlite_errors(self.path), self._transaction():
            deleted = self._db.execute(f"DELETE FROM failures WHERE {where}", (kind,))
        return deleted.rowcount

    def _select(self, query: str, keys: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        for start in range(0, len(keys), KEYS_AT_ONCE):
            chunk = [bytes.fromhex(key) for key in keys[start : start + KEYS_AT_ONCE]]
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
            # A full disk may have rolled it back already.
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")


def _places(columns: str) -> str:
    """Numbered parameters for some columns: "?1, ?2, ?3"."""
    return ", ".join(f"?{number}" for number in range(1, len(columns.split(", ")) + 1))
