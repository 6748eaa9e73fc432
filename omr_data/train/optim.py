"""The optimizer, its learning rates, and clipping of gradients: what SFT and RL have in common."""

import math

import torch

from omr_data.train.model import Policy
from omr_data.train.settings import TrainSettings


def adamw(policy: Policy, settings: TrainSettings, device: torch.device) -> torch.optim.AdamW:
    """Makes the optimizer over all parameters; `set_lr` gives it a rate before each step.

    Args:
        policy: The policy that is trained, already on its device and sharded.
        settings: Betas and weight decay.
        device: The device of the parameters.
    """
    return torch.optim.AdamW(
        policy.parameters(),
        lr=settings.lr,
        betas=(settings.betas[0], settings.betas[1]),
        weight_decay=settings.weight_decay,
        # One kernel for all parameters. On a CPU it gains nothing and rounds differently.
        fused=device.type == "cuda",
    )


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Sets the learning rate of the next step."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def cosine_lr(peak: float, step: int, total: int, warmup: float) -> float:
    """Computes a learning rate with linear warm-up and cosine decay to zero.

    Args:
        peak: The highest rate.
        step: The step, counted from 0.
        total: Steps of the whole run.
        warmup: The share of all steps over which the rate rises.
    """
    warm = max(1, round(warmup * total))
    if step < warm:
        return peak * (step + 1) / warm
    progress = (step - warm) / max(1, total - warm)
    return peak * 0.5 * (1 + math.cos(math.pi * progress))


def warmup_lr(peak: float, step: int, warmup: int) -> float:
    """Computes a learning rate that is constant after a linear warm-up.

    Args:
        peak: The constant rate.
        step: The step, counted from 0.
        warmup: Steps over which the rate rises; 0 for none.
    """
    return peak * min(1.0, (step + 1) / max(1, warmup))


def clip_gradients(policy: Policy, max_norm: float) -> float:
    """Scales the gradient down to a norm of `max_norm`. Returns the norm before, over all ranks."""
    norm = torch.nn.utils.clip_grad_norm_(policy.parameters(), max_norm)
    # Sharded gradients give a DTensor, whose local value is the norm of this rank's shards only.
    if hasattr(norm, "full_tensor"):
        norm = norm.full_tensor()
    return float(norm)
