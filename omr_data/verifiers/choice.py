"""Choices: the letter of an option, its text, or both, when the options are known.

Option texts are compared as typed answers, so 0.25 names the option \\frac{1}{4}, and 8cm the option
"8 cm". Options may name letters themselves: "A and B" names the option "both A and B".
"""

import functools
import re
from dataclasses import dataclass

from omr_data.records import RIGHT, UNDECIDED
from omr_data.verifiers import base
from omr_data.verifiers.answers import parse
from omr_data.verifiers.answers.base import Parsed, Rules
from omr_data.verifiers.answers.quantity import Counted
from omr_data.verifiers.base import Decision, right, too_close, unreadable, wrong
from omr_data.verifiers.compare import compare
from omr_data.verifiers.normalize import normalize
from omr_data.verifiers.options import (
    index_of,
    letter_of,
    read_letters,
    split_label,
    without_labels,
)
from omr_data.verifiers.words import phrase

_RULES = Rules()
_MOST = 26
_NONE = re.compile(
    r"(?:none|all|both|neither|cannot|can't|not|no|i|it|because|since|there|unknown)\b.*", re.I
)


@dataclass(frozen=True)
class Verifier(base.Verifier):
    """Accepts a gold answer that is an option's text, its letter, or several letters."""

    def accepts(self, gold: str, options: tuple[str, ...]) -> bool:
        return bool(options) and bool(_read_gold(gold, options))

    def decide(self, claim: str, gold: str, options: tuple[str, ...]) -> Decision:
        wanted = _read_gold(gold, options)
        texts = _texts(options)
        plain = normalize(claim)
        found, doubtful = _named(plain, texts)
        named = ", ".join(f"({letter_of(at)}) {texts[at]}" for at in sorted(wanted))
        if doubtful:
            if wanted & found:
                return too_close(doubtful)
            return wrong(f"it names other options than {named}")
        if found == wanted:
            return right(f"it names {named}")
        if found:
            others = ", ".join(f"({letter_of(at)})" for at in sorted(found))
            return wrong(f"it names {others}, not {named}")
        return _unnamed(plain, texts, named)


@functools.lru_cache(maxsize=4_096)
def _texts(options: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(without_labels([normalize(option) for option in options]))


@functools.lru_cache(maxsize=4_096)
def _phrases(texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(phrase(text) for text in texts)


@functools.lru_cache(maxsize=4_096)
def _read_gold(gold: str, options: tuple[str, ...]) -> frozenset[int]:
    """The options that the gold answer is: by text, else by letter; empty where it is none."""
    if not options or len(options) > _MOST:
        return frozenset()
    texts = _texts(options)
    plain = normalize(gold)
    said = [phrase(text) for text in texts]
    if said.count(phrase(plain)) == 1:
        return frozenset({said.index(phrase(plain))})
    found, doubtful = _named(plain, texts)
    return frozenset() if doubtful else frozenset(found)


def _named(claim: str, texts: tuple[str, ...]) -> tuple[set[int], str]:
    """The options that a claim names, and why that is in doubt.

    Args:
        claim: The normalized claim.
        texts: The normalized texts of the options, without labels.
    """
    by_text = _by_text(claim, texts)
    letters = {index_of(letter) for letter in read_letters(claim)}
    by_letter = letters if all(index < len(texts) for index in letters) else set()
    if by_text and by_letter and by_text != by_letter:
        if len(by_text) == 1 and len(by_letter) > 1:
            # "A and B" is the text of an option that names letters.
            return by_text, ""
        return by_text | by_letter, "as a letter and as a text it names different options"
    if by_text or by_letter:
        return by_text or by_letter, ""
    labelled = split_label(claim)
    if labelled is None or index_of(labelled[0]) >= len(texts):
        return set(), ""
    index = index_of(labelled[0])
    text = _by_text(labelled[1], texts)
    if text == {index}:
        return text, ""
    if text:
        return text | {index}, "its letter and its text name different options"
    # The letter alone is clear where the text repeats words of its option.
    said, wanted = phrase(labelled[1]), _phrases(texts)[index]
    if wanted and (said in wanted or wanted in said):
        return {index}, ""
    return set(), ""


def _by_text(claim: str, texts: tuple[str, ...]) -> set[int]:
    """The options whose text the claim is: word for word, else by value."""
    said = phrase(claim)
    phrases = _phrases(texts)
    same = {index for index, text in enumerate(phrases) if text == said and text}
    if same:
        return same
    letters = read_letters(claim)
    if len(letters) > 1:
        # "A and B" is "both A and B", but not "A only".
        for index, text in enumerate(texts):
            whole = not re.search(r"\b(?:neither|not|nor|none)\b", text, re.I)
            if whole and read_letters(text) == letters:
                same.add(index)
        return same
    if letters:
        return set()
    given = parse(claim)
    if not given or isinstance(given[0], Counted):
        return set()
    return _by_value(given, texts)


def _by_value(given: Parsed, texts: tuple[str, ...]) -> set[int]:
    """The options that equal a claim as typed answers.

    A unit or sign that stands in the options only does not tell them apart, so a bare number names
    the one option of that value.
    """
    found, near = set(), set()
    loose = Rules(units="optional")
    for index, text in enumerate(texts):
        option = parse(text)
        if not option:
            continue
        decision = compare(given, option, _RULES)
        if decision.outcome == RIGHT:
            found.add(index)
        elif decision.outcome == UNDECIDED and decision.cause == "too close":
            continue
        elif compare(given, option, loose).outcome == RIGHT:
            near.add(index)
    return found or (near if len(near) == 1 else set())


def _unnamed(claim: str, texts: tuple[str, ...], named: str) -> Decision:
    """The decision on a claim that names no option."""
    said = f" {phrase(claim)} "
    inside = [text for text in _phrases(texts) if text and f" {text} " in said]
    if len(inside) == 1:
        return too_close("the text of one option stands among other words")
    if parse(claim) or read_letters(claim) or _NONE.fullmatch(claim):
        return wrong(f"it names no option; the answer is {named}")
    return unreadable("it names no option, and no type accounts for all of its text")
