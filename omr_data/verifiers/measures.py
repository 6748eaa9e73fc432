"""Units of measure: which spellings are units, and how they convert.

Only spellings in the table below are units, with SI prefixes only where they are used, so "cats" is
not centi-attoseconds and "units" is not a micro-nit. Conversion factors and dimensions come from
pint, which takes half a second to load and is loaded on first need.
"""

import functools
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from omr_data.verifiers.spellings import entries

_LONGEST = 60


def _table(text: str) -> dict[str, str]:
    """Spellings with their names, from "spelling: name; spelling: name"."""
    entries = (entry.split(":", 1) for entry in text.split(";"))
    return {spelling.strip(): name.strip() for spelling, name in entries}


_PREFIXED = _table(
    """
    m: meter; g: gram; L: liter; l: liter; s: second; N: newton; J: joule; W: watt; Pa: pascal;
    Hz: hertz; V: volt; A: ampere; Ω: ohm; C: coulomb; F: farad; T: tesla; mol: mole; eV:
    electron_volt; cal: calorie; Wb: weber; B: byte; H: henry; M: molar; bar: bar; Wh: watt_hour
    """
)
_PREFIXES = {"": ""} | _table(
    """
    k: kilo; c: centi; m: milli; μ: micro; n: nano; M: mega; G: giga; d: deci; p: pico; h: hecto;
    T: tera
    """
)
_NAMES = entries(
    """
    meter metre gram liter litre second newton joule watt pascal hertz volt ampere ohm
    coulomb farad tesla mole calorie weber byte henry
    """
)
_PLAIN = _table(
    """
    h: hour; hr: hour; hrs: hour; hour: hour; min: minute; mins: minute; minute: minute; sec:
    second; secs: second; day: day; week: week; month: month; year: year; yr: year; yrs: year;
    decade: decade; century: century; centuries: century; in: inch; inch: inch; inches: inch; ft:
    foot; foot: foot; feet: foot; yd: yard; yard: yard; mi: mile; mile: mile; oz: ounce; ounce:
    ounce; lb: pound; lbs: pound; pound: pound; ton: ton; tonne: metric_ton; gallon: gallon; gal:
    gallon; quart: quart; pint: pint; acre: acre; hectare: hectare; ha: hectare; °: degree; deg:
    degree; degree: degree; rad: radian; radian: radian; K: kelvin; kelvin: kelvin; °C: degC; °F:
    degF; degree Celsius: degC; degree Fahrenheit: degF; Celsius: degC; °Celsius: degC;
    °Fahrenheit: degF; Fahrenheit: degF; celsius: degC; fahrenheit: degF; mph: mile/hour; kph:
    kilometer/hour; kmh: kilometer/hour; kmph: kilometer/hour; atm: atmosphere; mmHg: mmHg; knot:
    knot; hp: horsepower; rpm: rpm; dB: decibel; cc: centimeter**3; ms: millisecond; molar:
    molar; lumen: lumen; lux: lux; amp: ampere; micron: micrometer; 米: meter; 厘米:
    centimeter; 千米: kilometer; 公里: kilometer; 毫米: millimeter; 分米: decimeter; 克: gram;
    千克: kilogram; 公斤: kilogram; 吨: metric_ton; 升: liter; 毫升: milliliter; 小时: hour;
    分钟: minute; 秒: second; 天: day; 年: year; 度: degree; 平方米: meter**2; 平方厘米:
    centimeter**2; 立方米: meter**3; 立方厘米: centimeter**3; 平方分米: decimeter**2; 月:
    month; 平方千米: kilometer**2; 周: week
    """
)
_REWRITES = (
    (re.compile(r"\b(?:sq|square)\.?\s+([a-zA-Z]+)"), r"\1^2"),
    (re.compile(r"\b(?:cu|cubic)\.?\s+([a-zA-Z]+)"), r"\1^3"),
    (re.compile(r"\b([a-zA-Z]+)\s+squared\b"), r"\1^2"),
    (re.compile(r"\b([a-zA-Z]+)\s+cubed\b"), r"\1^3"),
    (re.compile(r"\s*\bper\b\s*(?:an? )?"), "/"),
    (re.compile(r"\bdegrees?\s+(?=C|F)"), "°"),
    (re.compile(r"\s*°\s*([CF])\b"), r"°\1"),
    (re.compile(r"\^\s*\{\s*(-?\d)\s*\}"), r"^\1"),
)
_FACTOR = re.compile(
    r"([a-zA-ZμΩ°米厘千公里毫分克斤吨升小时钟秒天年度平方立月周]+)\.?(?:\^?(-?\d))?"
)
UNIT_TAIL = re.compile(r"(?:\s*)((?:[a-zA-ZμΩ°]|[一-龥]).*)$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit by what it measures."""

    name: str
    """Its name in words."""
    dimension: str
    """What it measures: length, length / time, ..."""
    factor: Fraction
    """How many base units it is."""
    offset: bool
    """Whether its zero is elsewhere, as that of degrees Celsius is."""


@functools.cache
def _spellings() -> dict[str, str]:
    """Every spelling of a unit, with its name in pint."""
    # Words of the table win over prefixed symbols: "min" is a minute, no milli-inch.
    found = dict(_PLAIN)

    for spelling, name in _PLAIN.items():
        if spelling.isascii() and len(spelling) > 2 and not spelling.endswith("s"):
            found.setdefault(f"{spelling}s", name)

    for symbol, name in _PREFIXED.items():
        for prefix, meaning in _PREFIXES.items():
            found.setdefault(prefix + symbol, meaning + name)

    for name in _NAMES:
        american = name.replace("tre", "ter")
        for meaning in _PREFIXES.values():
            for ending in ("", "s"):
                found.setdefault(f"{meaning}{name}{ending}", meaning + american)

    return found


@functools.lru_cache(maxsize=4_096)
def read_unit(words: str) -> Unit | None:
    """Returns the unit that a text is, or None: "cm", "m/s^2", "square feet", "km per hour"."""
    if not words or len(words) > _LONGEST:
        return None

    text = words.strip(" .{}") if words.count("{") != words.count("}") else words.strip(" .")
    if text.startswith("{") and text.endswith("}"):
        text = text[1:-1].strip()
    for pattern, plain in _REWRITES:
        text = pattern.sub(plain, text)

    expression = _to_pint(text.strip())
    if expression is None and text[:1].isupper():
        # "5 METERS", "5 Meters": a word in capitals is the unit; symbols keep their case.
        lowered = text.lower()
        expression = _to_pint(lowered) if len(text) > 3 else None

    if expression is None:
        return None

    return _convert(expression)


def _to_pint(text: str) -> str | None:
    """The same unit in pint's spelling, or None unless every factor is in the table."""
    # Only products and quotients are spelled on: pint would also evaluate names that mean no unit
    # here.
    parts = re.split(r"(\s*/\s*|\s*\*\s*|\s+)", text.replace("(", "").replace(")", ""))
    # No unit of a real answer is longer, and pint is slow.
    if text.count("(") > 1 or len(parts) > 9:
        return None

    expression = ""

    for at, part in enumerate(parts):
        if at % 2:
            # A space between two symbols multiplies them: N m.
            expression += "/" if "/" in part else "*"
            continue

        factor = _FACTOR.fullmatch(part)
        name = _spellings().get(factor[1]) if factor else None
        if factor is None or name is None:
            return None

        expression += f"({name})" + (f"**{factor[2]}" if factor[2] else "")

    return expression


def _convert(expression: str) -> Unit | None:
    import pint

    registry = _registry()

    try:
        unit = registry.Unit(expression)
        offset = False
        if " " not in str(unit):
            offset = not registry._is_multiplicative(str(unit))

        # Scales with another zero have no factor, and are compared within themselves only.
        factor = 1.0 if offset else float((1 * unit).to_base_units().magnitude)
    except (pint.errors.PintError, AttributeError, ValueError, TypeError, ArithmeticError):
        return None

    # Factors of common units are decimals of a few digits; a nearby one undoes float noise.
    exact = Fraction(factor).limit_denominator(10**12) if factor > 1e-3 else Fraction(factor)
    return Unit(str(unit), str(unit.dimensionality), exact, offset)


@functools.cache
def _registry() -> Any:
    import pint

    # Built on first use: most answers have no unit, and the registry reads a long file.
    return pint.UnitRegistry(cache_folder=None)
