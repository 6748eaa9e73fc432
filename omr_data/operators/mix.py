"""Mixes flows with a number of rows each.

mix({distilled: ALL, gsm8k.Source(): 5_000}, seed=0)
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from omr_data.errors import RecipeError
from omr_data.flow import Flow, as_flow, union
from omr_data.records import ImageRef
from omr_data.source import Source
from omr_data.step import Columns, Decisions, GlobalStep

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

ALL = "all"
"""Takes every row of a flow."""


@dataclass(frozen=True)
class Take(GlobalStep):
    """Keeps a number of rows: those with the smallest sha256(seed, id).

    The choice depends on the ids only, so it is the same for any order and any number of workers,
    and adding rows to the flow replaces as few of the chosen ones as possible.
    """

    rows: int
    """How many rows to keep."""
    seed: int = 0
    """Another seed chooses other rows."""

    def extract_keys(
        self, shard: "pa.Table", read_image: Callable[[ImageRef], bytes]
    ) -> "pl.DataFrame":
        """Returns `id` and `order`, the hash that the rows are ranked by."""
        import polars as pl

        # A hash per row costs about 1 s for a million rows. Python's own hash() would be faster and
        # is salted anew in every process.
        ids = shard.column("id").to_pylist()
        order = [hashlib.sha256(f"{self.seed}:{id_}".encode()).digest() for id_ in ids]
        # The types are given, because those of a shard without rows cannot be inferred.
        return pl.DataFrame(
            {"id": ids, "order": order}, schema={"id": pl.String, "order": pl.Binary}
        )

    def decide(self, data: Columns, references: Sequence[Columns]) -> Decisions:
        """Drops every row that is not among the first by hash.

        Raises:
            RecipeError: The flow has fewer rows than are asked for.
        """
        available = data.keys.height
        if available < self.rows:
            raise RecipeError(
                f"{self.name} wants {self.rows:,} rows of a flow that has {available:,}. "
                "Lower the number, or give ALL to take every row."
            )
        # The id breaks ties, which only a broken hash would produce: the order stays total.
        left_out = data.keys.sort("order", "id")["id"].to_list()[self.rows :]
        return Decisions(dict.fromkeys(left_out, "not among the rows chosen for the mix"))


def mix(parts: Mapping[Flow | Source, int | str], seed: int = 0) -> Flow:
    """Joins flows with a number of rows each.

    Args:
        parts: For each flow or source, how many of its rows to take, or ALL.
        seed: Decides which rows are taken where there are more.

    Raises:
        RecipeError: A number of rows is negative or not a whole number, or there are no parts.
    """
    flows = []
    for part, rows in parts.items():
        if rows == ALL:
            flows.append(as_flow(part))
        # True is an int in Python, and would quietly take one row.
        elif isinstance(rows, int) and not isinstance(rows, bool) and rows >= 0:
            flows.append(as_flow(part).then(Take(rows, seed)))
        else:
            raise RecipeError(
                f"mix() takes a whole number of rows or ALL for each flow, and got {rows!r}."
            )
    return union(*flows)
