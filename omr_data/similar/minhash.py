"""MinHash signatures and the bands that find candidates (Broder 1997; Leskovec, Rajaraman, Ullman, chapter 3).

**Signature**: 128 minima of permuted shingle hashes, 32 bits each; two signatures agree at a place with the probability of
the sets' Jaccard similarity. **Band**: some rows of a signature as one key; texts that share a band are candidates.

Signing is rensa's kernel, fed one flat array (65,700 documents of 4.5 KB a second on one core; datasketch 914). To query
signatures with datasketch, give them to it as they are:

    values = signatures(shingle(pl.Series([text])))[0]
    minhash = datasketch.MinHash(num_perm=128, scheme="affine32", hashvalues=values)
    index = datasketch.MinHashLSH(threshold=0.8, num_perm=128); index.insert(id, minhash)

Both sides must come from here: datasketch's own `update` permutes differently.
"""

from typing import TYPE_CHECKING

import numpy as np
import rensa

from omr_data.similar.shingles import Shingles, mixed

if TYPE_CHECKING:
    from numpy.typing import NDArray

PERMUTATIONS = 128
SEED = 42
RECALL = 0.995


def signatures(shingles: Shingles) -> "NDArray[np.uint32]":
    """The signature of each text, shape (texts, 128). A text without shingles has the largest value everywhere."""
    offsets = shingles.offsets.astype(np.uint64)
    matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(shingles.hashes, offsets, PERMUTATIONS, SEED)
    return np.array(matrix.to_rows(), np.uint32).reshape(-1, PERMUTATIONS)


def rows_per_band(threshold: float) -> int:
    """The most rows a band can have while pairs at the threshold are found with a probability of at least 0.995.

    A pair of similarity s shares none of b bands of r rows with probability (1 - s^r)^b.
    """
    for rows in range(PERMUTATIONS, 1, -1):
        if 1 - (1 - threshold**rows) ** (PERMUTATIONS // rows) >= RECALL:
            return rows
    return 1


def band_keys(signed: "NDArray[np.uint32]", rows: int) -> "NDArray[np.uint64]":
    """One key for each band, shape (texts, 128 // rows). Keys of different bands differ."""
    bands = PERMUTATIONS // rows
    cut = signed[:, : bands * rows].reshape(-1, bands, rows).astype(np.uint64)
    factors = np.random.Generator(np.random.PCG64(2)).integers(2**62, size=rows, dtype=np.int64).astype(np.uint64) * np.uint64(
        2
    ) + np.uint64(1)
    keys = (cut * factors).sum(-1, dtype=np.uint64) + np.arange(bands, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return mixed(keys)
