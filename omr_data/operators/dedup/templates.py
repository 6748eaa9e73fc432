"""Groups of problems that differ in numbers only."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from omr_data.records import Record
from omr_data.step import BatchMap


@dataclass(frozen=True)
class Templates(BatchMap):
    """Gives problems of one template one group, and drops nothing.

    A template is the normal form of question and options without its numbers: "Tom has 3 apples"
    and "Tom has 7 apples" are one. Different images do not make another template, so that the 100
    puzzles with one question are one group. Splits, quotas and intervals respect groups.
    """

    name: ClassVar[str] = "dedup.Templates"
    """The name in recipes, plans and reasons."""

    def apply_batch(self, records: Sequence[Record]) -> Sequence[Record]:
        import polars as pl

        from omr_data.similar.tokens import problem_texts, tokenize

        frame = pl.DataFrame(
            {
                "question": [record.question for record in records],
                "options": [list(record.options) for record in records],
            },
            schema={"question": pl.String, "options": pl.List(pl.String)},
        )
        keys: list[str] = []
        # A hash and not the text: groups are compared and never read.
        for tokens in tokenize(problem_texts(frame), numbers="ignore"):
            keys.extend(f"template-{int(one):016x}" for one in tokens.keys()[0][:, 0])
        return [
            dataclasses.replace(record, group=key)
            for record, key in zip(records, keys, strict=True)
        ]
