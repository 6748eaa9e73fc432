"""Inequalities in one variable, solved where they are linear: -x > -7 is x < 7.

**Half**: one bound of an interval. **Solved**: the intervals in which an inequality holds.
"""

import re
from dataclasses import dataclass
from fractions import Fraction

from omr_data.verifiers.evaluate import value_at
from omr_data.verifiers.formula import parse_formula
from omr_data.verifiers.tokens import Unreadable
from omr_data.verifiers.tree import Formula, FormulaNode

_SIGNS = re.compile(r"(<=|>=|!=|<|>|=)")
_FLIPPED = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}
_AND = re.compile(r"\s*(?:\band\b|且|,|;|\x1e)\s*")


@dataclass(frozen=True, slots=True)
class Half:
    """A bound of an interval."""

    bound: Formula
    """Where it ends."""
    closed: bool
    """Whether the bound belongs to it."""


@dataclass(frozen=True, slots=True)
class Solved:
    """Where an inequality holds."""

    pieces: tuple[tuple[Half | None, Half | None], ...]
    """Intervals as lower and upper bound; None where there is none."""
    name: str
    """The variable."""


def split_signs(text: str) -> list[str]:
    """Sides and signs of an inequality in turn: ["0", "<=", "x", "<", "1"]."""
    return [part.strip() for part in _SIGNS.split(text)]


def solve(text: str) -> Solved | None:
    """The intervals in which an inequality holds, or None unless it is linear in one variable."""
    low: Half | None = None
    high: Half | None = None
    name = ""
    clauses = _AND.split(text)
    # Two clauses give two bounds; what has more is not one interval.
    if len(clauses) > 2:
        return None
    for clause in clauses:
        parts = split_signs(clause)
        if not 3 <= len(parts) <= 5 or len(parts) % 2 == 0 or "=" in parts[1::2]:
            return None
        if "!=" in parts[1::2]:
            # x != 2 is all but one point; with a second clause it would be three pieces.
            point = _zero(parts[0], parts[2])
            if len(clauses) > 1 or len(parts) != 3 or point is None:
                return None

            open_end = Half(point[1], False)
            return Solved(((None, open_end), (open_end, None)), point[0])

        for at in range(0, len(parts) - 2, 2):
            found = _zero(parts[at], parts[at + 2])
            if found is None or (name and found[0] != name):
                return None

            # Dividing by a negative slope turns the sign around.
            name, bound, rising = found
            sign = parts[at + 1] if rising else _FLIPPED[parts[at + 1]]
            half = Half(bound, sign in ("<=", ">="))
            # Two bounds on one side ("x > 2 and x > 3") are left to a reader of sets.
            if sign in (">", ">=") and low is None:
                low = half
            elif sign in ("<", "<=") and high is None:
                high = half
            else:
                return None

    return Solved(((low, high),), name)


def _zero(left: str, right: str) -> tuple[str, Formula, bool] | None:
    """Where left minus right is zero, if it is linear in one variable, and whether it rises."""
    one, other = parse_formula(left), parse_formula(right)
    if one is None or other is None:
        return None

    # "x < 3": a bare name with a constant bound, which is most inequalities.
    if _is_bare(one, other):
        return one.root.name, other, True
    if _is_bare(other, one):
        return other.root.name, one, False

    names = one.variables | other.variables
    if len(names) != 1:
        return None

    (name,) = names
    root = FormulaNode("add", (one.root, FormulaNode("negate", (other.root,))))
    difference = Formula(root, names, frozenset())

    try:
        # Linear is tested by values, so no algebra is needed: "2(x - 1) < 3x" is read as well.
        values = [value_at(difference, {name: Fraction(at)}) for at in (0, 1, 2)]
    except Unreadable:
        return None

    if not all(isinstance(value, Fraction) for value in values):
        return None

    slope = values[1] - values[0]
    # Three points on a line do not prove one, but a coincidence needs a formula made for it; the
    # fourth point catches polynomials up to the third degree.
    fourth = value_at(difference, {name: Fraction(17, 5)})
    linear = values[2] - values[1] == slope and fourth == values[0] + slope * Fraction(17, 5)
    if slope == 0 or not linear:
        return None

    zero = FormulaNode("number", value=-values[0] / slope)
    return name, Formula(zero, frozenset(), frozenset()), slope > 0


def _is_bare(one: Formula, other: Formula) -> bool:
    return one.root.op == "variable" and not other.variables
