"""Policy losses on the tokens of sampled completions, packed into one long row.

**Ratio**: how much likelier the policy makes a completion now than when it was sampled.
**Advantage**: how much better a completion was than the others of its prompt.

A loss is a sum over the completions of a pack, divided by a number for the whole batch (all ranks,
all packs), so that gradients add up however the batch is cut.

GSPO (arXiv 2507.18071, equations 5 to 7). Departures: the clip range is asymmetric, as in the
published run (3e-4, 4e-4); completions of groups with equal rewards are left out of the batch and
of its mean.

GRPO (arXiv 2402.03300, equation 3). Departures: no KL term unless asked for; the mean over a batch
is over completions, each the mean of its tokens, as in the paper.

DAPO (arXiv 2503.14476, equation 8): a mean over all tokens of a batch, and a higher upper clip.
Departures: groups with equal rewards are left out, and not sampled again until a batch is full, so
batches differ in size; a KL term, which DAPO does not have, is a mean over completions.

All three may be corrected for a sampling engine whose log-probabilities differ from the trainer's:
a detached weight min(exp(trainer - engine), cap) multiplies the loss. GRPO and DAPO have one
weight for each token, GSPO one for each completion, from the mean over its tokens.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

MIN_STD = 1e-6
"""Rewards of a group whose standard deviation is at most this are equal: dividing by it would turn
rounding errors into advantages."""


@dataclass(frozen=True, slots=True)
class LossInputs:
    """What a loss needs to know of a pack, besides the policy's log-probabilities now."""

    old_logprobs: Float[Tensor, " tokens"]
    """Log-probabilities by the policy that sampled, computed by the trainer."""
    completion: Int[Tensor, " tokens"]
    """The number of the completion that each token belongs to, from 0."""
    advantages: Float[Tensor, " completions"]
    """The advantage of each completion."""
    engine_logprobs: Float[Tensor, " tokens"] | None = None
    """Log-probabilities as the sampling engine gave them. None turns the correction off."""


@dataclass(frozen=True, slots=True)
class LossOutputs:
    """The loss of a pack, and sums to watch: over completions in GSPO, over tokens otherwise."""

    loss: Float[Tensor, ""]
    """The loss, to be added to that of the other packs."""
    count: int
    """How many ratios the sums are over."""
    ratio: Float[Tensor, ""]
    """Sum of the ratios."""
    log_ratio_abs: Float[Tensor, ""]
    """Sum of their absolute logarithms."""
    clipped: Float[Tensor, ""]
    """How many ratios the clip acted on."""


class PolicyLoss(Protocol):
    """The signature of a loss."""

    def __call__(
        self,
        new_logprobs: Float[Tensor, " tokens"],
        inputs: LossInputs,
        clip: tuple[float, float],
        total: float,
        cap: float,
    ) -> LossOutputs:
        """Computes the loss of a pack.

        Args:
            new_logprobs: Log-probabilities by the policy now, with gradient.
            inputs: The tokens and advantages of the pack.
            clip: How far below and above 1 a ratio may count.
            total: Completions of the whole batch (gspo, grpo), or its tokens (dapo).
            cap: The largest weight of the correction for the sampling engine.
        """
        ...


def gspo(
    new_logprobs: Float[Tensor, " tokens"],
    inputs: LossInputs,
    clip: tuple[float, float],
    total: float,
    cap: float,
) -> LossOutputs:
    """-mean over completions of min(s A, clip(s) A), with s = exp(mean over tokens of new - old).

    Args:
        new_logprobs: Log-probabilities by the policy now, with gradient.
        inputs: The tokens and advantages of the pack.
        clip: How far below and above 1 a ratio may count.
        total: Completions of the whole batch.
        cap: The largest weight of the correction for the sampling engine.
    """
    # The mean of log ratios is the length-normalized ratio (equation 7): without it the ratio of a
    # long completion would leave any clip range.
    count = len(inputs.advantages)
    log_ratio = mean_per_completion(new_logprobs - inputs.old_logprobs, inputs.completion, count)
    log_weight = None
    if inputs.engine_logprobs is not None:
        gap = inputs.old_logprobs - inputs.engine_logprobs
        log_weight = mean_per_completion(gap, inputs.completion, count)
    terms = _clipped_terms(log_ratio, inputs.advantages, clip, log_weight, cap)
    return terms.outputs(-terms.objective.sum() / total)


def grpo(
    new_logprobs: Float[Tensor, " tokens"],
    inputs: LossInputs,
    clip: tuple[float, float],
    total: float,
    cap: float,
) -> LossOutputs:
    """-mean over completions, and over the tokens of each, of min(r A, clip(r) A).

    The ratio of a token is r = exp(new - old).

    Args:
        new_logprobs: Log-probabilities by the policy now, with gradient.
        inputs: The tokens and advantages of the pack.
        clip: How far below and above 1 a ratio may count.
        total: Completions of the whole batch.
        cap: The largest weight of the correction for the sampling engine.
    """
    terms = _token_terms(new_logprobs, inputs, clip, cap)
    # A long completion weighs as much as a short one; in DAPO it weighs by its tokens.
    means = mean_per_completion(terms.objective, inputs.completion, len(inputs.advantages))
    return terms.outputs(-means.sum() / total)


def dapo(
    new_logprobs: Float[Tensor, " tokens"],
    inputs: LossInputs,
    clip: tuple[float, float],
    total: float,
    cap: float,
) -> LossOutputs:
    """-mean over all tokens of min(r A, clip(r) A), with r = exp(new - old).

    Args:
        new_logprobs: Log-probabilities by the policy now, with gradient.
        inputs: The tokens and advantages of the pack.
        clip: How far below and above 1 a ratio may count.
        total: Tokens of the whole batch.
        cap: The largest weight of the correction for the sampling engine.
    """
    terms = _token_terms(new_logprobs, inputs, clip, cap)
    return terms.outputs(-terms.objective.sum() / total)


# By the names of the setting `loss`.
LOSSES: Mapping[str, PolicyLoss] = {"gspo": gspo, "grpo": grpo, "dapo": dapo}


def kl(
    new_logprobs: Float[Tensor, " tokens"],
    reference_logprobs: Float[Tensor, " tokens"],
    completion: Int[Tensor, " tokens"],
    count: int,
    total: float,
) -> Float[Tensor, ""]:
    """Mean over completions of the mean over tokens of exp(d) - d - 1, with d = reference - new.

    This is the k3 estimate of the divergence from the reference (Schulman, "Approximating KL
    divergence"; GRPO, equation 4): unbiased, and never negative for any one token.

    Args:
        new_logprobs: Log-probabilities by the policy now, with gradient.
        reference_logprobs: Log-probabilities by the model that the run began with.
        completion: The number of the completion that each token belongs to.
        count: Completions of this pack.
        total: Completions of the whole batch.
    """
    # Not -gap alone, which is unbiased too, but of either sign and with a larger variance.
    gap = reference_logprobs - new_logprobs
    return mean_per_completion(gap.exp() - gap - 1, completion, count).sum() / total


def advantages(
    rewards: Float[Tensor, "groups completions"], counted: Bool[Tensor, "groups completions"]
) -> Float[Tensor, "groups completions"]:
    """Computes (reward - mean) / std within each group (GRPO, section 4.1.2).

    The standard deviation has Bessel's correction.

    Args:
        rewards: The reward of each completion.
        counted: Which completions have a reward. The others take no part in mean and std.

    Returns:
        Advantages. NaN where a completion has no reward, and in groups with fewer than two rewards
        or with equal ones.
    """
    # A group without rewards gives 0 / 0 here, which `usable` covers below.
    size = counted.sum(1, keepdim=True)
    mean = torch.where(counted, rewards, 0.0).sum(1, keepdim=True) / size
    squares = torch.where(counted, (rewards - mean) ** 2, 0.0).sum(1, keepdim=True)
    std = (squares / (size - 1)).sqrt()
    # NaN and not 0: a completion that teaches nothing must not take part in the mean of a batch.
    usable = counted & (size > 1) & (std > MIN_STD)
    return torch.where(usable, (rewards - mean) / std, torch.nan)


def overlong_penalty(length: int, max_tokens: int, buffer: int) -> float:
    """Computes what is taken from the reward of a long completion (DAPO, equation 13).

    Args:
        length: Tokens of the completion.
        max_tokens: The length at which the penalty is 1.
        buffer: Tokens before `max_tokens` over which it rises from 0 in a straight line.
    """
    return min(1.0, max(0.0, (length - (max_tokens - buffer)) / buffer))


@dataclass(frozen=True, slots=True)
class _Terms:
    """The clipped objective and its ratios, one for each completion (gspo) or token."""

    objective: Float[Tensor, " items"]
    """min(r A, clip(r) A), weighed for the sampling engine."""
    ratio: Float[Tensor, " items"]
    """The ratio r of new to old probability."""
    log_ratio_abs: Float[Tensor, " items"]
    """Its absolute logarithm."""
    clipped: Float[Tensor, " items"]
    """1 where the clip acted, else 0."""

    def outputs(self, loss: Float[Tensor, ""]) -> LossOutputs:
        """The loss with the sums to watch."""
        return LossOutputs(
            loss=loss,
            count=len(self.ratio),
            ratio=self.ratio.sum(),
            log_ratio_abs=self.log_ratio_abs.sum(),
            clipped=self.clipped.sum(),
        )


def _token_terms(
    new_logprobs: Float[Tensor, " tokens"],
    inputs: LossInputs,
    clip: tuple[float, float],
    cap: float,
) -> _Terms:
    log_weight = None
    if inputs.engine_logprobs is not None:
        log_weight = inputs.old_logprobs - inputs.engine_logprobs
    log_ratio = new_logprobs - inputs.old_logprobs
    advantage = inputs.advantages[inputs.completion]
    return _clipped_terms(log_ratio, advantage, clip, log_weight, cap)


def _clipped_terms(
    log_ratio: Float[Tensor, " items"],
    advantage: Float[Tensor, " items"],
    clip: tuple[float, float],
    log_weight: Float[Tensor, " items"] | None,
    cap: float,
) -> _Terms:
    ratio = log_ratio.exp()
    unclipped = ratio * advantage
    clipped = ratio.clamp(1 - clip[0], 1 + clip[1]) * advantage
    # The minimum is pessimistic: a ratio counts beyond the clip only where that lowers the
    # objective.
    objective = torch.minimum(unclipped, clipped)
    if log_weight is not None:
        # Detached: the weight corrects where samples came from, and is not to be learned.
        objective = objective * log_weight.detach().exp().clamp(max=cap)
    return _Terms(
        objective=objective,
        ratio=ratio.detach(),
        log_ratio_abs=log_ratio.detach().abs(),
        clipped=(clipped < unclipped).detach().float(),
    )


def mean_per_completion(
    values: Float[Tensor, " tokens"], completion: Int[Tensor, " tokens"], count: int
) -> Float[Tensor, " completions"]:
    """Averages token values within each completion.

    Args:
        values: A value for each token.
        completion: The number of the completion that each token belongs to.
        count: How many completions there are. Each needs a token.
    """
    # index_add needs no padding and no loop: completions differ in length by orders of magnitude.
    zeros = torch.zeros(count, dtype=values.dtype, device=values.device)
    sums = zeros.index_add(0, completion, values)
    sizes = zeros.index_add(0, completion, torch.ones_like(values))
    return sums / sizes
