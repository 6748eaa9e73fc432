"""Numbers: whole ones exact at any size, decimals to their significant digits, percent and currency kept apart."""

import re
from dataclasses import dataclass

from omr_data.verifiers import base
from omr_data.verifiers.base import Decision, right, undecided, unsure, wrong
from omr_data.verifiers.measures import is_unit
from omr_data.verifiers.numbers import Number, close, read_number

_ASSIGNED = re.compile(r"^[A-Za-z]\s*=\s*(?=[^=])")
_MULTIPLIERS = {
    "dozen",
    "dozens",
    "hundred",
    "thousand",
    "million",
    "billion",
    "trillion",
    "k",
    "m",
    "bn",
    "pair",
    "pairs",
    "half",
    "score",
}


@dataclass(frozen=True)
class Verifier(base.Verifier):
    """Accepts a gold answer that is one number, with a percent sign or a currency if it likes, and no unit.

    `significant`: how many significant digits a rounded decimal needs to stand for a longer one.
    """

    significant: int = 3

    def accepts(self, gold: str, options: tuple[str, ...]) -> bool:
        number = _read(gold)
        return number is not None and not number.words

    def decide(self, claim: str, gold: str, options: tuple[str, ...]) -> Decision:
        wanted, given = _read(gold), _read(claim)
        assert wanted is not None  # accepts() read it
        if given is None:
            return undecided("the answer is not one number")
        if _words(given) & _MULTIPLIERS:
            return unsure(f'the answer counts in "{given.words}"')
        if wanted.percent != given.percent:
            return self._percent(given, wanted)
        if wanted.currency and given.currency and wanted.currency != given.currency:
            return wrong(f"{given.currency} is not {wanted.currency}")
        if not close(given, wanted, self.significant):
            return wrong(f"{claim} is not {gold}")
        if given.words and is_unit(given.words):
            return unsure(
                f'the value is equal, but the answer has a unit "{given.words}" and the gold answer has none'
            )
        return right(f"{claim} equals {gold}" if claim != gold else "the same number")

    def _percent(self, given: Number, wanted: Number) -> Decision:
        """One side has a percent sign: 0.45 equals 45%, 45 may or may not mean it, and anything else is wrong."""
        if given.value == wanted.value:
            return right("equal as a share of one")
        if given.value in (wanted.value * 100, wanted.value / 100):
            return unsure("only one of the two has a percent sign")
        return wrong("the values differ, with the percent sign or without")


def _read(text: str) -> Number | None:
    """The number that a text is, also as "x = 5"."""
    return read_number(_ASSIGNED.sub("", text, count=1))


def _words(number: Number) -> set[str]:
    return set(re.findall(r"[a-z]+", number.words.lower()))
