"""Choices: the letter of an option or its text, when the options are known."""

import re
from dataclasses import dataclass
from string import ascii_uppercase

from omr_data.verifiers import base
from omr_data.verifiers.base import Decision, right, unsure, wrong
from omr_data.verifiers.numbers import read_number
from omr_data.verifiers.words import phrase

_LETTER = re.compile(
    r"(?:(?:the )?(?:option|choice|answer) )?[\(\[]?([A-Za-z])[\)\]]?\s*[.:]?", re.IGNORECASE
)
_LETTER_AND_TEXT = re.compile(
    r"(?:(?:option|choice) )?(?:[\(\[]([A-Za-z])[\)\]]|([A-Za-z])[.):]|([A-Za-z])\s*[-=])\s*(\S.*)",
    re.DOTALL | re.IGNORECASE,
)
_SEVERAL = re.compile(
    r"[\(\[]?[A-Za-z][\)\]]?(?:(?:\s*(?:,|and|or|&|/)\s*|\s+)[\(\[]?[A-Za-z][\)\]]?)+|[A-Z]{2,}"
)


@dataclass(frozen=True)
class Verifier(base.Verifier):
    """Accepts a gold answer that is the text of one option, or its letter, while the options are known."""

    def accepts(self, gold: str, options: tuple[str, ...]) -> bool:
        return _gold_index(gold, options) is not None

    def decide(self, claim: str, gold: str, options: tuple[str, ...]) -> Decision:
        wanted = _gold_index(gold, options)
        assert wanted is not None  # accepts() found it
        named = f"({ascii_uppercase[wanted]}) {options[wanted]}"
        found = _named(claim, options)
        if found == {wanted}:
            return right(f"it names {named}")
        if wanted in found:
            return unsure("its letter and its text name different options")
        if found:
            return wrong(f"it names ({ascii_uppercase[min(found)]}), not {named}")
        if _SEVERAL.fullmatch(claim):
            return wrong(f"it names several options, and the answer is {named}")
        inside = _inside(claim, options)
        if len(inside) == 1:
            return unsure("the text of one option stands among other words")
        return wrong(f"it names no option; the answer is {named}")


def _gold_index(gold: str, options: tuple[str, ...]) -> int | None:
    """The option that the gold answer is: by its text, else by its letter."""
    if not options or len(options) > len(ascii_uppercase):
        return None
    texts = [phrase(option) for option in options]
    if texts.count(phrase(gold)) == 1:
        return texts.index(phrase(gold))
    letter = _LETTER.fullmatch(gold)
    index = ascii_uppercase.index(letter[1].upper()) if letter else len(options)
    return index if index < len(options) else None


def _named(claim: str, options: tuple[str, ...]) -> set[int]:
    """The options that a claim names: one if it is clear, none or two if it is not."""
    by_text = _by_text(claim, options)
    letter = _LETTER.fullmatch(claim)
    index = ascii_uppercase.index(letter[1].upper()) if letter else len(options)
    by_letter = {index} if index < len(options) else set()
    if by_text or by_letter:
        return by_text | by_letter
    both = _LETTER_AND_TEXT.fullmatch(claim)
    if both is None:
        return set()
    index = ascii_uppercase.index((both[1] or both[2] or both[3]).upper())
    text = _by_text(both[4], options)
    return text | {index} if index < len(options) and text else set()


def _by_text(claim: str, options: tuple[str, ...]) -> set[int]:
    said = phrase(claim)
    same = {index for index, option in enumerate(options) if phrase(option) == said}
    if same or (number := read_number(claim)) is None or number.words:
        return same
    values = [read_number(option) for option in options]
    return {
        index
        for index, value in enumerate(values)
        if value and (value.value, value.percent, value.words) == (number.value, number.percent, "")
    }


def _inside(claim: str, options: tuple[str, ...]) -> list[int]:
    said = f" {phrase(claim)} "
    return [
        index
        for index, option in enumerate(options)
        if phrase(option) and f" {phrase(option)} " in said
    ]
