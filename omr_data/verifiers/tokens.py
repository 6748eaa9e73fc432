"""Tokens of formulas in plain notation: numbers, names, commands and signs."""

import re

from omr_data.verifiers.spellings import COMMANDS, entries

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
    so to of is at no if it up by as an or and the for not are was all any
    """
    )
)


_TWO_WORDS = re.compile(r"(?<![\\A-Za-z])(?:[A-Za-z]+ +[A-Za-z]{2,}|[A-Za-z]{2,} +[A-Za-z])")
_GREEK = re.compile(
    r"(?<![A-Za-z\\])(?:pi|theta|alpha|beta|gamma|delta|lambda|omega|sigma|phi)(?![A-Za-z])"
)
"""Greek letters that are spelled out in plain text."""


class Unreadable(Exception):
    """The text is not a formula of the kind that is read here, or its value is too large."""


def tokens_of(text: str) -> list[str]:
    """The tokens of a text. Words of the language are refused here: "so" is not s times o."""
    # Without a run of letters nothing can be a word to refuse.
    if not _WORD.search(text):
        return _split(text)

    # Spelled-out Greek letters are names of their own; "pi" is not p times i.
    text = _GREEK.sub(lambda name: COMMANDS[name[0]], text)

    for word in _WORD.findall(text):
        if word not in FUNCTIONS and word != "sqrt" and (len(word) > 3 or word in _FILLERS):
            raise Unreadable(f"{word!r} is a word")

    for pair in _TWO_WORDS.finditer(text):
        # "a lot" is not a product; "sin x" and "x y" are formulas.
        if not FUNCTIONS.intersection(pair[0].split()):
            raise Unreadable(f"{pair[0]!r} are words")

    return _split(text)


def _split(text: str) -> list[str]:
    # One pattern at each place keeps this linear in the length of the text.
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
