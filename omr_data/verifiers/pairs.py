"""Files of pairs: JSON lines of responses with their gold answers, and of verdicts.

{"response": "The answer is (B).", "gold": "blue", "options": ["red", "blue"]}
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from omr_data.errors import VerifyError
from omr_data.records import RIGHT, UNDECIDED, WRONG, Verdict
from omr_data.verifiers.base import AnswerPair

EXIT_CODES: Mapping[str, int] = {RIGHT: 0, WRONG: 1, UNDECIDED: 3}
"""How `omr verify` ends for one pair. 2 is taken by wrong usage of a command line."""


@dataclass(frozen=True, slots=True)
class PairColumns:
    """The names under which a file holds the parts of a pair."""

    response: str = "response"
    """The whole response, thinking included."""
    gold: str = "gold"
    """The gold answer, or a list of accepted ones."""
    options: str = "options"
    """A list of option texts; may be absent."""
    finish_reason: str = "finish_reason"
    """How the response ended; "stop" where it is absent."""
    task: str = "task"
    """The task; the one of the command where it is absent."""


def read_pairs(
    lines: Iterable[str], columns: PairColumns, task: str = "maths"
) -> Iterator[tuple[dict[str, Any], AnswerPair]]:
    """The rows of a file of pairs, each with its pair. Blank lines are left out.

    Args:
        lines: JSON lines.
        columns: The names of the columns.
        task: The task of rows that do not say theirs.

    Raises:
        VerifyError: A line is not a JSON object, or lacks the response or the gold answer.
    """
    # Numbers of lines count from one, as editors show them.
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise VerifyError(
                f"line {number} is not JSON: {error}. Each line holds one object."
            ) from error

        if not isinstance(row, dict):
            raise VerifyError(
                f"line {number} is a {type(row).__name__}. Each line holds one object."
            )

        for name in (columns.response, columns.gold):
            if name not in row:
                has = ", ".join(map(repr, row)) or "nothing"
                raise VerifyError(
                    f"line {number} has no {name!r}; it has {has}. "
                    "Name the columns with --response-column and --gold-column."
                )

        # Several accepted answers come as a list; anything else is one, numbers included.
        gold = row[columns.gold]
        golds = tuple(str(one) for one in gold) if isinstance(gold, list) else (str(gold),)
        options = row.get(columns.options) or ()
        pair = AnswerPair(
            response=str(row[columns.response]),
            gold=golds[0] if golds else "",
            options=tuple(str(option) for option in options),
            finish_reason=str(row.get(columns.finish_reason) or "stop"),
            task=str(row.get(columns.task) or task),
            golds=golds,
        )
        yield row, pair


def verdict_line(row: Mapping[str, Any], verdict: Verdict) -> str:
    """One line of the output: the row with its verdict."""
    found = {
        "outcome": verdict.outcome,
        "cause": verdict.cause,
        "score": verdict.score,
        "extracted": verdict.extracted,
        "verifier": verdict.verifier,
        "reason": verdict.reason,
    }
    # Surrogates that stand alone cannot be written as UTF-8, so everything is escaped. Delete is
    # ASCII, so `json` leaves it as it is, but a terminal acts on it.
    return json.dumps({**row, "verdict": found}).replace("\x7f", "\\u007f")
