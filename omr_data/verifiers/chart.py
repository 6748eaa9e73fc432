"""Charts: relaxed accuracy, which takes a number within 5% of the gold number.

Source: PlotQA (Methani et al. 2020) and ChartQA (Masry et al. 2022, section 5.1). Text must be the
same word for word, and so must years, which the published rule lets differ by a century.
"""

from dataclasses import dataclass
from fractions import Fraction

from omr_data.verifiers import base
from omr_data.verifiers.answers import parse
from omr_data.verifiers.answers.base import Parsed
from omr_data.verifiers.answers.money import Money
from omr_data.verifiers.answers.number import Number
from omr_data.verifiers.answers.quantity import Counted, Quantity
from omr_data.verifiers.base import Decision, decided, other_kind, right, unreadable, wrong
from omr_data.verifiers.numerals import Numeral
from omr_data.verifiers.words import phrase


@dataclass(frozen=True)
class Verifier(base.Verifier):
    """Accepts every gold answer: numbers by their relative difference, text word for word."""

    tolerance: float = 0.05
    """The largest relative difference that is RIGHT."""

    def accepts(self, gold: str, options: tuple[str, ...]) -> bool:
        return bool(gold.strip())

    def decide(self, claim: str, gold: str, options: tuple[str, ...]) -> Decision:
        """See `base.Verifier.decide`.

        Args:
            claim: The answer that was extracted.
            gold: The gold answer.
            options: The texts of the options.
        """
        # Equal text is right without parsing: labels of axes are often no type at all.
        if phrase(claim) == phrase(gold):
            return right("the same text")

        given, wanted = parse(claim), parse(gold)
        first, second = _value(given), _value(wanted)
        if second is None:
            # A label must be said as it is; another label is another answer.
            return wrong("another text")
        if first is None:
            if given:
                return other_kind("one is a number, the other is not")

            return unreadable("the answer is not one number")

        # 5% of a year is a century, so years must be equal.
        if second.denominator == 1 and 1900 <= second <= 2100:
            return decided(first == second, "the same year", "another year")
        # 45% is drawn as 45 on many charts, and read as 0.45 by a parser.
        for scale in (1, 100, Fraction(1, 100)):
            # A missing percent sign is tolerated on charts, whose axes often carry it.
            mixed = _has_percent(given) != _has_percent(wanted)
            if scale != 1 and not mixed:
                continue
            if abs(first * scale - second) <= Fraction(self.tolerance) * abs(second):
                return right(f"within {self.tolerance:.0%} of the gold value")

        return wrong(f"more than {self.tolerance:.0%} from the gold value")


def _value(readings: Parsed) -> Fraction | None:
    for one in readings:
        if isinstance(one, Number):
            return one.value
        if isinstance(one, (Counted, Money, Quantity)) and isinstance(one.value, Numeral):
            return one.value.value

    return None


def _has_percent(readings: Parsed) -> bool:
    return any(isinstance(one, Number) and one.percent for one in readings)
