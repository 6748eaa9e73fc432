"""What may be counted: which words after a number leave its value alone.

"18 eggs" is 18, but "7 squared", "4 plus y", "3 tenths", "2 lakh" and "9 below zero" are not
their first number. So only a plural noun may follow (or a singular one after 1), with
adjectives before it and a few closing words. A word that changes the value, or may change it,
is never a noun.
"""

import re
from fractions import Fraction

from omr_data.verifiers.numerals import MULTIPLIERS, PARTS, SMALL
from omr_data.verifiers.spellings import entries

_WORD = re.compile(r"[^\W\d_]+(?:['-][^\W\d_]+)*")
_PHRASE = re.compile(r"[^\W\d_]+(?:['-][^\W\d_]+)*(?: [^\W\d_]+(?:['-][^\W\d_]+)*){0,5}\.?")
_CHINESE = re.compile("(?:[个只条头支本张块颗棵人名种次朵辆件位根双枝间片]|块)[\u4e00-\u9fff]{0,4}")
_UNITS = re.compile(r"(?:sq\.? |square |cubic )?units?(?:\^\{?[23]\}?)?\.?", re.IGNORECASE)
_IRREGULAR = frozenset(
    entries(
        """
    people children men women fish sheep deer feet mice teeth geese oxen data cacti fungi
    vertices indices matrices axes dice series species pence fruit aircraft offspring cattle
    """
    )
)
_CLOSING = re.compile(
    r" (?:in total|in all|altogether|total|overall|left|remaining|each|per [a-z]+|a day|a week)$"
)
_CHANGES = frozenset(
    entries(
        """
    times plus minus less fewer more than below above under over squared cubed doubled
    halved tripled percent percents mod modulo remainder point hundredths least most only
    not or if between out by without negative half twice thrice double triple squares cubes
    powers roots logs degrees points-off deficits always perhaps maybe minus-signs factors
    multiples dozens scores pairs halves thirds orders sometimes radians tens ones choose
    permute base bases versus vs exceeds equals is was has does plus-minus
    """
    )
)
_SUFFIXES = ("ss", "us", "is")


def noun_of(words: str) -> str:
    """The noun in one spelling: "units^2" are square units."""
    text = words.lower().rstrip(".")
    # "units" has no measure of its own, so it is a noun; its power is kept, as area is not length.
    if not _UNITS.fullmatch(words):
        return text
    if "2" in text or "sq" in text:
        return "square units"
    if "3" in text or "cubic" in text:
        return "cubic units"

    return "units"


def is_counted(words: str, count: Fraction) -> bool:
    """Whether the words after a number name what is counted.

    Args:
        words: The text after the number.
        count: The number: 1 takes a singular noun.
    """
    if _CHINESE.fullmatch(words) or _UNITS.fullmatch(words):
        return True

    text = words.strip().rstrip(".")
    if not _PHRASE.fullmatch(text) or not text.isascii():
        return False

    # Words such as "in total" end a sentence and change nothing of the number before them.
    text = _CLOSING.sub("", text.lower())
    head, _, complement = text.partition(" of ")
    named = _WORD.findall(head)
    # Longer phrases are sentences in which the number may mean anything.
    if not named or len(named) > 4:
        return False

    # A word that changes the value ("5 less", "3 dozen") makes it more than a count of things.
    every = named + _WORD.findall(complement)
    if any(word in _CHANGES or word in SMALL or word in PARTS for word in every):
        return False
    if any(word in MULTIPLIERS for word in every):
        return False

    noun = named[-1]
    # Two letters are a unit or a variable.
    if len(noun) < 3:
        return False

    plural = (noun.endswith("s") and not noun.endswith(_SUFFIXES)) or noun in _IRREGULAR
    # Before a noun stand adjectives; a word in -ed or -ly may say what was done to the number.
    plain = all(not word.endswith(("ly", "ths")) for word in named[:-1])
    participle = len(named) == 1 and noun.endswith(("ed", "ly"))
    singular = abs(count) in (0, 1) and not participle
    return plain and (plural or singular)
