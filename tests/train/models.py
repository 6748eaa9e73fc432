"""Random models of both classes, with grouped heads and tied to no checkpoint."""

import torch
from transformers import AutoModelForImageTextToText, Qwen2_5_VLConfig, Qwen3VLConfig

from omr_data.train.model import Policy

VISION = {
    "depth": 1,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_heads": 2,
    "patch_size": 8,
    "spatial_merge_size": 2,
    "out_hidden_size": 32,
}
TEXT = {
    "vocab_size": 352,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}
TOKENS = {
    "image_token_id": 5,
    "video_token_id": 6,
    "vision_start_token_id": 3,
    "vision_end_token_id": 4,
}
ROPE = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 3, 3]}


CONFIGS = ("Qwen2_5_VLConfig", "Qwen3VLConfig")


def random_policy(name: str) -> Policy:
    """A policy of one class with random weights."""
    torch.manual_seed(0)
    vision: dict[str, object] = dict(VISION)
    if name == "Qwen2_5_VLConfig":
        vision |= {"window_size": 32, "fullatt_block_indexes": [0]}
        text = TEXT | {"rope_parameters": ROPE}
        config = Qwen2_5_VLConfig(text_config=text, vision_config=vision, **TOKENS)
    else:
        vision |= {"num_position_embeddings": 64, "deepstack_visual_indexes": [0]}
        text = TEXT | {"head_dim": 16, "rope_parameters": ROPE | {"mrope_interleaved": True}}
        config = Qwen3VLConfig(text_config=text, vision_config=vision, **TOKENS)
    return Policy(AutoModelForImageTextToText.from_config(config))
