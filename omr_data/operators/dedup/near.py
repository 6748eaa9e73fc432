"""Copies that are not equal to the letter or to the pixel: NearText, NearImage and NearPair."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from omr_data.operators.dedup.base import ReadBytes, _Dedup, check_threshold, shared_columns
from omr_data.step import Columns, Decisions

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

    from omr_data.similar.candidates import NearTexts


@dataclass(frozen=True)
class NearText(_Dedup):
    """Similar words, and the same sequence of numbers, operators and relations.

    Typos, added instructions, two questions in one row and texts that were cut off are found; a
    changed number or sign is another problem at any threshold. Options count as words, images do
    not count. MinHash bands and rare shingles find candidates, the rule of sameness decides.

    Raises:
        RecipeError: the threshold is not over 0 and at most 1.
    """

    name: ClassVar[str] = "dedup.NearText"
    """The name in recipes, plans and reasons."""
    revision: ClassVar[int] = 3
    """Raised when the same rows would be decided otherwise; it rebuilds what exists."""
    threshold: float = 0.7
    """The least Jaccard similarity of word 3-grams, or of pairs of characters."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_threshold(self.name, self.threshold)

    @property
    def reason(self) -> str:
        return f"nearly the same words are there already (similarity at least {self.threshold})"

    def extract_keys(self, shard: "pa.Table", read_image: ReadBytes) -> "pl.DataFrame":
        from omr_data.similar.candidates import text_columns

        return shared_columns(shard).hstack(text_columns(shard, self.threshold))

    def decide(self, data: Columns, references: Sequence[Columns]) -> Decisions:
        from omr_data.similar.candidates import NearTexts
        from omr_data.similar.clusters import Components

        rows = self.ordered(data.keys)
        components = Components(rows.height)
        near = NearTexts(rows, data.rows, components, self.threshold)
        return self.decisions(rows, data, components, near.measure, near.losers(), near.misses)


@dataclass(frozen=True)
class NearImage(_Dedup):
    """Rows whose images look the same, whatever their words. Rows without images stay.

    Two problems about one image are one to this step: it is for collections of images. Use
    NearPair for problems.
    """

    name: ClassVar[str] = "dedup.NearImage"
    """The name in recipes, plans and reasons."""
    revision: ClassVar[int] = 3
    """Raised when the same rows would be decided otherwise; it rebuilds what exists."""
    lazy_columns: ClassVar[tuple[str, ...]] = (*_Dedup.lazy_columns, "thumbnails")
    """Columns that are read for single rows only, since all would not fit into memory."""
    radius: int = 12
    """Bits of 64 in which the perceptual hashes of candidates may differ."""

    @property
    def reason(self) -> str:
        return "images that look the same are there already"

    def extract_keys(self, shard: "pa.Table", read_image: ReadBytes) -> "pl.DataFrame":
        from omr_data.similar.images import image_columns

        return shared_columns(shard).hstack(image_columns(shard, read_image))

    def decide(self, data: Columns, references: Sequence[Columns]) -> Decisions:
        from omr_data.similar.clusters import Components
        from omr_data.similar.looks import NearImages

        rows = self.ordered(data.keys)
        components = Components(rows.height)
        images = NearImages(rows, data.payload, self.radius)
        # Thumbnails are compared for pairs that nothing else has joined: it takes milliseconds.
        for one, other in images.linking_pairs():
            if components.root(one) != components.root(other) and images.same(one, other):
                components.join(one, other)
        return self.decisions(rows, data, components, lambda pairs: np.ones(len(pairs)))


@dataclass(frozen=True)
class NearPair(_Dedup):
    """A copy only when both agree: the words as in NearText, and the images.

    Images are candidates by perceptual hashes and are then compared cell by cell. Rows without
    images are compared with each other by their words alone. A row with an image is never a copy
    of one without.

    Raises:
        RecipeError: the threshold is not over 0 and at most 1.
    """

    name: ClassVar[str] = "dedup.NearPair"
    """The name in recipes, plans and reasons."""
    revision: ClassVar[int] = 3
    """Raised when the same rows would be decided otherwise; it rebuilds what exists."""
    lazy_columns: ClassVar[tuple[str, ...]] = (*_Dedup.lazy_columns, "thumbnails")
    """Columns that are read for single rows only, since all would not fit into memory."""
    threshold: float = 0.7
    """The least similarity of the words."""
    radius: int = 12
    """Bits of 64 in which the perceptual hashes of candidates may differ."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_threshold(self.name, self.threshold)

    @property
    def reason(self) -> str:
        return "the same words with the same images are there already"

    def extract_keys(self, shard: "pa.Table", read_image: ReadBytes) -> "pl.DataFrame":
        from omr_data.similar.candidates import text_columns
        from omr_data.similar.images import image_columns

        frame = shared_columns(shard).hstack(text_columns(shard, self.threshold))
        return frame.hstack(image_columns(shard, read_image))

    def decide(self, data: Columns, references: Sequence[Columns]) -> Decisions:
        from omr_data.similar.candidates import NearTexts, equal_keys
        from omr_data.similar.clusters import Components, join_equal

        rows = self.ordered(data.keys)
        components = Components(rows.height)
        # Equal bytes with equal words need no look at the images.
        with_images = rows["has_image"].to_numpy()
        items = np.flatnonzero(with_images)
        join_equal(equal_keys(rows)[items], items, components)
        # Rows without images are compared among themselves only.
        near = NearTexts(rows, data.rows, components, self.threshold, np.flatnonzero(~with_images))
        self._join_imaged(rows, data, components, near)
        # Only rows without images can be dropped for containment, so `losers` has no others.
        return self.decisions(rows, data, components, near.measure, near.losers(), near.misses)

    def _join_imaged(
        self, rows: "pl.DataFrame", data: Columns, components: "object", near: "NearTexts"
    ) -> None:
        """Joins rows with images whose words and images both agree."""
        from omr_data.similar.clusters import Components
        from omr_data.similar.looks import NearImages

        assert isinstance(components, Components)
        images = NearImages(rows, data.payload, self.radius)
        # A list, since the texts of all pairs are read at once: one pass over the shards.
        pairs = list(images.pairs_with_words())
        near.texts.read(rows, data.rows, sorted({row for pair in pairs for row in pair}))
        for one, other in pairs:
            if components.root(one) == components.root(other):
                continue
            # Words first: comparing images costs more.
            match = near.texts.compare(one, other, self.threshold)
            if match.similarity >= self.threshold and images.same(one, other):
                components.join(one, other)
