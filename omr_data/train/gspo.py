"""Reinforcement learning with verified rewards: GSPO, and with `loss` GRPO or DAPO.

One step: questions are answered n times each by the policy as it is; answers are verified and compared within their group; what
is left is learned from in mini-batches, each an optimizer step. Departures from the GSPO paper are listed in `losses.py`.

The log-probabilities of the sampling policy come from a training forward before the first update, at the sampling
temperature, and never from the engine that sampled. With one mini-batch that forward is the one of the update, the ratio is
always 1, and the clip cannot act: so it was in the published run.
"""

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from omr_data.errors import BadRow, CollapseError, TrainError
from omr_data.progress import Reporter, reporter
from omr_data.train.batches import Batch, collate, first_fit
from omr_data.train.chat import Encoder, Example
from omr_data.train.checkpoints import Checkpoints, export
from omr_data.train.engines import OWN, Engine, Own, Sampling
from omr_data.train.journal import Journal
from omr_data.train.losses import LOSSES, Tokens, kl
from omr_data.train.model import Policy, load_policy
from omr_data.train.ranks import Ranks, ranks
from omr_data.train.rewards import Answer, counts, judge, whole
from omr_data.train.rows import Problem, Release, open_release, prompt_order
from omr_data.train.served import Server
from omr_data.train.settings import GSPO
from omr_data.train.sft import adamw, clip_gradients

CURVES = (
    ("accuracy", "formatted"), ("length",), ("entropy",), ("ratio",), ("clip_fraction",), ("kept", "zero_variance"), ("grad_norm",),
    ("seconds_sample", "seconds_update"), ("truncated", "undecided"),
)  # fmt: skip

PHASES = ("sample", "verify", "remember", "update")


@dataclass(frozen=True, slots=True)
class Pack:
    """Some answers as one batch in host memory (the images of a whole step would fill a card), with their advantages (answers,)
    and, where known, old and engine log-probabilities (targets,)."""

    batch: Batch
    advantages: torch.Tensor
    engine: torch.Tensor | None
    old: torch.Tensor | None = None
    reference: torch.Tensor | None = None


@dataclass(slots=True)
class Watched:
    """Sums over a step's tokens and updates on this rank, by name."""

    entropy: float = 0.0
    targets: int = 0
    ratio: float = 0.0
    drift: float = 0.0
    clipped: float = 0.0
    compared: int = 0
    norm: float = 0.0
    updates: int = 0


def train(settings: GSPO, data: str, out: Path) -> Path:
    """Trains on the questions of the release `data`; returns the folder of the trained model, `out`/model. Goes on after a kill.

    Raises:
        TrainError: the release, the model or the settings do not fit.
        CollapseError: accuracy fell far below its best, or no group has anything to teach.
    """
    with ranks() as group:
        report = reporter(Console(stderr=True, quiet=not group.first))
        _check(settings, group)
        encoder = Encoder(settings.folder, settings.revision_of_model, settings.max_pixels)
        release = open_release(data)
        numbers = _usable(settings, release, encoder, group, report)
        policy = load_policy(settings, group, settings.seed)
        reference = load_policy(settings, group, settings.seed) if settings.kl > 0 else None
        half = torch.bfloat16 if settings.precision == "bfloat16" else None
        own = settings.engine == OWN
        engine: Engine = (
            Own(policy, encoder, group)
            if own
            else Server(settings.engine, out / "served", encoder, group, half)
        )
        journal, title = (
            Journal(out, group.first),
            f"{settings.loss.upper()} of {settings.model} on {release.name}",
        )
        try:
            _Run(settings, release, encoder, policy, reference, engine, group, journal, out).go(
                numbers, report
            )
        except CollapseError:
            journal.plot(CURVES, title)
            raise
        export(policy, encoder, out / "model", group, half)
        journal.plot(CURVES, title)
    return out / "model"


def _check(settings: GSPO, group: Ranks) -> None:
    parts = group.world * settings.minibatches
    if settings.prompts_per_step < 1 or settings.prompts_per_step % parts:
        raise TrainError(
            f"prompts_per_step is {settings.prompts_per_step}, and must be a multiple of {parts}: "
            f"{settings.minibatches} mini-batches on {group.world} processes."
        )
    if settings.rollouts < 2 or settings.temperature <= 0:
        raise TrainError(
            "a group needs at least two different answers: rollouts must be 2 or more, and temperature above 0."
        )


def _usable(
    settings: GSPO, release: Release, encoder: Encoder, group: Ranks, report: Reporter
) -> list[int]:
    """The questions whose prompts can be used; says how many cannot, and why. The processes share the work."""
    numbers = release.problems()
    mine = numbers[group.rank :: group.world]
    reasons = [_fault(settings, release.problem(number), encoder) for number in mine]
    padded = reasons + [""] * (-(-len(numbers) // group.world) - len(mine))
    every = group.together(padded)[: len(numbers)]
    for reason, count in sorted(Counter(every).items()):
        if reason:
            report.say(f"  {count:,} questions left out: {reason}")
    found = [number for number, reason in zip(numbers, every, strict=True) if not reason]
    if len(found) < settings.prompts_per_step:
        raise TrainError(
            f"{release.name} has {len(found):,} questions with a prompt of at most {settings.max_prompt:,} tokens, and a step takes "
            f"{settings.prompts_per_step:,}. Raise max_prompt, lower prompts_per_step, or give a larger release."
        )
    return found


def _fault(settings: GSPO, problem: Problem, encoder: Encoder) -> str:
    try:
        fits = encoder.prompt_size(problem.messages, problem.images) <= settings.max_prompt
    except BadRow as error:
        return error.reason
    return "" if fits else f"the prompt is longer than {settings.max_prompt:,} tokens"


@dataclass(frozen=True, slots=True)
class _Run:
    settings: GSPO
    release: Release
    encoder: Encoder
    policy: Policy
    reference: Policy | None
    engine: Engine
    group: Ranks
    journal: Journal
    out: Path

    def go(self, numbers: Sequence[int], report: Reporter) -> None:
        settings = self.settings
        optimizer = adamw(self.policy, settings, self.group)
        checkpoints = Checkpoints(self.out, self.group, settings.keep)
        done = checkpoints.last()
        self.journal.begin(settings, self.release.name, self.release.identity, done)
        checkpoints.load(self.policy, optimizer)
        history: list[Mapping[str, float]] = [
            line for line in self.journal.lines() if line["step"] <= done
        ]
        report.say(
            f"  {settings.steps:,} steps of {settings.prompts_per_step} of {len(numbers):,} questions x {settings.rollouts}"
        )
        with report.bar(settings.loss, settings.steps, "steps") as bar:
            bar.advance(done)
            for chosen in islice(
                prompt_order(numbers, settings.prompts_per_step, settings.seed, done),
                settings.steps - done,
            ):
                values = self._step(chosen, done, optimizer)
                done += 1
                self.journal.add(done, values)
                bar.advance(
                    1,
                    f"accuracy {values['accuracy']:.3f}  length {values['length']:.0f}  entropy {values['entropy']:.2f}",
                )
                history.append(values)
                check_collapse(history, settings)
                if done % settings.save_every == 0 or done == settings.steps:
                    checkpoints.save(done, self.policy, optimizer)

    def _step(
        self, chosen: Sequence[int], step: int, optimizer: torch.optim.Optimizer
    ) -> dict[str, float]:
        clock = [time.perf_counter()]
        problems = [
            self.release.problem(number) for number in chosen[self.group.rank :: self.group.world]
        ]
        prompts = [self.encoder.prompt(problem.messages, problem.images) for problem in problems]
        self.engine.sync(self.policy)
        settings = self.settings
        sampling = Sampling(
            settings.rollouts, settings.max_tokens, settings.temperature, seed=settings.seed
        )
        sampled = self.engine.sample(problems, prompts, sampling, step)
        clock.append(time.perf_counter())
        answers = judge(problems, sampled, self.encoder, self.settings)
        clock.append(time.perf_counter())
        watched = Watched()
        batches = [self._packs(prompts, answers, part) for part in range(self.settings.minibatches)]
        if self.settings.minibatches > 1 or self.reference is not None:
            batches = [[self._remembered(pack, watched) for pack in packs] for packs in batches]
        clock.append(time.perf_counter())
        lr = settings.lr * min(1.0, (step + 1) / max(1, settings.warmup))
        for part in optimizer.param_groups:
            part["lr"] = lr
        for packs in batches:
            self._update(packs, optimizer, watched)
        clock.append(time.perf_counter())
        return self._measures(answers, watched, clock) | {"lr": lr}

    def _packs(
        self, prompts: Sequence[Example], answers: Sequence[Sequence[Answer]], part: int
    ) -> list[Pack]:
        """One mini-batch of this rank: the answers that teach something, packed. Every rank has equally many packs, some empty."""
        size = len(prompts) // self.settings.minibatches
        kept = [
            (prompts[place], answer)
            for place in range(part * size, (part + 1) * size)
            for answer in answers[place]
            if not math.isnan(answer.advantage)
        ]
        examples = [whole(prompt, answer.sampled) for prompt, answer in kept]
        lengths = np.array([len(example) for example in examples], dtype=np.int64)
        capacity = max([self.settings.pack_length, *lengths.tolist()])
        packed: list[list[int]] = first_fit(range(len(examples)), lengths, capacity)
        packed += [[] for _ in range(self.group.most(len(packed)) - len(packed))]
        return [
            self._pack([examples[place] for place in places], [kept[place][1] for place in places])
            for places in packed
        ]

    def _pack(self, examples: Sequence[Example], answers: Sequence[Answer]) -> Pack:
        device = self.group.device
        logps = [answer.sampled.logps for answer in answers]
        known = [np.array(one) for one in logps if one is not None]
        engine = (
            torch.from_numpy(np.concatenate(known)).float().to(device)
            if known and len(known) == len(logps)
            else None
        )
        worth = torch.tensor(
            [answer.advantage for answer in answers], dtype=torch.float32, device=device
        )
        return Pack(collate(examples, self.encoder), worth, engine)

    @torch.no_grad()
    def _remembered(self, pack: Pack, watched: Watched) -> Pack:
        """With the log-probabilities of the policy as it is now, and of the reference."""
        batch = pack.batch.to(self.group.device)
        old, entropy = self.policy(batch, self.settings.temperature)
        watched.entropy += float(entropy.sum())
        watched.targets += len(entropy)
        reference = (
            None if self.reference is None else self.reference(batch, self.settings.temperature)[0]
        )
        return replace(pack, old=old, reference=reference)

    def _update(
        self, packs: Sequence[Pack], optimizer: torch.optim.Optimizer, watched: Watched
    ) -> None:
        """One optimizer step over a mini-batch of all ranks; none where no answer teaches anything."""
        settings = self.settings
        answers, targets = self.group.sum(
            sum(len(pack.advantages) for pack in packs),
            sum(len(pack.batch.labels) for pack in packs),
        )
        if not answers:
            return
        total = targets if settings.loss == "dapo" else answers
        for pack in packs:
            batch = pack.batch.to(self.group.device)
            new, entropy = self.policy(batch, settings.temperature)
            if pack.old is None:
                watched.entropy += float(entropy.sum())
                watched.targets += len(entropy)
            old = new.detach() if pack.old is None else pack.old
            tokens = Tokens(old, batch.sequence, pack.advantages, pack.engine)
            found = LOSSES[settings.loss](
                new, tokens, settings.clip, total, settings.importance_cap
            )
            loss = found.loss
            if pack.reference is not None:
                loss = loss + settings.kl * kl(
                    new, pack.reference, batch.sequence, len(pack.advantages), answers
                )
            torch.autograd.backward(loss * self.group.world)  # FSDP takes the mean over ranks
            watched.ratio += float(found.ratio)
            watched.drift += float(found.drift)
            watched.clipped += float(found.clipped)
            watched.compared += found.count
        watched.norm += clip_gradients(self.policy, settings.grad_clip)
        watched.updates += 1
        optimizer.step()
        optimizer.zero_grad()

    def _measures(
        self, answers: Sequence[Sequence[Answer]], watched: Watched, clock: Sequence[float]
    ) -> dict[str, float]:
        """Means over all ranks."""
        counted = counts(answers)
        rewards = sum(answer.reward or 0.0 for group in answers for answer in group)
        names = sorted(counted)
        sums = dict(zip(names, self.group.sum(*(counted[name] for name in names)), strict=True))
        reward, entropy, targets, ratio, drift, clipped, compared = self.group.sum(
            rewards,
            watched.entropy,
            watched.targets,
            watched.ratio,
            watched.drift,
            watched.clipped,
            watched.compared,
        )
        phases = dict(
            zip(PHASES, (after - before for before, after in pairwise(clock)), strict=True)
        )
        return {
            "accuracy": sums["right"] / sums["answers"],
            "reward": reward / max(1, sums["rewarded"]),
            "formatted": sums["formatted"] / sums["answers"],
            "undecided": 1 - sums["decided"] / sums["answers"],
            "truncated": sums["truncated"] / sums["answers"],
            "length": sums["tokens"] / sums["answers"],
            "zero_variance": sums["zero_variance"] / sums["groups"],
            "kept": sums["kept"] / sums["answers"],
            "entropy": entropy / max(1, targets),
            "ratio": ratio / max(1, compared),
            "drift": drift / max(1, compared),
            "clip_fraction": clipped / max(1, compared),
            "grad_norm": watched.norm / max(1, watched.updates),
            **{f"seconds_{name}": seconds for name, seconds in phases.items()},
            "tokens_per_second": sums["tokens"] / (clock[-1] - clock[0]),
        }


def check_collapse(history: Sequence[Mapping[str, float]], settings: GSPO) -> None:
    """Looks at what every step measured.

    Raises:
        CollapseError: the gradient is no number; or accuracy over the last `window` steps is under the share `collapse` of what it
            was over the best ones; or for a whole window no group had anything to teach.
    """
    window, last = settings.window, history[-1]
    kept = f"Checkpoints are kept, one for every {settings.save_every} steps."
    advice = f"{kept} Begin again in another folder with a lower lr than {settings.lr:g}."
    if not math.isfinite(last["grad_norm"]):
        raise CollapseError(f"step {len(history):,}: the gradient is no number. {advice}")
    if len(history) < 2 * window:
        return
    means = np.convolve(
        [values["accuracy"] for values in history], np.ones(window) / window, "valid"
    )
    if means[-1] < settings.collapse * means.max():
        raise CollapseError(
            f"step {len(history):,}: accuracy collapsed to {means[-1]:.3f} over {window} steps, from {means.max():.3f} at its best; "
            f"entropy {last['entropy']:.2f}, {last['truncated']:.0%} of answers truncated. {advice}"
        )
    if all(values["zero_variance"] == 1 for values in history[-window:]):
        raise CollapseError(
            f"step {len(history):,}: in {window} steps no question had answers of different worth (accuracy {last['accuracy']:.3f}): "
            "there is nothing to learn from. Choose questions whose pass rate is inside (0, 1), or raise the temperature."
        )
