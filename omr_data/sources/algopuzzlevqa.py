"""AlgoPuzzleVQA: puzzles that an algorithm solves, 18 kinds (declare-lab/AlgoPuzzleVQA, MIT).

A row of data/clock.json, in the author's repository:
    {"image": "images/clock/clock_0000.jpg",
     "question": "... What will be the time when the event starts?",
     "options": ["1:14", "8:09", "4:23", "2:07"], "answer": "4:23",
     "solution": {"current_hour": 2}}

The Hub holds the same rows as Arrow files, with the image in the cell. `solution` differs from
kind to kind and is not read. board_tile has two options, the others four.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omr_data.records import Record
from omr_data.source import Files, Images, Part
from omr_data.sources.hub import HubSource
from omr_data.sources.puzzlevqa import convert_puzzle
from omr_data.sources.tables import table_parts, table_paths, table_rows


@dataclass(frozen=True)
class Source(HubSource):
    """1,800 puzzles with one image each."""

    repo = "declare-lab/AlgoPuzzleVQA"
    license = "MIT"
    patterns = (
        "data/*.json|**/*.arrow|data/*.parquet",
        "data/images/**/*.jpg|**/*.arrow|data/*.parquet",
    )

    def parts(self, files: Files) -> Sequence[Part]:
        return table_parts(files, table_paths(files))

    def rows(self, files: Files, part: Part) -> Iterator[Mapping[str, Any]]:
        return table_rows(files, part)

    def convert(self, row: Mapping[str, Any], images: Images) -> Record:
        return convert_puzzle(row, images, source="algopuzzlevqa", license=self.license)
