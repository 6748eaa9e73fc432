"""Texts as sets of word n-grams, hashed, without a Python object for any word.

**Word**: a run of letters, digits and bytes above 127, after NFKC and lower case. **Shingle**: `size` words in a row, as one
64-bit hash; a text with fewer words is one shingle of them all, and one with none has none. Hashes of n-grams collide for
two given n-grams once in 2^64.

The bytes of many texts are worked on at once: words are found as edges between two kinds of bytes, and hashed from
unaligned loads of 8 bytes. `benchmarks/dedup.py` has the speed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa
    from numpy.typing import NDArray

    Texts: TypeAlias = pl.Series | pa.Array | pa.ChunkedArray
    Hashes = NDArray[np.uint64]
    Offsets = NDArray[np.int64]

CHUNK = 2**20
"""Bytes of text worked on at once, so that what is worked on stays in the cache."""
_PLACES = tuple(int(value) | 1 for value in np.random.Generator(np.random.PCG64(5)).integers(2**63, size=64))


@dataclass(frozen=True, slots=True)
class Shingles:
    """`hashes` of all texts, one after the other; those of text i are hashes[offsets[i] : offsets[i + 1]]. Repeats are kept."""

    hashes: "Hashes"
    offsets: "Offsets"

    def of(self, text: int) -> "Hashes":
        """The distinct shingles of one text, sorted."""
        found = np.sort(self.hashes[self.offsets[text] : self.offsets[text + 1]])
        return found[np.concatenate([[True], found[1:] != found[:-1]])] if len(found) else found


def normalise(texts: "pl.Series") -> "pl.Series":
    """NFKC and lower case; missing texts become empty. NFKC costs 30 times as much as lower case, and ASCII needs none."""
    import polars as pl

    text = pl.col("text")
    plain = text.str.len_bytes() == text.str.len_chars()
    frame = pl.DataFrame({"text": texts.fill_null("")})
    if frame.select(plain.all()).item():
        return frame["text"].str.to_lowercase()
    return frame.select(pl.when(plain).then(text).otherwise(text.str.normalize("NFKC")).str.to_lowercase())["text"]


def shingle(texts: "Texts", size: int = 5) -> Shingles:
    """The shingles of a column of texts."""
    found = list(pieces(texts, size))
    if not found:
        return Shingles(np.zeros(0, np.uint64), np.zeros(1, np.int64))
    counts = np.concatenate([np.diff(piece.offsets) for piece in found])
    return Shingles(np.concatenate([piece.hashes for piece in found]), np.concatenate([[0], np.cumsum(counts)]))


def pieces(texts: "Texts", size: int = 5) -> Iterator[Shingles]:
    """The shingles of a column of texts, some texts at a time, in order: what is worked on stays in the cache."""
    array = _arrow(texts)
    _, bounds, _ = array.buffers()
    offsets = np.frombuffer(bounds, np.int64)[array.offset : array.offset + len(array) + 1]
    start = 0
    while start < len(array):
        stop = max(start + 1, int(np.searchsorted(offsets, offsets[start] + CHUNK, "right")) - 1)
        piece = array.slice(start, stop - start)
        data, inside = _bytes(piece)
        fold = _LOWER
        if len(data) and data.max() >= 128:
            data, inside = _bytes(_arrow(normalise(_series(piece))))
            fold = np.uint64(0)
        yield Shingles(*_shingle(data, inside, size, fold))
        start = stop


def _arrow(texts: "Texts") -> Any:
    """One array of type large_string without nulls."""
    import pyarrow as pa
    import pyarrow.compute as pc

    array: Any = texts if isinstance(texts, pa.Array | pa.ChunkedArray) else texts.to_arrow()
    array = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
    array = array if array.type == pa.large_string() else array.cast(pa.large_string())
    return pc.fill_null(array, "") if array.null_count else array


def _series(array: Any) -> "pl.Series":
    import polars as pl

    return pl.Series(pl.from_arrow(array))


def _bytes(array: Any) -> "tuple[NDArray[np.uint8], Offsets]":
    """The bytes of an array's texts, and their offsets from 0."""
    _, bounds, data = array.buffers()
    offsets = np.frombuffer(bounds, np.int64)[array.offset : array.offset + len(array) + 1]
    whole = np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)
    return whole[offsets[0] : offsets[-1]], offsets - offsets[0]


def _shingle(data: "NDArray[np.uint8]", offsets: "Offsets", size: int, fold: np.uint64) -> "tuple[Hashes, Offsets]":
    """The shingles of one piece, and their offsets by text."""
    words, begins = _words(data, offsets, fold)
    bounds = np.searchsorted(begins, offsets).astype(np.int64)  # the words of text i are bounds[i] : bounds[i + 1]
    count = np.diff(bounds)
    grams = np.where(count >= size, count - size + 1, np.minimum(count, 1)).astype(np.int64)
    bounds_of_grams = np.concatenate([[0], np.cumsum(grams)])
    if not len(words):
        return words, bounds_of_grams
    padded = np.concatenate([words, np.zeros(size - 1, np.uint64)])
    total = padded[: len(words)] * np.uint64(_PLACES[0])
    for place in range(1, size):
        total += padded[place : place + len(words)] * np.uint64(_PLACES[place])
    short = np.flatnonzero((count > 0) & (count < size))
    for text in short.tolist():  # one shingle of all its words
        total[bounds[text]] = sum(int(word) * _PLACES[at] for at, word in enumerate(words[bounds[text] : bounds[text + 1]])) % 2**64
    kept = np.ones(len(words), bool)
    for back in range(1, size):  # the last words of a text begin no shingle
        at = bounds[1:] - back
        kept[at[(at >= bounds[:-1]) & ((at > bounds[:-1]) | (count >= size))]] = False
    return mixed(total[kept]), bounds_of_grams


def _words(data: "NDArray[np.uint8]", offsets: "Offsets", fold: np.uint64) -> "tuple[Hashes, Offsets]":
    """The hash of each word of a piece, and where it begins. `fold` is or-ed to its bytes, which makes ASCII lower case."""
    is_word = np.zeros(len(data) + 2, np.uint8)
    is_word[1:-1] = np.frombuffer(data.tobytes().translate(_WORD), np.uint8)
    edges = np.flatnonzero(is_word[1:] != is_word[:-1])
    cuts = np.unique(offsets[1:-1])
    cuts = cuts[(is_word[cuts] & is_word[cuts + 1]).astype(bool)]
    if len(cuts):  # a text ends with a word, and the next one begins with one
        edges = np.insert(edges, np.repeat(np.searchsorted(edges, cuts), 2), np.repeat(cuts, 2))
    begins, lengths = edges[0::2], edges[1::2] - edges[0::2]
    padded = np.concatenate([data, np.zeros(8, np.uint8)])
    loads = np.ndarray(len(data), "<u8", padded, strides=(1,))
    words = mixed(((loads[begins] | fold) & _MASK[np.minimum(lengths, 8)]) + lengths.astype(np.uint64))
    left = np.flatnonzero(lengths > 8)
    step = 8
    while len(left):
        more = (loads[begins[left] + step] | fold) & _MASK[np.minimum(lengths[left] - step, 8)]
        words[left] = mixed(words[left] * np.uint64(_PLACES[-1]) + more)
        step += 8
        left = left[lengths[left] > step]
    return words, begins


def mixed(values: "Hashes") -> "Hashes":
    """The finaliser of splitmix64: every bit of the result depends on every bit of the value. Works in place."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        values ^= values >> np.uint64(shift)
        values *= np.uint64(factor)
    values ^= values >> np.uint64(31)
    return values


_WORD = bytes(byte >= 128 or chr(byte).isalnum() for byte in range(256))
_LOWER = np.uint64(0x2020202020202020)
"""This bit makes ASCII letters lower case, and digits have it already; other bytes of a word are made lower case before."""
_MASK = np.array([2 ** (8 * size) - 1 for size in range(9)], np.uint64)
"""Keeps the first `size` bytes of a load."""
