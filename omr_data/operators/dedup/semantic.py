"""Copies in other words, found by embeddings."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from omr_data.embedders.base import Embedder
from omr_data.operators.dedup.base import ReadBytes, _Dedup, check_threshold, shared_columns
from omr_data.step import Columns, Decisions

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa
    from numpy.typing import NDArray

SLICE = 50_000
"""Vectors read back at once."""


@dataclass(frozen=True)
class Semantic(_Dedup):
    """Questions of nearly the same meaning: the cosine of their embeddings reaches `threshold`.

    To most models the same template with other numbers means the same. So problems are compared
    only where they have the same image bytes or no image, and the same sequence of numbers and
    signs. Of texts longer than the model takes, the beginning counts.

    Raises:
        RecipeError: the threshold is not over 0 and at most 1.
    """

    name: ClassVar[str] = "dedup.Semantic"
    """The name in recipes, plans and reasons."""
    revision: ClassVar[int] = 2
    """Raised when the same rows would be decided otherwise; it rebuilds what exists."""
    lazy_columns: ClassVar[tuple[str, ...]] = (*_Dedup.lazy_columns, "vector")
    """Columns that are read for single rows only, since all would not fit into memory."""
    embedder: Embedder = field(kw_only=True)
    """What turns the words into vectors."""
    threshold: float = 0.95
    """The least cosine."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_threshold(self.name, self.threshold)

    @property
    def reason(self) -> str:
        return (
            "a question of nearly the same meaning is there already "
            f"(cosine at least {self.threshold})"
        )

    def extract_keys(self, shard: "pa.Table", read_image: ReadBytes) -> "pl.DataFrame":
        import polars as pl

        from omr_data.records import IMAGE_MARK
        from omr_data.similar.candidates import image_bytes, problem_frame
        from omr_data.similar.tokens import problem_texts, tokenize
        from omr_data.similar.vectors import rounded, sign_bits

        words = problem_texts(problem_frame(shard))
        texts = words.str.replace_all(IMAGE_MARK, " ", literal=True).str.strip_chars().to_list()
        # An empty shard embeds one empty text, to learn how many places a vector has.
        vectors = rounded(self.embedder.embed(texts or [""]))[: len(texts)]
        # Models hardly see a changed number, so the numbers and signs must be equal as well.
        skeletons = [tokens.keys()[1].tolist() for tokens in tokenize(words)]
        numbers = list(chain.from_iterable(skeletons))
        keys = [
            hashlib.sha256(f"{image}\0{skeleton}".encode()).digest()[:8]
            for image, skeleton in zip(image_bytes(shard), numbers, strict=True)
        ]
        partitions = [int.from_bytes(key) for key in keys]
        return shared_columns(shard).with_columns(
            pl.Series("partition_key", partitions, pl.UInt64),
            pl.Series("bits", sign_bits(vectors), pl.Array(pl.UInt64, 16)),
            pl.Series("vector", vectors, pl.Array(pl.Int16, vectors.shape[1])),
        )

    def decide(self, data: Columns, references: Sequence[Columns]) -> Decisions:
        from omr_data.similar.clusters import Components
        from omr_data.similar.vectors import cosines, join_similar_vectors

        rows = self.ordered(data.keys)
        components = Components(rows.height)
        # Vectors of all rows are held, 512 bytes a row at 256 places; shards of them would be
        # read once for each band.
        vectors = vectors_of(rows, data.payload)
        join_similar_vectors(
            vectors,
            rows["bits"].to_numpy(),
            rows["partition_key"].to_numpy(),
            self.threshold,
            components,
        )
        return self.decisions(rows, data, components, lambda pairs: cosines(vectors, pairs))


def vectors_of(rows: "pl.DataFrame", payload: "pl.LazyFrame") -> "NDArray[np.int16]":
    """The vectors in the order of the rows, shape (rows, places), two bytes for each place."""
    import polars as pl

    places = payload.collect_schema()["vector"]
    assert isinstance(places, pl.Array)
    found = np.zeros((rows.height, *places.shape), np.int16)
    numbers = rows.select("id").with_row_index("row")
    # In pieces: one join of all vectors would hold them twice.
    for frame in payload.select("id", "vector").collect_batches(chunk_size=SLICE):
        some = frame.join(numbers, on="id")
        found[some["row"].to_numpy()] = some["vector"].to_numpy()
    return found
