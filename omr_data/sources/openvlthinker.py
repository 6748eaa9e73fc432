"""OpenVLThinker-sft-iter3: about 3,300 visual questions.

Published as ydeng9/OpenVLThinker-sft-iter3; its license is not stated.

A row: messages [{role, content}], images (a list, embedded), question, answer.
"""

from dataclasses import dataclass

from omr_data.sources.planned import PlannedSource


@dataclass(frozen=True)
class Source(PlannedSource):
    """Declared; its converter is not written yet."""

    repo = "ydeng9/OpenVLThinker-sft-iter3"
    license = "unknown"
    patterns = ("data/*.parquet",)
