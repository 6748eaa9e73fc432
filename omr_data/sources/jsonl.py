"""Any JSON-lines files in a local folder: `jsonl.Source(folder, dataset="mine", license="MIT")`.

Images are paths below the folder. Their bytes are part of the identity: changing an image is changing the data.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from omr_data.source import DatasetLocator, Pin
from omr_data.sources.columns import ColumnsSource


@dataclass(frozen=True)
class Source(ColumnsSource):
    """Rows of all *.jsonl below the folder, by path and line."""

    patterns: ClassVar[tuple[str, ...]] = ("**/*.jsonl",)

    def resolve(self, locator: DatasetLocator) -> Pin:
        patterns = self.patterns if self.image is None else (*self.patterns, "**/*")
        return locator.resolve_local(Path(self.folder), patterns)
