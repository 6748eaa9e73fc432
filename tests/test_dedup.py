"""What is there twice is found, what only looks alike stays, and neither order nor workers change the result."""

import hashlib
import io
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import datasketch
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from omr_data.errors import RecipeError
from omr_data.operators import decontaminate, dedup
from omr_data.records import ImageRef, Record, to_table
from omr_data.similar.images import hashes as image_hashes
from omr_data.similar.images import looks, near, same_image
from omr_data.similar.minhash import band_keys, rows_per_band, signatures
from omr_data.similar.shingles import Shingles, shingle
from omr_data.sources import algopuzzlevqa, gsm8k, puzzlevqa
from omr_data.sources.locator import LocalDatasets
from omr_data.step import Columns, Decisions, GlobalStep
from omr_data.store.images import ImageStore, RowImages
from tests.builders import record

WORDS = [
    "".join(random.Random(number).choices("abcdefghijklmnopqrstuvwxyz", k=2 + number % 7))
    for number in range(3_000)
]


class ImageBytes:
    """Encoded images by a made-up sha256."""

    def __init__(self) -> None:
        self.known: dict[str, bytes] = {}

    def put(self, data: bytes) -> ImageRef:
        name = (
            f"{len(self.known):064x}"
            if data not in self.known.values()
            else next(k for k, v in self.known.items() if v == data)
        )
        self.known[name] = data
        with Image.open(io.BytesIO(data)) as image:
            return ImageRef(name, image.width, image.height, image.format or "")

    def read(self, image: ImageRef) -> bytes:
        return self.known[image.sha256]


def columns(
    step: GlobalStep,
    records: Sequence[Record],
    folder: Path,
    read: Callable[[ImageRef], bytes],
    parts: int = 1,
) -> Columns:
    """What the engine would show a GlobalStep: key frames of some shards, and the shards on disk."""
    folder.mkdir(parents=True, exist_ok=True)
    frames, paths = [], []
    size = -(-len(records) // parts)
    for number, start in enumerate(range(0, len(records), size)):
        table = to_table(records[start : start + size])
        frames.append(step.extract_keys(table, read))
        paths.append(folder / f"{number}.parquet")
        pl.DataFrame(pl.from_arrow(table.drop_columns(["meta"]))).write_parquet(paths[-1])
    whole = pl.concat(frames)
    return Columns(
        whole.drop(step.lazy_columns),
        whole.lazy().select("id", *step.lazy_columns),
        pl.scan_parquet(paths),
    )


def decide(
    step: GlobalStep,
    records: Sequence[Record],
    folder: Path,
    stored_images: Any = None,
    *,
    parts: int = 1,
    benchmark: Any = (),
) -> Decisions:
    read = stored_images.read if stored_images else lambda image: b""
    references = [columns(step, benchmark, folder / "benchmark", read)] if benchmark else []
    return step.decide(columns(step, records, folder, read, parts), references)


def text(seed: int, words: int = 120) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=words))


def edited(original: str, rate: float, seed: int) -> str:
    chance = random.Random(seed)
    return " ".join(
        chance.choice(WORDS) if chance.random() < rate else word for word in original.split()
    )


def jaccard(one: str, other: str) -> float:
    sets = [
        {tuple(words[start : start + 5]) for start in range(len(words) - 4)}
        for words in (one.split(), other.split())
    ]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


# ----------------------------------------------------------------------------------------------- words


@given(st.lists(st.text(alphabet="ab1 ,.\nÉ", max_size=60), max_size=6))
def test_a_text_s_shingles_do_not_depend_on_the_texts_beside_it(texts: list[str]) -> None:
    together = shingle(pl.Series(texts, dtype=pl.String))
    for place, one in enumerate(texts):
        assert together.of(place).tolist() == shingle(pl.Series([one])).of(0).tolist()


def test_shingles_are_runs_of_five_words_whatever_case_and_punctuation() -> None:
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
    assert np.diff(found.offsets).tolist() == [2, 2, 1, 0, 0, 2]
    assert found.of(0).tolist() == found.of(1).tolist()
    assert not set(found.of(0)) & set(found.of(5))


def test_long_words_and_a_text_larger_than_a_chunk_are_read_whole() -> None:
    words = [f"{'x' * 60}{number}" for number in range(30_000)]
    found = shingle(pl.Series([" ".join(words), " ".join(words[:-1])]))
    assert np.diff(found.offsets).tolist() == [29_996, 29_995]
    assert len(set(found.of(0)) - set(found.of(1))) == 1


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.8, 0.9, 1.0])
def test_bands_are_as_wide_as_the_threshold_allows(threshold: float) -> None:
    rows = rows_per_band(threshold)
    assert 1 - (1 - threshold**rows) ** (128 // rows) >= 0.995
    assert rows == 128 or 1 - (1 - threshold ** (rows + 1)) ** (128 // (rows + 1)) < 0.995


def test_signatures_estimate_similarity_and_can_be_queried_with_datasketch() -> None:
    texts = [text(0, 400), edited(text(0, 400), 0.02, 1), text(5, 400)]
    signed = signatures(shingle(pl.Series(texts)))
    near, far = float((signed[0] == signed[1]).mean()), float((signed[0] == signed[2]).mean())
    assert abs(near - jaccard(texts[0], texts[1])) < 0.12
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
    """The mean of 400 estimates from 128 places has a standard deviation of 0.002 at most, and each one 0.044."""
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
    """A change here makes signatures of two versions strangers: it needs a new revision of the steps, and a line in the changelog."""
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
    assert digest.hexdigest()[:16] == "b8335f7abd06354c"


def test_exact_ignores_case_and_spaces_and_sees_options_and_images(tmp_path: Path) -> None:
    stored_images = ImageBytes()
    red, blue = (stored_images.put(_png(color)) for color in ("red", "blue"))
    one = record("b/1", question="How many?", options=("1", "2"))
    records = [
        one,
        record("a/2", question="how  MANY?", options=("1", "2")),
        record("c/3", question="How many?", options=("1", "3")),
        record("c/4", question="<image>How many?", images=(red,)),
        record("c/5", question="<image>How many?", images=(blue,)),
        record("c/6", question="<image>how many?", images=(red,)),
    ]
    decisions = decide(dedup.Exact(), records, tmp_path, stored_images)
    assert set(decisions.drops) == {"b/1", "c/6"}
    assert set(decisions.drops.values()) == {"the same problem is there already"}
    assert decisions.tables["pairs"].select("dropped", "kept").rows() == [
        ("b/1", "a/2"),
        ("c/6", "c/4"),
    ]


def test_near_text_finds_every_pair_over_the_threshold_and_no_other(tmp_path: Path) -> None:
    records, close = [], set()
    for number in range(300):
        original = text(number)
        records.append(record(f"a/{number:04}", question=original))
        copy = edited(original, (0.0, 0.005, 0.01, 0.03, 0.1)[number % 5], number)
        records.append(record(f"b/{number:04}", question=copy))
        if jaccard(original, copy) >= 0.8:
            close.add(f"b/{number:04}")
    decisions = decide(dedup.NearText(threshold=0.8), records, tmp_path)
    dropped = set(decisions.drops)
    assert dropped <= close
    assert len(dropped) >= 0.98 * len(close)
    assert decisions.tables["pairs"]["similarity"].min() >= 0.8  # type: ignore[operator]
    similar = dict(decisions.tables["pairs"].select("dropped", "similarity").iter_rows())
    for id_, similarity in list(similar.items())[:20]:
        number = int(id_[2:])
        assert similarity == pytest.approx(
            jaccard(records[2 * number].question, records[2 * number + 1].question)
        )


@pytest.mark.parametrize(
    "step",
    [dedup.Exact(), dedup.NearText(threshold=0.7), dedup.NearPair(threshold=0.7)],
    ids=lambda step: step.name,
)
def test_the_result_does_not_depend_on_order_or_on_shards(step: GlobalStep, tmp_path: Path) -> None:
    stored_images = ImageBytes()
    image = (stored_images.put(_png("red")),)
    records = [
        record(f"{'ab'[number % 2]}/{number:03}", question=edited(text(number // 4), 0.01, number))
        for number in range(80)
    ]
    records += [
        record(f"c/{number}", question="<image>" + text(number // 3), images=image)
        for number in range(9)
    ]
    results = []
    for parts, seed in ((1, 0), (3, 1), (7, 2)):
        shuffled = random.Random(seed).sample(records, len(records))
        results.append(decide(step, shuffled, tmp_path / str(parts), stored_images, parts=parts))
    assert results[0].drops
    assert results[0].drops == results[1].drops == results[2].drops
    assert results[0].tables["pairs"].equals(results[1].tables["pairs"])


def test_the_source_that_comes_first_in_the_priority_keeps_its_row(tmp_path: Path) -> None:
    records = [
        record("a/1", source="cheap", question=text(1)),
        record("b/1", source="good", question=text(1)),
    ]
    assert set(decide(dedup.Exact(), records, tmp_path).drops) == {"b/1"}
    assert set(decide(dedup.Exact(priority=("good",)), records, tmp_path).drops) == {"a/1"}
    assert set(decide(dedup.NearText(priority=("good",)), records, tmp_path).drops) == {"a/1"}


def test_duplicates_are_counted_by_the_sources_of_both_sides(tmp_path: Path) -> None:
    records = [record(f"a/{number}", source="one", question=text(number)) for number in range(5)]
    records += [record(f"b/{number}", source="two", question=text(number)) for number in range(3)]
    records += [
        record("c/0", source="two", question=text(99)),
        record("c/1", source="two", question=text(99)),
    ]
    counted = decide(dedup.Exact(), records, tmp_path / "1").tables["sources"]
    assert counted.rows() == [("two", "one", 3, 1.0), ("two", "two", 1, 1.0)]
    assert decide(dedup.Exact(), records[:5], tmp_path / "2").tables["sources"].height == 0


def test_texts_without_words_are_like_no_other(tmp_path: Path) -> None:
    records = [
        record(f"a/{number}", question=question)
        for number, question in enumerate(["", "", "...", "?!", "one", "one"])
    ]
    assert set(decide(dedup.NearText(), records, tmp_path).drops) == {"a/5"}


def test_many_equal_rows_are_no_quadratic_work(tmp_path: Path) -> None:
    """100,000 equal rows would be five thousand million pairs."""
    stored_images = ImageBytes()
    image = (stored_images.put(_png("red")),)
    records = [record(f"a/{number:05}", question=text(1, 30)) for number in range(100_000)]
    assert len(decide(dedup.NearText(), records, tmp_path / "words").drops) == 99_999
    image_rows = [
        record(f"a/{number:05}", question="<image>" + text(number % 2, 30), images=image)
        for number in range(6_000)
    ]
    assert (
        len(decide(dedup.NearPair(), image_rows, tmp_path / "pairs", stored_images).drops) == 5_998
    )


def test_a_question_of_ten_megabytes_is_one_row_like_any_other(tmp_path: Path) -> None:
    huge = " ".join(WORDS[number * 7 % 3_000] + str(number) for number in range(1_000_000))
    assert len(huge) > 10_000_000
    records = [
        record("a/1", question=huge),
        record("a/2", question=huge + " end"),
        record("a/3", question=text(1)),
    ]
    assert set(decide(dedup.NearText(), records, tmp_path).drops) == {"a/2"}


def test_a_threshold_that_is_none_is_refused() -> None:
    with pytest.raises(RecipeError, match="it is over 0 and at most 1"):
        dedup.NearText(threshold=80)


# -------------------------------------------------------------------------------------------- images


def _png(color: str) -> bytes:
    image = Image.new("RGB", (80, 80), color)
    image.paste("white", (10, 10, 30, 50))
    return encoded(image, "PNG")


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def photograph(seed: int, size: int = 256) -> Image.Image:
    """Smooth random colors, which have the spectrum of a photograph."""
    noise = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((size, size), Image.Resampling.BICUBIC)


def changed(image: Image.Image) -> dict[str, bytes]:
    width, height = image.size
    return {
        "rescaled": encoded(image.resize((width * 2 // 3, height * 2 // 3)), "PNG"),
        "jpeg": encoded(image, "JPEG", quality=50),
        "crop": encoded(
            image.crop((width // 40, height // 40, width - width // 40, height - height // 40)),
            "PNG",
        ),
        "grey alpha": encoded(image.convert("RGBA"), "PNG"),
        "webp": encoded(image, "WEBP", quality=60),
    }


def hashes(data: bytes) -> "np.ndarray[Any, Any]":
    return np.array([image_hashes(data)], np.uint64)


def test_a_image_is_found_after_rescaling_jpeg_and_a_small_crop_and_others_are_not() -> None:
    originals = [photograph(seed) for seed in range(40)]
    known = np.concatenate([hashes(encoded(image, "PNG")) for image in originals])
    for number, image in enumerate(originals):
        for how, data in changed(image).items():
            assert near(hashes(data), known, 12).tolist() == [[0, number]], (number, how)


def test_small_grey_palette_and_deep_images_have_looks_too() -> None:
    image = photograph(1, 100)
    for mode in ("L", "P", "RGBA", "1", "LA", "I;16", "CMYK"):
        kind = "TIFF" if mode == "CMYK" else "PNG"
        assert (
            len(
                looks(
                    encoded(image.convert("L" if mode == "I;16" else mode).convert(mode), kind)
                ).thumbnail
            )
            == 64 * 64 * 3
        )
    assert len(looks(encoded(image.resize((5, 3)), "PNG")).thumbnail) == 64 * 64 * 3


def test_near_image_keeps_one_of_what_looks_alike_and_leaves_text_alone(tmp_path: Path) -> None:
    stored_images = ImageBytes()
    images = [photograph(seed) for seed in range(5)]
    records = [
        record(f"a/{number}", images=(stored_images.put(encoded(image, "PNG")),))
        for number, image in enumerate(images)
    ]
    records += [
        record(f"b/{number}", images=(stored_images.put(changed(image)["jpeg"]),))
        for number, image in enumerate(images)
    ]
    two = (
        stored_images.put(encoded(images[0], "PNG")),
        stored_images.put(encoded(images[1], "PNG")),
    )
    records += [
        record("c/1", images=two),
        record("c/2", images=two[::-1]),
        record("d/1"),
        record("d/2"),
    ]
    assert set(decide(dedup.NearImage(), records, tmp_path, stored_images).drops) == {
        f"b/{number}" for number in range(5)
    }


def read_source(source: Any, mirror: Path, folder: Path) -> tuple[list[Record], ImageStore]:
    store = ImageStore(folder)
    files = source.download(LocalDatasets(mirror))
    images = RowImages(files.root, store)
    return [
        source.convert(row, images)
        for part in source.parts(files)
        for row in source.rows(files, part)
    ], store


def test_no_real_puzzle_is_a_false_duplicate_and_every_planted_one_is_found(
    mirror: Path, tmp_path: Path
) -> None:
    """PuzzleVQA itself holds 172 rows whose image, question and options are those of another row, to the byte."""
    records, store = read_source(puzzlevqa.Source(), mirror, tmp_path / "images")
    known = {(one.question, tuple(sorted(one.options)), one.images[0].sha256) for one in records}
    true_copies = len(records) - len(known)
    assert (len(records), true_copies) == (2_000, 172)
    step = dedup.NearPair(threshold=0.9)
    alone = decide(step, records, tmp_path / "alone", Reader(store))
    assert len(alone.drops) == true_copies

    planted = []
    for number, one in enumerate(records[::10]):
        with Image.open(io.BytesIO(store(one.images[0]))) as image:
            share = (0.5, 0.75, 1.3)[number % 3]
            small = image.convert("RGB").resize(
                (int(image.width * share), int(image.height * share)), Image.Resampling.BICUBIC
            )
        ref = store.put(encoded(small, "JPEG", quality=60))
        planted.append(
            record(
                f"twin/{one.id}",
                question=one.question.upper().replace("<IMAGE>", "<image>"),
                options=one.options,
                images=(ref,),
            )
        )
    both = decide(step, [*records, *planted], tmp_path / "both", Reader(store), parts=4)
    assert {id_ for id_ in both.drops if id_.startswith("twin/")} == {one.id for one in planted}
    assert len(both.drops) == true_copies + len(planted)


class Reader:
    """A store as a test's images."""

    def __init__(self, store: ImageStore) -> None:
        self.read = store


# -------------------------------------------------------------------------------------- contamination


def test_planted_benchmark_questions_are_found_and_near_misses_stay(
    mirror: Path, tmp_path: Path
) -> None:
    lines = (mirror / "openai/gsm8k/test.jsonl").read_text().splitlines()
    benchmark = [
        record(f"gsm8k/test/{number:05}", question=json.loads(line)["question"])
        for number, line in enumerate(lines)
    ]
    long = [one for one in benchmark if len(one.question.split()) >= 25][:60]
    planted = [
        record(f"copy/{one.id}", question=f"Solve this!  {one.question.upper()}")
        for one in long[:30]
    ]
    planted += [
        record(f"typo/{one.id}", question=one.question.replace(" the ", " teh ").replace(", ", " "))
        for one in long[30:60]
    ]
    digits = str.maketrans("123456789", "234567891")
    misses = [
        record(f"template/{one.id}", question=one.question.translate(digits))
        for one in long
        if any(map(str.isdigit, one.question))
    ]
    train = [
        json.loads(line)["question"]
        for line in (mirror / "openai/gsm8k/train.jsonl").read_text().splitlines()[:1_500]
    ]
    clean = [record(f"train/{number}", question=question) for number, question in enumerate(train)]
    step = decontaminate.Against((gsm8k.Source(split="test"),), policy="text")
    decisions = decide(step, [*planted, *misses, *clean], tmp_path, benchmark=benchmark)
    assert {one.id for one in planted} <= set(decisions.drops)
    assert not {one.id for one in misses} & set(decisions.drops)
    hits = decisions.tables["hits"]
    assert hits.filter(pl.col("id") == planted[0].id)["benchmark_id"].to_list() == [long[0].id]
    assert set(hits["by"].unique()) <= {"13 words", "Indel"}
    both = hits.filter(pl.col("id") == planted[0].id).row(0, named=True)
    assert (both["question"], both["question_of_benchmark"]) == (
        planted[0].question,
        long[0].question,
    )
    counts = decisions.tables["benchmarks"]
    assert counts["problems"].sum() == hits["id"].n_unique() and set(counts["benchmark"]) == {
        "gsm8k.Source"
    }
    assert sum(id_.startswith("train/") for id_ in decisions.drops) <= 3


def test_planted_benchmark_images_are_found_and_the_policy_decides(tmp_path: Path) -> None:
    stored_images = ImageBytes()
    images = [photograph(seed) for seed in range(30)]
    benchmark = [
        record(
            f"bench/{number}",
            question=text(number, 30),
            images=(stored_images.put(encoded(image, "PNG")),),
        )
        for number, image in enumerate(images)
    ]
    planted = [
        record(
            f"{how}/{number}", question=text(1_000 + number, 30), images=(stored_images.put(data),)
        )
        for number, image in enumerate(images)
        for how, data in changed(image).items()
    ]
    clean = [
        record(
            f"clean/{number}", images=(stored_images.put(encoded(photograph(500 + number), "PNG")),)
        )
        for number in range(30)
    ]
    both = [record("both/1", question=text(1, 30), images=benchmark[1].images)]
    words = [record("words/1", question=text(2, 30), images=clean[0].images)]
    every = [*planted, *clean, *both, *words]
    found = {}
    for policy in ("image", "text", "text or image", "text and image"):
        step = decontaminate.Against((puzzlevqa.Source(),), policy=policy)  # type: ignore[arg-type]
        found[policy] = set(
            decide(
                step, every, tmp_path / policy.replace(" ", "_"), stored_images, benchmark=benchmark
            ).drops
        )
    ids = {one.id for one in planted}
    assert found["image"] == ids | {"both/1"}
    assert found["text"] == {"both/1", "words/1"}
    assert found["text or image"] == ids | {"both/1", "words/1"}
    assert found["text and image"] == {"both/1"}


def test_options_that_differ_make_another_problem(tmp_path: Path) -> None:
    asked = "Which of these animals is the largest one that lives in the sea today?"
    benchmark = [record("bench/1", question=asked, options=("whale", "shark"))]
    records = [
        record("a/1", question=asked, options=("Whale", "seal")),
        record("a/2", question=asked, options=("ray", "seal")),
        record("a/3", question=asked),
    ]
    step = decontaminate.Against((algopuzzlevqa.Source(),), policy="text")
    assert set(decide(step, records, tmp_path, benchmark=benchmark).drops) == {"a/1", "a/3"}


def test_decontamination_without_benchmarks_is_refused() -> None:
    with pytest.raises(RecipeError, match="has no benchmarks"):
        decontaminate.Against(())


def test_thumbnails_tell_images_of_one_template_apart() -> None:
    image = Image.new("RGB", (512, 512), "white")
    other = image.copy()
    other.paste("black", (250, 250, 266, 266))
    assert not same_image(
        looks(encoded(image, "PNG")).thumbnail, looks(encoded(other, "PNG")).thumbnail
    )
    assert same_image(
        looks(encoded(other, "PNG")).thumbnail,
        looks(encoded(other.resize((400, 400)), "JPEG", quality=70)).thumbnail,
    )
