"""How fast the trainer is on one GPU: `python benchmarks/train_gpu.py`.

The last line of its output is one JSON object. The model has the size of Qwen2.5-VL-3B and random
weights. Rows have one image of 448 x 448 and answers as long as the published set's (log-normal,
median 180 and mean 675 tokens). All of it is measured in one run on one card:

- SFT in packs of 32,768 tokens, bfloat16 with float32 masters and recomputation: tokens and
  targets a
  second, MFU, peak memory.
- TRL's SFTTrainer on the same rows and the same model, padded, since it does not pack rows with
  images: targets a second, and the ratio of ours to it. This needs the extra `parity` and
  torchvision; where they are missing, the line says so.
- GSPO: seconds of a step by phase.

`--size tiny --steps 2` runs the same code on a CPU in a minute, to try the script; its speeds mean
nothing.
"""

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from PIL import Image

from omr_data.records import ImageRef, Record, Response
from omr_data.release.rows import write_rows
from omr_data.store.images import ImageStore
from omr_data.teachers import tiny
from omr_data.train import gspo, sft
from omr_data.train.chat import Encoder
from omr_data.train.release import PolicyPrompt, open_release
from omr_data.train.rewards import ScoredCompletion
from omr_data.train.samplers.base import Completion
from omr_data.train.settings import GSPO, SFT

IMAGE_SIDE = 448
MEDIAN, MEAN = 180, 675
TEXT_3B = {
    "hidden_size": 2048,
    "intermediate_size": 11008,
    "num_hidden_layers": 36,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
    "vocab_size": 151_936,
    "max_position_embeddings": 128_000,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
}
VISION_3B = {
    "depth": 32,
    "hidden_size": 1280,
    "intermediate_size": 3420,
    "num_heads": 16,
    "patch_size": 14,
    "out_hidden_size": 2048,
    "window_size": 112,
    "fullatt_block_indexes": [7, 15, 23, 31],
}
SIZES: dict[str, dict[str, Any]] = {
    "3b": {
        "text": TEXT_3B,
        "vision": VISION_3B,
        "capacity": 32_768,
        "rows": 2_000,
        "precision": "bfloat16",
        "padded_rows": 16,
        "questions": 16,
    },
    "tiny": {
        "text": {},
        "vision": {},
        "capacity": 4_096,
        "rows": 24,
        "precision": "float32",
        "padded_rows": 2,
        "questions": 4,
    },
}


def make_model(size: str, folder: Path) -> Path:
    """Makes a folder with the architecture and the embedded model's tokenizer.

    The tokenizer has few words, but the head has as many as the real model's, and so costs as much.
    """
    shutil.copytree(
        tiny.FOLDER,
        folder,
        ignore=shutil.ignore_patterns("*.safetensors", "training.json", "curve.png"),
    )
    config = json.loads((folder / "config.json").read_text())
    for part in ("text", "vision"):
        config[f"{part}_config"] |= SIZES[size][part]
    (folder / "config.json").write_text(json.dumps(config))
    images = json.loads((folder / "preprocessor_config.json").read_text())
    images |= {
        "patch_size": config["vision_config"]["patch_size"],
        "size": {"shortest_edge": IMAGE_SIDE**2, "longest_edge": IMAGE_SIDE**2},
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(images))
    return folder


def make_release(size: str, folder: Path) -> Path:
    """Rows whose answers are digits, one token each."""
    draw = np.random.default_rng(0)
    store = ImageStore(folder / "images")
    noise = Image.fromarray(draw.integers(0, 255, (IMAGE_SIDE, IMAGE_SIDE, 3), dtype=np.uint8))
    noise.save(folder / "noise.png")
    ref = store.put((folder / "noise.png").read_bytes())

    def records() -> Iterator[Record]:
        sigma = (2 * np.log(MEAN / MEDIAN)) ** 0.5
        for number, length in enumerate(
            draw.lognormal(np.log(MEDIAN), sigma, SIZES[size]["rows"]).clip(8, 3_500).astype(int)
        ):
            digits = "".join(map(str, draw.integers(0, 10, length)))
            yield Record(
                id=f"row/{number}",
                source="noise",
                license="CC0-1.0",
                question="<image>What do you see?",
                answer="1",
                images=(ImageRef(ref.sha256, IMAGE_SIDE, IMAGE_SIDE, "PNG"),),
                responses=(Response(digits, 0, "none"),),
            )

    release = folder / "release"
    write_rows(release / "data/train-00000-of-00001.parquet", records(), store)
    (release / "manifest.json").write_text(json.dumps({"rows": SIZES[size]["rows"]}))
    return release


def measure_sft(size: str, model: Path, release: Path, steps: int, out: Path) -> dict[str, float]:
    """Medians over the steps after the first two."""
    wanted = SIZES[size]
    settings = SFT(
        model=str(model),
        start="random",
        precision=wanted["precision"],
        activation_checkpointing=True,
        pack_length=wanted["capacity"],
        steps=steps + 2,
        save_every=10**6,
        loaders=4 if torch.cuda.is_available() else 0,
    )
    _reset_peak()
    sft.train(settings, str(release), out)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()][2:]
    found = {
        name: statistics.median(line[name] for line in lines)
        for name in ("tokens_per_second", "mfu", "fill")
        if name in lines[0]
    }
    return found | {
        "targets_per_second": statistics.median(
            line["targets"] / line["seconds"] for line in lines
        ),
        "peak_gb": _peak(),
    }


def measure_trl(size: str, model: Path, release: Path, steps: int, out: Path) -> dict[str, Any]:
    """TRL's trainer: the same rows in padded batches, the same optimizer and recomputation."""
    try:
        from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor
        from trl import SFTConfig, SFTTrainer

        processor = AutoProcessor.from_pretrained(model)
    except ImportError as error:
        return {"missing": str(error).strip().splitlines()[0]}
    wanted, cuda = SIZES[size], torch.cuda.is_available()
    data = open_release(str(release)).data.cast_column("images", datasets.List(datasets.Image()))

    def chat(row: dict[str, Any]) -> dict[str, Any]:
        question, answer = (message["content"] for message in row["messages"])
        asked = [{"type": "image"}, {"type": "text", "text": question.removeprefix("<image>")}]
        return {
            "messages": [
                {"role": "user", "content": asked},
                {"role": "assistant", "content": [{"type": "text", "text": answer}]},
            ]
        }

    rows = data.map(chat, remove_columns=[name for name in data.column_names if name != "images"])
    made = AutoModelForImageTextToText.from_config(
        AutoConfig.from_pretrained(model), dtype=torch.float32
    )
    arguments = SFTConfig(
        output_dir=str(out),
        max_steps=steps + 2,
        per_device_train_batch_size=wanted["padded_rows"],
        bf16=cuda,
        use_cpu=not cuda,
        gradient_checkpointing=True,
        max_length=None,
        logging_steps=10**6,
        save_strategy="no",
        report_to="none",
        dataloader_num_workers=4 * cuda,
        remove_unused_columns=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        learning_rate=1e-5,
    )
    _reset_peak()
    trainer = SFTTrainer(made, arguments, train_dataset=rows, processing_class=processor)
    clock = _Clock(trainer)
    trainer.train()
    return {"targets_per_second": clock.rate(), "peak_gb": _peak()}


class _Clock:
    """Targets a second of a Trainer, from its own training steps after the first two."""

    def __init__(self, trainer: Any) -> None:
        self._step, self._seen = trainer.training_step, [(0.0, 0)]
        trainer.training_step = self

    def __call__(self, model: Any, inputs: Any, *more: Any) -> Any:
        loss = self._step(model, inputs, *more)
        loss.item()  # waits for the card
        self._seen.append((time.perf_counter(), int((inputs["labels"] != -100).sum())))
        return loss

    def rate(self) -> float:
        (began, _), *counted = self._seen[3:]
        return sum(targets for _, targets in counted) / (counted[-1][0] - began)


def measure_gspo(size: str, model: Path, release: Path, out: Path) -> dict[str, float]:
    """One step after a first one: 16 questions, 8 completions each of at most 256 tokens."""
    wanted = SIZES[size]
    settings = GSPO(
        model=str(model),
        start="random",
        precision=wanted["precision"],
        activation_checkpointing=True,
        steps=2,
        prompts_per_step=wanted["questions"],
        rollouts=8,
        max_tokens=256 if size == "3b" else 8,
        pack_length=wanted["capacity"],
        overlong="zero",
        save_every=10**6,
        window=100,
    )
    # Random weights answer nothing right, so their completions would all be left out.
    gspo.score_rollouts = _every_second_is_better
    gspo.train(settings, str(release), out)
    line = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])
    return {name: value for name, value in line.items() if name.startswith("seconds_")}


def _every_second_is_better(
    prompts: Sequence[PolicyPrompt],
    rollouts: Sequence[Sequence[Completion]],
    encoder: Encoder,
    settings: GSPO,
) -> list[list[ScoredCompletion]]:
    """Scores without verifying. A completion with an image token is left out, as in a real run."""
    scored: list[list[ScoredCompletion]] = []
    for group in rollouts:
        scored.append([])
        for place, one in enumerate(group):
            advantage = float("nan")
            if encoder.image_tokens.isdisjoint(one.ids):
                advantage = 1.0 - 2 * (place % 2)
            scored[-1].append(ScoredCompletion(one, "RIGHT", True, 1.0, advantage))
    return scored


def _reset_peak() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _peak() -> float:
    return torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else 0.0


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", choices=SIZES, default="3b")
    parser.add_argument("--steps", type=int, default=12)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model, release = (
            make_model(arguments.size, folder / "model"),
            make_release(arguments.size, folder),
        )
        ours = measure_sft(arguments.size, model, release, arguments.steps, folder / "sft")
        theirs = measure_trl(arguments.size, model, release, arguments.steps, folder / "trl")
        phases = measure_gspo(arguments.size, model, release, folder / "gspo")
    found: dict[str, Any] = {
        "machine": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
        "size": arguments.size,
    }
    found |= {"sft": ours, "trl": theirs, "gspo": phases}
    if "targets_per_second" in theirs:
        found["ratio"] = ours["targets_per_second"] / theirs["targets_per_second"]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
