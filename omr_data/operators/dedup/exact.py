"""Copies with equal normal forms and equal image bytes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from omr_data.operators.dedup.base import ReadBytes, _Dedup, shared_columns
from omr_data.step import Columns, Decisions

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa


@dataclass(frozen=True)
class Exact(_Dedup):
    """Equal normal forms of question and options, and the same image bytes in the same order.

    Spacing, case, LaTeX or plain spelling, question numbers, option labels and the place of
    `<image>` marks do not matter; see docs/dedup.md for the whole list.
    """

    name: ClassVar[str] = "dedup.Exact"
    """The name in recipes, plans and reasons."""
    revision: ClassVar[int] = 2
    """Raised when the same rows would be decided otherwise; it rebuilds what exists."""

    @property
    def reason(self) -> str:
        return "the same problem is there already"

    def extract_keys(self, shard: "pa.Table", read_image: ReadBytes) -> "pl.DataFrame":
        from omr_data.similar.candidates import normal_columns

        return shared_columns(shard).hstack(normal_columns(shard))

    def decide(self, data: Columns, references: Sequence[Columns]) -> Decisions:
        from omr_data.similar.candidates import equal_keys
        from omr_data.similar.clusters import Components, join_equal

        rows = self.ordered(data.keys)
        components = Components(rows.height)
        # Two hashes of 64 bits decide, and no text is read again: the cheapest of the steps.
        join_equal(equal_keys(rows), np.arange(rows.height), components)
        # Equal forms have similarity 1 by definition, so nothing is measured.
        return self.decisions(rows, data, components, lambda pairs: np.ones(len(pairs)))
