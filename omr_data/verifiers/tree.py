"""The tree of a formula: what `formula` reads and `evaluate` computes."""

from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class FormulaNode:
    """One operation of a formula."""

    op: str
    """What is done: number, constant, variable, add, multiply, divide, power, negate, call, ..."""
    parts: tuple["FormulaNode", ...] = ()
    """The operands, in order."""
    value: Fraction | None = None
    """The value of a number."""
    name: str = ""
    """The name of a variable, constant or function."""


@dataclass(frozen=True, slots=True)
class Formula:
    """A formula that was read completely."""

    root: FormulaNode
    """Its tree."""
    variables: frozenset[str]
    """The names of its variables."""
    traits: frozenset[str]
    """What a comparison must know of it: "log" for a base that is not given, "divides", "root"."""
