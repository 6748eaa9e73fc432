"""Texts as sets of word n-grams, hashed, without a Python object for any word.

**Word**: a run of letters, digits and bytes above 127, after NFKC and lower case. **Shingle**: `size` words in a row, as one
64-bit hash; a text with fewer words is one shingle of them all, and one with none has none. Hashes of n-grams collide for
two given n-grams once in 2^64.

The bytes of many texts are worked on at once: words are found as edges between two kinds of bytes, and hashed 8 bytes at a
time. `benchmarks/dedup.py` has the speed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from omr_data.similar import kernels

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa
    from numpy.typing import NDArray

    Texts: TypeAlias = pl.Series | pa.Array | pa.ChunkedArray
    Hashes = NDArray[np.uint64]
    Offsets = NDArray[np.int64]

CHUNK = 2**18
"""Bytes of text worked on at once, so that what is worked on stays in the cache."""


@dataclass(frozen=True, slots=True)
class Shingles:
    """`hashes` of all texts, one after the other; those of text i are hashes[offsets[i] : offsets[i + 1]]. Repeats are kept."""

    hashes: "Hashes"
    offsets: "Offsets"

    def of(self, text: int) -> "Hashes":
        """The distinct shingles of one text, sorted."""
        found = np.sort(self.hashes[self.offsets[text] : self.offsets[text + 1]])
        return found[: kernels.keep_distinct(found)].copy()


def normalize(texts: "pl.Series") -> "pl.Series":
    """NFKC and lower case; missing texts become empty. NFKC costs 30 times as much as lower case, and ASCII needs none."""
    import polars as pl

    text = pl.col("text")
    frame = pl.DataFrame({"text": texts.fill_null("")})
    other = pl.when(text.str.len_bytes() > text.str.len_chars()).then(
        text
    )  # nulls elsewhere, which cost nothing
    return frame.select(pl.coalesce(other.str.normalize("NFKC"), text).str.to_lowercase())["text"]


def shingle(texts: "Texts", size: int = 5) -> Shingles:
    """The shingles of a column of texts."""
    found = list(pieces(texts, size))
    if not found:
        return Shingles(np.zeros(0, np.uint64), np.zeros(1, np.int64))
    counts = np.concatenate([np.diff(piece.offsets) for piece in found])
    return Shingles(
        np.concatenate([piece.hashes for piece in found]), np.concatenate([[0], np.cumsum(counts)])
    )


def pieces(texts: "Texts", size: int = 5) -> Iterator[Shingles]:
    """The shingles of a column of texts, some texts at a time, in order: what is worked on stays in the cache."""
    import pyarrow as pa

    column = texts if isinstance(texts, pa.Array | pa.ChunkedArray) else texts.to_arrow()
    for chunk in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
        array = _arrow(chunk)
        offsets = _offsets(array)
        start = 0
        while start < len(array):
            stop = max(
                start + 1, int(np.searchsorted(offsets, offsets[start] + CHUNK, "right")) - 1
            )
            yield _shingle(*_lower(array.slice(start, stop - start)), size)
            start = stop


def _lower(array: Any) -> "tuple[NDArray[np.uint8], Offsets]":
    """The bytes of an array's texts, and their offsets from 0. ASCII is left for `kernels.classify` to make lower case."""
    import polars as pl

    data, offsets = _bytes(array)
    if len(data) and data.max() >= 128:
        return _bytes(_arrow(normalize(pl.Series(pl.from_arrow(array))).to_arrow()))
    return data, offsets


def _arrow(array: Any) -> Any:
    """An array as strings without nulls."""
    import pyarrow as pa
    import pyarrow.compute as pc

    array = (
        array if array.type in (pa.string(), pa.large_string()) else array.cast(pa.large_string())
    )
    return pc.fill_null(array, "") if array.null_count else array


def _offsets(array: Any) -> "Offsets":
    """Where each text of an array begins in its buffer of bytes, and where the last one ends."""
    import pyarrow as pa

    bounds = np.frombuffer(array.buffers()[1], np.int32 if array.type == pa.string() else np.int64)
    return bounds[array.offset : array.offset + len(array) + 1].astype(np.int64)


def _bytes(array: Any) -> "tuple[NDArray[np.uint8], Offsets]":
    """The bytes of an array's texts, and their offsets from 0."""
    offsets, data = _offsets(array), array.buffers()[2]
    whole = np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)
    return whole[offsets[0] : offsets[-1]], offsets - offsets[0]


def _shingle(data: "NDArray[np.uint8]", offsets: "Offsets", size: int) -> Shingles:
    """The shingles of one piece, whose letters beyond ASCII are in lower case."""
    lower, marks = (
        np.empty(len(data) + kernels.PAD, np.uint8),
        np.empty(len(data) + kernels.PAD, np.uint8),
    )
    kernels.classify(data, lower, marks)
    edges, bounds, ends = (
        np.empty(len(data) + 2, np.int64),
        np.empty_like(offsets),
        np.empty_like(offsets),
    )
    words = np.empty(kernels.find_words(_loads(marks), offsets, edges, bounds), np.uint64)
    kernels.hash_words(edges, _loads(lower), words)
    runs = np.empty(len(words), np.uint64)
    return Shingles(runs[: kernels.hash_runs(words, bounds, size, runs, ends)], ends)


def _loads(array: "NDArray[np.uint8]") -> "Hashes":
    """The 8 bytes from each byte on, as one value."""
    return np.ndarray(len(array) - 7, "<u8", array, strides=(1,))
