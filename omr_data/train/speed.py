"""How fast a run is: arithmetic that a model needs, against what the card can do.

**MFU** (model FLOPs utilisation, PaLM, arXiv 2204.02311, appendix B): the FLOPs of one forward and backward pass over the time
times the card's dense bfloat16 peak. Recomputed activations do not count, nor does attention inside the vision tower.
"""

from dataclasses import dataclass

import torch

from omr_data.train.model import Policy

PEAKS = {
    "H200": 989e12,
    "H100": 989e12,
    "H800": 989e12,
    "B200": 2250e12,
    "A100": 312e12,
    "A800": 312e12,
    "H20": 148e12,
    "L40S": 362e12,
}
"""Dense bfloat16 FLOP/s by name of the card, SXM versions, from the makers' data sheets."""


@dataclass(frozen=True, slots=True)
class Cost:
    """FLOPs of training a policy: 6 for each weight and token, 6 x layers x width for each pair of tokens in causal attention."""

    text: int
    vision: int
    pair: int

    @classmethod
    def of(cls, policy: Policy) -> "Cost":
        """Counts the weights; the table of words counts once, as the head."""
        config = policy.model.config.text_config
        vision = sum(value.numel() for value in policy.model.model.visual.parameters())
        layers = sum(
            value.numel() for value in policy.model.model.language_model.layers.parameters()
        )
        head = config.vocab_size * config.hidden_size
        width = config.num_attention_heads * getattr(
            config, "head_dim", config.hidden_size // config.num_attention_heads
        )
        return cls(6 * (layers + head), 6 * vision, 6 * config.num_hidden_layers * width)

    def flops(self, tokens: int, squares: int, patches: int) -> float:
        """FLOPs of one pass over so many tokens, with the sum of the squared lengths of their sequences, and patches."""
        return float(self.text * tokens + self.pair * squares + self.vision * patches)


def peak(device: torch.device) -> float | None:
    """The card's peak in FLOP/s, or None where it is not known (a CPU has none that is worth comparing with)."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((flops for card, flops in PEAKS.items() if card in name), None)
