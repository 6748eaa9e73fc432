"""The embedded model in torch, for training it: a Qwen2.5-VL of about one million parameters.

`network.py` has the same forward pass in NumPy, which samples; `prompts.py` describes the input.
"""

from collections.abc import Sequence
from pathlib import Path

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


def train_tokenizer(texts: Sequence[str]) -> Tokenizer:
    """Trains a byte-level BPE of 352 tokens with each digit on its own.

    Any text can be encoded, in bytes if need be.
    """
    tokenizer = Tokenizer(models.BPE())
    # A token for "17" and another for "1" would make arithmetic a matter of memorizing pairs.
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
    # Not special: a decoder that skips special tokens must keep the tags of the answer format.
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in TAGS])
    return tokenizer


def new_model(tokenizer: Tokenizer) -> Qwen2_5_VLForConditionalGeneration:
    """Makes the architecture with random weights, from torch's global generator."""
    # All layers of the vision tower see the whole image: at 64 patches, windows would save nothing.
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
        # Tied: one table serves both ends.
        tie_word_embeddings=True,
    )
    # Eager attention would hold the scores of all pairs of tokens.
    config._attn_implementation = "sdpa"
    return Qwen2_5_VLForConditionalGeneration(config)


def embed(
    model: Qwen2_5_VLForConditionalGeneration,
    ids: torch.Tensor,
    patches: torch.Tensor,
    image_rows: torch.Tensor,
) -> torch.Tensor:
    """Embeds tokens and images.

    Args:
        model: The model.
        ids: Token ids of shape (rows, tokens).
        patches: Images of shape (images, 64, 384).
        image_rows: The row of each image, of shape (images,). Below 0 an image is not used.

    Returns:
        Embeddings of shape (rows, tokens, 128), with image tokens in place.
    """
    embeddings: torch.Tensor = model.model.language_model.embed_tokens(ids)
    # The vision tower cannot run on no image.
    if not len(patches):
        return embeddings
    grid = torch.tensor([[1, GRID, GRID]]).expand(len(patches), 3)
    seen = model.model.visual(patches.flatten(0, 1), grid_thw=grid).pooler_output
    # Some versions of transformers give a tensor for each image.
    if isinstance(seen, tuple | list):
        seen = torch.cat(tuple(seen))
    seen = seen.reshape(len(patches), IMAGE_TOKENS, -1)[image_rows >= 0]
    # Image tokens are filled in reading order, so images must come in the order of their rows.
    mask = (ids == model.config.image_token_id)[..., None]
    return embeddings.masked_scatter(mask, seen.to(embeddings.dtype))


def hidden_states(
    model: Qwen2_5_VLForConditionalGeneration,
    embeddings: torch.Tensor,
    positions: torch.Tensor,
    mask: torch.Tensor,
    cache: DynamicCache | None = None,
) -> torch.Tensor:
    """Runs the text model.

    Args:
        model: The model.
        embeddings: New tokens, of shape (rows, new, 128).
        positions: Their mRoPE positions, of shape (3, rows, new).
        mask: Of shape (rows, cached + new): which tokens are not padding, where each token sees all
            before it. Or of shape (rows, 1, new, cached + new): True for what each new token sees.
        cache: Keys and values of the tokens before them, to which the new ones are added.

    Returns:
        The last hidden states, of shape (rows, new, 128).
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
    """Loads the model, in evaluation mode and float32, and its tokenizer from a folder."""
    disable_progress_bar()  # type: ignore[no-untyped-call]
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="sdpa", local_files_only=True
    )
    model.train(False)
    return model, tokenizer
