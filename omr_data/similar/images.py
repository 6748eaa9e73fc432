"""Perceptual hashes: images that look alike have hashes that differ in few bits, through rescaling, JPEG and small crops.

Two kinds, so that one's false hit is not enough: **pHash** (signs of the low frequencies of a 32 x 32 cosine transform
against their median; Zauner 2010) and **dHash** (is each of 8 x 9 cells brighter than its left neighbor). **Thumbnail**: 64 x 64
cells of mean color, which tells puzzles of one template apart where hashes cannot.

Decoding is most of the cost: PNGs have a decoder of their own, JPEGs are decoded at a smaller scale where hashes are all that
is wanted.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from PIL import Image

from omr_data.records import ImageRef
from omr_data.similar import png
from omr_data.similar.kernels import compiled

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa
    from numpy.typing import NDArray

Seen = TypeVar("Seen")
SIDE = 64
BITS = 64
CELL, BLOCK = 46, 9.0
"""Largest difference, of 255, between two renderings of one image: of a cell, and of the mean of 4 x 4 cells. On PuzzleVQA
copies (rescaled to 0.5 and 1.3, JPEG quality 50 to 75) reach 40 and 8.3; two different puzzles exceed at least one of the
two (53 in a cell, where one small digit differs; 16 in a block, where yellow differs from orange)."""


class Looks(NamedTuple):
    """What is kept of an image: two hashes of 64 bits, and its thumbnail as 64 x 64 x 3 bytes."""

    phash: int
    dhash: int
    thumbnail: bytes


def looks(data: bytes) -> Looks:
    """The looks of an encoded image, decoded whole. Transparent pixels are white."""
    pixels = _png(data)
    cells = _small(data, "RGB", 0) if pixels is None else _means(pixels)
    return Looks(*_hashes(cells @ _GREY), cells.round().astype(np.uint8).tobytes())


def hashes(data: bytes) -> tuple[int, int]:
    """(phash, dhash) of an encoded image: JPEGs are decoded in grey and at the smallest scale that has enough pixels."""
    pixels = _png(data)
    return _hashes(_small(data, "L", 2 * SIDE) if pixels is None else _means(pixels) @ _GREY)


def _hashes(grey: "NDArray[np.float32]") -> tuple[int, int]:
    small = grey.reshape(32, 2, 32, 2).mean((1, 3))
    low = (_COSINES @ small @ _COSINES.T).ravel()[1:]  # without the mean
    wide = _COLUMNS @ grey @ _ROWS.T
    return _bits(low > np.partition(low, 31)[31]), _bits((wide[:, 1:] > wide[:, :-1]).ravel())


def _small(data: bytes, mode: str, least: int) -> "NDArray[np.float32]":
    """Means of 64 x 64 cells by Pillow. A JPEG may be decoded at any scale with `least` pixels a side; 0 is full scale."""
    with Image.open(io.BytesIO(data)) as image:
        if least:
            image.draft(mode, (least, least))
        if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
            whole = Image.new("RGBA", image.size, "white")
            whole.alpha_composite(image.convert("RGBA"))
            image = whole  # type: ignore[assignment]
        return np.asarray(
            image.convert(mode).resize((SIDE, SIDE), Image.Resampling.BOX), np.float32
        )


def _png(data: bytes) -> "NDArray[np.uint8] | None":
    """The RGB pixels of an ordinary PNG that is not smaller than its thumbnail."""
    pixels = png.decode(data)
    if pixels is None or min(pixels.shape[:2]) < SIDE:
        return None
    channels = pixels.shape[2]
    if channels in (2, 4):
        alpha = pixels[..., -1:].astype(np.uint16)
        if alpha.min() < 255:
            color = pixels[..., :-1].astype(np.uint16)
            pixels = ((color * alpha + 255 * (255 - alpha)) // 255).astype(np.uint8)
        else:
            pixels = pixels[..., :-1]
    return np.repeat(pixels, 3, 2) if pixels.shape[2] == 1 else pixels


def _means(pixels: "NDArray[np.uint8]") -> "NDArray[np.float32]":
    """Means of 64 x 64 cells, by whole pixels as Pillow's box filter takes them."""
    height, width, channels = pixels.shape
    cells = np.empty((SIDE, SIDE, channels), np.float32)
    box_means(np.ascontiguousarray(pixels).reshape(height, -1), width, cells)
    return cells


@compiled
def box_means(rows: "NDArray[np.uint8]", width: int, cells: "NDArray[np.float32]") -> None:
    """A pixel belongs to the cell that its centre is in. Rows are added up first, which is fast, and then their columns."""
    height, side, channels = len(rows), cells.shape[0], cells.shape[2]
    sums = np.empty(rows.shape[1], np.uint32)
    for down in range(side):
        top, bottom = (
            (2 * down * height + side) // (2 * side),
            (2 * (down + 1) * height + side) // (2 * side),
        )
        sums[:] = 0
        for row in range(top, bottom):
            for at in range(len(sums)):
                sums[at] += rows[row, at]
        for across in range(side):
            left, right = (
                (2 * across * width + side) // (2 * side),
                (2 * (across + 1) * width + side) // (2 * side),
            )
            for channel in range(channels):
                total = np.uint64(0)
                for at in range(left, right):
                    total += sums[at * channels + channel]
                cells[down, across, channel] = total / ((bottom - top) * (right - left))


def _bits(flags: "NDArray[np.bool_]") -> int:
    """Up to 64 flags as one number, the first one highest."""
    return int.from_bytes(np.packbits(flags).tobytes())


def _boxes(cells: int) -> "NDArray[np.float32]":
    """A matrix that takes means of 64 places in so many cells of equal width."""
    edges = np.linspace(0, SIDE, cells + 1)
    overlap = np.minimum(edges[1:, None], np.arange(1, SIDE + 1)) - np.maximum(
        edges[:-1, None], np.arange(SIDE)
    )
    return np.asarray(np.clip(overlap, 0, None) * cells / SIDE, np.float32)


_COSINES = np.cos(np.pi / 32 * np.outer(np.arange(8), np.arange(32) + 0.5)).astype(np.float32)
_COLUMNS, _ROWS = _boxes(8), _boxes(9)
_GREY = np.array([0.299, 0.587, 0.114], np.float32)


def near(
    ours: "NDArray[np.uint64]", theirs: "NDArray[np.uint64]", radius: int
) -> "NDArray[np.int64]":
    """Pairs (i, j) with ours[i] and theirs[j] within `radius` in BOTH hashes, shape (pairs, 2).

    Hashes have the shape (images, 2). Compares all with all, in blocks: about 500 million pairs a second.
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


def same_image(one: bytes, other: bytes) -> bool:
    """Whether two thumbnails are of one image."""
    first, second = (
        np.frombuffer(thumbnail, np.uint8).astype(np.float32).reshape(SIDE, SIDE, 3)
        for thumbnail in (one, other)
    )
    apart = first - second
    blocks = apart.reshape(SIDE // 4, 4, SIDE // 4, 4, 3).mean((1, 3))
    return bool(np.abs(apart).max() <= CELL and np.abs(blocks).max() <= BLOCK)


def hash_columns(shard: "pa.Table", read_image: Callable[[ImageRef], bytes]) -> "pl.DataFrame":
    """`id`, `source` and `image_hashes`: [phash, dhash] of each image of a row."""
    import polars as pl

    frame = pl.DataFrame(pl.from_arrow(shard.select(["id", "source", "images"])))
    found = _see(frame["images"].to_list(), read_image, hashes)
    return frame.select(
        "id", "source", pl.Series("image_hashes", found, pl.List(pl.Array(pl.UInt64, 2)))
    )


def look_columns(shard: "pa.Table", read_image: Callable[[ImageRef], bytes]) -> "pl.DataFrame":
    """As `hash_columns`, with `thumbnails` and `bytes`: the cells of the images, and their sha256."""
    import polars as pl

    frame = pl.DataFrame(pl.from_arrow(shard.select(["id", "source", "images"])))
    found = _see(frame["images"].to_list(), read_image, looks)
    return frame.select(
        "id",
        "source",
        pl.Series(
            "image_hashes",
            [[one[:2] for one in row] for row in found],
            pl.List(pl.Array(pl.UInt64, 2)),
        ),
        pl.Series(
            "thumbnails", [[one.thumbnail for one in row] for row in found], pl.List(pl.Binary)
        ),
        pl.col("images")
        .list.eval(pl.element().struct.field("sha256"))
        .list.join(" ")
        .alias("bytes"),
    )


def _see(
    rows: "list[list[dict[str, Any]]]",
    read_image: Callable[[ImageRef], bytes],
    see: Callable[[bytes], Seen],
) -> list[list[Seen]]:
    """What is seen in each image of each row; an image that several rows of the shard have is decoded once."""
    known: dict[str, Seen] = {}
    for image in (image for images in rows for image in images):
        if image["sha256"] not in known:
            known[image["sha256"]] = see(read_image(ImageRef(**image)))
    return [[known[image["sha256"]] for image in images] for images in rows]


def similar_images(
    ours: "pl.DataFrame", theirs: "pl.DataFrame", radius: int
) -> "Iterator[tuple[list[int], list[int]]]":
    """Groups of rows: as many images, and each like its partner. The rows of a group have equal hashes, so that images
    which many rows have are compared once. Within one frame, a group comes with itself too, and a pair of groups once."""
    left = _by_looks(ours)
    right = left if ours is theirs else _by_looks(theirs)
    first = [
        np.array([images[0] for images, _ in side], np.uint64).reshape(-1, 2)
        for side in (left, right)
    ]
    for one, other in near(first[0], first[1], radius).tolist():
        images, partners = left[one][0], right[other][0]
        if ours is theirs and one > other:
            continue
        if len(images) == len(partners) and all(
            _within(a, b, radius) for a, b in zip(images, partners, strict=True)
        ):
            yield left[one][1], right[other][1]


def _by_looks(frame: "pl.DataFrame") -> list[tuple[list[list[int]], list[int]]]:
    import polars as pl

    rows = (
        frame.select("image_hashes")
        .with_row_index("row")
        .filter(pl.col("image_hashes").list.len() > 0)
    )
    return [
        (images, members)
        for images, members in rows.group_by("image_hashes", maintain_order=True)
        .agg("row")
        .iter_rows()
    ]


def _within(one: Sequence[int], other: Sequence[int], radius: int) -> bool:
    return all((a ^ b).bit_count() <= radius for a, b in zip(one, other, strict=True))
