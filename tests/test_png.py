"""Ordinary PNGs have the pixels that Pillow sees; all other files are left to Pillow."""

import io
import struct
import tracemalloc
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from omr_data.similar.png import decode


def written(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def assembled(
    width: int, height: int, kind: int, lines: bytes, *more: bytes, depth: int = 8
) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + b"".join(more)
        + chunk(b"IDAT", zlib.compress(lines))
        + chunk(b"IEND", b"")
    )


@given(
    st.integers(0, 2**32),
    st.integers(1, 40),
    st.integers(1, 12),
    st.sampled_from([(0, 1), (2, 3), (4, 2), (6, 4)]),
)
def test_every_filter_on_every_kind_of_pixel_is_undone_as_pillow_does(
    seed: int, width: int, height: int, kind: tuple[int, int]
) -> None:
    color, channels = kind
    numbers = np.random.default_rng(seed)
    lines = numbers.integers(256, size=(height, 1 + width * channels), dtype=np.uint8)
    lines[:, 0] = numbers.integers(5, size=height)
    data = assembled(width, height, color, lines.tobytes())
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(image).reshape(height, width, channels)
    found = decode(data)
    assert found is not None and np.array_equal(found, expected)


def test_palettes_become_colors() -> None:
    image = Image.effect_mandelbrot((70, 50), (-2, -1, 1, 1), 20).convert("RGB").quantize(200)
    found = decode(written(image))
    assert found is not None and np.array_equal(found, np.asarray(image.convert("RGB")))
    outside = assembled(2, 1, 3, bytes([0, 0, 9]), chunk(b"PLTE", bytes(range(6))))
    assert decode(outside) is None


@pytest.mark.parametrize(
    "image",
    [Image.new("1", (90, 90)), Image.new("I;16", (90, 90)), Image.new("P", (90, 90))],
    ids=lambda one: one.mode,
)
def test_what_is_not_ordinary_is_left_to_pillow(image: Image.Image) -> None:
    assert decode(written(image, **({"transparency": 0} if image.mode == "P" else {}))) is None


def test_broken_files_are_left_to_pillow() -> None:
    whole = written(Image.effect_noise((80, 80), 50))
    assert decode(whole) is not None
    for cut in (0, 7, 20, 33, 200, len(whole) // 2):
        assert decode(whole[:cut]) is None
    assert decode(whole.replace(b"IDAT\x78", b"IDAT\x00")) is None
    assert decode(assembled(1, 2, 0, bytes([0, 1, 9, 1]))) is None  # there is no ninth filter
    assert decode(written(Image.new("RGB", (9, 9)))[:8] + b"GIF" * 20) is None


def test_a_bomb_is_never_inflated_beyond_its_image() -> None:
    """20 MB of zeros under a header of 8 x 8 pixels, and a header of too many pixels for Pillow."""
    bomb = assembled(8, 8, 0, bytes(20_000_000))
    tracemalloc.start()
    found = decode(bomb)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found is not None and found.shape == (8, 8, 1)
    assert peak < 1_000_000
    assert decode(assembled(60_000, 60_000, 0, b"")) is None
