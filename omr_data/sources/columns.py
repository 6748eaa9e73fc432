"""Base of the generic readers: a local folder of rows, and which column is what."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from omr_data.identity import NOT_IDENTITY
from omr_data.records import Record
from omr_data.source import DatasetLocator, Files, Images, Part, Pin, Source
from omr_data.sources.convert import image_cell, options, text, with_marks
from omr_data.sources.tables import table_parts, table_paths, table_rows


@dataclass(frozen=True)
class ColumnsSource(Source):
    """Rows below `folder`; the digest of the files is the identity, so the folder may move.

    `dataset` names the rows (ids are dataset/file/row). `options` and `image` may be left out; an image cell holds bytes,
    a path below the folder, a Hub Image struct, or a list of these.
    """

    patterns: ClassVar[tuple[str, ...]]
    folder: Path = field(metadata=NOT_IDENTITY)
    dataset: str
    license: str
    question: str = "question"
    answer: str = "answer"
    options: str | None = None
    image: str | None = None

    def resolve(self, locator: DatasetLocator) -> Pin:
        return locator.resolve_local(Path(self.folder), self.patterns)

    def download(self, locator: DatasetLocator) -> Files:
        return locator.find_local(Path(self.folder), self.patterns)

    def parts(self, files: Files) -> Sequence[Part]:
        return table_parts(files, table_paths(files))

    def rows(self, files: Files, part: Part) -> Iterator[Mapping[str, Any]]:
        return table_rows(files, part)

    def convert(self, row: Mapping[str, Any], images: Images) -> Record:
        question, answer = text(row, self.question), text(row, self.answer)
        refs = () if self.image is None else image_cell(row.get(self.image), images)
        return Record(
            id=f"{self.dataset}/{row['_file']}/{row['_line']:06}",
            source=self.dataset,
            license=self.license,
            question=with_marks(question, len(refs)),
            answer=answer,
            images=refs,
            options=() if self.options is None else options(row, self.options),
        )
