"""Formulas compared by their values.

Values that differ at a point prove that two formulas differ. Equal values at three unrelated points
are taken as proof that they are equal: for polynomials of degree d the chance of an accident is at
most d / 2^50 a point (Schwartz 1980, Zippel 1979). Values that are not rational are compared to 50
digits.

Tolerances are relative to the values, with no absolute floor: e^-40 is not e^-50. A value that
changes with the precision is rounding noise, and counts as zero.
"""

from fractions import Fraction
from typing import Any, Literal

from omr_data.verifiers.arithmetic import digits_of
from omr_data.verifiers.evaluate import DIGITS, POINTS, Point, point_of, value_at
from omr_data.verifiers.tokens import Unreadable
from omr_data.verifiers.tree import Formula

_NEAR = 1e-9
Relation = Literal["equal", "different", "equal where positive", "unknown"]


def same_at(one: Formula, other: Formula, point: Point, sure: bool = True) -> bool:
    """Whether two formulas have the same value at a point.

    Args:
        one: A formula.
        other: Another formula.
        point: A value for each variable.
        sure: Whether inexact values that agree in floating point are compared to 50 digits too.

    Raises:
        Unreadable: One of them has no value there.
    """

    try:
        first, second = value_at(one, point), value_at(other, point)
    except Unreadable:
        first = second = None

    if isinstance(first, Fraction) and isinstance(second, Fraction):
        return first == second
    if first is not None and second is not None:
        difference = abs(complex(first) - complex(second))
        largest = max(abs(complex(first)), abs(complex(second)))
        # Doubles tell values of ordinary size apart; the rest needs more digits.
        if largest > 1e-3 and difference > 1e-6 * largest:
            return False
        if not sure and largest > 1e-3:
            return difference <= _NEAR * largest

    first, second = _settled(one, point), _settled(other, point)
    if isinstance(first, Fraction) and isinstance(second, Fraction):
        return first == second

    # Half of the 50 digits is left to rounding, which the operations of a formula add up.
    maths = digits_of(DIGITS)
    first, second = maths.lift(first), maths.lift(second)
    largest = max(abs(first), abs(second))
    return bool(abs(first - second) <= largest * maths.context.mpf(10) ** -25)


def _settled(formula: Formula, point: Point) -> Any:
    """The value to 50 digits, or exactly zero where it is nothing but rounding noise."""
    value = value_at(formula, point, DIGITS)
    if isinstance(value, Fraction):
        return value
    if abs(value) < 1e-6:
        finer = value_at(formula, point, 2 * DIGITS)
        if abs(finer - value) > abs(finer) * _NEAR:
            return Fraction(0)

    return value


def relate(one: Formula, other: Formula) -> Relation:
    """How two formulas relate by their values.

    "equal where positive" says that they differ at the negative point only, as ln(x^2) and
    2 ln(x) do, which people count as equal.
    """
    names = one.variables | other.variables
    last = 0
    if names:
        last = POINTS - 1
    try:
        for number in range(last + 1):
            # One point in 50 digits is enough: the others tell formulas apart that agree there.
            if not same_at(one, other, point_of(names, number), sure=number == 0):
                positive_only = number == last and number > 0
                if positive_only:
                    return "equal where positive"

                return "different"
    except Unreadable:
        return "unknown"

    return "equal"
