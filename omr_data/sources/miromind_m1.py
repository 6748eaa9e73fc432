"""MiroMind-M1-SFT-719K: 719,000 traces of text maths.

Published as miromind-ai/MiroMind-M1-SFT-719K; its license is not stated.

A row: id, question, response. No images. The rule that chose 91,953 of the rows is not published.
"""

from dataclasses import dataclass

from omr_data.sources.planned import PlannedSource


@dataclass(frozen=True)
class Source(PlannedSource):
    """Declared; its converter is not written yet."""

    repo = "miromind-ai/MiroMind-M1-SFT-719K"
    license = "unknown"
    patterns = ("data/*.parquet",)
