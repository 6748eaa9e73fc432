"""The pixels of ordinary PNGs, twice to three times as fast as libpng.

ISA-L inflates the data, and compiled loops undo the filters. **Ordinary**: 8 bits a channel, not
interlaced, no transparent color. All other files are left to Pillow, and so are broken ones, whose
errors it tells better. Checksums are not verified: whoever stored an image has decoded it once.
"""

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from isal import isal_zlib
from isal.igzip_lib import IsalError
from PIL import Image

from omr_data.similar.kernels import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def decode(data: bytes) -> "NDArray[np.uint8] | None":
    """The pixels of an ordinary PNG, shape (height, width, channels); None for any other file.

    Never inflates more bytes than the image has.
    """
    if data[:8] != SIGNATURE or data[12:16] != b"IHDR" or len(data) < 33:
        return None
    width, height, depth, kind, _, _, interlaced = struct.unpack(">IIBBBBB", data[16:29])
    if depth != 8 or interlaced or kind not in _CHANNELS:
        return None
    # Pillow's own limit holds here too; it raises the error for what is larger.
    if not 0 < width * height <= (Image.MAX_IMAGE_PIXELS or 2**31):
        return None
    chunks = list(_chunks(data))
    if any(name == b"tRNS" for name, _ in chunks):
        return None
    channels = _CHANNELS[kind]
    # Each line has one byte in front for its filter.
    size = height * (1 + width * channels)
    # max_length stops a bomb: a few kilobytes can inflate to gigabytes.
    try:
        raw = isal_zlib.decompressobj().decompress(
            b"".join(body for name, body in chunks if name == b"IDAT"), max_length=size
        )
    except IsalError:  # type: ignore[misc]  # the stub says an instance
        return None
    if len(raw) != size:
        return None
    pixels = np.empty((height, width * channels), np.uint8)
    if not unfilter(np.frombuffer(raw, np.uint8).reshape(height, -1), channels, pixels):
        return None
    pixels = pixels.reshape(height, width, channels)
    if kind != 3:
        return pixels

    palette = np.frombuffer(next((body for name, body in chunks if name == b"PLTE"), b""), np.uint8)
    # An index beyond the palette is an error that Pillow reports.
    if len(palette) % 3 or int(pixels.max()) >= len(palette) // 3:
        return None
    return palette.reshape(-1, 3)[pixels[..., 0]]


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and body of each chunk."""
    # A cut-off file ends the loop; the missing data is noticed when it is inflated.
    start = 8
    while start + 12 <= len(data):
        size = int.from_bytes(data[start : start + 4])
        yield data[start + 4 : start + 8], data[start + 8 : start + 8 + size]
        start += 12 + size


@compiled
def unfilter(lines: "NDArray[np.uint8]", step: int, pixels: "NDArray[np.uint8]") -> bool:
    """Undoes the filters of a PNG's lines (PNG specification, chapter 9).

    Args:
        lines: Each begins with the number of its filter, and then has as many bytes as a row of
            `pixels`.
        step: Bytes of a pixel.
        pixels: Receives the bytes, shape (height, width * step).

    Returns:
        False where a line has none of the five filters.
    """
    above = np.zeros(pixels.shape[1], np.uint8)
    for row in range(len(lines)):
        line, out = lines[row, 1:], pixels[row]
        kind = lines[row, 0]
        if kind == 0:
            out[:] = line
        elif kind == 1:
            # The first pixel of a line has none to its left, which counts as 0.
            out[:step] = line[:step]
            for at in range(step, len(out)):
                out[at] = line[at] + out[at - step]
        elif kind == 2:
            for at in range(len(out)):
                out[at] = line[at] + above[at]
        elif kind == 3:
            for at in range(step):
                out[at] = line[at] + (above[at] >> 1)
            for at in range(step, len(out)):
                out[at] = line[at] + ((np.int64(out[at - step]) + np.int64(above[at])) >> 1)
        elif kind == 4:
            _undo_paeth(line, above, step, out)
        else:
            return False
        above = out
    return True


@compiled
def _undo_paeth(
    line: "NDArray[np.uint8]", above: "NDArray[np.uint8]", step: int, out: "NDArray[np.uint8]"
) -> None:
    """Undoes the Paeth filter of one line, up to four channels side by side."""
    # Each byte waits for its left neighbor. Written out by channel, the neighbors stay in
    # registers and the channels are computed at the same time.
    left0 = left1 = left2 = left3 = corner0 = corner1 = corner2 = corner3 = np.int64(0)
    for at in range(0, len(out), step):
        up = np.int64(above[at])
        left0, corner0 = (_nearest(left0, up, corner0) + line[at]) & 255, up
        out[at] = left0
        if step > 1:
            up = np.int64(above[at + 1])
            left1, corner1 = (_nearest(left1, up, corner1) + line[at + 1]) & 255, up
            out[at + 1] = left1
        if step > 2:
            up = np.int64(above[at + 2])
            left2, corner2 = (_nearest(left2, up, corner2) + line[at + 2]) & 255, up
            out[at + 2] = left2
        if step > 3:
            up = np.int64(above[at + 3])
            left3, corner3 = (_nearest(left3, up, corner3) + line[at + 3]) & 255, up
            out[at + 3] = left3


@compiled
def _nearest(left: Any, up: Any, corner: Any) -> Any:
    """Which of three neighbors is nearest to left + up - corner.

    As in stb_image: the three distances are never computed.
    """
    edge = 3 * corner - (left + up)
    low, high = min(left, up), max(left, up)
    near = low if high <= edge else corner
    return high if edge <= low else near
