"""The embedded model: a Qwen2.5-VL of about one million parameters, its tokenizer, and how it is fed.

Every image is resized to 64 x 64 pixels: 8 x 8 patches of 8 pixels, merged 2 x 2 into 16 image tokens. A prompt is

    <|im_start|>user\\n <|vision_start|> 16 x <|image_pad|> <|vision_end|> question <|im_end|>\\n <|im_start|>assistant\\n

and the answer `<think>17+8=25</think><answer>25</answer><|im_end|>`. Prompts are at most 448 tokens: of longer ones the
front of the text is left out, never the image. Only the first image of a question is seen.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
from transformers.cache_utils import DynamicCache
from transformers.utils.logging import disable_progress_bar

from omr_data.teachers.tiny.prompts import (
    CONTROL,
    END,
    GRID,
    IMAGE_PAD,
    IMAGE_TOKENS,
    MERGE,
    PAD,
    PATCH,
    SIDE,
    TAGS,
    VIDEO_PAD,
    VISION_END,
    VISION_START,
    VOCABULARY,
    token_id,
)

if TYPE_CHECKING:
    pass


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
