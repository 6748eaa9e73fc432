"""Tokens of formulas in plain notation: numbers, names, commands and signs."""

import re

from omr_data.verifiers.spellings import entries

FUNCTIONS = frozenset(
    entries(
        """
    sin cos tan sec csc cot arcsin arccos arctan sinh cosh tanh ln exp log lg
    """
    )
)
_NAMES = "|".join(sorted(FUNCTIONS | {"sqrt"}, key=len, reverse=True))
_TOKEN = re.compile(
    rf"\s*(?:(\d+(?:\.\d+)?|\.\d+)|\\?({_NAMES})(?![a-zA-Z])|\\([a-zA-Z]+)"
    r"|([a-zA-Zα-ωΓΔΘΛΣΦΩ])|([-+*/^_(){}\[\]|!°%,']))"
)
_WORD = re.compile(r"(?<![\\a-zA-Z])[a-zA-Z]{2,}")
_FILLERS = frozenset(
    entries(
        """
    so to of is no at if it up by as an or and the for not are was all any
    """
    )
)


class Unreadable(Exception):
    """The text is not a formula of the kind that is read here, or its value is too large."""


def tokens_of(text: str) -> list[str]:
    """The tokens of a text. Words of the language are refused here: "so" is not s times o."""
    for word in _WORD.findall(text):
        if word not in FUNCTIONS and word != "sqrt" and (len(word) > 3 or word in _FILLERS):
            raise Unreadable(f"{word!r} is a word")
    found: list[str] = []
    at, end = 0, len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None:
            raise Unreadable(f"{text[at : at + 10]!r} is not understood")
        number, function, command, letter, sign = match.groups()
        if function or command:
            found.append("\\" + (function or command))
        else:
            found.append(number or letter or sign)
        at = match.end()
    return found
