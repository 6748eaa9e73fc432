"""Equations, and chains of equal values such as 3 + 4 = 7 or \\sqrt{5} ≈ 2.236.

An equation is the same as another when left minus right is, up to a constant factor: y = 2x is
2y = 4x. A chain without variables states a value; a chain that does not hold is never right.
"""

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from omr_data.verifiers.answers.base import Answer, Reader, Rules
from omr_data.verifiers.answers.expression import Expression, compare_formulas, read_formula
from omr_data.verifiers.answers.number import Number
from omr_data.verifiers.base import Decision, right, too_close, wrong
from omr_data.verifiers.compare import compare_if_comparable
from omr_data.verifiers.evaluate import DIGITS, POINTS, point_of, value_at
from omr_data.verifiers.numerals import read_numeral
from omr_data.verifiers.relation import relate
from omr_data.verifiers.scanner import split
from omr_data.verifiers.tokens import Unreadable
from omr_data.verifiers.tree import Formula, FormulaNode

_FUNCTION = re.compile(r"[a-zA-Z]\s*\(\s*[a-z]\s*\)")
_SIDES = 6


@dataclass(frozen=True, slots=True)
class Equation(Answer):
    """Two sides with variables."""

    sides: tuple[Formula, Formula]
    """Left and right."""
    bare: int = -1
    """Which side is a name alone, or -1: y in y = 2x, f(x) in f(x) = 2x."""

    order = 42

    @classmethod
    def read(cls, text: str, parts: Reader) -> "Equation | None":
        if "=" not in text or "<" in text or ">" in text or "!=" in text:
            return None

        texts = split(text, ("=",))
        if not 2 <= len(texts) <= _SIDES:
            return None

        bare = -1
        if _FUNCTION.fullmatch(texts[0]):
            # f(x) is one name here, not f times x.
            formula = Formula(
                FormulaNode("variable", name=texts[0]), frozenset({texts[0]}), frozenset()
            )
            formulas = [formula, *(read_formula(side) for side in texts[1:])]
            bare = 0
        else:
            formulas = [read_formula(side) for side in texts]

        read = [side for side in formulas if side is not None]
        if len(read) != len(texts) or not any(side.variables for side in read):
            return None
        # y = 2(x + 1) = 2x + 2: the steps between must hold, and the last one counts.
        if any(relate(one, read[-1]) != "equal" for one in read[1:-1]):
            return None

        sides = (read[0], read[-1])
        # The right side is looked at first, so that of "x = y" the left one is the bare name.
        if bare < 0:
            for at in (1, 0):
                if sides[at].root.op == "variable":
                    bare = at

        return cls(sides, bare)

    @property
    def states_value(self) -> bool:
        """Whether it is a name with a constant, which `NamedValues` compares."""
        return self.bare >= 0 and not self.sides[1 - self.bare].variables

    def compare(self, claim: Answer, rules: Rules) -> Decision | None:
        if isinstance(claim, Equation):
            # `NamedValues` reads these as well, and compares their names.
            if self.states_value and claim.states_value:
                return None

            return _compare_equations(claim, self)

        if isinstance(claim, Chain):
            return wrong("an identity without the variables of the gold equation")
        if isinstance(claim, (Expression, Number)) and not self.states_value:
            return self._compare_side(claim, rules, gold_is_equation=True)

        return None

    def compare_as_claim(self, gold: Answer, rules: Rules) -> Decision | None:
        if isinstance(gold, (Expression, Number)) and not self.states_value:
            return self._compare_side(gold, rules, gold_is_equation=False)

        return None

    def _compare_side(self, other: Answer, rules: Rules, gold_is_equation: bool) -> Decision | None:
        """ "y = 2x + 1" against "2x + 1": the side across from a bare name counts."""
        if self.bare < 0:
            return None

        side = Expression(self.sides[1 - self.bare])
        if gold_is_equation:
            return compare_if_comparable((other,), (side,), rules)

        return compare_if_comparable((side,), (other,), rules)


@dataclass(frozen=True, slots=True)
class Chain(Answer):
    """Values joined by = and ≈, without variables."""

    values: tuple[Formula, ...]
    """The values, in order."""
    texts: tuple[str, ...]
    """Their texts, in order."""
    holds: bool
    """Whether all of them are equal, and each decimal after ≈ rounds the first value."""

    order = 43

    @classmethod
    def read(cls, text: str, parts: Reader) -> "Chain | None":
        # Inequality signs are left to other types, so that each text has one reading here.
        if ("=" not in text and "≈" not in text) or re.search("[<>!]=?", text):
            return None

        texts = split(text, ("=", "≈"))
        if not 2 <= len(texts) <= _SIDES:
            return None

        formulas = [read_formula(side) for side in texts]
        read = [side for side in formulas if side is not None]
        if len(read) != len(texts) or any(side.variables for side in read):
            return None

        # One ≈ makes every step a rounding: models mix both signs within one chain.
        rounded = "≈" in text
        holds = all(
            _step_holds(read[0], value, side, rounded)
            for value, side in zip(read[1:], texts[1:], strict=True)
        )
        return cls(tuple(read), tuple(texts), holds)

    def compare(self, claim: Answer, rules: Rules) -> Decision | None:
        if isinstance(claim, Chain):
            if claim.holds and self.holds:
                return compare_formulas(claim.values[0], self.values[0])

            # A chain that does not hold states no value, so only the same chain equals it.
            same_length = len(claim.values) == len(self.values)
            pairs = zip(claim.values, self.values, strict=False)
            if same_length and all(relate(one, other) == "equal" for one, other in pairs):
                return right("equal side by side")

            return wrong("one of them does not hold, and their sides differ")

        if isinstance(claim, Equation):
            return wrong("an equation with variables, where the gold answer has none")
        if not isinstance(claim, (Number, Expression)):
            return None
        if not self.holds:
            return too_close("the gold answer's own sides differ")
        for text in self.texts[1:]:
            # The gold answer's own decimal is right with however few digits it has.
            decimal = read_numeral(text)
            if decimal and isinstance(claim, Number) and claim.value == decimal.value:
                return right("the gold answer's decimal")

        return compare_if_comparable((claim,), (Expression(self.values[0]),), rules)

    def compare_as_claim(self, gold: Answer, rules: Rules) -> Decision | None:
        if not isinstance(gold, (Number, Expression)):
            return None
        if not self.holds:
            return wrong("its own sides differ")

        return compare_if_comparable((Expression(self.values[0]),), (gold,), rules)


def _step_holds(first: Formula, value: Formula, text: str, rounded: bool) -> bool:
    # Equality is tested first: it needs no decimal, and holds for most chains.
    if relate(first, value) == "equal":
        return True

    decimal = read_numeral(text)
    if decimal is None or not rounded:
        return False
    try:
        exact: Any = value_at(first, {})
    except Unreadable:
        return False

    if isinstance(exact, Fraction):
        exact = complex(exact)

    # Half a unit of the last place, with room for the error of a double.
    half = 0.5 * 10.0 ** -max(decimal.places, 0) * (1 + 1e-9)
    return bool(abs(exact - complex(decimal.value)) <= half)


def _difference(equation: Equation) -> Formula:
    left, right_side = equation.sides
    root = FormulaNode("add", (left.root, FormulaNode("negate", (right_side.root,))))
    return Formula(root, left.variables | right_side.variables, left.traits | right_side.traits)


def _compare_equations(claim: Equation, gold: Equation) -> Decision:
    """By the ratio of left minus right, which is constant for equations that are the same."""
    if claim.bare >= 0 and gold.bare >= 0:
        names = [side.sides[side.bare].root.name for side in (claim, gold)]
        if ("(" in names[0]) != ("(" in names[1]):
            # y = x^2 and f(x) = x^2 say the same of x.
            values = [side.sides[1 - side.bare] for side in (claim, gold)]
            return compare_formulas(values[0], values[1])

    one, other = _difference(claim), _difference(gold)
    if one.variables != other.variables:
        extra = one.traits | other.traits
        # A variable may cancel out; where nothing divides, another variable is another equation.
        if not extra:
            return wrong("other variables")

    variables = one.variables | other.variables
    ratios = []

    try:
        for number in range(POINTS):
            point = point_of(variables, number)
            first, second = value_at(one, point), value_at(other, point)
            # Fractions are compared exactly; a ratio of doubles would be too coarse to trust.
            if not (isinstance(first, Fraction) and isinstance(second, Fraction)):
                first, second = value_at(one, point, DIGITS), value_at(other, point, DIGITS)
            if second == 0 or first == 0:
                return wrong("one of them holds everywhere")

            ratios.append(first / second)
    except (Unreadable, ArithmeticError):
        return too_close("a side has no value at a point")

    if all(_same_ratio(ratio, ratios[0]) for ratio in ratios):
        return right("the same equation")
    if one.traits | other.traits:
        # Multiplied by a variable or squared, an equation may still have the same solutions.
        return _compare_solutions(claim, gold)

    return wrong("the equations differ")


def _same_ratio(one: Any, other: Any) -> bool:
    if isinstance(one, Fraction) and isinstance(other, Fraction):
        return one == other
    if isinstance(one, Fraction) or isinstance(other, Fraction):
        # An exact ratio against an inexact one: only the precision of doubles is left.
        one, other = complex(one), complex(other)
        return bool(abs(one - other) <= 1e-12 * abs(other))

    return bool(abs(one - other) <= abs(other) * Fraction(1, 10**25).__float__())


def _compare_solutions(claim: Equation, gold: Equation) -> Decision:
    """Whether the points of an explicit gold equation (y = ...) solve the claim as well."""
    # Only an explicit equation gives points without solving anything.
    if gold.bare < 0 or gold.sides[gold.bare].root.op != "variable":
        return too_close("the equations differ in form")

    name = gold.sides[gold.bare].root.name
    rest = gold.sides[1 - gold.bare]
    if name in rest.variables:
        return too_close("the equations differ in form")

    names = claim.sides[0].variables | claim.sides[1].variables | rest.variables

    try:
        for number in range(POINTS - 1):
            point = dict(point_of(names, number))
            value = value_at(rest, point)
            if not isinstance(value, Fraction):
                return too_close("the equations differ in form")

            point[name] = value
            left, right_side = (value_at(side, point) for side in claim.sides)
            # Relative to the value: an absolute limit would take small solutions for equal.
            if abs(complex(left) - complex(right_side)) > 1e-9 * abs(complex(left)):
                return wrong("the equations have different solutions")
    except Unreadable:
        return too_close("the equations differ in form")

    return too_close("the equations share solutions and differ in form")
