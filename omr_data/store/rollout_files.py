"""Connections to the file of a rollout store, and the records of what one holds."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from omr_data.errors import StoreError
from omr_data.store.rollout_rows import FORMAT
from omr_data.teacher import AttemptStatus


@dataclass(frozen=True, slots=True)
class RolloutStats:
    """What a store holds. Tokens are sums over all rollouts, as the servers counted them."""

    requests: int
    """Different requests, answered or not."""
    rollouts: int
    """Stored answers."""
    failures: int
    """Attempts that failed, and will be asked again."""
    refused: int
    """Attempts that a content filter refused."""
    rejected: int
    """Attempts that the server could not serve as asked."""
    prompt_tokens: int
    """Tokens of all prompts."""
    completion_tokens: int
    """Tokens of all answers."""
    models: dict[str, int]
    """Answers by the model that served them."""


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """Failures of one status, kind and HTTP status."""

    status: AttemptStatus
    """Refused, rejected or failed."""
    kind: str
    """The word that they are counted by."""
    http_status: int
    """The HTTP status. 0 where there was none."""
    count: int
    """Attempts."""
    message: str
    """What the server said the first time."""
    identity: str
    """Canonical JSON of the request that it said it to."""


def connect_to_read(path: Path) -> sqlite3.Connection:
    """Connects without making a file, or changing one."""
    # `mode=ro` and not `immutable`: a build may be writing to the same file.
    return sqlite3.connect(
        f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=30, check_same_thread=False
    )


def format_of(connection: sqlite3.Connection) -> int:
    """The format of a store. 0 where its tables were never made."""
    # SQLite keeps this number in the file's header for its users.
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def table_names(connection: sqlite3.Connection) -> set[str]:
    """Names of the tables that are there."""
    rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    return {name for (name,) in rows}


def check_format(path: Path, connection: sqlite3.Connection) -> None:
    """Raises StoreError for a store of another version."""
    version = format_of(connection)
    if version != FORMAT:
        raise StoreError(
            f"{path} has format {version}, which another version of omr_data made; this one reads "
            f"format {FORMAT}. With that version run `omr rollouts export FILE`, then here "
            "`omr rollouts import FILE --work NEW`."
        )


@contextmanager
def sqlite_errors(path: Path) -> Iterator[None]:
    """Turns what SQLite raises into a StoreError that says what to do."""
    try:
        yield
    # A full disk, a lock and a damaged page all arrive as sqlite3.Error.
    except sqlite3.Error as error:
        raise StoreError(
            f"the rollout store {path}: {error}. What was committed before is kept; mend the cause "
            "and run again."
        ) from error
