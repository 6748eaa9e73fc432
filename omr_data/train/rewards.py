"""What sampled answers are worth: verified, rewarded, and compared within their group.

Reward = (1 - w) x right + w x format, with w = 0.1 as published. An answer that this project's verifiers leave UNDECIDED has no
reward and is left out: failure is not an answer (and one that ends without an answer is not punished for it; accuracy, over all
answers, shows it). So is, unless asked otherwise, one that was cut off, and always one that holds an image token: it has no image
to stand for.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from omr_data.records import RIGHT, UNDECIDED, Outcome
from omr_data.train.chat import Encoder, Example
from omr_data.train.losses import advantages, soft_overlong
from omr_data.train.model import Sampled
from omr_data.train.rows import Problem
from omr_data.train.settings import GSPO
from omr_data.verifiers.api import verify_many
from omr_data.verifiers.base import AnswerPair
from omr_data.verifiers.extract import has_format


@dataclass(frozen=True, slots=True)
class Answer:
    """A sampled answer with what became of it. `reward` is None where it has none; `advantage` is NaN where it teaches nothing."""

    sampled: Sampled
    outcome: Outcome
    formatted: bool
    reward: float | None
    advantage: float = float("nan")


def outcomes(
    problems: Sequence[Problem], texts: Sequence[Sequence[str]], ended: Sequence[Sequence[bool]]
) -> list[list[Outcome]]:
    """The verdict on every answer of every problem."""
    pairs = [
        AnswerPair(text, problem.gold, problem.options, "stop" if whole else "length")
        for problem, answers, wholes in zip(problems, texts, ended, strict=True)
        for text, whole in zip(answers, wholes, strict=True)
    ]
    verdicts = iter(verify_many(pairs))
    return [[next(verdicts).outcome for _ in answers] for answers in texts]


def judge(
    problems: Sequence[Problem],
    sampled: Sequence[Sequence[Sampled]],
    encoder: Encoder,
    settings: GSPO,
) -> list[list[Answer]]:
    """Rewards and advantages of the answers of each problem, a group each."""
    texts = [[encoder.text(one.ids) for one in group] for group in sampled]
    verdicts = outcomes(problems, texts, [[one.ended for one in group] for group in sampled])
    rewards = torch.zeros(len(sampled), settings.rollouts, dtype=torch.float64)
    counted = torch.zeros(rewards.shape, dtype=torch.bool)
    formats = [[has_format(text) for text in group] for group in texts]
    for row, group in enumerate(sampled):
        for column, one in enumerate(group):
            forged = not encoder.image_tokens.isdisjoint(one.ids)
            reward = (
                None
                if forged
                else _reward(one, verdicts[row][column], formats[row][column], settings)
            )
            if reward is not None:
                rewards[row, column], counted[row, column] = reward, True
    worth = advantages(rewards, counted)
    return [
        [
            Answer(
                one, verdicts[row][column], formats[row][column],
                float(rewards[row, column]) if counted[row, column] else None, float(worth[row, column]),
            )
            for column, one in enumerate(group)
        ]
        for row, group in enumerate(sampled)
    ]  # fmt: skip


def _reward(one: Sampled, outcome: Outcome, formatted: bool, settings: GSPO) -> float | None:
    if not one.ended and settings.overlong == "mask":
        return None
    if not one.ended and settings.overlong == "zero":
        return 0.0
    if outcome == UNDECIDED and one.ended:
        return None
    reward = (1 - settings.format_weight) * (outcome == RIGHT) + settings.format_weight * formatted
    if settings.overlong == "soft":
        reward -= soft_overlong(
            len(one.ids), settings.max_tokens, min(settings.overlong_buffer, settings.max_tokens)
        )
    return reward


def whole(prompt: Example, answer: Sampled) -> Example:
    """Prompt and answer as one sequence; the answer's tokens are the targets, its end token included and nothing after it."""
    ids = np.array(answer.ids, dtype=np.int64)
    following = prompt.positions[:, -1].max() + 1 + np.arange(len(ids))
    return Example(
        ids=np.concatenate([prompt.ids, ids]),
        targets=np.concatenate([np.zeros(len(prompt), dtype=bool), np.ones(len(ids), dtype=bool)]),
        positions=np.concatenate([prompt.positions, np.tile(following, (3, 1))], axis=1),
        patches=prompt.patches,
        grids=prompt.grids,
    )


def counts(groups: Sequence[Sequence[Answer]]) -> Counter[str]:
    """Sums over all answers, to be added over ranks and divided."""
    answers = [answer for group in groups for answer in group]
    found = Counter(
        answers=len(answers),
        tokens=sum(len(answer.sampled.ids) for answer in answers),
        decided=sum(answer.outcome != UNDECIDED for answer in answers),
        right=sum(answer.outcome == RIGHT for answer in answers),
        formatted=sum(answer.formatted for answer in answers),
        truncated=sum(not answer.sampled.ended for answer in answers),
        rewarded=sum(answer.reward is not None for answer in answers),
        groups=len(groups),
        zero_variance=sum(all(np.isnan(answer.advantage) for answer in group) for group in groups),
        kept=sum(not np.isnan(answer.advantage) for answer in answers),
    )
    return found
