"""Rows of the rollout store: how answers and failures become bytes and back, each with its sha256.

Format 2 is today's. Format 1 (before the statuses of attempts) is upgraded when it is opened: its
requests get today's keys, finish reasons that are no answer become failures, and failures that were
thought permanent can be asked for again.
"""

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import zstandard

from omr_data.errors import StoreError
from omr_data.identity import Canonical, to_json
from omr_data.records import ANSWER_FINISH_REASONS, Response
from omr_data.teacher import JSON_FIELDS, AttemptStatus, Failure

FORMAT = 2
"""The format of the store, and of its exports."""
HAVE_OTHER_DEFAULTS = ("temperature", "seed")
"""Fields of a teacher that may be None but are something else by default. Their None is identity;
that of all other fields is left out of the canonical form."""
TABLES = {"requests", "rollouts", "failures"}
SCHEMA = (
    "CREATE TABLE requests (key BLOB PRIMARY KEY, identity BLOB NOT NULL) WITHOUT ROWID",
    """CREATE TABLE rollouts (
        key BLOB NOT NULL, attempt INTEGER NOT NULL, model TEXT NOT NULL,
        finish_reason TEXT NOT NULL, prompt_tokens INTEGER NOT NULL,
        completion_tokens INTEGER NOT NULL, seconds REAL NOT NULL, stored_at REAL NOT NULL,
        body BLOB NOT NULL, sha256 BLOB NOT NULL, PRIMARY KEY (key, attempt)) WITHOUT ROWID""",
    """CREATE TABLE failures (
        key BLOB NOT NULL, attempt INTEGER NOT NULL, status TEXT NOT NULL, kind TEXT NOT NULL,
        http_status INTEGER NOT NULL, tries INTEGER NOT NULL, detail TEXT NOT NULL,
        stored_at REAL NOT NULL, sha256 BLOB NOT NULL, PRIMARY KEY (key, attempt)) WITHOUT ROWID""",
)
ROLLOUT_COLUMNS = (
    "key, attempt, model, finish_reason, prompt_tokens, completion_tokens, seconds, stored_at, "
    "body, sha256"
)
FAILURE_COLUMNS = "key, attempt, status, kind, http_status, tries, detail, stored_at, sha256"


class RowCodec:
    """Writes and reads the rows of one store."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._compress = zstandard.ZstdCompressor(level=3)
        self._decompress = zstandard.ZstdDecompressor()

    def pack(self, text: str) -> bytes:
        """Compresses a text."""
        return self._compress.compress(text.encode())

    def unpack(self, packed: bytes) -> str:
        """Inverse of `pack`."""
        return self._decompress.decompress(packed).decode()

    def rollout_row(self, key: bytes, response: Response, now: float) -> tuple[Any, ...]:
        """The row of an answer.

        Args:
            key: The request's key, 32 bytes.
            response: The answer.
            now: The time, in seconds since 1970.
        """
        # Absent fields cost nothing, and old rows without them read the same.
        content: dict[str, Any] = {"text": response.text}
        if response.reasoning is not None:
            content["reasoning"] = response.reasoning
        if response.logprob is not None:
            content["logprob"] = response.logprob
        return _sealed(
            key,
            response.attempt,
            response.model,
            response.finish_reason,
            response.prompt_tokens,
            response.completion_tokens,
            float(response.seconds),
            now,
            self.pack(json.dumps(content, ensure_ascii=False)),
        )

    def failure_row(self, key: bytes, failed: Failure, now: float) -> tuple[Any, ...]:
        """The row of a failed attempt.

        Args:
            key: The request's key, 32 bytes.
            failed: The failure.
            now: The time, in seconds since 1970.
        """
        return _sealed(
            key,
            failed.attempt,
            failed.status.value,
            failed.kind,
            failed.http_status,
            failed.tries,
            failed.detail,
            now,
        )

    def response(self, row: Sequence[Any]) -> Response:
        """The answer of a row. Raises StoreError when its bytes are not those that were stored."""
        self._check(row)
        key, attempt, model, reason, prompt_tokens, completion_tokens, seconds, _, body, _ = row
        # Absent and None are the same: bodies that were stored earlier lack the newer fields.
        content = json.loads(self.unpack(body))
        return Response(
            text=content["text"],
            attempt=attempt,
            model=model,
            finish_reason=reason,
            reasoning=content.get("reasoning"),
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            key=key.hex(),
            seconds=seconds,
            logprob=content.get("logprob"),
        )

    def failure(self, row: Sequence[Any]) -> tuple[str, Failure]:
        """The key and the failure of a row. Raises StoreError when the row is damaged."""
        self._check(row)
        key, attempt, status, kind, http_status, tries, detail, _, _ = row
        failed = Failure(attempt, AttemptStatus(status), kind, detail, http_status, tries)
        return key.hex(), failed

    def _check(self, row: Sequence[Any]) -> None:
        *stored, seal = row
        if _seal(stored) != seal:
            shown = stored[0].hex() if isinstance(stored[0], bytes) else str(stored[0])
            raise StoreError(
                f"the rollout store {self._path} is damaged: attempt {stored[1]} of the key "
                f"{shown[:12]} is not what was stored. Restore the file from a copy, or delete "
                "that row to pay for the answer again. `omr check` lists all damaged rows."
            )

    def faults(self, row: Sequence[Any], read: Callable[[Sequence[Any]], object]) -> Iterator[str]:
        """Yields what is wrong with a row.

        Args:
            row: The row.
            read: `response` or `failure`.
        """
        try:
            read(row)
        except StoreError as error:
            yield str(error)

    def faults_of_request(self, key: str, packed: bytes) -> Iterator[str]:
        """Yields what is wrong with a request, whose key is the sha256 of its identity.

        Args:
            key: The key, 64 hex digits.
            packed: The stored identity.
        """
        # The key is the digest, so requests need no seal of their own.
        try:
            right = hashlib.sha256(self.unpack(packed).encode()).hexdigest() == key
        except (zstandard.ZstdError, UnicodeDecodeError):
            right = False
        if not right:
            yield f"{self._path}: the request {key[:12]} is not what was stored."


def _sealed(*values: Any) -> tuple[Any, ...]:
    return (*values, _seal(values))


def _seal(values: Sequence[Any]) -> bytes:
    """sha256 over the values of a row, with their types and lengths."""
    digest = hashlib.sha256()
    for value in values:
        # repr tells 1 from "1", and writes a float so that it can be read back exactly.
        data = value if isinstance(value, bytes) else repr(value).encode("utf-8", "surrogatepass")
        digest.update(b"%d:" % len(data))
        digest.update(data)
    return digest.digest()


def renew_identity(identity: str) -> str:
    """Writes the identity of a request as this version does, so that old answers are found.

    Fields without a value are left out, and JSON texts are canonical.

    Args:
        identity: Canonical JSON of a request, from a store or an export of format 1.
    """
    return to_json(_renewed(json.loads(identity)))


def _renewed(value: Any, name: str = "") -> Canonical:
    # By the name of the field and not by its Spec: plugins of the old version may be gone.
    if isinstance(value, list):
        return [_renewed(item) for item in value]
    if isinstance(value, dict):
        if name == "fields":
            value = {
                key: item
                for key, item in value.items()
                if item is not None or key in HAVE_OTHER_DEFAULTS
            }
        return {key: _renewed(item, key) for key, item in value.items()}
    if name in JSON_FIELDS and isinstance(value, str):
        return to_json(json.loads(value, parse_float=_number))
    plain: Canonical = value
    return plain


def _number(text: str) -> int | float:
    """A number of a JSON text. A whole float is an integer, as in today's canonical form."""
    value = float(text)
    return int(value) if value.is_integer() else value


def upgrade(database: sqlite3.Connection, codec: RowCodec) -> None:
    """Turns a store of format 1 into one of today's, inside the caller's transaction.

    Args:
        database: The open store.
        codec: Writes today's rows.
    """
    # Renamed and copied, not altered: the new tables have seals, which SQL cannot work out.
    for table in sorted(TABLES):
        database.execute(f"ALTER TABLE {table} RENAME TO old_{table}")
    for statement in SCHEMA:
        database.execute(statement)
    # Two old keys may become one: how a JSON text was laid out no longer counts.
    keys: dict[bytes, bytes] = {}
    for old, packed in database.execute("SELECT key, identity FROM old_requests"):
        identity = renew_identity(codec.unpack(packed))
        keys[old] = hashlib.sha256(identity.encode()).digest()
        database.execute(
            "INSERT OR IGNORE INTO requests VALUES (?, ?)", (keys[old], codec.pack(identity))
        )
    for *row, body in database.execute(
        "SELECT key, attempt, model, finish_reason, prompt_tokens, completion_tokens, seconds, "
        "stored_at, body FROM old_rollouts"
    ):
        reason, stored_at = row[3], row[7]
        row[0] = keys[row[0]]
        if reason in ANSWER_FINISH_REASONS:
            places = ", ".join("?" * 10)
            database.execute(
                f"INSERT OR IGNORE INTO rollouts VALUES ({places})", _sealed(*row, body)
            )
        else:
            detail = "it was stored as an answer by an earlier version"
            failed = Failure(row[1], AttemptStatus.FAILED, f"finish reason {reason}", detail)
            _put_failure(database, codec.failure_row(row[0], failed, stored_at))
    for key, attempt, kind, http_status, tries, detail, stored_at in database.execute(
        "SELECT key, attempt, kind, status, tries, detail, stored_at FROM old_failures"
    ):
        # Which of them were rightly permanent cannot be told any more.
        failed = Failure(attempt, AttemptStatus.FAILED, kind, detail, http_status, tries)
        _put_failure(database, codec.failure_row(keys[key], failed, stored_at))
    for table in sorted(TABLES):
        database.execute(f"DROP TABLE old_{table}")


def _put_failure(database: sqlite3.Connection, row: Sequence[Any]) -> None:
    """Stores a failure of an attempt that has no answer."""
    places = ", ".join(f"?{number}" for number in range(1, 10))
    database.execute(
        f"INSERT OR IGNORE INTO failures SELECT {places} WHERE NOT EXISTS "
        "(SELECT 1 FROM rollouts WHERE key = ?1 AND attempt = ?2)",
        tuple(row),
    )
