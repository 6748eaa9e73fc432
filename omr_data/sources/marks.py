"""Turns the image marks of other toolkits into `<image>`.

Every toolkit has its own word for "an image stands here". A mark that is not recognized would be
asked as text, and the image would be put in front a second time, so the table below lists them all.
Numbered marks say which image they mean: the images are put into the order of their marks.
A mark that is typed text is written with a backslash before it: `\\<image>`.
"""

import re
from collections.abc import Sequence
from typing import TypeVar

from omr_data.errors import BadRow
from omr_data.records import IMAGE_MARK, TYPED_MARK

PLAIN_MARKS = (
    "<|vision_start|><|image_pad|><|vision_end|>",  # Qwen2-VL
    "<|image_pad|>",  # Qwen2-VL, without its borders
    "<__dj__image>",  # Data-Juicer
    "<ImageHere>",  # InternLM-XComposer
    "<img></img>",  # ms-swift before 2.0
    "<img>",  # InternVL
    "<|image|>",  # Llama 3.2
    "<image_soft_token>",  # Gemma 3
    "<start_of_image>",  # Gemma 3, before tokenization
    "<image_placeholder>",  # LLaVA forks
    "<IMG_CONTEXT>",  # InternVL 2
    "<IMAGE>",
    "[IMG]",  # Pixtral
)
"""Marks without a number, the longest first where one contains another."""

DROPPED_MARKS = ("<|__dj__eoc|>", "<im_start>", "<im_end>")
"""Words around marks that have no meaning of their own."""

_NUMBERED = r"<\|?image[ _]?(\d{1,3})\|?>|<Image[ _](\d{1,3})>|\[IMG[ _](\d{1,3})\]"
"""<image 1> (MMMU), <image1> (We-Math), <|image_1|> (Phi-3), <image_1>."""

_ANY = re.compile(
    "|".join(
        [
            r"(?P<typed>\\<image>)",
            f"(?P<numbered>{_NUMBERED})",
            f"(?P<plain>{'|'.join(map(re.escape, PLAIN_MARKS))}|{IMAGE_MARK})",
            f"(?P<dropped>{'|'.join(map(re.escape, DROPPED_MARKS))})",
        ]
    )
)

Image = TypeVar("Image")


def place_images(
    texts: Sequence[str], images: Sequence[Image]
) -> tuple[list[str], tuple[Image, ...]]:
    """Gives each image one `<image>` mark, in the order in which they stand in the texts.

    Where no text has a mark, all images are put in front of the first text: datasets with one
    image a question often leave the mark out.

    Args:
        texts: The texts of one prompt, in order.
        images: Its images.

    Returns:
        The texts with one mark for each image, and the images in the order of the marks. A numbered
        mark that is used twice gives its image twice.

    Raises:
        BadRow: The marks do not match the images.
    """
    if not any("<" in text or "[IMG" in text for text in texts):
        # The common case, and the only one on the way to 100,000 rows a second.
        if not images:
            return list(texts), ()
        return [IMAGE_MARK * len(images) + texts[0], *texts[1:]], tuple(images)
    numbers: list[int | None] = []

    def mark(match: re.Match[str]) -> str:
        if match["typed"]:
            return TYPED_MARK
        if match["dropped"]:
            return ""
        # Each form of a numbered mark has a group of its own, and at most one of them is met.
        digits = next((group for group in match.groups()[2:5] if group), None)
        number = None
        if digits is not None:
            number = int(digits)
        numbers.append(number)
        return IMAGE_MARK

    # One pass over each text, so that a mark made here is never taken for another one.
    replaced = [_ANY.sub(mark, text) for text in texts]
    if not numbers:
        return [IMAGE_MARK * len(images) + replaced[0], *replaced[1:]], tuple(images)
    if any(number is not None for number in numbers):
        return replaced, _by_number(numbers, images)
    # Guessing which image a surplus mark means would teach a model to answer without looking.
    if len(numbers) != len(images):
        raise BadRow(
            "image marks do not match the images",
            f"{len(numbers)} marks, {len(images)} images. Write \\{IMAGE_MARK} for typed text",
        )
    return replaced, tuple(images)


def _by_number(numbers: Sequence[int | None], images: Sequence[Image]) -> tuple[Image, ...]:
    """The images in the order of their numbered marks, counted from 1."""
    # Numbered and plain marks in one prompt leave open which image a plain one means.
    known = [number for number in numbers if number is not None]
    missing = set(range(1, len(images) + 1)) - set(known)
    if len(known) < len(numbers) or missing or max(known) > len(images) or min(known) < 1:
        raise BadRow(
            "image marks do not match the images",
            f"marks {numbers} and {len(images)} images: each image needs a mark with its number",
        )
    return tuple(images[number - 1] for number in known)
