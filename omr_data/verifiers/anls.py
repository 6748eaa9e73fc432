"""Text read from images: average normalized Levenshtein similarity.

Source: Biten et al. 2019, "Scene Text Visual Question Answering", section 4.2. The similarity is 1
minus the edit distance over the longer length, and 0 below `floor`; of several gold answers (a JSON
list, or separated by "|") the nearest counts.
"""

import json
from dataclasses import dataclass

from rapidfuzz.distance import Levenshtein

from omr_data.verifiers import base
from omr_data.verifiers.base import Decision, scored

_LONGEST = 2_000


@dataclass(frozen=True)
class Verifier(base.Verifier):
    """Accepts every gold answer that holds text."""

    threshold: float = 0.5
    """The least score that counts as RIGHT."""
    floor: float = 0.5
    """Similarities below this score 0, as published."""

    def accepts(self, gold: str, options: tuple[str, ...]) -> bool:
        return any(_golds(gold))

    def decide(self, claim: str, gold: str, options: tuple[str, ...]) -> Decision:
        """See `base.Verifier.decide`.

        Args:
            claim: The answer that was extracted.
            gold: The gold answer.
            options: The texts of the options.
        """
        # The edit distance takes the product of both lengths, so a long claim is cut off.
        said = _plain(claim)[:_LONGEST]
        best = max(Levenshtein.normalized_similarity(said, one) for one in _golds(gold) if one)
        score = 0.0
        if best >= self.floor:
            score = best

        return scored(score, self.threshold, f"similarity {best:.3f}; {self.threshold} is needed")


def _golds(gold: str) -> list[str]:
    """The gold answers that one text gives."""
    if gold.lstrip().startswith("["):
        try:
            return [_plain(str(one)) for one in json.loads(gold)]
        except ValueError:
            # Not JSON after all: a text that begins with a bracket.
            return [_plain(gold)]

    return [_plain(one) for one in gold.split("|")]


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).strip(" .")
