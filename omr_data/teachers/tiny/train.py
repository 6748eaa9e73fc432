"""Trains the embedded teacher from scratch: `python -m omr_data.teachers.tiny.train`.

`make teacher` does the same. Problems of the split `teacher` are made on the fly, and the loss is
on the answer's tokens only: AdamW, cosine decay after a short warm-up, float32, two cores. Reading
digits is learned suddenly after a plateau, so short runs give nothing; and a run to the end of the
schedule is right so often that few questions separate good rollouts from bad ones. So training
stops between.

Writes model.safetensors, config.json, tokenizer.json, training.json (seed, steps, curve,
accuracies) and curve.png.
"""

import argparse
import json
import math
import platform
import random
import time
from collections.abc import Iterator
from itertools import chain, islice, product
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
from omr_data.teachers.tiny.prompts import END, PAD, EncodedPrompt, encode_prompt
from omr_data.teachers.tiny.sample import Sampler, SampleRequest

WEIGHTS_FOLDER = Path(__file__).parent / "weights"
BATCH = 64
"""Problems of one step."""
PEAK_RATE = 2e-3
"""The highest learning rate."""
WARM_UP = 200
"""Steps over which the learning rate rises."""
SHARES = {"text": 1.0, "sum": 1.5, "larger": 1.0, "bars": 1.0, "choice": 1.5}
"""How often each family is trained on: the harder ones more."""
EVERY = 500
"""Steps between two measurements."""
CELLS = list(product(FAMILIES, LEVELS))
"""All kinds of problems."""


def target(problem: Problem) -> str:
    """Returns the answer that the model is trained on, with its end token.

    Problems with options are answered by letter.
    """
    answer = problem.answer
    if problem.options:
        answer = "ABCD"[problem.options.index(answer)]
    return f"<think>{problem.work}</think><answer>{answer}</answer>{END}"


def messages(problem: Problem) -> tuple[Message, ...]:
    """Returns the question as a recipe asks it."""
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
    """Training batches without end, a pure function of the seed.

    Rows with options are long, and are padded apart from the others.
    """

    def __init__(self, tokenizer: Tokenizer, seed: int) -> None:
        # As text, because loader processes are sent a copy.
        self._tokenizer, self._seed = tokenizer.to_str(), seed

    def __iter__(self) -> Iterator[list[dict[str, torch.Tensor]]]:
        tokenizer = Tokenizer.from_str(self._tokenizer)
        choose = random.Random(f"batches:{self._seed}")
        cells = {cell: problems("teacher", *cell, f"train:{self._seed}") for cell in CELLS}
        while True:
            # A new problem each time: nothing can be memorized.
            families = choose.choices(FAMILIES, [SHARES[family] for family in FAMILIES], k=BATCH)
            batch = [next(cells[family, choose.choice(LEVELS)]) for family in families]
            short = [problem for problem in batch if not problem.options]
            long = [problem for problem in batch if problem.options]
            yield [collate(tokenizer, half) for half in (short, long) if half]


def collate(tokenizer: Tokenizer, batch: list[Problem]) -> dict[str, torch.Tensor]:
    """Makes tensors of some problems, padded to one length.

    Returns:
        ids, labels and mask of shape (rows, tokens), positions (3, rows, tokens), patches
        (images, 64, 384) and image_rows (images,). A label of -100 is not trained on.
    """
    prompts = [encode(tokenizer, problem) for problem in batch]
    # The answer is encoded apart, so that no token reaches over the end of the prompt.
    targets = [tokenizer.encode(target(problem)).ids for problem in batch]
    pairs = list(zip(prompts, targets, strict=True))
    longest = max(len(prompt.ids) + len(ids) for prompt, ids in pairs)
    # A multiple of 8, which vectorized kernels like.
    length = -(-longest // 8) * 8
    ids = np.full((len(batch), length), tokenizer.token_to_id(PAD))
    labels = np.full((len(batch), length), -100)
    positions = np.zeros((3, len(batch), length), dtype=np.int64)
    mask = np.zeros((len(batch), length), dtype=np.int64)
    for row, (prompt, answer) in enumerate(pairs):
        start, stop = len(prompt.ids), len(prompt.ids) + len(answer)
        ids[row, :stop] = [*prompt.ids, *answer]
        labels[row, start:stop] = answer
        positions[:, row, :start] = prompt.positions
        positions[:, row, start:stop] = prompt.positions[:, -1].max() + 1 + np.arange(len(answer))
        mask[row, :stop] = 1
    image_rows = [row for row, prompt in enumerate(prompts) if prompt.patches is not None]
    patches = np.zeros((len(image_rows), 64, 384), np.float32)
    for place, row in enumerate(image_rows):
        patches[place] = prompts[row].patches
    arrays = {
        "ids": ids,
        "labels": labels,
        "positions": positions,
        "mask": mask,
        "patches": patches,
        "image_rows": np.array(image_rows, dtype=np.int64),
    }
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def encode(tokenizer: Tokenizer, problem: Problem) -> EncodedPrompt:
    """Encodes a problem's question with its image."""
    image = None
    if problem.has_image:
        image = draw(problem)
    return encode_prompt(tokenizer, messages(problem), image)


def loss_of(
    model: Qwen2_5_VLForConditionalGeneration, batch: list[dict[str, torch.Tensor]]
) -> torch.Tensor:
    """Computes the mean cross-entropy over all answer tokens of a batch."""
    losses = []
    for part in batch:
        embeddings = embed(model, part["ids"], part["patches"], part["image_rows"])
        states = hidden_states(model, embeddings, part["positions"], part["mask"])
        labels = part["labels"][:, 1:]
        wanted = labels != -100
        # Summed here and divided once: parts differ in their number of tokens.
        logits = model.lm_head(states[:, :-1][wanted])
        losses.append(torch.nn.functional.cross_entropy(logits, labels[wanted], reduction="sum"))
    # All answer tokens weigh the same, in whichever half of the batch they are.
    tokens = sum(int((part["labels"] != -100).sum()) for part in batch)
    return torch.stack(losses).sum() / tokens


def accuracy(
    sampler: Sampler, cells: dict[tuple[str, int], list[Problem]], attempts: int
) -> tuple[dict[str, float], float]:
    """Measures sampled accuracy.

    Args:
        sampler: The model.
        cells: Problems by family and level.
        attempts: Answers to each problem.

    Returns:
        Accuracy by "family level", and the share of problems whose pass rate is strictly between 0
        and 1.
    """
    rates: dict[str, float] = {}
    mixed, total = 0, 0
    for (family, level), members in cells.items():
        wanted = [
            SampleRequest(
                f"evaluation {problem.identity}",
                encode(sampler.tokenizer, problem),
                tuple(range(attempts)),
            )
            for problem in members
        ]
        passed = []
        for problem, samples in zip(members, sampler.sample(wanted), strict=True):
            # Word for word: the model is trained on one way to write each answer.
            answer = target(problem).partition("<answer>")[2].removesuffix(END)
            said = [sample.text.partition("<answer>")[2] for sample in samples]
            passed.append(said.count(answer) / attempts)
        rates[f"{family} {level}"] = round(sum(passed) / len(passed), 4)
        mixed += sum(0 < rate < 1 for rate in passed)
        total += len(passed)
    return rates, mixed / total


def train(seed: int, steps: int, stop: int, out: Path) -> None:
    """Trains a new model.

    Args:
        seed: The seed of weights and problems.
        steps: The length of the schedule.
        stop: The step of the schedule after which training stops.
        out: The folder that everything is written to.
    """
    # For the weights; problems have generators of their own, made from the same seed.
    torch.manual_seed(seed)
    samples = chain.from_iterable(islice(problems("teacher", *cell), 100) for cell in CELLS)
    tokenizer = train_tokenizer([messages(one)[0].text + target(one) for one in samples])
    model = new_model(tokenizer)
    # A second moment with a short memory suits a loss that falls suddenly.
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=PEAK_RATE, betas=(0.9, 0.99), weight_decay=0.01
    )
    # The cosine runs over the whole schedule, of which only the first part is trained.
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min(1, (step + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * step / steps)),
    )
    probe = {cell: distinct("heldout", *cell, 16, "probe") for cell in CELLS}
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
            # An interruption loses at most the steps since the last measurement.
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
            left = (stop - step) * seconds / step / 60
            print(
                f"step {step:,} of {stop:,}  loss {curve[-1]['loss']:.3f}  "
                f"{step / seconds:.1f} steps/s  {left:.0f} min left  {_by_family(rates)}",
                flush=True,
            )
            write_text(out / "curve.json", json.dumps(curve))
    run = {"seed": seed, "schedule": steps, "steps": stop}
    finish(model, tokenizer, run, curve, time.monotonic() - began, out)


def _by_family(rates: dict[str, float]) -> str:
    shown = []
    for family in FAMILIES:
        values = [rates[f"{family} {level}"] for level in LEVELS]
        shown.append(f"{family} {sum(values) / len(values):.2f}")
    return "  ".join(shown)


def save(model: Qwen2_5_VLForConditionalGeneration, tokenizer: Tokenizer, out: Path) -> None:
    """Writes a folder that transformers and vLLM load.

    Args:
        model: Its weights and configuration.
        tokenizer: Its tokenizer.
        out: The folder, which is made if needed.
    """
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
    """Measures the trained model on the `train` split, which it has not seen, and writes the rest.

    Args:
        model: The trained model.
        tokenizer: Its tokenizer.
        run: Seed, schedule and steps of the run.
        curve: What was measured while it ran.
        seconds: How long it took.
        out: The folder for weights, training.json and curve.png.
    """
    # Another split than training and the probe use: the model saw none of it.
    cells = {cell: distinct("train", *cell, 64, "final") for cell in CELLS}
    save(model, tokenizer, out)
    network = Network(out / "model.safetensors")
    # At the teacher's own temperature: these are the pass rates that recipes will see.
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
    sometimes = summary["pass_rate_strictly_between_0_and_1"]
    print(
        f"mean accuracy {summary['mean_accuracy']}, sometimes right {sometimes}: "
        f"{_by_family(rates)}"
    )


def plot(summary: dict[str, Any], path: Path) -> None:
    """Draws sampled accuracy by family over training steps."""
    import matplotlib

    # The default backend may open a window.
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
