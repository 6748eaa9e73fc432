"""Counting with a tolerance: near misses of large counts earn part of the credit.

The score is 1 - |claim - gold| / gold, at least 0 (the relative error of TallyQA-style counting,
Acharya et al. 2019). RIGHT when the difference is within `tolerance`, a share of the gold count.
"""

from dataclasses import dataclass
from fractions import Fraction

from omr_data.records import RIGHT, WRONG, Outcome
from omr_data.verifiers import base
from omr_data.verifiers.answers import parse
from omr_data.verifiers.answers.number import Number
from omr_data.verifiers.answers.quantity import Counted
from omr_data.verifiers.base import Decision, unreadable


@dataclass(frozen=True)
class Verifier(base.Verifier):
    """Accepts a gold answer that is a whole number, with or without what is counted."""

    tolerance: float = 0.0
    """How far off a count may be and still be RIGHT, as a share of the gold count."""

    def accepts(self, gold: str, options: tuple[str, ...]) -> bool:
        return _count(gold) is not None

    def decide(self, claim: str, gold: str, options: tuple[str, ...]) -> Decision:
        """See `base.Verifier.decide`.

        Args:
            claim: The answer that was extracted.
            gold: The gold answer.
            options: The texts of the options.
        """
        wanted, given = _count(gold), _count(claim)
        assert wanted is not None  # accepts() read it
        if given is None:
            return unreadable("the answer is not one whole number")

        off = abs(given - wanted)
        # A gold count of zero has no relative error: only zero itself earns credit.
        score = float(off == 0)
        if wanted:
            score = max(0.0, 1.0 - float(off / wanted))

        outcome: Outcome = WRONG
        if off <= self.tolerance * abs(wanted):
            outcome = RIGHT

        return Decision(outcome, f"off by {off} from {wanted}", score=score)


def _count(text: str) -> Fraction | None:
    for one in parse(text):
        value = one.value if isinstance(one, Number) and not one.percent else None
        if isinstance(one, Counted):
            value = one.value.value
        # A count is whole and not negative; "2.5 cars" is not one that is off by half.
        if value is not None and value.denominator == 1 and value >= 0:
            return value

    return None
