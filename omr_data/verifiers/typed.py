"""Typed answers compared by value: numbers, quantities, expressions, intervals, words and the rest.

Both sides are parsed by `answers.parse`, and decided only when both are parsed completely into
types that can be compared. What no type reads, and looks like mathematics, gets the second
opinion of math-verify, whose "equal" counts and whose "different" does not.
"""

import re
from dataclasses import dataclass
from typing import Literal

from omr_data.records import UNDECIDED
from omr_data.verifiers import base
from omr_data.verifiers.answers import parse
from omr_data.verifiers.answers.base import Rules
from omr_data.verifiers.base import Decision, other_kind, right, unreadable
from omr_data.verifiers.compare import compare
from omr_data.verifiers.deadline import TimedOut, seconds_left
from omr_data.verifiers.isolated import shared_algebra_workers
from omr_data.verifiers.normalize import normalize
from omr_data.verifiers.scanner import deepest
from omr_data.verifiers.spellings import COMMANDS

_LONGEST = 400
_DEEPEST = 20
_FORMULA = re.compile(r"[\w\\{}()\[\]^+\-*/=|<>,.!&'∞π\u0370-\u03ff ]+")
_ENDLESS = re.compile(r"\d{40}|\^\s*\{?\s*-?\d{4}|\^[^+\-=]{0,12}\^|!")
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{3,}")
_COMMAND = re.compile(r"\\(?:int|iint|oint|sum|prod|lim|partial|det|gcd)(?![a-zA-Z])")
_LATEX = {
    sign: f"\\{name} " for name, sign in COMMANDS.items() if len(sign) == 1 and not sign.isascii()
}
"""The commands of Greek letters and signs, as math-verify reads them."""


@dataclass(frozen=True)
class Verifier(base.Verifier):
    """Accepts every gold answer that some type reads completely, or that is a formula."""

    significant: int = 3
    """Significant digits that a rounded decimal needs to stand for a longer value."""
    units: Literal["required", "optional"] = "required"
    """Whether a bare number may stand for the gold value in the gold unit."""

    def accepts(self, gold: str, options: tuple[str, ...]) -> bool:
        return bool(parse(gold)) or _is_formula(normalize(gold))

    def decide(self, claim: str, gold: str, options: tuple[str, ...]) -> Decision:
        """See `base.Verifier.decide`.

        Args:
            claim: The answer that was extracted.
            gold: The gold answer.
            options: The texts of the options.
        """
        # Both are parsed before anything is compared; a cache makes the gold answer free.
        given, wanted = parse(claim), parse(gold)
        if given and wanted:
            decision = compare(given, wanted, Rules(self.significant, self.units))
            if decision.outcome != UNDECIDED or decision.final:
                return decision

            opinion = _second_opinion(normalize(claim), normalize(gold))
            return opinion or decision

        opinion = _second_opinion(normalize(claim), normalize(gold))
        if opinion is not None:
            return opinion
        if not given:
            return unreadable("no type of answer accounts for all of its text")

        return other_kind("the gold answer is of no type that rules compare")


def _second_opinion(claim: str, gold: str) -> Decision | None:
    """RIGHT where math-verify read both completely and finds them equal; None otherwise.

    Raises:
        TimedOut: It did not answer within the deadline of the pair.
    """
    # Equal text needs no worker, and covers what math-verify cannot read.
    if claim == gold:
        return right("the same text")
    if not (_is_formula(claim) and _is_formula(gold)):
        return None
    # One of the two must hold what our own types do not read, or they would have decided.
    if not _COMMAND.search(claim + gold) or not (_is_balanced(claim) and _is_balanced(gold)):
        return None

    answer = shared_algebra_workers().equal(_to_latex(claim), _to_latex(gold), seconds_left())
    # The question was begun, so the pair has had its time; anything else is merely not known.
    if answer == "timeout":
        raise TimedOut
    if answer == "equal":
        return right("equal, says math-verify")

    return None


def _is_formula(text: str) -> bool:
    """Whether a text is a formula of a size that an algebra system can finish.

    Towers of powers, factorials and long numbers never finish, so they are not begun.
    """
    return (
        0 < len(text) <= _LONGEST
        and deepest(text) <= _DEEPEST
        and text.count("^") <= 6
        and _FORMULA.fullmatch(text) is not None
        and not _ENDLESS.search(text)
        and not _WORD.search(text)
    )


def _is_balanced(text: str) -> bool:
    return all(text.count(one) == text.count(other) for one, other in ("()", "[]", "{}"))


def _to_latex(text: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in text)
