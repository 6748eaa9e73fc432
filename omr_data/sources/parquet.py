"""Any parquet files in a local folder: `parquet.Source(folder, dataset="mine", license="MIT", image="image")`."""

from dataclasses import dataclass
from typing import ClassVar

from omr_data.sources.columns import ColumnsSource


@dataclass(frozen=True)
class Source(ColumnsSource):
    """Rows of all *.parquet below the folder, by path and row. Image cells usually hold the bytes."""

    patterns: ClassVar[tuple[str, ...]] = ("**/*.parquet",)
