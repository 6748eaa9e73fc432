"""Chats as token ids, for any model of a Qwen-VL class.

An **example** is one chat ready for a model. The prompt and each answer are tokenized apart, as
they are when a model generates, so training sees exactly the tokens of sampling.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer

from omr_data.errors import BadRow, TrainError
from omr_data.mrope import mrope_positions
from omr_data.records import IMAGE_MARK
from omr_data.store.images import open_image

if TYPE_CHECKING:
    from numpy.typing import NDArray

Chat = Sequence[Mapping[str, str]]
"""Messages with `role` and `content`; an `<image>` mark stands for each image, as in a release."""
ChatPiece = tuple[str, bool]
"""Some text of a rendered chat, and whether the assistant says it."""

MAX_ASPECT_RATIO = 200
"""The longest side of an image over its shortest, at most. The image processors of Qwen-VL raise a
ValueError above it."""


@dataclass(frozen=True, slots=True)
class Example:
    """One chat, encoded."""

    ids: "NDArray[np.int64]"
    """Token ids, of shape (tokens,)."""
    loss_mask: "NDArray[np.bool_]"
    """Which tokens are trained on, of shape (tokens,): the assistant's, with its end token."""
    positions: "NDArray[np.int64]"
    """Time, row and column of each token, of shape (3, tokens)."""
    patches: "NDArray[np.float32]"
    """Normalized pixels of the patches of all images, of shape (patches, values)."""
    grids: "NDArray[np.int64]"
    """Patches of each image as (time, rows, columns), of shape (images, 3)."""

    def __len__(self) -> int:
        return len(self.ids)


class Encoder:
    """Encodes chats for one model. It can be pickled, so loader processes can have a copy."""

    def __init__(
        self, model: str, revision: str | None = None, max_pixels: int | None = None
    ) -> None:
        """Loads the configuration, the tokenizer and the image processor of a model.

        Args:
            model: A folder or a Hub id.
            revision: A commit or tag on the Hub.
            max_pixels: Limit of an image's area after resizing. The published run has 4,194,304.

        Raises:
            TrainError: A part is missing, the model is of another class, or the limit is too low.
        """
        try:
            self.config = AutoConfig.from_pretrained(model, revision=revision)
            self.tokenizer: Any = AutoTokenizer.from_pretrained(model, revision=revision)
            load_processor: Any = AutoImageProcessor.from_pretrained
            # The Pillow backend gives the same pixels on every machine, and needs no torchvision.
            self.image_processor: Any = load_processor(model, revision=revision, backend="pil")
        except (OSError, ValueError) as error:
            raise TrainError(
                f"{model} cannot be loaded: {error} "
                "A model folder needs config, tokenizer and image processor."
            ) from error
        if not hasattr(self.config, "image_token_id") or not hasattr(self.config, "vision_config"):
            raise TrainError(
                f"{model} is a {self.config.model_type}; "
                "models of the classes Qwen2.5-VL and Qwen3-VL can be trained."
            )
        if not self.tokenizer.chat_template or self.tokenizer.eos_token is None:
            raise TrainError(
                f"{model} has no chat template or no end token: give the instruction-tuned model."
            )
        processor = self.image_processor
        self.merge: int = processor.merge_size
        if max_pixels is not None:
            # Below one merged patch the processor rounds up to it, and the limit would not hold.
            smallest = (processor.patch_size * self.merge) ** 2
            if max_pixels < smallest:
                raise TrainError(
                    f"max_pixels is {max_pixels:,}, and one image token of {model} covers "
                    f"{smallest:,} pixels. Raise max_pixels."
                )
            processor.size["longest_edge"] = min(max_pixels, processor.size["longest_edge"])
        self.image_token: int = self.config.image_token_id
        self.end_token: int = self.tokenizer.eos_token_id
        # Some tokenizers have no padding token. Padding is masked, so the end token does as well.
        self.pad_token: int = self.end_token
        if self.tokenizer.pad_token_id is not None:
            self.pad_token = self.tokenizer.pad_token_id
        # A model reads video tokens as images too, so a completion must hold neither.
        video_token = getattr(self.config, "video_token_id", self.image_token)
        self.image_tokens = {self.image_token, video_token}
        self.patch_values: int = 3 * processor.temporal_patch_size * processor.patch_size**2

    def chat(self, messages: Chat, images: Sequence[bytes]) -> Example:
        """Encodes a whole chat; what the assistant says is trained on.

        Raises:
            BadRow: Marks and images do not match, an image is broken, or an answer is missing.
        """
        return self._example(self._pieces(messages), images)

    def prompt(self, messages: Chat, images: Sequence[bytes]) -> Example:
        """Encodes a chat up to where the assistant begins to speak.

        Raises:
            BadRow: Marks and images do not match, or an image is broken.
        """
        return self._example([(self._render(messages, True), False)], images)

    def chat_size(self, messages: Chat, images: Sequence[bytes]) -> tuple[int, int]:
        """Returns how many tokens and targets `chat` would give, without decoding any pixel.

        Raises:
            BadRow: `chat` would raise it, broken pixels apart.
        """
        return self._size(self._pieces(messages), images)

    def prompt_size(self, messages: Chat, images: Sequence[bytes]) -> int:
        """Returns how many tokens `prompt` would give, without decoding any pixel."""
        return self._size([(self._render(messages, True), False)], images)[0]

    def placeholder(self) -> Example:
        """Makes the smallest example with an image: one image token, black and not trained on."""
        return Example(
            ids=np.array([self.image_token]),
            loss_mask=np.array([False]),
            positions=np.zeros((3, 1), dtype=np.int64),
            patches=np.zeros((self.merge**2, self.patch_values), dtype=np.float32),
            grids=np.array([[1, self.merge, self.merge]]),
        )

    def text(self, ids: Sequence[int]) -> str:
        """Decodes generated tokens, without control tokens."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))

    def escape(self, text: str) -> str:
        """Breaks up control tokens in a text: data must not be able to open a turn."""
        for token in self.tokenizer.all_special_tokens:
            text = text.replace(token, f"{token[0]} {token[1:]}")
        return text

    def content_parts(self, text: str) -> list[dict[str, Any]]:
        """Splits a message at its image marks into parts of type "text" and "image"."""
        # Escaping leaves image marks alone: `<image>` is not a control token of Qwen-VL.
        first, *others = self.escape(text).split(IMAGE_MARK)
        parts: list[dict[str, Any]] = [{"type": "text", "text": first}]
        for piece in others:
            parts += [{"type": "image"}, {"type": "text", "text": piece}]
        return [part for part in parts if part != {"type": "text", "text": ""}]

    def _example(self, pieces: Sequence[ChatPiece], images: Sequence[bytes]) -> Example:
        # Pieces are tokenized apart: a merge across the start of an answer would give training a
        # token that sampling never produces.
        tokens = [(self._tokenize(text), said) for text, said in pieces]
        ids = np.concatenate([ids for ids, _ in tokens])
        loss_mask = np.concatenate([np.full(len(ids), said) for ids, said in tokens])
        _check_images(int((ids == self.image_token).sum()), images)
        patches = np.zeros((0, self.patch_values), np.float32)
        grids = np.zeros((0, 3), np.int64)
        if images:
            decoded = [_decode_image(data) for data in images]
            processed = self.image_processor(decoded, return_tensors="np")
            patches = processed["pixel_values"].astype(np.float32, copy=False)
            grids = processed["image_grid_thw"]
        # The template writes one token for an image; the model wants one for each merged patch.
        repeats = np.ones(len(ids), dtype=np.int64)
        repeats[ids == self.image_token] = grids.prod(1) // self.merge**2
        ids = np.repeat(ids, repeats)
        # An image within an answer cannot be predicted.
        loss_mask = np.repeat(loss_mask, repeats) & (ids != self.image_token)
        positions = mrope_positions(ids, grids, self.image_token, self.merge)
        return Example(ids, loss_mask, positions, patches, grids)

    def _size(self, pieces: Sequence[ChatPiece], images: Sequence[bytes]) -> tuple[int, int]:
        # Headers tell sizes. Decoding every image of a large release would take hours.
        image_tokens = 0
        for data in images:
            with _open_image(data) as image:
                patches = self.image_processor.get_number_of_image_patches(
                    image.height, image.width
                )
            image_tokens += patches // self.merge**2
        marks = tokens = targets = 0
        for text, said in pieces:
            ids = self._tokenize(text)
            in_text = int((ids == self.image_token).sum())
            marks += in_text
            tokens += len(ids) - in_text
            if said:
                targets += len(ids) - in_text
        _check_images(marks, images)
        return tokens + image_tokens, targets

    def _tokenize(self, text: str) -> "NDArray[np.int64]":
        # Without verbose=False, each chat that is longer than the tokenizer expects is a warning.
        encoded = self.tokenizer(text, add_special_tokens=False, verbose=False)
        return np.array(encoded["input_ids"], dtype=np.int64)

    def _pieces(self, messages: Chat) -> list[ChatPiece]:
        """Renders a chat in pieces. What the template adds after the last end token is left out."""
        pieces: list[ChatPiece] = []
        done, end = "", self.tokenizer.eos_token
        for number, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            # Rendering the chat up to here with and without the turn is the one way to find the
            # turn that works for every template.
            before = self._render(messages[:number], True)
            after = self._render(messages[: number + 1], False)
            # The last end token ends the turn: a message cannot hold one, because it was escaped.
            answer, found, _ = after[len(before) :].rpartition(end)
            if not (before.startswith(done) and after.startswith(before) and found):
                raise TrainError(
                    f"the chat template of {self.tokenizer.name_or_path} changes earlier turns, "
                    f"or does not end one with {end!r}; a target cannot be told from its prompt. "
                    "Give a template that only adds."
                )
            pieces += [(before[len(done) :], False), (answer + end, True)]
            done = before + answer + end
        if not pieces:
            raise BadRow("no assistant turn", "nothing in it is a target")
        return pieces

    def _render(self, messages: Chat, generate: bool) -> str:
        turns = [
            {"role": message["role"], "content": self.content_parts(message["content"])}
            for message in messages
        ]
        render = self.tokenizer.apply_chat_template
        return str(render(turns, tokenize=False, add_generation_prompt=generate))


def _check_images(marks: int, images: Sequence[bytes]) -> None:
    if marks != len(images):
        raise BadRow(
            "image marks and images do not match",
            f"{marks} {IMAGE_MARK} marks, {len(images)} images",
        )


def _open_image(data: bytes) -> Image.Image:
    """Reads an image's header. Raises BadRow for one that is broken or unsafe to decode."""
    image = open_image(data)
    if max(image.size) > MAX_ASPECT_RATIO * min(image.size):
        raise BadRow(
            "image too narrow",
            f"{image.width} x {image.height} pixels: "
            f"Qwen-VL takes sides of up to 1 to {MAX_ASPECT_RATIO}",
        )
    return image


def _decode_image(data: bytes) -> Image.Image:
    try:
        with _open_image(data) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:
        raise BadRow("image broken", str(error)[:200]) from error
