"""Measures: value and unit both matter, and 1 m is 100 cm. 12 is not 12 cm."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from omr_data.verifiers import base
from omr_data.verifiers.base import Decision, right, undecided, unsure, wrong
from omr_data.verifiers.measures import Unit, read_unit
from omr_data.verifiers.numbers import Number, close, read_number

_RELATIVE = 1e-9
"""Conversion factors are floats, so equal measures in different units agree to about this."""


@dataclass(frozen=True)
class Verifier(base.Verifier):
    """Accepts a gold answer that is a number with a unit.

    `units="optional"` takes a bare number for the gold value in the gold unit; a unit that is given must still be right.
    """

    units: Literal["required", "optional"] = "required"
    significant: int = 3

    def accepts(self, gold: str, options: tuple[str, ...]) -> bool:
        return _read(gold) is not None

    def decide(self, claim: str, gold: str, options: tuple[str, ...]) -> Decision:
        wanted = _read(gold)
        assert wanted is not None  # accepts() read it
        number, unit = wanted
        bare = read_number(claim)
        if bare is not None and not bare.words:
            if self.units == "required":
                return wrong(f"{claim} has no unit; the answer is in {unit.name}")
            return (
                right("the gold value, in its unit")
                if close(bare, number, self.significant)
                else wrong(f"{claim} is not {gold}")
            )
        given = _read(claim)
        if given is None:
            return undecided("the answer is not one number with a unit")
        return _compare(*given, number, unit, self.significant)


def _read(text: str) -> tuple[Number, Unit] | None:
    number = read_number(text)
    if number is None or not number.words:
        return None
    unit = read_unit(number.words)
    return None if unit is None else (number, unit)


def _compare(
    given: Number, unit: Unit, wanted: Number, gold_unit: Unit, significant: int
) -> Decision:
    if unit.dimension != gold_unit.dimension:
        return wrong(f"{unit.name} and {gold_unit.name} measure different things")
    if unit.name == gold_unit.name:
        same = close(given, wanted, significant)
        return (
            right(f"equal, in {unit.name}") if same else wrong(f"the values in {unit.name} differ")
        )
    if unit.offset or gold_unit.offset:
        return unsure("scales with different zero points are not converted")
    ratio = Fraction(unit.factor) / Fraction(gold_unit.factor)
    value = given.value * ratio
    nearest = Fraction(round(value * 10**6), 10**6)
    if abs(value - wanted.value) <= _RELATIVE * abs(wanted.value) or close(
        _rescaled(given, nearest), wanted, significant
    ):
        return right(f"{unit.name} converted to {gold_unit.name}")
    return wrong(f"converted to {gold_unit.name}, the values differ")


def _rescaled(number: Number, value: Fraction) -> Number:
    """A converted value: a decimal gold answer may be its rounding, it is itself not rounded."""
    return Number(value, True, number.digits, 0)
