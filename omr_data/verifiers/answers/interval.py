"""Intervals and their unions, also as inequalities: [0, 1), x < 3, x < -2 or x > 2, R, x != 2."""

import re
from dataclasses import dataclass, replace
from fractions import Fraction

from omr_data.verifiers.answers.base import Answer, Reader, Rules
from omr_data.verifiers.answers.collection import Set
from omr_data.verifiers.answers.expression import compare_formulas, read_formula
from omr_data.verifiers.base import Decision, right, too_close, wrong
from omr_data.verifiers.evaluate import value_at
from omr_data.verifiers.inequalities import solve
from omr_data.verifiers.scanner import encloses, split
from omr_data.verifiers.tokens import Unreadable
from omr_data.verifiers.tree import Formula

_ELEMENT = re.compile(r"([A-Za-zα-ω])\s*∈\s*(.+)")
_BUILDER = re.compile(r"[⦃{]\s*([a-zA-Z])\s*(?:∈\s*\\mathbb\s*\{?\s*R\s*\}?\s*)?[|:]\s*(.+)[⦄}]")
_REALS = re.compile(r"(?:\\mathbb\s*\{?\s*R\s*\}?|R|all real numbers|all reals)")
_INFINITE = re.compile(r"([+-]?)\s*(?:∞|infinity|inf|oo)")
_UNION = ("∪", " or ", "或")


@dataclass(frozen=True, slots=True)
class Piece:
    """One interval. A bound is None where the interval goes on without end."""

    low: Formula | None
    """The lower bound."""
    high: Formula | None
    """The upper bound."""
    closed_low: bool
    """Whether the lower bound belongs to it."""
    closed_high: bool
    """Whether the upper bound belongs to it."""


@dataclass(frozen=True, slots=True)
class IntervalUnion(Answer):
    """One interval or several."""

    pieces: tuple[Piece, ...]
    """The intervals, from the lowest up."""
    name: str = ""
    """The variable of an inequality."""

    order = 46
    arity = "many"

    @classmethod
    def read(cls, text: str, parts: Reader) -> "IntervalUnion | None":
        # Most answers hold none of these signs, and are refused without further work.
        if not any(sign in text for sign in ("[", "(", "<", ">", "∪", "R", "!=", "real")):
            return None

        name = ""
        if (builder := _BUILDER.fullmatch(text)) is not None:
            text = builder[2].strip()
        elif (element := _ELEMENT.fullmatch(text)) is not None:
            name, text = element[1], element[2].strip()

        found: list[Piece] = []

        for part in split(text, _UNION):
            pieces, variable = _read_part(part)
            if pieces is None or (name and variable and variable != name):
                return None

            name = name or variable
            found += pieces

        return cls(_in_order(found), name)

    def compare(self, claim: Answer, rules: Rules) -> Decision | None:
        # The empty set is written as a set, but answers a question about intervals.
        if isinstance(claim, Set) and not claim.parts:
            return wrong("the empty set is not the gold answer")
        if not isinstance(claim, IntervalUnion):
            return None
        if self.name and claim.name and self.name != claim.name:
            return wrong(f"{claim.name} is not {self.name}")
        # Touching pieces were joined on reading, so the number of pieces is comparable.
        if len(self.pieces) != len(claim.pieces):
            return wrong(f"{len(claim.pieces)} intervals, the gold answer has {len(self.pieces)}")

        undecided: Decision | None = None

        for one, other in zip(claim.pieces, self.pieces, strict=True):
            decision = _compare_pieces(one, other)
            if decision.outcome == "WRONG":
                return decision
            if decision.outcome == "UNDECIDED":
                undecided = decision

        return undecided or right("the same intervals")


def _read_part(text: str) -> tuple[list[Piece] | None, str]:
    """The intervals of one part of a union, and the variable of an inequality."""
    # Bracketed intervals and inequalities end in one form, which is why both are here.
    if _REALS.fullmatch(text):
        return [Piece(None, None, False, False)], ""
    if text[:1] in ("[", "(") and encloses(text):
        bounds = split(text[1:-1], (",", ";"))
        if len(bounds) != 2:
            return None, ""

        low, high = (_bound(bound) for bound in bounds)
        # An interval from +∞, or up to -∞, is a slip and not the empty set.
        if low is False or high is False or low == "+" or high == "-":
            return None, ""

        piece = Piece(
            low if isinstance(low, Formula) else None,
            high if isinstance(high, Formula) else None,
            text[0] == "[" and isinstance(low, Formula),
            text[-1] == "]" and isinstance(high, Formula),
        )
        return [piece], ""

    solved = solve(text)
    if solved is None:
        return None, ""

    # A half that is missing leaves that side without end.
    pieces = [
        Piece(
            low.bound if low else None,
            high.bound if high else None,
            low is not None and low.closed,
            high is not None and high.closed,
        )
        for low, high in solved.pieces
    ]
    return pieces, solved.name


def _bound(text: str) -> Formula | str | bool:
    """A bound: a formula, the sign of an infinity, or False for neither."""
    infinite = _INFINITE.fullmatch(text)
    if infinite is not None:
        return infinite[1] or "+"

    return read_formula(text) or False


def _number(bound: Formula | None, default: float) -> float | None:
    """A bound as a number for sorting; None where it holds a variable."""
    if bound is None:
        return default
    if bound.variables:
        return None
    try:
        value = value_at(bound, {})
        return float(value if isinstance(value, Fraction) else value.real)
    except (Unreadable, OverflowError):
        return None


def _in_order(pieces: list[Piece]) -> tuple[Piece, ...]:
    """Sorted by their lower bounds, and joined where they meet: (1, 2] and (2, 3) are (1, 3)."""
    # Bounds become floats for sorting only; equality is decided on the formulas.
    keyed = [
        (_number(piece.low, float("-inf")), _number(piece.high, float("inf")), piece)
        for piece in pieces
    ]
    # Bounds with variables have no order, so these pieces stay as they were written.
    if any(low is None or high is None for low, high, _ in keyed):
        return tuple(pieces)

    keyed.sort(key=lambda entry: (entry[0], entry[1]))
    joined: list[Piece] = []
    reach = float("-inf")

    for _, high, piece in keyed:
        last = joined[-1] if joined else None
        start = _number(piece.low, float("-inf"))
        meets = last is not None and start == reach and (last.closed_high or piece.closed_low)
        if last is not None and meets and last.high is not None:
            joined[-1] = replace(last, high=piece.high, closed_high=piece.closed_high)
        else:
            joined.append(piece)

        reach = high or 0.0

    return tuple(joined)


def _compare_pieces(claim: Piece, gold: Piece) -> Decision:
    # Brackets are compared before bounds: that costs nothing and decides many pairs.
    if (claim.closed_low, claim.closed_high) != (gold.closed_low, gold.closed_high):
        return wrong("one is open where the other is closed")
    for one, other in ((claim.low, gold.low), (claim.high, gold.high)):
        if (one is None) != (other is None):
            return wrong("one of them has no end there")
        if one is None or other is None:
            continue

        decision = compare_formulas(one, other)
        if decision.outcome == "WRONG":
            return wrong("a bound differs")
        if decision.outcome == "UNDECIDED":
            return too_close("a bound could not be compared")

    return right("the same interval")
