"""GSM8K: grade-school word problems in text (openai/gsm8k, MIT).

A row of train.jsonl:
    {"question": "Natalia sold clips to 48 of her friends in April, and then ...",
     "answer": "Natalia sold 48/2 = <<48/2=24>>24 clips in May.\\n...\\n#### 72"}

The gold answer follows `####`; the worked solution before it is not read. The Hub holds the same
rows as main/train-*.parquet and main/test-*.parquet.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from omr_data.errors import BadRow
from omr_data.records import Record
from omr_data.source import DatasetLocator, Files, Images, Part, Pin
from omr_data.sources.convert import text, with_marks
from omr_data.sources.hub import HubSource
from omr_data.sources.tables import table_parts, table_paths, table_rows


@dataclass(frozen=True)
class Source(HubSource):
    """7,473 training or 1,319 test problems.

    The test split is a benchmark: decontaminate against it.
    """

    repo = "openai/gsm8k"
    license = "MIT"
    patterns = ("{split}.jsonl|main/{split}-*.parquet",)
    split: Literal["train", "test"] = "train"
    """The published split to read."""

    def resolve(self, locator: DatasetLocator) -> Pin:
        return locator.resolve_hub(self.repo, self.commit, self._patterns())

    def download(self, locator: DatasetLocator) -> Files:
        return locator.download_hub(self.repo, self.commit, self._patterns())

    def _patterns(self) -> tuple[str, ...]:
        return tuple(pattern.format(split=self.split) for pattern in self.patterns)

    def parts(self, files: Files) -> Sequence[Part]:
        return table_parts(files, table_paths(files))

    def rows(self, files: Files, part: Part) -> Iterator[Mapping[str, Any]]:
        return table_rows(files, part)

    def convert(self, row: Mapping[str, Any], images: Images) -> Record:
        solution, mark, answer = text(row, "answer").rpartition("####")
        if not mark or not answer.strip():
            raise BadRow("no #### before a final answer", solution[-80:])
        return Record(
            id=f"gsm8k/{self.split}/{row['_line']:05}",
            source="gsm8k",
            license=self.license,
            question=with_marks(text(row, "question"), 0),
            answer=answer.strip(),
        )
