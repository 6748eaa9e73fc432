"""Texts become tokens, shingles and signatures as their definitions say."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import datasketch
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omr_data.similar.minhash import band_keys, rows_per_band, signatures
from omr_data.similar.shingles import Shingles, shingle
from omr_data.similar.tokens import normal_form
from tests.dedup_rows import edited, jaccard, text


@given(st.lists(st.text(alphabet="ab1 ,.\nÉ", max_size=60), max_size=6))
def test_a_text_s_shingles_do_not_depend_on_the_texts_beside_it(texts: list[str]) -> None:
    together = shingle(pl.Series(texts, dtype=pl.String))
    for place, one in enumerate(texts):
        assert together.of(place).tolist() == shingle(pl.Series([one])).of(0).tolist()


@pytest.mark.build
def test_shingles_are_runs_of_three_words_whatever_case_and_punctuation() -> None:
    found = shingle(
        pl.Series(
            [
                "The cat sat on the mat",
                "the CAT, sat on... the mat!",
                "the cat",
                "",
                None,
                "mat the on sat cat the",
            ]
        )
    )
    assert np.diff(found.offsets).tolist() == [4, 4, 1, 0, 0, 4]
    assert found.of(0).tolist() == found.of(1).tolist()
    assert not set(found.of(0)) & set(found.of(5))


def spelled(number: int) -> str:
    """A number in letters, so that it is part of the word."""
    return "".join("abcdefghij"[int(digit)] for digit in str(number))


def test_long_words_and_a_text_larger_than_a_chunk_are_read_whole() -> None:
    words = [f"{'x' * 60}{spelled(number)}" for number in range(30_000)]
    found = shingle(pl.Series([" ".join(words), " ".join(words[:-1])]))
    assert np.diff(found.offsets).tolist() == [29_998, 29_997]
    assert len(set(found.of(0)) - set(found.of(1))) == 1


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.8, 0.9, 1.0])
def test_bands_are_as_wide_as_the_threshold_allows(threshold: float) -> None:
    rows = rows_per_band(threshold)
    assert 1 - (1 - threshold**rows) ** (128 // rows) >= 0.995
    assert rows == 128 or 1 - (1 - threshold ** (rows + 1)) ** (128 // (rows + 1)) < 0.995


def test_signatures_estimate_similarity_and_can_be_queried_with_datasketch() -> None:
    texts = [text(0, 400), edited(text(0, 400), 0.02, 1), text(5, 400)]
    signed = signatures(shingle(pl.Series(texts)))
    close, far = float((signed[0] == signed[1]).mean()), float((signed[0] == signed[2]).mean())
    assert abs(close - jaccard(texts[0], texts[1])) < 0.12
    assert far < 0.05
    index = datasketch.MinHashLSH(threshold=0.5, num_perm=128)
    index.insert("first", datasketch.MinHash(num_perm=128, scheme="affine32", hashvalues=signed[0]))
    assert index.query(
        datasketch.MinHash(num_perm=128, scheme="affine32", hashvalues=signed[1])
    ) == ["first"]
    assert (
        index.query(datasketch.MinHash(num_perm=128, scheme="affine32", hashvalues=signed[2])) == []
    )
    keys = band_keys(signed, 5)
    assert set(keys[0]) & set(keys[1]) and not set(keys[0]) & set(keys[2])


def sketched(values: Sequence[int]) -> list[int]:
    """The signature of some hashes, word for word as its definition says."""
    best: dict[int, tuple[int, int]] = {}
    for turn in range(256):
        if len(best) == 128:
            break
        for value in values:
            mixed = (value + turn * 0x9E3779B97F4A7C15) % 2**64
            if turn:
                for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
                    mixed = (mixed ^ mixed >> shift) * factor % 2**64
                mixed ^= mixed >> 31
            slot = mixed >> 57 if turn < 128 else turn - 128
            best[slot] = min(best.get(slot, (256, 0)), (turn, mixed % 2**32))
    return [best[slot][1] for slot in range(128)]


@given(st.integers(0, 2**32), st.sampled_from([1, 2, 3, 20, 130, 900]))
def test_signatures_are_what_their_definition_says(seed: int, size: int) -> None:
    hashes = np.random.default_rng(seed).integers(2**64, size=size, dtype=np.uint64)
    found = signatures(
        Shingles(np.concatenate([hashes, hashes[::-1]]), np.array([0, size, size, 2 * size]))
    )
    assert found[0].tolist() == found[2].tolist() == sketched(hashes.tolist())
    assert set(found[1].tolist()) == {2**32 - 1}


@pytest.mark.parametrize("size", [3, 12, 60, 300, 1_500])
def test_signatures_agree_as_often_as_the_sets_are_alike(size: int) -> None:
    """Each of 400 estimates from 128 places deviates by at most 0.044, their mean by 0.002."""
    draw = np.random.default_rng(size)
    shared, first, second = (
        draw.integers(2**64, size=(400, part), dtype=np.uint64) for part in (size * 2, size, size)
    )
    both = np.stack([np.concatenate([shared, own], 1) for own in (first, second)])
    signed = signatures(Shingles(both.ravel(), np.arange(801) * size * 3)).reshape(2, 400, 128)
    estimates = (signed[0] == signed[1]).mean(1)
    assert abs(estimates.mean() - 0.5) < 0.01
    assert estimates.std() < 0.06


def test_hashes_that_may_be_published_stay_what_they_are() -> None:
    """Signatures of two versions can only be compared while this holds.

    A change needs a new revision of the steps, and a line in the changelog.
    """
    found = shingle(
        pl.Series(
            ["The cat sat on the mat", "internationalisation of Ｎaïve words: très bien 2026"]
        )
    )
    signed = signatures(found)
    digest = hashlib.sha256(
        found.hashes.astype("<u8").tobytes()
        + signed.astype("<u4").tobytes()
        + band_keys(signed, 6).astype("<u8").tobytes()
    )
    assert digest.hexdigest()[:16] == "a117bf6b4348b76a"


def table_of_sameness() -> list[tuple[str, str, bool]]:
    """The rows of the table in docs/dedup.md."""
    text = Path("docs/dedup.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(.+?)` \| `(.+?)` \| (yes|no) \|$", text, re.MULTILINE)
    return [(one, other, answer == "yes") for one, other, answer in rows]


def test_the_table_of_the_documents_says_what_is_one_problem() -> None:
    rows = table_of_sameness()
    assert len(rows) >= 16
    for one, other, same in rows:
        assert (normal_form(one) == normal_form(other)) == same, (one, other)
