"""What a run writes down: settings.json, metrics.jsonl (one line a step), curves.png at the end; on the console a bar.

Where tensorboard is installed its files are written too, and to wandb where it is installed and WANDB_PROJECT is set. Only the
first rank writes. When a run is resumed, lines of steps after the checkpoint are taken back.
"""

import importlib.util
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omr_data.errors import TrainError
from omr_data.identity import canonical, fingerprint, identity_fields
from omr_data.store.atomic import write_text
from omr_data.train.settings import GSPO, SFT, as_json


class Journal:
    """The log of one run in a folder."""

    def __init__(self, out: Path, writes: bool) -> None:
        self._metrics, self._writes = out / "metrics.jsonl", writes
        self._out = out
        self._others: list[Any] = []

    def begin(self, settings: SFT | GSPO, data: str, identity: str, step: int) -> None:
        """Checks that a run which is resumed is the same, and writes down what it is.

        Raises:
            TrainError: the folder holds a run with other settings, or over another release.
        """
        path = self._out / "settings.json"
        if step and path.is_file():
            before = json.loads(path.read_text(encoding="utf-8"))
            filled = as_json(settings)
            now = {name: canonical(filled[name]) for name in identity_fields(settings)} | {
                "release": identity
            }
            for name, value in now.items():
                held = before.get(name)
                if canonical(tuple(held) if isinstance(held, list) else held) != value:
                    raise TrainError(
                        f"{self._out} was begun with {name}={held}, and this run has {value}. Restore it, or give another --out."
                    )
        if not self._writes:
            return
        held = as_json(settings) | {
            "data": data,
            "release": identity,
            "fingerprint": fingerprint(settings),
        }
        write_text(path, json.dumps(held, indent=1) + "\n")
        kept = [line for line in self.lines() if line["step"] <= step]
        write_text(self._metrics, "".join(json.dumps(line) + "\n" for line in kept))
        self._others = _others(self._out, held)

    def lines(self) -> list[dict[str, Any]]:
        """All that was measured, step by step."""
        if not self._metrics.is_file():
            return []
        return [
            json.loads(line)
            for line in self._metrics.read_text(encoding="utf-8").splitlines()
            if line.endswith("}")
        ]

    def add(self, step: int, values: Mapping[str, float | int]) -> None:
        """One line. Costs about 50 microseconds."""
        if not self._writes:
            return
        with self._metrics.open("a", encoding="utf-8") as stream:
            stream.write(
                json.dumps({"step": step} | {name: _short(value) for name, value in values.items()})
                + "\n"
            )
        for other in self._others:
            other(step, values)

    def plot(self, panels: Sequence[Sequence[str]], title: str) -> None:
        """curves.png: one panel for each group of measures that were made, over the steps."""
        if self._writes and (lines := self.lines()):
            _plot(self._out / "curves.png", lines, panels, title)


def _short(value: float | int) -> float | int:
    return value if isinstance(value, int) else float(f"{value:.6g}")


def _others(out: Path, settings: dict[str, Any]) -> list[Any]:
    """Functions of (step, values) for what else is installed."""
    found: list[Any] = []
    if importlib.util.find_spec("tensorboard") is not None:
        from torch.utils.tensorboard import SummaryWriter

        writer = SummaryWriter(str(out / "tensorboard"))

        def scalars(step: int, values: Mapping[str, float]) -> None:
            for name, value in values.items():
                writer.add_scalar(name, value, step)

        found.append(scalars)
    if importlib.util.find_spec("wandb") is not None and os.environ.get("WANDB_PROJECT"):
        import wandb

        run = wandb.init(config=settings, dir=str(out), name=out.name)
        found.append(lambda step, values: run.log(dict(values), step=step))
    return found


def _plot(
    path: Path, lines: Sequence[Mapping[str, Any]], panels: Sequence[Sequence[str]], title: str
) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = [
        names
        for panel in panels
        if (names := [name for name in panel if any(name in line for line in lines)])
    ]
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    figure, grid = pyplot.subplots(
        rows, columns, figsize=(4.6 * columns, 3.0 * rows), layout="constrained", squeeze=False
    )
    for axes, names in zip(grid.flat, shown, strict=False):
        for name in names:
            points = [(line["step"], line[name]) for line in lines if line.get(name) is not None]
            steps, values = [step for step, _ in points], [value for _, value in points]
            (line,) = axes.plot(steps, values, alpha=0.3, linewidth=1)
            axes.plot(
                steps,
                _smooth(values),
                color=line.get_color(),
                linewidth=1.8,
                label=name.replace("_", " "),
            )
        axes.set_title(", ".join(name.replace("_", " ") for name in names), fontsize=10)
        axes.grid(alpha=0.3)
        if len(names) > 1:
            axes.legend(frameon=False, fontsize=8)
    for axes in grid.flat[len(shown) :]:
        axes.axis("off")
    for axes in grid[-1]:
        axes.set_xlabel("step")
    figure.suptitle(title, fontsize=11)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _smooth(values: Sequence[float]) -> list[float]:
    """A running mean over a fiftieth of the steps."""
    width = max(1, len(values) // 50)
    return [
        sum(part := values[max(0, end - width) : end]) / len(part)
        for end in range(1, len(values) + 1)
    ]
