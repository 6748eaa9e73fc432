"""One rule for pass rate, reward and evaluation: which verdicts count, and which are right.

The denominator is every answered attempt that ended by itself. UNDECIDED because unstated,
unreadable, of another kind, contradictory or too close counts as not right: otherwise one right
answer and seven that state nothing would be a pass rate of 1.0. Cut off, timed out and judge down
say nothing about the model, and are left out and counted apart.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from omr_data.records import RIGHT, Response, Verdict

LEFT_OUT = frozenset({"cut off", "timed out", "judge down"})
"""The causes that say nothing about an answer."""


@dataclass(frozen=True, slots=True)
class PassRate:
    """How often a problem was answered right."""

    n_right: int
    """Attempts that are RIGHT."""
    n_counted: int
    """Attempts that count: answered, and ended by themselves."""
    n_left_out: int
    """Attempts that say nothing: cut off, timed out, judge down."""

    @property
    def rate(self) -> float | None:
        """RIGHT over counted attempts, from 0 to 1; None where none counts."""
        if self.n_counted:
            return self.n_right / self.n_counted

        return None


def counts(verdict: Verdict, finish_reason: str = "stop") -> bool:
    """Whether an attempt counts, in a pass rate, as a reward and in an evaluation.

    Args:
        verdict: The verdict on the attempt.
        finish_reason: How the attempt ended. One that was cut off after it had stated an answer
            counts by its verdict.
    """
    if verdict.cause in LEFT_OUT:
        return False

    return finish_reason != "length" or verdict.extracted is not None


def reward(verdict: Verdict, finish_reason: str = "stop") -> float | None:
    """What an attempt is worth: its score, else 1 for RIGHT and 0 for the rest; None if left out.

    Args:
        verdict: The verdict on the attempt.
        finish_reason: How the attempt ended.
    """
    if not counts(verdict, finish_reason):
        return None
    # A task's own metric gives partial credit, and a reward should not throw it away.
    if verdict.score is not None:
        return verdict.score

    return float(verdict.outcome == RIGHT)


def pass_rate(attempts: Iterable[Response]) -> PassRate:
    """The pass rate of some attempts at one problem; those without a verdict are left out."""
    right = counted = left_out = 0

    for attempt in attempts:
        verdict = attempt.verdict
        # An attempt without a verdict was never judged, which says as little as a judge that is
        # down.
        if verdict is None or not counts(verdict, attempt.finish_reason):
            left_out += 1
            continue

        counted += 1
        right += verdict.outcome == RIGHT

    return PassRate(right, counted, left_out)
