"""Inequalities that are not intervals: several variables, or not linear."""

from dataclasses import dataclass
from fractions import Fraction

from omr_data.verifiers.answers.base import Answer, Reader, Rules
from omr_data.verifiers.answers.expression import read_formula
from omr_data.verifiers.base import Decision, right, too_close, wrong
from omr_data.verifiers.evaluate import POINTS, point_of, value_at
from omr_data.verifiers.inequalities import solve, split_signs
from omr_data.verifiers.tokens import Unreadable
from omr_data.verifiers.tree import Formula, FormulaNode


@dataclass(frozen=True, slots=True)
class Inequality(Answer):
    """A formula that is below zero, or at most zero."""

    formula: Formula
    """The smaller side minus the larger one."""
    strict: bool
    """Whether the sides may not be equal."""

    order = 47

    @classmethod
    def read(cls, text: str, parts: Reader) -> "Inequality | None":
        # What is an interval is read as one, so that each inequality has a single form.
        if "<" not in text and ">" not in text:
            return None

        sides = split_signs(text)
        if len(sides) != 3 or sides[1] in ("=", "!=") or solve(text) is not None:
            return None

        one, other = read_formula(sides[0]), read_formula(sides[2])
        if one is None or other is None or not one.variables | other.variables:
            return None
        # Both directions end in "smaller minus larger", so that a comparison knows one form only.
        if sides[1][0] == ">":
            one, other = other, one

        root = FormulaNode("add", (one.root, FormulaNode("negate", (other.root,))))
        names, traits = one.variables | other.variables, one.traits | other.traits
        return cls(Formula(root, names, traits), sides[1] in ("<", ">"))

    def compare(self, claim: Answer, rules: Rules) -> Decision | None:
        """By the ratio of the formulas: a positive constant for the same inequality."""
        if not isinstance(claim, Inequality):
            return None

        names = self.formula.variables | claim.formula.variables
        ratios = []

        try:
            for number in range(POINTS):
                point = point_of(names, number)
                values = [value_at(one, point) for one in (claim.formula, self.formula)]
                if not all(isinstance(value, Fraction) for value in values) or values[1] == 0:
                    return too_close("these inequalities are not compared")

                ratios.append(values[0] / values[1])
        except Unreadable:
            return too_close("a side has no value at a point")

        if len(set(ratios)) == 1 and ratios[0] > 0:
            if self.strict != claim.strict:
                return wrong("one of them allows equality")

            return right("the same inequality")

        if self.formula.traits | claim.formula.traits or len(names) == 1:
            # Another form may have the same solutions: x^2 < 4 and |x| < 2.
            return too_close("the inequalities differ in form")

        return wrong("the inequalities differ")
