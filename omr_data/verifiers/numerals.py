r"""Numerals as people write them, read exactly: no float stands between two numbers.

72   -72   1,234,567   3.14   .5   1.2e5   1.2*10^{5}   3/4   \frac{3}{4}   2 1/2
0.\overline{3} eight   twenty-one   3 tenths   2 lakh   negative 7   9 below zero

This module holds the only patterns of numbers in the package.
"""

import re
from dataclasses import dataclass
from fractions import Fraction

from omr_data.verifiers.spellings import entries

MAX_DIGITS = 2_000
MAX_EXPONENT = 2_000
"""Beyond these a number is not read, so that 10^(10^9) costs nothing."""

WHOLE = r"(?:\d{1,3}(?:(?:,\d{3})+|(?: \d{3})+|(?:'\d{3})+)(?!\d)|\d+)"
DECIMAL = rf"(?:{WHOLE}(?:\.\d*)?|\.\d+)"
NUMERAL = re.compile(rf"[+-]?{DECIMAL}(?:/\d+)?%?")
"""A numeral inside a sentence."""

_PLAIN = re.compile(
    rf"({DECIMAL})(?:[eE]([+-]?\d+)|\s*[*x]\s*10\s*\^\s*(?:\{{\s*([+-]?\s*\d+)\s*\}}|([+-]?\d+)))?"
)
_FRACTION = re.compile(
    r"(?:(\d+)\s*(?=\\frac)|(\d+)\s(?=\d+\s*/))?\s*"
    r"(?:\\frac\s*\{\s*([+-]?\d+)\s*\}\s*\{\s*(\d+)\s*\}|\\frac\s*(\d)\s*(\d)(?!\d)"
    r"|([\d,]+)\s*/\s*(\d+))"
)
_POWER = re.compile(r"10\s*\^\s*(?:\{\s*([+-]?\d+)\s*\}|([+-]?\d+))")
_REPEATING = re.compile(r"(\d+)\.(\d*)(?:\\overline|\\dot|\\bar)\s*\{\s*(\d+)\s*\}")

_UNITS = entries(
    """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen
    fifteen sixteen seventeen eighteen nineteen
    """
)
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
SMALL = {word: number for number, word in enumerate(_UNITS)} | {
    word: 10 * number for number, word in enumerate(_TENS, 2)
}
MULTIPLIERS = {
    "hundred": 100,
    "thousand": 1_000,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
    "lakh": 10**5,
    "lakhs": 10**5,
    "crore": 10**7,
    "crores": 10**7,
    "dozen": 12,
    "score": 20,
    "dozens": 12,
    "thousands": 1_000,
    "millions": 10**6,
    "billions": 10**9,
    "hundreds": 100,
    "万": 10**4,
    "亿": 10**8,
}
_ORDINALS = {
    "half": 2,
    "third": 3,
    "quarter": 4,
    "fourth": 4,
    "fifth": 5,
    "sixth": 6,
    "seventh": 7,
    "eighth": 8,
    "ninth": 9,
    "tenth": 10,
    "eleventh": 11,
    "twelfth": 12,
    "sixteenth": 16,
    "twentieth": 20,
    "hundredth": 100,
    "thousandth": 1000,
    "millionth": 10**6,
}
PARTS = _ORDINALS | {f"{word}s": number for word, number in _ORDINALS.items()} | {"halves": 2}
_WORDS = set(SMALL) | set(MULTIPLIERS) | set(PARTS) | {"and", "a", "an"}
_NEGATIVE = re.compile(r"(?:negative|minus)\s+", re.IGNORECASE)
_BELOW = re.compile(r"\s+below\s+(?:zero|0)$", re.IGNORECASE)
_ABOUT = re.compile(r"(?:≈|~|about|approximately|approx\.?|roughly|around)\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Numeral:
    """An exact value with how it was written."""

    value: Fraction
    """The value."""
    exact: bool = True
    """False for decimals, which may be rounded."""
    digits: int = 0
    """Significant digits of a decimal."""
    places: int = 0
    """Digits after the point of a decimal, less its exponent of ten; 0 for whole numbers."""


def read_numeral(text: str) -> Numeral | None:
    """Returns the number that a normalized text is, without percent sign, currency or unit."""
    if not text or len(text) > MAX_DIGITS:
        return None
    # Most answers are whole numbers, and end here.
    if text.isdecimal() and text.isascii():
        return Numeral(Fraction(int(text)))
    if text[0] not in "0123456789+-.":
        about = _ABOUT.match(text)
        if about is not None:
            text = text[about.end() :]

    negative = False
    # "-(-5)" is left to formulas; a sign with a word, as in "-negative 5", has no reading.
    if text[:1] in ("+", "-"):
        negative = text[0] == "-"
        text = text[1:].lstrip()
    elif (word := _NEGATIVE.match(text)) is not None:
        negative = True
        text = text[word.end() :]
    elif (below := _BELOW.search(text)) is not None:
        negative = True
        text = text[: below.start()]

    found = _unsigned(text)
    if found is None or not negative:
        return found

    return Numeral(-found.value, found.exact, found.digits, found.places)


def _unsigned(text: str) -> Numeral | None:
    # Ordered by how often each form occurs in answers.
    if (plain := _PLAIN.fullmatch(text)) is not None:
        return _decimal(plain)

    has_fraction = "/" in text or "\\frac" in text
    if has_fraction and (fraction := _FRACTION.fullmatch(text)) is not None:
        # Groups come in pairs, one for each way in which a fraction is written.
        integer = int(fraction[1] or fraction[2] or 0)
        top = int((fraction[3] or fraction[5] or fraction[7]).replace(",", "") or 0)
        bottom = int(fraction[4] or fraction[6] or fraction[8])
        if bottom == 0 or (integer and top < 0):
            return None

        return Numeral(Fraction(top, bottom) + integer)
    if (power := _POWER.fullmatch(text)) is not None:
        exponent = int(power[1] or power[2])
        if abs(exponent) > MAX_EXPONENT:
            return None

        return Numeral(Fraction(10) ** exponent)

    if (repeating := _REPEATING.fullmatch(text)) is not None:
        whole, fixed, period = repeating.groups()
        # A repeating part of n digits is that number over 10^n - 1, moved behind the fixed digits.
        head = Fraction(int(whole + fixed), 10 ** len(fixed))
        return Numeral(head + Fraction(int(period), (10 ** len(period) - 1) * 10 ** len(fixed)))

    return _in_words(text)


def _decimal(match: re.Match[str]) -> Numeral | None:
    # All three thousands marks; the pattern has seen to it that they stand at threes.
    body = match[1].replace(",", "").replace(" ", "").replace("'", "")
    exponent = int((match[2] or match[3] or match[4] or "0").replace(" ", ""))
    if abs(exponent) > MAX_EXPONENT:
        return None

    whole, _, decimals = body.partition(".")
    if not decimals and not exponent:
        return Numeral(Fraction(int(whole)))

    value = Fraction(int(whole + decimals), 10 ** len(decimals))
    if exponent:
        value *= Fraction(10) ** exponent
    # "72.0" and "3." are whole numbers; a decimal that is whole is exact.
    if value.denominator == 1 and not exponent:
        return Numeral(value)

    # Zeros in front only place the point, and are not significant.
    digits = len((whole + decimals).lstrip("0"))
    return Numeral(value, False, digits, len(decimals) - exponent)


def _in_words(text: str) -> Numeral | None:
    """Numbers with words: eight, twenty-one, 2 lakh, 3 tenths, three and a half."""
    # Numbers in words are short; longer texts are sentences.
    words = text.lower().replace("-", " ").split()
    if not words or len(words) > 12 or len(text) > 120:
        return None

    first: Fraction | None = None
    if words[0][0].isdigit() or words[0][0] == ".":
        numeral = _PLAIN.fullmatch(words[0])
        if numeral is None or len(words) == 1:
            return None

        head = _decimal(numeral)
        if head is None:
            return None

        first, words = head.value, words[1:]
    elif text[-1] in "万亿" and len(text) > 1:
        return None

    if not set(words) <= _WORDS or words[-1] in ("and", "a", "an"):
        return None

    value = _combine(first, words)
    if value is None:
        return None

    return Numeral(value)


def _combine(first: Fraction | None, words: list[str]) -> Fraction | None:
    """The value of number words, after a numeral where there is one.

    Args:
        first: The numeral before the words.
        words: The words, in lower case.
    """
    total = Fraction(0)
    current = first

    for at, word in enumerate(words):
        if word in ("and", "a", "an"):
            continue
        if word in SMALL:
            # "twenty one" adds, "five six" and "3 five" are no numbers.
            small = SMALL[word]
            follows_hundreds = current is None or current % 100 == 0
            follows_tens = (
                current is not None and current % 10 == 0 and current % 100 >= 20 and small < 10
            )
            if first is not None or not (follows_hundreds or follows_tens):
                return None

            current = (current or Fraction(0)) + SMALL[word]
        elif word in MULTIPLIERS:
            current = (Fraction(1) if current is None else current) * MULTIPLIERS[word]
            # Thousands and more close a group: in "two thousand three hundred", the hundred
            # multiplies 3.
            if MULTIPLIERS[word] >= 1000:
                total += current
                current = Fraction(0)
        else:
            if at != len(words) - 1:
                return None
            # "three and a half" adds a part; "three halves" is that many of them.
            if current is not None and "and" in words[:at]:
                return total + current + Fraction(1, PARTS[word])

            if current is None:
                return total + Fraction(1, PARTS[word])

            return total + current / PARTS[word]

    return total + (current or Fraction(0))


def close(claim: Numeral, gold: Numeral, significant: int) -> bool:
    """Whether two values are equal, or one is the other rounded.

    Whole numbers and fractions are exact. A decimal may stand for a value that rounds to it
    (half a unit of its last place) when it has enough significant digits; if both are
    decimals, the one with fewer places is the rounded one.

    Args:
        claim: One value.
        gold: The other one.
        significant: Significant digits that a rounded decimal needs.
    """
    # Exact equality first: it needs no thought about digits.
    if claim.value == gold.value:
        return True

    decimals = [number for number in (claim, gold) if not number.exact]
    whole = any(number.exact and number.value.denominator == 1 for number in (claim, gold))
    if not decimals or whole:
        return False

    # The other value may be exact or more precise; only the shorter one can be its rounding.
    rounded = min(decimals, key=lambda number: number.places)
    half = abs(claim.value - gold.value) * 2 * Fraction(10) ** rounded.places
    return rounded.digits >= significant and half <= 1
