"""Supervised fine-tuning on a release.

One step: each rank takes its packs one after the other; the loss of a pack is the sum over its targets of -log p, divided by the
number of targets of the whole step, over all packs and all ranks. So every target weighs the same however rows are packed and
dealt out, and one process computes what many do.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch.utils.data import DataLoader, Dataset

from omr_data.errors import TrainError
from omr_data.progress import Reporter, reporter
from omr_data.train.batches import Batch, Steps, collate
from omr_data.train.chat import Encoder
from omr_data.train.checkpoints import Checkpoints, export
from omr_data.train.journal import Journal
from omr_data.train.model import Policy, load_policy
from omr_data.train.ranks import Ranks, ranks
from omr_data.train.rows import Measured, Release, measure, open_release
from omr_data.train.settings import SFT, Trained
from omr_data.train.speed import Cost, peak

CURVES = (
    ("loss",),
    ("lr",),
    ("grad_norm",),
    ("tokens_per_second",),
    ("mfu",),
    ("seconds", "seconds_data"),
)


@dataclass(frozen=True, slots=True)
class Step:
    """What one step takes: this rank's packs, and over all ranks its targets, tokens, and the squares of their sequences' lengths."""

    packs: tuple[tuple[int, ...], ...]
    targets: int
    tokens: int
    squares: int


class Packs(Dataset[list[Batch]]):
    """The batches of each step, read and encoded where they are asked for (in loader processes)."""

    def __init__(self, release: Release, encoder: Encoder, steps: list[Step]) -> None:
        self._release, self._encoder, self._steps = release, encoder, steps

    def __len__(self) -> int:
        return len(self._steps)

    def __getitem__(self, number: int) -> list[Batch]:
        chats = (
            [self._release.example(row, self._encoder) for row in pack]
            for pack in self._steps[number].packs
        )
        return [collate(examples, self._encoder) for examples in chats]


def train(settings: SFT, data: str, out: Path) -> Path:
    """Trains on the release `data` and returns the folder of the trained model, `out`/model. The same call goes on after a kill.

    Raises:
        TrainError: the release, the model or the settings do not fit, or the loss is no number.
    """
    with ranks() as group:
        report = reporter(Console(stderr=True, quiet=not group.first))
        if settings.packs_per_step < 1 or settings.packs_per_step % group.world:
            raise TrainError(
                f"packs_per_step is {settings.packs_per_step}, and must be a multiple of the {group.world} processes."
            )
        encoder = Encoder(settings.folder, settings.revision_of_model, settings.max_pixels)
        release = open_release(data)
        measured = measure(release, encoder, group, report)
        plan = _plan(settings, measured, report)
        policy = load_policy(settings, group, settings.seed)
        journal = Journal(out, group.first)
        _run(settings, release, encoder, measured, plan, policy, group, report, journal, out)
        export(
            policy,
            encoder,
            out / "model",
            group,
            torch.bfloat16 if settings.precision == "bfloat16" else None,
        )
        journal.plot(CURVES, f"SFT of {settings.model} on {release.name}")
    return out / "model"


def _plan(settings: SFT, measured: Measured, report: Reporter) -> Steps:
    """Says what is left out, and why."""
    tokens = measured.tokens
    for reason, count in sorted(measured.bad.items()):
        report.say(f"  {count:,} rows left out: {reason}")
    if long := int((tokens > settings.pack_length).sum()):
        report.say(
            f"  {long:,} rows left out: longer than {settings.pack_length:,} tokens (the longest has {int(tokens.max()):,})"
        )
    fits = np.flatnonzero((tokens > 0) & (tokens <= settings.pack_length))
    if not len(fits):
        raise TrainError(
            f"no row of the release is a chat of at most {settings.pack_length:,} tokens. Raise pack_length."
        )
    return Steps(
        np.where(tokens > 0, tokens, settings.pack_length + 1),
        settings.pack_length,
        settings.packs_per_step,
        settings.seed,
    )


def _steps(plan: Steps, measured: Measured, group: Ranks, first: int, last: int) -> list[Step]:
    """Steps first + 1 to last."""
    found = []
    for _, packs in zip(range(first, last), plan.iterate(first), strict=False):
        rows = np.array([row for pack in packs for row in pack])
        lengths = measured.tokens[rows]
        mine = tuple(tuple(pack) for pack in packs[group.rank :: group.world])
        found.append(
            Step(
                mine, int(measured.targets[rows].sum()), int(lengths.sum()), int((lengths**2).sum())
            )
        )
    return found


def _run(
    settings: SFT,
    release: Release,
    encoder: Encoder,
    measured: Measured,
    plan: Steps,
    policy: Policy,
    group: Ranks,
    report: Reporter,
    journal: Journal,
    out: Path,
) -> None:
    last = settings.steps or plan.count(settings.epochs)
    optimizer = adamw(policy, settings, group)
    checkpoints = Checkpoints(out, group, settings.keep)
    done = checkpoints.last()
    journal.begin(settings, release.name, release.identity, done)
    checkpoints.load(policy, optimizer)
    steps = _steps(plan, measured, group, done, last)
    cost, best = Cost.of(policy), peak(group.device)
    begun = f", from {done:,}" if done else ""
    report.say(
        f"  {last:,} steps of {settings.packs_per_step} packs of {settings.pack_length:,} tokens{begun}"
    )
    with report.bar("sft", last, "steps") as bar:
        bar.advance(done)
        before = time.perf_counter()
        for step, batches in zip(
            steps, _loaded(settings, release, encoder, steps, group), strict=True
        ):
            began = time.perf_counter()
            lr = cosine(settings.lr, done, last, settings.warmup)
            loss, norm, patches = _step(
                policy, optimizer, batches, step.targets, lr, settings.grad_clip, group
            )
            done += 1
            after = time.perf_counter()
            seconds = after - before  # waiting for data counts
            values = {
                "loss": loss, "lr": lr, "grad_norm": norm, "tokens": step.tokens, "targets": step.targets,
                "fill": step.tokens / (settings.packs_per_step * settings.pack_length),
                "seconds": seconds, "seconds_data": began - before, "tokens_per_second": step.tokens / seconds,
            }  # fmt: skip
            if best is not None:
                values["mfu"] = (
                    cost.flops(step.tokens, step.squares, patches) / seconds / (best * group.world)
                )
            journal.add(done, values)
            bar.advance(1, _note(values))
            if done % settings.save_every == 0 or done == last:
                checkpoints.save(done, policy, optimizer)
            before = time.perf_counter() if done % settings.save_every == 0 else after


def _note(values: dict[str, float]) -> str:
    used = f"  MFU {values['mfu']:.0%}" if "mfu" in values else ""
    return f"loss {values['loss']:.3f}  {values['tokens_per_second']:,.0f} tokens/s{used}"


def _loaded(
    settings: SFT, release: Release, encoder: Encoder, steps: list[Step], group: Ranks
) -> Iterator[list[Batch]]:
    """The batches of each step in order, some steps ahead where there are loader processes."""
    ahead: dict[str, Any] = (
        {"prefetch_factor": 2, "multiprocessing_context": "spawn"} if settings.loaders else {}
    )
    packs = Packs(release, encoder, steps)
    return iter(
        DataLoader(
            packs,
            batch_size=None,
            num_workers=settings.loaders,
            pin_memory=group.device.type == "cuda",
            **ahead,
        )
    )


def _step(
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    batches: list[Batch],
    targets: int,
    lr: float,
    clip: float,
    group: Ranks,
) -> tuple[float, float, int]:
    """One optimizer step: the mean loss over all targets, the norm of its gradient, and the patches that all ranks saw."""
    summed = torch.zeros((), dtype=torch.float64, device=group.device)
    patches = 0
    for batch in batches:
        logps, _ = policy(batch.to(group.device))
        # FSDP takes the mean over ranks, and a step's loss is a sum over them.
        torch.autograd.backward(-logps.sum() * group.world / targets)
        summed -= logps.detach().double().sum()
        patches += len(batch.patches)
    norm = clip_gradients(policy, clip)
    for part in optimizer.param_groups:
        part["lr"] = lr
    optimizer.step()
    optimizer.zero_grad()
    loss, seen = group.sum(summed.item() / targets, patches)
    if not (math.isfinite(loss) and math.isfinite(norm)):
        raise TrainError(
            f"the loss is {loss} with a gradient of norm {norm}. The last checkpoint is kept: go on from it with a lower rate."
        )
    return loss, norm, int(seen)


def adamw(policy: Policy, settings: Trained, group: Ranks) -> torch.optim.AdamW:
    """The optimizer over all parameters; its rate is set before each step."""
    betas, fused = (settings.betas[0], settings.betas[1]), group.device.type == "cuda"
    return torch.optim.AdamW(
        policy.parameters(),
        lr=settings.lr,
        betas=betas,
        weight_decay=settings.weight_decay,
        fused=fused,
    )


def clip_gradients(policy: Policy, most: float) -> float:
    """Scales the gradient down to a norm of at most so much; returns the norm before, over all ranks."""
    norm = torch.nn.utils.clip_grad_norm_(policy.parameters(), most)
    return float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)


def cosine(peak_lr: float, done: int, last: int, warmup: float) -> float:
    """The rate of the step after `done`: up in a line over the share `warmup` of all steps, then down a cosine to zero."""
    warm = max(1, round(warmup * last))
    if done < warm:
        return peak_lr * (done + 1) / warm
    return peak_lr * 0.5 * (1 + math.cos(math.pi * (done - warm) / max(1, last - warm)))
