"""Texts as sets of hashed n-grams of tokens, without a Python object for any word.

**Shingle**: some tokens in a row as one 64-bit hash: three words where spaces part words, two
characters for Han, Kana, Thai, Khmer and Lao. A text of both has both. A text with fewer tokens is
one shingle of them all, and one without tokens has none.

Short grams are what finds copies with misspelled words: one typo in a question of 45 words changes
3 of 43 word 3-grams, and 5 of 41 word 5-grams. They also make different texts more alike, which
would be too much if numbers and signs were not compared apart from them (`omr_data.similar.rule`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from omr_data.similar import kernels, token_kernels
from omr_data.similar.tokens import Tokens, tokenize

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from omr_data.similar.tokens import Texts

    Hashes = NDArray[np.uint64]
    Offsets = NDArray[np.int64]

WORDS = 3
"""Tokens of a shingle that begins with a word, a number or a sign."""
CHARACTERS = 2
"""Tokens of a shingle that begins with a character of a script without spaces."""


@dataclass(frozen=True, slots=True)
class Shingles:
    """The shingles of some texts, one text after the other, with repeats."""

    hashes: "Hashes"
    """The shingles of all texts."""
    offsets: "Offsets"
    """Text i has the shingles hashes[offsets[i] : offsets[i + 1]]."""

    def of(self, text: int) -> "Hashes":
        """The distinct shingles of one text, sorted."""
        # Repeats are kept until here: MinHash does not need sets, and sorting all would cost more.
        found = np.sort(self.hashes[self.offsets[text] : self.offsets[text + 1]])
        return found[: kernels.keep_distinct(found)].copy()


def shingle(texts: "Texts", words: int = WORDS, characters: int = CHARACTERS) -> Shingles:
    """The shingles of a column of texts.

    Args:
        texts: The texts, as their datasets have them.
        words: Tokens of a shingle that begins with a word, at most 64.
        characters: Tokens of a shingle that begins with a character, at most 64.
    """
    found = list(pieces(texts, words, characters))
    if not found:
        return Shingles(np.zeros(0, np.uint64), np.zeros(1, np.int64))
    # Offsets of a piece begin at 0, so those of the whole are summed again.
    counts = np.concatenate([np.diff(piece.offsets) for piece in found])
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return Shingles(np.concatenate([piece.hashes for piece in found]), offsets)


def pieces(texts: "Texts", words: int = WORDS, characters: int = CHARACTERS) -> Iterator[Shingles]:
    """The shingles of a column of texts, some texts at a time and in order.

    Args:
        texts: The texts, as their datasets have them.
        words: Tokens of a shingle that begins with a word, at most 64.
        characters: Tokens of a shingle that begins with a character, at most 64.
    """
    for tokens in tokenize(texts):
        yield shingles_of(tokens, words, characters)


def shingles_of(tokens: Tokens, words: int = WORDS, characters: int = CHARACTERS) -> Shingles:
    """The shingles of texts that are cut into tokens already.

    Args:
        tokens: The tokens of some texts.
        words: Tokens of a shingle that begins with a word, at most 64.
        characters: Tokens of a shingle that begins with a character, at most 64.
    """
    # A gram begins at each token at most, which bounds their number.
    runs = np.empty(len(tokens.words), np.uint64)
    offsets = np.empty_like(tokens.bounds)
    sizes = np.array([words, characters], np.int64)
    count = token_kernels.hash_grams(
        tokens.words, tokens.kinds, tokens.bounds, sizes, kernels.PLACES, runs, offsets
    )
    return Shingles(runs[:count], offsets)
