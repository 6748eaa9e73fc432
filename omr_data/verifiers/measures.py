"""Units of measure, read and converted with pint. Loading pint takes about half a second, so it is loaded on first need."""

import functools
import re
from dataclasses import dataclass
from typing import Any

_LONGEST = 40
_WORDS = (
    (r"\bsq(?:uare)?\.?\s+([a-zA-Z]+)", r"\1^2"),
    (r"\bcu(?:bic)?\.?\s+([a-zA-Z]+)", r"\1^3"),
    (r"([a-zA-Z]+)\s+squared\b", r"\1^2"),
    (r"([a-zA-Z]+)\s+cubed\b", r"\1^3"),
    (r"\bper\b", "/"),
    (r"\bmph\b", "mile/hour"),
    (r"\bkmh\b|\bkph\b", "km/hour"),
    (r"\\circ|\^\s*\{?\s*\\circ\s*\}?|°", "degree"),
    (r"\bhrs?\b", "hour"),
    (r"\bmins?\b", "minute"),
    (r"\bsecs?\b", "second"),
    (r"\blbs\b", "lb"),
    (r"\\cdot|·", "*"),
)
_SHAPE = re.compile(r"(?:[a-zA-Zµμ]+(?:\^-?\d)?)(?:\s*[/*]?\s*(?:[a-zA-Zµμ]+(?:\^-?\d)?)){0,3}")
_NOT_UNITS = {
    "a",
    "b",
    "x",
    "y",
    "k",
    "n",
    "i",
    "e",
    "count",
    "counts",
    "dozen",
    "point",
    "points",
    "pair",
    "percent",
    "pi",
    "bit",
    "are",
    "barn",
    "cup",
    "cups",
}
"""pint knows these words as units or prefixes; in an answer they are variables, or things that are counted."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit by what it measures: its dimension, its factor to base units, and whether it has an offset (degrees Celsius)."""

    name: str
    dimension: str
    factor: float
    offset: bool


@functools.lru_cache(maxsize=4_096)
def read_unit(words: str) -> Unit | None:
    """The unit that the words after a number are, or None: eggs are no unit."""
    if len(words) > _LONGEST:
        return None
    text = re.sub(r"\^\{(-?\d)\}", r"^\1", words.strip(" ."))
    for pattern, plain in _WORDS:
        text = re.sub(pattern, plain, text)
    if not _SHAPE.fullmatch(text.strip()) or text.lower() in _NOT_UNITS:
        return None
    return _parse(text.strip())


def is_unit(words: str) -> bool:
    """Whether the words are a unit of measure."""
    return read_unit(words) is not None


def _parse(text: str) -> Unit | None:
    import pint

    registry = _registry()
    try:
        unit = registry.Unit(text)
        offset = not registry._is_multiplicative(str(unit)) if " " not in str(unit) else False
        factor = 1.0 if offset else float((1 * unit).to_base_units().magnitude)
    except (
        pint.errors.PintError,
        AttributeError,
        ValueError,
        TypeError,
        ArithmeticError,
        AssertionError,
    ):
        return None
    return Unit(str(unit), str(unit.dimensionality), factor, offset)


@functools.cache
def _registry() -> Any:
    import pint

    return pint.UnitRegistry(cache_folder=None)
