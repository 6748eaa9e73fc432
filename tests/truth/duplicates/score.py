"""Scores steps on the truth set: the share of pairs of each kind that a step takes for one problem.

python -m tests.truth.duplicates.score          the table of docs/dedup.md
"""

import json
import re
import tempfile
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rapidfuzz.distance import Indel

from omr_data.operators import decontaminate, dedup
from omr_data.records import Record
from omr_data.sources import gsm8k
from omr_data.step import GlobalStep
from tests.builders import record
from tests.dedup_rows import columns, decide

PAIRS = Path(__file__).with_name("same.jsonl")
EXACT_KINDS = (
    "exact",
    "case and spaces",
    "thousands",
    "decimals",
    "number words",
    "question number",
    "image mark",
    "Unicode or LaTeX",
    "option labels",
    "coordinates",
    "short",
)
"""Kinds of copies that differ in form only: every step finds all of them."""
NEAR_KINDS = ("typos", "instruction", "joined", "cut")
"""Kinds of copies that NearText finds."""


@dataclass(frozen=True)
class Pair:
    """One line of the truth set."""

    kind: str
    """What was changed."""
    language: str
    """The language of both sides."""
    same: bool
    """Whether both sides are one problem."""
    sides: tuple[Record, Record]
    """The two problems."""


def load() -> list[Pair]:
    """The truth set."""
    found = []
    for number, text in enumerate(PAIRS.read_text().splitlines()):
        line: dict[str, Any] = json.loads(text)
        sides = [
            record(
                f"{number:05}/{side}",
                question=line[side]["question"],
                options=tuple(line[side]["options"]),
            )
            for side in ("one", "other")
        ]
        found.append(Pair(line["kind"], line["language"], line["same"], (sides[0], sides[1])))
    return found


def found_by_step(step: GlobalStep, pairs: Sequence[Pair]) -> list[bool]:
    """Whether a dedup step drops one side of each pair for the other one.

    Each kind in each language is a set of rows of its own, so that rows of one template meet.
    """
    groups: dict[tuple[str, str, bool], list[int]] = defaultdict(list)
    for number, pair in enumerate(pairs):
        groups[pair.kind, pair.language, pair.same].append(number)
    found = [False] * len(pairs)
    with tempfile.TemporaryDirectory() as folder:
        for members in groups.values():
            rows = [side for number in members for side in pairs[number].sides]
            table = decide(step, rows, Path(folder)).tables["pairs"]
            linked = {frozenset(pair) for pair in table.select("dropped", "kept").iter_rows()}
            for number in members:
                one, other = pairs[number].sides
                found[number] = frozenset((one.id, other.id)) in linked
    return found


def found_by_against(pairs: Sequence[Pair]) -> list[bool]:
    """Whether `decontaminate.Against` finds one side of a pair in a benchmark of the other."""
    step = decontaminate.Against((gsm8k.Source(split="test"),), policy="text", limit=1.0)
    with tempfile.TemporaryDirectory() as folder:
        sides = [
            columns(
                step, [pair.sides[side] for pair in pairs], Path(folder) / str(side), lambda _: b""
            )
            for side in (0, 1)
        ]
        hits = {(one, other) for one, other, *_ in step.text_hits(sides[1], sides[0])}
    return [(pair.sides[1].id, pair.sides[0].id) in hits for pair in pairs]


def _words(pair: Pair) -> tuple[list[str], list[str]]:
    texts = [
        unicodedata.normalize("NFKC", " ".join((side.question, *side.options))).lower()
        for side in pair.sides
    ]
    return re.findall(r"\w+", texts[0]), re.findall(r"\w+", texts[1])


def _grams(words: Sequence[str], size: int) -> set[tuple[str, ...]]:
    return {tuple(words[at : at + size]) for at in range(len(words) - size + 1)}


def jaccard5(pair: Pair) -> bool:
    """Exact Jaccard similarity of word 5-grams, at 0.8."""
    one, other = (_grams(words, 5) for words in _words(pair))
    return bool(one | other) and len(one & other) >= 0.8 * len(one | other)


def shared(size: int) -> Callable[[Pair], bool]:
    """Whether some words in a row are shared."""

    def found(pair: Pair) -> bool:
        one, other = (_grams(words, size) for words in _words(pair))
        return bool(one & other)

    return found


def indel(pair: Pair) -> bool:
    """Indel similarity of the letters, at 0.75."""
    one, other = (" ".join(words) for words in _words(pair))
    return Indel.normalized_similarity(one, other) >= 0.75


BASELINES: dict[str, Callable[[Pair], bool]] = {
    "5-gram Jaccard 0.8": jaccard5,
    "13-gram": shared(13),
    "8-gram": shared(8),
    "Indel 0.75": indel,
}


def shares(pairs: Sequence[Pair], found: Sequence[bool]) -> dict[tuple[bool, str], float]:
    """The share of each kind that was taken for one problem, by label and kind."""
    counts: dict[tuple[bool, str], list[int]] = defaultdict(lambda: [0, 0])
    for pair, one in zip(pairs, found, strict=True):
        count = counts[pair.same, pair.kind]
        count[0] += one
        count[1] += 1
    return {key: hits / total for key, (hits, total) in counts.items()}


def main() -> None:
    """Prints the table."""
    pairs = load()
    columns = {
        "Exact": shares(pairs, found_by_step(dedup.Exact(), pairs)),
        "NearText": shares(pairs, found_by_step(dedup.NearText(), pairs)),
        "Against": shares(pairs, found_by_against(pairs)),
    }
    for name, rule in BASELINES.items():
        columns[name] = shares(pairs, [rule(pair) for pair in pairs])
    print(f"| kind | pairs | {' | '.join(columns)} |")
    print("|---|---|" + "---|" * len(columns))
    for same, kind in sorted(columns["Exact"], key=lambda key: (not key[0], key[1])):
        count = sum(pair.kind == kind and pair.same == same for pair in pairs)
        cells = [f"{100 * column[same, kind]:.0f}%" for column in columns.values()]
        print(f"| {'' if same else 'other: '}{kind} | {count} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
