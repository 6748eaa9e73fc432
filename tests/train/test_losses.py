"""Policy losses are the published ones, and do not depend on how a batch is cut into packs."""

import json
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from omr_data.train.losses import (
    LOSSES,
    MIN_STD,
    LossInputs,
    advantages,
    kl,
    mean_per_completion,
    overlong_penalty,
)
from omr_data.train.settings import CLIPS
from tests.omr import ROOT

GOLDEN = json.loads((ROOT / "tests/golden/policy_losses.json").read_text())
"""TRL's numbers with their inputs; tests/parity makes them anew."""
ALL = [0, 1, 2, 3, 4, 5]


def tensors(drift: float) -> dict[str, torch.Tensor]:
    inputs = GOLDEN["inputs"][str(drift)]
    return {name: torch.tensor(values, dtype=torch.float64) for name, values in inputs.items()}


def packed(held: dict[str, torch.Tensor], name: str, rows: list[int]) -> torch.Tensor:
    return torch.cat([held[name][row][held["mask"][row] > 0] for row in rows])


def computed(
    loss: str,
    held: dict[str, torch.Tensor],
    packs: list[list[int]],
    with_kl: float = 0.0,
    corrected: bool = False,
) -> tuple[float, torch.Tensor]:
    """The loss summed over packs of completions, and its gradient in the padded shape."""
    leaf = held["new"].clone().requires_grad_()
    completions, count = len(held["advantages"]), float(held["mask"].sum())
    total = count if loss == "dapo" else completions
    value = torch.zeros((), dtype=torch.float64)
    for rows in packs:
        new = packed(held | {"new": leaf}, "new", rows)
        sizes = [int(held["mask"][row].sum()) for row in rows]
        completion = torch.repeat_interleave(torch.arange(len(rows)), torch.tensor(sizes))
        inputs = LossInputs(
            old_logprobs=packed(held, "old", rows),
            completion=completion,
            advantages=held["advantages"][rows],
            engine_logprobs=packed(held, "engine", rows) if corrected else None,
        )
        value = value + LOSSES[loss](new, inputs, CLIPS[loss], total, 2.0).loss
        if with_kl:
            reference = packed(held, "reference", rows)
            value = value + with_kl * kl(new, reference, completion, len(rows), completions)
    value.backward()
    assert leaf.grad is not None
    return value.item(), leaf.grad


def one_each(log_ratios: list[float], worth: list[float], engine: float | None = None) -> Any:
    """Inputs of completions of one token each, and the new log-probabilities."""
    old = torch.full((len(worth),), -1.0, dtype=torch.float64)
    inputs = LossInputs(
        old_logprobs=old,
        completion=torch.arange(len(worth)),
        advantages=torch.tensor(worth, dtype=torch.float64),
        engine_logprobs=None if engine is None else torch.full_like(old, engine),
    )
    return old + torch.tensor(log_ratios, dtype=torch.float64), inputs


def case_name(case: dict[str, Any]) -> str:
    return f"{case['loss']}, drift {case['drift']}, kl {case['kl']}, capped {case['capped']}"


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=case_name)
def test_a_loss_and_its_gradient_equal_trl_s(case: dict[str, Any]) -> None:
    held = tensors(case["drift"])
    value, gradient = computed(case["loss"], held, [ALL], case["kl"], case["capped"])
    assert value == pytest.approx(case["value"], abs=1e-6)
    expected = torch.tensor(case["gradient"], dtype=torch.float64)
    torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-6)


def test_the_strong_drift_of_the_golden_cases_meets_every_clip_on_both_sides() -> None:
    held = tensors(0.5)
    for loss, (low, high) in CLIPS.items():
        ratio = (packed(held, "new", ALL) - packed(held, "old", ALL)).exp()
        assert (ratio < 1 - low).any(), loss
        assert (ratio > 1 + high).any(), loss


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_a_loss_is_the_same_however_the_batch_is_cut_into_packs(loss: str) -> None:
    held = tensors(0.5)
    value, gradient = computed(loss, held, [ALL], corrected=True)
    cut, other = computed(loss, held, [[4, 1], [0], [5, 3, 2]], corrected=True)
    assert cut == pytest.approx(value, abs=1e-12)
    torch.testing.assert_close(other, gradient, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("gap", "weight"), [(0.0, 1.0), (-1.0, math.exp(-1)), (1.0, 2.0)])
@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_a_correction_weighs_the_loss_and_is_capped(loss: str, gap: float, weight: float) -> None:
    """`gap`: how much likelier each token is to the trainer than to the sampling engine."""
    new, plain = one_each([0.0, 0.0], [1.0, -3.0])
    _, corrected = one_each([0.0, 0.0], [1.0, -3.0], engine=-1.0 - gap)
    before = LOSSES[loss](new, plain, CLIPS[loss], 2, 2.0).loss
    after = LOSSES[loss](new, corrected, CLIPS[loss], 2, 2.0).loss
    assert float(after) == pytest.approx(weight * float(before))


def test_gspo_corrects_a_completion_by_the_mean_over_its_tokens() -> None:
    old = torch.tensor([-1.0, -1.0], dtype=torch.float64)
    engine = torch.tensor([-1.0 - math.log(4), -1.0 + math.log(2)], dtype=torch.float64)
    advantage = torch.ones(1, dtype=torch.float64)
    inputs = LossInputs(old, torch.tensor([0, 0]), advantage, engine)
    outputs = LOSSES["gspo"](old, inputs, CLIPS["gspo"], 1, 10.0)
    assert float(outputs.loss) == pytest.approx(-(2**0.5))  # exp of the mean of log 4 and -log 2


def test_a_correction_has_no_gradient() -> None:
    new, inputs = one_each([0.0], [1.0], engine=-1.5)
    old = inputs.old_logprobs.clone().requires_grad_()
    tracked = LossInputs(old, inputs.completion, inputs.advantages, inputs.engine_logprobs)
    for loss in LOSSES.values():
        (gradient,) = torch.autograd.grad(loss(new, tracked, (0.2, 0.2), 1, 2.0).loss, old)
        # Only the ratio depends on it: d/d old of -w exp(new - old) is w.
        assert float(gradient) == pytest.approx(math.exp(0.5))


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_the_clip_acts_only_where_it_lowers_the_objective(loss: str) -> None:
    """One completion each: a ratio above and below the range, with both signs of the advantage."""
    low, high = CLIPS[loss]
    ratios = [1 + 2 * high, 1 + 2 * high, 1 - 2 * low, 1 - 2 * low, 1 + high / 2, 1 - low / 2]
    worth = [1.0, -1.0, 1.0, -1.0, 1.0, -1.0]
    expected = [1 + high, -(1 + 2 * high), 1 - 2 * low, -(1 - low), 1 + high / 2, low / 2 - 1]
    new, inputs = one_each([math.log(ratio) for ratio in ratios], worth)
    outputs = LOSSES[loss](new, inputs, (low, high), 6, 2.0)
    assert float(outputs.loss) == pytest.approx(-sum(expected) / 6)
    assert outputs.count == 6
    assert float(outputs.clipped) == 2
    assert float(outputs.ratio) == pytest.approx(sum(ratios))
    logs = sum(abs(math.log(ratio)) for ratio in ratios)
    assert float(outputs.log_ratio_abs) == pytest.approx(logs)


def test_the_first_update_of_a_batch_has_ratio_one_and_clips_nothing() -> None:
    new = -torch.rand(8, dtype=torch.float64)
    completion = torch.tensor([0, 0, 0, 1, 1, 1, 1, 1])
    worth = torch.tensor([1.0, -2.0], dtype=torch.float64)
    counts = {"gspo": 2, "grpo": 8, "dapo": 8}
    for name, loss in LOSSES.items():
        found = loss(new, LossInputs(new.clone(), completion, worth), CLIPS[name], 2, 2.0)
        assert found.count == counts[name]
        assert found.ratio == found.count
        assert found.clipped == 0
        assert found.log_ratio_abs == 0


def test_what_is_watched_holds_no_gradient_graph() -> None:
    new, inputs = one_each([0.1, -0.1], [1.0, -1.0])
    outputs = LOSSES["gspo"](new.requires_grad_(), inputs, (0.2, 0.2), 2, 2.0)
    assert outputs.loss.requires_grad
    assert not outputs.ratio.requires_grad
    assert not outputs.log_ratio_abs.requires_grad
    assert not outputs.clipped.requires_grad


def test_a_mean_is_over_the_tokens_of_each_completion() -> None:
    values = torch.tensor([1.0, 3.0, 10.0], dtype=torch.float64)
    assert mean_per_completion(values, torch.tensor([1, 1, 0]), 2).tolist() == [10.0, 2.0]


def test_the_divergence_is_the_k3_estimate_as_a_mean_over_completions() -> None:
    new = torch.tensor([-1.0, -1.0, -2.0], dtype=torch.float64)
    reference = torch.tensor([-1.5, -1.0, -1.0], dtype=torch.float64)
    first, second = math.exp(-0.5) + 0.5 - 1, math.exp(1.0) - 1 - 1
    found = kl(new, reference, torch.tensor([0, 0, 1]), 2, 4)
    assert float(found) == pytest.approx((first / 2 + second) / 4)
    assert float(kl(new, new, torch.tensor([0, 0, 1]), 2, 4)) == 0


def test_advantages_are_rewards_by_their_group_s_mean_and_deviation() -> None:
    rewards = torch.tensor([[1.0, 0.0, 0.0, 1.0], [1.0] * 4, [0.1, 1.0, 0.5, 0.0]]).double()
    counted = torch.tensor([[True] * 4, [True] * 4, [True, True, False, False]])
    found = advantages(rewards, counted)
    expected = (rewards[0] - rewards[0].mean()) / rewards[0].std()
    torch.testing.assert_close(found[0], expected, rtol=0, atol=1e-12)
    assert found[1].isnan().all()  # equal rewards teach nothing
    assert found[2, :2].tolist() == pytest.approx([-(0.5**0.5), 0.5**0.5])
    assert found[2, 2:].isnan().all()  # no reward, no advantage


def test_a_group_with_one_reward_or_none_has_no_advantage() -> None:
    counted = torch.tensor([[True, False], [False, False]])
    assert advantages(torch.rand(2, 2, dtype=torch.float64), counted).isnan().all()


@pytest.mark.parametrize(("factor", "learned"), [(0.9, False), (1.1, True)])
def test_rewards_that_differ_by_rounding_are_equal(factor: float, learned: bool) -> None:
    spread = factor * MIN_STD * 2**0.5  # the deviation of (0, x) is x / sqrt 2
    found = advantages(torch.tensor([[0.0, spread]]).double(), torch.ones(1, 2, dtype=torch.bool))
    assert bool(found.isnan().all()) is not learned
    assert MIN_STD == 1e-6


@pytest.mark.parametrize(
    ("length", "loses"), [(0, 0.0), (80, 0.0), (81, 0.05), (90, 0.5), (100, 1.0), (120, 1.0)]
)
def test_a_long_completion_loses_up_to_one_over_the_buffer(length: int, loses: float) -> None:
    assert overlong_penalty(length, 100, 20) == loses


@given(st.sampled_from(sorted(LOSSES)), st.floats(-2, 2), st.floats(-3, 3))
def test_no_loss_rewards_more_than_the_unclipped_ratio(loss: str, log: float, worth: float) -> None:
    new, inputs = one_each([log], [worth])
    value = float(LOSSES[loss](new, inputs, CLIPS[loss], 1, 2.0).loss)
    assert -value <= math.exp(log) * worth + 1e-9


def test_shapes_are_checked_in_tests() -> None:
    new, inputs = one_each([0.0, 0.0], [1.0, -1.0])
    with pytest.raises(TypeCheckError):
        LOSSES["gspo"](new[None], inputs, (0.2, 0.2), 2, 2.0)
    with pytest.raises(TypeCheckError):
        advantages(torch.zeros(2, 3), torch.zeros(2, 2, dtype=torch.bool))
