"""Selects records and responses: by a score that an earlier step has given, or by number."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from omr_data.errors import RecipeError
from omr_data.records import RIGHT, ImageRef, Record, Response
from omr_data.step import Columns, Decisions, Filter, GlobalStep, Map

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa


@dataclass(frozen=True)
class PassRate(Filter):
    """Keeps records whose pass rate lies between two limits, both included.

    A record without a pass rate is dropped: nothing was measured on it. Put difficulty.PassRate()
    before this step.
    """

    at_least: float = 0.0
    """The lowest pass rate to keep, from 0 to 1."""
    at_most: float = 1.0
    """The highest pass rate to keep, from 0 to 1. Reinforcement learning learns nothing from a
    question that is always answered right, so its sets stay below 1."""

    def __post_init__(self) -> None:
        """Raises RecipeError where the limits are outside 0 to 1, or the wrong way round."""
        super().__post_init__()
        if not 0 <= self.at_least <= self.at_most <= 1:
            raise RecipeError(
                f"{self.name} keeps pass rates from {self.at_least} to {self.at_most}: give two "
                "numbers from 0 to 1, the smaller one first."
            )

    def reason(self, record: Record) -> str | None:
        """Returns on which side the pass rate is out of the limits, or None."""
        # Both 0.0 and None are false: only None means that nothing was measured.
        if record.pass_rate is None:
            return "no pass rate: no response is decided"
        if record.pass_rate < self.at_least:
            return f"the pass rate is under {self.at_least}"
        if record.pass_rate > self.at_most:
            return f"the pass rate is over {self.at_most}"
        return None


@dataclass(frozen=True)
class PerQuestion(Map):
    """Keeps at most `k` of the RIGHT responses of each record. Put it before explode.Right().

    Easy questions have more right responses than hard ones, and would fill a set. Responses that
    are not RIGHT stay, for the steps after this one to count.
    """

    k: int
    """At most this many RIGHT responses."""
    prefer: Literal["first", "shortest", "diverse"] = "first"
    """Which ones: the first sampled, the shortest, or those that share the fewest words. "diverse"
    begins with the shortest and adds the one that is least like those it has."""

    def __post_init__(self) -> None:
        """Raises RecipeError where nothing would be kept."""
        super().__post_init__()
        if self.k < 1:
            raise RecipeError(f"{self.name}: k is {self.k}; at least one response is kept.")

    def apply(self, record: Record) -> Record:
        """Returns the record with fewer RIGHT responses, in their old order."""
        right = [one for one in record.responses if one.verdict and one.verdict.outcome == RIGHT]
        # Sorting is stable, so that ties are broken by the order of sampling.
        by_length = sorted(right, key=lambda response: len(response.text))
        ranked = {"first": right, "shortest": by_length, "diverse": _spread(by_length)}
        # By identity: two responses may be equal, and only one of them surplus.
        surplus = {id(response) for response in ranked[self.prefer][self.k :]}
        kept = tuple(one for one in record.responses if id(one) not in surplus)
        return replace(record, responses=kept)

    def tally(self, record: Record) -> Mapping[str, int]:
        """Counts the responses that stay."""
        return {"responses": len(record.responses)}


def _spread(responses: Sequence[Response]) -> list[Response]:
    """Orders responses so that each is the least like those before it, by shared words."""
    words = [frozenset(response.text.split()) for response in responses]
    order: list[int] = []
    # Quadratic in the responses of one record, which are a few dozen.
    while len(order) < len(responses):
        left = [number for number in range(len(responses)) if number not in order]
        likeness = []
        for number in left:
            # The Jaccard index to the nearest one that is chosen: shared words over all words.
            near = [
                len(words[number] & words[one]) / max(1, len(words[number] | words[one]))
                for one in order
            ]
            likeness.append(max(near, default=0.0))
        # Of equals the first is taken, which keeps the order that was given.
        order.append(left[likeness.index(min(likeness))])
    return [responses[number] for number in order]


@dataclass(frozen=True)
class AtMost(GlobalStep):
    """Keeps at most a number of rows: those with the smallest sha256(seed, id).

    Where there are fewer, all are kept; mix.Take refuses that instead.
    """

    rows: int
    """At most this many rows."""
    seed: int = 0
    """Another seed chooses other rows."""

    def __post_init__(self) -> None:
        """Raises RecipeError for a negative number."""
        super().__post_init__()
        if self.rows < 0:
            raise RecipeError(f"{self.name}: rows is {self.rows}; give 0 or more.")

    def extract_keys(
        self, shard: "pa.Table", read_image: Callable[[ImageRef], bytes]
    ) -> "pl.DataFrame":
        """Returns `id`, and `order` that the rows are ranked by."""
        return _ranked(shard, self.seed, [""] * shard.num_rows)

    def decide(self, data: Columns, references: Sequence[Columns]) -> Decisions:
        """Drops the rows after the first ones by hash."""
        return _drop_after(data, self.rows, "over the number of rows")


@dataclass(frozen=True)
class Quota(GlobalStep):
    """Keeps at most a number of rows for each value of a column, such as a topic or a source.

    Which rows are kept is decided as by AtMost, within each value.
    """

    by: str
    """The column: "source", "license", "task", "group", "split", or "meta.<name>"."""
    rows: int
    """At most this many rows for each value. Rows without a value share one quota."""
    seed: int = 0
    """Another seed chooses other rows."""

    def __post_init__(self) -> None:
        """Raises RecipeError for a negative number, or a column that records do not have."""
        super().__post_init__()
        if self.rows < 0:
            raise RecipeError(f"{self.name}: rows is {self.rows}; give 0 or more.")
        known = ("source", "license", "task", "group", "split")
        if self.by not in known and not self.by.startswith("meta."):
            raise RecipeError(
                f"{self.name} has no column {self.by!r}. Give one of {', '.join(known)}, or "
                "meta.<name> for a column that the source keeps."
            )

    def extract_keys(
        self, shard: "pa.Table", read_image: Callable[[ImageRef], bytes]
    ) -> "pl.DataFrame":
        """Returns `id`, `value`, and `order` that the rows of a value are ranked by."""
        # Of "meta.topic", the column is meta and the key topic.
        column, _, key = self.by.partition(".")
        cells = shard.column(column).to_pylist()
        if key:
            cells = [dict(cell).get(key, "") for cell in cells]
        return _ranked(shard, self.seed, cells)

    def decide(self, data: Columns, references: Sequence[Columns]) -> Decisions:
        """Drops the rows after the first ones of each value."""
        return _drop_after(data, self.rows, f"over the quota of its {self.by}")


def _ranked(shard: "pa.Table", seed: int, values: Sequence[str]) -> "pl.DataFrame":
    import polars as pl

    ids = shard.column("id").to_pylist()
    # A hash and not a random number: the rank of a row does not depend on the other rows.
    order = [hashlib.sha256(f"{seed}:{id_}".encode()).digest() for id_ in ids]
    schema = {"id": pl.String, "value": pl.String, "order": pl.Binary}
    return pl.DataFrame({"id": ids, "value": values, "order": order}, schema=schema)


def _drop_after(data: Columns, rows: int, reason: str) -> Decisions:
    """Drops what comes after the first rows of each value. The id breaks ties of the hash."""
    import polars as pl

    # Sorted once and counted within each value: a pass for each value is quadratic with many.
    ranked = data.keys.sort("value", "order", "id")
    surplus = ranked.filter(pl.int_range(pl.len()).over("value") >= rows)["id"].to_list()
    return Decisions(dict.fromkeys(surplus, reason))
