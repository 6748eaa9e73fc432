"""Choices: the letter of an option, its text, or both, when the options are known.

Option texts are compared as typed answers, so 0.25 names the option \\frac{1}{4}, and 8cm the
option "8 cm". Options may name letters themselves: "A and B" names the option "both A and B".
"""

import functools
import re
from dataclasses import dataclass

from omr_data.records import RIGHT
from omr_data.verifiers import base
from omr_data.verifiers.answers import parse
from omr_data.verifiers.answers.base import Rules
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
_LETTER_AND_TEXT = re.compile(r"([A-Z])[\s,]+(.+)")
_PAIRED = (" both ", " neither ")
_NONE = re.compile(
    r"(?:none|all|both|neither|cannot|can't|not|no|i|it|because|since|there|unknown)\b.*", re.I
)


@dataclass(frozen=True)
class Verifier(base.Verifier):
    """Accepts a gold answer that is an option's text, its letter, or several letters."""

    def accepts(self, gold: str, options: tuple[str, ...]) -> bool:
        return bool(options) and bool(_read_gold(gold, options))

    def decide(self, claim: str, gold: str, options: tuple[str, ...]) -> Decision:
        """See `base.Verifier.decide`.

        Args:
            claim: The answer that was extracted.
            gold: The gold answer.
            options: The texts of the options.
        """
        # The gold answer was accepted, so it names at least one option.
        wanted = _read_gold(gold, options)
        texts = _texts(options)
        plain = normalize(claim)
        found, doubtful = _named(plain, texts)
        named = ", ".join(f"({letter_of(at)}) {texts[at]}" for at in sorted(wanted))
        if doubtful:
            if wanted & found:
                return too_close(doubtful)

            return wrong(f"it names other options than {named}")

        # All options that the gold answer names, and no other one.
        if found == wanted:
            return right(f"it names {named}")
        if found:
            others = ", ".join(f"({letter_of(at)})" for at in sorted(found))
            return wrong(f"it names {others}, not {named}")

        # It names no option: WRONG where it surely answers something else.
        said = f" {phrase(plain)} "
        phrases = _phrases(texts)
        inside = [text for text in phrases if text and f" {text} " in said]
        around = [text for text in texts if said in _PAIRED and said in f" {phrase(text)} "]
        if len(inside) == 1 or len(around) == 1:
            return too_close("one holds the words of the other")
        if parse(plain) or read_letters(plain) or _NONE.fullmatch(plain):
            return wrong(f"it names no option; the answer is {named}")

        return unreadable("it names no option, and no type accounts for all of its text")


@functools.lru_cache(maxsize=4_096)
def _texts(options: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(without_labels([normalize(option) for option in options]))


@functools.lru_cache(maxsize=4_096)
def _phrases(texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(phrase(text) for text in texts)


@functools.lru_cache(maxsize=4_096)
def _read_gold(gold: str, options: tuple[str, ...]) -> frozenset[int]:
    """The options that the gold answer is: by text, else by letter; empty where it is none."""
    # More options than letters cannot be named by letters.
    if not options or len(options) > _MOST:
        return frozenset()

    texts = _texts(options)
    plain = normalize(gold)
    said = [phrase(text) for text in texts]
    if said.count(phrase(plain)) == 1:
        return frozenset({said.index(phrase(plain))})

    found, doubtful = _named(plain, texts)
    if doubtful:
        return frozenset()

    return frozenset(found)


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
    apart = _LETTER_AND_TEXT.fullmatch(claim)
    # "D hexagon" and "D, hexagon"; "A hexagon" is a hexagon, by its text.
    if apart is not None and _by_text(apart[2], texts) == {index_of(apart[1])}:
        return {index_of(apart[1])}, ""
    # "E. coli" has no label when there are four options.
    if labelled is None or index_of(labelled[0]) >= len(texts):
        return set(), ""

    index = index_of(labelled[0])
    text = _by_text(labelled[1], texts)
    if text == {index}:
        return text, ""
    if text:
        return text | {index}, "its letter and its text name different options"

    said = f" {phrase(labelled[1])} "
    others = [one for at, one in enumerate(_phrases(texts)) if at != index and f" {one} " in said]
    # The letter is clear where its reason follows ("D. It has six sides"), unless that holds the
    # text of another option.
    if others:
        return (set(), "")

    return ({index}, "")


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
    # A counted noun is left to words: "2 cats" must not name an option that is "2".
    if not given or isinstance(given[0], Counted):
        return set()

    # A unit or sign that stands in the options only does not tell them apart, so a bare number
    # names the one option of that value.
    # Strict equality goes first, so that "5" names the option 5 and not the option 5 cm.
    found, near = set(), set()
    loose = Rules(units="optional")

    for index, text in enumerate(texts):
        option = parse(text)
        if not option:
            continue

        decision = compare(given, option, _RULES)
        if decision.outcome == RIGHT:
            found.add(index)
        elif compare(given, option, loose).outcome == RIGHT:
            near.add(index)

    return found or (near if len(near) == 1 else set())
