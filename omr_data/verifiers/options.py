"""Lettered options: the one place that knows how options are labeled and named.

An option is named by its letter ("B", "(b)", "option B", "选B"), by its text, or by both.
Options and gold answers of some sources carry their label in their text ("A. circle").
"""

import re
from collections.abc import Sequence
from string import ascii_uppercase

_LEAD = (
    r"(?:(?:the )?(?:correct |right |final )?(?:option|choice|answer)s?:? (?:is |are )?|选项?\s*)?"
)
_ONE = r"[(\[]?\s*([A-Za-z])\s*[)\]]?"
_LETTER = re.compile(rf"{_LEAD}{_ONE}\s*[.:)]?", re.IGNORECASE)
_SEVERAL = re.compile(
    rf"{_LEAD}(?:both |only |all of )?[(\[]?([A-Z])[)\]]?"
    r"(?:\s*(?:,\s*and|,|、|and|&|/|\+|;|\s)\s*[(\[]?(?:option )?[A-Z][)\]]?)+\.?"
)
_TOGETHER = re.compile(rf"{_LEAD}([A-H]{{2,8}})\.?")
_LABELLED = re.compile(
    r"(?:(?:option|choice)\s+)?(?:[(\[]\s*([A-Za-z])\s*[)\]]\s*[.:]?|([A-Za-z])\s*[.):]"
    r"|([A-Z])\s+[-=:]|"
    r"([A-Z]) (?=\())\s*(\S.*)",
    re.DOTALL | re.IGNORECASE,
)
_NOT = re.compile(r"\s*[,;(]?\s*\b(?:not|rather than|instead of)\b\s+.*$", re.IGNORECASE)


def index_of(letter: str) -> int:
    """The place of an option's letter: 0 for A."""
    return ascii_uppercase.index(letter.upper())


def letter_of(index: int) -> str:
    """The letter of an option: A for 0."""
    return ascii_uppercase[index]


def read_letters(text: str) -> set[str]:
    """The letters that a normalized text names, and nothing else stands in it; else empty."""
    text = text.strip()
    # "C, not A" names C.
    text = _NOT.sub("", text) if re.match(r"[^a-z]*[A-Za-z][^a-z]*,?\s+not\b", text) else text
    # One letter is by far the commonest answer, so it is tried before the others.
    one = _LETTER.fullmatch(text)
    if one is not None:
        return {one[1].upper()}

    several = _SEVERAL.fullmatch(text)
    if several is not None:
        # The words before the letters hold an A of their own: "Answers A and C".
        body = re.sub(
            r"(?i)^\s*(?:the )?(?:correct )?(?:options?|choices?|answers?):?( are| is)?", "", text
        )
        return set(re.findall(r"(?<![A-Za-z])[A-Z](?![A-Za-z])", body))

    together = _TOGETHER.fullmatch(text)
    # Letters in order and each once: "ABD" names options, "BAD" is a word.
    if together is not None and list(together[1]) == sorted(set(together[1])):
        return set(together[1])

    return set()


def split_label(text: str) -> tuple[str, str] | None:
    """The letter and the text of a labeled option: ("B", "square") of "(B) square", or None."""
    match = _LABELLED.fullmatch(text.strip())
    if match is None:
        return None

    # One group for each form of a label, of which exactly one has matched.
    letter = match[1] or match[2] or match[3] or match[4]
    rest = match[5].strip()
    # "D (hexagon)" has its text in brackets.
    if match[4] and rest.startswith("(") and rest.endswith(")"):
        rest = rest[1:-1].strip()

    return letter.upper(), rest


def without_labels(options: Sequence[str]) -> list[str]:
    """The texts of options, without the labels "A.", "B.", ... that all of them carry in order."""
    texts: list[str] = []

    for number, option in enumerate(options):
        labelled = split_label(option)
        # One option without its label, or out of order, and none of them is taken for a label.
        if labelled is None or labelled[0] != letter_of(number):
            return list(options)

        texts.append(labelled[1])

    return texts
