"""Compiled loops for texts of nothing but letters, spaces and simple punctuation.

Such texts have no numbers, signs or foreign scripts to look for, so that words are found 64 bytes
at a time: three times as fast as `token_kernels.cut_tokens`, with the same result. Prose of several
kilobytes profits; problems hardly ever qualify, and are short.
"""

from typing import TYPE_CHECKING

import numpy as np

from omr_data.similar.kernels import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]
    Hashes = NDArray[np.uint64]
    Offsets = NDArray[np.int64]

BLOCK = 72
"""Bytes that must follow the last byte of `lower` and `marks`: blocks of 64 are read whole."""
_GATHER = np.uint64(0x0102040810204080)
"""Times 8 bytes of 0 or 1, it has their 8 bits on top."""
_DEBRUIJN = np.uint64(0x03F79D71B4CB0A89)
_BIT = np.zeros(64, np.int64)
"""Which bit a power of two is: that many places the de Bruijn number is shifted, and its top six
bits name them."""
for _place in range(64):
    _BIT[(int(_DEBRUIJN) << _place) % 2**64 >> 58] = _place


@compiled
def is_plain(data: "Bytes") -> bool:
    """Whether all bytes are ASCII letters, spaces, line ends or one of . , ; ? and quotes."""
    other = np.uint8(0)
    # No early exit: without one, the loop handles 32 bytes at a time.
    for at in range(len(data)):
        byte = data[at]
        letter = np.uint8((byte | 32) - 97) < 26
        mark = (byte == 44) | (byte == 46) | (byte == 59) | (byte == 63) | (byte == 34)
        other |= np.uint8(not (letter | mark | (byte == 32) | (byte == 10)))
    return bool(other == 0)


@compiled
def classify(data: "Bytes", lower: "Bytes", marks: "Bytes") -> None:
    """Writes each byte in lower case, and whether it is a letter.

    Args:
        data: The bytes of some texts.
        lower: Receives them in lower case.
        marks: Receives 1 for a letter and 0 for any other byte; longer than `data` by `BLOCK`.
    """
    for at in range(len(data)):
        low = np.uint8(data[at] | 32)
        # Signs are changed by this too, but nobody reads bytes outside of words.
        lower[at] = low
        marks[at] = np.uint8(low - 97) < 26
    for at in range(len(data), len(marks)):
        marks[at] = 0


@compiled
def find_words(marks: "Hashes", offsets: "Offsets", edges: "Offsets", bounds: "Offsets") -> int:
    """Finds where words begin and end.

    64 marks become the bits of one value; the edges are the bits that differ from the bit before.

    Args:
        marks: Eight marks in each value, beginning at each byte.
        offsets: Where each text begins, and where the last one ends.
        edges: Receives where each word begins and ends.
        bounds: Receives the first word of each text.

    Returns:
        The number of words.
    """
    count = 0
    for text in range(len(offsets) - 1):
        bounds[text] = count >> 1
        carry = np.uint64(0)
        for block in range(offsets[text], offsets[text + 1], 64):
            bits = np.uint64(0)
            for part in range(8):
                bits |= ((marks[block + 8 * part] * _GATHER) >> np.uint64(56)) << np.uint64(
                    8 * part
                )
            # The last block reaches into the next text, whose letters are cut off here.
            if offsets[text + 1] - block < 64:
                bits &= (np.uint64(1) << np.uint64(offsets[text + 1] - block)) - np.uint64(1)
            left = bits ^ ((bits << np.uint64(1)) | carry)
            carry = bits >> np.uint64(63)
            # One round for each edge, however long the words between the edges are.
            while left:
                lowest = left & (~left + np.uint64(1))
                edges[count] = block + _BIT[(lowest * _DEBRUIJN) >> np.uint64(58)]
                count += 1
                left ^= lowest
        if count & 1:  # the text ends with a word
            edges[count] = offsets[text + 1]
            count += 1
    bounds[len(offsets) - 1] = count >> 1
    return count >> 1
