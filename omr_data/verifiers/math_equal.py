"""Formulas: expressions, equations, tuples, sets, intervals and matrices. Order matters in tuples, not in sets.

What `expressions` can read is compared by value in this process; the rest goes to math-verify in a process of its own,
unless it is of a kind that an algebra system cannot finish.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from omr_data.records import RIGHT, UNDECIDED, WRONG
from omr_data.verifiers import base
from omr_data.verifiers.base import Decision, right, undecided, wrong
from omr_data.verifiers.expressions import Unreadable, read_formula, same_value, values
from omr_data.verifiers.isolated import shared_algebra_workers
from omr_data.verifiers.numbers import close, read_number
from omr_data.verifiers.structures import Shape, read_shape

_FORMULA = re.compile(r"[\d=+*/^\\(){}\[\]|<>]|^[A-Za-z]{1,2}$")
_LONGEST = 400
_DEEPEST = 20
_UNORDERED = ("set", "list")


@dataclass(frozen=True)
class Verifier(base.Verifier):
    """Accepts a gold answer that looks like mathematics: digits, operators, brackets or commands, or one or two letters."""

    significant: int = 3

    def accepts(self, gold: str, options: tuple[str, ...]) -> bool:
        return _FORMULA.search(gold) is not None

    def decide(self, claim: str, gold: str, options: tuple[str, ...]) -> Decision:
        if claim == gold:
            return right("the same formula, sign for sign")
        if not _readable(claim):
            return undecided("the answer is no formula")
        if len(claim) > _LONGEST or len(gold) > _LONGEST:
            return undecided(f"a formula of more than {_LONGEST} characters is not compared")
        return self._shapes(read_shape(claim), read_shape(gold))

    def _shapes(self, claim: Shape, gold: Shape) -> Decision:
        if claim.kind in _UNORDERED and gold.kind in _UNORDERED:
            return self._unordered(claim.parts, gold.parts)
        if {claim.kind, gold.kind} == {"tuple", "interval"} and claim.brackets != gold.brackets:
            return wrong("their brackets differ")
        if claim.kind != gold.kind and {claim.kind, gold.kind} != {"tuple", "interval"}:
            return self._mixed(claim, gold)
        match gold.kind:
            case "expression":
                return self._expressions(claim.parts[0], gold.parts[0])
            case "equation":
                return _equations(claim.parts, gold.parts)
            case "union":
                return self._unordered(claim.parts, gold.parts)
            case "empty":
                return right("both are empty")
        if claim.brackets != gold.brackets:
            return wrong("their brackets or their sizes differ")
        return self._ordered(claim.parts, gold.parts)

    def _mixed(self, claim: Shape, gold: Shape) -> Decision:
        """Kinds that differ: a set of one is its element; a list may be meant as a tuple; the rest are different things."""
        for one, other in ((claim, gold), (gold, claim)):
            if one.kind in _UNORDERED and len(one.parts) == 1 and other.kind == "expression":
                return self._expressions(claim.parts[0], gold.parts[0])
        kinds = {claim.kind, gold.kind}
        if kinds & {"equation", "list"}:
            if kinds == {"list", "tuple"}:
                ordered = self._ordered(claim.parts, gold.parts)
                return (
                    ordered
                    if ordered.outcome == RIGHT
                    else undecided("one is a tuple, the other a list")
                )
            if kinds == {"equation", "expression"}:
                return self._side(claim, gold)
        if "expression" in kinds and not _readable(
            (claim if claim.kind == "expression" else gold).parts[0]
        ):
            return undecided("one of the two is no formula")
        return wrong(f"one is a {claim.kind}, the gold answer a {gold.kind}")

    def _side(self, claim: Shape, gold: Shape) -> Decision:
        """ "y = 2x + 1" against "2x + 1": the value is the same when one side is a bare name."""
        equation, expression = (claim, gold) if claim.kind == "equation" else (gold, claim)
        named = [
            side
            for side in equation.parts
            if re.fullmatch(r"[A-Za-z](?:_\{?\w\}?)?(?:\([a-z]\))?", side)
        ]
        if len(named) != 1:
            return undecided("one is an equation, the other is not")
        rest = next(side for side in equation.parts if side != named[0])
        return self._expressions(
            *((rest, expression.parts[0]) if equation is claim else (expression.parts[0], rest))
        )

    def _ordered(self, claim: Sequence[str], gold: Sequence[str]) -> Decision:
        if len(claim) != len(gold):
            return wrong(f"it has {len(claim)} parts, the gold answer {len(gold)}")
        parts = [self._part(one, other) for one, other in zip(claim, gold, strict=True)]
        if bad := next((part for part in parts if part.outcome == WRONG), None):
            return wrong(f"a part differs: {bad.reason}")
        return next(
            (part for part in parts if part.outcome == UNDECIDED), right("equal part by part")
        )

    def _unordered(self, claim: Sequence[str], gold: Sequence[str]) -> Decision:
        """Each gold part needs a partner, and each claimed part too; equal parts count once."""
        found = [[self._part(one, other) for other in gold] for one in claim]
        rows = [[decision.outcome for decision in row] for row in found]
        columns = list(zip(*rows, strict=True))
        if all(RIGHT in line for line in [*rows, *columns]):
            return right("equal sets")
        if any(set(line) == {WRONG} for line in [*rows, *columns]):
            return wrong("a part has no equal in the other")
        return undecided("some parts could not be compared")

    def _part(self, claim: str, gold: str) -> Decision:
        if claim == gold:
            return right("the same")
        one, other = read_shape(claim), read_shape(gold)
        if one.kind == other.kind == "expression":
            return self._expressions(one.parts[0], other.parts[0])
        return self._shapes(one, other)

    def _expressions(self, claim: str, gold: str) -> Decision:
        numbers = read_number(claim), read_number(gold)
        if numbers[0] and numbers[1] and not (numbers[0].words or numbers[1].words):
            same = (
                close(numbers[0], numbers[1], self.significant)
                and numbers[0].percent == numbers[1].percent
            )
            return (
                right("the same number")
                if same
                else wrong(f"{_short(claim)} is not {_short(gold)}")
            )
        infinite = [_INFINITY.fullmatch(text) for text in (claim, gold)]
        if any(infinite):
            same = (
                infinite[0] is not None
                and infinite[1] is not None
                and infinite[0][1] == infinite[1][1]
            )
            return right("both are infinite") if same else wrong("one is infinite")
        try:
            first, second = read_formula(claim), read_formula(gold)
            names = first.variables | second.variables
            pairs = list(zip(values(first, names), values(second, names), strict=True))
        except Unreadable:
            return _by_algebra(claim, gold)
        if all(same_value(one, other) for one, other in pairs):
            return right(f"equal in value at {len(pairs)} points" if names else "equal in value")
        if (
            numbers[0]
            and not numbers[0].exact
            and not names
            and _rounds(complex(pairs[0][1]), claim, self.significant)
        ):
            return right("the gold value, rounded")
        return wrong("the values differ")


_ENVIRONMENT = re.compile(r"\\(?:begin|end)\{\w+\}")
_WORDS = {"sin", "cos", "tan", "log", "sqrt", "exp", "mod", "max", "min", "gcd", "lcm", "and"}
_FILLERS = {"so", "to", "of", "is", "no", "at", "if", "it", "up", "by", "as", "an"}
_INFINITY = re.compile(r"([+-]?)\s*(?:\\infty|infinity|oo)")


def _rounds(value: complex, claim: str, significant: int) -> bool:
    """Whether a decimal is a value rounded to its places, with enough significant digits."""
    number = read_number(claim)
    assert number is not None  # the caller read it
    half = 0.5 * 10.0**-number.places * (1 + 1e-9)
    return (
        abs(value.imag) < 1e-9
        and number.digits >= significant
        and abs(value.real - float(number.value)) <= half
    )


def _equations(claim: tuple[str, ...], gold: tuple[str, ...]) -> Decision:
    """Equal when left minus right is the same up to a constant factor: y = 2x is 2y = 4x."""
    try:
        sides = [read_formula(f"({left})-({right})") for left, right in (claim, gold)]
        names = sides[0].variables | sides[1].variables
        first, second = (values(side, names) for side in sides)
        ratios = [complex(one) / complex(other) for one, other in zip(first, second, strict=True)]
    except (Unreadable, ArithmeticError):
        return _by_algebra("=".join(claim), "=".join(gold))
    if all(same_value(ratio, ratios[0]) for ratio in ratios) and ratios[0] != 0:
        return right("the same equation")
    return wrong("the equations differ")


def _by_algebra(claim: str, gold: str) -> Decision:
    """Asks math-verify in a process of its own."""
    for text in (claim, gold):
        if not _safe(text):
            return undecided("a formula of this size is not given to the algebra system")
        if not _readable(text):
            return undecided(
                "the answer is no formula" if text == claim else "the gold answer is no formula"
            )
    match shared_algebra_workers().equal(claim, gold):
        case "equal":
            return right("equal, says math-verify")
        case "different":
            return wrong("not equal, says math-verify")
        case "timeout":
            return undecided("the algebra system ran out of time")
        case "memory":
            return undecided("the algebra system ran out of memory")
        case "died":
            return undecided("the algebra system died twice")
    return undecided("the algebra system cannot read it")


def _safe(text: str) -> bool:
    """Towers of powers, factorials and long numbers never finish, so they are not begun."""
    depth = deepest = 0
    for sign in text:
        depth += (sign in "({[") - (sign in ")}]")
        deepest = max(deepest, depth)
    return (
        deepest <= _DEEPEST
        and text.count("^") <= 6
        and "!" not in text
        and not re.search(r"\d{40}|\^\s*\{?\s*-?\d{4}|\^[^+\-=]{0,12}\^", text)
    )


def _readable(text: str) -> bool:
    """Whether a text may be a formula at all: no sentence, no word that is not a command."""
    words = re.findall(r"(?<![\\A-Za-z])[A-Za-z]{2,}", _ENVIRONMENT.sub("", text))
    return all(word in _WORDS if len(word) > 2 else word not in _FILLERS for word in words)


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."
