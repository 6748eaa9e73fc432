"""Sampling by the policy itself, with `generate` of Hugging Face transformers."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from omr_data.train.chat import Encoder, Example
from omr_data.train.model import Policy
from omr_data.train.ranks import Ranks
from omr_data.train.release import PolicyPrompt
from omr_data.train.samplers.base import Completion, SamplingParams

MAX_COMPLETIONS = 256
"""Completions that are generated at once."""
MAX_CACHED_TOKENS = 2**19
"""Tokens that the caches of these completions may hold. For a model of 7B a token takes 57 KB, so
all of them take 30 GB."""


@dataclass(frozen=True, slots=True)
class HFSampler:
    """Samples with the policy's own forward pass, for small models and short completions.

    Every completion of a batch waits for the longest one, so for long ones a server is faster by
    far.
    """

    policy: Policy
    """The policy to sample from."""
    encoder: Encoder
    """Gives the end token, and the padding of prompts."""
    ranks: Ranks
    """The processes of the run; each has random numbers of its own."""

    def sample(
        self,
        prompts: Sequence[PolicyPrompt],
        encoded: Sequence[Example],
        params: SamplingParams,
        step: int,
    ) -> list[list[Completion]]:
        """Samples completions; deterministic for (seed, step, rank) on one kind of machine.

        With another number of ranks, the completions are others.

        Args:
            prompts: The prompts of this rank. Only their encoding is used.
            encoded: The same prompts as token ids.
            params: How to sample.
            step: The number of the step.
        """
        # Prompts of a batch are padded to the longest, and their caches grow with every token.
        longest = max((len(prompt) for prompt in encoded), default=0) + params.max_tokens
        completions = min(MAX_COMPLETIONS, MAX_CACHED_TOKENS // longest)
        at_once = max(1, completions // params.n)
        found: list[list[Completion]] = []
        # Once for all batches: gathering parameters costs as much as several tokens.
        with self.policy.generating():
            for start in range(0, len(encoded), at_once):
                # transformers samples from torch's global generator. Seeding it from all that a
                # batch depends on makes a resumed run sample the same.
                key = f"{params.seed}:{step}:{self.ranks.rank}:{start}"
                digest = hashlib.sha256(key.encode()).digest()
                torch.manual_seed(int.from_bytes(digest[:8]) >> 1)
                batch = encoded[start : start + at_once]
                found += self.policy.generate(self.encoder, batch, params)
        return found

    def sync(self) -> None:
        """Does nothing: the sampler is the policy."""
