"""Drops training problems that are in a benchmark.

    decontaminate.Against((gsm8k.Source(split="test"), ...))

Words are compared by the rule of sameness (`omr_data.similar.rule`): equal normal forms at any
length, otherwise similar words with the same sequence of numbers and signs, or 13 tokens in a row.
Images are compared by perceptual hashes, then cell by cell. The table `hits` names the best hit of
each dropped problem with both questions; the table `benchmarks` counts them.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from omr_data.errors import RecipeError
from omr_data.identity import runtime_field
from omr_data.records import ImageRef
from omr_data.source import Source
from omr_data.step import Columns, Decisions, GlobalStep

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

    from omr_data.similar.crossing import ImageMatches

MatchPolicy = Literal["pair", "text", "image", "text or image", "text and image"]
Hit = tuple[float, str, str]
"""Similarity, the id of the benchmark problem, and how it was found."""
LARGE = 500
"""Rows from which a source is guarded by `limit`. Of fewer, one template is a fifth."""


@dataclass(frozen=True)
class Against(GlobalStep):
    """Compares every row with every row of the benchmarks.

    Benchmarks are sources like any other: pinned, read by the same code, and never released.

    Raises:
        RecipeError: there are no benchmarks; `similarity` or `limit` is out of range; or, while
            deciding, more than `limit` of a large source would be dropped.
    """

    revision: ClassVar[int] = 3
    """Raised when the same rows would be decided otherwise; it rebuilds what exists."""
    lazy_columns: ClassVar[tuple[str, ...]] = ("thumbnails",)
    """Columns that are read for single rows only, since all would not fit into memory."""
    benchmarks: tuple[Source, ...]
    """What to compare with."""
    policy: MatchPolicy = "pair"
    """What a hit is. "pair": words and images where both problems have images, words where either
    has none. "text" and "image": one of them alone. "text or image" drops every problem that
    shares an image or a question with a benchmark, which wipes out templated sets such as
    PuzzleVQA. "text and image" never drops a problem without an image. Equal normal forms with
    equal image bytes are a hit under every policy."""
    similarity: float = 0.6
    """The least similarity of the words."""
    radius: int = 12
    """Bits of 64 in which the perceptual hashes of candidate images may differ."""
    limit: float = runtime_field(0.2)
    """The step stops where it would drop a larger share of a source of at least 500 rows. Most
    often that is a benchmark's own training split or a template, and no contamination."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.benchmarks:
            raise RecipeError(
                f"{self.name} has no benchmarks. Give the sources to compare with, like "
                "gsm8k.Source(split='test')."
            )
        # 0 is refused as well: every row would be a hit, or every build would stop.
        for field, value in (("similarity", self.similarity), ("limit", self.limit)):
            if not 0 < value <= 1:
                raise RecipeError(
                    f"{self.name}: the {field} is {value}; it is over 0 and at most 1."
                )

    @property
    def references(self) -> tuple[Source, ...]:
        return self.benchmarks

    def extract_keys(
        self, shard: "pa.Table", read_image: Callable[[ImageRef], bytes]
    ) -> "pl.DataFrame":
        import polars as pl

        from omr_data.similar.candidates import image_bytes
        from omr_data.similar.images import image_columns

        frame = pl.DataFrame(pl.from_arrow(shard.select(["id", "source"])))
        if self.policy != "text":
            return frame.hstack(image_columns(shard, read_image))
        # Decoding images is most of the cost, and "text" needs none of it.
        return frame.with_columns(
            image_bytes(shard), pl.lit(None, pl.List(pl.Binary)).alias("thumbnails")
        )

    def decide(self, data: Columns, references: Sequence[Columns]) -> Decisions:
        import polars as pl

        found: list[tuple[str, str, str, str, float]] = []
        for source, reference in zip(self.benchmarks, references, strict=True):
            for id_, hits in self.hits(data, reference).items():
                # Of equal similarity, the smallest id: the order of hits must not matter.
                similarity, other, how = min(hits, key=lambda hit: (-hit[0], hit[1]))
                found.append((id_, other, source.name, how, round(similarity, 4)))
        schema = {
            "id": pl.String,
            "benchmark_id": pl.String,
            "benchmark": pl.String,
            "by": pl.String,
            "similarity": pl.Float64,
        }
        table = pl.DataFrame(sorted(found), schema=schema, orient="row")
        drops: dict[str, str] = {}
        # The first benchmark names the reason; the table has every one.
        for id_, _, benchmark, how, _ in table.iter_rows():
            side = "image" if how == "image" else "words"
            drops.setdefault(id_, f"it is in the benchmark {benchmark}, by its {side}")
        self.guard(data.keys, drops)
        sides = ("benchmark", "by")
        counts = table.group_by(sides).agg(
            problems=pl.col("id").n_unique().cast(pl.Int64),
            benchmark_problems=pl.col("benchmark_id").n_unique().cast(pl.Int64),
        )
        ours, theirs = _words_of(table["id"], [data]), _words_of(table["benchmark_id"], references)
        theirs = theirs.rename({"id": "benchmark_id", "question": "question_of_benchmark"})
        joined = table.join(ours, on="id", how="left", maintain_order="left")
        joined = joined.join(theirs, on="benchmark_id", how="left", maintain_order="left")
        return Decisions(drops, {"hits": joined, "benchmarks": counts.sort(sides)})

    def hits(self, data: Columns, reference: Columns) -> dict[str, list[Hit]]:
        """All hits of each problem in one benchmark, by the policy."""
        from omr_data.similar.crossing import ImageMatches

        found: dict[str, list[Hit]] = defaultdict(list)
        images = None
        # Under "text" the key columns have no hashes of images.
        if self.policy != "text":
            images = ImageMatches(data, reference, self.radius)
        if images is not None and self.policy in ("image", "text or image"):
            for id_, other in images.all_pairs():
                found[id_].append((1.0, other, "image"))
        if self.policy != "image":
            # A list, since all thumbnails that the hits need are read in one pass.
            hits = list(self.text_hits(data, reference))
            if images is not None:
                images.prepare((id_, other) for id_, other, *_ in hits)
            for id_, other, similarity, how in hits:
                if self._agrees(images, id_, other, how):
                    found[id_].append((similarity, other, how))
        return found

    def text_hits(self, data: Columns, reference: Columns) -> Iterator[tuple[str, str, float, str]]:
        """The hits by words alone: id, benchmark id, similarity, and how."""
        from omr_data.similar.contamination import BenchmarkTexts, read_batches

        texts = BenchmarkTexts(reference.rows, self.similarity)
        for ids, tokens in read_batches(data.rows):
            for hit in texts.hits(tokens):
                # Benchmark problems with one text may have different images: all are named.
                for other in texts.members[hit.question]:
                    yield ids[hit.row], other, hit.similarity, hit.how

    def _agrees(self, images: "ImageMatches | None", id_: str, other: str, how: str) -> bool:
        """Whether the images of two problems with the same words allow a hit under the policy."""
        if images is None or self.policy == "text or image":
            return True
        # Equal bytes settle it without a thumbnail, also where neither has an image.
        if how == "same" and images.equal_bytes(id_, other):
            return True
        if self.policy == "pair" and not images.both_have_images(id_, other):
            return True
        return images.same(id_, other)

    def guard(self, keys: "pl.DataFrame", drops: dict[str, str]) -> None:
        """Stops where too much of a large source would be dropped.

        Args:
            keys: The key columns of the flow.
            drops: The rows to drop, with reasons.

        Raises:
            RecipeError: More than `limit` of a source would be dropped.
        """
        dropped: Counter[str] = Counter()
        rows: Counter[str] = Counter()
        for id_, source in keys.select("id", "source").iter_rows():
            rows[source] += 1
            dropped[source] += id_ in drops
        # All sources that are over the limit are named, not only the first one.
        over = [
            f"  {source}: {dropped[source]:,} of {count:,} rows ({dropped[source] / count:.0%})"
            for source, count in sorted(rows.items())
            if count >= LARGE and dropped[source] > self.limit * count
        ]
        if over:
            lines = "\n".join(over)
            raise RecipeError(
                f"{self.name} with policy={self.policy!r} would drop over {self.limit:.0%} of\n"
                f"{lines}\nCheck that the source is not a benchmark's own data or a set of "
                "templates. To drop these rows all the same, give limit=1.0."
            )


def _words_of(ids: "pl.Series", sides: Sequence[Columns]) -> "pl.DataFrame":
    """`id` and `question` of some rows; no shard is read where there are none."""
    import polars as pl

    parts = [pl.DataFrame(schema={"id": pl.String, "question": pl.String})]
    if len(ids):
        there = pl.col("id").is_in(ids.unique().implode())
        for side in sides:
            wanted = side.rows.select("id", "question").filter(there)
            parts.append(wanted.collect(engine="streaming"))
    return pl.concat(parts)
