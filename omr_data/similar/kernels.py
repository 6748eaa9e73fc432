"""The loops over bytes and hashes, compiled by numba when they are first called (two seconds in all, then kept on disk).

NumPy passes over the bytes of a text a dozen times for what one loop does: 16 microseconds for a text of 4.7 KB, and 7 here.
All arrays belong to the caller, who also sees to their sizes; nothing here checks a bound.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Hashes = NDArray[np.uint64]
    Offsets = NDArray[np.int64]
    Bytes = NDArray[np.uint8]

F = TypeVar("F", bound=Callable[..., Any])
PAD = 72
"""Bytes that must follow the last byte of `lower` and `marks`: loops read whole words of 8 bytes, and whole blocks of 64."""
U, BYTE = np.uint64, np.uint8
PLACES = np.array(
    [int(value) | 1 for value in np.random.Generator(np.random.PCG64(5)).integers(2**63, size=64)],
    np.uint64,
)
"""Odd factors, one for each place of a run of words."""
SLOTS = 128
EMPTY = np.uint64(2**64 - 1)
_FOLD = U(PLACES[-1])
_MASK = np.array([2 ** (8 * size) - 1 for size in range(9)], np.uint64)
"""Keeps the first `size` bytes of a load."""
_GATHER = U(0x0102040810204080)
"""Times 8 bytes of 0 or 1, it has their 8 bits on top."""
_DEBRUIJN = U(0x03F79D71B4CB0A89)
_BIT = np.zeros(64, np.int64)
"""Which bit a power of two is: that many places the de Bruijn number is shifted, and its top six bits name them."""
for _place in range(64):
    _BIT[(int(_DEBRUIJN) << _place) % 2**64 >> 58] = _place


def compiled(function: F) -> F:
    """Compiles with numba, and keeps the result on disk where there is a place for it."""
    try:
        return cast(F, njit(cache=True)(function))
    except RuntimeError:  # neither this folder nor the user's cache can be written to
        return cast(F, njit(function))


@compiled
def mixed(value: Any) -> Any:
    """The finaliser of splitmix64: every bit of the result depends on every bit of the value."""
    value ^= value >> U(30)
    value *= U(0xBF58476D1CE4E5B9)
    value ^= value >> U(27)
    value *= U(0x94D049BB133111EB)
    return value ^ (value >> U(31))


@compiled
def classify(data: "Bytes", lower: "Bytes", marks: "Bytes") -> None:
    """`lower` becomes the bytes with ASCII letters in lower case, `marks` 1 where a byte is part of a word and 0 elsewhere."""
    for at in range(len(data)):
        byte = data[at]
        low = BYTE(byte | BYTE((BYTE(byte - BYTE(65)) < BYTE(26)) << 5))
        lower[at] = low
        marks[at] = (
            (BYTE(low - BYTE(97)) < BYTE(26))
            | (BYTE(byte - BYTE(48)) < BYTE(10))
            | (byte > BYTE(127))
        )
    for at in range(len(data), len(marks)):
        marks[at] = 0


@compiled
def find_words(marks: "Hashes", offsets: "Offsets", edges: "Offsets", bounds: "Offsets") -> int:
    """Where words begin and end, one after the other in `edges`; the words of text i are bounds[i] : bounds[i + 1].

    `marks` holds 8 marks in each value, beginning at each byte. 64 marks become the bits of one value, and its edges are the
    bits that differ from the one before. Returns the number of words.
    """
    count = 0
    for text in range(len(offsets) - 1):
        bounds[text] = count >> 1
        carry = U(0)
        for block in range(offsets[text], offsets[text + 1], 64):
            bits = U(0)
            for part in range(8):
                bits |= ((marks[block + 8 * part] * _GATHER) >> U(56)) << U(8 * part)
            if offsets[text + 1] - block < 64:
                bits &= (U(1) << U(offsets[text + 1] - block)) - U(1)
            left = bits ^ ((bits << U(1)) | carry)
            carry = bits >> U(63)
            while left:
                lowest = left & (~left + U(1))
                edges[count] = block + _BIT[(lowest * _DEBRUIJN) >> U(58)]
                count += 1
                left ^= lowest
        if count & 1:  # the text ends with a word
            edges[count] = offsets[text + 1]
            count += 1
    bounds[len(offsets) - 1] = count >> 1
    return count >> 1


@compiled
def hash_words(edges: "Offsets", loads: "Hashes", words: "Hashes") -> None:
    """The hash of each word. `loads` holds 8 bytes in each value, beginning at each byte."""
    for word in range(len(words)):
        begin = edges[2 * word]
        length = edges[2 * word + 1] - begin
        value = mixed((loads[begin] & _MASK[min(length, 8)]) + U(length))
        for step in range(8, length, 8):
            value = mixed(value * _FOLD + (loads[begin + step] & _MASK[min(length - step, 8)]))
        words[word] = value


@compiled
def hash_runs(
    words: "Hashes", bounds: "Offsets", size: int, runs: "Hashes", offsets: "Offsets"
) -> int:
    """The hash of each run of `size` words in each text; of all words, where a text has fewer. Returns the number of runs."""
    count = 0
    for text in range(len(bounds) - 1):
        offsets[text] = count
        begin, length = bounds[text], bounds[text + 1] - bounds[text]
        width = min(size, length)
        number = length - width + 1 if length else 0
        for at in range(number):
            total = U(0)
            for place in range(width):
                total += words[begin + at + place] * PLACES[place]
            runs[count + at] = mixed(total)
        count += number
    offsets[len(bounds) - 1] = count
    return count


@compiled
def sketch(hashes: "Hashes", offsets: "Offsets", signatures: "NDArray[np.uint32]") -> None:
    """The signature of each text's hashes, as `minhash.signatures` defines it."""
    best = np.empty(SLOTS, np.uint64)
    for text in range(len(offsets) - 1):
        begin, end = offsets[text], offsets[text + 1]
        best[:] = EMPTY
        empty = SLOTS if begin < end else 0
        turn = U(0)
        while empty:
            for at in range(begin, end):
                value = (
                    hashes[at] if turn == 0 else mixed(hashes[at] + turn * U(0x9E3779B97F4A7C15))
                )
                slot = value >> U(57) if turn < SLOTS else turn - U(SLOTS)
                empty -= best[slot] == EMPTY
                best[slot] = min(best[slot], (turn << U(32)) | (value & U(0xFFFFFFFF)))
            turn += U(1)
        for slot in range(SLOTS):
            signatures[text, slot] = best[slot] & U(0xFFFFFFFF)


@compiled
def mix_bands(signatures: "NDArray[np.uint32]", factors: "Hashes", keys: "Hashes") -> None:
    """One key for each band of len(factors) places, which its number tells apart from those of the other bands."""
    width = len(factors)
    for text in range(len(signatures)):
        for band in range(keys.shape[1]):
            value = U(band) * U(0x9E3779B97F4A7C15)
            for place in range(width):
                value += U(signatures[text, band * width + place]) * factors[place]
            keys[text, band] = mixed(value)


@compiled
def keep_distinct(hashes: "Hashes") -> int:
    """Moves the distinct values of a sorted array to its front, and returns their number."""
    count = 0
    for at in range(len(hashes)):
        hashes[count] = hashes[at]
        count += at + 1 == len(hashes) or hashes[at] != hashes[at + 1]
    return count


@compiled
def in_common(one: "Hashes", other: "Hashes") -> int:
    """How many values two sorted arrays of distinct values share."""
    count = first = second = 0
    while first < len(one) and second < len(other):
        here, there = one[first], other[second]
        count += here == there
        first += here <= there
        second += there <= here
    return count
