"""Boxes and points in text: "[10, 20, 110, 220]", {"bbox_2d": [..]}, "<point>(3, 4)</point>".

A box is (x1, y1, x2, y2) in the units of its gold answer (pixels, or thousandths of the image's
sides, as the source declares); corners may come in either order.
"""

import re
from dataclasses import dataclass

_NUMBER = r"\s*(-?\d+(?:\.\d+)?)\s*"
_BOX = re.compile(
    rf"[\[(]{{1,2}}{_NUMBER},{_NUMBER}(?:,|\]\s*,\s*\[|\)\s*,\s*\(){_NUMBER},{_NUMBER}[\])]{{1,2}}"
)
_POINT = re.compile(
    rf"[\[(]{_NUMBER},{_NUMBER}[\])]|\"?x\"?\s*[:=]{_NUMBER},?\s*\"?y\"?\s*[:=]{_NUMBER}"
)


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle with sides along the axes."""

    left: float
    """The smaller x."""
    top: float
    """The smaller y."""
    right: float
    """The larger x."""
    bottom: float
    """The larger y."""

    @property
    def area(self) -> float:
        """Its area, in square units."""
        return (self.right - self.left) * (self.bottom - self.top)

    def iou(self, other: "Box") -> float:
        """Intersection over union, from 0 to 1."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        # Two negative sides would multiply to a positive area.
        if width <= 0 or height <= 0:
            return 0.0

        shared = width * height
        return shared / (self.area + other.area - shared)

    def holds(self, x: float, y: float) -> bool:
        """Whether a point lies in it, its border included."""
        return self.left <= x <= self.right and self.top <= y <= self.bottom


def read_boxes(text: str) -> list[Box]:
    """All boxes in a text, in order. A box without area is left out."""
    found = []

    for match in _BOX.finditer(text):
        x1, y1, x2, y2 = (float(number) for number in match.groups())
        # Models give corners in any order, and the rectangle is the same.
        box = Box(min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2))
        if box.area > 0:
            found.append(box)

    return found


def read_points(text: str) -> list[tuple[float, float]]:
    """All points in a text, in order."""
    found = []

    for match in _POINT.finditer(text):
        x, y = (number for number in match.groups() if number is not None)
        found.append((float(x), float(y)))

    return found
