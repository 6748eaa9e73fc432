"""The input of the embedded model: its tokens, its prompts and its image patches, in NumPy.

Every image is resized to 64 x 64 pixels: 8 x 8 patches of 8 pixels, merged 2 x 2 into 16 image
tokens. A prompt is

    <|im_start|>user\\n<|vision_start|> 16 x <|image_pad|> <|vision_end|>question<|im_end|>\\n
    <|im_start|>assistant\\n

and the answer `<think>17+8=25</think><answer>25</answer><|im_end|>`. Prompts have at most 448
tokens: of longer ones the front of the text is left out, never the image. Only the first image of
a question is used.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from tokenizers import Tokenizer

from omr_data.mrope import mrope_positions
from omr_data.records import IMAGE_MARK, Message
from omr_data.store.images import open_image

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIDE, PATCH, MERGE = 64, 8, 2
GRID = SIDE // PATCH
IMAGE_TOKENS = (GRID // MERGE) ** 2
MAX_PROMPT = 448
VOCABULARY = 352
MEAN, STD = 0.5, 0.5
"""Pixels are scaled from 0..1 to -1..1."""

PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
VISION_START, VISION_END, IMAGE_PAD, VIDEO_PAD = (
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
CONTROL = (PAD, START, END, VISION_START, VISION_END, IMAGE_PAD, VIDEO_PAD)
TAGS = ("<think>", "</think>", "<answer>", "</answer>")


def token_id(tokenizer: Tokenizer, token: str) -> int:
    """Returns the id of a control token."""
    found = tokenizer.token_to_id(token)
    assert found is not None  # the vocabulary holds every control token
    return found


@dataclass(frozen=True, slots=True)
class EncodedPrompt:
    """A question as the model reads it."""

    ids: "NDArray[np.int64]"
    """Token ids, of shape (tokens,)."""
    positions: "NDArray[np.int64]"
    """mRoPE positions, of shape (3, tokens)."""
    patches: "NDArray[np.float32] | None"
    """The image, of shape (64, 384), or None."""


def encode_prompt(
    tokenizer: Tokenizer, messages: Sequence[Message], image: bytes | None
) -> EncodedPrompt:
    """Encodes a chat up to where the assistant begins to speak.

    Args:
        tokenizer: The model's tokenizer.
        messages: The chat. Only its first image mark is used.
        image: The encoded image for that mark, or None.
    """
    chat = f"{START}assistant\n"
    for message in reversed(messages):
        # Data must not be able to open a turn, so control tokens in it are broken up.
        text = message.text.replace("<|", "< |")
        chat = f"{START}{message.role}\n{text}{END}\n{chat}"
    before, mark, after = chat.partition(IMAGE_MARK)
    patches = None
    grids = np.zeros((0, 3), np.int64)
    if image is None or not mark:
        ids = tokenizer.encode(chat).ids[-MAX_PROMPT:]
    else:
        block = tokenizer.encode(VISION_START + IMAGE_PAD * IMAGE_TOKENS + VISION_END).ids
        # What follows the image is kept rather than what is before it: the question comes last.
        tail = tokenizer.encode(after).ids[-(MAX_PROMPT - len(block)) :]
        room = MAX_PROMPT - len(block) - len(tail)
        # A slice from -0 would be the whole text.
        head = tokenizer.encode(before).ids[-room:] * (room > 0)
        ids = [*head, *block, *tail]
        patches = image_patches(image)
        grids = np.array([[1, GRID, GRID]])
    image_token = token_id(tokenizer, IMAGE_PAD)
    positions = mrope_positions(np.array(ids), grids, image_token, MERGE)
    return EncodedPrompt(np.array(ids), positions, patches)


def image_patches(data: bytes) -> "NDArray[np.float32]":
    """Decodes an image into patches of shape (64, 384).

    The 8 x 8 patches come in merge order, each as 3 colors x 2 frames x 8 x 8 pixels.
    """
    with open_image(data) as image:
        return pixels_to_patches(image.convert("RGB"))


def pixels_to_patches(image: Image.Image) -> "NDArray[np.float32]":
    """Cuts an RGB image into patches of shape (64, 384), after resizing it to 64 x 64 pixels."""
    # Synthetic problems come at this size already.
    if image.size != (SIDE, SIDE):
        image = image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    pixels = (np.asarray(image, dtype=np.float32) / 255 - MEAN) / STD
    blocks = GRID // MERGE
    # Merge order puts the four patches of an image token side by side, as the merger reads them.
    cut = pixels.reshape(blocks, MERGE, PATCH, blocks, MERGE, PATCH, 3)
    ordered = cut.transpose(0, 3, 1, 4, 6, 2, 5).reshape(GRID * GRID, 3, 1, PATCH * PATCH)
    # The vision tower reads pairs of video frames; an image is two equal frames.
    return np.repeat(ordered, 2, axis=2).reshape(GRID * GRID, -1).astype(np.float32)
