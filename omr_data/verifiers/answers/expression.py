"""Expressions: formulas without an equals sign, compared by their values."""

import re
from dataclasses import dataclass
from fractions import Fraction

from omr_data.verifiers.answers.base import Answer, Reader, Rules
from omr_data.verifiers.answers.number import Number
from omr_data.verifiers.base import Decision, right, too_close, wrong
from omr_data.verifiers.evaluate import value_at
from omr_data.verifiers.formula import parse_formula
from omr_data.verifiers.numerals import Numeral
from omr_data.verifiers.relation import relate
from omr_data.verifiers.tokens import Unreadable
from omr_data.verifiers.tree import Formula, FormulaNode

_CONSTANT = re.compile(r"\+\s*(?:c|K|k|const(?:ant)?\.?|C_?\{?1\}?)$")
"""A constant of integration at the end, however it is called; it is read as C."""
_COMMAND = re.compile(r"\\[a-zA-Z]+")
_WORDLIKE = re.compile(r"[A-Za-z]{3,}")
_SPOKEN = (
    (re.compile(r"^(.+?) (?:less than|fewer than|subtracted from) (.+)$"), r"(\2)-(\1)"),
    (re.compile(r"^(.+?) more than (.+)$"), r"(\2)+(\1)"),
    (re.compile(r"^half (?:of )?(.+)$"), r"(\1)/2"),
    (re.compile(r"^(?:twice|double) (.+)$"), r"2*(\1)"),
    (re.compile(r"\s+to the (?:power of )?(\d+)(?:th|st|nd|rd)?(?: power)?\b"), r"^{\1}"),
    (re.compile(r"\s+(?:squared|to the power of 2)\b"), "^2"),
    (re.compile(r"\s+cubed\b"), "^3"),
    (re.compile(r"\s+plus\s+"), "+"),
    (re.compile(r"\s+minus\s+"), "-"),
    (re.compile(r"\s+(?:times|multiplied by)\s+"), "*"),
    (re.compile(r"\s+(?:over|divided by)\s+"), "/"),
    (re.compile(r"\s+factorial\b"), "!"),
    (re.compile(r"\b(?:the )?square root of\s+(\d+|[a-zA-Z])"), r"\\sqrt{\1}"),
    (re.compile(r"\bpi\b"), "π"),
)


@dataclass(frozen=True, slots=True)
class Expression(Answer):
    """A formula, with or without variables."""

    formula: Formula
    """The formula that was read."""

    order = 60

    @classmethod
    def read(cls, text: str, parts: Reader) -> "Expression | None":
        if _WORDLIKE.fullmatch(text):
            # A word of letters only is a word; "ab" may be a product.
            return None

        formula = read_formula(text)
        if formula is None:
            return None

        return cls(formula)

    def compare(self, claim: Answer, rules: Rules) -> Decision | None:
        if isinstance(claim, Number):
            # The digits of a number in a base are no value that a formula could equal.
            if claim.base:
                return None

            decision = compare_formulas(as_formula(claim), self.formula)
            if decision.outcome == "WRONG" and _rounds(claim.numeral, self.formula, rules):
                return right("the gold value, rounded")

            return decision

        if isinstance(claim, Expression):
            return compare_formulas(claim.formula, self.formula)

        return None

    def compare_as_claim(self, gold: Answer, rules: Rules) -> Decision | None:
        if not isinstance(gold, Number) or gold.base:
            return None

        decision = compare_formulas(self.formula, as_formula(gold))
        if decision.outcome == "WRONG" and _rounds(gold.numeral, self.formula, rules):
            return right("the exact value of the gold answer's decimal")

        return decision


def read_formula(text: str) -> Formula | None:
    """Returns the formula that a text is, also one in words ("4 plus y"), or None."""
    if text.endswith(("c", "k", "K", ".", "t", "1", "}")):
        constant = _CONSTANT.search(text)
        # Only a constant that stands nowhere else: in "kx + k" the letter is a variable.
        before = ""
        if constant:
            before = _COMMAND.sub("", text[: constant.start()])
        if constant and constant[0][-1] not in before:
            text = text[: constant.start()] + "+C"

    formula = parse_formula(text)
    # Words are tried last: they cost a dozen patterns, and few formulas are spoken.
    if formula is None and " " in text and len(text) < 200:
        for pattern, plain in _SPOKEN:
            text = pattern.sub(plain, text)

        formula = parse_formula(text)

    return formula


def as_formula(number: Number) -> Formula:
    """A number as a formula."""
    return Formula(FormulaNode("number", value=number.value), frozenset(), frozenset())


def compare_formulas(claim: Formula, gold: Formula) -> Decision:
    """What one formula is worth against another, by their values.

    Args:
        claim: The formula of the claim.
        gold: The formula of the gold answer.
    """
    relation = relate(claim, gold)
    if relation == "equal":
        return right("equal in value")
    if relation == "unknown":
        return Decision("UNDECIDED", "a value is too large or undefined", "too close", final=False)
    if relation == "equal where positive":
        return too_close("equal for positive values only")
    if "log" in claim.traits | gold.traits:
        # Read with base ten or e they may be equal, and people write \log for both.
        return too_close("they differ, or depend on the base of a logarithm")

    return wrong("the values differ")


def _rounds(decimal: Numeral, formula: Formula, rules: Rules) -> bool:
    """Whether a decimal is a formula's value rounded to its places, with enough digits."""
    if decimal.exact or decimal.digits < rules.significant or formula.variables:
        return False
    try:
        value = value_at(formula, {})
    except Unreadable:
        return False

    # Doubles decide this: a decimal of more places than they have is compared in full elsewhere.
    if isinstance(value, Fraction):
        value = complex(value)

    half = 0.5 * 10.0**-decimal.places * (1 + 1e-9)
    return bool(abs(value.imag) < 1e-9 and abs(value.real - float(decimal.value)) <= half)
