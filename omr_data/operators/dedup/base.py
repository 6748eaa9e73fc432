"""What all dedup steps share: who stays, what a copy with another gold answer means, the tables."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from omr_data.errors import RecipeError
from omr_data.records import ImageRef
from omr_data.step import Columns, Decisions, GlobalStep

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa
    from numpy.typing import NDArray

    from omr_data.similar.clusters import Components

ReadBytes = Callable[[ImageRef], bytes]
EXCERPT = 200
"""Letters of a question that the tables show."""
NEAR_MISSES = 1_000
"""Rows of the table of near misses."""
CONFLICT = "copies of it have different gold answers"
"""The reason of rows that `conflicts="drop all"` drops beside the copies."""
Preference = Literal["has_image", "license", "gold", "longest", "source_order"]


@dataclass(frozen=True)
class _Dedup(GlobalStep):
    """Base of the dedup steps.

    Raises:
        RecipeError: `prefer` names something that is not a preference.
    """

    lazy_columns: ClassVar[tuple[str, ...]] = ("excerpt", "gold_text")
    """Columns that are read for single rows only, since all would not fit into memory."""
    priority: tuple[str, ...] = ()
    """Sources in the order in which their rows are kept; others come after them."""
    prefer: tuple[Preference, ...] = ("source_order",)
    """What decides which copy stays, the first that differs: a row with an image, the freer
    license, a row with a gold answer, the longest question, the order of `priority`. Rows that
    are equal in all of these are kept by the smallest id."""
    conflicts: Literal["keep first", "drop all"] = "keep first"
    """What happens to copies with different gold answers. "keep first" keeps one as for any other
    copies, and the table `conflicts` names it. "drop all" keeps none: for reinforcement learning a
    wrong gold answer costs more than a lost problem."""

    def __post_init__(self) -> None:
        super().__post_init__()
        known = ("has_image", "license", "gold", "longest", "source_order")
        # Checked here and not by the type alone: recipes are often run without a type checker.
        for preference in self.prefer:
            if preference not in known:
                raise RecipeError(
                    f"{self.name}: prefer has {preference!r}. Use any of {', '.join(known)}."
                )

    @property
    @abstractmethod
    def reason(self) -> str:
        """Why a row is dropped."""

    def ordered(self, keys: "pl.DataFrame") -> "pl.DataFrame":
        """The rows in order of who is kept, so that the smallest member of a component stays."""
        import polars as pl

        rank = pl.col("source").replace_strict(
            self.priority,
            range(len(self.priority)),
            default=len(self.priority),
            return_dtype=pl.Int32,
        )
        expressions = {
            "has_image": ~pl.col("has_image"),
            "license": pl.col("license_rank"),
            "gold": pl.col("gold") == 0,
            "longest": -pl.col("letters").cast(pl.Int64),
            "source_order": rank,
        }
        # The id comes last, so that the order never depends on shards or workers.
        return keys.sort(*(expressions[name] for name in self.prefer), "id")

    def decisions(
        self,
        rows: "pl.DataFrame",
        data: Columns,
        components: "Components",
        measure: "Callable[[NDArray[np.int64]], NDArray[np.float64]]",
        losers: Mapping[int, int] | None = None,
        misses: Iterable[tuple[float, int, int]] = (),
    ) -> Decisions:
        """Turns components into dropped rows and tables.

        Args:
            rows: The ordered key columns.
            data: What `decide` was given; the tables read excerpts from its payload.
            components: The components over the rows.
            measure: Measures the similarity of pairs of rows, shape (pairs, 2).
            losers: Rows to drop that are no members of a component: the row that contains or is
                contained in each, by the number of the row.
            misses: Pairs below the threshold: similarity, one row, the other row.
        """
        import polars as pl

        # Rows are in order of who is kept: the root is the smallest, so it is the one that stays.
        roots = components.roots()
        dropped = np.flatnonzero(roots != np.arange(len(roots)))
        pairs = np.stack([dropped, roots[dropped]], 1)
        if losers:
            # A copy of a row that lies inside another row is dropped with it.
            extra = np.array(sorted(losers.items()), np.int64).reshape(-1, 2)
            pairs = np.concatenate([pairs, extra])
            pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
        similarity = measure(pairs)
        table = self._with_texts(rows, data, pairs, similarity, "dropped", "kept")
        chains: list[str] = []
        # A pair may be far apart where copies of copies lie between: the chain shows why it is one.
        for one, other in pairs.tolist():
            between: list[int] = []
            if roots[one] == roots[other]:
                between = components.chain(one, other)[1:-1]
            # Long chains are cut: the first links say enough.
            shown = [str(rows["id"][item]) for item in between[:5]]
            chains.append(" > ".join(shown) + " > ..." * (len(between) > 5))
        table = table.with_columns(chain=pl.Series(chains, dtype=pl.String)).sort("dropped")
        # Ties by row, so that the table is the same in every build.
        nearest = sorted(misses, key=lambda miss: (-miss[0], miss[1], miss[2]))[:NEAR_MISSES]
        missed = np.array([miss[1:] for miss in nearest], np.int64).reshape(-1, 2)
        measured = np.array([miss[0] for miss in nearest], np.float64)
        near = self._with_texts(rows, data, missed, measured, "one", "other")
        sides = ("dropped_source", "kept_source")
        sources = (
            table.group_by(sides)
            .agg(rows=pl.len().cast(pl.Int64), least_similarity=pl.col("similarity").min())
            .sort(sides)
        )
        drops = dict.fromkeys(table["dropped"].to_list(), self.reason)
        conflicts = self._conflicts(rows, pairs, table)
        # The copies are dropped anyway; the row that stays may have the wrong gold answer.
        if self.conflicts == "drop all":
            drops |= dict.fromkeys(conflicts["kept"].unique().to_list(), CONFLICT)
        tables = {"pairs": table, "sources": sources, "conflicts": conflicts, "near_misses": near}
        return Decisions(drops, tables)

    def _with_texts(
        self,
        rows: "pl.DataFrame",
        data: Columns,
        pairs: "NDArray[np.int64]",
        similarity: "NDArray[np.float64]",
        one: str,
        other: str,
    ) -> "pl.DataFrame":
        """Pairs of rows as a table with ids, sources, texts and golds of both sides."""
        import polars as pl

        sides = {}
        for column, name in enumerate((one, other)):
            places = pairs[:, column]
            sides[name] = rows["id"].gather(places)
            sides[f"{name}_source"] = rows["source"].gather(places)
        table = pl.DataFrame({**sides, "similarity": pl.Series(similarity, dtype=pl.Float64)})
        # Texts of all rows are not held: those of the pairs are filtered from the payload.
        wanted = pl.concat([table[one], table[other]]).unique()
        texts = pl.DataFrame(schema={"id": pl.String, "excerpt": pl.String, "gold_text": pl.String})
        if len(wanted):
            there = pl.col("id").is_in(wanted.implode())
            texts = data.payload.select(texts.columns).filter(there).collect(engine="streaming")
        # Left joins keep the order of the pairs, which the caller sorted.
        for name in (one, other):
            renamed = texts.rename({"excerpt": f"{name}_text", "gold_text": f"{name}_gold"})
            table = table.join(
                renamed, left_on=name, right_on="id", how="left", maintain_order="left"
            )
        first = [one, other, "similarity", f"{one}_source", f"{other}_source"]
        return table.select(*first, pl.exclude(first))

    def _conflicts(
        self, rows: "pl.DataFrame", pairs: "NDArray[np.int64]", table: "pl.DataFrame"
    ) -> "pl.DataFrame":
        """The pairs whose gold answers are both there and differ in their normal form."""
        import polars as pl

        golds = rows["gold"].to_numpy()
        ours, theirs = golds[pairs[:, 0]], golds[pairs[:, 1]]
        differ = (ours != 0) & (theirs != 0) & (ours != theirs)
        ids = rows["id"].gather(pairs[differ, 0])
        chosen = table.filter(pl.col("dropped").is_in(ids.implode()))
        return chosen.select("dropped", "kept", "dropped_gold", "kept_gold", "dropped_text")


def check_threshold(name: str, threshold: float) -> None:
    """Refuses a threshold that is not over 0 and at most 1, such as 80 for 80%."""
    if not 0 < threshold <= 1:
        raise RecipeError(f"{name}: the threshold is {threshold}; it is over 0 and at most 1.")


def shared_columns(shard: "pa.Table") -> "pl.DataFrame":
    """The columns that every dedup step takes of a shard.

    Returns:
        `id`, `source`; for `prefer` also `has_image`, `license_rank`, `letters` and `gold` (a hash
        of the normal form of the gold answer, 0 where there is none); for the tables the payload
        columns `excerpt` and `gold_text`.
    """
    import polars as pl

    from omr_data.similar.tokens import tokenize

    wanted = ["id", "source", "license", "question", "answer", "images"]
    frame = pl.DataFrame(
        pl.from_arrow(shard.select([name for name in wanted if name in shard.column_names]))
    )
    # A table of questions alone is enough for the benchmark and for tools.
    missing = [pl.lit("").alias(name) for name in ("license", "answer") if name not in frame]
    if "images" not in frame:
        missing.append(pl.lit(None, pl.List(pl.String)).alias("images"))
    frame = frame.with_columns(*missing)
    # Golds are compared by normal form: "1,000" and "1000" are no conflict.
    golds = [tokens.keys() for tokens in tokenize(frame["answer"])]
    normal = [np.where(signed[0][:, 0] == _EMPTY, 0, signed[0][:, 0]) for signed in golds]
    return frame.select(
        "id",
        "source",
        has_image=pl.col("images").list.len().fill_null(0) > 0,
        license_rank=license_rank(frame["license"]),
        letters=pl.col("question").str.len_chars().fill_null(0),
        gold=pl.Series(np.concatenate(normal) if normal else [], dtype=pl.UInt64),
        excerpt=pl.col("question").str.slice(0, EXCERPT),
        gold_text=pl.col("answer").str.slice(0, EXCERPT),
    )


_EMPTY = np.uint64(1)
"""The hash of a normal form without tokens."""


def license_rank(licenses: "pl.Series") -> "pl.Series":
    """0 for permissive licenses, 1 for share-alike, 2 for non-commercial, 3 for unknown ones."""
    import polars as pl

    # By words in the name: SPDX ids, and the looser names that datasets give.
    text = pl.col("license").str.to_uppercase()
    rank = (
        pl.when(text.is_null() | text.is_in(["", "UNKNOWN", "OTHER"]))
        .then(3)
        .when(text.str.contains(r"\bNC\b|\bND\b|NONCOMMERCIAL"))
        .then(2)
        .when(text.str.contains(r"\bSA\b|GPL"))
        .then(1)
        .otherwise(0)
    )
    return licenses.to_frame("license").select(rank.cast(pl.Int8).alias("rank"))["rank"]
