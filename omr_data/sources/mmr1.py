"""MMR1-SFT: 1,620,490 traces of image maths (MMR1/MMR1-SFT, non-commercial).

A row of sft.json: conversations [{from, value}] and a list of image paths, with the images in archives beside it. The rule
that chose 199,425 of the rows is not published. Its sources include MathVision, a benchmark.
"""

from dataclasses import dataclass
from typing import ClassVar

from omr_data.sources.planned import PlannedSource


@dataclass(frozen=True)
class Source(PlannedSource):
    """Declared; its converter is not written yet."""

    repo: ClassVar[str] = "MMR1/MMR1-SFT"
    license: ClassVar[str] = "non-commercial"
    patterns: ClassVar[tuple[str, ...]] = ("sft.json", "*.zip|*.tar*")
