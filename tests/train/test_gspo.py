"""GSPO runs: they train, continue to the same bits, and stop where going on is useless."""

import json
import math
import shutil
import urllib.request
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from omr_data.errors import CollapseError, TrainError
from omr_data.teachers import tiny
from omr_data.train import gspo
from omr_data.train.gspo import pack_rollouts
from omr_data.train.rewards import ScoredCompletion, concat_prompt_response
from omr_data.train.samplers import vllm
from omr_data.train.samplers.base import Completion
from omr_data.train.settings import GSPO, changed, preset
from omr_data.train.watch import StepStats, StepTimer, check_collapse, step_measures
from tests.train.helpers import (
    ALONE,
    assert_near,
    metrics,
    run_on_two,
    sampling_server,
    train_command,
    weights,
    write_release,
)

SMALL = {"prompts_per_step": "8", "rollouts": "4", "max_tokens": "32", "steps": "2"}


@pytest.fixture(scope="module")
def problems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_release(tmp_path_factory.mktemp("problems"), answered=False)


def reinforce(data: Path, out: Path, **given: str) -> None:
    """A short run in this process."""
    gspo.train(changed(preset(GSPO, "tiny-gspo"), SMALL | given), str(data), out)


def steady(accuracy: float, zero_variance: float = 0.2, norm: float = 1.0) -> dict[str, float]:
    return {
        "accuracy": accuracy,
        "zero_variance": zero_variance,
        "grad_norm": norm,
        "entropy": 0.5,
        "truncated": 0.0,
    }


@pytest.mark.build
@pytest.mark.parametrize(
    ("loss", "kl"),
    [
        ("gspo", "0"),
        pytest.param("dapo", "0", marks=pytest.mark.slow),
        pytest.param("grpo", "0.1", marks=pytest.mark.slow),
    ],
)
def test_each_loss_trains_and_tells_what_it_did(
    problems: Path, tmp_path: Path, loss: str, kl: str
) -> None:
    reinforce(problems, tmp_path / "run", loss=loss, kl=kl)
    lines = metrics(tmp_path / "run")
    # The warm-up of this preset is five steps.
    assert [line["lr"] for line in lines] == pytest.approx([2e-5, 4e-5])
    for line in lines:
        assert 0 <= line["accuracy"] <= 1
        assert line["entropy"] > 0
        assert 0 <= line["clip_fraction"] <= 1
        assert line["ratio"] == pytest.approx(1, abs=0.05)
        phases = {"sample", "verify", "old_logprobs", "update"}
        assert {f"seconds_{phase}" for phase in phases} <= set(line)
        assert {"reward", "length", "zero_variance", "kept", "grad_norm"} <= set(line)
    # The second mini-batch of a step is learned from after the first has changed the policy, so
    # the two differ, except in a step where only one mini-batch had anything to teach.
    assert any(line["log_ratio_abs"] > 0 for line in lines)
    start = {float(value.sum()) for value in load_file(tiny.FOLDER / "model.safetensors").values()}
    assert {float(value.sum()) for value in weights(tmp_path / "run").values()} != start


@pytest.mark.build
def test_the_rate_of_the_first_step_is_that_of_the_warm_up(problems: Path, tmp_path: Path) -> None:
    few = {"minibatches": "1", "prompts_per_step": "2", "rollouts": "2", "max_tokens": "4"}
    reinforce(problems, tmp_path / "run", steps="1", lr="1e-4", warmup="4", **few)
    assert [line["lr"] for line in metrics(tmp_path / "run")] == [pytest.approx(2.5e-5)]


@pytest.mark.build
def test_with_one_mini_batch_the_ratio_is_always_one(problems: Path, tmp_path: Path) -> None:
    reinforce(problems, tmp_path / "run", minibatches="1", steps="1")
    (line,) = metrics(tmp_path / "run")
    assert (line["ratio"], line["log_ratio_abs"], line["clip_fraction"]) == (1.0, 0.0, 0.0)
    assert line["entropy"] > 0


@pytest.mark.build
def test_reinforcement_goes_on_after_a_stop_to_the_same_bits(
    problems: Path, tmp_path: Path
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    reinforce(problems, whole, save_every="1", keep="9", steps="3")
    later = shutil.ignore_patterns("step-00000002", "step-00000003", "model")
    shutil.copytree(whole, cut, ignore=later)
    reinforce(problems, cut, save_every="1", keep="9", steps="3")
    held = weights(whole)
    assert all(torch.equal(value, held[name]) for name, value in weights(cut).items())
    for name in ("accuracy", "lr", "grad_norm"):
        assert [line[name] for line in metrics(cut)] == [line[name] for line in metrics(whole)]


@pytest.mark.slow
def test_with_a_server_s_answers_two_processes_learn_what_one_does(tmp_path: Path) -> None:
    # Answers to these are numbers up to 5, which the server's guesses sometimes hit.
    problems = write_release(tmp_path, answered=False, families=("bars", "sum"))
    one, two = tmp_path / "one", tmp_path / "two"
    with sampling_server() as url:
        given = SMALL | {"engine": url, "rollouts": "12", "lr": "1e-4"}
        reinforce(problems, one, **given)
        with urllib.request.urlopen(f"{url}/log") as answer:
            log = json.loads(answer.read())
        run_on_two(train_command("gspo", problems, two, given))
    compared = ("accuracy", "reward", "kept", "truncated", "entropy", "ratio", "grad_norm")
    for name in (*compared, "clip_fraction"):
        expected = [line[name] for line in metrics(one)]
        assert [line[name] for line in metrics(two)] == pytest.approx(expected, rel=1e-4), name
    assert all(line["truncated"] > 0 and line["kept"] > 0 for line in metrics(one))
    assert_near(two, one, 1e-5)
    loads = [call for path, call in log if path == "/collective_rpc"]
    weights_path = {"weights_path": str(one / "served")}
    assert loads == [{"method": "reload_weights", "kwargs": weights_path}] * 2
    for cache in vllm.CACHES:
        assert [path for path, _ in log].count(f"/reset_{cache}_cache") == 2


def test_a_server_that_is_not_there_is_said(
    problems: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vllm, "TRIES", 1)
    with pytest.raises(
        TrainError,
        match=r"127.0.0.1:9/collective_rpc: .* Start the server with VLLM_SERVER_DEV_MODE=1",
    ):
        reinforce(problems, tmp_path / "run", engine="http://127.0.0.1:9")


@pytest.mark.slow
def test_a_rate_that_breaks_the_model_is_caught(problems: Path, tmp_path: Path) -> None:
    with pytest.raises(
        CollapseError,
        match=r"accuracy collapsed to .* Begin again in another folder with a lower lr than 0.02.",
    ):
        reinforce(problems, tmp_path / "run", lr="0.02", steps="60", window="3", warmup="0")
    assert len(metrics(tmp_path / "run")) < 60
    assert (tmp_path / "run/curves.png").exists()


@pytest.mark.build
def test_questions_with_long_prompts_are_counted_and_left_out(
    problems: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    few = {"steps": "1", "minibatches": "1", "prompts_per_step": "2", "rollouts": "2"}
    reinforce(problems, tmp_path / "run", max_prompt="40", **few)
    assert "questions left out: the prompt is longer than 40 tokens" in capfd.readouterr().err
    with pytest.raises(
        TrainError, match="0 questions with a prompt of at most 5 tokens, and a step takes 8"
    ):
        reinforce(problems, tmp_path / "none", max_prompt="5")


def test_mini_batches_must_have_equal_shares(problems: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="must be a multiple of 2: 2 mini-batches on 1 processes"):
        reinforce(problems, tmp_path, prompts_per_step="9")


def test_a_pack_holds_advantages_and_the_engine_s_log_probabilities_if_all_are_known(
    encoder: "gspo.Encoder",
) -> None:
    prompt = encoder.prompt([{"role": "user", "content": "?"}], [])
    told = Completion((7, 8), True, (-1.0, -2.0))
    untold = Completion((9,), True)
    examples = [concat_prompt_response(prompt, one) for one in (told, told, untold)]
    scored = [
        ScoredCompletion(one, "RIGHT", True, 1.0, advantage)
        for one, advantage in ((told, 0.5), (told, -0.5), (untold, 1.0))
    ]
    pack = pack_rollouts(examples[:2], scored[:2], encoder, ALONE.device)
    assert pack.advantages.tolist() == [0.5, -0.5]
    assert pack.engine_logprobs is not None
    assert pack.engine_logprobs.tolist() == [-1.0, -2.0, -1.0, -2.0]
    assert pack_rollouts(examples, scored, encoder, ALONE.device).engine_logprobs is None
    assert len(pack_rollouts([], [], encoder, ALONE.device).advantages) == 0


def test_measures_are_means_over_completions_groups_and_ratios() -> None:
    whole, cut = Completion((1, 2), True), Completion((1, 2, 3, 4), False)
    groups = [
        [
            ScoredCompletion(whole, "RIGHT", True, 1.0, 0.7),
            ScoredCompletion(whole, "WRONG", True, 0.1, -0.7),
        ],
        [
            ScoredCompletion(whole, "RIGHT", False, 0.9),
            ScoredCompletion(cut, "UNDECIDED", False, None),
        ],
    ]
    stats = StepStats(
        entropy=6.0,
        targets=12,
        ratio=2.2,
        log_ratio_abs=0.4,
        clipped=1.0,
        compared=2,
        norm=3.0,
        updates=2,
    )
    timer = StepTimer()
    timer.seconds = {"sample": 1.0, "update": 4.0}
    assert step_measures(groups, stats, timer, ALONE) == pytest.approx(
        {
            "accuracy": 0.5,
            "reward": 2 / 3,
            "formatted": 0.5,
            "undecided": 0.25,
            "truncated": 0.25,
            "length": 2.5,
            "zero_variance": 0.5,
            "kept": 0.5,
            "entropy": 0.5,
            "ratio": 1.1,
            "log_ratio_abs": 0.2,
            "clip_fraction": 0.5,
            "grad_norm": 1.5,
            "seconds_sample": 1.0,
            "seconds_update": 4.0,
            "tokens_per_second": 2.0,
        }
    )


def test_a_collapse_is_half_of_the_best_and_one_bad_step_is_not() -> None:
    settings = GSPO(window=5)
    good = [steady(0.6)] * 10
    check_collapse([*good, steady(0.0)], settings)
    check_collapse([*good, *[steady(0.31)] * 5], settings)
    with pytest.raises(
        CollapseError, match=r"accuracy collapsed to 0.290 over 5 steps, from 0.600 at its best"
    ):
        check_collapse([*good, *[steady(0.29)] * 5], settings)


def test_a_gradient_that_is_not_finite_stops_at_once() -> None:
    with pytest.raises(CollapseError, match=r"step 1: the gradient is not finite"):
        check_collapse([steady(0.5, norm=math.nan)], GSPO(window=5))


def test_nothing_left_to_learn_is_said() -> None:
    settings = GSPO(window=5)
    with pytest.raises(CollapseError, match="there is nothing to learn from"):
        check_collapse([steady(1.0, zero_variance=1.0)] * 10, settings)
    check_collapse([*[steady(1.0, zero_variance=1.0)] * 9, steady(1.0)], settings)
