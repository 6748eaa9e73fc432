r"""Formulas in plain notation (see `normalize`), read completely into a tree.

**FormulaNode**: an operation with its parts. `parse_formula` succeeds only when it has read every
character, so "3x apples" has no tree. Two factors side by side are multiplied, a letter is a
variable (`e`, `i` and π are constants), and `\log` without a base has an unknown base, because
people mean ten or e by it.
"""

import functools
from fractions import Fraction

from omr_data.verifiers.tokens import FUNCTIONS, Unreadable, tokens_of
from omr_data.verifiers.tree import Formula, FormulaNode

MAX_LENGTH = 400
MAX_DEPTH = 40
"""Nested brackets beyond this are refused: each costs a few frames of Python's stack."""
_CONSTANTS = ("e", "i", "π")
_ACCENTS = ("vec", "overline", "bar", "hat", "mathcal", "mathbb")


@functools.lru_cache(maxsize=8_192)
def _parse_short(text: str) -> Formula | None:
    try:
        parser = _Parser(tokens_of(text))
        root = parser.sum(0)
        if parser.at < len(parser.tokens):
            return None
    except (Unreadable, IndexError, ZeroDivisionError):
        return None

    return Formula(root, frozenset(parser.variables), frozenset(parser.traits))


def parse_formula(text: str) -> Formula | None:
    """Returns the formula that a normalized text is, or None."""
    # Longer texts are not cached either, which bounds the memory of the cache.
    if len(text) > MAX_LENGTH:
        return None

    return _parse_short(text)


_ONE = FormulaNode("number", value=Fraction(1))
_TEN = FormulaNode("number", value=Fraction(10))
_CLOSING = {"(": ")", "{": "}", "[": "]", "|": "|"}


# Written by hand: a parser generator would be a dependency for thirty rules, and the limit on depth
# would be harder to keep.
class _Parser:
    """Recursive descent: sum > product > power > atom."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens, self.at = tokens, 0
        self.variables: set[str] = set()
        # Collected while reading, so that a comparison need not walk the tree again.
        self.traits: set[str] = set()

    def peek(self) -> str:
        if self.at < len(self.tokens):
            return self.tokens[self.at]

        return ""

    def take(self, expected: str = "") -> str:
        token = self.peek()
        if not token or (expected and token != expected):
            raise Unreadable(f"{expected or 'more'} is missing")

        self.at += 1
        return token

    def sum(self, depth: int) -> FormulaNode:
        if depth > MAX_DEPTH:
            raise Unreadable("nested too deeply")

        terms: list[FormulaNode] = []
        while True:
            negative = False

            # A first sign, the sign between terms, and the second one of "x + -5".
            for _ in range(2):
                if self.peek() in ("+", "-"):
                    negative ^= self.take() == "-"

            term = self.product(depth)
            terms.append(FormulaNode("negate", (term,)) if negative else term)
            if self.peek() not in ("+", "-"):
                if len(terms) == 1:
                    return terms[0]

                return FormulaNode("add", tuple(terms))

    def product(self, depth: int) -> FormulaNode:
        result = self.power(depth)
        while True:
            token = self.peek()
            if token in ("*", "/"):
                self.take()
                factor = self.signed(depth)
                if token == "/":
                    self.traits.add("divides")

                result = FormulaNode("multiply" if token == "*" else "divide", (result, factor))
            elif token and (token[0].isalnum() or token[0] == "\\" or token in ("(", "{", "[")):
                before = self.tokens[self.at - 1]
                # "x2" may be a power or a name, and "3 4" two numbers: neither is a product.
                if token[0].isdigit() and before[0].isalnum():
                    raise Unreadable("a number after a letter or a number")

                result = FormulaNode("multiply", (result, self.power(depth)))
            else:
                return result

    def signed(self, depth: int) -> FormulaNode:
        if self.peek() in ("-", "+"):
            negative = self.take() == "-"
            factor = self.power(depth)
            if negative:
                return FormulaNode("negate", (factor,))

            return factor

        return self.power(depth)

    def power(self, depth: int) -> FormulaNode:
        # Postfix signs bind tighter than powers: 3!^2 is 36.
        base = self.atom(depth)

        while self.peek() in ("!", "°", "%"):
            base = FormulaNode(
                {"!": "factorial", "°": "degrees", "%": "percent"}[self.take()], (base,)
            )

        if self.peek() == "^":
            self.take()
            if self.peek() in ("-", "+", "("):
                exponent = self.signed(depth + 1)
            else:
                exponent = self.argument(depth + 1, powered=True)

            base = FormulaNode("power", (base, exponent))

        return base

    def argument(self, depth: int, powered: bool = False) -> FormulaNode:
        """What a command takes: a group in braces, or one token (\\frac12, x^2)."""
        if self.peek() == "{":
            self.take()
            inside = self.sum(depth + 1)
            self.take("}")
            return inside

        token = self.peek()
        if token[:1].isdigit() and len(token) > 1:
            if powered:
                # x^12 in plain text is the twelfth power, although LaTeX would take one digit.
                return self.atom(depth + 1)

            self.tokens[self.at : self.at + 1] = list(token)

        return self.atom(depth + 1)

    def atom(self, depth: int) -> FormulaNode:
        # Checked at each level: the depth of Python's stack is the limit of the parser.
        if depth > MAX_DEPTH:
            raise Unreadable("nested too deeply")

        token = self.take()
        if token[0].isdigit() or (token[0] == "." and len(token) > 1):
            return FormulaNode("number", value=Fraction(token))

        closing = _CLOSING.get(token)
        if closing:
            inside = self.sum(depth + 1)
            self.take(closing)
            if token == "|":
                return FormulaNode("absolute", (inside,))

            return inside

        if token[0] == "\\":
            return self.command(token[1:], depth)
        # Every letter is a variable of its own: "xy" is a product.
        if token.isalpha():
            return self.named(token)

        raise Unreadable(f"{token!r} is not expected there")

    def named(self, name: str) -> FormulaNode:
        """A variable with its subscript and primes, or a constant."""
        if self.peek() == "_":
            self.take()
            if self.peek() == "{":
                self.take()
                # A subscript is a name of its own: a_{n+1} is not a_n + 1.
                subscript = ""

                while self.peek() != "}":
                    subscript += self.take()

                self.take("}")
            else:
                subscript = self.take()

            name = f"{name}_{subscript}"

        while self.peek() == "'":
            name += self.take()

        if name in _CONSTANTS:
            return FormulaNode("constant", name=name)

        self.variables.add(name)
        return FormulaNode("variable", name=name)

    def command(self, name: str, depth: int) -> FormulaNode:
        # Commands with arguments of their own are told apart by name, one by one.
        if name == "frac":
            top = self.argument(depth)
            bottom = self.argument(depth)
            if bottom.op != "number":
                self.traits.add("divides")

            return FormulaNode("divide", (top, bottom))

        if name == "sqrt":
            self.traits.add("root")
            return self.root(depth)
        if name == "binom":
            top = self.argument(depth)
            return FormulaNode("binomial", (top, self.argument(depth)))
        if name in ("lfloor", "lceil"):
            inside = self.sum(depth + 1)
            self.take("\\rfloor" if name == "lfloor" else "\\rceil")
            return FormulaNode("call", (inside,), name="floor" if name == "lfloor" else "ceil")

        if name in FUNCTIONS:
            return self.function(name, depth)
        if name in _ACCENTS and self.peek() == "{":
            self.take()
            letters = ""

            while self.peek() != "}":
                letters += self.take()

            self.take("}")
            self.variables.add(f"{name} {letters}")
            return FormulaNode("variable", name=f"{name} {letters}")

        raise Unreadable(f"\\{name} is not understood")

    def root(self, depth: int) -> FormulaNode:
        if self.peek() == "[":
            self.take()
            degree = self.sum(depth + 1)
            self.take("]")
            return FormulaNode(
                "power", (self.argument(depth), FormulaNode("divide", (_ONE, degree)))
            )

        if self.peek()[:1].isdigit():
            # \sqrt 12 in plain text means the root of twelve.
            return FormulaNode("root", (self.atom(depth + 1),))

        return FormulaNode("root", (self.argument(depth),))

    def function(self, name: str, depth: int) -> FormulaNode:
        base: FormulaNode | None = None
        power: FormulaNode | None = None
        if name == "lg":
            name, base = "log", _TEN
        if name == "log" and self.peek() == "_":
            self.take()
            base = self.argument(depth, powered=True)
        if self.peek() == "^":
            self.take()
            power = self.signed(depth) if self.peek() == "-" else self.argument(depth)
        if power is not None and power.op == "negate":
            # \sin^{-1} x is the inverse function to some and a reciprocal to others.
            raise Unreadable("a negative power of a function")

        inside = self.argument(depth) if self.peek() in ("{", "(") else self.bare_argument(depth)
        if name == "log" and base is None:
            self.traits.add("log")

        parts = (inside,) if base is None else (inside, base)
        value = FormulaNode("call", parts, name=name)
        if power is None:
            return value

        return FormulaNode("power", (value, power))

    def bare_argument(self, depth: int) -> FormulaNode:
        """An argument without brackets takes the factors up to the next sign: \\sin 2x."""
        result = self.signed(depth + 1)

        while (token := self.peek()) and (
            token[0].isalnum() or (token[0] == "\\" and token[1:] not in FUNCTIONS)
        ):
            result = FormulaNode("multiply", (result, self.power(depth + 1)))

        return result
