"""Images of one flow that are also in another, for decontamination."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from omr_data.similar.looks import (
    groups_by_hashes,
    look_alike,
    read_thumbnails,
    same_image,
    similar_groups,
)

if TYPE_CHECKING:
    from omr_data.step import Columns


class ImageMatches:
    """Answers which problems of a flow have the same images as problems of a benchmark."""

    def __init__(self, data: "Columns", reference: "Columns", radius: int) -> None:
        """Takes the hashes of both sides.

        Args:
            data: The flow.
            reference: The benchmark.
            radius: The most bits that the hashes of candidates differ in.
        """
        self._radius = radius
        self._sides = (data, reference)
        ids = [side.keys["id"].to_list() for side in self._sides]
        # Steps name problems by id, and the arrays below go by the number of the row.
        self._rows = tuple(dict(zip(one, range(len(one)), strict=True)) for one in ids)
        self._hashes = tuple(side.keys["image_hashes"].to_list() for side in self._sides)
        self._bytes = tuple(side.keys["bytes"].to_list() for side in self._sides)
        self._thumbnails: tuple[dict[int, list[bytes]], ...] = ({}, {})

    def both_have_images(self, id_: str, other: str) -> bool:
        """Whether both problems have images."""
        one, two = self._rows[0][id_], self._rows[1][other]
        return bool(self._hashes[0][one]) and bool(self._hashes[1][two])

    def same(self, id_: str, other: str) -> bool:
        """Whether both problems have as many images, and each is the same as its partner."""
        return self._same(self._rows[0][id_], self._rows[1][other])

    def equal_bytes(self, id_: str, other: str) -> bool:
        """Whether both problems have the same image bytes, or both have no image."""
        return bool(self._bytes[0][self._rows[0][id_]] == self._bytes[1][self._rows[1][other]])

    def prepare(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Reads the thumbnails that `same` needs for some pairs of ids, and no others."""
        candidates = [
            (self._rows[0][id_], self._rows[1][other])
            for id_, other in pairs
            if self.both_have_images(id_, other)
        ]
        # Hashes rule most pairs out; a thumbnail of 12 KB is read for the rest only.
        self._read([pair for pair in candidates if self._may_be_same(*pair)])

    def all_pairs(self) -> Iterator[tuple[str, str]]:
        """The ids of problems with the same images, each problem with one of the benchmark's."""
        ids = [side.keys["id"] for side in self._sides]
        candidates = list(self._candidates())
        self._read(candidates)
        done: set[int] = set()
        # One hit is enough to drop a row, so the other partners are not compared.
        for row, partner in candidates:
            if row not in done and self._same(row, partner):
                done.add(row)
                yield ids[0][row], ids[1][partner]

    def _candidates(self) -> Iterator[tuple[int, int]]:
        """Pairs of rows whose hashes allow their images to be the same.

        Rows with the same bytes are represented by the first of them on the benchmark's side.
        """
        groups = [groups_by_hashes(side.keys) for side in self._sides]
        for one, other in similar_groups(groups[0], groups[1], self._radius):
            # Reversed, so that the first of several partners with equal bytes remains.
            first = {self._bytes[1][partner]: partner for partner in reversed(groups[1][other][1])}
            for row in groups[0][one][1]:
                for partner in sorted(first.values()):
                    yield row, partner

    def _may_be_same(self, one: int, other: int) -> bool:
        ours, theirs = self._hashes[0][one], self._hashes[1][other]
        if not ours or len(ours) != len(theirs):
            return False
        return all(map(lambda a, b: look_alike(a, b, self._radius), ours, theirs))

    def _same(self, one: int, other: int) -> bool:
        if self._hashes[0][one] and self._bytes[0][one] == self._bytes[1][other]:
            return True
        # Hashes first: only candidates have had their thumbnails read.
        if not self._may_be_same(one, other):
            return False
        return all(map(same_image, self._thumbnails[0][one], self._thumbnails[1][other]))

    def _read(self, pairs: Sequence[tuple[int, int]]) -> None:
        """Reads the thumbnails of both sides of some pairs."""
        for side, columns in enumerate(self._sides):
            # Thumbnails stay for later calls: `same` asks for pairs in the order of hits.
            wanted = sorted({pair[side] for pair in pairs} - self._thumbnails[side].keys())
            found = read_thumbnails(columns.keys, columns.payload, wanted)
            self._thumbnails[side].update(found)
