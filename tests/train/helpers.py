"""Chats, small releases and runs for the tests of the trainer."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from omr_data.records import Record, Response
from omr_data.release.rows import write_rows
from omr_data.source import Files
from omr_data.sources import synthetic
from omr_data.sources.synthetic import FAMILIES, Problem, draw, problems
from omr_data.store.images import ImageStore, RowImages
from omr_data.train.chat import Encoder, Example
from omr_data.train.ranks import Ranks
from tests.builders import png
from tests.omr import ROOT, command, environment

ALONE = Ranks(0, 1, torch.device("cpu"))
TORCHRUN = (
    "-m",
    "torch.distributed.run",
    "--nproc-per-node=2",
    "--rdzv-backend=c10d",
    "--rdzv-endpoint=127.0.0.1:0",
)


def some_problems(count: int) -> list[Problem]:
    """Problems of all families and levels in turn."""
    return [
        next(problems("heldout", FAMILIES[number % 5], 1 + number % 3, number))
        for number in range(count)
    ]


def chat(problem: Problem) -> tuple[list[dict[str, str]], list[bytes]]:
    """A problem with a right answer, as a chat and its images."""
    question = "<image>" * problem.has_image + problem.question
    turns = [
        {"role": "user", "content": question},
        {"role": "assistant", "content": f"<think>so</think><answer>{problem.answer}</answer>"},
    ]
    return turns, [draw(problem)] if problem.has_image else []


def mixed_examples(encoder: Encoder) -> list[Example]:
    """Texts and images of several sizes, and one chat with two images."""
    examples = [encoder.chat(*chat(problem)) for problem in some_problems(7)]
    for width, height in ((100, 300), (300, 100), (64, 64)):
        turns = [
            {"role": "user", "content": "<image>How high?"},
            {"role": "assistant", "content": "<answer>4</answer>"},
        ]
        examples.append(encoder.chat(turns, [png("red", (width, height))]))
    turns = [
        {"role": "user", "content": "a<image>b<image>"},
        {"role": "assistant", "content": "yes"},
    ]
    return [*examples, encoder.chat(turns, [png("blue", (40, 90)), png("green", (64, 64))])]


KINDS = ("text", "sum", "larger", "bars")


def write_release(
    folder: Path, answered: bool, count: int = 60, families: tuple[str, ...] = KINDS
) -> Path:
    """A release of synthetic problems, with a right answer each or without."""
    store = ImageStore(folder / "images")
    source = synthetic.Source(split="train", count=count, families=families, levels=(1,))

    def records() -> Iterator[Record]:
        for part in source.parts(Files()):
            for row in source.rows(Files(), part):
                record = source.convert(row, RowImages(Path(), store))
                text = f"<think>so</think><answer>{record.answer}</answer>"
                responses = (Response(text, 0, "nobody"),) if answered else ()
                yield replace(record, responses=responses)

    release = folder / "release"
    write_rows(release / "data/train-00000-of-00001.parquet", records(), store)
    (release / "manifest.json").write_text(json.dumps({"format": 2, "rows": count}))
    return release


def train_command(kind: str, data: Path, out: Path, given: Mapping[str, str]) -> list[str]:
    """The command line of a run."""
    settings = [f"--set={name}={value}" for name, value in given.items()]
    return command("train", kind, data, "--preset", f"tiny-{kind}", "--out", out, *settings)


def run_on_two(arguments: list[str]) -> "subprocess.CompletedProcess[str]":
    """Runs a command line of `omr` on two processes, with torchrun."""
    done = subprocess.run(
        [sys.executable, *TORCHRUN, *arguments[1:]],
        env=environment(OMP_NUM_THREADS=1),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done


def metrics(out: Path) -> list[dict[str, Any]]:
    """The measures of all steps of a run."""
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def weights(out: Path) -> dict[str, torch.Tensor]:
    """The weights of the model that a run left."""
    return load_file(out / "model/model.safetensors")


def assert_near(ours: Path, theirs: Path, most: float) -> None:
    """Two runs left models whose weights differ by at most so much."""
    expected = weights(theirs)
    found = weights(ours)
    assert set(found) == set(expected)
    for name, value in found.items():
        assert float((value - expected[name]).abs().max()) <= most, name


@contextmanager
def sampling_server() -> Iterator[str]:
    """Runs tests/sampling_server.py and gives its URL; it is stopped at the end."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.sampling_server"],
        cwd=ROOT,
        env=environment(OMP_NUM_THREADS=1),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()
