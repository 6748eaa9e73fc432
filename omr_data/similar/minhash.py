"""MinHash signatures and the bands that find candidates.

Broder 1997; Leskovec, Rajaraman, Ullman, chapter 3. **Signature**: 128 values of 32 bits; two
signatures agree at a place with the probability of the sets' Jaccard similarity. **Band**: some
rows of a signature as one key; texts that share a band are candidates.

Signing is fast similarity sketching (Dahlgaard, Knudsen, Thorup 2017): a hash is looked at once or
twice instead of 128 times. To query signatures with datasketch, give them to it as they are:

    values = signatures(shingle(pl.Series([text])))[0]
    minhash = datasketch.MinHash(num_perm=128, scheme="affine32", hashvalues=values)
    index = datasketch.MinHashLSH(threshold=0.8, num_perm=128); index.insert(id, minhash)

Both sides must come from here: datasketch's own `update` permutes differently.
"""

from typing import TYPE_CHECKING

import numpy as np

from omr_data.similar import kernels
from omr_data.similar.shingles import Shingles

if TYPE_CHECKING:
    from numpy.typing import NDArray

PERMUTATIONS = kernels.SLOTS
RECALL = 0.995
"""Probability that a pair right at the threshold shares a band."""
_FACTORS = np.random.Generator(np.random.PCG64(2)).integers(
    2**62, size=PERMUTATIONS, dtype=np.int64
).astype(np.uint64) * np.uint64(2) + np.uint64(1)


def signatures(shingles: Shingles) -> "NDArray[np.uint32]":
    """The signature of each text, shape (texts, 128).

    In turn t = 0, 1, ... every hash x becomes v = mixed(x + t * 0x9E3779B97F4A7C15), turn 0 being x
    itself, and asks for the slot v >> 57; from turn 128 on, all ask for the slot t - 128. Of those
    that ask, a slot takes the one of the earliest turn, and in one turn that with the smallest
    v % 2^32, which is its value. Turns end when no slot is empty. A text without shingles has the
    largest value everywhere.
    """
    # 32 bits of a value: half the memory, and two sets collide at a place once in 2^32.
    signed = np.empty((len(shingles.offsets) - 1, PERMUTATIONS), np.uint32)
    kernels.sketch(shingles.hashes, shingles.offsets, signed)
    return signed


def rows_per_band(threshold: float) -> int:
    """The most rows of a band with which pairs at the threshold are found (probability 0.995).

    A pair of similarity s shares none of b bands of r rows with probability (1 - s^r)^b.
    """
    # From wide to narrow: a wide band has few chance hits, and each of these costs a comparison.
    for rows in range(PERMUTATIONS, 1, -1):
        if 1 - (1 - threshold**rows) ** (PERMUTATIONS // rows) >= RECALL:
            return rows
    return 1


def band_keys(signed: "NDArray[np.uint32]", rows: int) -> "NDArray[np.uint64]":
    """One key for each band, shape (texts, 128 // rows). Keys of different bands differ."""
    keys = np.empty((len(signed), PERMUTATIONS // rows), np.uint64)
    kernels.mix_bands(signed, _FACTORS[:rows], keys)
    return keys
