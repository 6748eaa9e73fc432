"""Looks problems up among the problems of a benchmark, by their words.

Equal normal forms are looked up first, however short they are. Other candidates share shingles
that few benchmark problems have, and the rule of sameness decides about them.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from omr_data.similar.rule import Wording, compare, wordings
from omr_data.similar.tokens import problem_texts, tokenize

if TYPE_CHECKING:
    import polars as pl

    from omr_data.similar.tokens import Tokens

COMMON = 200
"""A shingle that more benchmark problems have than this is a phrase, and finds no candidates."""
OVERLAP = 0.25
"""Share of the shorter text's uncommon shingles that candidates have in common at least."""
RUN = 13
"""Tokens in a row that are contamination by themselves (GPT-3, appendix C), where the rule allows
the two to be one problem."""
ROWS = 20_000
"""Problems that are looked up at once."""


@dataclass(frozen=True, slots=True)
class TextHit:
    """A problem whose words are those of a benchmark problem."""

    row: int
    """The number of the problem in its batch."""
    question: int
    """The number of the distinct benchmark text; `BenchmarkTexts.members` has its problems."""
    similarity: float
    """The similarity by the rule."""
    how: str
    """"same", "near", "inside", or "13 words"."""


class BenchmarkTexts:
    """The distinct texts of one benchmark."""

    def __init__(self, rows: "pl.LazyFrame", threshold: float) -> None:
        """Reads the benchmark.

        Args:
            rows: A lazy scan of its records.
            threshold: The least similarity of a hit.
        """
        self._threshold = threshold
        self.members: list[list[str]] = []
        self._texts: list[Wording] = []
        self._known: dict[tuple[int, ...], int] = {}
        for ids, tokens in read_batches(rows):
            normal = tokens.keys()[0]
            for place, wording in enumerate(wordings(tokens)):
                # A text without words says nothing; its image may.
                if not len(wording.words):
                    continue
                number = self._known.setdefault(tuple(normal[place].tolist()), len(self._texts))
                if number == len(self._texts):
                    self._texts.append(wording)
                    self.members.append([])
                self.members[number].append(ids[place])
        self._index()

    def _index(self) -> None:
        """Sorts the uncommon shingles, so that a batch is looked up with one binary search."""
        parts = [text.shingles for text in self._texts]
        shingles = np.concatenate(parts) if parts else np.zeros(0, np.uint64)
        owners = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        # A sorted array takes 16 bytes for each shingle; a dict would take several times that.
        order = np.argsort(shingles, kind="stable")
        shingles, owners = shingles[order], owners[order]
        _, inverse, counts = np.unique(shingles, return_inverse=True, return_counts=True)
        rare = counts[inverse] <= COMMON
        self._shingles, self._owners = shingles[rare], owners[rare]

    def hits(self, tokens: "Tokens") -> Iterator[TextHit]:
        """Every hit of every problem of a batch, in order of the problems.

        Args:
            tokens: The tokens of the problems.
        """
        normal = tokens.keys()[0]
        batch = list(wordings(tokens))
        candidates = self._candidates(batch)
        for row, wording in enumerate(batch):
            equal = self._known.get(tuple(normal[row].tolist()))
            if equal is not None and len(wording.words):
                yield TextHit(row, equal, 1.0, "same")
            # An equal text settles one question; others may contain it and are hits as well.
            for question in candidates.get(row, ()):
                if question == equal:
                    continue
                match = compare(wording, self._texts[question], self._threshold)
                if match.similarity >= self._threshold:
                    yield TextHit(row, question, match.similarity, match.how)
                # 0 means other numbers or signs: a shared run is then the template's wording.
                elif match.similarity > 0 and shares_run(wording, self._texts[question]):
                    yield TextHit(row, question, match.similarity, f"{RUN} words")

    def _candidates(self, batch: Sequence[Wording]) -> dict[int, list[int]]:
        """The benchmark texts that share enough uncommon shingles with each problem."""
        sizes = [len(wording.shingles) for wording in batch]
        rows = np.repeat(np.arange(len(batch)), sizes)
        ours = np.concatenate([wording.shingles for wording in batch] or [np.zeros(0, np.uint64)])
        first = np.searchsorted(self._shingles, ours, "left")
        last = np.searchsorted(self._shingles, ours, "right")
        counts = last - first
        # Each shingle of ours, repeated once for each benchmark text that has it.
        starts = np.repeat(first - np.concatenate([[0], np.cumsum(counts)[:-1]]), counts)
        owners = self._owners[starts + np.arange(counts.sum())]
        # A pair as one number: np.unique sorts numbers much faster than rows of two.
        pairs = np.repeat(rows, counts) * max(1, len(self._texts)) + owners
        found, shared = np.unique(pairs, return_counts=True)
        candidates: dict[int, list[int]] = defaultdict(list)
        for pair, common in zip(found.tolist(), shared.tolist(), strict=True):
            row, question = divmod(pair, max(1, len(self._texts)))
            shorter = min(sizes[row], len(self._texts[question].shingles))
            if common >= OVERLAP * shorter:
                candidates[row].append(question)
        return candidates


def shares_run(one: Wording, other: Wording) -> bool:
    """Whether two texts have `RUN` tokens in a row in common."""
    short, long = sorted((one, other), key=lambda wording: len(wording.words))
    if len(short.words) < RUN:
        return False
    runs = [np.lib.stride_tricks.sliding_window_view(part.words, RUN) for part in (short, long)]
    # Runs of the shorter text are kept, so that memory follows the smaller side.
    known = {run.tobytes() for run in runs[0]}
    return any(run.tobytes() in known for run in runs[1])


def read_batches(rows: "pl.LazyFrame") -> "Iterator[tuple[list[str], Tokens]]":
    """The ids and tokens of a flow's problems, some at a time and in order."""
    for frame in rows.select("id", "question", "options").collect_batches(chunk_size=ROWS):
        ids = frame["id"].to_list()
        start = 0
        for tokens in tokenize(problem_texts(frame)):
            yield ids[start : start + len(tokens)], tokens
            start += len(tokens)


def best(hits: Sequence[tuple[float, str, str]]) -> tuple[float, str, str]:
    """The hit with the highest similarity, and of equal ones that with the smallest id.

    Args:
        hits: Similarity, benchmark id and how it was found.
    """
    return min(hits, key=lambda hit: (-hit[0], hit[1]))
