"""SFT runs: they learn, stop and continue to the same bits, and say what they leave out."""

import math
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoTokenizer

from omr_data.errors import TrainError
from omr_data.train import sft
from omr_data.train.settings import SFT, changed, preset
from tests.omr import ROOT, environment
from tests.train.helpers import (
    assert_near,
    metrics,
    run_on_two,
    train_command,
    weights,
    write_release,
)

SMALL = {
    "pack_length": "512",
    "packs_per_step": "2",
    "steps": "5",
    "start": "weights",
    "lr": "2e-4",
    "save_every": "2",
}


@pytest.fixture(scope="module")
def chats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_release(tmp_path_factory.mktemp("chats"), answered=True)


@pytest.fixture(scope="module")
def once(chats: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five steps on one process, undisturbed, with a checkpoint after each second."""
    out = tmp_path_factory.mktemp("once") / "run"
    tune(chats, out)
    return out


def tune(data: Path, out: Path, **given: str) -> None:
    """A short run in this process."""
    sft.train(changed(preset(SFT, "tiny-sft"), SMALL | given), str(data), out)


@pytest.mark.build
def test_the_journal_holds_each_step_and_the_rate_follows_its_schedule(once: Path) -> None:
    lines = metrics(once)
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5]
    measured = {"loss", "lr", "grad_norm", "tokens", "targets", "fill", "tokens_per_second"}
    assert measured <= set(lines[0])
    assert lines[0]["lr"] == 2e-4
    assert lines[4]["lr"] == pytest.approx(2e-4 * 0.5 * (1 + math.cos(math.pi * 3 / 4)), rel=1e-5)
    assert all(line["fill"] == pytest.approx(line["tokens"] / 1024) for line in lines)


def test_the_last_checkpoints_are_kept_and_the_curves_are_drawn(once: Path) -> None:
    kept = sorted(path.name for path in (once / "checkpoints").iterdir())
    assert kept == ["step-00000004", "step-00000005"]
    assert (once / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_the_model_that_is_left_is_one_that_transformers_loads(once: Path) -> None:
    auto = AutoModelForImageTextToText
    model, told = auto.from_pretrained(once / "model", output_loading_info=True)
    assert not any(told.values())
    sums = sorted(float(value.double().sum()) for value in weights(once).values())
    assert sums == sorted(float(value.detach().double().sum()) for value in model.parameters())
    assert AutoTokenizer.from_pretrained(once / "model").chat_template


@pytest.mark.build
def test_random_weights_learn(chats: Path, tmp_path: Path) -> None:
    tune(chats, tmp_path / "run", start="random", lr="2e-3", steps="15", packs_per_step="1")
    losses = [line["loss"] for line in metrics(tmp_path / "run")]
    assert losses[0] == pytest.approx(math.log(352), abs=0.3)  # as all tokens are equally likely
    assert losses[-1] < losses[0] - 1


def test_a_folder_with_another_run_is_refused(chats: Path, once: Path) -> None:
    with pytest.raises(TrainError, match=r"was begun with lr=0.0002, and this run has 0.5"):
        tune(chats, once, lr="0.5")


def test_another_release_in_the_same_folder_is_refused(
    chats: Path, once: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(chats, other)
    (other / "manifest.json").write_text((chats / "manifest.json").read_text() + "\n")
    with pytest.raises(TrainError, match="was begun with release="):
        tune(other, once)


def test_rows_that_are_too_long_are_counted_and_left_out(
    chats: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    # A chat about text has some 35 tokens, one with an image has some 50.
    tune(chats, tmp_path / "run", pack_length="40", steps="1")
    assert "45 rows left out: longer than 40 tokens (the longest has" in capfd.readouterr().err
    with pytest.raises(
        TrainError,
        match=r"is a chat of at most 10 tokens. Raise pack_length: the shortest chat has",
    ):
        tune(chats, tmp_path / "none", pack_length="10")


def test_a_loss_that_is_not_finite_stops_the_run(chats: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainError, match=r"step \d: the loss is .* with a lower lr than 1e\+30"):
        tune(chats, tmp_path / "run", lr="1e30", weight_decay="0", save_every="100")
    assert not (tmp_path / "run/checkpoints").exists()


@pytest.mark.slow
def test_loader_processes_give_the_same_steps(chats: Path, once: Path, tmp_path: Path) -> None:
    tune(chats, tmp_path / "run", loaders="1")
    assert [one["loss"] for one in metrics(tmp_path / "run")] == [
        one["loss"] for one in metrics(once)
    ]


@pytest.mark.build
def test_two_processes_compute_what_one_does(chats: Path, once: Path, tmp_path: Path) -> None:
    two = tmp_path / "two"
    run_on_two(train_command("sft", chats, two, SMALL))
    for name in ("loss", "grad_norm", "tokens", "targets"):
        expected = [line[name] for line in metrics(once)]
        assert [line[name] for line in metrics(two)] == pytest.approx(expected, rel=1e-5), name
    assert_near(two, once, 1e-5)
    # It goes on from step 4 with another number of processes.
    shutil.rmtree(two / "checkpoints/step-00000005")
    tune(chats, two)
    assert [line["step"] for line in metrics(two)] == [1, 2, 3, 4, 5]
    assert_near(two, once, 1e-5)


KILLED = """
import os, signal
from omr_data.cli import main
from omr_data.train import checkpoints

publish = checkpoints.publish_folder

def publish_or_die(temporary, final):
    if final.name == "step-00000004":
        os.kill(os.getpid(), signal.SIGKILL)
    publish(temporary, final)

checkpoints.publish_folder = publish_or_die
main()
"""
"""A run that is killed while its second checkpoint is written but not yet in place."""


@pytest.mark.build
def test_a_run_that_was_killed_goes_on_to_the_same_bits(
    chats: Path, once: Path, tmp_path: Path
) -> None:
    out = tmp_path / "killed"
    arguments = train_command("sft", chats, out, SMALL)
    victim = subprocess.run(
        [sys.executable, "-c", KILLED, *arguments[3:]],
        env=environment(OMP_NUM_THREADS=1),
        cwd=ROOT,
        capture_output=True,
        timeout=120,
    )
    assert victim.returncode == -signal.SIGKILL, victim.stderr
    left = sorted(path.name for path in (out / "checkpoints").iterdir())
    assert left == [".step-00000004.tmp", "step-00000002"]
    assert not (out / "model").exists()
    tune(chats, out)
    expected = [(line["step"], line["loss"]) for line in metrics(once)]
    assert [(line["step"], line["loss"]) for line in metrics(out)] == expected
    held = weights(once)
    assert all(torch.equal(value, held[name]) for name, value in weights(out).items())
