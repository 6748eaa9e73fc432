"""Formulas read without a computer algebra system, and compared by their values.

Two expressions without variables are compared exactly (as fractions) or to 1e-9 of their size; two with variables at
points that are drawn from the variables' names. Different values prove that they differ. Equal values at three unrelated
points are taken as proof that they are equal: for a polynomial of degree d the chance of an accident is at most
d / 2^50 a point (Schwartz-Zippel). About 30 microseconds; a computer algebra system takes some milliseconds.
"""

import cmath
import hashlib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction

Value = Fraction | complex
Evaluate = Callable[[Mapping[str, Value]], Value]

MAX_LENGTH = 400
MAX_DEPTH = 40
MAX_BITS = 4_000
POINTS = 3
RELATIVE = 1e-9

_TOKEN = re.compile(
    r"\s*(?:(\d+(?:\.\d+)?|\.\d+)|\\([a-zA-Z]+)|(sqrt|sin|cos|tan|log|ln|exp|pi)(?![a-zA-Z])|([a-zA-Z])|(\*\*|[-+*/^_(){}\[\]|!]))"
)
_FUNCTIONS: dict[str, Callable[[complex], complex]] = {
    "sin": cmath.sin,
    "cos": cmath.cos,
    "tan": cmath.tan,
    "sec": lambda x: 1 / cmath.cos(x),
    "csc": lambda x: 1 / cmath.sin(x),
    "cot": lambda x: 1 / cmath.tan(x),
    "arcsin": cmath.asin,
    "arccos": cmath.acos,
    "arctan": cmath.atan,
    "sinh": cmath.sinh,
    "cosh": cmath.cosh,
    "tanh": cmath.tanh,
    "ln": cmath.log,
    "exp": cmath.exp,
}
_GREEK = {
    "alpha",
    "beta",
    "gamma",
    "delta",
    "theta",
    "lambda",
    "mu",
    "omega",
    "phi",
    "rho",
    "sigma",
    "tau",
    "epsilon",
    "varphi",
    "eta",
    "xi",
}
_CONSTANTS: dict[str, complex] = {"pi": math.pi, "e": math.e, "i": 1j}


class Unreadable(Exception):
    """The text is not a formula of the kind that is read here, or its value is too large."""


@dataclass(frozen=True, slots=True)
class Formula:
    """A formula: how to evaluate it, and the names of its variables."""

    evaluate: Evaluate
    variables: frozenset[str]


def read_formula(text: str) -> Formula:
    """Reads one expression in LaTeX or plain notation. Raises Unreadable."""
    if len(text) > MAX_LENGTH:
        raise Unreadable("too long")
    parser = _Parser(_tokens(text))
    evaluate = parser.sum(0)
    if parser.at < len(parser.tokens):
        raise Unreadable(f"{parser.tokens[parser.at]!r} is not expected there")
    return Formula(evaluate, frozenset(parser.variables))


def values(formula: Formula, names: frozenset[str]) -> list[Value]:
    """Its values at the points that the names give: one when there is no variable. Raises Unreadable where there is none."""
    found = []
    for point in range(POINTS if names else 1):
        place = {name: _coordinate(name, point) for name in names}
        try:
            found.append(formula.evaluate(place))
        except (ArithmeticError, ValueError) as error:
            raise Unreadable(f"it has no value at a point: {error}") from error
    return found


def _coordinate(name: str, point: int) -> Fraction:
    """A number of 50 random bits from 0.5 to 2.5; negative at the last point, so that |x| and x differ."""
    bits = int.from_bytes(hashlib.sha256(f"{name}:{point}".encode()).digest()[:7]) >> 6
    size = Fraction(1, 2) + Fraction(bits, 2**49)
    return -size if point == POINTS - 1 else size


def same_value(one: Value, other: Value) -> bool:
    """Equal as fractions, or to 1e-9 of their size."""
    if isinstance(one, Fraction) and isinstance(other, Fraction):
        return one == other
    first, second = complex(one), complex(other)
    return abs(first - second) <= RELATIVE * max(abs(first), abs(second), 1e-6)


def _tokens(text: str) -> list[str]:
    found, at = [], 0
    while at < len(text.rstrip()):
        match = _TOKEN.match(text, at)
        if match is None:
            raise Unreadable(f"{text[at : at + 10]!r} is not understood")
        number, command, function, letter, sign = match.groups()
        found.append(
            number
            or (f"\\{command}" if command else "")
            or (f"\\{function}" if function else "")
            or letter
            or sign
        )
        at = match.end()
    return found


class _Parser:
    """Recursive descent: sum > product > power > atom. Two factors side by side are multiplied."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens, self.at = tokens, 0
        self.variables: set[str] = set()

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self, expected: str = "") -> str:
        token = self.peek()
        if not token or (expected and token != expected):
            raise Unreadable(f"{expected or 'more'} is missing")
        self.at += 1
        return token

    def sum(self, depth: int) -> Evaluate:
        if depth > MAX_DEPTH:
            raise Unreadable("nested too deeply")
        negative = self.peek() == "-"
        if self.peek() in ("+", "-"):
            self.take()
        total = self.product(depth)
        if negative:
            total = _negated(total)
        while self.peek() in ("+", "-"):
            minus = self.take() == "-"
            if self.peek() in ("+", "-"):  # x + -5
                minus ^= self.take() == "-"
            term = self.product(depth)
            total = _binary(_add, total, _negated(term) if minus else term)
        return total

    def product(self, depth: int) -> Evaluate:
        result = self.power(depth)
        while True:
            token = self.peek()
            if token in ("*", "\\cdot", "\\times"):
                self.take()
                result = _binary(_multiply, result, self.signed(depth))
            elif token in ("/", "\\div"):
                self.take()
                result = _binary(_divide, result, self.signed(depth))
            elif token and (token[0].isalnum() or token[0] == "\\" or token in ("(", "{")):
                if token[0].isdigit():
                    raise Unreadable("two numbers side by side")
                result = _binary(_multiply, result, self.power(depth))
            else:
                return result

    def signed(self, depth: int) -> Evaluate:
        if self.peek() == "-":
            self.take()
            return _negated(self.power(depth))
        return self.power(depth)

    def power(self, depth: int) -> Evaluate:
        base = self.atom(depth)
        while self.peek() == "!":
            self.take()
            base = _unary(_factorial, base)
        if self.peek() in ("^", "**"):
            self.take()
            exponent = (
                self.signed(depth + 1)
                if self.peek() in ("-", "(")
                else self.argument(depth + 1, powered=True)
            )
            return _binary(_power, base, exponent)
        return base

    def argument(self, depth: int, powered: bool = False) -> Evaluate:
        """What a command takes: a group in braces, or one token (\\frac12, x^2)."""
        if self.peek() == "{":
            self.take()
            inside = self.sum(depth + 1)
            self.take("}")
            return inside
        token = self.peek()
        if token[:1].isdigit() and len(token) > 1 and not powered:
            # \frac12: each takes one digit.
            self.tokens[self.at : self.at + 1] = list(token)
        return self.atom(depth + 1)

    def atom(self, depth: int) -> Evaluate:
        if depth > MAX_DEPTH:
            raise Unreadable("nested too deeply")
        token = self.take()
        if token[0].isdigit() or token[0] == ".":
            number = Fraction(token)
            return lambda _: number
        closing = {"(": ")", "{": "}", "[": "]", "|": "|"}.get(token)
        if closing:
            inside = self.sum(depth + 1)
            self.take(closing)
            return _unary(_absolute, inside) if token == "|" else inside
        if token[0] == "\\":
            return self.command(token[1:], depth)
        if token.isalpha():
            return self.name(token)
        raise Unreadable(f"{token!r} is not expected there")

    def name(self, name: str) -> Evaluate:
        if name in _CONSTANTS:
            constant = _CONSTANTS[name]
            return lambda _: constant
        if self.peek() == "_":
            self.take()
            if self.peek() == "{":
                self.take()
                name += "_" + self.take()
                self.take("}")
            else:
                name += "_" + self.take()
        self.variables.add(name)
        return lambda place: place[name]

    def command(self, name: str, depth: int) -> Evaluate:
        if name == "frac":
            top = self.argument(depth)
            return _binary(_divide, top, self.argument(depth))
        if name == "sqrt":
            return self.root(depth)
        if name in ("pi",) or name in _GREEK:
            return self.name(name)
        if name == "log":
            return self.logarithm(depth)
        if name in _FUNCTIONS:
            return self.function(_FUNCTIONS[name], depth)
        raise Unreadable(f"\\{name} is not understood")

    def root(self, depth: int) -> Evaluate:
        if self.peek() == "[":
            self.take()
            degree = self.sum(depth + 1)
            self.take("]")
            return _binary(
                _power, self.argument(depth), _binary(_divide, lambda _: Fraction(1), degree)
            )
        return _unary(_root, self.argument(depth))

    def logarithm(self, depth: int) -> Evaluate:
        """The natural logarithm without a base is left to the algebra system: people mean ten or e."""
        if self.peek() != "_":
            raise Unreadable("a logarithm without a base")
        self.take()
        base = self.argument(depth)
        return _binary(
            _divide,
            self.function(cmath.log, depth),
            _unary(lambda value: cmath.log(complex(value)), base),
        )

    def function(self, call: Callable[[complex], complex], depth: int) -> Evaluate:
        power: Evaluate | None = None
        if self.peek() == "^":
            self.take()
            power = self.argument(depth)
        inside = self.argument(depth) if self.peek() in ("{", "(") else self.power(depth + 1)
        value = _unary(lambda number: call(complex(number)), inside)
        return value if power is None else _binary(_power, value, power)


def _unary(call: Callable[[Value], Value], inside: Evaluate) -> Evaluate:
    def evaluate(place: Mapping[str, Value]) -> Value:
        return call(inside(place))

    return evaluate


def _binary(call: Callable[[Value, Value], Value], left: Evaluate, right: Evaluate) -> Evaluate:
    return lambda place: call(left(place), right(place))


def _negated(inside: Evaluate) -> Evaluate:
    return lambda place: -inside(place)


def _absolute(value: Value) -> Value:
    return abs(value) if isinstance(value, Fraction) else complex(abs(value))


def _add(one: Value, other: Value) -> Value:
    return (
        one + other
        if isinstance(one, Fraction) and isinstance(other, Fraction)
        else complex(one) + complex(other)
    )


def _multiply(one: Value, other: Value) -> Value:
    if isinstance(one, Fraction) and isinstance(other, Fraction):
        if one.numerator.bit_length() + other.numerator.bit_length() > MAX_BITS:
            raise OverflowError("too large")
        return one * other
    return complex(one) * complex(other)


def _divide(one: Value, other: Value) -> Value:
    return (
        one / other
        if isinstance(one, Fraction) and isinstance(other, Fraction)
        else complex(one) / complex(other)
    )


def _power(base: Value, exponent: Value) -> Value:
    """Exact for whole exponents; never computes a number of more than MAX_BITS bits."""
    if isinstance(base, Fraction) and isinstance(exponent, Fraction) and exponent.denominator == 1:
        bits = max(base.numerator.bit_length(), base.denominator.bit_length())
        if abs(exponent) * bits > MAX_BITS:
            raise OverflowError("too large")
        return base ** int(exponent)
    if isinstance(exponent, Fraction) and exponent == Fraction(1, 2):
        return _root(base)
    return complex(base) ** complex(exponent)


def _root(value: Value) -> Value:
    """A square root: exact where it is rational."""
    if isinstance(value, Fraction) and value >= 0:
        top, bottom = math.isqrt(value.numerator), math.isqrt(value.denominator)
        if top * top == value.numerator and bottom * bottom == value.denominator:
            return Fraction(top, bottom)
    return cmath.sqrt(complex(value))


def _factorial(value: Value) -> Value:
    if not isinstance(value, Fraction) or value.denominator != 1 or not 0 <= value <= 300:
        raise OverflowError("a factorial of that is not computed")
    return Fraction(math.factorial(int(value)))
