"""Perceptual hashes and thumbnails: what two renderings of one image have in common.

An image is turned upright (EXIF), laid over white and, where it is transparent, over black, and
cropped to its content: borders and padding of one color go. Of the content two hashes are taken, so
that the false hit of one is not enough: **pHash** (signs of the low frequencies of a 32 x 32 cosine
transform against their median; Zauner 2010) and **dHash** (whether each of 8 x 9 cells is brighter
than its left neighbor); once of the whole and once of the centre, which finds small crops.
**Thumbnail**: 64 x 64 cells of mean color, stretched to the full range of brightness. Cells tell
puzzles of one template apart, which hashes cannot.

Decoding is most of the cost; ordinary PNGs have a decoder of their own (`omr_data.similar.png`).
"""

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from omr_data.records import ImageRef
from omr_data.similar import png
from omr_data.similar.kernels import compiled

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa
    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]
    Cells = NDArray[np.float32]

SIDE = 64
"""Cells of a thumbnail in each direction."""
HASHES = 4
"""Hashes of one look at an image: pHash and dHash of the whole, pHash and dHash of the centre."""
CELL, BLOCK = 46, 9.0
"""Largest difference, of 255, between two renderings of one image: of a cell, and of the mean of
4 x 4 cells. docs/dedup.md has the recall and the false merges that they were chosen by."""
BORDER = 24
"""Difference, of 255, up to which a pixel has the color of the border. JPEG makes up to 20."""
TRIMS = 3
"""How often a border is cropped: a frame, the padding inside of it, and the margin of the image."""
CONTENT = 0.25
"""Share of each side that content must have, or nothing is cropped: a dot on an empty canvas would
lose its place."""
CENTRE = 0.05
"""Share of each side that the centre leaves out."""
GREY = 12.0
"""Largest difference of two color channels of a cell, of 255, in an image that counts as grey."""
CROPPED, COLORED = 1, 2
"""Flags of a thumbnail: a border was cropped; the image has color."""


class ImageHashes(NamedTuple):
    """What is kept of one image."""

    hashes: tuple[int, ...]
    """Eight hashes of 64 bits: four over white and four over black, equal where it is opaque."""
    thumbnail: bytes
    """One thumbnail over white, and one over black where the image is transparent. Each is a byte
    of flags and 64 x 64 x 3 bytes of color."""


def image_hashes(data: bytes) -> ImageHashes:
    """The hashes and the thumbnail of an encoded image."""
    looks = [_look(pixels) for pixels in _decode(data)]
    hashes = [one for hashed, _ in looks for one in hashed]
    return ImageHashes(tuple((hashes * 2)[: 2 * HASHES]), b"".join(cells for _, cells in looks))


def _look(pixels: "Pixels") -> tuple[tuple[int, ...], bytes]:
    """The four hashes and the flagged thumbnail of upright, opaque pixels."""
    content = _trim(pixels)
    cells = _means(content)
    # Stretching undoes a darker or a paler rendering. A plain area has nothing to stretch.
    low, high = float(cells.min()), float(cells.max())
    if high - low > 2 * BORDER:
        cells = (cells - low) * np.float32(255 / (high - low))
    grey = cells @ _WEIGHTS
    # The centre is taken of the cells, which is a hundred times cheaper than of the pixels.
    center = _CENTER @ grey @ _CENTER.T
    flags = CROPPED * (content.shape != pixels.shape)
    flags += COLORED * bool(np.ptp(cells, 2).max() > GREY)
    thumbnail = bytes([flags]) + cells.round().astype(np.uint8).tobytes()
    return (*_hashes(grey), *_hashes(center)), thumbnail


def _trim(pixels: "Pixels") -> "Pixels":
    """The pixels without borders and padding of one color."""
    whole = pixels
    for _ in range(TRIMS):
        corner = pixels[0, 0].astype(np.int16)
        corners = pixels[[0, 0, -1, -1], [0, -1, 0, -1]].astype(np.int16)
        # Corners of different colors belong to a photograph, which has no border.
        if np.abs(corners - corner).max() > BORDER:
            return pixels
        top, bottom, left, right = content_box(pixels, corner)
        box = pixels[top:bottom, left:right]
        if box.shape == pixels.shape:
            return pixels
        if min(box.shape[0] / whole.shape[0], box.shape[1] / whole.shape[1]) < CONTENT:
            return whole
        pixels = box
    return pixels


@compiled
def content_box(pixels: "Pixels", corner: "NDArray[np.int16]") -> tuple[int, int, int, int]:
    """Top, bottom, left and right of the pixels whose color is not the corner's.

    From each side inwards, until a line with such a pixel: the inside is never looked at.

    Args:
        pixels: Shape (height, width, channels).
        corner: The color of the border, shape (channels,).
    """
    height, width, channels = pixels.shape
    edges = np.array([0, height, 0, width])
    for side in range(4):
        rows = side < 2
        step = 1 if side % 2 == 0 else -1
        at = 0 if side % 2 == 0 else (height if rows else width) - 1
        length = width if rows else height
        found = False
        while 0 <= at < (height if rows else width) and not found:
            for along in range(length):
                for channel in range(channels):
                    value = pixels[at, along, channel] if rows else pixels[along, at, channel]
                    if abs(np.int16(value) - corner[channel]) > BORDER:
                        found = True
                if found:
                    break
            if not found:
                at += step
        if not found:
            return 0, height, 0, width
        edges[side] = at if side % 2 == 0 else at + 1
    return edges[0], edges[1], edges[2], edges[3]


def _hashes(grey: "Cells") -> tuple[int, int]:
    """pHash and dHash of 64 x 64 cells."""
    small = grey.reshape(32, 2, 32, 2).mean((1, 3))
    low = (_COSINES @ small @ _COSINES.T).ravel()[1:]  # the first one is the mean
    wide = _COLUMNS @ grey @ _ROWS.T
    return _bits(low > np.partition(low, 31)[31]), _bits((wide[:, 1:] > wide[:, :-1]).ravel())


def _decode(data: bytes) -> "list[Pixels]":
    """Upright RGB pixels over white; over black too where the image is transparent."""
    pixels = png.decode(data)
    if pixels is None or b"eXIf" in data[:4096]:
        with Image.open(io.BytesIO(data)) as image:
            # Half the scale is enough for the thumbnail, and a quarter of the work for a JPEG.
            image.draft("RGB", (8 * SIDE, 8 * SIDE))
            upright = ImageOps.exif_transpose(image)
            alpha = upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info
            pixels = np.asarray(upright.convert("RGBA" if alpha else "RGB"))
    channels = pixels.shape[2]
    color, alphas = pixels, None
    if channels in (2, 4):
        color, alphas = pixels[..., :-1], pixels[..., -1:].astype(np.uint16)
    if color.shape[2] == 1:
        color = np.repeat(color, 3, 2)
    if alphas is None or alphas.min() == 255:
        return [np.ascontiguousarray(color)]
    light = color.astype(np.uint16) * alphas
    over_white = ((light + 255 * (255 - alphas)) // 255).astype(np.uint8)
    return [over_white, (light // 255).astype(np.uint8)]


def _means(pixels: "Pixels") -> "Cells":
    """Means of 64 x 64 cells. Images smaller than that are enlarged first."""
    if min(pixels.shape[:2]) < SIDE:
        size = (max(SIDE, pixels.shape[1]), max(SIDE, pixels.shape[0]))
        enlarged = Image.fromarray(np.ascontiguousarray(pixels)).resize(size)
        pixels = np.asarray(enlarged)
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
_WEIGHTS = np.array([0.299, 0.587, 0.114], np.float32)


def _zoom(margins: tuple[float, float]) -> "Cells":
    """A matrix that stretches the cells between two margins over all 64, by overlaps."""
    edges = np.linspace(SIDE * margins[0], SIDE * (1 - margins[1]), SIDE + 1)
    starts, ends = edges[:-1, None], edges[1:, None]
    overlap = np.minimum(ends, np.arange(1, SIDE + 1)) - np.maximum(starts, np.arange(SIDE))
    weights = np.clip(overlap, 0, None)
    return np.asarray(weights / weights.sum(1, keepdims=True), np.float32)


_CENTER = _zoom((CENTRE, CENTRE))


def image_columns(shard: "pa.Table", read_image: Callable[[ImageRef], bytes]) -> "pl.DataFrame":
    """The key columns of a shard's images.

    Args:
        shard: Records.
        read_image: Reads the original bytes of an image.

    Returns:
        `image_hashes` (eight of each image), `bytes` (the sha256 of each image) and the payload
        column `thumbnails`.
    """
    import polars as pl

    frame = pl.DataFrame(pl.from_arrow(shard.select(["images"])))
    known: dict[str, ImageHashes] = {}
    rows: list[list[dict[str, Any]]] = frame["images"].to_list()
    for images in rows:
        for image in images:
            # Many rows may ask about one image; it is decoded once in a shard.
            if image["sha256"] not in known:
                known[image["sha256"]] = image_hashes(read_image(ImageRef(**image)))
    found = [[known[image["sha256"]] for image in images] for images in rows]
    hashes = [[one.hashes for one in images] for images in found]
    thumbnails = [[one.thumbnail for one in images] for images in found]
    shas = frame["images"].list.eval(pl.element().struct.field("sha256"))
    return pl.DataFrame(
        {
            "image_hashes": pl.Series(hashes, dtype=pl.List(pl.Array(pl.UInt64, 2 * HASHES))),
            "bytes": shas.list.join(" ").fill_null(""),
            "thumbnails": pl.Series(thumbnails, dtype=pl.List(pl.Binary)),
        }
    )
