"""We-Math2.0-SFT: about 1,000 visual maths questions (We-Math/We-Math2.0-SFT, cc-by-nc-4.0).

JSON lines with image files; the names of its columns are not published.
"""

from dataclasses import dataclass

from omr_data.sources.planned import PlannedSource


@dataclass(frozen=True)
class Source(PlannedSource):
    """Declared; its converter is not written yet."""

    repo = "We-Math/We-Math2.0-SFT"
    license = "cc-by-nc-4.0"
    patterns = ("*.jsonl", "**/*.png|**/*.jpg")
