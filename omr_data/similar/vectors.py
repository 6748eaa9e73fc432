"""Embeddings, and which of them point nearly the same way.

**Vector**: an embedding of length 1, times 2^14 and rounded to whole numbers, so that sums are
exact in any order; a cosine has an error of about 3e-5. **Sign bits**: on which side of 1,024
random planes a vector lies; two vectors at the angle a differ in each bit with probability a / pi
(Charikar 2002). **Band**: some bits as one key. Vectors that share a band are candidates, and
their cosine decides.

An exact search compares all with all: 874,000 vectors of 256 places take 390 TFLOP. A graph (HNSW)
is faster, but what it finds depends on the order of the vectors. Bands depend on nothing else.
"""

import math
from typing import TYPE_CHECKING

import numpy as np

from omr_data.similar.clusters import Components, groups_of, link, mix_pairs, root_of
from omr_data.similar.kernels import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vectors = NDArray[np.int16]

SCALE = 2**14
"""The length of a vector. Each place then fits into 16 bits."""
PLANES = 1_024
"""Random planes, one sign bit each."""
RECALL = 0.995
"""Probability that a pair right at the threshold shares a band."""


def rounded(embeddings: "NDArray[np.float32]") -> "Vectors":
    """Vectors of embeddings, shape (texts, places). One of length 0 stays so.

    Raises:
        ValueError: a number is not finite.
    """
    # In 64 bits: the error of the sum is then far below the rounding that follows.
    lengths = np.sqrt((embeddings.astype(np.float64) ** 2).sum(1, keepdims=True))
    if not np.isfinite(lengths).all():
        raise ValueError("an embedding has a number that is not finite")
    return np.asarray(np.rint(embeddings / np.maximum(lengths, 1e-12) * SCALE), np.int16)


def sign_bits(vectors: "Vectors") -> "NDArray[np.uint64]":
    """The 1,024 sign bits of each vector, shape (texts, 16)."""
    # Planes are whole numbers too, so that no sum is rounded.
    planes = np.rint(
        np.random.Generator(np.random.PCG64(7)).standard_normal((PLANES, vectors.shape[1])) * 256
    )
    bits = np.empty((len(vectors), PLANES), bool)
    # In blocks: the product is eight bytes for each bit, 8 KB a text.
    for start in range(0, len(vectors), 4_096):
        bits[start : start + 4_096] = (
            vectors[start : start + 4_096].astype(np.float64) @ planes.T > 0
        )
    return np.packbits(bits, 1, "little").view("<u8")


def band_width(threshold: float) -> int:
    """The most bits of a band while pairs at the threshold are found with probability 0.995."""
    similar = 1 - math.acos(threshold) / math.pi
    # The widest band has the fewest chance hits; a band must fit into one number of 64 bits.
    for width in range(64, 1, -1):
        if 1 - (1 - similar**width) ** (PLANES // width) >= RECALL:
            return width
    return 1


def band(bits: "NDArray[np.uint64]", width: int, number: int) -> "NDArray[np.uint64]":
    """One band of every text's bits, as one number each.

    Args:
        bits: Sign bits, shape (texts, 16).
        width: Bits of a band.
        number: Which band.
    """
    word, shift = divmod(number * width, 64)
    found = bits[:, word] >> np.uint64(shift)
    # A band may lie across two words of the bits.
    if shift + width > 64:
        found = found | bits[:, word + 1] << np.uint64(64 - shift)
    return found & np.uint64(2**width - 1)


def join_similar_vectors(
    vectors: "Vectors",
    bits: "NDArray[np.uint64]",
    partition_key: "NDArray[np.uint64]",
    threshold: float,
    components: Components,
) -> None:
    """Joins vectors that point nearly the same way. Vectors of length 0 are similar to none.

    Args:
        vectors: Rounded embeddings, shape (texts, places).
        bits: Their sign bits, shape (texts, 16).
        partition_key: Only vectors with equal keys are compared.
        threshold: The least cosine.
        components: Receives what is joined.
    """
    width = band_width(threshold)
    lengths = lengths_of(vectors)
    some = np.flatnonzero(lengths)
    # One band at a time: all keys at once would be 8 bytes for each band and vector.
    for number in range(PLANES // width):
        keys = mix_pairs(band(bits[some], width, number), partition_key[some])
        groups = groups_of(keys, some)
        join_groups(
            groups.members,
            groups.edges,
            vectors,
            lengths,
            threshold,
            components.parents,
            components.links,
            components.count,
        )


def lengths_of(vectors: "Vectors") -> "NDArray[np.float64]":
    """The length of each vector."""
    return np.asarray(np.sqrt((vectors.astype(np.int64) ** 2).sum(1).astype(np.float64)))


def cosines(vectors: "Vectors", pairs: "NDArray[np.int64]") -> "NDArray[np.float64]":
    """The cosine of each pair of vectors, at most 1.

    Args:
        vectors: Rounded embeddings, shape (texts, places).
        pairs: Numbers of texts, shape (pairs, 2).
    """
    # In 64 bits: products of 16-bit numbers would overflow.
    one, other = (vectors[pairs[:, side]].astype(np.int64) for side in (0, 1))
    lengths = lengths_of(vectors)
    product = np.maximum(lengths[pairs[:, 0]] * lengths[pairs[:, 1]], 1e-12)
    return np.asarray(np.minimum(1.0, (one * other).sum(1) / product))


@compiled
def join_groups(
    members: "NDArray[np.int64]",
    edges: "NDArray[np.int64]",
    vectors: "Vectors",
    lengths: "NDArray[np.float64]",
    threshold: float,
    parents: "NDArray[np.int64]",
    links: "NDArray[np.int64]",
    count: "NDArray[np.int64]",
) -> None:
    """Joins what is similar inside of each group.

    From a member, all similar members that were not reached yet are reached, and so on from these.
    Each component of a group is found, and a group of equal vectors costs one look at each.

    Args:
        members: The items of all groups.
        edges: Group i is members[edges[i] : edges[i + 1]].
        vectors: Rounded embeddings, shape (texts, places).
        lengths: The length of each vector.
        threshold: The least cosine.
        parents: A union-find over the items.
        links: Receives the pairs that were joined.
        count: The number of links, in an array of one.
    """
    for group in range(len(edges) - 1):
        # The front of the queue is done, then come members that were reached, then the rest.
        queue = members[edges[group] : edges[group + 1]].copy()
        done, reached = 0, 1
        while done < len(queue):
            one = queue[done]
            for at in range(reached, len(queue)):
                other = queue[at]
                # Joined through another band already: reached without a product.
                if root_of(parents, one) != root_of(parents, other):
                    total = np.int32(0)
                    for place in range(vectors.shape[1]):
                        total += np.int32(vectors[one, place]) * np.int32(vectors[other, place])
                    if total / (lengths[one] * lengths[other]) < threshold:
                        continue
                    link(parents, links, count, one, other)
                queue[at], queue[reached] = queue[reached], other
                reached += 1
            done += 1
            reached = max(reached, done + 1)
