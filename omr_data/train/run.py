"""The loop of a training run, which SFT and RL share: resume, step, write down, save.

A run is a folder. The same command continues it from its last checkpoint; on a CPU it then gives
the same bits as a run that was never interrupted.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from rich.console import Console

from omr_data.errors import CollapseError
from omr_data.progress import Reporter, reporter
from omr_data.train.chat import Encoder
from omr_data.train.checkpoints import Checkpoints, export_model
from omr_data.train.journal import RunJournal
from omr_data.train.model import Policy
from omr_data.train.optim import adamw
from omr_data.train.ranks import Ranks
from omr_data.train.release import ReleaseReader, open_release
from omr_data.train.settings import GSPO, SFT


@dataclass(frozen=True, slots=True)
class RunInputs:
    """What a run is started with: its settings and data, before any weight is loaded."""

    settings: SFT | GSPO
    """The settings."""
    release: ReleaseReader
    """The data."""
    encoder: Encoder
    """Encodes chats for the model that the settings name."""
    out: Path
    """The run's folder."""
    ranks: Ranks
    """The processes of the run."""
    report: Reporter
    """Shows progress; silent on all ranks but the main one."""

    @classmethod
    def open(cls, settings: SFT | GSPO, data: str, out: Path, ranks: Ranks) -> "RunInputs":
        """Opens the release and the encoder.

        Args:
            settings: The settings of the run.
            data: The release: a folder, or organization/name@version on the Hub.
            out: The run's folder.
            ranks: The processes of the run.

        Raises:
            TrainError: The release or the model cannot be used.
        """
        encoder = Encoder(settings.folder, settings.revision_of_model, settings.max_pixels)
        release = open_release(data)
        report = reporter(Console(stderr=True, quiet=not ranks.is_main))
        return cls(settings, release, encoder, out, ranks, report)

    @property
    def half(self) -> torch.dtype | None:
        """The precision in which trained weights are written; None for float32."""
        return torch.bfloat16 if self.settings.precision == "bfloat16" else None


class TrainingMethod(Protocol):
    """What a method of training adds to the loop."""

    @property
    def name(self) -> str:
        """A word for the progress bar."""
        ...

    @property
    def panels(self) -> Sequence[Sequence[str]]:
        """The measures that are drawn together, for each panel of the curves."""
        ...

    @property
    def total(self) -> int:
        """Steps of the whole run."""
        ...

    @property
    def summary(self) -> str:
        """What a step consists of, in words."""
        ...

    def steps(self, first: int) -> Iterator[dict[str, float]]:
        """Trains step by step, from step `first` to the last one.

        Yields:
            The measures of each step, after its update.
        """
        ...

    def note(self, values: Mapping[str, float]) -> str:
        """Returns what is shown beside the progress bar after a step."""
        ...

    def check(self, history: Sequence[Mapping[str, float]]) -> None:
        """Looks at the measures of all steps so far.

        Raises:
            TrainError: Going on is useless.
        """
        ...


class TrainingLoop:
    """One run: a policy that is trained, and the folder that remembers it."""

    def __init__(self, inputs: RunInputs, policy: Policy) -> None:
        """Sets up the optimizer, the checkpoints and the journal; nothing is written yet."""
        self.inputs = inputs
        self.policy = policy
        self.optimizer = adamw(policy, inputs.settings, inputs.ranks.device)
        self._checkpoints = Checkpoints(inputs.out, inputs.ranks, inputs.settings.keep)
        self._journal = RunJournal(inputs.out, inputs.ranks.is_main)

    def run(self, method: TrainingMethod, title: str) -> Path:
        """Trains from the last checkpoint to the last step, and writes the model.

        Args:
            method: Makes the steps.
            title: The title of the curves.

        Returns:
            The folder of the trained model, `out`/model.

        Raises:
            TrainError: The folder holds another run, or the method gives up.
        """
        inputs = self.inputs
        try:
            self._train(method)
        except CollapseError:
            # The curves show when it went wrong, and there will be no later chance to draw them.
            self._journal.plot(method.panels, title)
            raise
        model = inputs.out / "model"
        export_model(self.policy, inputs.encoder, model, inputs.ranks, inputs.half)
        self._journal.plot(method.panels, title)
        return model

    def _train(self, method: TrainingMethod) -> None:
        settings, release, report = self.inputs.settings, self.inputs.release, self.inputs.report
        done = self._checkpoints.last()
        self._journal.begin(settings, release.name, release.identity, done)
        # After `begin`, which refuses the folder of another run.
        self._checkpoints.load(self.policy, self.optimizer)
        # A resumed run judges collapse by the steps before the interruption too.
        history: list[Mapping[str, float]] = [
            line for line in self._journal.lines() if line["step"] <= done
        ]
        resumed = f", from {done:,}" if done else ""
        report.say(f"  {method.total:,} steps of {method.summary}{resumed}")
        with report.bar(method.name, method.total, "steps") as bar:
            bar.advance(done)
            for values in method.steps(done):
                done += 1
                self._journal.add(done, values)
                bar.advance(1, method.note(values))
                history.append(values)
                # Before saving: a checkpoint of a broken model would push out a good one.
                method.check(history)
                if done % settings.save_every == 0 or done == method.total:
                    self._checkpoints.save(done, self.policy, self.optimizer)
