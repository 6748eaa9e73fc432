"""Ordering: the items of the gold answer in its order.

The score is the share of pairs of items that stand in the right order, (1 + τ) / 2 with τ of
Kendall (1938); items that are missing or strange make all of their pairs wrong.
"""

import re
from dataclasses import dataclass

from omr_data.records import RIGHT, WRONG, Outcome
from omr_data.verifiers import base
from omr_data.verifiers.answers.collection import split_items
from omr_data.verifiers.base import Decision, unreadable
from omr_data.verifiers.normalize import normalize
from omr_data.verifiers.words import phrase

_ARROWS = re.compile(r"\s*(?:\\to|->|=>|→|>|<|,|;|\x1e|，)\s*")
_NUMBERED = re.compile(r"^\s*\(?\d+[.)]\s+")
_MOST = 200


@dataclass(frozen=True)
class Verifier(base.Verifier):
    """Accepts a gold answer of at least two items, none of them twice."""

    def accepts(self, gold: str, options: tuple[str, ...]) -> bool:
        # An item that stands twice has no one place, so there would be no one order.
        items = _items(gold)
        return 2 <= len(items) == len(set(items)) <= _MOST

    def decide(self, claim: str, gold: str, options: tuple[str, ...]) -> Decision:
        """See `base.Verifier.decide`.

        Args:
            claim: The answer that was extracted.
            gold: The gold answer.
            options: The texts of the options.
        """
        wanted, given = _items(gold), _items(claim)
        if len(given) < 2 or len(given) > _MOST:
            return unreadable("the answer is not a list of items")
        if len(given) != len(set(given)):
            return Decision(WRONG, "an item stands there twice", score=0.0)

        # Places are looked up once, so the pairs cost no search.
        places = {item: at for at, item in enumerate(given)}
        pairs = right_order = 0

        for at, first in enumerate(wanted):
            for second in wanted[at + 1 :]:
                pairs += 1
                if first in places and second in places:
                    right_order += places[first] < places[second]

        outcome: Outcome = WRONG
        if given == wanted:
            outcome = RIGHT

        score = right_order / pairs
        if outcome == WRONG and score == 1.0:
            # All items in order, and others among them: not the whole answer.
            score = len(wanted) / len(given)

        return Decision(outcome, f"{right_order} of {pairs} pairs in order", score=score)


def _items(text: str) -> list[str]:
    plain = normalize(text).strip("()[]{}⦃⦄")
    parts = _ARROWS.split(plain)
    if len(parts) < 2:
        parts = split_items(plain)

    # "1. wash" on a line of its own carries its place twice.
    found = [phrase(_NUMBERED.sub("", part)) for part in parts]
    if len(found) == 1 and re.fullmatch(r"[A-Z]{2,10}", plain):
        # "CABD" gives the letters of options in order.
        return list(plain.lower())

    return [one for one in found if one]
