"""Sampling from the embedded model, so that an answer depends on nothing but its own question and attempt.

Every random number comes from sha256(seed, key, attempt), not from a shared generator. And the arithmetic never sees who
else is in the batch: prompts are padded to one of four lengths, a prefill always has 16 questions and a decoding step always
16 x 8 tokens (empty ones where there are fewer), so that each goes through the same instructions. On one kind of machine,
the text is then the same in any company, for any worker count, and for attempts 8 to 11 asked today or at once.
"""

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import Qwen2_5_VLForConditionalGeneration
from transformers.cache_utils import DynamicCache

from omr_data.teachers.tiny.model import (
    END,
    MAX_PROMPT,
    PAD,
    EncodedPrompt,
    embed,
    hidden_states,
    token_id,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

QUESTIONS = 16
ATTEMPTS = 8
BUCKETS = (64, 128, 256, MAX_PROMPT)
"""Padded lengths of prompts, in tokens."""


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """A question with the attempts wanted; `key` seeds its random numbers."""

    key: str
    prompt: EncodedPrompt
    attempts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TinySample:
    """One answer: its text, how many tokens it took (with the end token, if it got there), and whether it ended."""

    text: str
    tokens: int
    ended: bool


@dataclass(frozen=True, slots=True)
class Sampler:
    """The model with its sampling parameters. Temperature 0 takes the likeliest token."""

    model: Qwen2_5_VLForConditionalGeneration
    tokenizer: Tokenizer
    temperature: float
    max_tokens: int
    seed: int

    @torch.inference_mode()
    def sample(self, questions: Sequence[SampleRequest]) -> list[list[TinySample]]:
        """The answers of each question, in the order of its attempts."""
        found: dict[tuple[int, int], TinySample] = {}
        buckets: dict[int, list[int]] = {}
        for index, question in enumerate(questions):
            length = next(length for length in BUCKETS if len(question.prompt.ids) <= length)
            buckets.setdefault(length, []).append(index)
        for length, members in sorted(buckets.items()):
            for start in range(0, len(members), QUESTIONS):
                group = members[start : start + QUESTIONS]
                self._group([questions[index] for index in group], group, length, found)
        return [
            [found[index, attempt] for attempt in question.attempts]
            for index, question in enumerate(questions)
        ]

    def _group(
        self,
        group: Sequence[SampleRequest],
        names: Sequence[int],
        length: int,
        found: dict[tuple[int, int], TinySample],
    ) -> None:
        """Prefills up to 16 questions of one padded length, then decodes their attempts 8 at a time, each at its own place."""
        logits, cache, mask = self._prefill([question.prompt for question in group], length)
        for turn in sorted(
            {attempt // ATTEMPTS for question in group for attempt in question.attempts}
        ):
            slots = [
                [attempt for attempt in question.attempts if attempt // ATTEMPTS == turn]
                for question in group
            ]
            rows = self._decode(group, slots, logits, copy.deepcopy(cache), mask)
            for place, attempts in enumerate(slots):
                for attempt in attempts:
                    found[names[place], attempt] = rows[place * ATTEMPTS + attempt % ATTEMPTS]

    def _prefill(
        self, prompts: Sequence[EncodedPrompt], length: int
    ) -> tuple[torch.Tensor, DynamicCache, torch.Tensor]:
        """The next token's logits, shape (16, vocabulary), the cache, and the mask (16, length). Empty rows hold one pad token."""
        ids = np.full((QUESTIONS, length), token_id(self.tokenizer, PAD))
        positions = np.zeros((3, QUESTIONS, length), dtype=np.int64)
        mask = np.zeros((QUESTIONS, length), dtype=np.int64)
        mask[:, 0] = 1
        patches = np.zeros((QUESTIONS, 64, 384), dtype=np.float32)
        image_rows = np.full(QUESTIONS, -1)
        last = np.zeros(QUESTIONS, dtype=np.int64)
        for row, prompt in enumerate(prompts):
            size = len(prompt.ids)
            ids[row, :size], positions[:, row, :size], mask[row, :size] = (
                prompt.ids,
                prompt.positions,
                1,
            )
            last[row] = size - 1
            if prompt.patches is not None:
                patches[row], image_rows[row] = prompt.patches, row
        embeddings = embed(
            self.model,
            torch.from_numpy(ids),
            torch.from_numpy(patches),
            torch.from_numpy(image_rows),
        )
        cache, seen = DynamicCache(), torch.from_numpy(mask)
        states = hidden_states(self.model, embeddings, torch.from_numpy(positions), seen, cache)
        return (
            self.model.lm_head(states[torch.arange(QUESTIONS), torch.from_numpy(last)]),
            cache,
            seen,
        )

    def _decode(
        self,
        group: Sequence[SampleRequest],
        slots: Sequence[Sequence[int]],
        logits: torch.Tensor,
        cache: DynamicCache,
        mask: torch.Tensor,
    ) -> list[TinySample]:
        """Draws 16 x 8 answers token by token until the last wanted one has ended.

        The 8 attempts of a question are 8 positions of one sequence, and each sees the prompt and its own tokens only: the
        prompt's keys and values are held and read once, and not once for each attempt.
        """
        rows = QUESTIONS * ATTEMPTS
        end = token_id(self.tokenizer, END)
        uniform = np.zeros((rows, self.max_tokens))
        running = np.zeros(rows, dtype=bool)
        position = np.zeros(QUESTIONS, dtype=np.int64)
        for place, (question, attempts) in enumerate(zip(group, slots, strict=True)):
            position[place] = question.prompt.positions[:, -1].max() + 1
            for attempt in attempts:
                row = place * ATTEMPTS + attempt % ATTEMPTS
                uniform[row], running[row] = (
                    _uniform(self.seed, question.key, attempt, self.max_tokens),
                    True,
                )
        own = torch.eye(ATTEMPTS, dtype=torch.bool).repeat(1, self.max_tokens)[None, None]
        seen = torch.cat(
            [
                mask.bool()[:, None, None].expand(-1, -1, ATTEMPTS, -1),
                own.expand(QUESTIONS, -1, -1, -1),
            ],
            -1,
        )
        logits = logits.repeat_interleave(ATTEMPTS, 0)
        drawn: list[list[int]] = [[] for _ in range(rows)]
        for step in range(self.max_tokens):
            tokens = self._choose(logits, uniform[:, step])
            for live in np.flatnonzero(running).tolist():
                drawn[live].append(int(tokens[live]))
            running &= tokens != end
            if not running.any() or step + 1 == self.max_tokens:
                break
            embeddings = self.model.model.language_model.embed_tokens(
                torch.from_numpy(tokens).reshape(QUESTIONS, ATTEMPTS)
            )
            places = torch.from_numpy(position + step)[None, :, None].expand(3, QUESTIONS, ATTEMPTS)
            visible = seen[..., : mask.shape[1] + ATTEMPTS * (step + 1)]
            states = hidden_states(self.model, embeddings, places, visible, cache)
            logits = self.model.lm_head(states.reshape(rows, -1))
        return [self._sampled(tokens, end) for tokens in drawn]

    def _choose(self, logits: torch.Tensor, uniform: "NDArray[np.float64]") -> "NDArray[np.int64]":
        """One token a row, by inverting the cumulative distribution at the row's own uniform number."""
        if self.temperature == 0:
            likeliest: NDArray[np.int64] = logits.argmax(-1).numpy()
            return likeliest
        weights = torch.softmax(logits.double() / self.temperature, -1).cumsum(-1).numpy()
        below: NDArray[np.int64] = (weights < uniform[:, None] * weights[:, -1:]).sum(-1)
        return np.minimum(below, logits.shape[-1] - 1).astype(np.int64)

    def _sampled(self, tokens: list[int], end: int) -> TinySample:
        ended = bool(tokens) and tokens[-1] == end
        text = self.tokenizer.decode(tokens[:-1] if ended else tokens, skip_special_tokens=False)
        return TinySample(text, len(tokens), ended)


def _uniform(seed: int, key: str, attempt: int, count: int) -> "NDArray[np.float64]":
    """Uniform numbers in [0, 1) that belong to one attempt (Philox, keyed by sha256)."""
    digest = hashlib.sha256(f"{seed}:{key}:{attempt}".encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16]))).random(count)
