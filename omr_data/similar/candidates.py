"""The key columns of texts, and the pairs of rows that they make candidates.

`text_columns` runs per shard. `NearTexts` sees the columns of all rows, reads back the texts of
candidates alone, and applies the rule of sameness to them.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from omr_data.similar import clusters
from omr_data.similar.clusters import Components, Groups, groups_of, mix_pairs
from omr_data.similar.minhash import PERMUTATIONS, band_keys, rows_per_band, signatures
from omr_data.similar.rule import Wording, compare, wordings
from omr_data.similar.shingles import shingles_of
from omr_data.similar.tokens import Tokens, problem_texts, tokenize

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa
    from numpy.typing import NDArray

    from omr_data.similar.rule import Match

    Items = NDArray[np.int64]

SLICE = 50_000
"""Texts read back in one pass over the shards. More would be faster, and take more memory."""
OVERLAP = 0.3
"""Share of the shorter text's shingles that candidates have in common at least."""


def problem_frame(shard: "pa.Table") -> "pl.DataFrame":
    """The columns of a shard that the words of a problem are made of."""
    import polars as pl

    return pl.DataFrame(pl.from_arrow(shard.select(["question", "options"])))


def normal_columns(shard: "pa.Table") -> "pl.DataFrame":
    """What equality takes: `normal` (two hashes of the normal form) and `bytes` (of the images).

    A text without tokens ("...") is hashed as it is written, so that it only equals itself.
    """
    import polars as pl

    frame = problem_frame(shard)
    texts = problem_texts(frame)
    found = [(tokens.keys()[0], np.diff(tokens.bounds)) for tokens in tokenize(texts)]
    normal = np.concatenate([one for one, _ in found]) if found else np.zeros((0, 2), np.uint64)
    sizes = np.concatenate([size for _, size in found]) if found else np.zeros(0, np.int64)
    empty = np.flatnonzero(sizes == 0)
    # Without tokens all such texts would share one normal form, and be copies of each other.
    normal[empty, 1] = texts.gather(empty).hash(1).to_numpy()
    columns = {"normal": pl.Series(normal, dtype=pl.Array(pl.UInt64, 2))}
    return pl.DataFrame(columns).hstack([image_bytes(shard)])


def image_bytes(shard: "pa.Table") -> "pl.Series":
    """`bytes`: the sha256 of each row's images, joined; empty where a row has none."""
    import polars as pl

    if "images" not in shard.column_names:
        return pl.Series("bytes", [""] * len(shard), pl.String)
    images = pl.Series("bytes", pl.from_arrow(shard.column("images").combine_chunks()))
    shas = images.list.eval(pl.element().struct.field("sha256"))
    return shas.list.join(" ").fill_null("")


def equal_keys(rows: "pl.DataFrame") -> "NDArray[np.uint64]":
    """Two hashes of each row's words and image bytes, shape (rows, 2)."""
    normal = rows["normal"].to_numpy().astype(np.uint64)
    # Both hashes are mixed with the images: one of 64 bits collides among a few billion pairs.
    images = rows["bytes"].hash(2).to_numpy().astype(np.uint64)
    return np.stack([mix_pairs(normal[:, column].copy(), images) for column in (0, 1)], 1)


def text_columns(shard: "pa.Table", threshold: float) -> "pl.DataFrame":
    """The key columns of the words of a shard.

    Args:
        shard: Records.
        threshold: The similarity that bands are made for.

    Returns:
        `normal`, two hashes of the normal form; `skeleton`, a hash of the numbers and signs, and
        `signs`, how many these are; `size`, the number of tokens; `bands`, one key for each band
        of the MinHash signature; `anchors`, the smallest shingles.
    """
    import polars as pl
    import pyarrow as pa

    width = rows_per_band(threshold)
    parts = [_columns_of(tokens, width) for tokens in tokenize(problem_texts(problem_frame(shard)))]
    if not parts:
        # An empty shard needs the columns of the others, so that all can be scanned together.
        none = np.zeros(0, np.uint8)
        places = np.zeros(0, np.int64)
        empty = Tokens(np.zeros(0, np.uint64), none, np.zeros(1, np.int64), none, places)
        parts = [_columns_of(empty, width)]
    normal, skeleton, signs, size, bands, anchors, counts = (
        np.concatenate(column) for column in zip(*parts, strict=True)
    )
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    listed = pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(anchors))
    return pl.DataFrame(
        {
            "normal": pl.Series(normal, dtype=pl.Array(pl.UInt64, 2)),
            "skeleton": skeleton,
            "signs": signs.astype(np.uint32),
            "size": size.astype(np.uint32),
            "bands": pl.Series(bands, dtype=pl.Array(pl.UInt64, PERMUTATIONS // width)),
            "anchors": pl.from_arrow(listed),
        }
    )


def _columns_of(tokens: "Tokens", width: int) -> "tuple[NDArray[np.generic], ...]":
    """The columns of one piece, in the order of `text_columns`; anchors with their counts."""
    normal, skeleton, signs = tokens.keys()
    shingles = shingles_of(tokens)
    bands = band_keys(signatures(shingles), width)
    # Rows that share a template and not its numbers get different bands: they never meet.
    for band in range(bands.shape[1]):
        bands[:, band] = mix_pairs(bands[:, band].copy(), skeleton)
    # Anchors are few and vary in number, so a row holds a list of them and not an array.
    picked = np.empty_like(shingles.hashes)
    ends = np.empty_like(shingles.offsets)
    limits = clusters.anchor_limit(np.diff(shingles.offsets))
    count = clusters.pick_anchors(shingles.hashes, shingles.offsets, limits, picked, ends)
    size = np.diff(tokens.bounds)
    return normal, skeleton, signs, size, bands, picked[:count], np.diff(ends)


class NearTexts:
    """Finds rows with similar words by the rule of sameness."""

    def __init__(
        self,
        rows: "pl.DataFrame",
        whole: "pl.LazyFrame",
        components: Components,
        threshold: float,
        among: "Items | None" = None,
    ) -> None:
        """Joins the rows that are similar.

        Args:
            rows: The key columns, in order of who is kept.
            whole: A lazy scan of the whole records, to read texts back.
            components: Receives what is joined.
            threshold: The least similarity.
            among: The rows to compare; all of them by default.
        """
        self._rows, self._whole = rows, whole
        self._threshold, self._components = threshold, components
        self.misses: list[tuple[float, int, int]] = []
        self.inside: list[tuple[float, int, int]] = []
        # A row without tokens ("...") has no shingles, and would match every other such row.
        worded = np.flatnonzero(rows["size"].to_numpy() > 0)
        items = worded if among is None else np.intersect1d(worded, among)
        normal = rows["normal"].to_numpy()[items]
        clusters.join_equal(normal, items, components)
        # Of rows with one normal form, one stands for all.
        first = np.array([components.root(int(item)) for item in items], np.int64)
        self._items = np.intersect1d(items, first)
        keys = rows["bands"].to_numpy()[self._items]
        columns = range(keys.shape[1]) if keys.ndim == 2 else range(0)
        # The compiled loops need columns in one piece; a copy of one at a time is 8 bytes a row.
        bands = [groups_of(np.ascontiguousarray(keys[:, at]), self._items) for at in columns]
        pairs = self._anchor_pairs()
        # Only texts of candidates are read back: those of all rows would not fit into memory.
        wanted = [groups.members for groups in bands] + [pairs.ravel()]
        self.texts = TextReader(rows, whole, np.unique(np.concatenate(wanted)).tolist())
        # Bands first: they settle most pairs in compiled loops, and the rule in Python then
        # skips pairs that are joined already.
        for groups in bands:
            self.texts.join(groups, threshold, components)
        self._apply_rule(pairs)

    def _anchor_pairs(self) -> "Items":
        """The pairs of rows that share rare anchors."""
        chosen = self._rows["anchors"].gather(self._items)
        owners = np.repeat(self._items, chosen.list.len().to_numpy())
        return clusters.anchor_pairs(
            chosen.explode().drop_nulls().to_numpy().astype(np.uint64),
            owners,
            self._rows["skeleton"].to_numpy(),
            self._rows["signs"].to_numpy().astype(np.int64),
        )

    def _apply_rule(self, pairs: "Items") -> None:
        """Joins or remembers the pairs that bands did not settle."""
        overlap = self.texts.overlap(pairs)
        # Shared anchors are weak evidence. The overlap rules most pairs out without the rule.
        for one, other in pairs[overlap >= OVERLAP].tolist():
            if self._components.root(one) == self._components.root(other):
                continue
            # A miss of similarity 0 differs in its numbers or signs: not a near miss for anybody.
            match = self.texts.compare(one, other, self._threshold)
            if match.similarity < self._threshold:
                if match.similarity > 0:
                    self.misses.append((match.similarity, one, other))
            elif match.how == "inside":
                self.inside.append((match.similarity, one, other))
            else:
                self._components.join(one, other)

    def losers(self) -> dict[int, int]:
        """Rows to drop because one of the pair is inside the other, each with the row that stays.

        Containment is not handed on: two questions that were joined in one row do not become
        copies of each other. A row is dropped only for a row that itself stays.
        """
        roots = self._components.roots()
        lost: dict[int, int] = {}
        links = sorted({tuple(sorted((int(roots[a]), int(roots[b])))) for _, a, b in self.inside})
        # Ascending, so that the row that is kept first decides and the order of pairs does not.
        for stays, goes in links:
            if stays != goes and stays not in lost:
                lost.setdefault(goes, stays)
        return lost

    def measure(self, pairs: "Items") -> "NDArray[np.float64]":
        """The similarity of pairs of rows, shape (pairs, 2), by the rule."""
        normal = self._rows["normal"].to_numpy()
        equal = (normal[pairs[:, 0]] == normal[pairs[:, 1]]).all(-1)
        found = np.ones(len(pairs))
        if equal.all():
            return found

        # One text stands for all rows with its normal form. Texts that were read come first, so
        # that they are chosen; a row without one stands for itself and is read now.
        unequal = pairs[~equal]
        candidates = np.concatenate([self.texts.known(), unequal.ravel()])
        _, first, form = np.unique(normal[candidates, 0], return_index=True, return_inverse=True)
        chosen = candidates[first][form[-unequal.size :]]
        self.texts.read(self._rows, self._whole, np.unique(chosen).tolist())
        found[~equal] = self.texts.measure(chosen.reshape(-1, 2), self._threshold)
        return found


class TextReader:
    """The tokens and shingles of some rows, read back from the shards in pieces."""

    def __init__(self, rows: "pl.DataFrame", whole: "pl.LazyFrame", wanted: Sequence[int]) -> None:
        """Reads the texts.

        Args:
            rows: The key columns, in order of who is kept.
            whole: A lazy scan of the whole records.
            wanted: The numbers of the rows to read.
        """
        self._wordings: dict[int, Wording] = {}
        self._begins = np.zeros(rows.height + 1, np.int64)
        self._shingles = np.zeros(0, np.uint64)
        self.read(rows, whole, wanted)

    def known(self) -> "Items":
        """The numbers of the rows whose texts were read, ascending."""
        return np.array(sorted(self._wordings), np.int64)

    def read(self, rows: "pl.DataFrame", whole: "pl.LazyFrame", wanted: Sequence[int]) -> None:
        """Reads more texts; those that are known are not read again.

        Args:
            rows: The key columns, in order of who is kept.
            whole: A lazy scan of the whole records.
            wanted: The numbers of the rows to read.
        """
        new = [row for row in wanted if row not in self._wordings]
        # Packing copies all shingles, which is not worth it for nothing new.
        if not new:
            return
        self._wordings |= dict(_read_wordings(rows, whole, new))
        known = sorted(self._wordings)
        sizes = np.zeros(rows.height + 1, np.int64)
        sizes[np.array(known, np.int64) + 1] = [len(self._wordings[row].shingles) for row in known]
        self._begins = np.cumsum(sizes)
        self._shingles = np.empty(int(self._begins[-1]), np.uint64)
        # One array for the compiled loops. Each wording keeps a view, so nothing is held twice.
        for row in known:
            view = self._shingles[self._begins[row] : self._begins[row + 1]]
            view[:] = self._wordings[row].shingles
            self._wordings[row] = dataclasses.replace(self._wordings[row], shingles=view)

    def join(self, groups: Groups, threshold: float, components: Components) -> None:
        """Joins the similar rows of each group.

        Args:
            groups: Groups of rows.
            threshold: The least Jaccard similarity.
            components: Receives what is joined.
        """
        clusters.join_similar(
            groups.members,
            groups.edges,
            self._shingles,
            self._begins,
            threshold,
            components.parents,
            components.links,
            components.count,
        )

    def overlap(self, pairs: "Items") -> "NDArray[np.float64]":
        """The share of the shorter row's shingles that both rows of each pair have."""
        common = np.empty(len(pairs), np.int64)
        clusters.overlaps(pairs, self._shingles, self._begins, common)
        # The shorter text, so that one inside the other has an overlap of nearly 1.
        sizes = np.diff(self._begins)
        shorter = np.minimum(sizes[pairs[:, 0]], sizes[pairs[:, 1]])
        return common / np.maximum(shorter, 1)

    def compare(self, one: int, other: int, threshold: float) -> "Match":
        """Applies the rule to two rows.

        Args:
            one: The number of one row.
            other: The number of the other row.
            threshold: As in `omr_data.similar.rule.compare`.
        """
        return compare(self._wordings[one], self._wordings[other], threshold)

    def measure(self, pairs: "Items", threshold: float) -> "NDArray[np.float64]":
        """The similarity of pairs of rows.

        Args:
            pairs: The rows, shape (pairs, 2).
            threshold: Above it, the plain Jaccard similarity is the answer.
        """
        common = np.empty(len(pairs), np.int64)
        clusters.overlaps(pairs, self._shingles, self._begins, common)
        sizes = np.diff(self._begins)
        union = sizes[pairs[:, 0]] + sizes[pairs[:, 1]] - common
        found = common / np.maximum(union, 1)
        # Only pairs that were found by misspellings, by containment or through others are left.
        for place in np.flatnonzero(found < threshold).tolist():
            one, other = (int(row) for row in pairs[place])
            found[place] = self.compare(one, other, threshold).similarity
        return found


def _read_wordings(
    rows: "pl.DataFrame", whole: "pl.LazyFrame", wanted: Sequence[int]
) -> "Iterator[tuple[int, Wording]]":
    """The numbers of rows with their texts, in any order."""
    import polars as pl

    for start in range(0, len(wanted), SLICE):
        part = list(wanted[start : start + SLICE])
        number_of = dict(zip(rows["id"].gather(part).to_list(), part, strict=True))
        # A filter and no join: a join may hold the whole of the other side, which is all the texts.
        there = pl.col("id").is_in(pl.Series(list(number_of)).implode())
        found = whole.select("id", "question", "options").filter(there).collect(engine="streaming")
        # Tokens come in pieces of the cache's size, which do not follow those of the frame.
        ids = iter(found["id"].to_list())
        for tokens in tokenize(problem_texts(found)):
            for wording in wordings(tokens):
                yield number_of[next(ids)], wording
