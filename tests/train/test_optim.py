"""Learning rates rise and fall as settings say, and gradients are clipped to a norm."""

import itertools

import pytest
import torch

from omr_data.train.optim import clip_gradients, cosine_lr, set_lr, warmup_lr


def test_a_cosine_rate_warms_up_in_a_line_and_decays_to_zero() -> None:
    rates = [cosine_lr(2.0, step, 100, 0.1) for step in range(100)]
    assert rates[:3] == pytest.approx([0.2, 0.4, 0.6])
    assert rates[10] == 2.0 == max(rates)
    assert rates[55] == pytest.approx(1.0)
    assert 0 < rates[99] < 1e-2
    assert all(later < earlier for earlier, later in itertools.pairwise(rates[10:]))


def test_a_constant_rate_warms_up_in_a_line() -> None:
    assert [warmup_lr(4.0, step, 4) for step in range(6)] == [1.0, 2.0, 3.0, 4.0, 4.0, 4.0]


def test_without_a_warm_up_the_first_step_has_the_whole_rate() -> None:
    assert warmup_lr(4.0, 0, 0) == 4.0
    assert cosine_lr(4.0, 0, 100, 0.0) == 4.0


def test_a_rate_is_set_for_all_parameters() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    optimizer.add_param_group({"params": [torch.zeros(1)]})
    set_lr(optimizer, 0.25)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.25]


def test_a_gradient_is_scaled_down_to_the_norm_and_never_up() -> None:
    layer = torch.nn.Linear(2, 1, bias=False)
    layer.weight.grad = torch.tensor([[3.0, 4.0]])
    assert clip_gradients(layer, 1.0) == pytest.approx(5.0)  # type: ignore[arg-type]
    assert layer.weight.grad.norm() == pytest.approx(1.0, abs=1e-5)
    assert clip_gradients(layer, 9.0) == pytest.approx(1.0, abs=1e-5)  # type: ignore[arg-type]
    assert layer.weight.grad.norm() == pytest.approx(1.0, abs=1e-5)
