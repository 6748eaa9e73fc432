"""Ratios: 4:6:10 is 2:3:5, and a ratio with dots is compared part by part."""

import re
from dataclasses import dataclass

from omr_data.verifiers.answers.base import Answer, Reader, Rules
from omr_data.verifiers.answers.expression import Expression, read_formula
from omr_data.verifiers.answers.number import Number
from omr_data.verifiers.base import Decision, right, too_close, wrong
from omr_data.verifiers.relation import relate
from omr_data.verifiers.scanner import split
from omr_data.verifiers.tree import Formula, FormulaNode

_SPOKEN = re.compile(r"(\d+(?:\.\d+)?)\s+to\s+(\d+(?:\.\d+)?)")
_DOTS = ("\\ldots", "...")
_MOST = 50


@dataclass(frozen=True, slots=True)
class Ratio(Answer):
    """Values joined by colons."""

    parts: tuple[Formula, ...]
    """The values, in order."""
    dots: bool = False
    """Whether it goes on after its last value."""

    order = 22

    @classmethod
    def read(cls, text: str, parts: Reader) -> "Ratio | None":
        if (spoken := _SPOKEN.fullmatch(text)) is not None:
            texts = [spoken[1], spoken[2]]
        elif ":" in text:
            texts = split(text, (":",))
        else:
            return None

        dots = texts[-1] in _DOTS
        if dots:
            texts.pop()
        if any(re.fullmatch(r"0\d*", part) for part in texts):
            # 4:23:00 is a time; no part of a ratio is zero.
            return None

        formulas = [read_formula(part) for part in texts]
        read = tuple(formula for formula in formulas if formula is not None)
        if len(read) != len(texts) or not 2 <= len(read) <= _MOST:
            return None

        return cls(read, dots)

    def compare(self, claim: Answer, rules: Rules) -> Decision | None:
        if isinstance(claim, Ratio):
            if len(claim.parts) != len(self.parts) or claim.dots != self.dots:
                return wrong(f"it has {len(claim.parts)} parts, the gold answer {len(self.parts)}")

            found = []

            for at in range(len(self.parts)):
                if self.dots:
                    # What follows the dots is not known, so no factor can be divided out.
                    found.append(relate(claim.parts[at], self.parts[at]))
                    continue

                # a : b equals c : d when a d = b c, which also holds for zero and for variables.
                first = _product(claim.parts[at], self.parts[0])
                found.append(relate(first, _product(self.parts[at], claim.parts[0])))

            if all(one == "equal" for one in found):
                return right("the same ratio")
            if "different" in found:
                return wrong("another ratio")

            return too_close("a part of the ratio could not be compared")

        return self._compare_value(claim)

    def compare_as_claim(self, gold: Answer, rules: Rules) -> Decision | None:
        return self._compare_value(gold)

    def _compare_value(self, other: Answer) -> Decision | None:
        """A ratio of two as its quotient; people write 2:3 for 2/3, and the reverse."""
        # Three parts and more have no quotient.
        if len(self.parts) != 2 or self.dots or not isinstance(other, (Number, Expression)):
            return None

        root = FormulaNode("divide", (self.parts[0].root, self.parts[1].root))
        names = self.parts[0].variables | self.parts[1].variables
        value = Expression(Formula(root, names, frozenset()))
        decision = other.compare(value, Rules()) or value.compare(other, Rules())
        if decision is not None and decision.outcome == "RIGHT":
            return too_close("the ratio as a quotient")

        return wrong("another value than the quotient of the ratio")


def _product(one: Formula, other: Formula) -> Formula:
    root = FormulaNode("multiply", (one.root, other.root))
    return Formula(root, one.variables | other.variables, one.traits | other.traits)
