"""Answers inside sentences: "there are 48 tiles in total" holds exactly one."""

import re

from omr_data.verifiers.answers import parse
from omr_data.verifiers.answers.base import Parsed
from omr_data.verifiers.answers.collection import List
from omr_data.verifiers.answers.quantity import Quantity
from omr_data.verifiers.answers.words import Words
from omr_data.verifiers.normalize import normalize
from omr_data.verifiers.numerals import NUMERAL, PARTS, SMALL
from omr_data.verifiers.options import read_letters, split_label

_FORMULA = re.compile(r"\$\$?[^$\n]+\$\$?|\\\(.+?\\\)|\\\[.+?\\\]|\*\*[^*\n]+\*\*", re.DOTALL)
_LETTER = re.compile(
    r"\b(?:option|choice|answer)\s+[(\[]?([A-H])\b[)\]]?|\(([A-H])\)", re.IGNORECASE
)
_UNIT = re.compile(r"\s*(?:[a-zA-ZμΩ°²³^/0-9]+|square \w+|cubic \w+|\w+ per \w+)")
_CHANGES = re.compile(
    r"\b(?:less|more|fewer|than|times|not|minus|plus|below|above|over|under|least|most|"
    r"between|half|twice|double|squared|cubed|negative|if|either|or|cannot|never|approximately|"
    r"neither|percent of|out of|hundred|thousand|million|billion|dozen|power|factorial|"
    r"root|base|about|almost|nearly)\b"
    r"|n't\b|不是|不|或",
    re.IGNORECASE,
)


def is_only_answer(line: str) -> bool:
    """Whether a line is nothing but an answer: not a sentence, and not just words."""
    bold = re.fullmatch(r"[*_]{2}(.+?)[*_]{2}[.。]?", line)
    plain = normalize(line)
    if not plain or re.match(r"(?:[-*•]|\d+\.)\s", line):
        # An item of a list of steps is not an answer.
        return False
    if read_letters(plain):
        named = re.match(r"(?:the )?(?:option|choice|选项)", plain, re.IGNORECASE)
        if plain.isupper() or bold or "(" in plain or named:
            return True

    # "B. square" on its own line is an answer, up to the length of an option.
    labelled = split_label(plain)
    if labelled is not None and len(plain) <= 80:
        return True

    readings = parse(line)
    if not readings:
        return False
    if is_prose(readings):
        return bool(bold) and len(plain.split()) <= 5

    return not re.search(r"[a-z]{4,} [a-z]{2,} [a-z]{2,}", plain)


def is_prose(readings: Parsed) -> bool:
    """Whether readings are words only, or lists that hold words: "Thus, x = 48"."""
    for one in readings:
        items = getattr(one, "parts", ()) if isinstance(one, List) else ()
        wordy = any(isinstance(item[0], Words) for item in items)
        if not isinstance(one, Words) and not wordy:
            return False

    return True


def sole_answer(sentence: str) -> str | None:
    """The one answer in a sentence, or None where there is none or more than one.

    A number is taken with the unit that follows it. A sentence with a word that may change the
    value ("5 less than x", "not 5", "5 or 6") gives none.
    """
    # Longer sentences hold more than one thought, and the one number in them is rarely the answer.
    if len(sentence) > 300 or _CHANGES.search(sentence):
        return None

    formulas = _FORMULA.findall(sentence)
    rest = _FORMULA.sub(" ", sentence)
    numbers = list(NUMERAL.finditer(rest))
    letters = [one[1] or one[2] for one in _LETTER.finditer(rest)]
    words = [word for word in rest.lower().split() if word in SMALL or word in PARTS]
    # Exactly one candidate: with two, choosing would be a guess.
    if len(formulas) + len(numbers) + len(letters) + len(words) != 1:
        return None
    if formulas:
        return _with_unit(sentence, sentence.index(formulas[0]) + len(formulas[0]), formulas[0])
    if letters:
        return letters[0].upper()
    if words:
        return words[0]

    number = numbers[0]
    before = rest[: number.start()]
    if re.search(r"[A-Za-z_\\^]$", before) or re.match(r"[A-Za-z_^\\(]{2,}", rest[number.end() :]):
        # "x2" and "5xy" are not numbers of their own.
        glued = _UNIT.match(rest, number.end())
        if re.search(r"[A-Za-z_\\^]$", before) or glued is None:
            return None

    money = ""
    if before.endswith("$"):
        money = "$"

    return money + _with_unit(rest, number.end(), number[0])


def _with_unit(sentence: str, end: int, value: str) -> str:
    """A value with the unit of measure that follows it, if one does."""
    unit = _UNIT.match(sentence, end)
    if unit is not None:
        text = f"{value}{unit[0]}"
        if any(isinstance(one, Quantity) for one in parse(text)):
            return text

    return value
