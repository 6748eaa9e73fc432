"""Compiled loops over hashes. numba compiles them at the first call and keeps the result on disk.

NumPy needs a dozen passes over an array for what one loop does here. The caller allocates all
arrays in the sizes that the docstrings state; nothing here checks a bound.
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
PAD = 8
"""Bytes that must follow the last byte of a buffer of tokens, which is read 8 bytes at a time."""
U, BYTE = np.uint64, np.uint8
PLACES = np.array(
    [int(value) | 1 for value in np.random.Generator(np.random.PCG64(5)).integers(2**63, size=64)],
    np.uint64,
)
"""Odd factors, one for each place of a run of words."""
SLOTS = 128
"""Values of a signature. The standard error of a similarity is at most 0.5 / sqrt(128) = 0.044."""
EMPTY = np.uint64(2**64 - 1)
_FOLD = U(PLACES[-1])
_MASK = np.array([2 ** (8 * size) - 1 for size in range(9)], np.uint64)
"""Keeps the first `size` bytes of a load."""


def compiled(function: F) -> F:
    """Compiles with numba, and keeps the result on disk where there is a place for it."""
    try:
        return cast(F, njit(cache=True)(function))
    except RuntimeError:  # neither this folder nor the user's cache can be written to
        return cast(F, njit(function))


@compiled
def mixed(value: Any) -> Any:
    """The finalizer of splitmix64 (Steele, Lea, Flood 2014): each bit of the value
    changes about half of the result's bits.
    """
    # Shifts and odd factors can be undone, so that different values never collide.
    value ^= value >> U(30)
    value *= U(0xBF58476D1CE4E5B9)
    value ^= value >> U(27)
    value *= U(0x94D049BB133111EB)
    return value ^ (value >> U(31))


@compiled
def hash_bytes(loads: "Hashes", begin: int, end: int) -> Any:
    """The hash of some bytes.

    Args:
        loads: The 8 bytes from each byte on, as one value.
        begin: The first byte.
        end: The byte after the last one.
    """
    # Eight bytes a step: most words are settled by the first line.
    length = end - begin
    value = mixed((loads[begin] & _MASK[min(length, 8)]) + U(length))
    for step in range(8, length, 8):
        value = mixed(value * _FOLD + (loads[begin + step] & _MASK[min(length - step, 8)]))
    return value


@compiled
def hash_words(edges: "Offsets", loads: "Hashes", words: "Hashes") -> None:
    """Hashes each token.

    Args:
        edges: Token i is edges[2 * i] : edges[2 * i + 1].
        loads: The 8 bytes from each byte on, as one value.
        words: Receives the hashes.
    """
    for word in range(len(words)):
        words[word] = hash_bytes(loads, edges[2 * word], edges[2 * word + 1])


@compiled
def sketch(hashes: "Hashes", offsets: "Offsets", signatures: "NDArray[np.uint32]") -> None:
    """The signature of each text's hashes, as `minhash.signatures` defines it.

    Args:
        hashes: The shingles of all texts.
        offsets: Text i has the shingles offsets[i] : offsets[i + 1].
        signatures: Receives the signatures, shape (texts, 128).
    """
    best = np.empty(SLOTS, np.uint64)
    for text in range(len(offsets) - 1):
        begin, end = offsets[text], offsets[text + 1]
        best[:] = EMPTY
        # A text without shingles takes no turn: its slots keep the largest value.
        empty = SLOTS if begin < end else 0
        turn = U(0)
        while empty:
            for at in range(begin, end):
                # The first turn fills nearly all slots of a long text, and needs no mixing.
                value = hashes[at]
                if turn != 0:
                    value = mixed(value + turn * U(0x9E3779B97F4A7C15))
                slot = value >> U(57) if turn < SLOTS else turn - U(SLOTS)
                empty -= best[slot] == EMPTY
                # The turn on top of the value: an earlier turn always wins.
                best[slot] = min(best[slot], (turn << U(32)) | (value & U(0xFFFFFFFF)))
            turn += U(1)
        for slot in range(SLOTS):
            signatures[text, slot] = best[slot] & U(0xFFFFFFFF)


@compiled
def mix_bands(signatures: "NDArray[np.uint32]", factors: "Hashes", keys: "Hashes") -> None:
    """One key for each band of each signature. Keys of different bands differ.

    Args:
        signatures: Shape (texts, 128).
        factors: An odd factor for each place of a band; their number is the band's width.
        keys: Receives the keys, shape (texts, bands).
    """
    width = len(factors)
    for text in range(len(signatures)):
        for band in range(keys.shape[1]):
            # The number of the band is mixed in, so that equal values in two bands do not meet.
            value = U(band) * U(0x9E3779B97F4A7C15)
            for place in range(width):
                value += U(signatures[text, band * width + place]) * factors[place]
            keys[text, band] = mixed(value)


@compiled
def keep_distinct(hashes: "Hashes") -> int:
    """Moves the distinct values of a sorted array to its front, and returns their number."""
    count = 0
    for at in range(len(hashes)):
        # Written first and counted after: no branch that a processor could mispredict.
        hashes[count] = hashes[at]
        count += at + 1 == len(hashes) or hashes[at] != hashes[at + 1]
    return count


@compiled
def in_common(one: "Hashes", other: "Hashes") -> int:
    """How many values two sorted arrays of distinct values share."""
    count = first = second = 0
    while first < len(one) and second < len(other):
        # Comparisons are added as numbers: branches on random hashes would be mispredicted.
        here, there = one[first], other[second]
        count += here == there
        first += here <= there
        second += there <= here
    return count
