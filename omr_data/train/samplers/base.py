"""The contract of a sampler: it gives completions to prompts, with the policy's current weights.

A sampler's own log-probabilities never stand in for the policy's. Served by another program in
bfloat16, a third of all completions are outside GSPO's clip range before any update. They serve
only as a correction weight (see `losses.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from omr_data.train.chat import Example
from omr_data.train.release import PolicyPrompt


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How completions are sampled."""

    n: int
    """Completions of each prompt."""
    max_tokens: int
    """Tokens of a completion, at most."""
    temperature: float
    """Divides the logits. 0 takes the likeliest token."""
    top_p: float = 1.0
    """Only the likeliest tokens whose probabilities add up to this are sampled."""
    seed: int = 0
    """The seed of the run."""


@dataclass(frozen=True, slots=True)
class Completion:
    """One sampled answer."""

    ids: tuple[int, ...]
    """Its token ids, with the end token if it was reached."""
    ended: bool
    """Whether it ended by itself. If not, it was cut off at `max_tokens`."""
    logprobs: tuple[float, ...] | None = None
    """The log-probability of each token as the sampling engine gave it, if it did."""


class PolicySampler(Protocol):
    """Samples completions from the policy. All ranks call both methods equally often."""

    def sample(
        self,
        prompts: Sequence[PolicyPrompt],
        encoded: Sequence[Example],
        params: SamplingParams,
        step: int,
    ) -> list[list[Completion]]:
        """Samples `params.n` completions of each prompt.

        Args:
            prompts: The prompts of this rank.
            encoded: The same prompts as token ids.
            params: How to sample.
            step: The number of the step. Each step has random numbers of its own.

        Returns:
            The completions of each prompt, in the order of the prompts.
        """
        ...

    def sync(self) -> None:
        """Takes over the policy's current weights."""
        ...
