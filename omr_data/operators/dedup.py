"""Drops problems that are there already, within a source and across sources.

    dedup.Exact()                      same words, options and images
    dedup.NearText(threshold=0.8)      nearly the same words
    dedup.NearImage()                  images that look alike
    dedup.NearPair(threshold=0.9)      nearly the same words AND the same images
    dedup.Semantic(embedder=...)       the same meaning in other words, about the same images

**Duplicates** are components: what is like a duplicate is one. Of each component one row is kept: from the source that comes
first in `priority`, then the one with the smallest id. Results depend on the rows alone, not on their order or on workers.
Each step keeps a table `pairs` (dropped, kept, similarity, and the sources of both), and a table `sources` that counts them by
both sources: `omr show --step dedup.Exact --table sources`.

Word for word the same question may ask about different images (PuzzleVQA has one question for 100 of them), and one
worksheet's image may carry several questions: for problems with images, NearPair is the step to use.
"""

import hashlib
import re
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from omr_data.embedders.base import Embedder
from omr_data.errors import RecipeError
from omr_data.records import IMAGE_MARK, ImageRef
from omr_data.step import Columns, Decisions, GlobalStep

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    import pyarrow as pa
    from numpy.typing import NDArray

    from omr_data.similar.clusters import Components
    from omr_data.similar.shingles import Shingles, Texts

ReadBytes = Callable[[ImageRef], bytes]
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
SLICE = 50_000
"""Texts read back in one pass over the shards: fewer passes would hold more of them in memory."""


@dataclass(frozen=True)
class _Dedup(GlobalStep):
    """What the steps share: the rule of who is kept."""

    priority: tuple[str, ...] = ()

    @property
    @abstractmethod
    def reason(self) -> str:
        """Why a row is dropped."""

    def _ordered(self, keys: "pl.DataFrame") -> "pl.DataFrame":
        """The rows in order of who is kept, so that the smallest member of a component is the one."""
        import polars as pl

        rank = pl.col("source").replace_strict(
            self.priority,
            range(len(self.priority)),
            default=len(self.priority),
            return_dtype=pl.Int32,
        )
        return keys.sort(rank, "id")

    def _decisions(
        self, rows: "pl.DataFrame", components: "Components", likeness: "dict[int, float]"
    ) -> Decisions:
        """`likeness` gives each dropped row's similarity to what it was found through, if it was measured."""
        import numpy as np
        import polars as pl

        roots = components.roots()
        gone = np.flatnonzero(roots != np.arange(len(roots)))
        ids, source = rows["id"], rows["source"]
        pairs = pl.DataFrame(
            {
                "dropped": ids.gather(gone),
                "kept": ids.gather(roots[gone]),
                "similarity": [likeness.get(item, 1.0) for item in gone.tolist()],
                "dropped_source": source.gather(gone),
                "kept_source": source.gather(roots[gone]),
            },
            schema_overrides={"similarity": pl.Float64},
        ).sort("dropped")
        sides = ("dropped_source", "kept_source")
        sources = (
            pairs.group_by(sides)
            .agg(rows=pl.len().cast(pl.Int64), least_similarity=pl.col("similarity").min())
            .sort(sides)
        )
        return Decisions(
            dict.fromkeys(pairs["dropped"].to_list(), self.reason),
            {"pairs": pairs, "sources": sources},
        )


@dataclass(frozen=True)
class Exact(_Dedup):
    """Same question and options after NFKC, lower case and single spaces, and the same image bytes in the same order."""

    @property
    def reason(self) -> str:
        return "the same problem is there already"

    def extract_keys(self, shard: "pa.Table", read_image: ReadBytes) -> "pl.DataFrame":
        import polars as pl

        from omr_data.similar.shingles import normalize

        frame = pl.DataFrame(
            pl.from_arrow(shard.select(["id", "source", "question", "options", "images"]))
        )
        words = normalize(pl.Series(_words(frame))).str.replace_all(r"\s+", " ").str.strip_chars()
        images = frame["images"].list.eval(pl.element().struct.field("sha256")).list.join(" ")
        keys = [
            hashlib.sha256(f"{text}\0{image}".encode()).digest()[:16]
            for text, image in zip(words, images, strict=True)
        ]
        return frame.select("id", "source").with_columns(pl.Series("key", keys, pl.Binary))

    def decide(self, data: Columns, references: Sequence[Columns]) -> Decisions:
        import polars as pl

        from omr_data.similar.clusters import Components

        rows = self._ordered(data.keys)
        first = rows.with_row_index("row").with_columns(
            pl.col("row").min().over("key").alias("first")
        )
        components = Components(rows.height)
        for row, kept in (
            first.filter(pl.col("row") != pl.col("first")).select("row", "first").iter_rows()
        ):
            components.join(kept, row)
        return self._decisions(rows, components, {})


@dataclass(frozen=True)
class NearText(_Dedup):
    """Texts whose sets of word 5-grams have a Jaccard similarity of at least `threshold` (MinHash finds candidates, the true
    similarity decides). Options count as words. A text without words is like no other.

    Raises:
        RecipeError: the threshold is not over 0 and at most 1.
    """

    revision: ClassVar[int] = 2
    threshold: float = 0.8

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_threshold(self.name, self.threshold)

    @property
    def reason(self) -> str:
        return f"nearly the same words are there already (Jaccard similarity at least {self.threshold})"

    def extract_keys(self, shard: "pa.Table", read_image: ReadBytes) -> "pl.DataFrame":
        import polars as pl

        frame = pl.DataFrame(pl.from_arrow(shard.select(["id", "source"])))
        return frame.hstack(_text_columns(shard, self.threshold))

    def decide(self, data: Columns, references: Sequence[Columns]) -> Decisions:
        from omr_data.similar.clusters import Components

        rows = self._ordered(data.keys)
        components = Components(rows.height)
        likeness = _join_near_texts(rows, data.rows, components, self.threshold)
        return self._decisions(rows, components, likeness)


@dataclass(frozen=True)
class NearImage(_Dedup):
    """Rows whose images all look alike: within `radius` of 64 bits in two perceptual hashes. Rows without images stay.

    Images of one template look alike too; use it where images are photographs, and NearPair elsewhere.
    """

    revision: ClassVar[int] = 2
    radius: int = 8

    @property
    def reason(self) -> str:
        return "images that look the same are there already"

    def extract_keys(self, shard: "pa.Table", read_image: ReadBytes) -> "pl.DataFrame":
        from omr_data.similar.images import hash_columns

        return hash_columns(shard, read_image)

    def decide(self, data: Columns, references: Sequence[Columns]) -> Decisions:
        from omr_data.similar.clusters import Components
        from omr_data.similar.images import similar_images

        rows = self._ordered(data.keys)
        components = Components(rows.height)
        for ours, theirs in similar_images(rows, rows, self.radius):
            for row in (*ours, *theirs):  # all of them look like the first
                components.join(ours[0], row)
        return self._decisions(rows, components, {})


@dataclass(frozen=True)
class NearPair(_Dedup):
    """A duplicate only when BOTH agree: the words (Jaccard similarity of 5-grams at least `threshold`, options included) and
    the images (perceptual hashes within `radius` bits, then thumbnails cell by cell). Rows without images are compared
    with each other by their words alone.

    Raises:
        RecipeError: the threshold is not over 0 and at most 1.
    """

    revision: ClassVar[int] = 2
    lazy_columns: ClassVar[tuple[str, ...]] = ("thumbnails",)
    threshold: float = 0.9
    radius: int = 12

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_threshold(self.name, self.threshold)

    @property
    def reason(self) -> str:
        return "the same words with the same images are there already"

    def extract_keys(self, shard: "pa.Table", read_image: ReadBytes) -> "pl.DataFrame":
        from omr_data.similar.images import look_columns

        return look_columns(shard, read_image).hstack(_text_columns(shard, self.threshold))

    def decide(self, data: Columns, references: Sequence[Columns]) -> Decisions:
        import numpy as np

        from omr_data.similar.clusters import Components

        rows = self._ordered(data.keys)
        components = Components(rows.height)
        image_rows = rows["image_hashes"].list.len().to_numpy() > 0
        likeness = _join_near_texts(
            rows, data.rows, components, self.threshold, np.flatnonzero(~image_rows)
        )
        pairs = list(_imaged_pairs(rows, self.radius))
        texts = _Texts(rows, data.rows, sorted({row for pair in pairs for row in pair}))
        bytes_of = rows["bytes"].to_list()
        unlike = {
            row for one, other in pairs if bytes_of[one] != bytes_of[other] for row in (one, other)
        }
        thumbnails = _thumbnails(rows, data.payload, sorted(unlike))
        for one, other in pairs:
            if components.root(one) == components.root(other):
                continue
            similarity = texts.jaccard(one, other)
            if similarity >= self.threshold and (
                bytes_of[one] == bytes_of[other] or _same(thumbnails[one], thumbnails[other])
            ):
                likeness[other] = similarity
                components.join(one, other)
        return self._decisions(rows, components, likeness)


@dataclass(frozen=True)
class Semantic(_Dedup):
    """Questions that say the same in other words: their embeddings have a cosine of at least `threshold`, options included.

    It looks at words alone, and to most models the same template with other numbers means the same. So problems are compared
    only where they have the very same images, to the byte, or none, and the same numbers in digits. Of texts longer than
    the model takes, the beginning counts.

    Raises:
        RecipeError: the threshold is not over 0 and at most 1.
    """

    lazy_columns: ClassVar[tuple[str, ...]] = ("vector",)
    embedder: Embedder = field(kw_only=True)
    threshold: float = 0.95

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_threshold(self.name, self.threshold)

    @property
    def reason(self) -> str:
        return f"a question of nearly the same meaning is there already (cosine at least {self.threshold})"

    def extract_keys(self, shard: "pa.Table", read_image: ReadBytes) -> "pl.DataFrame":
        import polars as pl

        from omr_data.similar.vectors import rounded, sides

        frame = pl.DataFrame(
            pl.from_arrow(shard.select(["id", "source", "question", "options", "images"]))
        )
        texts = (
            pl.Series(_words(frame))
            .str.replace_all(IMAGE_MARK, " ", literal=True)
            .str.strip_chars()
            .to_list()
        )
        vectors = rounded(self.embedder.embed(texts or [""]))[: len(texts)]
        images = frame["images"].list.eval(pl.element().struct.field("sha256")).list.join(" ")
        numbers = [" ".join(sorted(set(NUMBER.findall(text)))) for text in texts]
        keys = [
            hashlib.sha256(f"{image}\0{found}".encode()).digest()[:8]
            for image, found in zip(images, numbers, strict=True)
        ]
        return frame.select(
            "id",
            "source",
            pl.Series("apart", [int.from_bytes(key) for key in keys], pl.UInt64),
            pl.Series("bits", sides(vectors), pl.Array(pl.UInt64, 16)),
            pl.Series("vector", vectors, pl.Array(pl.Int16, vectors.shape[1])),
        )

    def decide(self, data: Columns, references: Sequence[Columns]) -> Decisions:
        from omr_data.similar.clusters import Components
        from omr_data.similar.vectors import join_alike

        rows = self._ordered(data.keys)
        components = Components(rows.height)
        vectors = _vectors(rows, data.payload)
        cosines = join_alike(
            vectors,
            rows["bits"].to_numpy(),
            rows["apart"].to_numpy(),
            self.threshold,
            components.parents,
        )
        return self._decisions(
            rows,
            components,
            {row: min(1.0, float(cosines[row])) for row in cosines.nonzero()[0].tolist()},
        )


def _check_threshold(name: str, threshold: float) -> None:
    if not 0 < threshold <= 1:
        raise RecipeError(f"{name}: the threshold is {threshold}; it is over 0 and at most 1.")


def _words(rows: "pa.Table | pl.DataFrame") -> "Texts":
    """Question and options as one text each; the order of options does not matter."""
    import polars as pl

    questions, options = rows["question"], rows["options"]
    choices = options if isinstance(options, pl.Series) else pl.Series(pl.from_arrow(options))
    if not (choices.list.len() > 0).any():
        return questions
    frame = pl.DataFrame(
        {
            "question": questions if isinstance(questions, pl.Series) else pl.from_arrow(questions),
            "options": choices,
        }
    )
    return frame.select(pl.col("question") + "\n" + pl.col("options").list.sort().list.join("\n"))[
        "question"
    ]


# ----------------------------------------------------------------------------------------------- texts


def _text_columns(rows: "pa.Table", threshold: float) -> "pl.DataFrame":
    """`keys`, one for each band, and `worded`: whether a text has words at all."""
    import numpy as np
    import polars as pl

    from omr_data.similar.minhash import PERMUTATIONS, band_keys, rows_per_band, signatures
    from omr_data.similar.shingles import pieces

    width = rows_per_band(threshold)
    keys, worded = [], []
    for piece in pieces(_words(rows)):
        keys.append(band_keys(signatures(piece), width))
        worded.append(np.diff(piece.offsets) > 0)
    bands = PERMUTATIONS // width
    every = np.concatenate(keys) if keys else np.zeros((0, bands), np.uint64)
    return pl.DataFrame(
        {
            "keys": pl.Series(every, dtype=pl.Array(pl.UInt64, bands)),
            "worded": np.concatenate(worded) if worded else [],
        }
    )


def _join_near_texts(
    rows: "pl.DataFrame",
    whole: "pl.LazyFrame",
    components: "Components",
    threshold: float,
    among: "NDArray[np.int64] | None" = None,
) -> dict[int, float]:
    """Joins rows with nearly the same words; returns the similarity that each joined row was found by."""
    import numpy as np

    from omr_data.similar.clusters import groups_of, join_large, small_pairs

    worded = np.flatnonzero(rows["worded"].to_numpy())
    items = worded if among is None else np.intersect1d(worded, among)
    keys = rows["keys"].to_numpy()[items]
    if not len(items):
        return {}
    groups = groups_of(keys, items)
    wanted = np.unique(np.concatenate(groups)) if groups else np.zeros(0, np.int64)
    texts = _Texts(rows, whole, wanted.tolist())
    likeness: dict[int, float] = {}

    def alike(one: int, other: int) -> bool:
        similarity = texts.jaccard(one, other)
        if similarity < threshold:
            return False
        likeness[other] = similarity
        return True

    join_large(groups, components, alike)
    for one, other in small_pairs(groups).tolist():
        if components.root(one) != components.root(other) and alike(one, other):
            components.join(one, other)
    return likeness


class _Texts:
    """The shingles of some rows, read back from the shards in pieces; equal sets are kept once."""

    def __init__(self, rows: "pl.DataFrame", whole: "pl.LazyFrame", wanted: Sequence[int]) -> None:
        self._sets: dict[int, NDArray[np.uint64]] = {}
        equal: dict[tuple[int, int], NDArray[np.uint64]] = {}
        for row, shingles, place in _read_shingles(rows, whole, wanted):
            found = shingles.of(place)
            known = equal.setdefault((len(found), int(found.sum())), found)
            self._sets[row] = known if known is found or (known == found).all() else found

    def jaccard(self, one: int, other: int) -> float:
        """The true Jaccard similarity of two rows' sets of shingles; 1 for two empty ones."""
        from omr_data.similar.kernels import in_common

        first, second = self._sets[one], self._sets[other]
        if first is second:
            return 1.0
        common = in_common(first, second)
        return common / (len(first) + len(second) - common)


def _read_shingles(
    rows: "pl.DataFrame", whole: "pl.LazyFrame", wanted: Sequence[int]
) -> "Iterator[tuple[int, Shingles, int]]":
    import polars as pl

    from omr_data.similar.shingles import pieces

    for start in range(0, len(wanted), SLICE):
        part = list(wanted[start : start + SLICE])
        number_of = dict(zip(rows["id"].gather(part).to_list(), part, strict=True))
        # A filter and no join: a join may hold the whole of the other side, which is all the texts.
        there = pl.col("id").is_in(pl.Series(list(number_of)).implode())
        found = whole.select("id", "question", "options").filter(there).collect(engine="streaming")
        ids = iter(found["id"].to_list())
        for piece in pieces(_words(found)):
            for place in range(len(piece.offsets) - 1):
                yield number_of[next(ids)], piece, place


# -------------------------------------------------------------------------------------------- images


SQUARE = 64
"""Groups of up to so many rows give all their pairs; of larger ones, the rows that share a band of their words do."""


def _imaged_pairs(rows: "pl.DataFrame", radius: int) -> "Iterator[tuple[int, int]]":
    """Pairs of rows whose images look alike and whose words may be; the smaller row first."""
    import numpy as np

    from omr_data.similar.clusters import groups_of, small_pairs
    from omr_data.similar.images import similar_images

    keys = rows["keys"].to_numpy()
    for ours, theirs in similar_images(rows, rows, radius):
        members = np.array(sorted({*ours, *theirs}), np.int64)
        if len(members) <= SQUARE:
            yield from (
                (int(members[first]), int(members[second]))
                for second in range(len(members))
                for first in range(second)
            )
            continue
        groups = groups_of(keys[members], members)
        yield from map(tuple, small_pairs(groups).tolist())
        for group in groups:
            yield from ((int(group[0]), int(row)) for row in group[1:])


def _thumbnails(
    rows: "pl.DataFrame", payload: "pl.LazyFrame", wanted: Sequence[int]
) -> dict[int, list[bytes]]:
    import polars as pl

    numbers = pl.LazyFrame(
        {"id": rows["id"].gather(list(wanted)), "row": pl.Series(wanted, dtype=pl.Int64)}
    )
    return dict(
        payload.join(numbers, on="id", how="inner")
        .select("row", "thumbnails")
        .collect()
        .iter_rows()
    )


def _same(ours: Sequence[bytes], theirs: Sequence[bytes]) -> bool:
    from omr_data.similar.images import same_image

    return all(same_image(one, other) for one, other in zip(ours, theirs, strict=True))


# --------------------------------------------------------------------------------------------- meaning


def _vectors(rows: "pl.DataFrame", payload: "pl.LazyFrame") -> "NDArray[np.int16]":
    """The vectors in the order of the rows: two bytes for each place of each."""
    import numpy as np
    import polars as pl

    places = payload.collect_schema()["vector"]
    assert isinstance(places, pl.Array)
    found = np.zeros((rows.height, *places.shape), np.int16)
    numbers = rows.select("id").with_row_index("row")
    for frame in payload.select("id", "vector").collect_batches(chunk_size=SLICE):
        some = frame.join(numbers, on="id")
        found[some["row"].to_numpy()] = some["vector"].to_numpy()
    return found
