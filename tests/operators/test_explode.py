"""explode.Right makes a row of each RIGHT response, and tells why a record gives none."""

from typing import Any

import pytest

from omr_data.operators.explode import Right
from omr_data.records import RIGHT, UNDECIDED, WRONG, Outcome, Record, Verdict
from tests.builders import record, response


def judged(outcome: Outcome | None, attempt: int, **fields: Any) -> Any:
    """A response with a verdict, or without one."""
    verdict = None
    if outcome is not None:
        verdict = Verdict(outcome=outcome, verifier="v", revision=1, extracted="7", reason="said")
    return response(attempt=attempt, verdict=verdict, **{"key": "a request"} | fields)


def answered(*outcomes: Outcome | None) -> Record:
    """A record with one response for each outcome."""
    responses = tuple(judged(outcome, attempt) for attempt, outcome in enumerate(outcomes))
    return record("q", responses=responses, pass_rate=0.5)


def test_each_right_response_becomes_a_row_of_its_own() -> None:
    whole = answered(RIGHT, WRONG, RIGHT, UNDECIDED, None)
    rows = Right().expand(whole)
    assert not isinstance(rows, str)
    assert [row.id for row in rows] == ["q#0", "q#2"]
    assert [row.question_id for row in rows] == ["q", "q"]
    assert [row.responses for row in rows] == [(whole.responses[0],), (whole.responses[2],)]
    assert {(row.question, row.answer, row.pass_rate) for row in rows} == {
        (whole.question, whole.answer, 0.5)
    }


def test_a_row_is_named_by_the_attempt_so_that_more_attempts_rename_nothing() -> None:
    late = record("q", responses=(judged(RIGHT, 8), judged(RIGHT, 11)))
    rows = Right().expand(late)
    assert not isinstance(rows, str)
    assert [row.id for row in rows] == ["q#8", "q#11"]


def test_a_response_that_came_with_a_dataset_shares_no_id_with_a_teacher_s() -> None:
    both = record("q", responses=(judged(RIGHT, 0, key=""), judged(RIGHT, 0)))
    rows = Right().expand(both)
    assert not isinstance(rows, str)
    assert [row.id for row in rows] == ["q#given-0", "q#0"]


@pytest.mark.parametrize(
    ("outcomes", "reason"),
    [
        ((), "no answer was given"),
        ((None, None), "the answers were not verified"),
        ((WRONG, None), "the answers were not verified"),
        ((UNDECIDED, None), "the answers were not verified"),
        ((WRONG, UNDECIDED), "no answer is right, some undecided"),
        ((UNDECIDED,), "no answer is right, some undecided"),
        ((WRONG, WRONG), "no answer is right"),
    ],
)
def test_a_record_without_a_right_response_says_why(
    outcomes: tuple[Outcome | None, ...], reason: str
) -> None:
    assert Right().expand(answered(*outcomes)) == reason
