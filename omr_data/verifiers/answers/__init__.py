"""Typed answers: one file per type. `parse` is the only way in; every type is found here."""

import functools
import importlib
import inspect
import pkgutil

from omr_data.verifiers.answers.base import Answer, Parsed, Rules
from omr_data.verifiers.normalize import LONGEST, normalize
from omr_data.verifiers.scanner import ITEM, deepest

__all__ = ["Answer", "Parsed", "Rules", "answer_types", "parse", "read"]

_CACHED = 400
"""Longer texts are not kept in the cache, so that its memory has a bound of a few megabytes."""
_DEEPEST = 40


@functools.cache
def answer_types() -> tuple[type[Answer], ...]:
    """Every type of answer, in the order in which they are tried."""
    found: list[type[Answer]] = []

    # A file in this folder is enough to add a type: no list can be forgotten.
    for module in pkgutil.iter_modules(__path__):
        members = vars(importlib.import_module(f"{__name__}.{module.name}"))
        for value in members.values():
            is_type = inspect.isclass(value) and issubclass(value, Answer)
            if is_type and value is not Answer and value.__module__ == f"{__name__}.{module.name}":
                found.append(value)

    return tuple(sorted(found, key=lambda kind: (kind.order, kind.__name__)))


def parse(text: str) -> Parsed:
    """All readings of an answer as it was written; none where no type accounts for all of it.

    Gold answers and claims are read by the same types after the same normalization. Readings are
    cached, so the gold answer of a record is parsed once for all of its responses.
    """
    if len(text) <= _CACHED:
        return _parse_short(text)
    if len(text) <= LONGEST:
        return read(normalize(text))

    return ()


def read(text: str) -> Parsed:
    """All readings of a normalized text, or of a part of one."""
    if len(text) <= _CACHED:
        return _read_short(text)

    return _read(text)


def _read(text: str) -> Parsed:
    if not text or deepest(text) > _DEEPEST:
        return ()

    found = _readings(text)
    if not found and ITEM in text:
        # The space between formulas may be no more than that: "x = 5 \quad (x > 0)".
        found = _readings(text.replace(ITEM, " "))

    return found


def _readings(text: str) -> Parsed:
    found: list[Answer] = []
    for kind in answer_types():
        answer = kind.read(text, read)
        if answer is not None:
            found.append(answer)
            # Types are tried in order, so what a certain type reads is never seen by a vaguer one.
            if answer.alone:
                break

    return tuple(found)


_parse_short = functools.lru_cache(maxsize=16_384)(lambda text: read(normalize(text)))
_read_short = functools.lru_cache(maxsize=16_384)(_read)
