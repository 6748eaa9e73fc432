"""Where answers are sampled: by the policy itself, or by a server that is given its weights.

An engine's own log-probabilities never stand in for the policy's: served by another engine in bfloat16, a third of all answers
are outside GSPO's clip range before any update. They serve as a correction weight only.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from omr_data.train.chat import Encoder, Example
from omr_data.train.model import Policy, Sampled
from omr_data.train.ranks import Ranks
from omr_data.train.rows import Problem


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

    def sample(
        self, problems: Sequence[Problem], prompts: Sequence[Example], sampling: Sampling, step: int
    ) -> list[list[Sampled]]:
        """n answers to each prompt. Another `step` draws others. All ranks call it equally often."""
        ...

    def sync(self, policy: Policy) -> None:
        """Takes over the policy's weights."""
        ...


OWN = "transformers"
"""The name of the engine that is the policy itself."""
ROWS, TOKENS = 256, 2**19
"""Answers that are generated at once, and tokens that their caches may hold: for a model of 7B 57 KB each, 30 GB."""


@dataclass(frozen=True, slots=True)
class Own:
    """The policy samples from itself, with transformers' `generate`: for small models and short answers. All answers of a group
    wait for its longest one."""

    policy: Policy
    encoder: Encoder
    ranks: Ranks

    def sample(
        self, problems: Sequence[Problem], prompts: Sequence[Example], sampling: Sampling, step: int
    ) -> list[list[Sampled]]:
        """Deterministic on one kind of machine for (seed, step, rank): on another number of ranks, answers are others."""
        longest = max((len(prompt) for prompt in prompts), default=0) + sampling.max_tokens
        at_once = max(1, min(ROWS, TOKENS // longest) // sampling.n)
        found: list[list[Sampled]] = []
        with self.policy.generating():
            for start in range(0, len(prompts), at_once):
                digest = hashlib.sha256(
                    f"{sampling.seed}:{step}:{self.ranks.rank}:{start}".encode()
                ).digest()
                torch.manual_seed(int.from_bytes(digest[:8]) >> 1)
                some = prompts[start : start + at_once]
                found += self.policy.generate(
                    self.encoder,
                    some,
                    sampling.n,
                    sampling.max_tokens,
                    sampling.temperature,
                    sampling.top_p,
                )
        return found

    def sync(self, policy: Policy) -> None:
        """It is the policy."""
