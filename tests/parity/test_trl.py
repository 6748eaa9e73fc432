"""TRL's policy losses and gradients are those of the golden file (`make test-parity`).

TRL's own `_compute_loss` runs on a stand-in that holds only its settings and a model whose
log-probabilities are given. What it computes is kept with its inputs in
tests/golden/policy_losses.json, so the default suite compares our losses with TRL's without it.
"""

import json
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from trl import GRPOTrainer

from tests.omr import ROOT

GOLDEN = ROOT / "tests/golden/policy_losses.json"
LENGTHS = (9, 1, 4, 7, 9, 2)
CASES = [
    (loss, drift, kl, capped)
    for loss in ("gspo", "grpo", "dapo")
    for drift in (1e-4, 0.5)
    for kl, capped in ((0.0, False), (0.0, True), (0.1, False))
    if not (loss == "gspo" and capped) and not (loss == "dapo" and kl)  # where we depart from TRL
]
CLIPS = {"gspo": (3e-4, 4e-4), "grpo": (0.2, 0.2), "dapo": (0.2, 0.28)}


def inputs(drift: float) -> dict[str, torch.Tensor]:
    """(answers, tokens) tensors in float64; the drift is weak (inside most clips) or strong."""
    draw = torch.Generator().manual_seed(7)
    shape = (len(LENGTHS), max(LENGTHS))
    new = -torch.rand(shape, generator=draw, dtype=torch.float64) * 3

    def near() -> torch.Tensor:
        return new + drift * torch.randn(shape, generator=draw, dtype=torch.float64)

    mask = torch.tensor([[place < length for place in range(shape[1])] for length in LENGTHS])
    return {
        "new": new,
        "old": near(),
        "engine": near(),
        "reference": near(),
        "mask": mask.double(),
        "advantages": torch.randn(shape[0], generator=draw, dtype=torch.float64),
    }


def trl(
    loss: str, given: dict[str, torch.Tensor], kl: float, capped: bool
) -> tuple[float, list[list[float]]]:
    """TRL's loss, and its gradient by the new log-probabilities."""
    new = given["new"].clone().requires_grad_()
    mask = given["mask"]
    batch = {
        "prompt_ids": torch.zeros(len(LENGTHS), 1, dtype=torch.long),
        "prompt_mask": torch.ones(len(LENGTHS), 1),
        "completion_ids": torch.zeros(mask.shape, dtype=torch.long),
        "completion_mask": mask,
        "advantages": given["advantages"],
        "old_per_token_logps": given["old"],
        "ref_per_token_logps": given["reference"],
        "num_items_in_batch": mask.sum(),
        "importance_sampling_ratio": (given["old"] - given["engine"]).exp().clamp(max=2.0),
    }
    accelerator: Any = SimpleNamespace(
        num_processes=1, gather=lambda value: value, reduce=lambda value, reduction: value
    )
    arguments = SimpleNamespace(delta=None, use_bias_correction_kl=False, steps_per_generation=1)
    trainer = SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *_, **__: (new, torch.zeros_like(new), None),
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        importance_sampling_level="sequence" if loss == "gspo" else "token",
        beta=kl,
        loss_type="dapo" if loss == "dapo" else "grpo",
        epsilon_low=CLIPS[loss][0],
        epsilon_high=CLIPS[loss][1],
        args=arguments,
        use_vllm=capped,
        vllm_importance_sampling_correction=capped,
        model=SimpleNamespace(training=True),
        current_gradient_accumulation_steps=1.0,
        accelerator=accelerator,
        _entropy_bonus_enabled=False,
        aux_loss_enabled=False,
        _metrics={"train": _Lists()},
    )
    value = GRPOTrainer._compute_loss(trainer, None, batch)
    value.backward()
    assert new.grad is not None
    return value.item(), new.grad.tolist()


class _Lists(dict[str, list[float]]):
    def __missing__(self, key: str) -> list[float]:
        return self.setdefault(key, [])


def golden() -> dict[str, Any]:
    cases = []
    for loss, drift, kl, capped in CASES:
        value, gradient = trl(loss, inputs(drift), kl, capped)
        cases.append(
            {
                "loss": loss,
                "drift": drift,
                "kl": kl,
                "capped": capped,
                "value": value,
                "gradient": gradient,
            }
        )
    return {
        "inputs": {
            str(drift): {name: value.tolist() for name, value in inputs(drift).items()}
            for drift in (1e-4, 0.5)
        },
        "cases": cases,
    }


def test_what_trl_computes_is_what_the_golden_file_holds() -> None:
    """To accept a change, delete the golden file and run this twice."""
    found = golden()
    if not GOLDEN.exists():
        GOLDEN.write_text(json.dumps(found) + "\n")
        pytest.fail(f"{GOLDEN} was missing and is written now: commit it")
    held = json.loads(GOLDEN.read_text())
    assert held["inputs"] == found["inputs"]
    for ours, theirs in zip(held["cases"], found["cases"], strict=True):
        assert {name: ours[name] for name in ("loss", "drift", "kl", "capped")} == {
            name: theirs[name] for name in ("loss", "drift", "kl", "capped")
        }
        torch.testing.assert_close(
            torch.tensor(ours["gradient"]), torch.tensor(theirs["gradient"]), rtol=0, atol=1e-12
        )
        assert ours["value"] == pytest.approx(theirs["value"], abs=1e-12)
