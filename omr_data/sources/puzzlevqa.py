"""PuzzleVQA: abstract visual patterns, 20 kinds of 100 puzzles (declare-lab/PuzzleVQA, MIT).

A row of data/venn.json, in the author's repository:
    {"image": "images/venn/venn_0000.png",
     "question": "What is the missing number of the part denoted with a question mark?",
     "answer": 1, "options": ["4", "8", "1", "9"], "caption": "...", "explanation": "...",
     "deduction": "..."}

The Hub holds the same rows as data/train-00000-of-00001.parquet, with the image in the cell.
Options are not in the question text, and answers and options are whole numbers in three files. 18
of the 20 files have one question string for all their rows, so text alone never tells two puzzles
apart.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omr_data.errors import BadRow
from omr_data.records import Record
from omr_data.source import Files, Images, Part
from omr_data.sources.convert import image_cell, options, text, with_marks
from omr_data.sources.hub import HubSource
from omr_data.sources.tables import table_parts, table_paths, table_rows


@dataclass(frozen=True)
class Source(HubSource):
    """2,000 puzzles with one image each and three or four options."""

    repo = "declare-lab/PuzzleVQA"
    license = "MIT"
    patterns = (
        "data/*.json|data/*.parquet",
        "data/images/**/*.png|data/*.parquet",
    )

    def parts(self, files: Files) -> Sequence[Part]:
        return table_parts(files, table_paths(files, "data/"))

    def rows(self, files: Files, part: Part) -> Iterator[Mapping[str, Any]]:
        return table_rows(files, part)

    def convert(self, row: Mapping[str, Any], images: Images) -> Record:
        return convert_puzzle(row, images, source="puzzlevqa", license=self.license)


def convert_puzzle(row: Mapping[str, Any], images: Images, source: str, license: str) -> Record:
    """Converts the row shape that PuzzleVQA and AlgoPuzzleVQA share.

    Args:
        row: The row.
        images: Stores the image.
        source: The name of the dataset, for the ids and as the source.
        license: The license of the dataset.

    Raises:
        BadRow: The row has no such shape, or its answer is not among its options.
    """
    answer = text(row, "answer")
    choices = options(row, "options")
    # A mistake of the dataset: no response to such a puzzle could be verified.
    if answer not in choices:
        raise BadRow("the answer is not among the options", f"{answer!r} not in {choices}")
    refs = image_cell(row.get("image"), images, folder="data/")
    # The copy on the Hub is one file, so its rows have no kind.
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
