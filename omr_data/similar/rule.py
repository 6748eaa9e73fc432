"""The rule of sameness: when two texts ask for one and the same thing.

1. The sequence of numbers, operators and relations (the skeleton) is equal. No similarity of words
   makes up for one changed number or sign.
2. The words are similar: the Jaccard similarity of their shingles reaches the threshold. Words that
   are misspellings of each other (one edit, four letters or more) count as one word.
3. Or one text is inside the other (an instruction was added, two questions were joined, the end was
   cut off): the skeleton of the shorter one is a contiguous run of the longer one's, the surplus
   lies outside of the matched span, and the span is similar to the shorter text by 1 and 2.
4. Where both have options, they share one.

Every step that compares words applies this rule, so that they agree on what one problem is.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from rapidfuzz.distance import OSA

from omr_data.similar import characters, kernels, token_kernels
from omr_data.similar.shingles import CHARACTERS, WORDS
from omr_data.similar.tokens import Tokens, option_mark

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Hashes = NDArray[np.uint64]

WORTH_A_LOOK = 0.15
"""Raw Jaccard similarity below which texts are not respelled: every third word would be wrong."""
LONG = 400
"""Tokens from which a text's letters are not kept: a typo changes less than 1% of its shingles."""
MISSPELLED = 4
"""Letters of the shortest word whose misspelling is recognized. Of three letters, one edit makes
too many other words; two of them swapped ("teh") do not."""
SHORTEST = 8
"""Tokens of the shortest text that is looked for inside another. Fewer are a phrase."""
SMALLEST = 0.15
"""Share of the longer text that the shorter one has at least, where one is inside the other."""


LARGEST = 0.92
"""Share from which a text that is inside the other is similar to it as a whole."""


class Match(NamedTuple):
    """How similar two texts are."""

    similarity: float
    """1 for equal normal forms, otherwise the Jaccard similarity that the rule measured."""
    how: Literal["same", "near", "inside"]
    """Whether the normal forms are equal, the texts similar, or one inside the other."""


NOTHING = Match(0.0, "near")


@dataclass(frozen=True, slots=True)
class Wording:
    """The tokens of one problem, as the rule needs them."""

    words: "Hashes"
    """The hash of each token."""
    kinds: "NDArray[np.uint8]"
    """The kind of each token."""
    shingles: "Hashes"
    """The distinct shingles, sorted."""
    spelled: bytes
    """The bytes of the tokens, for misspellings."""
    edges: "NDArray[np.int64]"
    """Token i is spelled[edges[2 * i] : edges[2 * i + 1]]."""

    def skeleton_places(self) -> "NDArray[np.int64]":
        """Where the numbers and signs are."""
        return np.flatnonzero(self.kinds >= characters.NUMBER)

    def options(self) -> set[bytes]:
        """The options of the problem, each as the bytes of its token hashes."""
        marks = np.flatnonzero(self.words == option_mark())
        # Without options, np.split would copy all words for nothing.
        if not len(marks):
            return set()
        return {part[1:].tobytes() for part in np.split(self.words, marks)[1:]}

    def unique_words(self) -> Mapping[int, bytes]:
        """The words (no numbers, signs or characters) by their hash."""
        # Letters of long texts are not kept (`LONG`), so nothing can be respelled there.
        if not self.spelled:
            return {}
        places = np.flatnonzero(self.kinds == characters.WORD).tolist()
        return {
            int(self.words[at]): self.spelled[self.edges[2 * at] : self.edges[2 * at + 1]]
            for at in places
        }


def wordings(tokens: Tokens) -> Iterator[Wording]:
    """One Wording for each text of a piece. Copies its part, so that the piece can be freed."""
    for text in range(len(tokens)):
        begin, end = int(tokens.bounds[text]), int(tokens.bounds[text + 1])
        words, kinds = tokens.words[begin:end].copy(), tokens.kinds[begin:end].copy()
        # Offsets begin at 0 in each copy, so that a Wording does not depend on its piece.
        edges = tokens.edges[2 * begin : 2 * end]
        if end - begin >= LONG:
            edges = edges[:0]
        first, last = (int(edges[0]), int(edges[-1])) if len(edges) else (0, 0)
        spelled = tokens.spelled[first:last].tobytes()
        yield Wording(words, kinds, grams_of(words, kinds), spelled, edges - first)


def grams_of(words: "Hashes", kinds: "NDArray[np.uint8]") -> "Hashes":
    """The distinct shingles of one text, sorted."""
    runs = np.empty(len(words), np.uint64)
    offsets = np.empty(2, np.int64)
    bounds = np.array([0, len(words)], np.int64)
    sizes = np.array([WORDS, CHARACTERS], np.int64)
    count = token_kernels.hash_grams(words, kinds, bounds, sizes, kernels.PLACES, runs, offsets)
    found = np.sort(runs[:count])
    return found[: kernels.keep_distinct(found)].copy()


def jaccard(one: "Hashes", other: "Hashes") -> float:
    """The Jaccard similarity of two sorted sets; 1 for two empty ones."""
    common = kernels.in_common(one, other)
    return common / max(1, len(one) + len(other) - common) if len(one) or len(other) else 1.0


def compare(one: Wording, other: Wording, threshold: float) -> Match:
    """Applies the rule to two texts.

    Args:
        one: One text.
        other: The other text; the result is the same the other way round.
        threshold: Similarity from which cheaper measures settle the question. Below it, texts
            are respelled and looked for inside each other.

    Returns:
        The similarity. 0 where the skeletons rule it out.
    """
    if np.array_equal(one.words, other.words):
        return Match(1.0, "same")
    first, second = one.words[one.skeleton_places()], other.words[other.skeleton_places()]
    # Options are sets: their order says nothing, and a copy may lack a few.
    choices, others = one.options(), other.options()
    if choices and others and not choices & others:
        return NOTHING
    best = NOTHING
    if np.array_equal(first, second):
        raw = jaccard(one.shingles, other.shingles)
        if raw < threshold and raw >= WORTH_A_LOOK:
            raw = max(raw, respelled(one, other))
        best = Match(raw, "near")
    # Containment is looked for last, since it costs the most.
    if best.similarity < threshold:
        short, long = sorted((one, other), key=lambda wording: len(wording.words))
        best = max(best, Match(inside(short, long), "inside"))
    return best


def respelled(one: Wording, other: Wording) -> float:
    """The Jaccard similarity of two texts after misspelled words were made equal.

    Args:
        one: One text.
        other: The text whose words are replaced by those of `one` that they are misspellings of.
    """
    ours, theirs = one.unique_words(), other.unique_words()
    only_here = {key: word for key, word in ours.items() if key not in theirs}
    only_there = {key: word for key, word in theirs.items() if key not in ours}
    # More different words than half of all are another text: the pairs grow with their square.
    if not only_here or 2 * len(only_there) > len(theirs) + 4:
        return 0.0
    words = other.words.copy()
    for key, word in only_there.items():
        match = next((mine for mine, known in only_here.items() if misspelled(word, known)), None)
        if match is not None:
            words[words == np.uint64(key)] = np.uint64(match)
    return jaccard(one.shingles, grams_of(words, other.kinds))


def misspelled(one: bytes, other: bytes) -> bool:
    """Whether two words are one edit apart: a letter more, less or changed, or two swapped."""
    # OSA and not Levenshtein: two swapped letters are one typo.
    short = min(len(one), len(other))
    if short >= MISSPELLED:
        return bool(OSA.distance(one, other, score_cutoff=1) <= 1)
    return short == 3 and sorted(one) == sorted(other) and one != other


def inside(short: Wording, long: Wording) -> float:
    """The similarity of the shorter text to the part of the longer one that it matches.

    Args:
        short: The text with fewer tokens.
        long: The text with more.

    Returns:
        0 where it is not inside, or where a surplus number or sign lies in the matched span.
    """
    size = len(short.words)
    if size < max(SHORTEST, SMALLEST * len(long.words)) or size > LARGEST * len(long.words):
        return 0.0
    # Cheap tests first: most pairs end here, before the span is looked for.
    common = kernels.in_common(short.shingles, long.shingles)
    if common < WORTH_A_LOOK * len(short.shingles):
        return 0.0
    start = best_offset(short, long)
    begin, end = max(0, start), min(len(long.words), start + size)
    if begin >= end:
        return 0.0
    places = long.skeleton_places()
    matched = places[(places >= begin) & (places < end)]
    run = short.words[short.skeleton_places()]
    if not np.array_equal(long.words[matched], run):
        return 0.0
    # A sign next to the span belongs to it: x + 3 is not inside of x + 3 - y.
    # The mark between a question and its options does not: a copy may lack the options.
    borders = [at for at in (begin - 1, end) if 0 <= at < len(long.words)]
    signs = [at for at in borders if long.kinds[at] == characters.SIGN]
    if any(long.words[at] != option_mark() for at in signs):
        return 0.0
    words, kinds = long.words[begin:end], long.kinds[begin:end]
    edges = long.edges[2 * begin : 2 * end]
    spelled = long.spelled if len(edges) else b""
    span = Wording(words, kinds, grams_of(words, kinds), spelled, edges)
    raw = jaccard(short.shingles, span.shingles)
    return max(raw, respelled(short, span))


def best_offset(short: Wording, long: Wording) -> int:
    """How many tokens of the longer text precede the matched span.

    It is the median over single tokens and pairs that both have once: a text that was copied as a
    whole moved all of them by the same number of places.
    """
    places: list[dict[int, int]] = []
    for wording in (short, long):
        pairs = wording.words[:-1] * kernels.PLACES[0] + wording.words[1:] * kernels.PLACES[1]
        found, first, counts = np.unique(pairs, return_index=True, return_counts=True)
        # A pair that occurs twice could be either of the two, and would move the median.
        once = counts == 1
        places.append(dict(zip(found[once].tolist(), first[once].tolist(), strict=True)))
    moved = [place - places[0][pair] for pair, place in places[1].items() if pair in places[0]]
    return int(np.median(moved)) if moved else 0
