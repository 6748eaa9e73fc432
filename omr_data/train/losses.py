"""Policy losses on the tokens of sampled answers, packed: one long row of tokens, and for each the answer it belongs to.

**Ratio**: how much likelier the policy makes an answer now than when it was sampled. **Advantage**: how much better an answer
was than the others of its question. A loss is the sum over the answers of a batch divided by a number for the whole batch
(all ranks, all packs), so that gradients add up however the batch is cut.

GSPO (arXiv 2507.18071, equations 5 to 7). Departures: the clip range is asymmetric, as in the published run (3e-4, 4e-4);
answers of groups with equal rewards are left out of the batch and of its mean.

GRPO (arXiv 2402.03300, equation 3). Departures: no KL term unless asked for; the mean over a batch is over answers, each
the mean of its tokens, as in the paper.

DAPO (arXiv 2503.14476, equation 8): a mean over all tokens of a batch, and a higher upper clip. Departures: groups with equal
rewards are left out, and not sampled again until a batch is full, so batches differ in size; a KL term, which DAPO has none
of, is a mean over answers.

All three may be corrected for a sampling engine whose log-probabilities differ from the trainer's: a detached weight
min(exp(trainer - engine), cap) multiplies the loss, for each token, or with the length-normalized mean for each answer in GSPO.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch


@dataclass(frozen=True, slots=True)
class Tokens:
    """T tokens of N answers: `old` log-probabilities of the policy that sampled them (T,), `engine` the sampling engine's own
    (T,) or None, `answer` (T,) the answer of each token, 0 to N - 1, and `advantages` (N,)."""

    old: torch.Tensor
    answer: torch.Tensor
    advantages: torch.Tensor
    engine: torch.Tensor | None = None


@dataclass(frozen=True, slots=True)
class Loss:
    """The loss of these tokens, to be added to that of others, and sums to watch: over N answers (gspo) or T tokens of the
    ratio, its absolute log, and whether the clip acted."""

    loss: torch.Tensor
    count: int
    ratio: torch.Tensor
    drift: torch.Tensor
    clipped: torch.Tensor


class PolicyLoss(Protocol):
    """`total`: answers of the whole batch (gspo, grpo), or tokens (dapo)."""

    def __call__(
        self, new: torch.Tensor, tokens: Tokens, clip: tuple[float, float], total: float, cap: float
    ) -> Loss: ...


def gspo(
    new: torch.Tensor, tokens: Tokens, clip: tuple[float, float], total: float, cap: float
) -> Loss:
    """-mean over answers of min(s A, clip(s) A), with s = exp(mean over its tokens of new - old)."""
    count = len(tokens.advantages)
    log_ratio = _mean_by_answer(new - tokens.old, tokens.answer, count)
    weight = (
        None
        if tokens.engine is None
        else _mean_by_answer(tokens.old - tokens.engine, tokens.answer, count)
    )
    worth, ratio, clipped = _clipped(log_ratio, tokens.advantages, clip, weight, cap)
    return Loss(
        -worth.sum() / total, count, ratio.sum(), log_ratio.detach().abs().sum(), clipped.sum()
    )


def grpo(
    new: torch.Tensor, tokens: Tokens, clip: tuple[float, float], total: float, cap: float
) -> Loss:
    """-mean over answers of the mean over tokens of min(r A, clip(r) A), with r = exp(new - old) of each token."""
    worth, sums = _by_token(new, tokens, clip, cap)
    means = _mean_by_answer(worth, tokens.answer, len(tokens.advantages))
    return Loss(-means.sum() / total, *sums)


def dapo(
    new: torch.Tensor, tokens: Tokens, clip: tuple[float, float], total: float, cap: float
) -> Loss:
    """-mean over all tokens of min(r A, clip(r) A), with r = exp(new - old) of each token."""
    worth, sums = _by_token(new, tokens, clip, cap)
    return Loss(-worth.sum() / total, *sums)


LOSSES: Mapping[str, PolicyLoss] = {"gspo": gspo, "grpo": grpo, "dapo": dapo}


def kl(
    new: torch.Tensor, reference: torch.Tensor, answer: torch.Tensor, count: int, total: float
) -> torch.Tensor:
    """Mean over answers of the mean over tokens of exp(d) - d - 1, d = reference - new: the k3 estimate of the divergence from
    the reference (Schulman, "Approximating KL divergence"; GRPO, equation 4)."""
    gap = reference - new
    return _mean_by_answer(gap.exp() - gap - 1, answer, count).sum() / total


def advantages(rewards: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """(reward - mean) / std within each group, shape (groups, answers); std with Bessel's correction (GRPO, section 4.1.2).

    `counted` says which answers have a reward; the others, and groups with fewer than two or with equal rewards, get NaN.
    """
    many = counted.sum(1, keepdim=True)
    held = torch.where(counted, rewards, 0.0)
    mean = held.sum(1, keepdim=True) / many
    square = torch.where(counted, (rewards - mean) ** 2, 0.0).sum(1, keepdim=True)
    std = (square / (many - 1)).sqrt()
    usable = counted & (many > 1) & (std > STILL)
    return torch.where(usable, (rewards - mean) / std, torch.nan)


STILL = 1e-6
"""Rewards of a group whose deviation is under this are equal."""


def soft_overlong(length: int, most: int, buffer: int) -> float:
    """What an answer of so many tokens loses: 0 up to most - buffer, then in a straight line to 1 at `most` (DAPO, equation 13)."""
    return min(1.0, max(0.0, (length - (most - buffer)) / buffer))


def _by_token(
    new: torch.Tensor, tokens: Tokens, clip: tuple[float, float], cap: float
) -> tuple[torch.Tensor, tuple[int, torch.Tensor, torch.Tensor, torch.Tensor]]:
    log_ratio = new - tokens.old
    weight = None if tokens.engine is None else tokens.old - tokens.engine
    worth, ratio, clipped = _clipped(log_ratio, tokens.advantages[tokens.answer], clip, weight, cap)
    return worth, (len(new), ratio.sum(), log_ratio.detach().abs().sum(), clipped.sum())


def _clipped(
    log_ratio: torch.Tensor,
    advantage: torch.Tensor,
    clip: tuple[float, float],
    log_weight: torch.Tensor | None,
    cap: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """min(r A, clip(r) A), weighed; the ratio; and where the clip decides (1) or not (0)."""
    ratio = log_ratio.exp()
    free, held = ratio * advantage, ratio.clamp(1 - clip[0], 1 + clip[1]) * advantage
    worth = torch.minimum(free, held)
    if log_weight is not None:
        worth = worth * log_weight.detach().exp().clamp(max=cap)
    return worth, ratio.detach(), (held < free).detach().float()


def _mean_by_answer(values: torch.Tensor, answer: torch.Tensor, count: int) -> torch.Tensor:
    sums = torch.zeros(count, dtype=values.dtype, device=values.device).index_add(0, answer, values)
    sizes = torch.zeros(count, dtype=values.dtype, device=values.device).index_add(
        0, answer, torch.ones_like(values)
    )
    return sums / sizes
