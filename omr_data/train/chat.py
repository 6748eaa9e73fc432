"""Chats as numbers, for any Qwen-VL class model whose folder holds a tokenizer, a chat template and an image processor.

**Example**: one chat ready for a model: token ids, which of them are **targets** (what the assistant says, its end token
included, and nothing else), positions, and the patches of its images.
**Encoder**: makes examples. The prompt and each answer are tokenized apart, as they are when a model generates, so that
training sees the very tokens of sampling.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer

from omr_data.errors import BadRow, TrainError
from omr_data.records import IMAGE_MARK
from omr_data.store.images import open_image

if TYPE_CHECKING:
    from numpy.typing import NDArray

Chat = Sequence[Mapping[str, str]]
"""Messages with `role` and `content`; an `<image>` mark stands for each image, as in a release."""


NARROWEST = 200


@dataclass(frozen=True, slots=True)
class Example:
    """One chat of n tokens and k images with p patches in all.

    `ids` (n,), `targets` (n,) bool, `positions` (3, n): time, row and column, `patches` (p, d), `grids` (k, 3): time, rows
    and columns of patches.
    """

    ids: "NDArray[np.int64]"
    targets: "NDArray[np.bool_]"
    positions: "NDArray[np.int64]"
    patches: "NDArray[np.float32]"
    grids: "NDArray[np.int64]"

    def __len__(self) -> int:
        return len(self.ids)


class Encoder:
    """Encodes chats for one model. Picklable, so that loader processes can have it.

    `max_pixels` bounds the size of an image after resizing (the published run used 4,194,304).

    Raises:
        TrainError: the folder lacks a part, the template does not begin a chat as it goes on, or the model is of another class.
    """

    def __init__(
        self, model: str, revision: str | None = None, max_pixels: int | None = None
    ) -> None:
        try:
            self.config = AutoConfig.from_pretrained(model, revision=revision)
            self.tokenizer: Any = AutoTokenizer.from_pretrained(model, revision=revision)
            self.image_processor: Any = AutoImageProcessor.from_pretrained(
                model, revision=revision, backend="pil"
            )  # type: ignore[no-untyped-call]
        except (OSError, ValueError) as error:
            raise TrainError(
                f"{model} cannot be loaded: {error} A model folder needs config, tokenizer and image processor."
            ) from error
        if not hasattr(self.config, "image_token_id") or not hasattr(self.config, "vision_config"):
            raise TrainError(
                f"{model} is a {self.config.model_type}; models of the classes Qwen2.5-VL and Qwen3-VL can be trained."
            )
        if not self.tokenizer.chat_template or self.tokenizer.eos_token is None:
            raise TrainError(
                f"{model} has no chat template or no end token: give the instruction-tuned model."
            )
        if max_pixels is not None and max_pixels < self.image_processor.size["longest_edge"]:
            self.image_processor.size["longest_edge"] = max_pixels
        self.merge: int = self.image_processor.merge_size
        self.image_token: int = self.config.image_token_id
        self.end_token: int = self.tokenizer.eos_token_id
        self.pad_token: int = (
            self.end_token if self.tokenizer.pad_token_id is None else self.tokenizer.pad_token_id
        )
        self.image_tokens = {
            self.image_token,
            getattr(self.config, "video_token_id", self.image_token),
        }
        self.patch_values: int = (
            3 * self.image_processor.temporal_patch_size * self.image_processor.patch_size**2
        )

    def chat(self, messages: Chat, images: Sequence[bytes]) -> Example:
        """A whole chat; what the assistant says are targets. Raises BadRow when marks and images do not match, or one is broken."""
        return self._example(self._spoken(messages), images)

    def prompt(self, messages: Chat, images: Sequence[bytes]) -> Example:
        """A chat up to where the assistant begins to speak; no targets. Raises BadRow as `chat` does."""
        return self._example([(self._render(messages, True), False)], images)

    def size(self, messages: Chat, images: Sequence[bytes]) -> tuple[int, int]:
        """How many tokens and targets `chat` would have; of images only the heads are read. Raises BadRow as it does."""
        return self._size(self._spoken(messages), images)

    def prompt_size(self, messages: Chat, images: Sequence[bytes]) -> int:
        """How many tokens `prompt` would have, likewise."""
        return self._size([(self._render(messages, True), False)], images)[0]

    def text(self, ids: Sequence[int]) -> str:
        """What generated tokens say, without control tokens."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))

    def _example(self, pieces: Sequence[tuple[str, bool]], images: Sequence[bytes]) -> Example:
        tokens = [(self._tokens(text), spoken) for text, spoken in pieces]
        ids = np.concatenate([ids for ids, _ in tokens])
        targets = np.concatenate([np.full(len(ids), spoken) for ids, spoken in tokens])
        self._match(int((ids == self.image_token).sum()), images)
        patches, grids = self._images(images)
        counts = np.ones(len(ids), dtype=np.int64)
        counts[ids == self.image_token] = grids.prod(1) // self.merge**2
        ids = np.repeat(ids, counts)
        targets = np.repeat(targets, counts) & (
            ids != self.image_token
        )  # an image in an answer is nothing to predict
        return Example(
            ids, targets, mrope_positions(ids, grids, self.image_token, self.merge), patches, grids
        )

    def _size(self, pieces: Sequence[tuple[str, bool]], images: Sequence[bytes]) -> tuple[int, int]:
        tokens = [(self._tokens(text), spoken) for text, spoken in pieces]
        pads = sum(int((ids == self.image_token).sum()) for ids, _ in tokens)
        self._match(pads, images)
        seen = sum(
            self.image_processor.get_number_of_image_patches(*_height_width(data)) // self.merge**2
            for data in images
        )
        return sum(len(ids) for ids, _ in tokens) - pads + seen, sum(
            int((ids != self.image_token).sum()) for ids, spoken in tokens if spoken
        )

    def _images(self, images: Sequence[bytes]) -> "tuple[NDArray[np.float32], NDArray[np.int64]]":
        if not images:
            return np.zeros((0, self.patch_values), np.float32), np.zeros((0, 3), np.int64)
        made = self.image_processor([_decoded(data) for data in images], return_tensors="np")
        return made["pixel_values"].astype(np.float32, copy=False), made["image_grid_thw"]

    def _match(self, marks: int, images: Sequence[bytes]) -> None:
        if marks != len(images):
            raise BadRow(
                "image marks and images do not match",
                f"{marks} {IMAGE_MARK} marks, {len(images)} images",
            )

    def _tokens(self, text: str) -> "NDArray[np.int64]":
        return np.array(
            self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"],
            dtype=np.int64,
        )

    def _spoken(self, messages: Chat) -> list[tuple[str, bool]]:
        """The chat in pieces, each with whether the assistant says it. What the template puts after the last end token is left out."""
        pieces: list[tuple[str, bool]] = []
        done, end = "", self.tokenizer.eos_token
        for number, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            before, after = (
                self._render(messages[:number], True),
                self._render(messages[: number + 1], False),
            )
            answer, found, _ = after[len(before) :].rpartition(end)
            if not (before.startswith(done) and after.startswith(before) and found):
                raise TrainError(
                    f"the chat template of {self.tokenizer.name_or_path} changes earlier turns, or does not end one with {end!r}; "
                    "a target cannot be told from its prompt. Give a template that only adds."
                )
            pieces += [(before[len(done) :], False), (answer + end, True)]
            done = before + answer + end
        if not pieces:
            raise BadRow("no assistant turn", "nothing in it is a target")
        return pieces

    def _render(self, messages: Chat, generate: bool) -> str:
        turns = [
            {"role": message["role"], "content": self._parts(message["content"])}
            for message in messages
        ]
        return str(
            self.tokenizer.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=generate
            )
        )

    def plain(self, text: str) -> str:
        """A text in which control tokens are broken up: data must not open a turn."""
        for token in self.tokenizer.all_special_tokens:
            text = text.replace(token, f"{token[0]} {token[1:]}")
        return text

    def _parts(self, text: str) -> list[dict[str, Any]]:
        """Text and images as templates take them."""
        first, *others = self.plain(text).split(IMAGE_MARK)
        parts: list[dict[str, Any]] = [{"type": "text", "text": first}] if first else []
        for piece in others:
            parts += (
                [{"type": "image"}, {"type": "text", "text": piece}]
                if piece
                else [{"type": "image"}]
            )
        return parts


def mrope_positions(
    ids: "NDArray[np.int64]", grids: "NDArray[np.int64]", image_token: int, merge: int
) -> "NDArray[np.int64]":
    """Positions of shape (3, n): equal numbers in text; (time, row, column) inside an image, after which text resumes at the
    image's start plus its longer side (Qwen2-VL, arXiv 2409.12191, section 2.1; images are one frame)."""
    positions = np.zeros((3, len(ids)), dtype=np.int64)
    at = following = 0
    starts = np.flatnonzero(ids == image_token)
    for _, rows, columns in (grids // [1, merge, merge]).tolist():
        start = int(starts[np.searchsorted(starts, at)])
        positions[:, at:start] = following + np.arange(start - at)
        following += start - at
        cells = np.arange(rows * columns)
        at = start + rows * columns
        positions[:, start:at] = following + np.stack(
            [0 * cells, cells // columns, cells % columns]
        )
        following += max(rows, columns)
    positions[:, at:] = following + np.arange(len(ids) - at)
    return positions


def _open(data: bytes) -> Image.Image:
    """An image whose pixels are not decoded yet. Raises BadRow for what cannot be encoded."""
    image = open_image(data)
    if max(image.size) > NARROWEST * min(image.size):
        raise BadRow(
            "image too narrow",
            f"{image.width} x {image.height} pixels: Qwen-VL takes sides of up to 1 to {NARROWEST}",
        )
    return image


def _height_width(data: bytes) -> tuple[int, int]:
    with _open(data) as image:
        return image.height, image.width


def _decoded(data: bytes) -> Image.Image:
    try:
        with _open(data) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:
        raise BadRow("image broken", str(error)[:200]) from error
