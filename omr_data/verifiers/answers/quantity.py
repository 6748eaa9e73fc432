"""Quantities: a value with a unit of measure, a counted noun, or a currency.

A physical unit is part of the answer: 12 is not 12 cm, and 1 m is 100 cm. A counted noun is not:
"24 marbles" is compared by its value with 24. Money is compared by its value with a bare number,
and by its value and currency with other money.
"""

import re
from dataclasses import dataclass
from fractions import Fraction

from omr_data.verifiers.answers.base import Answer, Reader, Rules
from omr_data.verifiers.answers.expression import Expression, compare_formulas, read_formula
from omr_data.verifiers.answers.number import Number
from omr_data.verifiers.base import Decision, right, too_close, wrong
from omr_data.verifiers.measures import Unit, read_unit
from omr_data.verifiers.nouns import is_counted, noun_of
from omr_data.verifiers.numerals import Numeral, close, read_numeral
from omr_data.verifiers.tree import Formula, FormulaNode

_TAIL = re.compile(r"(?<![\\A-Za-z])(?:[A-Za-zμΩ°$€£¥\{]|[\u4e00-\u9fff])")
_TRIGONOMETRY = re.compile(r"(?:sin|cos|tan|cot|sec|csc)")
_RELATIVE = Fraction(1, 10**9)
"""Conversion factors come from floats, so equal quantities in two units agree to about this."""
_SCALES = {60, 3600, 24, 7, 12, 1440, 86400, 365}
_COMPOUND = re.compile(
    r"(\d+(?:\.\d+)?)\s*([a-zA-Z]+)\.?,?\s+(?:and\s+)?(\d+(?:\.\d+)?)\s*([a-zA-Z]+)"
)


@dataclass(frozen=True, slots=True)
class Quantity(Answer):
    """A value in a unit of measure."""

    value: Numeral | Formula
    """The value: exact with how it was written, or a formula such as 5\\sqrt{3}."""
    unit: Unit
    """The unit."""
    glued: bool = False
    """Whether one letter stands right after the value: 5m is also five times m."""

    order = 30
    arity = "one"

    @property
    def alone(self) -> bool:
        """A unit of several letters, or apart from its number, is not a product of variables."""
        return not self.glued

    @classmethod
    def read(cls, text: str, parts: Reader) -> "Quantity | None":
        if len(text) > 200 or text[:1].isalpha() or "=" in text or text[-1:] in ")]|":
            return None

        compound = _COMPOUND.fullmatch(text)
        if compound is not None:
            # Two units of one dimension: 2 hours 30 minutes, 5 ft 3 in.
            first, second = read_unit(compound[2]), read_unit(compound[4])
            if first is None or second is None or first.dimension != second.dimension:
                return None
            # The larger unit comes first; "5 in 3 ft" is not how anybody writes a length.
            if first.factor <= second.factor:
                return None

            whole = Fraction(compound[1])
            rest = Fraction(compound[3]) * second.factor / first.factor
            return cls(Numeral(whole + rest), first)
        for start in _TAIL.finditer(text):
            # The longest tail that is a unit wins: in "5 m s" both letters belong to it.
            at = start.start()
            unit = read_unit(text[at:])
            if unit is None:
                continue

            before = text[:at].rstrip(" *~")
            if "°" in text[at:] and _TRIGONOMETRY.search(before):
                # \\sin 30° is a sine, not a number of degrees.
                return None

            value = read_value(before)
            if value is not None:
                glued = len(text) == at + 1 and text[at].isalpha() and before == text[:at]
                return cls(value, unit, glued)

        return None

    def compare(self, claim: Answer, rules: Rules) -> Decision | None:
        if isinstance(claim, Quantity):
            if claim.unit.dimension != self.unit.dimension:
                return wrong(f"{claim.unit.name} and {self.unit.name} measure different things")
            if claim.unit.name == self.unit.name:
                return compare_values(claim.value, self.value, rules)
            # 25 °C is 298 K as a temperature and 25 K as a difference; rules cannot know which is
            # meant.
            if claim.unit.offset or self.unit.offset:
                return too_close("scales with different zero points are not converted")

            ratio = claim.unit.factor / self.unit.factor
            if not isinstance(claim.value, Numeral) or not isinstance(self.value, Numeral):
                return _compare_scaled(claim.value, self.value, ratio, rules)

            scaled = claim.value.value * ratio
            if abs(scaled - self.value.value) <= _RELATIVE * abs(self.value.value):
                return right(f"{claim.unit.name} converted to {self.unit.name}")

            # A decimal gold answer may be the rounding of the converted value; not the reverse.
            converted = Numeral(Fraction(round(scaled * 10**9), 10**9), True)
            if close(converted, self.value, rules.significant):
                return right(f"{claim.unit.name} converted to {self.unit.name}, rounded")

            return wrong(f"converted to {self.unit.name}, the values differ")

        if isinstance(claim, (Number, Expression)):
            value = _value_of(claim)
            # Only a recipe may ask for this: by default a missing unit is a missing part of the
            # answer.
            if rules.units == "optional":
                return compare_values(value, self.value, rules)
            if "degree" in self.unit.name and compare_values(value, self.value, rules).outcome == (
                "RIGHT"
            ):
                # Geometry problems state the degree sign with the blank as often as not.
                return too_close("the value without its degree sign")

            return wrong(f"it has no unit; the answer is in {self.unit.name}")

        return None

    def compare_as_claim(self, gold: Answer, rules: Rules) -> Decision | None:
        if not isinstance(gold, (Number, Expression)):
            return None

        wanted = _value_of(gold)
        if compare_values(self.value, wanted, rules).outcome == "RIGHT":
            return too_close(f"the value is equal, but only the answer is in {self.unit.name}")

        one, other = self.value, wanted
        if isinstance(one, Numeral) and isinstance(other, Numeral) and one.value and other.value:
            # A ratio between common units (a power of ten, 60, 12, ...) hints at a conversion.
            ratio = one.value / other.value
            large = max(ratio, 1 / ratio)
            digits = str(large.numerator)
            power_of_ten = digits[0] == "1" and not digits[1:].strip("0")
            if large.denominator == 1 and (large.numerator in _SCALES or power_of_ten):
                return too_close("equal in another unit of the same kind")

        return wrong("another value")


@dataclass(frozen=True, slots=True)
class Counted(Answer):
    """A number of things: 24 marbles."""

    value: Numeral
    """How many."""
    noun: str
    """What is counted, in lower case."""

    order = 32
    arity = "one"
    exclusive = True

    @classmethod
    def read(cls, text: str, parts: Reader) -> "Counted | None":
        if len(text) > 120 or "=" in text or "\\" in text:
            return None
        for start in _TAIL.finditer(text):
            number = read_numeral(text[: start.start()].rstrip())
            # "5 of them" and "5 less" name nothing that is counted: other types read them.
            if number is not None and is_counted(text[start.start() :], number.value):
                return cls(number, noun_of(text[start.start() :]))

        return None

    def compare(self, claim: Answer, rules: Rules) -> Decision | None:
        if isinstance(claim, Counted):
            decision = compare_values(claim.value, self.value, rules)
            # One noun may say more than the other: "red marbles" are "marbles".
            said = {word.rstrip("s") for word in claim.noun.split()}
            wanted = {word.rstrip("s") for word in self.noun.split()}
            if decision.outcome == "RIGHT" and not (said <= wanted or wanted <= said):
                return too_close(f"as many, but {claim.noun} and {self.noun}")

            return decision

        if isinstance(claim, Number) and not claim.base and not claim.percent:
            return compare_values(claim.numeral, self.value, rules)
        if isinstance(claim, Expression):
            return compare_values(claim.formula, self.value, rules)

        return None

    def compare_as_claim(self, gold: Answer, rules: Rules) -> Decision | None:
        if isinstance(gold, Number) and not gold.base and not gold.percent:
            return compare_values(self.value, gold.numeral, rules)
        if isinstance(gold, Expression):
            return compare_values(self.value, gold.formula, rules)

        return None


def read_value(text: str) -> Numeral | Formula | None:
    """The value before a unit: a number, or a formula without variables."""
    if text.startswith("(") and text.endswith(")"):
        text = text[1:-1]

    number = read_numeral(text)
    if number is not None:
        return number

    formula = read_formula(text)
    # A value with variables would make every letter after it a unit: "2x m".
    if formula is None or formula.variables:
        return None

    return formula


def compare_values(claim: Numeral | Formula, gold: Numeral | Formula, rules: Rules) -> Decision:
    """Compares two values by the rules of numbers and formulas.

    Args:
        claim: The value of the claim.
        gold: The value of the gold answer.
        rules: The settings of the comparison.
    """
    one, other = _as_answer(claim), _as_answer(gold)
    decision = other.compare(one, rules) or one.compare_as_claim(other, rules)
    return decision or too_close("their values cannot be compared")


def _value_of(answer: Number | Expression) -> Numeral | Formula:
    """The value of a bare number or expression."""
    if isinstance(answer, Number):
        return answer.numeral

    return answer.formula


def _as_answer(value: Numeral | Formula) -> Number | Expression:
    if isinstance(value, Numeral):
        return Number(value)

    return Expression(value)


def _compare_scaled(
    claim: Numeral | Formula, gold: Numeral | Formula, ratio: Fraction, rules: Rules
) -> Decision:
    factor = FormulaNode("number", value=ratio)
    if isinstance(claim, Numeral):
        root, traits = FormulaNode("number", value=claim.value), frozenset[str]()
    else:
        root, traits = claim.root, claim.traits

    scaled = Formula(FormulaNode("multiply", (root, factor)), frozenset(), traits)
    if isinstance(gold, Numeral):
        return compare_values(scaled, gold, rules)

    return compare_formulas(scaled, gold)
