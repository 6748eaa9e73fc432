"""A folder of images with a metadata.jsonl, as `datasets` calls an imagefolder.

A row of metadata.jsonl:
    {"file_name": "shapes/0001.png", "question": "How many circles are there?", "answer": "3"}
"""

from dataclasses import dataclass
from typing import ClassVar

from omr_data.source import DatasetLocator, Pin
from omr_data.sources.columns import ColumnsSource


@dataclass(frozen=True)
class Source(ColumnsSource):
    """One row for each line of metadata.jsonl; `file_name` is the image, relative to the folder."""

    patterns: ClassVar[tuple[str, ...]] = ("metadata.jsonl",)
    image: str | None = "file_name"

    def resolve(self, locator: DatasetLocator) -> Pin:
        return locator.resolve_local(self.folder, ("**/*",))
