"""Whole runs through the command line: on one process and on two, killed and resumed, measured, and refused."""

import itertools
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omr_data.train.rows import Problem
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoTokenizer

from omr_data.errors import CollapseError, TrainError
from omr_data.sources.locator import LocalDatasets
from omr_data.teachers import tiny
from omr_data.train import evaluate, gspo, served, sft
from omr_data.train.chat import Encoder
from omr_data.train.gspo import check_collapse
from omr_data.train.model import Sampled
from omr_data.train.rewards import judge
from omr_data.train.settings import GSPO, SFT, Eval, as_json, changed, preset
from tests.builders import png
from tests.omr import ROOT, command, environment, omr

SMALL = {
    "pack_length": "512",
    "packs_per_step": "2",
    "steps": "5",
    "start": "weights",
    "lr": "2e-4",
    "save_every": "2",
}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """As torchrun sets it for each process: sums in another order would be other numbers."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small set of chats and a small set of problems."""
    folder = tmp_path_factory.mktemp("train")
    places = ("--work", folder / "work", "--releases", folder, "--workers", 1)
    omr(
        "build",
        ROOT / "recipes/omr_sft_tiny.py",
        "--set",
        "questions=60",
        "--set",
        "rollouts=4",
        *places,
    )
    omr(
        "build",
        ROOT / "recipes/omr_rl_tiny.py",
        "--set",
        "questions=60",
        "--set",
        "rollouts=4",
        *places,
    )
    return folder


@pytest.fixture(scope="module")
def chats(releases: Path) -> Path:
    return releases / "omr-sft-tiny/1.0.0"


@pytest.fixture(scope="module")
def problems(releases: Path) -> Path:
    return releases / "omr-rl-tiny/1.0.0"


@pytest.fixture(scope="module")
def once(chats: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five steps on one process, undisturbed, with a checkpoint after each second."""
    out = tmp_path_factory.mktemp("once") / "run"
    tune(chats, out)
    return out


def tune(data: Path, out: Path, **given: str) -> None:
    """A short run of SFT in this process."""
    sft.train(changed(preset(SFT, "tiny-sft"), SMALL | given), str(data), out)


def reinforce(data: Path, out: Path, **given: str) -> None:
    """A short run of GSPO in this process."""
    gspo.train(changed(preset(GSPO, "tiny-gspo"), RL | given), str(data), out)


TORCHRUN = (
    "-m",
    "torch.distributed.run",
    "--nproc-per-node",
    "2",
    "--rdzv-backend",
    "c10d",
    "--rdzv-endpoint",
    "127.0.0.1:0",
)


def line(kind: str, data: Path, out: Path, given: Mapping[str, str]) -> list[str]:
    """The same as a command line."""
    settings = [part for name, value in given.items() for part in ("--set", f"{name}={value}")]
    return command("train", kind, data, "--preset", f"tiny-{kind}", "--out", out, *settings)


def on_two(kind: str, data: Path, out: Path, given: Mapping[str, str]) -> None:
    """The same on two processes, with torchrun."""
    run = [sys.executable, *TORCHRUN, *line(kind, data, out, given)[1:]]
    done = subprocess.run(
        run,
        env=environment(OMP_NUM_THREADS=1),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


def metrics(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "model/model.safetensors")


def assert_near(ours: Path, theirs: Path, most: float) -> None:
    held = weights(theirs)
    assert set(weights(ours)) == set(held)
    for name, value in weights(ours).items():
        assert float((value - held[name]).abs().max()) <= most, name


# --------------------------------------------------------------------------------------------------- sft


def test_two_processes_compute_what_one_does(chats: Path, once: Path, tmp_path: Path) -> None:
    on_two("sft", chats, tmp_path / "two", SMALL)
    one, two = metrics(once), metrics(tmp_path / "two")
    assert [line["loss"] for line in two] == pytest.approx([line["loss"] for line in one], rel=1e-5)
    assert [line["grad_norm"] for line in two] == pytest.approx(
        [line["grad_norm"] for line in one], rel=1e-5
    )
    assert [line["tokens"] for line in two] == [line["tokens"] for line in one]
    assert_near(tmp_path / "two", once, 1e-5)
    for later in (tmp_path / "two/checkpoints").glob("step-00000005"):
        later.rename(tmp_path / "later")
    tune(chats, tmp_path / "two")  # goes on from step 4 with another number of processes
    assert [line["step"] for line in metrics(tmp_path / "two")] == [1, 2, 3, 4, 5]
    assert_near(tmp_path / "two", once, 1e-5)


def test_a_run_that_was_killed_goes_on_to_the_same_bits(
    chats: Path, once: Path, tmp_path: Path
) -> None:
    out = tmp_path / "killed"
    victim = subprocess.Popen(
        line("sft", chats, out, SMALL),
        env=environment(OMP_NUM_THREADS=1),
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not (out / "checkpoints/step-00000002").exists():
        assert victim.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(victim.pid, signal.SIGKILL)
    victim.wait()
    assert not (out / "model").exists()
    tune(chats, out)
    assert [(line["step"], line["loss"]) for line in metrics(out)] == [
        (line["step"], line["loss"]) for line in metrics(once)
    ]
    held = weights(once)
    assert all(torch.equal(value, held[name]) for name, value in weights(out).items())


def test_the_last_checkpoints_are_kept_and_the_curves_are_drawn(once: Path) -> None:
    assert sorted(path.name for path in (once / "checkpoints").iterdir()) == [
        "step-00000004",
        "step-00000005",
    ]
    assert (once / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert {"loss", "lr", "grad_norm", "tokens", "targets", "fill", "tokens_per_second"} <= set(
        metrics(once)[0]
    )


def test_the_model_that_is_left_is_one_that_transformers_loads(once: Path) -> None:
    model, told = AutoModelForImageTextToText.from_pretrained(
        once / "model", output_loading_info=True
    )
    assert not any(told.values())
    sums = sorted(float(value.double().sum()) for value in weights(once).values())
    assert sums == sorted(float(value.detach().double().sum()) for value in model.parameters())
    assert AutoTokenizer.from_pretrained(once / "model").chat_template


def test_random_weights_learn(chats: Path, tmp_path: Path) -> None:
    tune(chats, tmp_path / "run", start="random", lr="2e-3", steps="15", packs_per_step="1")
    losses = [line["loss"] for line in metrics(tmp_path / "run")]
    assert losses[0] == pytest.approx(math.log(352), abs=0.3)
    assert losses[-1] < losses[0] - 1


def test_a_folder_with_another_run_is_refused(chats: Path, once: Path) -> None:
    with pytest.raises(TrainError, match=r"was begun with lr=0.0002, and this run has 0.5"):
        tune(chats, once, lr="0.5")


def test_another_release_in_the_same_folder_is_refused(
    releases: Path, chats: Path, once: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(chats, other)
    (other / "manifest.json").write_text((chats / "manifest.json").read_text() + "\n")
    with pytest.raises(TrainError, match="was begun with release="):
        tune(other, once)


def test_rows_that_are_too_long_are_counted_and_left_out(
    chats: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tune(chats, tmp_path / "run", pack_length="60", steps="1")
    assert "rows left out: longer than 60 tokens (the longest has" in capfd.readouterr().err
    with pytest.raises(
        TrainError, match="no row of the release is a chat of at most 10 tokens. Raise pack_length."
    ):
        tune(chats, tmp_path / "none", pack_length="10")


def test_problems_are_no_chats_to_train_on(
    problems: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(TrainError, match="no row of the release is a chat"):
        tune(problems, tmp_path / "run")
    assert "rows left out: no assistant turn" in capfd.readouterr().err


def test_packs_that_cannot_be_dealt_out_are_refused(chats: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="packs_per_step is 0, and must be at least 1"):
        tune(chats, tmp_path / "run", packs_per_step="0")


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("nowhere", "there is no release nowhere"),
        ("some/repository", "organization/name@version"),
        (str(ROOT), "it has no manifest.json"),
    ],
)
def test_what_is_no_release_is_refused(tmp_path: Path, name: str, complaint: str) -> None:
    with pytest.raises(TrainError, match=complaint):
        tune(Path(name), tmp_path / "run")


def test_the_rate_warms_up_in_a_line_and_decays_to_zero() -> None:
    rates = [sft.cosine(1.0, step, 100, 0.1) for step in range(100)]
    assert rates[:3] == [0.1, 0.2, pytest.approx(0.3)]
    assert rates[10] == 1.0 and max(rates) == 1.0
    assert 0 < rates[99] < 1e-3
    assert all(later < earlier for earlier, later in itertools.pairwise(rates[10:]))


# -------------------------------------------------------------------------------------------------- gspo

RL = {"prompts_per_step": "8", "rollouts": "4", "max_tokens": "32", "steps": "2"}


@pytest.mark.parametrize(("loss", "kl"), [("gspo", "0"), ("dapo", "0"), ("grpo", "0.1")])
def test_each_loss_trains_and_tells_what_it_did(
    problems: Path, tmp_path: Path, loss: str, kl: str
) -> None:
    reinforce(problems, tmp_path / "run", loss=loss, kl=kl)
    for line in metrics(tmp_path / "run"):
        assert (
            0 <= line["accuracy"] <= 1 and line["entropy"] > 0 and 0 <= line["clip_fraction"] <= 1
        )
        assert line["ratio"] == pytest.approx(1, abs=0.05)
        assert {
            "reward",
            "length",
            "zero_variance",
            "kept",
            "seconds_sample",
            "seconds_update",
            "grad_norm",
        } <= set(line)
    start = {float(value.sum()) for value in load_file(tiny.FOLDER / "model.safetensors").values()}
    assert {float(value.sum()) for value in weights(tmp_path / "run").values()} != start


def test_reinforcement_goes_on_after_a_stop_to_the_same_bits(
    problems: Path, tmp_path: Path
) -> None:
    reinforce(problems, tmp_path / "whole", save_every="1", keep="9", steps="3")
    shutil.copytree(
        tmp_path / "whole",
        tmp_path / "cut",
        ignore=shutil.ignore_patterns("step-00000002", "step-00000003", "model"),
    )
    reinforce(problems, tmp_path / "cut", save_every="1", keep="9", steps="3")
    held = weights(tmp_path / "whole")
    assert all(torch.equal(value, held[name]) for name, value in weights(tmp_path / "cut").items())
    assert [line["accuracy"] for line in metrics(tmp_path / "cut")] == [
        line["accuracy"] for line in metrics(tmp_path / "whole")
    ]


@contextmanager
def sampling_server() -> Iterator[str]:
    """Its URL; it is stopped at the end."""
    served = [sys.executable, "-m", "tests.sampling_server"]
    with subprocess.Popen(
        served, cwd=ROOT, env=environment(OMP_NUM_THREADS=1), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def test_with_a_server_s_answers_two_processes_learn_what_one_does(
    problems: Path, tmp_path: Path
) -> None:
    with sampling_server() as url:
        given = RL | {"engine": url, "rollouts": "6", "lr": "1e-4"}
        reinforce(problems, tmp_path / "one", **given)
        with urllib.request.urlopen(f"{url}/log") as answer:
            log = json.loads(answer.read())
        on_two("gspo", problems, tmp_path / "two", given)
    one, two = metrics(tmp_path / "one"), metrics(tmp_path / "two")
    for name in (
        "accuracy",
        "reward",
        "kept",
        "truncated",
        "entropy",
        "ratio",
        "clip_fraction",
        "grad_norm",
    ):
        assert [line[name] for line in two] == pytest.approx(
            [line[name] for line in one], rel=1e-4
        ), name
    assert all(line["truncated"] > 0 and line["kept"] > 0 for line in one)
    assert_near(tmp_path / "two", tmp_path / "one", 1e-5)
    loads = [call for path, call in log if path == "/collective_rpc"]
    assert (
        loads
        == [{"method": "reload_weights", "kwargs": {"weights_path": str(tmp_path / "one/served")}}]
        * 2
    )
    assert [path for path, _ in log].count("/reset_prefix_cache") == 2


def test_a_server_that_is_not_there_is_said(
    problems: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served, "TRIES", 1)
    with pytest.raises(
        TrainError,
        match=r"127.0.0.1:9/collective_rpc: .* Start the server with VLLM_SERVER_DEV_MODE=1",
    ):
        reinforce(problems, tmp_path / "run", engine="http://127.0.0.1:9")


def test_an_answer_with_an_image_token_is_worth_nothing(problems: Path) -> None:
    encoder = Encoder(str(tiny.FOLDER))
    asked = Problem("x", ({"role": "user", "content": "?"},), (), "4")
    said = encoder.tokenizer("<think>4</think><answer>4</answer>", add_special_tokens=False)[
        "input_ids"
    ]
    good = Sampled((*said, encoder.end_token), True)
    forged = Sampled((*said, encoder.image_token, encoder.end_token), True)
    bad = Sampled((*said[:-3], encoder.end_token), True)
    (group,) = judge([asked], [[good, forged, bad, good]], encoder, GSPO(rollouts=4))
    assert [answer.reward for answer in group] == [1.0, None, pytest.approx(group[2].reward), 1.0]
    assert math.isnan(group[1].advantage)


def test_a_rate_that_breaks_the_model_is_caught(problems: Path, tmp_path: Path) -> None:
    with pytest.raises(
        CollapseError,
        match=r"accuracy collapsed to .* Begin again in another folder with a lower lr than 0.02.",
    ):
        reinforce(problems, tmp_path / "run", lr="0.02", steps="60", window="3", warmup="0")
    assert len(metrics(tmp_path / "run")) < 60
    assert (tmp_path / "run/curves.png").exists()


def test_questions_with_long_prompts_are_counted_and_left_out(
    problems: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    reinforce(
        problems,
        tmp_path / "run",
        max_prompt="40",
        steps="1",
        minibatches="1",
        prompts_per_step="2",
        rollouts="2",
    )
    assert "questions left out: the prompt is longer than 40 tokens" in capfd.readouterr().err
    with pytest.raises(
        TrainError, match="0 questions with a prompt of at most 5 tokens, and a step takes 8"
    ):
        reinforce(problems, tmp_path / "none", max_prompt="5")


def steady(accuracy: float, still: float = 0.2) -> dict[str, float]:
    return {
        "accuracy": accuracy,
        "zero_variance": still,
        "grad_norm": 1.0,
        "entropy": 0.5,
        "truncated": 0.0,
    }


def test_a_collapse_is_half_of_the_best_and_a_bad_step_is_none() -> None:
    settings = GSPO(window=5)
    good = [steady(0.6)] * 10
    check_collapse([*good, steady(0.0)], settings)
    check_collapse([*good, *[steady(0.31)] * 5], settings)
    with pytest.raises(
        CollapseError, match=r"accuracy collapsed to 0.290 over 5 steps, from 0.600 at its best"
    ):
        check_collapse([*good, *[steady(0.29)] * 5], settings)


def test_nothing_left_to_learn_is_said() -> None:
    with pytest.raises(CollapseError, match="there is nothing to learn from"):
        check_collapse([steady(1.0, still=1.0)] * 10, GSPO(window=5))


def test_a_group_needs_two_answers_and_mini_batches_equal_shares(
    problems: Path, tmp_path: Path
) -> None:
    with pytest.raises(TrainError, match="rollouts must be 2 or more"):
        reinforce(problems, tmp_path, rollouts="1")
    with pytest.raises(TrainError, match="must be a multiple of 2: 2 mini-batches on 1 processes"):
        reinforce(problems, tmp_path, prompts_per_step="9")


# ------------------------------------------------------------------------------------------- eval, settings


def test_a_model_is_measured_over_a_release(problems: Path, tmp_path: Path) -> None:
    out = tmp_path / "score.json"
    sampled = (
        "--set",
        "n=4",
        "--set",
        "temperature=1",
        "--set",
        "pass_at=1,4",
        "--set",
        "max_tokens=32",
    )
    done = omr("eval", "tiny", problems, *sampled, "--out", out, OMP_NUM_THREADS=1)
    found = json.loads(out.read_text())
    assert 0 < found["accuracy"]["low"] < found["accuracy"]["value"] < found["accuracy"]["high"] < 1
    assert found["pass_at"]["1"] == found["accuracy"]
    assert found["pass_at"]["4"]["value"] > found["accuracy"]["value"]
    assert len(found["answered"]) == found["questions"] and len(found["answered"][0]["texts"]) == 4
    assert "pass@4" in done.stdout and "95% interval" in done.stdout


def measured(name: str, of: Mapping[str, str], **given: str) -> evaluate.Score:
    questions, bad = evaluate.source_problems(evaluate.named_source(name, of), LocalDatasets())
    return evaluate.evaluate(changed(Eval(), {"max_tokens": "32"} | given), questions, name, bad)[0]


def test_a_model_is_measured_over_a_source() -> None:
    found = measured("synthetic", {"split": "heldout", "count": "30", "families": "text"})
    assert (found.questions, found.answers, dict(found.skipped)) == (30, 30, {})
    assert found.accuracy.low > 0.3
    assert str(found.accuracy).startswith("0.") and set(found.by_source) == {"synthetic"}


def test_two_processes_measure_what_one_does_with_texts_on_one_and_images_on_the_other(
    tmp_path: Path,
) -> None:
    """Greedy, so that nothing depends on how random numbers are dealt out. Families take turns, as processes do."""
    of = (
        "--of",
        "split=heldout",
        "--of",
        "count=16",
        "--of",
        "families=text,sum",
        "--set",
        "max_tokens=32",
    )
    found = []
    for name, run in (("one", ()), ("two", TORCHRUN)):
        arguments = command("eval", "tiny", "synthetic", *of, "--out", tmp_path / f"{name}.json")[
            1:
        ]
        done = subprocess.run(
            [sys.executable, *run, *arguments],
            env=environment(OMP_NUM_THREADS=1),
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("95% interval") == 1
        found.append(json.loads((tmp_path / f"{name}.json").read_text()))
    assert found[0] == found[1]


def test_an_image_that_cannot_be_read_is_left_out_and_counted() -> None:
    chat = ({"role": "user", "content": "<image>?"},)
    questions = [Problem("bad", chat, (b"no image",), "1"), Problem("good", chat, (png(),), "1")]
    found, answered = evaluate.evaluate(changed(Eval(), {"max_tokens": "8"}), questions, "two")
    assert dict(found.skipped) == {"image broken": 1}
    assert [one.id for one in answered] == ["good"]


def test_pass_at_k_is_the_chance_over_all_ways_to_draw_k() -> None:
    outcomes = ["RIGHT", "WRONG", "UNDECIDED", "RIGHT"]
    for k in (1, 2, 3, 4):
        drawn = list(itertools.combinations(outcomes, k))
        assert evaluate.pass_at(outcomes, k) == pytest.approx(
            sum("RIGHT" in draw for draw in drawn) / len(drawn)
        )


def test_an_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    draw = np.random.default_rng(0)
    for n in (1, 4):
        hits = 0
        for _ in range(200):
            rates = draw.beta(2, 2, 150) if n > 1 else np.full(150, 0.5)
            share = evaluate.interval(draw.binomial(n, rates) / n, n)
            hits += share.low <= 0.5 <= share.high
        assert 180 <= hits <= 199


@pytest.mark.parametrize(
    ("name", "of", "given", "complaint"),
    [
        ("drawing", {}, {}, "omr_data.sources has no source of that name"),
        ("synthetic", {"spilt": "heldout"}, {}, "Did you mean split"),
        ("synthetic", {"count": "3"}, {"n": "4"}, "greedy answers are all the same"),
        ("synthetic", {"count": "3"}, {"pass_at": "2"}, "pass@k takes at least k answers"),
        ("synthetic", {"count": "3"}, {"model": "/nowhere"}, "cannot be loaded"),
    ],
)
def test_a_measurement_that_makes_no_sense_is_refused(
    name: str, of: dict[str, str], given: dict[str, str], complaint: str
) -> None:
    with pytest.raises(TrainError, match=complaint):
        measured(name, of, **given)


def test_the_presets_hold_the_published_hyperparameters() -> None:
    """facts: paper, training table."""
    sft, gspo = preset(SFT, "omr-7b-sft"), preset(GSPO, "omr-7b-gspo")
    assert (sft.lr, sft.weight_decay, sft.warmup, sft.steps, sft.pack_length, sft.max_pixels) == (
        5e-5,
        0.0,
        0.1,
        4_300,
        61_440,
        4_194_304,
    )
    assert (gspo.lr, gspo.warmup, gspo.weight_decay, gspo.grad_clip, gspo.steps) == (
        1e-6,
        25,
        0.1,
        1.0,
        1_232,
    )
    assert (gspo.prompts_per_step, gspo.rollouts, gspo.max_prompt, gspo.max_tokens) == (
        128,
        16,
        4_096,
        28_696,
    )
    assert (gspo.clip, gspo.kl, gspo.format_weight, gspo.temperature) == (
        (3e-4, 4e-4),
        0.0,
        0.1,
        1.0,
    )


def test_a_clip_that_is_not_given_is_that_of_the_loss() -> None:
    assert changed(preset(GSPO, "tiny-gspo"), {"loss": "dapo"}).clip == (0.2, 0.28)
    assert changed(preset(GSPO, "tiny-gspo"), {"loss": "grpo", "clip_high": "0.3"}).clip == (
        0.2,
        0.3,
    )
    assert as_json(preset(GSPO, "omr-7b-gspo"))["clip_high"] == 4e-4


def test_settings_are_read_by_their_types() -> None:
    found = changed(
        SFT(),
        {
            "lr": "3e-4",
            "steps": "none",
            "betas": "0.9,0.99",
            "compile": "true",
            "precision": "bfloat16",
        },
    )
    assert (found.lr, found.steps, found.betas, found.compile, found.precision) == (
        3e-4,
        None,
        (0.9, 0.99),
        True,
        "bfloat16",
    )
    for given, complaint in (
        ({"warmpu": "1"}, "Did you mean warmup"), ({"steps": "many"}, "is no int"), ({"start": "zero"}, "is no weights or random"),
    ):  # fmt: skip
        with pytest.raises(TrainError, match=complaint):
            changed(SFT(), given)
    with pytest.raises(TrainError, match="There are: omr-7b-sft, tiny-sft"):
        preset(SFT, "tiny-gspo")
    assert changed(Eval(), {"pass_at": "1,8"}).pass_at == (1, 8)
