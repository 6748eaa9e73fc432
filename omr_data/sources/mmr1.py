"""MMR1-SFT: 1,620,490 traces of image maths (MMR1/MMR1-SFT, non-commercial).

A row of sft.json: conversations [{from, value}] and a list of image paths, with the images in
archives beside it. The rule that chose 199,425 of the rows is not published. Its sources include
MathVision, a benchmark.
"""

from dataclasses import dataclass

from omr_data.sources.planned import PlannedSource


@dataclass(frozen=True)
class Source(PlannedSource):
    """Declared; its converter is not written yet."""

    repo = "MMR1/MMR1-SFT"
    license = "non-commercial"
    patterns = ("sft.json", "*.zip|*.tar*")
