"""Drops training problems that are in a benchmark, by their words, by their images, or only where both agree.

    decontaminate.Against((gsm8k.Source(split="test"), ...), policy="text or image")

**Text hit**: 13 words in a row are shared (GPT-3, appendix C), or the Indel similarity of the questions is at least 0.75, and
every number of the benchmark's question is in the problem: the same template with other numbers is another problem. Where
both have options, these must share one. **Image hit**: within `radius` of 64 bits in two perceptual hashes.
The table `hits` names each hit with both sides and their questions; the table `benchmarks` counts them.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from omr_data.errors import RecipeError
from omr_data.records import ImageRef
from omr_data.source import Source
from omr_data.step import Columns, Decisions, GlobalStep

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

WORDS = 13
SEED_WORDS = 3
"""Questions are compared letter by letter only where they share a run of three words that few benchmark questions have."""
COMMON = 200
"""A run of words that more benchmark questions have than this is a phrase of the language, and finds no candidates."""
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_ROWS = 20_000


@dataclass(frozen=True, slots=True)
class _Question:
    id: str
    text: str
    numbers: frozenset[str]
    options: frozenset[str]


@dataclass(frozen=True)
class Against(GlobalStep):
    """Compares with every row of the benchmarks, which are sources of their own: pinned, read and never released.

    Raises:
        RecipeError: no benchmarks, or a similarity that is none.
    """

    revision: ClassVar[int] = 2
    benchmarks: tuple[Source, ...]
    policy: Literal["text", "image", "text or image", "text and image"] = "text or image"
    similarity: float = 0.75
    radius: int = 12

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.benchmarks:
            raise RecipeError(
                f"{self.name} has no benchmarks. Give the sources to compare with, like gsm8k.Source(split='test')."
            )
        if not 0 < self.similarity <= 1:
            raise RecipeError(
                f"{self.name}: the similarity is {self.similarity}; it is over 0 and at most 1."
            )

    @property
    def references(self) -> tuple[Source, ...]:
        return self.benchmarks

    def extract_keys(
        self, shard: "pa.Table", read_image: Callable[[ImageRef], bytes]
    ) -> "pl.DataFrame":
        import polars as pl

        if self.policy == "text":
            return pl.DataFrame(pl.from_arrow(shard.select(["id", "source"])))
        from omr_data.similar.images import hash_columns

        return hash_columns(shard, read_image)

    def decide(self, data: Columns, references: Sequence[Columns]) -> Decisions:
        import polars as pl

        hits: list[tuple[str, str, str, str, float]] = []
        for source, reference in zip(self.benchmarks, references, strict=True):
            texts = list(self._text_hits(data, reference)) if self.policy != "image" else []
            images = list(self._image_hits(data, reference)) if self.policy != "text" else []
            if self.policy == "text and image":
                both = {(id_, other) for id_, other, *_ in texts} & {
                    (id_, other) for id_, other, *_ in images
                }
                texts, images = [hit for hit in texts if hit[:2] in both], []
            hits += [
                (id_, other, source.name, by, similarity)
                for id_, other, by, similarity in [*texts, *images]
            ]
        schema = {
            "id": pl.String,
            "benchmark_id": pl.String,
            "benchmark": pl.String,
            "by": pl.String,
            "similarity": pl.Float64,
        }
        table = pl.DataFrame(sorted(hits), schema=schema, orient="row")
        drops: dict[str, str] = {}
        for id_, _, benchmark, how, _ in table.iter_rows():
            drops.setdefault(
                id_,
                f"it is in the benchmark {benchmark}, by its {'image' if how == 'image' else 'words'}",
            )
        sides = ("benchmark", "by")
        counts = table.group_by(sides).agg(
            problems=pl.col("id").n_unique().cast(pl.Int64),
            benchmark_problems=pl.col("benchmark_id").n_unique().cast(pl.Int64),
        )
        hits_with_words = table.join(
            _words_of(table["id"], [data]), on="id", how="left", maintain_order="left"
        ).join(
            _words_of(table["benchmark_id"], references),
            left_on="benchmark_id",
            right_on="id",
            how="left",
            maintain_order="left",
            suffix="_of_benchmark",
        )
        return Decisions(drops, {"hits": hits_with_words, "benchmarks": counts.sort(sides)})

    def _image_hits(
        self, data: Columns, reference: Columns
    ) -> Iterator[tuple[str, str, str, float]]:
        from omr_data.similar.images import similar_images

        ours, theirs = data.keys["id"], reference.keys["id"]
        for rows, others in similar_images(data.keys, reference.keys, self.radius):
            yield from ((ours[row], theirs[others[0]], "image", 1.0) for row in rows)

    def _text_hits(
        self, data: Columns, reference: Columns
    ) -> Iterator[tuple[str, str, str, float]]:
        index = _Index(
            [question for batch in _questions(reference.rows) for question in batch],
            self.similarity,
        )
        for batch in _questions(data.rows):
            yield from index.hits(batch)


def _words_of(ids: "pl.Series", sides: Sequence[Columns]) -> "pl.DataFrame":
    """`id` and `question` of some rows; no shard is read where there are none."""
    import polars as pl

    empty = pl.DataFrame(schema={"id": pl.String, "question": pl.String})
    if ids.is_empty():
        return empty
    there = pl.col("id").is_in(ids.unique().implode())
    return pl.concat(
        [
            empty,
            *(
                side.rows.select("id", "question").filter(there).collect(engine="streaming")
                for side in sides
            ),
        ]
    )


class _Index:
    """The questions of one benchmark, by their runs of words."""

    def __init__(self, questions: Sequence[_Question], similarity: float) -> None:
        self._questions, self._similarity = questions, similarity
        self._long = self._runs(WORDS, None)
        self._seeds = self._runs(SEED_WORDS, COMMON)

    def _runs(self, size: int, most: int | None) -> dict[int, list[int]]:
        found: dict[int, list[int]] = defaultdict(list)
        for number, runs in enumerate(
            _runs_of([question.text for question in self._questions], size)
        ):
            for run in set(runs):
                found[run].append(number)
        return {
            run: numbers for run, numbers in found.items() if most is None or len(numbers) <= most
        }

    def hits(self, batch: Sequence[_Question]) -> Iterator[tuple[str, str, str, float]]:
        """(id, benchmark id, how, similarity) for each problem that is in the benchmark: its best hit."""
        from rapidfuzz.distance import Indel

        texts = [question.text for question in batch]
        for question, long, seeds in zip(
            batch, _runs_of(texts, WORDS), _runs_of(texts, SEED_WORDS), strict=True
        ):
            shared = Counter(number for run in set(seeds) for number in self._seeds.get(run, ()))
            sharing = {number for run in set(long) for number in self._long.get(run, ())}
            best: tuple[float, str, str] | None = None
            for number in {number for number, _ in shared.most_common(50)} | sharing:
                other = self._questions[number]
                if not _may_be(question, other):
                    continue
                score = Indel.normalized_similarity(
                    question.text, other.text, score_cutoff=self._similarity
                )
                run = number in sharing
                if score >= self._similarity or run:
                    best = max(
                        best or (-1.0, "", ""),
                        (round(score, 4), other.id, "13 words" if run else "Indel"),
                    )
            if best is not None:
                yield question.id, best[1], best[2], best[0]


def _may_be(ours: _Question, benchmark: _Question) -> bool:
    """Whether numbers and options allow the one to be the other."""
    options = not (ours.options and benchmark.options) or bool(ours.options & benchmark.options)
    return options and benchmark.numbers <= ours.numbers


def _runs_of(texts: Sequence[str], size: int) -> Iterator[list[int]]:
    """The hashes of each text's runs of so many words; none where it has fewer words."""
    import numpy as np
    import polars as pl

    from omr_data.similar.shingles import shingle

    found, words = (
        shingle(pl.Series(texts, dtype=pl.String), size),
        shingle(pl.Series(texts, dtype=pl.String), 1),
    )
    enough = np.diff(words.offsets) >= size
    for place in range(len(texts)):
        yield (
            found.hashes[found.offsets[place] : found.offsets[place + 1]].tolist()
            if enough[place]
            else []
        )


def _questions(rows: "pl.LazyFrame") -> Iterator[list[_Question]]:
    """The questions of a flow, in pieces."""
    from omr_data.records import IMAGE_MARK
    from omr_data.similar.shingles import normalize

    for frame in rows.select("id", "question", "options").collect_batches(chunk_size=_ROWS):
        texts = (
            normalize(frame["question"].str.replace_all(IMAGE_MARK, " ", literal=True))
            .str.replace_all(r"\s+", " ")
            .str.strip_chars()
        )
        yield [
            _Question(
                id_,
                text,
                frozenset(_NUMBER.findall(text)),
                frozenset(option.strip().lower() for option in options),
            )
            for id_, text, options in zip(
                frame["id"], texts, frame["options"].to_list(), strict=True
            )
        ]
