"""Policy losses are the published ones (TRL's numbers), do not depend on how a batch is cut, and logits need not all be held."""

import json
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from omr_data.train.losses import LOSSES, Tokens, advantages, kl, soft_overlong
from omr_data.train.model import token_scores
from omr_data.train.settings import CLIPS
from tests.omr import ROOT

GOLDEN = json.loads((ROOT / "tests/golden/policy_losses.json").read_text())


def tensors(drift: float) -> dict[str, torch.Tensor]:
    return {
        name: torch.tensor(values, dtype=torch.float64)
        for name, values in GOLDEN["inputs"][str(drift)].items()
    }


def packed(held: dict[str, torch.Tensor], name: str, rows: list[int]) -> torch.Tensor:
    return torch.cat([held[name][row][held["mask"][row] > 0] for row in rows])


def ours(
    loss: str,
    held: dict[str, torch.Tensor],
    packs: list[list[int]],
    with_kl: float = 0.0,
    capped: bool = False,
) -> tuple[float, torch.Tensor]:
    """The loss summed over packs of answers, and its gradient in the padded shape."""
    leaf = held["new"].clone().requires_grad_()
    answers, count = len(held["advantages"]), float(held["mask"].sum())
    value = torch.zeros((), dtype=torch.float64)
    for rows in packs:
        new = packed(held | {"new": leaf}, "new", rows)
        answer = torch.cat(
            [torch.full((int(held["mask"][row].sum()),), place) for place, row in enumerate(rows)]
        )
        tokens = Tokens(
            packed(held, "old", rows),
            answer,
            held["advantages"][rows],
            packed(held, "engine", rows) if capped else None,
        )
        value = (
            value
            + LOSSES[loss](new, tokens, CLIPS[loss], count if loss == "dapo" else answers, 2.0).loss
        )
        if with_kl:
            value = value + with_kl * kl(
                new, packed(held, "reference", rows), answer, len(rows), answers
            )
    value.backward()
    assert leaf.grad is not None
    return value.item(), leaf.grad


@pytest.mark.parametrize(
    "case",
    GOLDEN["cases"],
    ids=lambda case: (
        f"{case['loss']}, drift {case['drift']}, kl {case['kl']}, capped {case['capped']}"
    ),
)
def test_a_loss_and_its_gradient_equal_trl_s(case: dict[str, Any]) -> None:
    value, gradient = ours(
        case["loss"], tensors(case["drift"]), [[0, 1, 2, 3, 4, 5]], case["kl"], case["capped"]
    )
    assert value == pytest.approx(case["value"], abs=1e-6)
    torch.testing.assert_close(
        gradient, torch.tensor(case["gradient"], dtype=torch.float64), rtol=0, atol=1e-6
    )


def test_the_strong_drift_of_the_golden_cases_meets_every_clip_on_both_sides() -> None:
    held = tensors(0.5)
    for loss, (low, high) in CLIPS.items():
        ratio = (
            packed(held, "new", [0, 1, 2, 3, 4, 5]) - packed(held, "old", [0, 1, 2, 3, 4, 5])
        ).exp()
        assert (ratio < 1 - low).any() and (ratio > 1 + high).any(), loss


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_a_loss_is_the_same_however_the_batch_is_cut_into_packs(loss: str) -> None:
    held = tensors(0.5)
    value, gradient = ours(loss, held, [[0, 1, 2, 3, 4, 5]])
    cut, other = ours(loss, held, [[4, 1], [0], [5, 3, 2]])
    assert cut == pytest.approx(value, abs=1e-12)
    torch.testing.assert_close(other, gradient, rtol=0, atol=1e-12)


def test_in_gspo_a_correction_weighs_whole_answers_and_is_capped() -> None:
    held = tensors(1e-4)
    held["engine"] = (
        held["old"] - 5.0
    )  # every token is e^5 likelier to the trainer than to the engine
    plain, _ = ours("gspo", held, [[0, 1, 2, 3, 4, 5]])
    weighed, _ = ours("gspo", held, [[0, 1, 2, 3, 4, 5]], capped=True)
    assert weighed == pytest.approx(2.0 * plain)


def test_the_first_update_of_a_batch_has_ratio_one_and_clips_nothing() -> None:
    new = -torch.rand(8, dtype=torch.float64)
    tokens = Tokens(
        new.clone(),
        torch.tensor([0, 0, 0, 1, 1, 1, 1, 1]),
        torch.tensor([1.0, -2.0], dtype=torch.float64),
    )
    for name, loss in LOSSES.items():
        found = loss(new, tokens, CLIPS[name], 2, 2.0)
        assert found.ratio == found.count and found.clipped == 0 and found.drift == 0


def test_advantages_are_rewards_by_their_group_s_mean_and_deviation() -> None:
    rewards = torch.tensor(
        [[1.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0], [0.1, 1.0, 0.5, 0.0]], dtype=torch.float64
    )
    counted = torch.tensor([[True] * 4, [True] * 4, [True, True, False, False]])
    found = advantages(rewards, counted)
    torch.testing.assert_close(
        found[0], (rewards[0] - rewards[0].mean()) / rewards[0].std(), rtol=0, atol=1e-12
    )
    assert found[1].isnan().all()  # equal rewards teach nothing
    torch.testing.assert_close(
        found[2, :2], torch.tensor([-1.0, 1.0], dtype=torch.float64) / 2**0.5
    )
    assert found[2, 2:].isnan().all()  # no reward, no advantage


def test_a_group_with_one_reward_or_none_has_no_advantage() -> None:
    counted = torch.tensor([[True, False], [False, False]])
    assert advantages(torch.rand(2, 2, dtype=torch.float64), counted).isnan().all()


@pytest.mark.parametrize(
    ("length", "loses"), [(0, 0.0), (80, 0.0), (90, 0.5), (100, 1.0), (120, 1.0)]
)
def test_a_long_answer_loses_up_to_one_over_the_buffer(length: int, loses: float) -> None:
    assert soft_overlong(length, 100, 20) == loses


@given(st.integers(1, 40), st.integers(1, 12), st.floats(0.3, 2.0))
def test_scores_in_chunks_are_those_of_the_whole_with_their_gradients(
    tokens: int, chunk: int, temperature: float
) -> None:
    draw = torch.Generator().manual_seed(tokens)
    states = torch.randn(tokens, 16, generator=draw, requires_grad=True)
    weight = torch.randn(50, 16, generator=draw, requires_grad=True)
    labels = torch.randint(50, (tokens,), generator=draw)
    found = {}
    for size in (chunk, tokens):
        logps, entropies = token_scores(states, weight, labels, temperature, size)
        found[size] = (logps, entropies, *torch.autograd.grad(-logps.sum(), (states, weight)))
    logits = (states @ weight.T) / temperature
    plain = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    expected = (
        -plain,
        torch.distributions.Categorical(logits=logits).entropy(),
        *torch.autograd.grad(plain.sum(), (states, weight)),
    )
    for size in (chunk, tokens):
        for ours_, theirs in zip(found[size], expected, strict=True):
            torch.testing.assert_close(ours_, theirs, rtol=1e-5, atol=1e-5)
