"""What training gives, in minutes on a CPU: `python benchmarks/train_tiny.py`.

The last line of its output is one JSON object.

- SFT (tiny-sft) from random weights, on verified answers of the embedded teacher to sums as text:
  sampled accuracy on held-out sums.
- GSPO (tiny-gspo) from the embedded model, once for each seed: the gain in sampled accuracy on
  held-out problems of the same kinds, over the same questions for every model, with a 95% interval
  of Student's t over the seeds.
- GSPO with a learning rate that breaks the model: at which step it is stopped, and what is said.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from scipy.stats import t as students
from torch import get_num_threads, set_num_threads

from omr_data.cli import app
from omr_data.errors import CollapseError
from omr_data.sources.locator import LocalDatasets
from omr_data.sources.prompts import named_source, read_questions
from omr_data.train import gspo, sft
from omr_data.train.evaluate import Score, evaluate
from omr_data.train.release import PolicyPrompt
from omr_data.train.settings import GSPO, SFT, Eval, changed, preset

HELD_OUT = {"families": "text,sum,larger,bars", "levels": "2,3", "count": "600"}
"""Problems of the kinds that omr-rl-tiny has."""
ROOT = Path(__file__).parents[1]


def built(recipe: Path, folder: Path) -> str:
    """The release of a recipe."""
    app(
        ["build", str(recipe), "--work", str(folder / "work"), "--releases", str(folder)],
        standalone_mode=False,
    )
    return str(next((folder / recipe.stem.replace("_", "-")).iterdir()))


def sampled(model: str, **of: str) -> Score:
    """Accuracy at temperature 1, eight answers a held-out question."""
    source = named_source("synthetic", {"split": "heldout"} | of)
    questions, _ = read_questions(source, LocalDatasets())
    prompts = [PolicyPrompt.from_record(one.record, one.images) for one in questions]
    settings = Eval(model=model, n=8, temperature=1.0, max_tokens=64)
    return evaluate(settings, prompts, "synthetic heldout")[0]


def measure_sft(folder: Path, data: str, given: dict[str, str]) -> dict[str, Any]:
    began = time.perf_counter()
    model = sft.train(changed(preset(SFT, "tiny-sft"), given), data, folder / "sft")
    minutes = (time.perf_counter() - began) / 60
    score = sampled(str(model), families="text", count="300")
    print(
        f"SFT from random weights: {score.accuracy} on held-out sums after {minutes:.1f} min",
        flush=True,
    )
    return {
        "accuracy": round(score.accuracy.value, 4),
        "low": round(score.accuracy.low, 4),
        "minutes": round(minutes, 2),
    }


def measure_gspo(folder: Path, data: str, seeds: int, given: dict[str, str]) -> dict[str, Any]:
    before = sampled("tiny", **HELD_OUT)
    gains, minutes = [], []
    for seed in range(seeds):
        began = time.perf_counter()
        model = gspo.train(
            changed(preset(GSPO, "tiny-gspo"), given | {"seed": str(seed)}),
            data,
            folder / f"gspo-{seed}",
        )
        minutes.append((time.perf_counter() - began) / 60)
        after = sampled(str(model), **HELD_OUT)
        gains.append(after.accuracy.value - before.accuracy.value)
        print(
            f"GSPO seed {seed}: {before.accuracy} -> {after.accuracy} after {minutes[-1]:.1f} min",
            flush=True,
        )
    mean = statistics.mean(gains)
    spread = float(students.ppf(0.975, seeds - 1)) * statistics.stdev(gains) / seeds**0.5
    found = {
        "before": before.accuracy.value,
        "gain": mean,
        "low": mean - spread,
        "high": mean + spread,
        "minutes_most": max(minutes),
    }
    return {"gains": [round(gain, 4) for gain in gains]} | {
        name: round(value, 4) for name, value in found.items()
    }


def measure_collapse(folder: Path, data: str, lr: str) -> dict[str, Any]:
    try:
        gspo.train(changed(preset(GSPO, "tiny-gspo"), {"lr": lr}), data, folder / "collapse")
    except CollapseError as error:
        print(f"GSPO at lr {lr}: {error}", flush=True)
        steps = len((folder / "collapse/metrics.jsonl").read_text().splitlines())
        return {"lr": float(lr), "stopped_at_step": steps}
    return {"lr": float(lr), "stopped_at_step": None}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--sft-steps", default="1000")
    parser.add_argument("--gspo-steps", default="400")
    parser.add_argument("--collapse-lr", default="1e-3")
    parser.add_argument("--folder", type=Path, help="keep the runs here")
    arguments = parser.parse_args()
    set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        text = built(ROOT / "benchmarks/recipes/text_sft.py", folder)
        problems = built(ROOT / "recipes/omr_rl_tiny.py", folder)
        found = {
            "machine": f"{get_num_threads()} threads, {platform.machine()}",
            "sft": measure_sft(folder, text, {"pack_length": "2048", "steps": arguments.sft_steps}),
            "gspo": measure_gspo(
                folder, problems, arguments.seeds, {"steps": arguments.gspo_steps}
            ),
            "collapse": measure_collapse(folder, problems, arguments.collapse_lr),
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
