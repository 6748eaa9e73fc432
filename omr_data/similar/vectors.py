"""Vectors of meaning, and which of them point the same way: in whole numbers, so that every sum is exact in any order.

**Vector**: an embedding of length 1, times 2^14 and rounded: the cosine of two has an error of about 3e-5. **Bits**: on which
side of 1,024 random planes a vector lies; two at the angle a differ in each bit with probability a / pi (Charikar 2002).
**Band**: some bits as one key. Vectors that share a band are candidates, and their cosine decides.

An exact search compares all with all: 874,000 vectors of 256 places take 390 TFLOP. A graph (HNSW) is faster, but what it
finds depends on the order in which vectors come. Bands depend on nothing but the vector.
"""

import math
from typing import TYPE_CHECKING

import numpy as np

from omr_data.similar.kernels import compiled, mixed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vectors = NDArray[np.int16]

SCALE = 2**14
PLANES = 1_024
RECALL = 0.995


def rounded(embeddings: "NDArray[np.float32]") -> "Vectors":
    """Vectors of embeddings, shape (texts, places). One of length 0 stays so. Raises ValueError where a number is not finite."""
    lengths = np.sqrt((embeddings.astype(np.float64) ** 2).sum(1, keepdims=True))
    if not np.isfinite(lengths).all():
        raise ValueError("an embedding has a number that is not finite")
    return np.asarray(np.rint(embeddings / np.maximum(lengths, 1e-12) * SCALE), np.int16)


def sides(vectors: "Vectors") -> "NDArray[np.uint64]":
    """The 1,024 bits of each vector, shape (texts, 16). Planes are whole numbers too, so that no sum is rounded."""
    planes = np.rint(
        np.random.Generator(np.random.PCG64(7)).standard_normal((PLANES, vectors.shape[1])) * 256
    )
    bits = np.empty((len(vectors), PLANES), bool)
    for start in range(0, len(vectors), 4_096):
        bits[start : start + 4_096] = (
            vectors[start : start + 4_096].astype(np.float64) @ planes.T > 0
        )
    return np.packbits(bits, 1, "little").view("<u8")


def band_width(threshold: float) -> int:
    """The most bits a band can have while pairs at the threshold are found with a probability of at least 0.995."""
    alike = 1 - math.acos(threshold) / math.pi
    for width in range(64, 1, -1):
        if 1 - (1 - alike**width) ** (PLANES // width) >= RECALL:
            return width
    return 1


def band(bits: "NDArray[np.uint64]", width: int, number: int) -> "NDArray[np.uint64]":
    """One band of every text's bits, as one number each."""
    word, shift = divmod(number * width, 64)
    found = bits[:, word] >> np.uint64(shift)
    if shift + width > 64:
        found = found | bits[:, word + 1] << np.uint64(64 - shift)
    return found & np.uint64(2**width - 1)


def join_alike(
    vectors: "Vectors",
    bits: "NDArray[np.uint64]",
    apart: "NDArray[np.uint64]",
    threshold: float,
    parents: "NDArray[np.int64]",
) -> "NDArray[np.float64]":
    """Joins the components (in `parents`, a union-find) of vectors with a cosine of at least the threshold and an equal number in
    `apart`; returns the cosine through which each was joined, 0 where it was not. Vectors of length 0 are like no other.
    """
    width = band_width(threshold)
    lengths = np.sqrt((vectors.astype(np.int64) ** 2).sum(1).astype(np.float64))
    some = np.flatnonzero(lengths)
    cosines = np.zeros(len(vectors))
    for number in range(PLANES // width):
        keys = mix_pairs(band(bits[some], width, number), apart[some])
        order = np.argsort(keys, kind="stable")
        edges = np.flatnonzero(
            np.diff(keys[order], prepend=~keys[order[:1]], append=~keys[order[-1:]])
        )
        join_groups(some[order], edges, vectors, lengths, threshold, parents, cosines)
    return cosines


@compiled
def mix_pairs(keys: "NDArray[np.uint64]", apart: "NDArray[np.uint64]") -> "NDArray[np.uint64]":
    """Keys that are equal where both are, but for one chance in 2^64."""
    found = np.empty_like(keys)
    for at in range(len(keys)):
        found[at] = mixed(mixed(apart[at]) + keys[at])
    return found


@compiled
def root_of(parents: "NDArray[np.int64]", item: int) -> int:
    """The smallest member of an item's component."""
    while parents[item] != item:
        parents[item] = parents[parents[item]]
        item = parents[item]
    return item


@compiled
def join_groups(
    members: "NDArray[np.int64]",
    edges: "NDArray[np.int64]",
    vectors: "Vectors",
    lengths: "NDArray[np.float64]",
    threshold: float,
    parents: "NDArray[np.int64]",
    cosines: "NDArray[np.float64]",
) -> None:
    """Joins what is alike inside each group, members[edges[i] : edges[i + 1]].

    From a member, all that is alike and was not reached yet is reached, and so on from these: each component of a group is
    found, and a group of equal vectors costs no more than one look at each.
    """
    for group in range(len(edges) - 1):
        start, stop = edges[group], edges[group + 1]
        if stop - start < 2:
            continue
        queue = members[start:stop].copy()  # done, then reached, then left
        done, reached = 0, 1
        while done < len(queue):
            one = queue[done]
            for at in range(reached, len(queue)):
                other = queue[at]
                here, there = root_of(parents, one), root_of(parents, other)
                if here != there:
                    total = np.int32(0)
                    for place in range(vectors.shape[1]):
                        total += np.int32(vectors[one, place]) * np.int32(vectors[other, place])
                    cosine = total / (lengths[one] * lengths[other])
                    if cosine < threshold:
                        continue
                    parents[max(here, there)] = min(here, there)
                    if cosines[one] == 0:
                        cosines[one] = cosine
                    if cosines[other] == 0:
                        cosines[other] = cosine
                queue[at], queue[reached] = queue[reached], other
                reached += 1
            done += 1
            reached = max(reached, done + 1)
