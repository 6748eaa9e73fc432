"""Grounding: the claimed boxes against the gold boxes, by intersection over union.

The score is the mean over gold boxes of the IoU with the box that is matched to it, divided by
the number of boxes where more are claimed than there are. RIGHT from 0.5 on, the threshold of
PASCAL VOC (Everingham et al. 2010, section 4.2) and of RefCOCO's accuracy.
"""

from dataclasses import dataclass
from typing import ClassVar

from omr_data.verifiers import base
from omr_data.verifiers.base import Decision, scored, unreadable
from omr_data.verifiers.geometry import read_boxes

_MOST = 100
"""Boxes that are matched: the greedy matching takes their square."""


@dataclass(frozen=True)
class Verifier(base.Verifier):
    """Accepts a gold answer that holds at least one box."""

    reads_response: ClassVar[bool] = True
    """The whole response is read."""
    threshold: float = 0.5
    """The least score that counts as RIGHT."""

    def accepts(self, gold: str, options: tuple[str, ...]) -> bool:
        return bool(read_boxes(gold))

    def decide(self, claim: str, gold: str, options: tuple[str, ...]) -> Decision:
        """See `base.Verifier.decide`.

        Args:
            claim: The answer that was extracted, or the whole response.
            gold: The gold answer.
            options: The texts of the options.
        """
        wanted = read_boxes(gold)
        given = read_boxes(claim)
        if len(wanted) == 1:
            # The last box of a response is its answer; those before it may be steps to it.
            given = given[-1:]
        if not given:
            return unreadable("the response holds no box")
        # A response may list thousands of boxes; unreadable is cheaper than wrong and as true.
        if max(len(given), len(wanted)) > _MOST:
            return unreadable(f"more than {_MOST} boxes are not compared")

        # Greedy by overlap: the optimal matching differs rarely, and costs a solver.
        overlaps = []

        for at, one in enumerate(given):
            overlaps += [(one.iou(other), at, to) for to, other in enumerate(wanted)]

        total, used, matched = 0.0, set[int](), set[int]()

        for overlap, at, to in sorted(overlaps, reverse=True):
            if at not in used and to not in matched:
                used.add(at)
                matched.add(to)
                total += overlap

        # Over the larger number, so that boxes too many or too few lower the score.
        score = total / max(len(given), len(wanted))
        return scored(score, self.threshold, f"IoU {score:.3f}; {self.threshold} is needed")
