"""Rubrics: a judge votes item by item, and the score is the weighted share of items that hold.

The gold answer is a JSON list of items, each a text or {"item": text, "weight": number}. Rules
cannot decide them: `Verifier` leaves them UNDECIDED, and `Rubric`, given to verify.Judged, asks the
judge about each item in a request of its own, so that each vote is stored like any paid answer.
Source: HealthBench (Arora et al. 2025) and "Rubrics as Rewards" (Gunjal et al. 2025).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from omr_data.errors import VerifyError
from omr_data.records import RIGHT, UNDECIDED, WRONG, Response, Verdict
from omr_data.teacher import Request
from omr_data.verifiers import base
from omr_data.verifiers.base import AnswerPair, Decision
from omr_data.verifiers.extract import visible
from omr_data.verifiers.judge import Judge

PROMPT = """You check one requirement on a student's response. Judge this requirement only.

Question: {question}
Requirement: {gold}
Student's response: {claim}

Reply with one word: RIGHT if the response meets it, WRONG if it does not, or UNSURE."""


@dataclass(frozen=True)
class Verifier(base.Verifier):
    """Accepts a gold answer that is a rubric, and leaves it to a judge."""

    reads_response: ClassVar[bool] = True
    """The whole response is read."""

    def accepts(self, gold: str, options: tuple[str, ...]) -> bool:
        return bool(read_items(gold))

    def decide(self, claim: str, gold: str, options: tuple[str, ...]) -> Decision:
        """See `base.Verifier.decide`.

        Args:
            claim: The answer that was extracted, or the whole response.
            gold: The gold answer.
            options: The texts of the options.
        """
        # Rules have no say here, but the verdict tells how many votes it will take.
        count = len(read_items(gold))
        return Decision(UNDECIDED, f"a judge must vote on {count} items", "too close")


@dataclass(frozen=True)
class Rubric(Judge):
    """A judge that is asked about each item of a rubric, with the whole response before it."""

    prompt: str = PROMPT
    """What is asked about one item."""
    threshold: float = 1.0
    """The least weighted share of items that counts as RIGHT."""

    def requests(self, pair: AnswerPair, verdict: Verdict) -> list[Request]:
        answer = replace(verdict, extracted=visible(pair.response))
        asked = []

        # One request for each item, so that a rubric that grows by one asks for one more only.
        for item, _ in read_items(pair.gold):
            request = self.request(replace(pair, gold=item), answer)
            if request is not None:
                asked.append(request)

        return asked

    def count_all(
        self, pair: AnswerPair, verdict: Verdict, answers: Sequence[Sequence[Response]]
    ) -> Verdict:
        """The verdict after the votes on each item.

        Args:
            pair: The response with its rubric as the gold answer.
            verdict: The verdict of the rules.
            answers: The votes, item by item.
        """
        total = met = 0.0

        for (_, weight), votes in zip(read_items(pair.gold), answers, strict=True):
            outcome = self.count(verdict, votes).outcome
            if outcome == UNDECIDED:
                # One item without a majority leaves the whole score open.
                return replace(self.count(verdict, votes), outcome=UNDECIDED)

            total += weight
            met += weight * (outcome == RIGHT)

        score = met / total
        return replace(
            verdict,
            outcome=RIGHT if score >= self.threshold else WRONG,
            verifier=self.name,
            revision=self.revision,
            reason=f"{met:g} of {total:g} points by {self.teacher.model_id}",
            cause="",
            score=score,
        )


def read_items(gold: str) -> list[tuple[str, float]]:
    """The items of a rubric with their weights; none where the text is not a rubric.

    Raises:
        VerifyError: A weight is not a positive number.
    """

    # A gold answer that is not JSON is of another task, and no error.
    try:
        found = json.loads(gold)
    except (ValueError, RecursionError):
        return []

    if not isinstance(found, list):
        return []

    items: list[tuple[str, float]] = []

    for one in found:
        # A bare text is an item of weight one.
        entry = one
        if isinstance(one, str):
            entry = {"item": one}
        if not isinstance(entry, dict) or not isinstance(entry.get("item"), str):
            return []

        weight = entry.get("weight", 1.0)
        if not isinstance(weight, (int, float)) or weight <= 0:
            raise VerifyError(
                f"the rubric item {entry['item']!r} has the weight {weight!r}. "
                "Give a positive number, or leave it out for 1."
            )

        items.append((entry["item"], float(weight)))

    return items
