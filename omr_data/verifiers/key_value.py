"""Key-value extraction from documents: the fields of the gold object, with their values.

The score is the F1 of fields with the right value, as in CORD (Park et al. 2019) and SROIE. Values
are compared as typed answers, so "1,200.00" is 1200, and else word for word.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from omr_data.records import RIGHT
from omr_data.verifiers import base
from omr_data.verifiers.answers import parse
from omr_data.verifiers.answers.base import Rules
from omr_data.verifiers.base import Decision, scored, unreadable
from omr_data.verifiers.compare import compare
from omr_data.verifiers.words import phrase

_LINE = re.compile(
    r"^[ \t]*[-*]?[ \t]*\**([A-Za-z][\w .-]{0,40}?)\**[ \t]*[:=][ \t]*\**(\S.*?)\**[ \t]*$", re.M
)
_MOST = 500


@dataclass(frozen=True)
class Verifier(base.Verifier):
    """Accepts a gold answer that is a JSON object."""

    reads_response: ClassVar[bool] = True
    """The whole response is read."""
    threshold: float = 1.0
    """The least F1 that counts as RIGHT."""

    def accepts(self, gold: str, options: tuple[str, ...]) -> bool:
        return bool(_object(gold))

    def decide(self, claim: str, gold: str, options: tuple[str, ...]) -> Decision:
        """See `base.Verifier.decide`.

        Args:
            claim: The answer that was extracted, or the whole response.
            gold: The gold answer.
            options: The texts of the options.
        """
        # JSON is preferred; lines of "key: value" are what models write without it.
        wanted = _object(gold)
        given = _object(claim) or {_key(name): value for name, value in _LINE.findall(claim)}
        if not given or len(given) > _MOST:
            return unreadable("the response holds no fields")

        # Keys are compared in one spelling, because models write "Total Amount" for total_amount.
        same = 0
        for key in wanted.keys() & given.keys():
            one, other = parse(given[key]), parse(wanted[key])
            equal = one and other and compare(one, other, Rules()).outcome == RIGHT
            same += bool(equal) or phrase(given[key]) == phrase(wanted[key])

        score = 2 * same / (len(wanted) + len(given))
        return scored(score, self.threshold, f"{same} of {len(wanted)} fields, {len(given)} given")


def _object(text: str) -> dict[str, str]:
    """The fields of the last JSON object in a text, nested ones by their path."""
    decoder = json.JSONDecoder()
    # The last object that is complete counts, and an object inside another is a part of it.
    found: dict[str, str] = {}
    at = text.find("{")
    tries = 0

    while at >= 0 and tries < 50:
        tries += 1
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            end = at + 1
        else:
            if isinstance(value, dict):
                found = _flat(value)

        at = text.find("{", end)

    return found


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for key, one in value.items():
        name = f"{prefix}{_key(key)}"
        if isinstance(one, Mapping):
            found |= _flat(one, f"{name}.")
        elif isinstance(one, list):
            for number, item in enumerate(one):
                # Items of lists are named by their place, so a missing line shifts those after it.
                inner = item if isinstance(item, Mapping) else {str(number): item}
                found |= _flat(inner, f"{name}.{number}.")
        else:
            found[name] = "" if one is None else str(one)

    return found


def _key(name: str) -> str:
    return re.sub(r"[\s_-]+", "_", name.strip().casefold())
