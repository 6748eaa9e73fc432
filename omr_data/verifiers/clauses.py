"""Sentences and clauses of a response, and the answer that a clause gives."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from omr_data.verifiers.answers import parse
from omr_data.verifiers.answers.collection import List
from omr_data.verifiers.normalize import normalize
from omr_data.verifiers.options import read_letters, split_label
from omr_data.verifiers.sentences import is_prose, sole_answer

_REASON = re.compile(
    r",?\s+(?:because|since|as it|as the|as there|which|due to|given that|where)\b"
    r"|,\s+(?:as|so|and)\b"
    r"|，?因为|，|;\s"
)
_STOP = re.compile(r"[.!?](?=\s|$)(?!\s*\d)|[。！？]|;\s|\n")
_CLAUSE_STOP = re.compile(r"[.!?](?=\s|$)(?!\s*\d)|[。！？]|\n")
"""Like a sentence, but "a = 1; b = 2" is one clause."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One place where a response states an answer."""

    start: int
    """Where it begins, with its marks."""
    end: int
    """Where it ends, with its marks."""
    answer: str
    """The answer as it was written."""
    how: str
    """Its form, in words."""
    open_ended: bool = False
    """Whether nothing closes it."""


def clause_of(text: str) -> str:
    """The text up to the end of its sentence; a display formula on its own lines is one line."""
    # Full stops inside a display formula are decimal points, and must not end the clause.
    opening = re.match(r"\\\[|\$\$", text)
    if opening is not None:
        closing = {"\\[": "\\]", "$$": "$$"}[opening[0]]
        end = text.find(closing, opening.end())
        # With more on its line, it is one formula of several: "$$7$$ $$10$$".
        if end >= 0 and not text[end + 2 :].partition("\n")[0].strip(" .。*"):
            return text[: end + 2]

    stop = _CLAUSE_STOP.search(text)

    # A full stop inside "A. circle" or after an initial does not end a sentence.
    while stop is not None and re.fullmatch(r"\W*\(?[A-Z]\)?", text[: stop.start()].strip(" *")):
        if stop[0] == "\n":
            break

        stop = _CLAUSE_STOP.search(text, stop.end())

    if stop is None:
        return text

    return text[: stop.start()]


def first_answer(clause: str, options: Sequence[str]) -> str | None:
    """The answer that a clause gives: all of it, or what stands before its reason."""
    # A clause that is an answer as a whole is never cut.
    text = clause.strip()
    if not text:
        return None

    readings = parse(text)
    mixed = is_prose(readings) and any(isinstance(one, List) for one in readings)
    # More than four words without a digit are rather a sentence than an answer.
    long_words = len(text.split()) > 4 and not re.search(r"\d", text)
    if readings and not mixed and not long_words:
        return text

    reason = _REASON.search(text)

    while reason is not None:
        head = text[: reason.start()].strip()
        if head and (parse(head) or read_letters(normalize(head)) or split_label(normalize(head))):
            return head

        reason = _REASON.search(text, reason.end())

    # A sentence that starts with its subject ("There are 48 tiles") holds its answer inside.
    found = sole_answer(text)
    if found is not None and re.match(r"(?:there|it|he|she|they|the|we|this)\b", text, re.I):
        return found

    return text


def sentences_of(text: str, offset: int) -> Iterator[tuple[int, str]]:
    """The sentences of a text, each with its place in the whole."""
    start = 0

    for stop in _STOP.finditer(text):
        if text[start : stop.start()].strip():
            yield offset + start, text[start : stop.start()]

        start = stop.end()

    if text[start:].strip():
        yield offset + start, text[start:]
