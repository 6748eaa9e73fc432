"""Values of formulas, without a computer algebra system.

A formula is evaluated at points that are made from the names of its variables: exactly (as
fractions) where its operations are rational, else in floating point or to a number of digits.
"""

import functools
import hashlib
import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from omr_data.verifiers.arithmetic import DOUBLES, digits_of
from omr_data.verifiers.tokens import Unreadable
from omr_data.verifiers.tree import Formula, FormulaNode

MAX_BITS = 4_000
"""Bits of the largest exact number that is computed, so that 9^9^9^9 costs nothing."""
POINTS = 3
DIGITS = 50
_INFINITE = float("inf")
_LARGEST = 1e6
"""The largest argument that exp, sin and their like are computed for in 50 digits."""
_LOG_BASE = Fraction(7393, 1009)
"""Stands for the base of a logarithm that gives none; any number but a special one will do."""

Point = Mapping[str, Fraction]


def _evaluate(node: FormulaNode, point: Point, maths: Any) -> Any:
    """The value of a tree: a Fraction where it is rational, else a number of `maths`."""
    # A chain of tests and not a table: the common operations are found first.
    op = node.op
    if op == "number":
        return node.value
    if op == "variable":
        return point[node.name]
    if op == "constant":
        return maths.constants[node.name]

    parts = [_evaluate(part, point, maths) for part in node.parts]
    if op == "negate":
        return -parts[0]
    if op == "add":
        total = parts[0]
        for part in parts[1:]:
            one, other = _alike(total, part, maths)
            total = one + other

        return total

    if op == "multiply":
        one, other = _alike(parts[0], parts[1], maths)
        if isinstance(one, Fraction):
            # A product has at most the bits of both factors, so it is refused before it is made.
            top = one.numerator.bit_length() + other.numerator.bit_length()
            bottom = one.denominator.bit_length() + other.denominator.bit_length()
            if max(top, bottom) > MAX_BITS:
                raise Unreadable("a number of that size is not computed")

        return one * other

    if op == "divide":
        one, other = _alike(parts[0], parts[1], maths)
        return one / other
    if op == "power":
        return _finite(_power(parts[0], parts[1], maths))
    if op == "call":
        return _finite(_call(node.name, parts, maths))

    return _unary(op, parts, maths)


def _finite(value: Any) -> Any:
    """The value, unless it is infinite or no number: infinities would equal everything."""
    # NaN fails the comparison as well, which is meant.
    if isinstance(value, Fraction) or abs(value) < _INFINITE:
        return value

    raise Unreadable("it has no finite value")


def _alike(one: Any, other: Any, maths: Any) -> tuple[Any, Any]:
    if isinstance(one, Fraction):
        if isinstance(other, Fraction):
            return one, other

        return maths.lift(one), other

    if isinstance(other, Fraction):
        return one, maths.lift(other)

    return one, other


def _unary(op: str, parts: list[Any], maths: Any) -> Any:
    # Operations on one number; factorials and binomials are bounded by hand.
    value = parts[0]
    if op == "absolute":
        if isinstance(value, Fraction):
            return abs(value)

        return maths.functions["abs"](value)

    if op == "root":
        return _root(value, maths)
    if op == "percent":
        return value / 100
    if op == "degrees":
        return maths.lift(value) * maths.constants["π"] / 180

    whole = [part for part in parts if isinstance(part, Fraction) and part.denominator == 1]
    if len(whole) != len(parts) or any(not 0 <= part <= 300 for part in whole):
        raise Unreadable("factorials and binomials of whole numbers up to 300 are computed")
    if op == "factorial":
        return Fraction(math.factorial(int(value)))

    return Fraction(math.comb(int(parts[0]), int(parts[1])))


def _power(base: Any, exponent: Any, maths: Any) -> Any:
    """Exact for whole exponents; never computes a number of more than MAX_BITS bits."""
    if isinstance(exponent, Fraction):
        if exponent.denominator == 1:
            whole = int(exponent)
            if isinstance(base, Fraction):
                bits = max(base.numerator.bit_length(), base.denominator.bit_length())
                if abs(whole) * bits > MAX_BITS:
                    raise Unreadable("a number of that size is not computed")

                return base**whole

            if abs(whole) > _LARGEST:
                raise Unreadable("an exponent of that size is not computed")

            return base**whole

        # Half powers are roots, and exact for squares; the limit bounds the work.
        if exponent.denominator == 2 and abs(exponent) < 50:
            return _power(_root(base, maths), exponent * 2, maths)
        if isinstance(base, Fraction) and base < 0 and exponent.denominator % 2:
            # An odd root of a negative number is the real one, as the radical sign means it.
            sign = 1
            if exponent.numerator % 2:
                sign = -1

            return sign * _power(-base, exponent, maths)

    # Everything else is inexact. The size of the result is estimated before it is computed.
    base, exponent = maths.lift(base), maths.lift(exponent)
    if base == 0:
        raise Unreadable("a power of zero")
    if abs(exponent) > _LARGEST or abs(exponent) * abs(math.log(float(abs(base)))) > _LARGEST:
        raise Unreadable("a number of that size is not computed")

    return base**exponent


def _root(value: Any, maths: Any) -> Any:
    """A square root: exact where it is rational."""
    if isinstance(value, Fraction):
        if value >= 0:
            top, bottom = math.isqrt(value.numerator), math.isqrt(value.denominator)
            if top * top == value.numerator and bottom * bottom == value.denominator:
                return Fraction(top, bottom)

        value = maths.lift(value)

    return maths.functions["sqrt"](value)


def _call(name: str, parts: list[Any], maths: Any) -> Any:
    # Floor and ceiling stay exact, all other functions leave the rationals.
    value = parts[0]
    if name in ("floor", "ceil"):
        if not isinstance(value, Fraction):
            value = Fraction(float(maths.lift(value).real))

        return Fraction(math.floor(value) if name == "floor" else math.ceil(value))

    # Beyond the limit an exponential overflows, and a sine loses all of its digits.
    lifted = maths.lift(value)
    if name == "log":
        base = maths.lift(parts[1] if len(parts) > 1 else _LOG_BASE)
        return maths.functions["ln"](lifted) / maths.functions["ln"](base)
    if name != "ln" and abs(lifted) > _LARGEST:
        raise Unreadable("a function of a number of that size is not computed")
    # Zero stays exact, since it may become a denominator or a base.
    if name in ("sin", "tan") and isinstance(value, Fraction) and value == 0:
        return value

    return maths.functions[name](lifted)


@functools.lru_cache(maxsize=4_096)
def coordinate(name: str, number: int) -> Fraction:
    """A number of 50 random bits from 0.5 to 2.5, made from a variable's name.

    Args:
        name: The variable.
        number: Which point. The last one is negative, so that |x| and x differ there.
    """
    bits = int.from_bytes(hashlib.sha256(f"{name}:{number}".encode()).digest()[:7]) >> 6
    size = Fraction(1, 2) + Fraction(bits, 2**49)
    if number == POINTS - 1:
        return -size

    return size


@functools.lru_cache(maxsize=1_024)
def point_of(names: frozenset[str], number: int) -> Point:
    """The point of that number for these variables."""
    return {name: coordinate(name, number) for name in names}


def value_at(formula: Formula, point: Point, digits: int = 0) -> Any:
    """The value of a formula at a point.

    Args:
        formula: What to evaluate.
        point: A value for each of its variables.
        digits: Decimal digits of inexact values; 0 for floating point.

    Raises:
        Unreadable: It has no value there, or one too large to compute.
    """
    # Doubles by default: they are thirty times as fast as 50 digits.
    maths: Any = DOUBLES
    if digits:
        maths = digits_of(digits)

    try:
        return _evaluate(formula.root, point, maths)
    except (ArithmeticError, ValueError, TypeError, RecursionError) as error:
        raise Unreadable(f"it has no value at a point: {error}") from error


def exact_value(formula: Formula) -> Fraction | None:
    """The value of a formula without variables, where it is rational and found exactly."""
    if formula.variables:
        return None
    try:
        value = value_at(formula, {})
    except Unreadable:
        return None

    if isinstance(value, Fraction):
        return value

    return None
