"""Inexact arithmetic for `evaluate`: in floating point, and to any number of decimal digits."""

import cmath
import math
import threading
from collections.abc import Mapping
from fractions import Fraction
from typing import Any


class Doubles:
    """Inexact arithmetic in floating point: quick, and good for telling most values apart."""

    functions: Mapping[str, Any] = {
        "sin": cmath.sin,
        "cos": cmath.cos,
        "tan": cmath.tan,
        "arcsin": cmath.asin,
        "arccos": cmath.acos,
        "arctan": cmath.atan,
        "sinh": cmath.sinh,
        "cosh": cmath.cosh,
        "tanh": cmath.tanh,
        "ln": cmath.log,
        "exp": cmath.exp,
        "sqrt": cmath.sqrt,
        "sec": lambda x: 1 / cmath.cos(x),
        "csc": lambda x: 1 / cmath.sin(x),
        "cot": lambda x: cmath.cos(x) / cmath.sin(x),
        "abs": lambda x: complex(abs(x)),
    }
    constants: Mapping[str, Any] = {"e": complex(math.e), "π": complex(math.pi), "i": 1j}

    def lift(self, value: Any) -> Any:
        return complex(value)


class Digits:
    """Inexact arithmetic with a number of decimal digits, from mpmath."""

    def __init__(self, digits: int) -> None:
        # Loaded here, since most pairs are decided in floating point and never need it.
        import mpmath

        context = mpmath.MPContext()
        context.dps = digits
        self.context = context
        one = context.mpf(1)
        names = "sin cos tan sec csc cot sinh cosh tanh exp sqrt"
        self.functions: dict[str, Any] = {name: getattr(context, name) for name in names.split()}
        self.functions |= {
            "arcsin": context.asin,
            "arccos": context.acos,
            "arctan": context.atan,
            "ln": context.log,
            "abs": lambda x: context.mpc(abs(x)),
        }
        self.constants = {"e": context.mpc(context.e * one), "π": context.mpc(context.pi * one)}
        self.constants["i"] = context.mpc(0, 1)

    def lift(self, value: Any) -> Any:
        if isinstance(value, Fraction):
            return self.context.mpc(
                self.context.mpf(value.numerator) / self.context.mpf(value.denominator)
            )

        return value


DOUBLES = Doubles()
# One context for each thread, as mpmath's are not safe to share.
_local = threading.local()


def digits_of(count: int) -> Digits:
    """Arithmetic of this thread: a context of mpmath changes its precision while it works."""
    made: dict[int, Digits] = _local.__dict__.setdefault("made", {})
    if count not in made:
        made[count] = Digits(count)

    return made[count]
