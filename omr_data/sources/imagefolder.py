"""A folder of images with a metadata.jsonl or metadata.csv, as `datasets` calls an imagefolder.

    imagefolder.Source("shapes", dataset="shapes", license="MIT")

A row of metadata.jsonl:
    {"file_name": "circles/0001.png", "question": "How many circles are there?", "answer": "3"}
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from omr_data.identity import NOT_IDENTITY
from omr_data.source import DatasetLocator, Files, Pin
from omr_data.sources.columns import ColumnMap
from omr_data.sources.files import IMAGE_FILES, ColumnsSource

METADATA = "metadata.jsonl|metadata.csv"


@dataclass(frozen=True)
class Source(ColumnsSource):
    """One row for each line of the metadata; `file_name` is the image, relative to the folder."""

    folder: Path | str = field(metadata=NOT_IDENTITY)
    """The folder that holds the metadata and the images."""
    columns: ColumnMap | Mapping[str, Any] = field(
        default=ColumnMap(question="question", answer="answer", images="file_name"), kw_only=True
    )
    """Which column is what, as ColumnMap or as a dict of field to column."""

    def resolve(self, locator: DatasetLocator) -> Pin:
        return locator.resolve_local(Path(self.folder), (METADATA, IMAGE_FILES))

    def download(self, locator: DatasetLocator) -> Files:
        files = locator.find_local(Path(self.folder), (METADATA,))
        # Rows may refer to exactly the files that are digested.
        images = locator.find_local(Path(self.folder), (IMAGE_FILES,))
        return replace(files, readable=frozenset(images.paths))
