"""Renderings of one image are found, and different images are told apart."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from omr_data.operators import dedup
from omr_data.similar.images import image_hashes
from omr_data.similar.looks import near
from omr_data.sources import puzzlevqa
from omr_data.store.images import ImageStore
from tests.builders import record
from tests.dedup_rows import ImageBytes, changed, decide, encoded, hashes, photograph, read_source


@pytest.mark.slow
def test_an_image_is_found_after_rescaling_jpeg_and_a_small_crop_and_others_are_not() -> None:
    originals = [photograph(seed) for seed in range(40)]
    known = np.concatenate([hashes(encoded(image, "PNG")) for image in originals])
    for number, image in enumerate(originals):
        for how, data in changed(image).items():
            assert near(hashes(data), known, 12).tolist() == [[0, number]], (number, how)


def test_small_grey_palette_and_deep_images_have_hashes_too() -> None:
    image = photograph(1, 100)
    for mode in ("L", "P", "RGBA", "1", "LA", "I;16", "CMYK"):
        kind = "TIFF" if mode == "CMYK" else "PNG"
        plain = image.convert("L" if mode == "I;16" else mode)
        found = image_hashes(encoded(plain.convert(mode), kind))
        assert len(found.thumbnail) == 1 + 64 * 64 * 3 and len(found.hashes) == 8
    assert len(image_hashes(encoded(image.resize((5, 3)), "PNG")).thumbnail) == 1 + 64 * 64 * 3


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


def test_the_similarity_of_a_pair_with_images_is_that_of_its_own_words(tmp_path: Path) -> None:
    stored_images = ImageBytes()
    ref = stored_images.put(encoded(photograph(1, 100), "PNG"))
    asked = "Which of the colored shapes in the figure has the largest area of all the shapes?"
    # One word more changes three of the runs of three words: 12 of 17 are in both.
    pair = [
        record("a/1", question=asked, images=(ref,)),
        record("a/2", question=asked.replace("largest area", "largest area here"), images=(ref,)),
    ]
    others = [record(f"b/{number}", question=f"{asked} {number}") for number in range(3)]
    for name, records in (("alone", pair), ("mixed", [*pair, *others])):
        step = dedup.NearPair(threshold=0.5)
        found = decide(step, records, tmp_path / name, stored_images).tables["pairs"]
        assert found["dropped"].to_list() == ["a/2"]
        assert found["similarity"].to_list() == pytest.approx([12 / 17])


@pytest.mark.slow
def test_no_real_puzzle_is_a_false_duplicate_and_planted_ones_are_found(
    mirror: Path, tmp_path: Path
) -> None:
    """PuzzleVQA holds 172 rows whose image, question and options are those of another row.

    In 13 more, the image and the question are those of another row and one wrong option differs.
    """
    records, store = read_source(puzzlevqa.Source(), mirror, tmp_path / "images")
    known = {(one.question, tuple(sorted(one.options)), one.images[0].sha256) for one in records}
    true_copies = len(records) - len(known)
    assert (len(records), true_copies) == (2_000, 172)
    step = dedup.NearPair(threshold=0.9)
    alone = decide(step, records, tmp_path / "alone", Reader(store))
    assert len(alone.drops) == true_copies + 13
    asked = {one.id: (one.question, one.images[0].sha256) for one in records}
    for dropped, kept in alone.tables["pairs"].select("dropped", "kept").iter_rows():
        assert asked[dropped] == asked[kept]

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
    # Nothing but twins is dropped in addition. Two of the 200 are missed, both at half the
    # size and JPEG quality 60: one cell differs by 54 and 55 of 255, and the limit is 50.
    found = both.drops.keys() - alone.drops.keys()
    assert found <= {one.id for one in planted}
    assert len(found) >= 198


class Reader:
    """A store as a test's images."""

    def __init__(self, store: ImageStore) -> None:
        self.read = store
