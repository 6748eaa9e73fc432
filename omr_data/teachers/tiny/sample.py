"""Samples answers from the embedded model so that an answer depends only on its question and
attempt.

Every random number comes from sha256(seed, key, attempt), not from a shared generator. The
arithmetic never depends on who else is in the batch either: prompts are padded to one of four
lengths, a prefill always has 16 questions, and a decoding step always has 16 x 8 tokens, with
padding where there are fewer. So each token goes through the same instructions, and on one kind of
machine the text is the same in any batch, for any number of workers, and whether attempts 8 to 11
are asked today or at once.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_limits
from tokenizers import Tokenizer

from omr_data.teachers.tiny.network import HIDDEN_BIAS, Cache, Network
from omr_data.teachers.tiny.prompts import (
    END,
    IMAGE_PAD,
    MAX_PROMPT,
    PAD,
    EncodedPrompt,
    token_id,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

QUESTIONS = 16
"""Questions in a prefill."""
ATTEMPTS = 8
"""Attempts of one question that are decoded together."""
BUCKETS = (64, 128, 256, MAX_PROMPT)
"""Padded lengths of prompts, in tokens."""


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """A question with the attempts wanted."""

    key: str
    """Seeds the random numbers, with the attempt."""
    prompt: EncodedPrompt
    """The question."""
    attempts: tuple[int, ...]
    """The attempt numbers wanted."""


@dataclass(frozen=True, slots=True)
class TinySample:
    """One answer."""

    text: str
    """The decoded tokens, without the end token."""
    tokens: int
    """How many tokens were drawn, the end token included."""
    ended: bool
    """Whether the end token was drawn before the limit."""

    @property
    def finish_reason(self) -> str:
        """How it ended, in OpenAI's words."""
        return "stop" if self.ended else "length"


@dataclass(frozen=True, slots=True)
class _Prefilled:
    """Sixteen prompts that were read."""

    logits: "NDArray[np.float32]"
    """Scores of the first new token, shape (16, vocabulary)."""
    cache: Cache
    """Keys and values of the prompts, with room for the answers."""
    bias: "NDArray[np.float32]"
    """What a new token sees of its prompt, shape (16, 1, 1, length): 0 or HIDDEN_BIAS."""


@dataclass(frozen=True, slots=True)
class Sampler:
    """The model with its sampling parameters."""

    network: Network
    """The weights."""
    tokenizer: Tokenizer
    """The tokenizer that belongs to them."""
    temperature: float
    """0 takes the likeliest token."""
    max_tokens: int
    """The longest answer."""
    seed: int
    """Another seed draws other answers."""

    def sample(self, questions: Sequence[SampleRequest]) -> list[list[TinySample]]:
        """Returns the answers of each question, in the order of its attempts."""
        # One thread: products this small lose more to handing work over than they gain, and another
        # number of threads rounds differently. Workers are processes, one for each core.
        with threadpool_limits(1, user_api="blas"):
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
        """Reads up to 16 questions of one padded length, then decodes their attempts 8 at a
        time."""
        prefilled = self._prefill([question.prompt for question in group], length)
        attempts_asked = chain.from_iterable(question.attempts for question in group)
        turns = {attempt // ATTEMPTS for attempt in attempts_asked}
        for turn in sorted(turns):
            # Attempt 11 is always decoded at place 3 of turn 1, whoever else is asked for.
            slots = [
                [attempt for attempt in question.attempts if attempt // ATTEMPTS == turn]
                for question in group
            ]
            rows = self._decode(group, slots, prefilled)
            for place, attempts in enumerate(slots):
                for attempt in attempts:
                    found[names[place], attempt] = rows[place * ATTEMPTS + attempt % ATTEMPTS]

    def _prefill(self, prompts: Sequence[EncodedPrompt], length: int) -> _Prefilled:
        """Reads the prompts. Rows without a prompt hold one pad token."""
        ids = np.full((QUESTIONS, length), token_id(self.tokenizer, PAD))
        positions = np.zeros((3, QUESTIONS, length), dtype=np.int64)
        held = np.zeros((QUESTIONS, length), dtype=bool)
        held[:, 0] = True
        patches = np.zeros((QUESTIONS, 64, 384), dtype=np.float32)
        with_image = np.zeros(QUESTIONS, dtype=bool)
        last = np.zeros(QUESTIONS, dtype=np.int64)
        for row, prompt in enumerate(prompts):
            size = len(prompt.ids)
            ids[row, :size] = prompt.ids
            positions[:, row, :size] = prompt.positions
            held[row, :size] = True
            last[row] = size - 1
            if prompt.patches is not None:
                patches[row] = prompt.patches
                with_image[row] = True
        embeddings = self.network.embeddings[ids]
        # All 16 images are encoded, empty ones too: the shape of a product decides its rounding.
        seen = self.network.see(patches)
        marks = (ids == token_id(self.tokenizer, IMAGE_PAD)) & with_image[:, None]
        embeddings[marks] = seen[with_image].reshape(-1, seen.shape[-1])
        # Padding stands behind a prompt, so a causal mask alone hides it from the tokens that
        # count.
        causal = np.tril(np.ones((length, length), dtype=bool))
        visible = causal[None, None] & held[:, None, None]
        cache = Cache.empty(QUESTIONS, length + ATTEMPTS * self.max_tokens)
        states = self.network.forward(embeddings, positions, _bias(visible), cache)
        logits = self.network.logits(states[np.arange(QUESTIONS), last])
        return _Prefilled(logits, cache, _bias(held[:, None, None]))

    def _decode(
        self,
        group: Sequence[SampleRequest],
        slots: Sequence[Sequence[int]],
        prefilled: _Prefilled,
    ) -> list[TinySample]:
        """Draws 16 x 8 answers token by token until the last wanted one has ended.

        The 8 attempts of a question are 8 positions of one sequence. Each sees the prompt and its
        own tokens only, so the prompt's keys and values are held and read once instead of 8 times.
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
                numbers = uniform_numbers(self.seed, question.key, attempt, self.max_tokens)
                uniform[row] = numbers
                running[row] = True
        length = prefilled.bias.shape[-1]
        own = _bias(np.tile(np.eye(ATTEMPTS, dtype=bool), self.max_tokens))[None, None]
        prompt_bias = np.broadcast_to(prefilled.bias, (QUESTIONS, 1, ATTEMPTS, length))
        own_bias = np.broadcast_to(own, (QUESTIONS, 1, *own.shape[-2:]))
        bias = np.concatenate([prompt_bias, own_bias], -1)
        # A later turn reads the prompt again from the same cache and overwrites the answers in it.
        cache = Cache(prefilled.cache.keys, prefilled.cache.values, length)
        logits = np.repeat(prefilled.logits, ATTEMPTS, axis=0)
        drawn: list[list[int]] = [[] for _ in range(rows)]
        # All rows take part in every step, ended ones too: a smaller batch would round differently.
        for step in range(self.max_tokens):
            tokens = draw_tokens(logits, uniform[:, step], self.temperature)
            for live in np.flatnonzero(running).tolist():
                drawn[live].append(int(tokens[live]))
            running &= tokens != end
            if not running.any() or step + 1 == self.max_tokens:
                break
            embeddings = self.network.embeddings[tokens.reshape(QUESTIONS, ATTEMPTS)]
            places = np.broadcast_to((position + step)[None, :, None], (3, QUESTIONS, ATTEMPTS))
            visible = bias[..., : length + ATTEMPTS * (step + 1)]
            states = self.network.forward(embeddings, places, visible, cache)
            logits = self.network.logits(states.reshape(rows, -1))
        samples = []
        for ids in drawn:
            ended = ids[-1:] == [end]
            # The end token is counted, and no part of the text. The tags are part of it.
            shown = ids[: len(ids) - ended]
            text = self.tokenizer.decode(shown, skip_special_tokens=False)
            samples.append(TinySample(text, len(ids), ended))
        return samples


def _bias(visible: "NDArray[np.bool_]") -> "NDArray[np.float32]":
    return np.where(visible, np.float32(0), HIDDEN_BIAS)


def uniform_numbers(seed: int, key: str, attempt: int, count: int) -> "NDArray[np.float64]":
    """Draws the uniform numbers in [0, 1) that belong to one attempt (Philox, keyed by sha256).

    Args:
        seed: The seed of the teacher.
        key: The key of the question.
        attempt: The number of the attempt.
        count: How many numbers: one for each token of the longest answer.
    """
    # A generator for each attempt: drawing from a shared one would depend on who came before.
    digest = hashlib.sha256(f"{seed}:{key}:{attempt}".encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16]))).random(count)


def draw_tokens(
    logits: "NDArray[np.float32]", uniform: "NDArray[np.float64]", temperature: float
) -> "NDArray[np.int64]":
    """Draws one token a row, by inverting the cumulative distribution at its uniform number.

    Args:
        logits: Scores, shape (rows, vocabulary).
        uniform: Numbers from 0 to 1, shape (rows,).
        temperature: 0 takes the likeliest token.
    """
    if temperature == 0:
        likeliest: NDArray[np.int64] = logits.argmax(-1)
        return likeliest
    scaled = logits.astype(np.float64) / temperature
    weights = np.exp(scaled - scaled.max(-1, keepdims=True)).cumsum(-1)
    below = (weights < uniform[:, None] * weights[:, -1:]).sum(-1)
    # Rounding can leave the last sum below the number: take the last token then.
    chosen: NDArray[np.int64] = np.minimum(below, logits.shape[-1] - 1)
    return chosen
