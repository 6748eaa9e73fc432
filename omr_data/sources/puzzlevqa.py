"""PuzzleVQA: abstract visual patterns, 20 kinds of 100 puzzles (declare-lab/PuzzleVQA, MIT).

A row of data/venn.json:
    {"image": "images/venn/venn_0000.png", "question": "What is the missing number of the part denoted with a question mark?",
     "answer": 1, "options": ["4", "8", "1", "9"], "caption": "There are 3 overlapping circles ...", "explanation": ..., "deduction": ...}

Options are not in the question text, and answers and options are whole numbers in three files. 18 of the 20 files have
one question string for all their rows, so text alone never tells two puzzles apart.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from omr_data.errors import BadRow
from omr_data.records import Record
from omr_data.source import Files, Images, Part
from omr_data.sources.convert import image_cell, options, text, with_marks
from omr_data.sources.hub import HubSource
from omr_data.sources.tables import table_parts, table_paths, table_rows


@dataclass(frozen=True)
class Source(HubSource):
    """2,000 puzzles with one image each and three or four options."""

    repo: ClassVar[str] = "declare-lab/PuzzleVQA"
    license: ClassVar[str] = "MIT"
    patterns: ClassVar[tuple[str, ...]] = ("data/*.json", "data/images/**/*.png")

    def parts(self, files: Files) -> Sequence[Part]:
        return table_parts(files, table_paths(files, "data/"))

    def rows(self, files: Files, part: Part) -> Iterator[Mapping[str, Any]]:
        return table_rows(files, part)

    def convert(self, row: Mapping[str, Any], images: Images) -> Record:
        return convert_puzzle(row, images, source="puzzlevqa", license=self.license)


def convert_puzzle(row: Mapping[str, Any], images: Images, source: str, license: str) -> Record:
    """The row shape that PuzzleVQA and AlgoPuzzleVQA share. Raises BadRow."""
    choices = options(row, "options")
    answer = text(row, "answer")
    if answer not in choices:
        raise BadRow("the answer is not among the options", f"{answer!r} not in {choices}")
    refs = image_cell(text(row, "image"), images, folder="data/")
    kind = row["_file"]
    return Record(
        id=f"{source}/{kind}/{row['_line']:04}",
        source=source,
        license=license,
        question=with_marks(text(row, "question"), len(refs)),
        answer=answer,
        images=refs,
        options=choices,
        meta={"kind": kind},
    )
