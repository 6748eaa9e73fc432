"""Numbers: exact, decimal with places, percent, in a base, in words."""

import re
from dataclasses import dataclass
from fractions import Fraction

from omr_data.verifiers.answers.base import Answer, Reader, Rules
from omr_data.verifiers.base import Decision, decided, right, too_close, wrong
from omr_data.verifiers.numerals import Numeral, close, read_numeral

_BASED = re.compile(
    r"([0-9A-Fa-f]+)(?:_\{?\s*(\d{1,2})\s*\}?|\s*\(?\s*(?:in )?base[ -]?(\d{1,2})\s*\)?)"
)
_LARGEST_BASED = 2**200
"""Beyond this no number has the digits of one in a base: those have at most 60 digits."""
_PERCENT = re.compile(r"\s*(?:%|per ?cent)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Number(Answer):
    """One number."""

    numeral: Numeral
    """Its value, and how it was written."""
    percent: bool = False
    """Whether it has a percent sign; the value is then the share of one."""
    base: int = 0
    """The base that is written with it; 0 where none is."""
    written: str = ""
    """The digits of a number in a base."""

    order = 10
    arity = "one"
    exclusive = True

    @property
    def value(self) -> Fraction:
        """Its exact value."""
        return self.numeral.value

    @classmethod
    def read(cls, text: str, parts: Reader) -> "Number | None":
        # Plain numbers are most answers, so they are tried before percent signs and bases.
        if (numeral := read_numeral(text)) is not None:
            return cls(numeral)
        if text.endswith(("%", "t", "T")) and (sign := _PERCENT.search(text)) is not None:
            share = read_numeral(text[: sign.start()].rstrip())
            if share is None:
                return None

            # 0.5% has three places as a share, and a rounded percentage is compared by them.
            places = share.places + 2
            part = share.value / 100
            return cls(Numeral(part, share.exact, share.digits, places), percent=True)

        if ("_" in text or "base" in text) and (based := _BASED.fullmatch(text)) is not None:
            written, base = based[1], int(based[2] or based[3])
            if not 2 <= base <= 16 or len(written) > 60:
                return None
            try:
                value = Fraction(int(written, base))
            except ValueError:
                # A digit that the base does not have: 29_8 is not a number.
                return None

            digits = written.upper().lstrip("0")
            return cls(Numeral(value), base=base, written=digits)

        return None

    def compare(self, claim: Answer, rules: Rules) -> Decision | None:
        if not isinstance(claim, Number):
            return None
        if self.base or claim.base:
            if self.base == claim.base:
                same = self.value == claim.value
                return decided(same, "the same number in its base", "another number")
            if self.base and claim.base:
                if self.value == claim.value:
                    return too_close("the same value in another base")

                return wrong(f"base {claim.base} is not base {self.base}")

            based, plain = (self, claim) if self.base else (claim, self)
            # The base may be stated in the question, or the value may be meant in base ten.
            digits = "?"
            if plain.value.denominator == 1 and 0 <= plain.value < _LARGEST_BASED:
                digits = str(plain.value.numerator)
            if plain.value == based.value or digits == based.written:
                return too_close("only one of the two says its base")

            return wrong("another number, in the base or without")

        if self.percent != claim.percent:
            # 0.45 equals 45%; 45 may or may not mean it; anything else differs.
            if self.value == claim.value:
                return right("equal as a share of one")
            # "45" for "45%" is often meant so, and as often a slip; only a judge may tell.
            if claim.value in (self.value * 100, self.value / 100):
                return too_close("only one of the two has a percent sign")

            return wrong("the values differ, with the percent sign or without")

        if close(claim.numeral, self.numeral, rules.significant):
            return right("the same number")

        return wrong("another number")
