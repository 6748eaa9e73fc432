"""Numbers as people write them, read exactly: no float ever stands between two numbers that are compared.

72   -72   1,234,567   3.14   .5   1.2e5   1.2 \\times 10^{5}   3/4   \\frac{3}{4}   2 1/2   45%   $18   18 dollars   18 eggs
"""

import functools
import re
from dataclasses import dataclass
from fractions import Fraction

from omr_data.verifiers.measures import is_unit

MAX_DIGITS = 2_000
MAX_EXPONENT = 2_000
"""Beyond these a number is not read, so that 10^(10^9) costs nothing."""

CURRENCIES = {
    "$": "dollar",
    "€": "euro",
    "£": "pound",
    "¥": "yen",
    "₹": "rupee",
    "USD": "dollar",
    "EUR": "euro",
    "GBP": "pound",
}
_CURRENCY_WORDS = {
    "dollar": "dollar",
    "dollars": "dollar",
    "euro": "euro",
    "euros": "euro",
    "pounds": "pound",
    "yen": "yen",
    "rupees": "rupee",
}
_WHOLE = r"(?:\d{1,3}(?:(?:,|\{,\}| )\d{3})+|\d+)"
_DECIMAL = rf"(?:{_WHOLE}(?:\.\d*)?|\.\d+)"
_SIGN = r"(?P<sign>[+-]?)\s*"
_PLAIN = re.compile(
    rf"(?P<body>{_DECIMAL})(?:[eE](?P<e>[+-]?\d+)|\s*(?:\\times|\\cdot|\*|x)\s*10\s*\^\s*(?:\{{(?P<p>[+-]?\d+)\}}|(?P<q>[+-]?\d+)))?"
)
_FRACTION = re.compile(
    r"(?:(?P<whole>\d+)\s*(?:\\frac|(?<=\d)\s(?=\d+\s*/)))?\s*(?:\\frac)?\s*(?:\{(?P<a>-?\d+)\}\s*\{(?P<b>\d+)\}|(?P<c>\d)(?P<d>\d)(?!\d)|(?P<n>\d+)\s*/\s*(?P<m>\d+))"
)
_POWER = re.compile(r"10\s*\^\s*(?:\{([+-]?\d+)\}|([+-]?\d+))")


_MEASURED = re.compile(
    r"(?:\^\s*\{?\s*\\circ\s*\}?|\\circ|°|[A-Za-zµμ])(?:[A-Za-zµμ'., /*·()-]|\^\{?-?\d\}?(?!\d))*"
)
_FUNCTIONS = {"sin", "cos", "tan", "log", "ln", "exp", "sqrt", "pi", "mod", "or", "and", "to"}


@dataclass(frozen=True, slots=True)
class Number:
    """An exact value. `digits` are the significant digits of a decimal, `places` those after the point (0 for whole numbers).

    `exact` is false for decimals, which may be rounded. `words` is what follows the number: "eggs", "cm".
    """

    value: Fraction
    exact: bool
    digits: int
    places: int
    percent: bool = False
    currency: str = ""
    words: str = ""


@functools.lru_cache(maxsize=4_096)
def read_number(text: str) -> Number | None:
    """The number that a cleaned text is, or None. What follows it is kept in `words`, if it holds no digit."""
    if len(text) > MAX_DIGITS:
        return None
    rest, currency = text.strip(), ""
    sign = 1
    for _ in range(3):
        if rest[:1] in ("+", "-"):
            sign, rest = sign * (-1 if rest[0] == "-" else 1), rest[1:].lstrip()
        symbol = next((symbol for symbol in CURRENCIES if rest.startswith(symbol)), None)
        if symbol and not currency:
            currency, rest = CURRENCIES[symbol], rest[len(symbol) :].lstrip()
    read = _read_fraction(rest) or _read_plain(rest)
    if read is None:
        return None
    value, exact, digits, places, tail = read
    tail = tail.strip()
    percent = tail.startswith("%") or tail.lower().startswith(("percent", "per cent"))
    if percent:
        tail = re.sub(r"^(?:%|per ?cent)", "", tail, flags=re.IGNORECASE).strip()
    first = tail.split(" ")[0]
    if not currency and (found := _CURRENCY_WORDS.get(first.lower()) or CURRENCIES.get(first)):
        currency, tail = found, tail[len(first) :].strip()
    if tail and not _counts(tail, glued=rest[len(rest) - len(tail) - 1 :][:1].strip() != ""):
        return None
    return Number(
        sign * value / (100 if percent else 1),
        exact,
        digits,
        places + (2 if percent else 0),
        percent,
        currency,
        tail,
    )


def _counts(words: str, glued: bool) -> bool:
    """Whether the words after a number name what is counted or measured (eggs, cm, km/h). In 2x, 3 sin x and 5^2 they do not."""
    if not _MEASURED.fullmatch(words):
        return False
    first = re.findall(r"[A-Za-zµμ]+", words)
    if not first or first[0] in _FUNCTIONS:
        return not first
    return len(first[0]) > 2 or (not (glued and len(first[0]) == 1) and is_unit(words))


def _read_fraction(text: str) -> tuple[Fraction, bool, int, int, str] | None:
    if "/" not in text and "\\frac" not in text:
        return None
    match = _FRACTION.match(text)
    if match is None or ("\\frac" not in match[0] and match["n"] is None):
        return None
    top = int(match["a"] or match["c"] or match["n"])
    bottom = int(match["b"] or match["d"] or match["m"])
    if bottom == 0:
        return None
    return Fraction(top, bottom) + int(match["whole"] or 0), True, 0, 0, text[match.end() :]


def _read_plain(text: str) -> tuple[Fraction, bool, int, int, str] | None:
    if power := _POWER.match(text):
        exponent = int(power[1] or power[2])
        return (
            (Fraction(10) ** exponent, True, 0, 0, text[power.end() :])
            if abs(exponent) <= MAX_EXPONENT
            else None
        )
    match = _PLAIN.match(text)
    if match is None:
        return None
    body = re.sub(r"[, {}]", "", match["body"])
    exponent = int(match["e"] or match["p"] or match["q"] or 0)
    if abs(exponent) > MAX_EXPONENT:
        return None
    value = Fraction(body if body[-1] != "." else body[:-1]) * Fraction(10) ** exponent
    places = len(body.partition(".")[2])
    digits = len(body.replace(".", "").lstrip("0"))
    # "72.0" and "3." are whole numbers; a decimal that is whole is exact.
    exact = value.denominator == 1 and not exponent
    return value, exact, digits, 0 if exact else places - exponent, text[match.end() :]


def close(claim: Number, gold: Number, significant: int) -> bool:
    """Whether two values are equal, or one is the other rounded.

    Whole numbers and fractions are exact. A decimal may stand for a value that rounds to it (half a unit of its last place)
    when it has at least `significant` significant digits; if both are decimals, the one with fewer places is the rounded one.
    """
    if claim.value == gold.value:
        return True
    decimals = [number for number in (claim, gold) if not number.exact]
    if not decimals or any(
        number.exact and number.value.denominator == 1 for number in (claim, gold)
    ):
        return False
    rounded = min(decimals, key=lambda number: number.places)
    return (
        rounded.digits >= significant
        and abs(claim.value - gold.value) * 2 * Fraction(10) ** rounded.places <= 1
    )
