"""Where answers are sampled: by the policy itself, or by a server that is given its weights.

**Sampled**: one answer as token ids, whether it ended by itself, and the engine's own log-probabilities where it tells them.
Those never stand in for the policy's: served by another engine in bfloat16, a third of all answers are outside GSPO's clip
range before any update. They serve as a correction weight only.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from omr_data.train.chat import Encoder, Example
from omr_data.train.model import Policy
from omr_data.train.ranks import Ranks
from omr_data.train.rows import Problem


@dataclass(frozen=True, slots=True)
class Sampled:
    """One answer; `logps` has one number for each id, or is None."""

    ids: tuple[int, ...]
    ended: bool
    logps: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class Sampling:
    """How answers are drawn."""

    n: int
    max_tokens: int
    temperature: float
    top_p: float = 1.0
    seed: int = 0


class Engine(Protocol):
    """Gives answers."""

    def sample(self, problems: Sequence[Problem], prompts: Sequence[Example], sampling: Sampling, step: int) -> list[list[Sampled]]:
        """n answers to each prompt. Another `step` draws others; on all ranks it is called with equally many prompts."""
        ...

    def sync(self, policy: Policy) -> None:
        """Takes over the policy's weights."""
        ...


OWN = "transformers"
"""The name of the engine that is the policy itself."""
ROWS = 256
"""Answers that are generated at once."""


@dataclass(frozen=True, slots=True)
class Own:
    """The policy samples from itself, with transformers' `generate`."""

    policy: Policy
    encoder: Encoder
    ranks: Ranks

    def sample(self, problems: Sequence[Problem], prompts: Sequence[Example], sampling: Sampling, step: int) -> list[list[Sampled]]:
        """Prompts in groups of 256 answers. Deterministic on one kind of machine for (seed, step, rank)."""
        at_once = max(1, ROWS // sampling.n)
        found: list[list[Sampled]] = []
        for start in range(0, len(prompts), at_once):
            digest = hashlib.sha256(f"{sampling.seed}:{step}:{self.ranks.rank}:{start}".encode()).digest()
            torch.manual_seed(int.from_bytes(digest[:8]) >> 1)
            made = self.policy.generate(
                self.encoder, prompts[start : start + at_once], sampling.n, sampling.max_tokens, sampling.temperature, sampling.top_p,
                self.ranks.world > 1,
            )  # fmt: skip
            found += [[Sampled(one.ids, one.ended) for one in answers] for answers in made]
        return found

    def sync(self, policy: Policy) -> None:
        """It is the policy."""
