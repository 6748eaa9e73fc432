"""Questions that say the same in other words are found, whatever the order of rows."""

import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from omr_data.embedders import base, model2vec, sentence_transformers
from omr_data.errors import RecipeError, SourceError
from omr_data.identity import fingerprint
from omr_data.operators import dedup
from omr_data.records import ImageRef, Record, to_table
from omr_data.similar.clusters import Components
from omr_data.similar.vectors import band_width, cosines, join_similar_vectors, rounded, sign_bits
from tests.builders import record
from tests.dedup_rows import decide

SAME = {
    "big": "large",
    "huge": "large",
    "quick": "fast",
    "rapid": "fast",
    "begin": "start",
    "commence": "start",
}


@dataclass(frozen=True)
class Embedder(base.Embedder):
    """The mean of a random vector for each word; synonyms have one vector."""

    name = "test.Synonyms"

    def embed(self, texts: Sequence[str]) -> Any:
        words = [[SAME.get(word, word) for word in text.lower().split()] for text in texts]
        draw = {
            word: np.random.default_rng(zlib.crc32(word.encode())).standard_normal(64)
            for line in words
            for word in line
        }
        return np.array(
            [np.mean([draw[word] for word in line], 0) if line else np.zeros(64) for line in words],
            np.float32,
        )


STEP = dedup.Semantic(embedder=Embedder(), threshold=0.95)


def asked(number: int, size: str = "big", speed: str = "quick") -> str:
    return (
        f"how {size} is the {speed} animal number{number} of kind{number % 7} in town{number * 3}"
    )


def rows() -> list[Record]:
    """40 questions, each in two wordings from two sources."""
    first = [record(f"b/{number:02}", source="b", question=asked(number)) for number in range(40)]
    return first + [
        record(f"a/{number:02}", source="a", question=asked(number, "huge", "rapid"))
        for number in range(40)
    ]


def test_another_wording_is_a_duplicate_and_the_declared_source_is_kept(tmp_path: Path) -> None:
    assert set(decide(STEP, rows(), tmp_path / "1").drops) == {
        f"b/{number:02}" for number in range(40)
    }
    preferred = dedup.Semantic(embedder=Embedder(), priority=("b",))
    decisions = decide(preferred, rows(), tmp_path / "2")
    assert set(decisions.drops) == {f"a/{number:02}" for number in range(40)}
    assert decisions.tables["pairs"].row(0)[:5] == (
        "a/00",
        "b/00",
        pytest.approx(1, abs=1e-4),
        "a",
        "b",
    )


def test_neither_order_nor_shards_change_what_means_the_same(tmp_path: Path) -> None:
    numbers = np.random.default_rng(0)
    results = [
        decide(
            STEP,
            [rows()[place] for place in numbers.permutation(80)],
            tmp_path / str(parts),
            parts=parts,
        )
        for parts in (1, 3, 7)
    ]
    assert results[0].drops == results[1].drops == results[2].drops
    assert all(one.tables["pairs"].equals(results[0].tables["pairs"]) for one in results)


def test_one_question_about_two_images_is_two_problems(tmp_path: Path) -> None:
    red, blue = (ImageRef(digit * 64, 9, 9, "PNG") for digit in "ab")
    records = [
        record("a/1", question="<image>how big is it", images=(red,)),
        record("a/2", question="<image>how huge is it", images=(blue,)),
        record("a/3", question="how large is it"),
        record("b/1", question="how huge is it <image>", images=(red,)),
        record("b/2", question="how big is it"),
        record("b/3", question="how big is it", options=("the sea", "the moon")),
        record("c/1", question=""),
        record("c/2", question=""),
    ]
    pairs = decide(STEP, records, tmp_path).tables["pairs"]
    assert pairs.select("dropped", "kept").rows() == [("b/1", "a/1"), ("b/2", "a/3")]


def test_the_same_question_with_other_numbers_is_another_problem(tmp_path: Path) -> None:
    story = (
        "{} people who live in a large house by the sea eat {} loaves of fresh bread in {} days "
        "and the rest is for the birds"
    )
    records = [
        record("a/1", question=story.format(12, 30, 5)),
        record("a/2", question=story.format(12, 30, 6)),
        record("a/3", question=story.format(12, 30, 5).replace("large", "huge")),
    ]
    assert set(
        decide(dedup.Semantic(embedder=Embedder(), threshold=0.8), records, tmp_path).drops
    ) == {"a/3"}


def planted(count: int) -> Any:
    """Vectors of one leaning, as real embeddings are; every fourth lies near the one before it."""
    numbers = np.random.default_rng(count)
    vectors = numbers.standard_normal((count, 48)) + 0.7 * numbers.standard_normal(48)
    vectors[3::4] = vectors[2::4] + numbers.uniform(
        0.05, 0.7, (count // 4, 1)
    ) * numbers.standard_normal((count // 4, 48))
    return rounded(vectors.astype(np.float32))


@pytest.mark.parametrize("threshold", [0.85, 0.9, 0.95, 0.99])
def test_what_is_found_is_what_comparing_all_with_all_finds(threshold: float) -> None:
    vectors = planted(2_000)
    components = Components(len(vectors))
    partition = np.zeros(len(vectors), np.uint64)
    join_similar_vectors(vectors, sign_bits(vectors), partition, threshold, components)
    links = components.links[: components.count[0]]
    joined = np.zeros(len(vectors), bool)
    joined[links.ravel()] = True
    units = vectors / np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    exact = units @ units.T >= threshold
    np.fill_diagonal(exact, False)
    missed = exact.any(1) & ~joined
    assert not (~exact.any(1) & joined).any()
    assert missed.sum() <= 0.01 * exact.any(1).sum()
    assert cosines(vectors, links).min() >= threshold
    assert 100 < exact.any(1).sum() < 1_000


@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.95, 1.0])
def test_bands_are_as_wide_as_the_cosine_allows(threshold: float) -> None:
    width, alike = band_width(threshold), 1 - np.arccos(threshold) / np.pi
    assert 1 - (1 - alike**width) ** (1_024 // width) >= 0.995
    assert width == 64 or 1 - (1 - alike ** (width + 1)) ** (1_024 // (width + 1)) < 0.995


@pytest.mark.build
def test_many_equal_vectors_are_no_quadratic_work() -> None:
    """100,000 equal vectors would be five thousand million pairs."""
    vectors = np.repeat(planted(8)[:1], 100_000, 0)
    components = Components(len(vectors))
    partition = np.zeros(len(vectors), np.uint64)
    join_similar_vectors(vectors, sign_bits(vectors), partition, 0.9, components)
    assert (components.roots() == 0).all()


def test_an_embedding_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        rounded(np.array([[1, np.nan]], np.float32))


# -------------------------------------------------------------------------------------- real models


WORDS = ["[UNK]", "how", "big", "huge", "is", "the", "cat", "dog", "car", "engine"]


def vocabulary() -> tuple[Tokenizer, Any]:
    """A tokenizer of whole words, and a vector for each; "big" and "huge" are nearly one."""
    tokenizer = Tokenizer(
        WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = Whitespace()
    vectors = np.random.default_rng(0).standard_normal((len(WORDS), 32)).astype(np.float32)
    vectors[WORDS.index("huge")] = vectors[WORDS.index("big")] + 0.05
    return tokenizer, vectors


def save_model2vec(folder: Path) -> type[base.ModelFolder]:
    from model2vec import StaticModel

    tokenizer, vectors = vocabulary()
    StaticModel(vectors, tokenizer).save_pretrained(folder)
    return model2vec.Embedder


def save_sentence_transformer(folder: Path) -> type[base.ModelFolder]:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    tokenizer, vectors = vocabulary()
    SentenceTransformer(
        modules=[StaticEmbedding(tokenizer, embedding_weights=vectors)], device="cpu"
    ).save(str(folder))
    return sentence_transformers.Embedder


@pytest.mark.build
@pytest.mark.parametrize("save", [save_model2vec, save_sentence_transformer])
def test_a_saved_model_embeds_and_must_be_the_one_that_was_declared(
    save: Any, tmp_path: Path
) -> None:
    kind = save(tmp_path / "model")
    weights = next((tmp_path / "model").rglob("model.safetensors"))
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    embedder = kind("ours", folder=tmp_path / "model", weights=sha256)
    vectors = rounded(
        embedder.embed(["how big is the cat", "how huge is the cat", "the dog the engine"])
    ).astype(float)
    assert vectors[0] @ vectors[1] > 0.95 * 2**28 > vectors[0] @ vectors[2]
    step = dedup.Semantic(embedder=embedder)
    records = [
        record("a/1", question="how big is the cat"),
        record("a/2", question="how huge is the cat"),
        record("a/3", question="car"),
    ]
    assert set(decide(step, records, tmp_path / "rows").drops) == {"a/2"}
    with pytest.raises(SourceError, match=f"has the sha256 {sha256}, and .* was told 0000"):
        kind("ours", folder=tmp_path / "model", weights="0" * 64).embed(["how"])
    with pytest.raises(SourceError, match="holds no model.safetensors"):
        kind("ours", folder=tmp_path / "rows", weights=sha256).embed(["how"])


def test_where_a_model_lies_is_no_part_of_what_it_is(tmp_path: Path) -> None:
    one = model2vec.Embedder("ours", weights="1" * 64, folder=tmp_path)
    assert fingerprint(one) == fingerprint(
        model2vec.Embedder("ours", weights="1" * 64, folder=tmp_path / "other")
    )
    assert fingerprint(one) != fingerprint(
        model2vec.Embedder("ours", weights="2" * 64, folder=tmp_path)
    )
    with pytest.raises(RecipeError, match="needs the commit of minishlab/potion-base-8M"):
        model2vec.Embedder("minishlab/potion-base-8M")
    with pytest.raises(RecipeError, match="give weights="):
        model2vec.Embedder("ours", folder=tmp_path)
    with pytest.raises(RecipeError, match="it is over 0 and at most 1"):
        dedup.Semantic(embedder=one, threshold=95)


def test_an_empty_shard_has_the_columns_of_the_others() -> None:
    empty = STEP.extract_keys(to_table([]), lambda image: b"")
    full = STEP.extract_keys(to_table(rows()), lambda image: b"")
    assert empty.schema == full.schema and pl.concat([empty, full]).height == 80
