"""Trains the embedded teacher from scratch: `python -m omr_data.teachers.tiny.train`, or `make teacher`.

Problems of the split `teacher` are made on the fly; the loss is on the answer's tokens only. AdamW, cosine decay after a
short warm-up, float32, two cores. Reading digits breaks through suddenly after a plateau, so short runs give nothing; and a
run to the end of the schedule is right so often that few questions tell a good rollout from a bad one. So it stops between.
Writes model.safetensors, config.json, tokenizer.json, training.json (seed, steps, curve, accuracies) and curve.png.
"""

import argparse
import json
import math
import platform
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch.utils.data import DataLoader, IterableDataset
from transformers import Qwen2_5_VLForConditionalGeneration
from transformers.utils.logging import disable_progress_bar

from omr_data.records import IMAGE_MARK, Message, Record, render_question
from omr_data.sources.synthetic import FAMILIES, LEVELS, Problem, distinct, draw, problems
from omr_data.store.atomic import write_text
from omr_data.teachers.tiny import TEMPERATURE
from omr_data.teachers.tiny.export import export_processor
from omr_data.teachers.tiny.model import embed, hidden_states, new_model, train_tokenizer
from omr_data.teachers.tiny.network import Network
from omr_data.teachers.tiny.prompts import END, PAD, encode_prompt
from omr_data.teachers.tiny.sample import Sampler, SampleRequest

WEIGHTS_FOLDER = Path(__file__).parent / "weights"
BATCH = 64
PEAK_RATE = 2e-3
WARM_UP = 200
SHARES = {"text": 1.0, "sum": 1.5, "larger": 1.0, "bars": 1.0, "choice": 1.5}
EVERY = 500


def target(problem: Problem) -> str:
    """What the model is trained to say; problems with options are answered by letter."""
    answer = "ABCD"[problem.options.index(problem.answer)] if problem.options else problem.answer
    return f"<think>{problem.work}</think><answer>{answer}</answer>{END}"


def messages(problem: Problem) -> tuple[Message, ...]:
    """The chat as a recipe puts it."""
    question = IMAGE_MARK * problem.has_image + problem.question
    record = Record(
        id="",
        source="",
        license="",
        question=question,
        answer=problem.answer,
        options=problem.options,
    )
    return (Message("user", render_question(record)),)


class Batches(IterableDataset[list[dict[str, torch.Tensor]]]):
    """Endless training batches, a pure function of the seed. Long rows (with options) are padded apart from short ones."""

    def __init__(self, tokenizer: Tokenizer, seed: int) -> None:
        self._tokenizer, self._seed = tokenizer.to_str(), seed

    def __iter__(self) -> Iterator[list[dict[str, torch.Tensor]]]:
        tokenizer = Tokenizer.from_str(self._tokenizer)
        choose = random.Random(f"batches:{self._seed}")
        cells = {
            (family, level): problems("teacher", family, level, f"train:{self._seed}")
            for family in FAMILIES
            for level in LEVELS
        }
        while True:
            families = choose.choices(FAMILIES, [SHARES[family] for family in FAMILIES], k=BATCH)
            batch = [next(cells[family, choose.choice(LEVELS)]) for family in families]
            halves = [
                [problem for problem in batch if bool(problem.options) == long]
                for long in (False, True)
            ]
            yield [collate(tokenizer, half) for half in halves if half]


def collate(tokenizer: Tokenizer, batch: list[Problem]) -> dict[str, torch.Tensor]:
    """ids, labels and mask of shape (rows, tokens), positions (3, rows, tokens), patches (images, 64, 384), image_rows (images)."""
    prompts = [
        encode_prompt(tokenizer, messages(problem), draw(problem) if problem.has_image else None)
        for problem in batch
    ]
    targets = [tokenizer.encode(target(problem)).ids for problem in batch]
    length = (
        -(
            -max(len(prompt.ids) + len(ids) for prompt, ids in zip(prompts, targets, strict=True))
            // 8
        )
        * 8
    )
    ids = np.full((len(batch), length), tokenizer.token_to_id(PAD))
    labels = np.full((len(batch), length), -100)
    positions = np.zeros((3, len(batch), length), dtype=np.int64)
    mask = np.zeros((len(batch), length), dtype=np.int64)
    for row, (prompt, answer) in enumerate(zip(prompts, targets, strict=True)):
        start, stop = len(prompt.ids), len(prompt.ids) + len(answer)
        ids[row, :stop] = [*prompt.ids, *answer]
        labels[row, start:stop] = answer
        positions[:, row, :start] = prompt.positions
        positions[:, row, start:stop] = prompt.positions[:, -1].max() + 1 + np.arange(len(answer))
        mask[row, :stop] = 1
    images = [
        (row, prompt.patches) for row, prompt in enumerate(prompts) if prompt.patches is not None
    ]
    arrays = {
        "ids": ids,
        "labels": labels,
        "positions": positions,
        "mask": mask,
        "patches": np.stack([patches for _, patches in images])
        if images
        else np.zeros((0, 64, 384), np.float32),
        "image_rows": np.array([row for row, _ in images], dtype=np.int64),
    }
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def loss_of(
    model: Qwen2_5_VLForConditionalGeneration, batch: list[dict[str, torch.Tensor]]
) -> torch.Tensor:
    """Mean cross-entropy over all answer tokens of a batch."""
    tokens = sum(int((part["labels"] != -100).sum()) for part in batch)
    return torch.stack([_summed_loss(model, part) for part in batch]).sum() / tokens


def _summed_loss(
    model: Qwen2_5_VLForConditionalGeneration, batch: dict[str, torch.Tensor]
) -> torch.Tensor:
    embeddings = embed(model, batch["ids"], batch["patches"], batch["image_rows"])
    states = hidden_states(model, embeddings, batch["positions"], batch["mask"])
    labels = batch["labels"][:, 1:]
    wanted = labels != -100
    return torch.nn.functional.cross_entropy(
        model.lm_head(states[:, :-1][wanted]), labels[wanted], reduction="sum"
    )


def accuracy(
    sampler: Sampler, cells: dict[tuple[str, int], list[Problem]], attempts: int
) -> tuple[dict[str, float], float]:
    """Sampled accuracy by "family level", and the share of questions whose pass rate is strictly between 0 and 1."""
    rates: dict[str, float] = {}
    mixed, total = 0, 0
    for (family, level), members in cells.items():
        wanted = [
            SampleRequest(
                f"evaluation {problem.identity}",
                encode_prompt(sampler.tokenizer, messages(problem), _image(problem)),
                tuple(range(attempts)),
            )
            for problem in members
        ]
        passed = []
        for problem, samples in zip(members, sampler.sample(wanted), strict=True):
            answer = target(problem).partition("<answer>")[2].removesuffix(END)
            passed.append(
                sum(sample.text.partition("<answer>")[2] == answer for sample in samples) / attempts
            )
        rates[f"{family} {level}"] = round(sum(passed) / len(passed), 4)
        mixed += sum(0 < rate < 1 for rate in passed)
        total += len(passed)
    return rates, mixed / total


def _image(problem: Problem) -> bytes | None:
    return draw(problem) if problem.has_image else None


def train(seed: int, steps: int, stop: int, out: Path) -> None:
    """Trains for `stop` steps of a schedule of `steps`, and writes everything to `out`."""
    torch.manual_seed(seed)
    texts = [
        messages(p)[0].text + target(p)
        for f in FAMILIES
        for level in LEVELS
        for p, _ in zip(problems("teacher", f, level), range(100), strict=False)
    ]
    tokenizer = train_tokenizer(texts)
    model = new_model(tokenizer)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=PEAK_RATE, betas=(0.9, 0.99), weight_decay=0.01
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min(1, (step + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * step / steps)),
    )
    probe = {
        (family, level): distinct("heldout", family, level, 16, "probe")
        for family in FAMILIES
        for level in LEVELS
    }
    curve: list[dict[str, Any]] = []
    began = time.monotonic()
    summed = 0.0
    batches = iter(
        DataLoader(Batches(tokenizer, seed), batch_size=None, num_workers=1, prefetch_factor=8)
    )
    for step in range(1, stop + 1):
        loss = loss_of(model, next(batches))
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        summed += loss.item()
        if step % EVERY == 0:
            seconds = time.monotonic() - began
            # Answers are sampled from the saved weights by the code that users run.
            save(model, tokenizer, out)
            network = Network(out / "model.safetensors")
            rates, _ = accuracy(Sampler(network, tokenizer, 1.0, 64, seed), probe, 4)
            curve.append(
                {
                    "step": step,
                    "seconds": round(seconds),
                    "loss": round(summed / EVERY, 4),
                    "accuracy": rates,
                }
            )
            summed = 0.0
            print(f"step {step:,} of {stop:,}  loss {curve[-1]['loss']:.3f}  {step / seconds:.1f} steps/s  "
                  f"{(stop - step) * seconds / step / 60:.0f} min left  {_by_family(rates)}", flush=True)  # fmt: skip
            write_text(out / "curve.json", json.dumps(curve))
    finish(
        model,
        tokenizer,
        {"seed": seed, "schedule": steps, "steps": stop},
        curve,
        time.monotonic() - began,
        out,
    )


def _by_family(rates: dict[str, float]) -> str:
    means = {
        family: [rate for cell, rate in rates.items() if cell.split()[0] == family]
        for family in FAMILIES
    }
    return "  ".join(
        f"{family} {sum(values) / len(values):.2f}" for family, values in means.items()
    )


def save(model: Qwen2_5_VLForConditionalGeneration, tokenizer: Tokenizer, out: Path) -> None:
    """Writes weights, config, tokenizer and processor files: a folder that transformers and vLLM load."""
    out.mkdir(parents=True, exist_ok=True)
    disable_progress_bar()  # type: ignore[no-untyped-call]
    model.save_pretrained(out)
    tokenizer.save(str(out / "tokenizer.json"))
    export_processor(out)


def finish(
    model: Qwen2_5_VLForConditionalGeneration,
    tokenizer: Tokenizer,
    run: dict[str, int],
    curve: list[dict[str, Any]],
    seconds: float,
    out: Path,
) -> None:
    """Measures the trained model on the `train` split (new to it) and writes training.json and curve.png."""
    cells = {
        (family, level): distinct("train", family, level, 64, "final")
        for family in FAMILIES
        for level in LEVELS
    }
    save(model, tokenizer, out)
    network = Network(out / "model.safetensors")
    rates, mixed = accuracy(Sampler(network, tokenizer, TEMPERATURE, 64, run["seed"]), cells, 8)
    summary = run | {
        "batch": BATCH,
        "seconds": round(seconds),
        "machine": f"{torch.get_num_threads()} threads, {platform.machine()}",
        "torch": torch.__version__,
        "split": "train",
        "attempts": 8,
        "temperature": TEMPERATURE,
        "accuracy": rates,
        "mean_accuracy": round(sum(rates.values()) / len(rates), 4),
        "pass_rate_strictly_between_0_and_1": round(mixed, 4),
        "curve": curve,
    }
    write_text(out / "training.json", json.dumps(summary, indent=1) + "\n")
    (out / "curve.json").unlink(missing_ok=True)
    plot(summary, out / "curve.png")
    print(
        f"mean accuracy {summary['mean_accuracy']}, sometimes right {summary['pass_rate_strictly_between_0_and_1']}: {_by_family(rates)}"
    )


def plot(summary: dict[str, Any], path: Path) -> None:
    """Sampled accuracy by family over training steps."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    steps = [point["step"] for point in summary["curve"]]
    for family in FAMILIES:
        cells = [
            [point["accuracy"][f"{family} {level}"] for level in LEVELS]
            for point in summary["curve"]
        ]
        axes.plot(steps, [sum(cell) / len(cell) for cell in cells], label=family)
    axes.set(
        xlabel="step",
        ylabel="sampled accuracy, held-out problems",
        ylim=(0, 1),
        title="The embedded teacher, by family",
    )
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", frameon=False)
    figure.savefig(path, dpi=110)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--steps",
        type=int,
        default=3_600,
        help="length of the schedule; about 0.8 s each on two cores",
    )
    parser.add_argument("--stop", type=int, default=2_500, help="where on the schedule to stop")
    parser.add_argument("--out", type=Path, default=WEIGHTS_FOLDER)
    arguments = parser.parse_args()
    train(arguments.seed, arguments.steps, arguments.stop, arguments.out)


if __name__ == "__main__":
    main()
