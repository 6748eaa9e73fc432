"""Rewards of sampled completions: verified, rewarded, and compared within their group.

The reward is (1 - w) x right + w x format, with w = 0.1 as published. A completion has no reward,
and is left out of its group, where

- its verdict says nothing about the model: a time-out, or a judge that is down;
- it was cut off, unless `overlong` asks otherwise;
- it holds an image token: no image stands behind it, and the model cannot be run on it.

Which verdicts count is the rule of `verifiers.rates`, which pass rates and evaluations use too. An
UNDECIDED completion that ended by itself counts as not right: if it had no reward, a model could
raise its average by stating no answer where it is unsure.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch

from omr_data.records import RIGHT, UNDECIDED, Outcome, Verdict
from omr_data.train.chat import Encoder, Example
from omr_data.train.losses import advantages, overlong_penalty
from omr_data.train.release import PolicyPrompt
from omr_data.train.samplers.base import Completion
from omr_data.train.settings import GSPO
from omr_data.verifiers import rates
from omr_data.verifiers.api import verify_many
from omr_data.verifiers.base import AnswerPair
from omr_data.verifiers.extract import has_format


@dataclass(frozen=True, slots=True)
class ScoredCompletion:
    """A completion with its verdict, reward and advantage."""

    completion: Completion
    """What was sampled."""
    outcome: Outcome
    """The verdict on its answer."""
    formatted: bool
    """Whether its text has the tags of the answer format."""
    reward: float | None
    """Its reward, or None where it has none."""
    advantage: float = float("nan")
    """Its advantage within its group. NaN where it is not learned from."""


def verify_texts(
    prompts: Sequence[PolicyPrompt],
    texts: Sequence[Sequence[str]],
    ended: Sequence[Sequence[bool]],
) -> list[list[Verdict]]:
    """Verifies the completions of each prompt against its gold answer.

    Args:
        prompts: The prompts.
        texts: The texts of the completions of each prompt.
        ended: Whether each completion ended by itself. The verdict on others is UNDECIDED, unless
            they had stated an answer in tags before they were cut off.
    """
    pairs = []
    for prompt, prompt_texts, prompt_ended in zip(prompts, texts, ended, strict=True):
        for text, whole in zip(prompt_texts, prompt_ended, strict=True):
            finish_reason = "stop" if whole else "length"
            pairs.append(AnswerPair(text, prompt.gold, prompt.options, finish_reason))
    # All pairs in one call: the verifiers batch formulas that need a process of their own.
    # The judge is not asked: a reward must not depend on whether a server is up.
    verdicts = iter(verify_many(pairs))
    return [[next(verdicts) for _ in prompt_texts] for prompt_texts in texts]


def completion_reward(
    completion: Completion, verdict: Verdict, formatted: bool, settings: GSPO
) -> float | None:
    """Computes the reward of one completion.

    Args:
        completion: What was sampled.
        verdict: The verdict on it.
        formatted: Whether it has the answer format.
        settings: The weight of the format, and how completions that were cut off are rewarded.

    Returns:
        The reward, or None where it has none.
    """
    # `overlong` comes first: the verdict on a completion that was cut off is mostly UNDECIDED.
    if not completion.ended and settings.overlong == "mask":
        return None
    if not completion.ended and settings.overlong == "zero":
        return 0.0
    finish_reason = "stop" if completion.ended else "length"
    correct = rates.reward(verdict, finish_reason)
    if correct is None:
        if completion.ended or verdict.cause != "cut off":
            return None
        # "soft" lowers the reward of completions that are too long, so these need one.
        correct = 0.0
    weight = settings.format_weight
    reward = (1 - weight) * correct + weight * formatted
    if settings.overlong == "soft":
        buffer = min(settings.overlong_buffer, settings.max_tokens)
        reward -= overlong_penalty(len(completion.ids), settings.max_tokens, buffer)
    return reward


def score_rollouts(
    prompts: Sequence[PolicyPrompt],
    rollouts: Sequence[Sequence[Completion]],
    encoder: Encoder,
    settings: GSPO,
) -> list[list[ScoredCompletion]]:
    """Computes rewards and advantages of the completions of each prompt.

    Args:
        prompts: The prompts.
        rollouts: `settings.rollouts` completions of each prompt: a group each.
        encoder: Decodes completions.
        settings: How completions are rewarded.
    """
    texts = [[encoder.text(completion.ids) for completion in group] for group in rollouts]
    ended = [[completion.ended for completion in group] for group in rollouts]
    verdicts = verify_texts(prompts, texts, ended)
    # float64, so that rounding keeps equal rewards far below MIN_STD apart.
    rewards = torch.zeros(len(rollouts), settings.rollouts, dtype=torch.float64)
    counted = torch.zeros(rewards.shape, dtype=torch.bool)
    scored: list[list[ScoredCompletion]] = []
    for row, group in enumerate(rollouts):
        scored.append([])
        for column, completion in enumerate(group):
            formatted = has_format(texts[row][column])
            verdict = verdicts[row][column]
            reward = None
            # Such a completion would be run with more image tokens than images, which is an error.
            if encoder.image_tokens.isdisjoint(completion.ids):
                reward = completion_reward(completion, verdict, formatted, settings)
            if reward is not None:
                rewards[row, column] = reward
                counted[row, column] = True
            scored[row].append(ScoredCompletion(completion, verdict.outcome, formatted, reward))

    # Advantages compare a whole group, so they are filled in when all rewards are known.
    found = advantages(rewards, counted)
    return [
        [
            ScoredCompletion(one.completion, one.outcome, one.formatted, one.reward, advantage)
            for one, advantage in zip(group, row, strict=True)
        ]
        for group, row in zip(scored, found.tolist(), strict=True)
    ]


def concat_prompt_response(prompt: Example, completion: Completion) -> Example:
    """Joins a prompt and a completion into one sequence, of which the completion is trained on."""
    ids = np.array(completion.ids, dtype=np.int64)
    # Not the number of tokens: an image moves the positions after it by its longer side.
    first = prompt.positions[:, -1].max() + 1
    positions = np.tile(first + np.arange(len(ids)), (3, 1))
    in_prompt = np.zeros(len(prompt), dtype=bool)
    in_completion = np.ones(len(ids), dtype=bool)
    return Example(
        ids=np.concatenate([prompt.ids, ids]),
        loss_mask=np.concatenate([in_prompt, in_completion]),
        positions=np.concatenate([prompt.positions, positions], axis=1),
        patches=prompt.patches,
        grids=prompt.grids,
    )


def reward_counts(groups: Sequence[Sequence[ScoredCompletion]]) -> Counter[str]:
    """Counts completions and groups by what became of them, to be summed over ranks."""
    completions = list(chain.from_iterable(groups))
    counts: Counter[str] = Counter(
        completions=len(completions),
        tokens=sum(len(one.completion.ids) for one in completions),
        decided=sum(one.outcome != UNDECIDED for one in completions),
        right=sum(one.outcome == RIGHT for one in completions),
        formatted=sum(one.formatted for one in completions),
        truncated=sum(not one.completion.ended for one in completions),
        rewarded=sum(one.reward is not None for one in completions),
        kept=sum(not np.isnan(one.advantage) for one in completions),
        groups=len(groups),
    )
    # DAPO samples such groups again until a batch is full; here they are only counted.
    counts["zero_variance"] = sum(all(np.isnan(one.advantage) for one in group) for group in groups)
    return counts
