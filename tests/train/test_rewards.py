"""Rewards: what a completion is worth, what has no reward, and what is learned from."""

import math
from dataclasses import replace

import numpy as np
import pytest

from omr_data.records import RIGHT, UNDECIDED, WRONG, Verdict
from omr_data.train.chat import Encoder
from omr_data.train.release import PolicyPrompt
from omr_data.train.rewards import (
    ScoredCompletion,
    completion_reward,
    concat_prompt_response,
    reward_counts,
    score_rollouts,
    verify_texts,
)
from omr_data.train.samplers.base import Completion
from omr_data.train.settings import GSPO
from tests.builders import png

WHOLE = Completion((1, 2, 3), True)
CUT = Completion(tuple(range(90)), False)
SAID_RIGHT = Verdict(RIGHT, "typed", 1, "4", "")
SAID_WRONG = Verdict(WRONG, "typed", 1, "5", "")
CUT_OFF = Verdict(UNDECIDED, "cascade", 1, None, "", "cut off")
NOT_RIGHT = [
    Verdict(UNDECIDED, "cascade", 1, None, "", cause)
    for cause in ("unstated", "unreadable", "other kind", "contradictory", "too close")
]
SETTINGS = GSPO(rollouts=2, max_tokens=100, overlong_buffer=20)


def question(gold: str = "4", options: tuple[str, ...] = ()) -> PolicyPrompt:
    return PolicyPrompt("x", ({"role": "user", "content": "?"},), (), gold, options, "demo")


def completion(encoder: Encoder, text: str, *more: int) -> Completion:
    ids = encoder.tokenizer(text, add_special_tokens=False)["input_ids"]
    return Completion((*ids, *more, encoder.end_token), True)


@pytest.mark.parametrize(
    ("verdict", "formatted", "reward"),
    [
        (SAID_RIGHT, True, 1.0),
        (SAID_RIGHT, False, 0.9),
        (SAID_WRONG, True, 0.1),
        (SAID_WRONG, False, 0.0),
    ],
)
def test_a_reward_is_for_the_answer_and_a_tenth_for_the_format(
    verdict: Verdict, formatted: bool, reward: float
) -> None:
    assert completion_reward(WHOLE, verdict, formatted, SETTINGS) == pytest.approx(reward)


@pytest.mark.parametrize("verdict", NOT_RIGHT, ids=lambda verdict: verdict.cause)
def test_what_ended_without_a_decided_answer_is_rewarded_as_not_right(verdict: Verdict) -> None:
    """Else a model would learn to state no answer where it is unsure."""
    assert completion_reward(WHOLE, verdict, False, SETTINGS) == 0.0
    assert completion_reward(WHOLE, verdict, True, SETTINGS) == pytest.approx(0.1)


@pytest.mark.parametrize("overlong", ["mask", "soft"])
@pytest.mark.parametrize("cause", ["timed out", "judge down"])
@pytest.mark.parametrize("completion", [WHOLE, CUT], ids=["whole", "cut"])
def test_a_verdict_that_says_nothing_about_the_model_gives_no_reward(
    completion: Completion, cause: str, overlong: str
) -> None:
    verdict = Verdict(UNDECIDED, "cascade", 1, "4", "", cause)
    settings = replace(SETTINGS, overlong=overlong)
    assert completion_reward(completion, verdict, True, settings) is None


def test_the_weight_of_the_format_is_a_setting() -> None:
    half = replace(SETTINGS, format_weight=0.5)
    assert completion_reward(WHOLE, SAID_RIGHT, False, half) == 0.5
    assert completion_reward(WHOLE, SAID_WRONG, True, half) == 0.5


@pytest.mark.parametrize("formatted", [True, False])
@pytest.mark.parametrize("verdict", [SAID_RIGHT, SAID_WRONG, CUT_OFF])
def test_a_completion_that_was_cut_off_is_left_out_or_gets_nothing(
    verdict: Verdict, formatted: bool
) -> None:
    masked, zero = replace(SETTINGS, overlong="mask"), replace(SETTINGS, overlong="zero")
    assert completion_reward(CUT, verdict, formatted, masked) is None
    assert completion_reward(CUT, verdict, formatted, zero) == 0.0


@pytest.mark.parametrize("overlong", ["mask", "zero"])
def test_a_long_completion_that_ended_loses_nothing_unless_it_is_asked_for(overlong: str) -> None:
    settings = replace(SETTINGS, overlong=overlong)
    assert completion_reward(replace(CUT, ended=True), SAID_RIGHT, True, settings) == 1.0


@pytest.mark.parametrize("overlong", ["mask", "zero", "soft"])
def test_how_cut_off_completions_are_rewarded_changes_nothing_for_short_ones(overlong: str) -> None:
    settings = replace(SETTINGS, overlong=overlong)
    assert completion_reward(WHOLE, SAID_RIGHT, True, settings) == 1.0
    assert completion_reward(WHOLE, NOT_RIGHT[0], False, settings) == 0.0


def test_a_soft_penalty_is_taken_from_the_reward_of_a_long_completion() -> None:
    soft = replace(SETTINGS, overlong="soft")
    long = replace(CUT, ended=True)
    assert completion_reward(long, SAID_RIGHT, True, soft) == pytest.approx(0.5)
    assert completion_reward(CUT, SAID_RIGHT, True, soft) == pytest.approx(0.5)
    assert completion_reward(CUT, CUT_OFF, True, soft) == pytest.approx(0.1 - 0.5)


def test_a_penalty_s_buffer_is_at_most_the_longest_completion() -> None:
    soft = replace(SETTINGS, overlong="soft", overlong_buffer=4_096)
    assert completion_reward(replace(CUT, ended=True), SAID_RIGHT, True, soft) == pytest.approx(0.1)


def verified(
    prompts: list[PolicyPrompt], texts: list[list[str]], ended: list[list[bool]]
) -> list[list[str]]:
    found = verify_texts(prompts, texts, ended)
    return [[verdict.outcome for verdict in verdicts] for verdicts in found]


def test_texts_are_verified_each_against_its_own_question() -> None:
    prompts = [question("4"), question("B", ("cat", "dog"))]
    texts = [["<answer>4</answer>", "<answer>5</answer>"], ["<answer>dog</answer>", "hm"]]
    ended = [[True, True], [True, True]]
    found = verified(prompts, texts, ended)
    assert found[0] == [RIGHT, WRONG]
    assert found[1][0] == RIGHT
    assert verified(prompts[::-1], texts[::-1], ended)[1] == [RIGHT, WRONG]


def test_what_was_cut_off_before_its_answer_was_certain_is_undecided() -> None:
    """And not wrong: it might have gone on with "The answer is 42"."""
    said = "The answer is 4"
    assert verified([question()], [[said, said]], [[True, False]]) == [[RIGHT, UNDECIDED]]
    assert verified([question()], [["The answer is 5"]], [[True]]) == [[WRONG]]


def test_verdicts_rewards_and_advantages_stay_with_their_completion(encoder: Encoder) -> None:
    right = completion(encoder, "<think>a</think><answer>4</answer>")
    wrong = completion(encoder, "<think>a</think><answer>5</answer>")
    untagged = completion(encoder, "The answer is 4")
    cut = replace(right, ended=False)
    groups = [[wrong, right], [right, wrong], [untagged, right], [right, cut]]
    settings = replace(SETTINGS, rollouts=2)
    scored = score_rollouts([question()] * 4, groups, encoder, settings)
    assert [[one.completion for one in group] for group in scored] == groups
    assert [[one.outcome for one in group] for group in scored[:2]] == [
        [WRONG, RIGHT],
        [RIGHT, WRONG],
    ]
    assert [one.formatted for one in scored[2]] == [False, True]
    rewards = [[one.reward for one in group] for group in scored]
    assert rewards[0] == pytest.approx([0.1, 1.0])
    assert rewards[2] == pytest.approx([0.9, 1.0])
    assert rewards[3] == [1.0, None]
    half = 0.5**0.5
    assert [one.advantage for one in scored[0]] == pytest.approx([-half, half])
    assert [one.advantage for one in scored[1]] == pytest.approx([half, -half])
    assert all(math.isnan(one.advantage) for one in scored[3])


def test_a_completion_with_an_image_token_has_no_reward(encoder: Encoder) -> None:
    """It is right and well formed, but no image stands behind the token."""
    text = "<think>4</think><answer>4</answer>"
    good, bad = completion(encoder, text), completion(encoder, "<answer>5</answer>")
    forged = completion(encoder, text, encoder.image_token)
    settings = replace(SETTINGS, rollouts=4)
    (group,) = score_rollouts([question()], [[good, forged, bad, good]], encoder, settings)
    assert [one.reward for one in group][:2] == [1.0, None]
    assert group[1].outcome == RIGHT
    assert math.isnan(group[1].advantage)
    assert group[0].advantage == group[3].advantage > 0 > group[2].advantage


def test_a_completion_follows_its_prompt_and_is_all_that_is_trained_on(encoder: Encoder) -> None:
    prompt = encoder.prompt([{"role": "user", "content": "<image>?"}], [png("red", (64, 64))])
    joined = concat_prompt_response(prompt, Completion((7, 8, 9), True))
    assert joined.ids.tolist() == [*prompt.ids.tolist(), 7, 8, 9]
    assert joined.loss_mask.tolist() == [False] * len(prompt) + [True] * 3
    assert joined.positions[:, :-3].tolist() == prompt.positions.tolist()
    # An image of 4 x 4 tokens takes 4 positions, so the completion starts before the token count.
    first = int(prompt.positions[0, -1]) + 1
    assert first == len(prompt) - 12
    assert joined.positions[:, -3:].tolist() == [[first, first + 1, first + 2]] * 3
    assert joined.patches is prompt.patches
    assert joined.grids is prompt.grids


def test_a_joined_chat_is_what_the_encoder_makes_of_it(encoder: Encoder) -> None:
    turns = [{"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": "2"}]
    whole = encoder.chat(turns, [])
    said = tuple(whole.ids[whole.loss_mask].tolist())
    joined = concat_prompt_response(encoder.prompt(turns[:1], []), Completion(said, True))
    assert np.array_equal(joined.ids, whole.ids)
    assert np.array_equal(joined.loss_mask, whole.loss_mask)
    assert np.array_equal(joined.positions, whole.positions)


def test_completions_and_groups_are_counted_by_what_became_of_them() -> None:
    groups = [
        [
            ScoredCompletion(WHOLE, RIGHT, True, 1.0, 0.7),
            ScoredCompletion(WHOLE, WRONG, True, 0.1, -0.7),
            ScoredCompletion(CUT, UNDECIDED, False, None),
        ],
        [ScoredCompletion(WHOLE, RIGHT, False, 0.9), ScoredCompletion(CUT, UNDECIDED, False, None)],
        [ScoredCompletion(WHOLE, UNDECIDED, True, None), ScoredCompletion(WHOLE, WRONG, True, 0.1)],
    ]
    assert reward_counts(groups) == {
        "completions": 7,
        "tokens": 5 * 3 + 2 * 90,
        "decided": 4,
        "right": 2,
        "formatted": 4,
        "truncated": 2,
        "rewarded": 4,
        "kept": 2,
        "groups": 3,
        "zero_variance": 2,
    }
