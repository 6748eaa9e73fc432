"""limits.ImageSide drops images that a vision tower refuses. The boundaries are in its fixture."""

import pytest

from omr_data.errors import RecipeError
from omr_data.operators.limits import ImageSide
from omr_data.records import ImageRef
from tests.builders import record


def sized(*sizes: tuple[int, int]) -> list[ImageRef]:
    return [ImageRef("0" * 64, width, height, "PNG") for width, height in sizes]


def test_the_default_is_one_merged_patch_of_qwen_and_no_upper_limit() -> None:
    assert ImageSide().reason(record(images=sized((28, 100_000)))) is None
    assert ImageSide().reason(record(images=sized((27, 100)))) == "an image side is under 28 pixels"


def test_every_image_of_a_record_is_looked_at() -> None:
    step = ImageSide(at_least=10, at_most=50)
    good, low, wide = (20, 20), (20, 9), (51, 20)
    assert step.reason(record(images=sized(good, good))) is None
    assert step.reason(record(images=sized(good, low))) == "an image side is under 10 pixels"
    assert step.reason(record(images=sized(good, wide))) == "an image side is over 50 pixels"


def test_one_size_can_be_asked_for_and_an_empty_range_is_refused() -> None:
    assert ImageSide(at_least=32, at_most=32).reason(record(images=sized((32, 32)))) is None
    with pytest.raises(RecipeError, match="keeps no image: at_most is 27 and at_least is 28"):
        ImageSide(at_most=27)
