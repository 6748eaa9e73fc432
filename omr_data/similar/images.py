"""Perceptual hashes and thumbnails: what two renderings of one image have in common.

An image is turned upright (EXIF), laid over white and, where it is transparent, over black, and
cropped to its content: borders and padding of one color go. Of the content two hashes are taken, so
that the false hit of one is not enough: **pHash** (signs of the low frequencies of a 32 x 32 cosine
transform against their median; Zauner 2010) and **dHash** (whether each of 8 x 9 cells is brighter
than its left neighbor); once of the whole and once of the center, which finds small crops.
**Thumbnail**: 64 x 64 cells of mean color. Cells tell puzzles of one template apart, which hashes
cannot (`omr_data.similar.looks`).

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
LOOKS = 4
"""Looks at an image of which hashes are kept."""
BORDER = 24
"""Difference, of 255, up to which a pixel has the color of the border. JPEG makes up to 20."""
TRIMS = 3
"""How often a border is cropped: a frame, the padding inside of it, and the margin of the image."""
CONTENT = 0.25
"""Share of each side that content must have, or nothing is cropped: a dot on an empty canvas would
lose its place."""
NARROW = 0.8
"""Share of the area from which content fills the image, so that it may be a cropped photograph."""
CENTER = 0.05
"""Share of each side that the center leaves out."""
GREY = 12.0
"""Largest difference of two color channels of a cell, of 255, in an image that counts as grey."""
CROPPED, COLORED, BORDERLESS = 1, 2, 4
"""Flags of a thumbnail: a border was cropped; the image has color; the image has no border."""


class ImageHashes(NamedTuple):
    """What is kept of one image."""

    hashes: tuple[int, ...]
    """pHash and dHash of four looks: the whole, the content, the center of the content, and the
    content over black. Looks that an image does not have repeat the content."""
    thumbnail: bytes
    """The thumbnails of the whole and of the content, over white, and over black where the image
    is transparent; equal ones once. Each is a byte of flags and 64 x 64 x 3 bytes of color."""


def image_hashes(data: bytes) -> ImageHashes:
    """The hashes and the thumbnails of an encoded image."""
    thumbnails: list[bytes] = []
    hashes: list[tuple[int, int]] = []
    for pixels in _decode(data):
        content = _trim(pixels)
        trimmed = content.shape != pixels.shape
        cells = _means(content)
        grey = cells @ WEIGHTS
        if trimmed:
            whole = _means(pixels)
            # A photograph may have an even strip at its edge, which is not a border.
            even = content.shape[0] * content.shape[1] >= NARROW * pixels[..., 0].size
            thumbnails.append(_packed(whole, BORDERLESS if even else 0))
            hashes.append(_hashes(whole @ WEIGHTS))
        else:
            hashes.append(_hashes(grey))
        thumbnails.append(_packed(cells, CROPPED if trimmed else BORDERLESS))
        # The center is taken of the cells, which is a hundred times cheaper than of the pixels.
        hashes += [_hashes(grey), _hashes(_CENTER @ grey @ _CENTER.T)]
    # An opaque image has three looks; its content then stands for the fourth.
    over_black = hashes[4] if len(hashes) > 3 else hashes[1]
    four = (*hashes[0], *hashes[1], *hashes[2], *over_black)
    return ImageHashes(four, b"".join(thumbnails))


def _packed(cells: "Cells", flags: int) -> bytes:
    """One thumbnail."""
    # Compression gives the cells of a grey image a little color.
    colored = COLORED * bool(np.ptp(cells, 2).max() > GREY)
    return bytes([flags + colored]) + cells.round().astype(np.uint8).tobytes()


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
        # Repeated, since a frame often has padding of another color inside.
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
            # One pixel of another color ends the border: thin lines are content too.
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
    # Matrices and no resizing: the sums are those of `box_means`, at any size of the image.
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
    # Over white alone, a white drawing on a transparent ground would be an empty image.
    light = color.astype(np.uint16) * alphas
    over_white = ((light + 255 * (255 - alphas)) // 255).astype(np.uint8)
    return [over_white, (light // 255).astype(np.uint8)]


def _means(pixels: "Pixels") -> "Cells":
    """Means of 64 x 64 cells. Images smaller than that are enlarged first."""
    if min(pixels.shape[:2]) < SIDE:
        size = (max(SIDE, pixels.shape[1]), max(SIDE, pixels.shape[0]))
        # Rare, and as small as it gets, so Pillow's default filter is good enough.
        enlarged = Image.fromarray(np.ascontiguousarray(pixels)).resize(size)
        pixels = np.asarray(enlarged)
    height, width, channels = pixels.shape
    cells = np.empty((SIDE, SIDE, channels), np.float32)
    box_means(np.ascontiguousarray(pixels).reshape(height, -1), width, cells)
    return cells


@compiled
def box_means(rows: "NDArray[np.uint8]", width: int, cells: "Cells") -> None:
    """Means over boxes that are cut through pixels, so that renderings of any size agree.

    Whole pixels would be twice as fast, and shift edges by up to half a pixel: an eighth of a cell
    in an image of 256 pixels, which is more than two puzzles of one template differ by.

    Args:
        rows: The pixels, shape (height, width * channels).
        width: Pixels in a row.
        cells: Receives the means, shape (cells, cells, channels).
    """
    height, side, channels = len(rows), cells.shape[0], cells.shape[2]
    sums = np.empty(rows.shape[1], np.float32)
    tall, wide = height / side, width / side
    for down in range(side):
        top, bottom = down * tall, (down + 1) * tall
        sums[:] = 0
        for row in range(int(top), min(height, int(np.ceil(bottom)))):
            share = np.float32(min(bottom, row + 1) - max(top, row))
            for at in range(len(sums)):
                sums[at] += share * rows[row, at]
        for across in range(side):
            left, right = across * wide, (across + 1) * wide
            for channel in range(channels):
                total = 0.0
                for at in range(int(left), min(width, int(np.ceil(right)))):
                    share = np.float32(min(right, at + 1) - max(left, at))
                    total += share * sums[at * channels + channel]
                cells[down, across, channel] = total / (tall * wide)


def _bits(flags: "NDArray[np.bool_]") -> int:
    """Up to 64 flags as one number, the first one highest."""
    return int.from_bytes(np.packbits(flags).tobytes())


def _boxes(cells: int) -> "NDArray[np.float32]":
    """A matrix that takes means of 64 places in a number of cells of equal width."""
    edges = np.linspace(0, SIDE, cells + 1)
    # 64 is not a multiple of 9: edges cut through places, which then count in part.
    overlap = np.minimum(edges[1:, None], np.arange(1, SIDE + 1)) - np.maximum(
        edges[:-1, None], np.arange(SIDE)
    )
    return np.asarray(np.clip(overlap, 0, None) * cells / SIDE, np.float32)


_COSINES = np.cos(np.pi / 32 * np.outer(np.arange(8), np.arange(32) + 0.5)).astype(np.float32)
_COLUMNS, _ROWS = _boxes(8), _boxes(9)
WEIGHTS = np.array([0.299, 0.587, 0.114], np.float32)


def zoom(margins: tuple[float, float]) -> "Cells":
    """A matrix that stretches what lies between two margins over all 64 cells, by overlaps.

    Args:
        margins: Shares of the side that are left out before and after. Negative ones add cells,
            which repeat the last one.
    """
    edges = np.linspace(SIDE * margins[0], SIDE * (1 - margins[1]), SIDE + 1)
    starts, ends = edges[:-1, None], edges[1:, None]
    left = np.arange(SIDE, dtype=np.float64)
    right = left + 1
    # The outermost cells reach beyond the image, for margins below 0.
    left[0], right[-1] = -SIDE, 2 * SIDE
    weights = np.clip(np.minimum(ends, right) - np.maximum(starts, left), 0, None)
    return np.asarray(weights / weights.sum(1, keepdims=True), np.float32)


_CENTER = zoom((CENTER, CENTER))


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
            "image_hashes": pl.Series(hashes, dtype=pl.List(pl.Array(pl.UInt64, 2 * LOOKS))),
            "bytes": shas.list.join(" ").fill_null(""),
            "thumbnails": pl.Series(thumbnails, dtype=pl.List(pl.Binary)),
        }
    )
