"""Supervised fine-tuning on a release.

In one step each rank takes its packs one after the other. The loss of a pack is the sum over its
targets of -log p, divided by the number of targets of the whole step, over all packs and all ranks.
So every target weighs the same however rows are packed and assigned to ranks, and one process
computes what many do.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from omr_data.errors import TrainError
from omr_data.train.batches import PackedBatch, collate
from omr_data.train.chat import Encoder
from omr_data.train.lengths import RowLengths, measure_rows
from omr_data.train.model import Policy, load_policy
from omr_data.train.optim import clip_gradients, cosine_lr, set_lr
from omr_data.train.order import PackSchedule
from omr_data.train.ranks import Ranks, ranks
from omr_data.train.release import ReleaseReader
from omr_data.train.run import RunInputs, TrainingLoop
from omr_data.train.settings import SFT
from omr_data.train.speed import ModelFlops, peak_flops

PANELS = (
    ("loss",),
    ("lr",),
    ("grad_norm",),
    ("tokens_per_second",),
    ("mfu",),
    ("seconds", "seconds_data"),
)
"""The measures that are drawn together, for each panel of the curves."""
PREFETCH_STEPS = 2
"""Steps that each loader process keeps ready. Each holds all patches of its images in memory."""


@dataclass(frozen=True, slots=True)
class StepPlan:
    """What one step consists of."""

    packs: tuple[tuple[int, ...], ...]
    """The row numbers of each pack of this rank."""
    targets: int
    """Targets of the step, over all ranks."""
    tokens: int
    """Tokens of the step, over all ranks."""
    squares: int
    """Sum of the squared lengths of its rows, over all ranks."""


class StepBatches(Dataset[list[PackedBatch]]):
    """The batches of each step, read and encoded where they are asked for: in loader processes."""

    def __init__(self, release: ReleaseReader, encoder: Encoder, plans: Sequence[StepPlan]) -> None:
        """Takes the steps in order.

        Args:
            release: The release to read rows from.
            encoder: Encodes them.
            plans: The steps.
        """
        self._release = release
        self._encoder = encoder
        self._plans = plans

    def __len__(self) -> int:
        return len(self._plans)

    def __getitem__(self, step: int) -> list[PackedBatch]:
        batches = []
        for pack in self._plans[step].packs:
            examples = [self._release.example(row, self._encoder) for row in pack]
            batches.append(collate(examples, self._encoder))
        return batches


def train(settings: SFT, data: str, out: Path) -> Path:
    """Trains on a release. The same call continues a run that was interrupted.

    Args:
        settings: The settings of the run.
        data: The release: a folder, or organization/name@version on the Hub.
        out: The run's folder.

    Returns:
        The folder of the trained model, `out`/model.

    Raises:
        TrainError: The release, the model or the settings do not fit, or the loss is not finite.
    """
    with ranks() as group:
        if settings.packs_per_step % group.world:
            raise TrainError(
                f"packs_per_step is {settings.packs_per_step}, "
                f"and must be a multiple of the {group.world} processes."
            )
        inputs = RunInputs.open(settings, data, out, group)
        lengths = measure_rows(inputs.release, inputs.encoder, group, inputs.report)
        schedule = _schedule(settings, inputs, lengths)
        # After the data is known to be usable: loading a large model takes minutes.
        # The seed decides random weights, so a run from scratch can be repeated.
        loop = TrainingLoop(inputs, load_policy(settings, group, settings.seed))
        total = settings.steps or schedule.count(settings.epochs)
        method = SupervisedFineTuning(
            settings, inputs, loop.policy, loop.optimizer, lengths, schedule, total
        )
        return loop.run(method, f"SFT of {settings.model} on {inputs.release.name}")


def _schedule(settings: SFT, inputs: RunInputs, lengths: RowLengths) -> PackSchedule:
    """Plans the packs. Says which rows are left out, and why."""
    report, name = inputs.report, inputs.release.name
    for reason, count in sorted(lengths.bad.items()):
        report.say(f"  {count:,} rows left out: {reason}")
    usable = lengths.tokens > 0
    if not usable.any():
        reasons = ", ".join(f"{reason} ({count:,})" for reason, count in lengths.bad.most_common())
        raise TrainError(
            f"no row of {name} is a chat with an answer to train on: {reasons}. "
            "Give a release whose rows hold responses, such as one of kind sft; "
            "`omr train gspo` trains on questions alone."
        )
    long = lengths.tokens > settings.pack_length
    if long.any():
        report.say(
            f"  {int(long.sum()):,} rows left out: longer than {settings.pack_length:,} tokens "
            f"(the longest has {int(lengths.tokens.max()):,})"
        )
    if not (usable & ~long).any():
        shortest = int(lengths.tokens[usable].min())
        raise TrainError(
            f"no row of {name} is a chat of at most {settings.pack_length:,} tokens. "
            f"Raise pack_length: the shortest chat has {shortest:,}."
        )
    # Rows that cannot be trained on get a length that no pack takes.
    tokens = np.where(usable, lengths.tokens, settings.pack_length + 1)
    return PackSchedule(tokens, settings.pack_length, settings.packs_per_step, settings.seed)


@dataclass(frozen=True, slots=True)
class SupervisedFineTuning:
    """The steps of SFT, for `TrainingLoop`."""

    name: ClassVar[str] = "sft"
    """A word for the progress bar."""
    panels: ClassVar[Sequence[Sequence[str]]] = PANELS
    """The measures that are drawn together."""
    settings: SFT
    """The settings of the run."""
    inputs: RunInputs
    """Its data."""
    policy: Policy
    """The policy that is trained."""
    optimizer: torch.optim.Optimizer
    """Its optimizer."""
    lengths: RowLengths
    """The lengths of all rows."""
    schedule: PackSchedule
    """The packs of each step."""
    total: int
    """Steps of the run."""

    @property
    def summary(self) -> str:
        """What a step consists of."""
        return f"{self.settings.packs_per_step} packs of {self.settings.pack_length:,} tokens"

    def steps(self, first: int) -> Iterator[dict[str, float]]:
        """Trains from step `first` to the last one, and yields the measures of each."""
        settings, group = self.settings, self.inputs.ranks
        plans = self._plans(first)
        flops, peak = ModelFlops.of(self.policy), peak_flops(group.device)
        batches_of_steps = iter(self._loader(plans))
        for step, plan in enumerate(plans, first):
            began = time.perf_counter()
            # Loaders work ahead, so this waits only where they are slower than the device.
            batches = next(batches_of_steps)
            loaded = time.perf_counter()
            lr = cosine_lr(settings.lr, step, self.total, settings.warmup)
            set_lr(self.optimizer, lr)
            loss, norm, patches = self._update(batches, plan.targets)
            # Waiting for data counts: a slow loader is a slow run.
            seconds = time.perf_counter() - began
            values: dict[str, float] = {
                "loss": loss,
                "lr": lr,
                "grad_norm": norm,
                "tokens": plan.tokens,
                "targets": plan.targets,
                "fill": plan.tokens / (settings.packs_per_step * settings.pack_length),
                "seconds": seconds,
                "seconds_data": loaded - began,
                "tokens_per_second": plan.tokens / seconds,
            }
            if peak is not None:
                needed = flops.count(plan.tokens, plan.squares, patches)
                values["mfu"] = needed / seconds / (peak * group.world)
            yield values

    def note(self, values: Mapping[str, float]) -> str:
        """Returns the loss and the speed of a step."""
        used = f"  MFU {values['mfu']:.0%}" if "mfu" in values else ""
        return f"loss {values['loss']:.3f}  {values['tokens_per_second']:,.0f} tokens/s{used}"

    def check(self, history: Sequence[Mapping[str, float]]) -> None:
        """Raises TrainError where the last loss or gradient is not finite."""
        loss, norm = history[-1]["loss"], history[-1]["grad_norm"]
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise TrainError(
                f"step {len(history):,}: the loss is {loss} with a gradient of norm {norm}. "
                "The last checkpoint is kept: begin again in another folder with a lower lr "
                f"than {self.settings.lr:g}."
            )

    def _plans(self, first: int) -> list[StepPlan]:
        plans = []
        remaining = range(first, self.total)
        for _, packs in zip(remaining, self.schedule.iterate(first), strict=False):
            rows = np.array([row for pack in packs for row in pack])
            tokens = self.lengths.tokens[rows]
            # Planned for all ranks at once, so that each knows the targets of the whole step.
            plan = StepPlan(
                packs=tuple(tuple(pack) for pack in self.inputs.ranks.shard(packs)),
                targets=int(self.lengths.targets[rows].sum()),
                tokens=int(tokens.sum()),
                squares=int((tokens**2).sum()),
            )
            plans.append(plan)
        return plans

    def _loader(self, plans: Sequence[StepPlan]) -> "DataLoader[list[PackedBatch]]":
        ahead: dict[str, Any] = {}
        if self.settings.loaders:
            # Forked loaders would inherit CUDA and the threads of tokenizers, which may deadlock.
            ahead = {"prefetch_factor": PREFETCH_STEPS, "multiprocessing_context": "spawn"}
        return DataLoader(
            StepBatches(self.inputs.release, self.inputs.encoder, plans),
            batch_size=None,
            num_workers=self.settings.loaders,
            pin_memory=self.inputs.ranks.device.type == "cuda",
            **ahead,
        )

    def _update(self, batches: Sequence[PackedBatch], targets: int) -> tuple[float, float, int]:
        """One optimizer step. Returns the mean loss over all targets, the norm of its gradient, and
        the patches of all ranks."""
        group: Ranks = self.inputs.ranks
        # On the device: reading a pack's loss would wait for its backward pass.
        summed = torch.zeros((), dtype=torch.float64, device=group.device)
        patches = 0
        for batch in batches:
            logprobs, _ = self.policy(batch.to(group.device))
            # FSDP takes the mean over ranks, and a step's loss is a sum over them.
            torch.autograd.backward(-logprobs.sum() * group.world / targets)
            summed -= logprobs.detach().double().sum()
            patches += len(batch.patches)
        norm = clip_gradients(self.policy, self.settings.grad_clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        loss, seen = group.all_reduce_sum(summed.item() / targets, patches)
        return loss, norm, int(seen)
