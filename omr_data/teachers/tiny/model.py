"""The embedded model: a Qwen2.5-VL of about one million parameters, its tokenizer, and how it is fed.

Every image is resized to 64 x 64 pixels: 8 x 8 patches of 8 pixels, merged 2 x 2 into 16 image tokens. A prompt is

    <|im_start|>user\\n <|vision_start|> 16 x <|image_pad|> <|vision_end|> question <|im_end|>\\n <|im_start|>assistant\\n

and the answer `<think>17+8=25</think><answer>25</answer><|im_end|>`. Prompts are at most 448 tokens: of longer ones the
front of the text is left out, never the image. Only the first image of a question is seen.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
from transformers.cache_utils import DynamicCache
from transformers.utils.logging import disable_progress_bar

from omr_data.records import IMAGE_MARK, Message

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


def train_tokenizer(texts: Sequence[str]) -> Tokenizer:
    """A byte-level BPE of 352 tokens with each digit on its own. Any text can be encoded, in bytes if need be."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(TAGS),
        special_tokens=[AddedToken(token, special=True) for token in CONTROL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in TAGS])
    return tokenizer


def token_id(tokenizer: Tokenizer, token: str) -> int:
    """The id of one of the control tokens."""
    found = tokenizer.token_to_id(token)
    assert found is not None  # the vocabulary holds every control token
    return found


def new_model(tokenizer: Tokenizer) -> Qwen2_5_VLForConditionalGeneration:
    """The architecture with random weights."""
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": VOCABULARY,
            "hidden_size": 128,
            "intermediate_size": 256,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "max_position_embeddings": 1024,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10_000.0,
                "mrope_section": [4, 6, 6],
            },
            "bos_token_id": None,
            "eos_token_id": token_id(tokenizer, END),
            "pad_token_id": token_id(tokenizer, PAD),
            "tie_word_embeddings": True,
        },
        vision_config={
            "depth": 3,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_heads": 2,
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
            "temporal_patch_size": 2,
            "window_size": SIDE,
            "fullatt_block_indexes": [0, 1, 2],
            "out_hidden_size": 128,
        },
        image_token_id=token_id(tokenizer, IMAGE_PAD),
        video_token_id=token_id(tokenizer, VIDEO_PAD),
        vision_start_token_id=token_id(tokenizer, VISION_START),
        vision_end_token_id=token_id(tokenizer, VISION_END),
        tie_word_embeddings=True,
    )
    config._attn_implementation = "sdpa"
    return Qwen2_5_VLForConditionalGeneration(config)


@dataclass(frozen=True, slots=True)
class EncodedPrompt:
    """An encoded question: token ids, mRoPE positions of shape (3, tokens), and patches of shape (64, 384) or None."""

    ids: "NDArray[np.int64]"
    positions: "NDArray[np.int64]"
    patches: "NDArray[np.float32] | None"


def encode_prompt(
    tokenizer: Tokenizer, messages: Sequence[Message], image: bytes | None
) -> EncodedPrompt:
    """Encodes a chat up to where the assistant begins to speak."""
    turns = (
        "".join(f"{START}{message.role}\n{_plain(message.text)}{END}\n" for message in messages)
        + f"{START}assistant\n"
    )
    before, mark, after = turns.partition(IMAGE_MARK)
    if image is None or not mark:
        ids = tokenizer.encode(turns).ids[-MAX_PROMPT:]
        return EncodedPrompt(np.array(ids), _positions(len(ids), None), None)
    block = tokenizer.encode(VISION_START + IMAGE_PAD * IMAGE_TOKENS + VISION_END).ids
    tail = tokenizer.encode(after).ids[-(MAX_PROMPT - len(block)) :]
    room = MAX_PROMPT - len(block) - len(tail)
    head = tokenizer.encode(before).ids[-room:] if room else []
    ids = [*head, *block, *tail]
    return EncodedPrompt(np.array(ids), _positions(len(ids), len(head) + 1), image_patches(image))


def _plain(text: str) -> str:
    """A user's text cannot hold control tokens."""
    return text.replace("<|", "< |")


def _positions(length: int, image_at: int | None) -> "NDArray[np.int64]":
    """mRoPE positions, shape (3, length): (time, row, column) inside the image, equal numbers in text (Qwen2-VL, section 2.1)."""
    positions = np.tile(np.arange(length), (3, 1))
    if image_at is not None:
        side = GRID // MERGE
        cells = np.arange(IMAGE_TOKENS)
        image = slice(image_at, image_at + IMAGE_TOKENS)
        positions[:, image] = image_at + np.stack([0 * cells, cells // side, cells % side])
        positions[:, image.stop :] -= IMAGE_TOKENS - side
    return positions


def image_patches(data: bytes) -> "NDArray[np.float32]":
    """An image's bytes as patches, shape (64, 384): 8 x 8 patches in merge order, each 3 x 2 frames x 8 x 8."""
    with Image.open(io.BytesIO(data)) as image:
        return pixels_to_patches(image.convert("RGB"))


def pixels_to_patches(image: Image.Image) -> "NDArray[np.float32]":
    """An RGB image as patches, resized to 64 x 64 if it is not."""
    if image.size != (SIDE, SIDE):
        image = image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    pixels = (np.asarray(image, dtype=np.float32) / 255 - MEAN) / STD
    blocks = GRID // MERGE
    cut = pixels.reshape(blocks, MERGE, PATCH, blocks, MERGE, PATCH, 3)
    ordered = cut.transpose(0, 3, 1, 4, 6, 2, 5).reshape(GRID * GRID, 3, 1, PATCH * PATCH)
    return np.repeat(ordered, 2, axis=2).reshape(GRID * GRID, -1).astype(np.float32)


def embed(
    model: Qwen2_5_VLForConditionalGeneration,
    ids: torch.Tensor,
    patches: torch.Tensor,
    image_rows: torch.Tensor,
) -> torch.Tensor:
    """Token embeddings, shape (rows, tokens, 128), with image tokens in place. Each image is (64, 384) in `patches`, shape
    (images, 64, 384); `image_rows` holds the row of each, and rows below 0 are images that nobody looks at."""
    embeddings: torch.Tensor = model.model.language_model.embed_tokens(ids)
    if not len(patches):
        return embeddings
    grid = torch.tensor([[1, GRID, GRID]]).expand(len(patches), 3)
    seen = model.model.visual(patches.flatten(0, 1), grid_thw=grid).pooler_output
    seen = torch.cat(tuple(seen)) if isinstance(seen, tuple | list) else seen
    seen = seen.reshape(len(patches), IMAGE_TOKENS, -1)[image_rows >= 0]
    mask = (ids == model.config.image_token_id)[..., None]
    return embeddings.masked_scatter(mask, seen.to(embeddings.dtype))


def hidden_states(
    model: Qwen2_5_VLForConditionalGeneration,
    embeddings: torch.Tensor,
    positions: torch.Tensor,
    mask: torch.Tensor,
    cache: DynamicCache | None = None,
) -> torch.Tensor:
    """The last hidden states, shape (rows, tokens, 128). `positions` is (3, rows, tokens).

    `mask` is (rows, cached + new tokens) where tokens see what is before them, or (rows, 1, new, cached + new), True for what
    each new token sees.
    """
    states = model.model.language_model(
        inputs_embeds=embeddings,
        position_ids=positions,
        attention_mask=mask,
        past_key_values=cache,
        use_cache=cache is not None,
    ).last_hidden_state
    assert isinstance(states, torch.Tensor)  # always one
    return states


def load(folder: Path) -> tuple[Qwen2_5_VLForConditionalGeneration, Tokenizer]:
    """The model in evaluation mode and float32, and its tokenizer, from a folder of weights."""
    disable_progress_bar()  # type: ignore[no-untyped-call]
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="sdpa", local_files_only=True
    )
    model.train(False)
    return model, tokenizer
