"""Which rows have the same images: candidates by perceptual hashes, decided cell by cell."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from omr_data.similar.clusters import groups_of
from omr_data.similar.images import _WEIGHTS, BLOCK, CELL, COLORED, CROPPED, HASHES, SIDE, _zoom

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

    Cells = NDArray[np.float32]
    Items = NDArray[np.int64]

SQUARE = 64
"""Groups of this many rows give all their pairs. Of larger ones, only rows that share a band of
their words do: 100 puzzles of one template would be 4,950 pairs."""
STEP = 1 + SIDE * SIDE * 3
"""Bytes of one thumbnail."""
MARGINS = tuple(
    (left, right) for left in (0.0, 0.025, 0.05) for right in (0.0, 0.025, 0.05) if left or right
)
"""Crops of one direction that are tried before two photographs count as different."""


def near(ours: "NDArray[np.uint64]", theirs: "NDArray[np.uint64]", radius: int) -> "Items":
    """Pairs whose hashes differ in at most `radius` bits each, shape (pairs, 2).

    Compares all with all, in blocks: about 500 million pairs a second.

    Args:
        ours: pHash and dHash of some images, shape (images, 2).
        theirs: The same of others.
        radius: The most bits that differ, in BOTH hashes.
    """
    found = []
    step = max(1, 2**22 // max(1, len(theirs)))
    for start in range(0, len(ours), step):
        block = ours[start : start + step]
        close = np.bitwise_count(block[:, None, 0] ^ theirs[None, :, 0]) <= radius
        rows, columns = np.nonzero(close)
        both = np.bitwise_count(block[rows, 1] ^ theirs[columns, 1]) <= radius
        found.append(np.stack([rows[both] + start, columns[both]], 1))
    return np.concatenate(found) if found else np.zeros((0, 2), np.int64)


def look_alike(one: Sequence[int], other: Sequence[int], radius: int) -> bool:
    """Whether the eight hashes of two images allow them to be one.

    Args:
        one: The hashes of an image.
        other: The hashes of another.
        radius: The most bits that differ in both hashes of some pair of looks.
    """
    for ours in range(0, 2 * HASHES, 2):
        for theirs in range(0, 2 * HASHES, 2):
            first = (one[ours] ^ other[theirs]).bit_count()
            if first <= radius and (one[ours + 1] ^ other[theirs + 1]).bit_count() <= radius:
                return True
    return False


def same_image(one: bytes, other: bytes) -> bool:
    """Whether two thumbnails are of one image, over white or over black."""
    for ours in range(0, len(one), STEP):
        for theirs in range(0, len(other), STEP):
            if _same_look(one[ours : ours + STEP], other[theirs : theirs + STEP]):
                return True
    return False


def _same_look(one: bytes, other: bytes) -> bool:
    """Whether two flagged thumbnails agree, cell by cell."""
    first, second = _cells(one), _cells(other)
    # Where one of them has no color, the other one's color says nothing.
    if not one[0] & other[0] & COLORED:
        first, second = first @ _WEIGHTS, second @ _WEIGHTS
    else:
        first, second = first.reshape(SIDE, -1), second.reshape(SIDE, -1)
        first, second = first.reshape(SIDE, SIDE, 3), second.reshape(SIDE, SIDE, 3)
    if _agree(first, second):
        return True
    # A crop moves every cell. Cropped borders are undone before; a photograph has none.
    if (one[0] | other[0]) & CROPPED:
        return False
    return _same_crop(first, second) or _same_crop(second, first)


def _same_crop(whole: "Cells", part: "Cells") -> bool:
    """Whether `part` is `whole` without a small margin. Blocks decide: cells never fit exactly."""
    blocks = _blocks(part)
    for rows in MARGINS:
        down = np.tensordot(_ZOOMS[rows], whole, 1)
        for columns in MARGINS:
            cells = np.moveaxis(np.tensordot(_ZOOMS[columns], down, (1, 1)), 0, 1)
            if np.abs(_blocks(cells) - blocks).max() <= BLOCK:
                return True
    return False


_ZOOMS = {margins: _zoom(margins) for margins in MARGINS}


def _cells(thumbnail: bytes) -> "Cells":
    flat = np.frombuffer(thumbnail, np.uint8, offset=1)
    return flat.reshape(SIDE, SIDE, 3).astype(np.float32)


def _blocks(cells: "Cells") -> "Cells":
    """Means of 4 x 4 cells."""
    return np.asarray(cells.reshape(SIDE // 4, 4, SIDE // 4, 4, -1).mean((1, 3)), np.float32)


def _agree(first: "Cells", second: "Cells") -> bool:
    """Whether no cell and no block differs by more than renderings of one image do."""
    difference = first - second
    if np.abs(difference).max() > CELL:
        return False
    return bool(np.abs(_blocks(difference)).max() <= BLOCK)


class NearImages:
    """Finds rows whose images may be the same, and says which are."""

    def __init__(self, rows: "pl.DataFrame", payload: "pl.LazyFrame", radius: int) -> None:
        """Groups the rows by their hashes.

        Args:
            rows: The key columns, in order of who is kept.
            payload: A lazy scan of the thumbnails.
            radius: The most bits that the hashes of candidates differ in.
        """
        self._rows, self._payload, self._radius = rows, payload, radius
        self._bytes = rows["bytes"].to_list()
        self._thumbnails: dict[int, list[bytes]] = {}
        self._groups = groups_by_hashes(rows)

    def pairs_of_groups(self) -> Iterator[list[int]]:
        """The rows of each group, and of each two groups that look alike, ascending."""
        for _, members in self._groups:
            yield members
        for one, other in similar_groups(self._groups, self._groups, self._radius):
            if one < other:
                yield sorted((*self._groups[one][1], *self._groups[other][1]))

    def linking_pairs(self) -> Iterator[tuple[int, int]]:
        """Pairs that are enough to join all rows whose images look alike."""
        for members in self.pairs_of_groups():
            if len(members) <= SQUARE:
                yield from _all_pairs(members)
            else:
                yield from ((members[0], row) for row in members[1:])

    def pairs_with_words(self) -> Iterator[tuple[int, int]]:
        """Pairs of rows whose images look alike and whose words may be similar."""
        bands = self._rows["bands"].to_numpy()
        seen: set[tuple[int, int]] = set()
        for members in self.pairs_of_groups():
            pairs = _all_pairs(members) if len(members) <= SQUARE else _banded(bands, members)
            for pair in pairs:
                if pair not in seen:
                    seen.add(pair)
                    yield pair

    def same(self, one: int, other: int) -> bool:
        """Whether all images of two rows are the same."""
        if self._bytes[one] == self._bytes[other]:
            return True
        ours, theirs = self._read(one), self._read(other)
        return all(same_image(first, second) for first, second in zip(ours, theirs, strict=True))

    def _read(self, row: int) -> list[bytes]:
        """The thumbnails of a row. The first call reads those of all rows in some larger group."""
        if not self._thumbnails:
            self._thumbnails = read_thumbnails(self._rows, self._payload, self._candidates())
        return self._thumbnails[row]

    def _candidates(self) -> list[int]:
        """The rows that look like some other row."""
        some = {row for members in self.pairs_of_groups() if len(members) > 1 for row in members}
        return sorted(some)


def _all_pairs(members: Sequence[int]) -> Iterator[tuple[int, int]]:
    for place, other in enumerate(members):
        for one in members[:place]:
            yield one, other


def _banded(bands: "NDArray[np.uint64]", members: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Of a large group, each row with the first one that shares a band of its words."""
    items = np.array(members, np.int64)
    for column in range(bands.shape[1]):
        groups = groups_of(bands[items, column].copy(), items)
        for start, stop in zip(groups.edges[:-1].tolist(), groups.edges[1:].tolist(), strict=True):
            group = groups.members[start:stop].tolist()
            yield from (
                _all_pairs(group)
                if len(group) <= SQUARE
                else zip([group[0]] * len(group), group[1:], strict=False)
            )


def groups_by_hashes(rows: "pl.DataFrame") -> list[tuple[list[list[int]], list[int]]]:
    """The hashes that rows with images have, each with its rows."""
    import polars as pl

    some = rows.select("image_hashes").with_row_index("row")
    imaged = some.filter(pl.col("image_hashes").list.len() > 0)
    grouped = imaged.group_by("image_hashes", maintain_order=True).agg("row")
    return [(images, members) for images, members in grouped.iter_rows()]


def similar_groups(
    ours: Sequence[tuple[list[list[int]], list[int]]],
    theirs: Sequence[tuple[list[list[int]], list[int]]],
    radius: int,
) -> list[tuple[int, int]]:
    """Pairs of groups with as many images, each of which looks like its partner.

    Args:
        ours: Hashes and rows, as `groups_by_hashes` returns them.
        theirs: The same of others.
        radius: The most bits that hashes differ in.
    """
    looks = [
        np.array([images[0] for images, _ in side], np.uint64).reshape(-1, 2 * HASHES)
        for side in (ours, theirs)
    ]
    found: set[tuple[int, int]] = set()
    # The first image finds candidates, with each of its looks against each of the others.
    for left in range(0, 2 * HASHES, 2):
        for right in range(0, 2 * HASHES, 2):
            one = looks[0][:, left : left + 2]
            other = looks[1][:, right : right + 2]
            found.update(map(tuple, near(one, other, radius).tolist()))
    return sorted(
        (one, other)
        for one, other in found
        if len(ours[one][0]) == len(theirs[other][0])
        and all(map(lambda a, b: look_alike(a, b, radius), ours[one][0], theirs[other][0]))
    )


def read_thumbnails(
    rows: "pl.DataFrame", payload: "pl.LazyFrame", wanted: Sequence[int]
) -> dict[int, list[bytes]]:
    """The thumbnails of some rows, by the number of the row.

    Args:
        rows: The key columns; their order numbers the rows.
        payload: A lazy scan of the thumbnails.
        wanted: The numbers of the rows.
    """
    import polars as pl

    places = pl.Series(list(wanted), dtype=pl.Int64)
    numbers = pl.LazyFrame({"id": rows["id"].gather(places), "row": places})
    joined = payload.join(numbers, on="id", how="inner").select("row", "thumbnails")
    return dict(joined.collect().iter_rows())
