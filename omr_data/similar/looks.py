"""Which rows have the same images: candidates by perceptual hashes, decided cell by cell."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from omr_data.similar.clusters import groups_of
from omr_data.similar.images import (
    BORDER,
    BORDERLESS,
    COLORED,
    CROPPED,
    LOOKS,
    SIDE,
    WEIGHTS,
    zoom,
)

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
CROPS = (0.0, 0.0125, 0.025, 0.0375, 0.05)
"""Margins of each side that are tried before two photographs count as different."""
SHIFTS = (-0.5, -0.375, -0.25, -0.125, 0.0, 0.125, 0.25, 0.375, 0.5)
"""Cells that each edge of the content may have moved: blurred edges are cropped a pixel off."""
CELL, BLOCK = 50.0, 12.0
"""Largest difference, of 255, between two renderings of one image: of a cell, and of the mean of
4 x 4 cells. Renderings of charts, diagrams and puzzles reach 33 and 11; one changed number makes 81
in a cell, another color 135 in a block."""
PHOTO_CELL = 60.0
"""The same for a cell of a photograph that was cropped: cells then never fit exactly."""
HOPELESS = 45.0
"""Difference of a block, of 255, from which moving edges is not tried."""


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
        # dHash only for the few pairs that pHash left.
        found.append(np.stack([rows[both] + start, columns[both]], 1))
    return np.concatenate(found) if found else np.zeros((0, 2), np.int64)


def look_alike(one: Sequence[int], other: Sequence[int], radius: int) -> bool:
    """Whether the eight hashes of two images allow them to be one.

    Args:
        one: The hashes of an image.
        other: The hashes of another.
        radius: The most bits that differ in both hashes of some pair of looks.
    """
    # Any look may match any other: one copy may be cropped, padded or laid over black.
    for ours in range(0, 2 * LOOKS, 2):
        for theirs in range(0, 2 * LOOKS, 2):
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
    # Where one of them has no color, the other one's color says nothing.
    colored = bool(one[0] & other[0] & COLORED)
    first, second = _stretched(_cells(one), colored), _stretched(_cells(other), colored)
    if _agree(first, second, CELL):
        return True
    # The content of two renderings is cropped up to half a cell apart.
    if one[0] & other[0] & CROPPED and np.abs(_blocks(first - second)).max() <= HOPELESS:
        return _agree(_fitted(first, second, SHIFTS), second, CELL)
    # A crop moves every cell of a photograph, which has no border to go by.
    if one[0] & other[0] & BORDERLESS:
        # What was cropped away may have been the darkest part, so that nothing is stretched here.
        first, second = _cells(one), _cells(other)
        crops = tuple(SIDE * crop for crop in CROPS)
        forth = _agree(_fitted(first, second, crops), second, PHOTO_CELL)
        return forth or _agree(_fitted(second, first, crops), first, PHOTO_CELL)
    return False


def _stretched(cells: "Cells", colored: bool) -> "Cells":
    """Cells stretched to the full range of brightness, which undoes a darker or paler rendering.

    Brightness is that of the grey image, so that an image and its grey copy stretch alike.
    """
    grey = cells @ WEIGHTS
    low, high = float(grey.min()), float(grey.max())
    shown = cells if colored else grey[..., None]
    # A plain area has nothing to stretch but noise.
    if high - low <= 2 * BORDER:
        return shown
    return np.asarray((shown - low) * (255 / (high - low)), np.float32)


def _fitted(whole: "Cells", part: "Cells", margins: Sequence[float]) -> "Cells":
    """`whole` with the margins, in cells, that make it most like `part`.

    All four edges together first, then one after the other, twice: all combinations of five
    margins would be 625.
    """
    tried = [[margin] * 4 for margin in margins]
    edges = min(tried, key=lambda four: _error(whole, part, four))
    for edge in (0, 1, 2, 3) * 2:
        tried = [[*edges[:edge], margin, *edges[edge + 1 :]] for margin in margins]
        edges = min(tried, key=lambda four: _error(whole, part, four))
    return _zoomed(whole, edges)


def _error(whole: "Cells", part: "Cells", margins: Sequence[float]) -> float:
    """The squared difference that is left with some margins."""
    return float(np.square(_zoomed(whole, margins) - part).sum())


def _zoomed(cells: "Cells", margins: Sequence[float]) -> "Cells":
    """The inside of cells, stretched over all: margins at the top, bottom, left and right."""
    # Matrices are cached: the same margins are tried for every pair.
    down = _zoom_matrix(margins[0], margins[1])
    across = _zoom_matrix(margins[2], margins[3])
    rows = np.tensordot(down, cells, 1)
    return np.asarray(np.moveaxis(np.tensordot(across, rows, (1, 1)), 0, 1), np.float32)


@lru_cache(maxsize=256)
def _zoom_matrix(before: float, after: float) -> "Cells":
    return zoom((before / SIDE, after / SIDE))


def _cells(thumbnail: bytes) -> "Cells":
    flat = np.frombuffer(thumbnail, np.uint8, offset=1)
    return flat.reshape(SIDE, SIDE, 3).astype(np.float32)


def _blocks(cells: "Cells") -> "Cells":
    """Means of 4 x 4 cells."""
    return np.asarray(cells.reshape(SIDE // 4, 4, SIDE // 4, 4, -1).mean((1, 3)), np.float32)


def _agree(first: "Cells", second: "Cells", cell: float) -> bool:
    """Whether no cell and no block differs by more than renderings of one image do."""
    difference = first - second
    # The largest difference and no mean: one changed number is a few cells of 4,096.
    if np.abs(difference).max() > cell:
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
                # n - 1 pairs instead of n squared; a copy of the first row finds its group.
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
            some: set[int] = set()
            # A row alone in its group is never compared.
            for members in self.pairs_of_groups():
                if len(members) > 1:
                    some.update(members)
            self._thumbnails = read_thumbnails(self._rows, self._payload, sorted(some))
        return self._thumbnails[row]


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
            # A template with one wording can still be thousands of rows.
            if len(group) <= SQUARE:
                yield from _all_pairs(group)
            else:
                yield from ((group[0], row) for row in group[1:])


def groups_by_hashes(rows: "pl.DataFrame") -> list[tuple[list[list[int]], list[int]]]:
    """The hashes that rows with images have, each with its rows."""
    import polars as pl

    some = rows.select("image_hashes").with_row_index("row")
    # Grouped by all hashes of all images: equal bytes always share a group.
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
    flat = [first_looks(side) for side in (ours, theirs)]
    pairs = near(flat[0][0], flat[1][0], radius)
    # The first image finds candidates, by any of its looks.
    found = set(
        zip(flat[0][1][pairs[:, 0]].tolist(), flat[1][1][pairs[:, 1]].tolist(), strict=True)
    )
    return sorted(
        (one, other)
        for one, other in found
        if len(ours[one][0]) == len(theirs[other][0])
        and all(map(lambda a, b: look_alike(a, b, radius), ours[one][0], theirs[other][0]))
    )


def first_looks(
    groups: Sequence[tuple[list[list[int]], list[int]]],
) -> "tuple[NDArray[np.uint64], Items]":
    """The distinct looks at the first image of each group, and the group of each."""
    looks: list[tuple[int, tuple[int, ...]]] = []
    for number, (images, _) in enumerate(groups):
        # An opaque image without a border repeats two looks, which would be compared again.
        distinct = {tuple(images[0][at : at + 2]) for at in range(0, 2 * LOOKS, 2)}
        looks.extend((number, look) for look in sorted(distinct))
    hashes = np.array([look for _, look in looks], np.uint64).reshape(-1, 2)
    return hashes, np.array([number for number, _ in looks], np.int64)


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

    # A join and no filter by id: the answer needs the number of each row anyway.
    places = pl.Series(list(wanted), dtype=pl.Int64)
    numbers = pl.LazyFrame({"id": rows["id"].gather(places), "row": places})
    joined = payload.join(numbers, on="id", how="inner").select("row", "thumbnails")
    return dict(joined.collect().iter_rows())
