"""Pointing: whether the claimed point lies in the gold box, as ScreenSpot scores clicks.

Source: SeeClick (Cheng et al. 2024, section 4.2). A claimed box counts by its center.
"""

from dataclasses import dataclass
from typing import ClassVar

from omr_data.verifiers import base
from omr_data.verifiers.base import Decision, right, unreadable, wrong
from omr_data.verifiers.geometry import read_boxes, read_points


@dataclass(frozen=True)
class Verifier(base.Verifier):
    """Accepts a gold answer that is a box; several boxes are all right."""

    reads_response: ClassVar[bool] = True

    def accepts(self, gold: str, options: tuple[str, ...]) -> bool:
        return bool(read_boxes(gold))

    def decide(self, claim: str, gold: str, options: tuple[str, ...]) -> Decision:
        points = read_points(claim)
        boxes = read_boxes(claim)
        if boxes:
            last = boxes[-1]
            points.append(((last.left + last.right) / 2, (last.top + last.bottom) / 2))
        if not points:
            return unreadable("the response holds no point")
        x, y = points[-1]
        if any(box.holds(x, y) for box in read_boxes(gold)):
            return right(f"({x:g}, {y:g}) lies in the box")
        return wrong(f"({x:g}, {y:g}) lies outside the box")
