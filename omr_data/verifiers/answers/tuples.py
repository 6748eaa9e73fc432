"""Tuples, points and vectors: several answers in order."""

import re
from dataclasses import dataclass

from omr_data.verifiers.answers.base import Answer, Parsed, Reader, Rules
from omr_data.verifiers.answers.collection import List, split_items
from omr_data.verifiers.base import Decision, too_close, wrong
from omr_data.verifiers.compare import compare_in_order
from omr_data.verifiers.scanner import encloses

_LABEL = re.compile(r"[A-Z]'?\s*(?=\()")
"""A point may come with its name: P(3, 4)."""


@dataclass(frozen=True, slots=True)
class Tuple(Answer):
    """Several answers in order, in round or square brackets."""

    parts: tuple[Parsed, ...]
    """The readings of each part."""
    bracket: str
    """The opening bracket."""

    order = 45
    arity = "many"

    @classmethod
    def read(cls, text: str, parts: Reader) -> "Tuple | None":
        # The name of a point does not change where it is.
        label = _LABEL.match(text)
        if label is not None:
            text = text[label.end() :]
        if text[:1] not in ("(", "[") or not encloses(text):
            return None
        # Mixed brackets are half-open intervals and never points.
        if text[0] + text[-1] not in ("()", "[]"):
            return None

        items = split_items(text[1:-1], bracketed=True)
        if len(items) < 2 or len(items) > 400:
            return None

        read = tuple(parts(item) for item in items)
        if all(read):
            return cls(read, text[0])

        return None

    def compare(self, claim: Answer, rules: Rules) -> Decision | None:
        if isinstance(claim, Tuple):
            decision = compare_in_order(list(claim.parts), list(self.parts), rules)
            if decision.outcome == "RIGHT" and claim.bracket != self.bracket:
                return too_close("equal part by part, in other brackets")

            return decision

        if isinstance(claim, List):
            return self._compare_list(claim.parts, self.parts, rules)

        return None

    def compare_as_claim(self, gold: Answer, rules: Rules) -> Decision | None:
        if isinstance(gold, List):
            return self._compare_list(self.parts, gold.parts, rules)

        return None

    def _compare_list(
        self, claim: tuple[Parsed, ...], gold: tuple[Parsed, ...], rules: Rules
    ) -> Decision:
        # Lengths differ whatever order is meant, so this much is certain.
        if len(claim) != len(gold):
            return wrong(f"it has {len(claim)} parts, the gold answer {len(gold)}")

        decision = compare_in_order(list(claim), list(gold), rules)
        if decision.outcome == "RIGHT":
            return decision

        return too_close("one is a tuple, the other a list")
