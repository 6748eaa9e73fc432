"""How fast a run is: the arithmetic that a model needs, against what the device can do.

**MFU** (model FLOPs utilization, PaLM, arXiv 2204.02311, appendix B): the FLOPs of one forward and
backward pass, divided by the time and by the device's dense bfloat16 peak. Recomputed activations
do not count, nor does attention inside the vision tower.
"""

from dataclasses import dataclass

import torch

from omr_data.train.model import Policy

PEAK_FLOPS = {
    "H200": 989e12,
    "H100": 989e12,
    "H800": 989e12,
    "B200": 2250e12,
    "A100": 312e12,
    "A800": 312e12,
    "H20": 148e12,
    "L40S": 362e12,
}
"""Dense bfloat16 FLOP/s by name of the card (SXM versions), from the makers' data sheets. A card is
found by the first name that its own contains, so H200 must stand before H20."""


@dataclass(frozen=True, slots=True)
class ModelFlops:
    """FLOPs of one forward and backward pass of a model."""

    text: int
    """FLOPs of a token: 6 for each weight of the text layers and the head."""
    vision: int
    """FLOPs of a patch: 6 for each weight of the vision tower."""
    pair: int
    """FLOPs of a pair of tokens in causal attention: 6 x layers x width."""

    @classmethod
    def of(cls, policy: Policy) -> "ModelFlops":
        """Counts the weights of a policy."""
        config = policy.model.config.text_config
        model = policy.model.model
        # `numel` of a sharded tensor is that of the whole, so every rank counts the same.
        vision = sum(value.numel() for value in model.visual.parameters())
        layers = sum(value.numel() for value in model.language_model.layers.parameters())
        # The table of embeddings is looked up and not multiplied; only the head counts.
        head = config.vocab_size * config.hidden_size
        heads = config.num_attention_heads
        width = heads * getattr(config, "head_dim", config.hidden_size // heads)
        return cls(6 * (layers + head), 6 * vision, 6 * config.num_hidden_layers * width)

    def count(self, tokens: int, squares: int, patches: int) -> float:
        """Computes the FLOPs of one pass.

        Args:
            tokens: Tokens of all sequences.
            squares: Sum of the squared lengths of the sequences.
            patches: Patches of all images.
        """
        return float(self.text * tokens + self.pair * squares + self.vision * patches)


def peak_flops(device: torch.device) -> float | None:
    """Returns the device's peak in FLOP/s, or None for a CPU or an unknown card."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((flops for card, flops in PEAK_FLOPS.items() if card in name), None)
