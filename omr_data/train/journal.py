"""What a run writes down: settings.json, metrics.jsonl (a line for each step) and curves.png.

Where tensorboard is installed, its files are written too; so are runs of wandb where it is
installed and WANDB_PROJECT is set. Only the main rank writes. When a run is resumed, the lines of
steps after the checkpoint are removed.
"""

import importlib.util
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from omr_data.errors import TrainError
from omr_data.identity import canonical, fingerprint, identity_fields
from omr_data.store.atomic import write_text
from omr_data.train.settings import GSPO, SFT, as_json

Writer = Callable[[int, Mapping[str, float]], None]
"""Takes the measures of a step."""
COLUMNS = 3
"""Panels side by side in curves.png."""
SMOOTHING = 50
"""Curves are smoothed over this fraction of their steps."""


class RunJournal:
    """The journal of one run, in the run's folder."""

    def __init__(self, out: Path, writes: bool) -> None:
        """Opens the journal in `out`. Only one process of a run has `writes`."""
        self._out = out
        self._metrics = out / "metrics.jsonl"
        self._writes = writes
        self._writers: list[Writer] = []

    def begin(self, settings: SFT | GSPO, data: str, identity: str, step: int) -> None:
        """Checks that a resumed run is the same run, and writes down what it is.

        Args:
            settings: The settings of the run.
            data: The release as it was given.
            identity: The identity of the release.
            step: The step of the checkpoint that the run goes on from; 0 for a new run.

        Raises:
            TrainError: The folder holds a run with other settings, or on another release.
        """
        path = self._out / "settings.json"
        if step and path.is_file():
            self._check_same_run(settings, identity, json.loads(path.read_text(encoding="utf-8")))
        if not self._writes:
            return
        # With defaults filled in: a later version may have other ones.
        described = as_json(settings) | {
            "data": data,
            "release": identity,
            "fingerprint": fingerprint(settings),
        }
        write_text(path, json.dumps(described, indent=1) + "\n")
        # Steps after the checkpoint are made again, and would be there twice.
        kept = [line for line in self.lines() if line["step"] <= step]
        write_text(self._metrics, "".join(json.dumps(line) + "\n" for line in kept))
        self._writers = _installed_writers(self._out, described)

    def lines(self) -> list[dict[str, Any]]:
        """Returns the measures of all steps, in order."""
        if not self._metrics.is_file():
            return []
        text = self._metrics.read_text(encoding="utf-8")
        # The last line of a killed run may be cut off.
        return [json.loads(line) for line in text.splitlines() if line.endswith("}")]

    def add(self, step: int, values: Mapping[str, float | int]) -> None:
        """Adds the measures of a step. Costs about 50 microseconds."""
        if not self._writes:
            return
        line: dict[str, float | int] = {"step": step}
        for name, value in values.items():
            # Six digits: the file of a long run stays small, and more are noise.
            line[name] = value if isinstance(value, int) else float(f"{value:.6g}")
        # Opened for each line: what was measured is on disk when a run is killed.
        with self._metrics.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
        for write in self._writers:
            write(step, values)

    def plot(self, panels: Sequence[Sequence[str]], title: str) -> None:
        """Draws curves.png: a panel for each group of measures, over the steps."""
        lines = self.lines()
        if self._writes and lines:
            _plot(self._out / "curves.png", lines, panels, title)

    def _check_same_run(
        self, settings: SFT | GSPO, identity: str, before: Mapping[str, Any]
    ) -> None:
        filled = as_json(settings)
        now = {name: canonical(filled[name]) for name in identity_fields(settings)}
        now["release"] = identity
        for name, value in now.items():
            held = before.get(name)
            # JSON has no tuples, and `canonical` takes no lists.
            comparable = tuple(held) if isinstance(held, list) else held
            if canonical(comparable) != value:
                raise TrainError(
                    f"{self._out} was begun with {name}={held}, and this run has {value}. "
                    "Restore it, or give another --out."
                )


def _installed_writers(out: Path, settings: dict[str, Any]) -> list[Writer]:
    """Writers for the trackers that are installed."""
    writers: list[Writer] = []
    if importlib.util.find_spec("tensorboard") is not None:
        from torch.utils.tensorboard import SummaryWriter

        board = SummaryWriter(str(out / "tensorboard"))

        def write_scalars(step: int, values: Mapping[str, float]) -> None:
            for name, value in values.items():
                board.add_scalar(name, value, step)

        writers.append(write_scalars)
    # wandb asks for a login without a project, which would stop an unattended run.
    if importlib.util.find_spec("wandb") is not None and os.environ.get("WANDB_PROJECT"):
        import wandb

        run = wandb.init(config=settings, dir=str(out), name=out.name)
        writers.append(lambda step, values: run.log(dict(values), step=step))
    return writers


def _plot(
    path: Path, lines: Sequence[Mapping[str, Any]], panels: Sequence[Sequence[str]], title: str
) -> None:
    import matplotlib

    # The default backend may open a window.
    matplotlib.use("Agg")
    from matplotlib import pyplot

    measured = set().union(*lines)
    shown = [[name for name in panel if name in measured] for panel in panels]
    shown = [names for names in shown if names]
    columns = min(COLUMNS, len(shown))
    # Panels fill row by row; the places left over in the last row are switched off below.
    rows = -(-len(shown) // columns)
    figure, grid = pyplot.subplots(
        rows, columns, figsize=(4.6 * columns, 3.0 * rows), layout="constrained", squeeze=False
    )
    for axes, names in zip(grid.flat, shown, strict=False):
        for name in names:
            label = name.replace("_", " ")
            points = [(line["step"], line[name]) for line in lines if line.get(name) is not None]
            steps = [step for step, _ in points]
            values = [value for _, value in points]
            # The raw curve stays visible behind the smooth one: smoothing hides spikes.
            (raw,) = axes.plot(steps, values, alpha=0.3, linewidth=1)
            width = max(1, len(values) // SMOOTHING)
            smooth = [
                sum(values[max(0, end - width) : end]) / min(end, width)
                for end in range(1, len(values) + 1)
            ]
            axes.plot(steps, smooth, color=raw.get_color(), linewidth=1.8, label=label)
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
