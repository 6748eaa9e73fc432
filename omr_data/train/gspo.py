"""Reinforcement learning with verified rewards: GSPO, and with `loss` GRPO or DAPO.

In one step the policy answers each prompt several times. The completions are verified and compared
within their group, and what is left is learned from in mini-batches, each an optimizer step.
Departures from the papers are listed in `losses.py`.

The log-probabilities of the policy that sampled come from a forward pass of the trainer before the
first update, at the sampling temperature, and never from the engine that sampled. With one
mini-batch that pass is the one of the update: the ratio is always 1, and the clip cannot act. The
published run was made so.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from omr_data.errors import BadRow, TrainError
from omr_data.train.batches import PackedBatch, collate
from omr_data.train.chat import Encoder, Example
from omr_data.train.losses import LOSSES, LossInputs, kl
from omr_data.train.model import Policy, load_policy
from omr_data.train.optim import clip_gradients, set_lr, warmup_lr
from omr_data.train.order import first_fit, prompt_order
from omr_data.train.ranks import ranks
from omr_data.train.rewards import (
    ScoredCompletion,
    concat_prompt_response,
    score_rollouts,
)
from omr_data.train.run import RunInputs, TrainingLoop
from omr_data.train.samplers.base import PolicySampler, SamplingParams
from omr_data.train.samplers.hf import HFSampler
from omr_data.train.samplers.vllm import VLLMSampler
from omr_data.train.settings import GSPO
from omr_data.train.watch import StepStats, StepTimer, check_collapse, step_measures

PANELS = (
    ("accuracy", "formatted"),
    ("length",),
    ("entropy",),
    ("ratio",),
    ("clip_fraction",),
    ("kept", "zero_variance"),
    ("grad_norm",),
    ("seconds_sample", "seconds_update"),
    ("truncated", "undecided"),
)
"""The measures that are drawn together, for each panel of the curves."""
OWN_ENGINE = "transformers"
"""The setting `engine` of a policy that samples by itself."""


@dataclass(frozen=True, slots=True)
class RolloutPack:
    """Some completions as one batch, with what their loss needs.

    It stays in host memory until its turn: the images of a whole step would fill a GPU.
    """

    batch: PackedBatch
    """Prompts and completions, packed."""
    advantages: Float[Tensor, " completions"]
    """The advantage of each completion, on the device."""
    engine_logprobs: Float[Tensor, " targets"] | None
    """Log-probabilities as the sampling engine gave them, if it did for all completions."""
    old_logprobs: Float[Tensor, " targets"] | None = None
    """Log-probabilities before the first update. None where the update's own pass gives them."""
    reference_logprobs: Float[Tensor, " targets"] | None = None
    """Log-probabilities by the model that the run began with, where `kl` is above 0."""


def train(settings: GSPO, data: str, out: Path) -> Path:
    """Trains on the questions of a release. The same call continues a run that was interrupted.

    Args:
        settings: The settings of the run.
        data: The release: a folder, or organization/name@version on the Hub.
        out: The run's folder.

    Returns:
        The folder of the trained model, `out`/model.

    Raises:
        TrainError: The release, the model or the settings do not fit.
        CollapseError: Accuracy fell far below its best, or no group has anything to teach.
    """
    with ranks() as group:
        parts = group.world * settings.minibatches
        if settings.prompts_per_step % parts:
            raise TrainError(
                f"prompts_per_step is {settings.prompts_per_step}, and must be a multiple of "
                f"{parts}: {settings.minibatches} mini-batches on {group.world} processes."
            )
        # Prompts are checked before the model is loaded: that takes seconds, loading takes minutes.
        inputs = RunInputs.open(settings, data, out, group)
        numbers = _usable_prompts(settings, inputs)
        loop = TrainingLoop(inputs, load_policy(settings, group, settings.seed))
        reference = None
        if settings.kl > 0:
            # Random weights too are the same here, as the seed is.
            reference = load_policy(settings, group, settings.seed)
        sampler: PolicySampler = HFSampler(loop.policy, inputs.encoder, group)
        if settings.engine != OWN_ENGINE:
            folder = out / "served"
            sampler = VLLMSampler(
                settings.engine, folder, loop.policy, inputs.encoder, group, inputs.half
            )
        method = PolicyOptimization(
            settings, inputs, loop.policy, reference, loop.optimizer, sampler, numbers
        )
        title = f"{settings.loss.upper()} of {settings.model} on {inputs.release.name}"
        return loop.run(method, title)


def _usable_prompts(settings: GSPO, inputs: RunInputs) -> list[int]:
    """The row numbers of prompts that can be used. Says how many cannot, and why."""
    release, report = inputs.release, inputs.report
    numbers = release.prompt_numbers()
    # Reasons and not exceptions, so that ranks can share the work and count together.
    reasons: list[str] = []  # why a prompt cannot be used; "" for one that can
    for number in inputs.ranks.shard(numbers):
        prompt = release.prompt(number)
        reason = ""
        try:
            if inputs.encoder.prompt_size(prompt.messages, prompt.images) > settings.max_prompt:
                reason = f"the prompt is longer than {settings.max_prompt:,} tokens"
        except BadRow as error:
            reason = error.reason
        reasons.append(reason)
    every = inputs.ranks.all_gather(reasons, len(numbers))
    for reason, count in sorted(Counter(every).items()):
        if reason:
            report.say(f"  {count:,} questions left out: {reason}")
    usable = [number for number, reason in zip(numbers, every, strict=True) if not reason]
    if len(usable) < settings.prompts_per_step:
        raise TrainError(
            f"{release.name} has {len(usable):,} questions with a prompt of at most "
            f"{settings.max_prompt:,} tokens, and a step takes {settings.prompts_per_step:,}. "
            "Raise max_prompt, lower prompts_per_step, or give a larger release."
        )
    return usable


@dataclass(frozen=True, slots=True)
class PolicyOptimization:
    """The steps of GSPO, GRPO and DAPO, for `TrainingLoop`."""

    panels: ClassVar[Sequence[Sequence[str]]] = PANELS
    """The measures that are drawn together."""
    settings: GSPO
    """The settings of the run."""
    inputs: RunInputs
    """Its data."""
    policy: Policy
    """The policy that is trained."""
    reference: Policy | None
    """The model that the run began with, where `kl` is above 0."""
    optimizer: torch.optim.Optimizer
    """The policy's optimizer."""
    sampler: PolicySampler
    """Samples completions from the policy."""
    numbers: Sequence[int]
    """The row numbers of the prompts."""

    @property
    def name(self) -> str:
        """The name of the loss."""
        return self.settings.loss

    @property
    def total(self) -> int:
        """Steps of the run."""
        return self.settings.steps

    @property
    def summary(self) -> str:
        """What a step consists of."""
        settings = self.settings
        chosen = f"{settings.prompts_per_step} of {len(self.numbers):,} questions"
        return f"{chosen} x {settings.rollouts}"

    def steps(self, first: int) -> Iterator[dict[str, float]]:
        """Trains from step `first` to the last one, and yields the measures of each."""
        settings = self.settings
        order = prompt_order(self.numbers, settings.prompts_per_step, settings.seed, first)
        for step, numbers in enumerate(islice(order, self.total - first), first):
            yield self._step(step, self.inputs.ranks.shard(numbers))

    def note(self, values: Mapping[str, float]) -> str:
        """Returns the accuracy, length and entropy of a step."""
        return (
            f"accuracy {values['accuracy']:.3f}  length {values['length']:.0f}  "
            f"entropy {values['entropy']:.2f}"
        )

    def check(self, history: Sequence[Mapping[str, float]]) -> None:
        """Raises CollapseError where going on is useless."""
        check_collapse(history, self.settings)

    def _step(self, step: int, numbers: Sequence[int]) -> dict[str, float]:
        settings, encoder = self.settings, self.inputs.encoder
        timer = StepTimer()
        prompts = [self.inputs.release.prompt(number) for number in numbers]
        encoded = [encoder.prompt(prompt.messages, prompt.images) for prompt in prompts]
        # Before every step: sampling from older weights would make the ratio start off 1.
        self.sampler.sync()
        params = SamplingParams(
            settings.rollouts, settings.max_tokens, settings.temperature, seed=settings.seed
        )
        sampled = self.sampler.sample(prompts, encoded, params, step)
        timer.end("sample")
        rollouts = score_rollouts(prompts, sampled, encoder, settings)
        timer.end("verify")
        stats = StepStats()
        size = len(prompts) // settings.minibatches
        minibatches = []
        for start in range(0, len(prompts), size):
            part = slice(start, start + size)
            minibatches.append(self._packs(encoded[part], rollouts[part]))
        # With a single mini-batch the policy does not change before its update, so the update's own
        # pass gives the old log-probabilities, at half the cost.
        if settings.minibatches > 1 or self.reference is not None:
            minibatches = [
                [self._with_old_logprobs(pack, stats) for pack in packs] for packs in minibatches
            ]
        timer.end("old_logprobs")
        lr = warmup_lr(settings.lr, step, settings.warmup)
        set_lr(self.optimizer, lr)
        for packs in minibatches:
            self._update(packs, stats)
        timer.end("update")
        return step_measures(rollouts, stats, timer, self.inputs.ranks) | {"lr": lr}

    def _packs(
        self, encoded: Sequence[Example], rollouts: Sequence[Sequence[ScoredCompletion]]
    ) -> list[RolloutPack]:
        """The completions of one mini-batch that are learned from, packed."""
        examples: list[Example] = []
        learned: list[ScoredCompletion] = []
        for prompt, group in zip(encoded, rollouts, strict=True):
            for scored in group:
                if not math.isnan(scored.advantage):
                    examples.append(concat_prompt_response(prompt, scored.completion))
                    learned.append(scored)
        # Completions without an advantage cost nothing further: they are not packed.
        lengths = np.array([len(example) for example in examples], dtype=np.int64)
        # A completion longer than a pack gets one of its own.
        capacity = max([self.settings.pack_length, *lengths.tolist()])
        packs = first_fit(range(len(examples)), lengths, capacity)
        # Each forward pass is a collective call, so every rank makes equally many; some are empty.
        packs += [[] for _ in range(self.inputs.ranks.all_reduce_max(len(packs)) - len(packs))]
        device, encoder = self.inputs.ranks.device, self.inputs.encoder
        return [
            pack_rollouts(
                [examples[place] for place in places],
                [learned[place] for place in places],
                encoder,
                device,
            )
            for places in packs
        ]

    @torch.no_grad()
    def _with_old_logprobs(self, pack: RolloutPack, stats: StepStats) -> RolloutPack:
        """The pack with the log-probabilities by the policy as it is now, and by the reference."""
        batch = pack.batch.to(self.inputs.ranks.device)
        # At the sampling temperature: the ratio compares the distributions that were sampled from.
        old, entropy = self.policy(batch, self.settings.temperature)
        stats.entropy += float(entropy.sum())
        stats.targets += len(entropy)
        reference = None
        if self.reference is not None:
            reference, _ = self.reference(batch, self.settings.temperature)
        return replace(pack, old_logprobs=old, reference_logprobs=reference)

    def _update(self, packs: Sequence[RolloutPack], stats: StepStats) -> None:
        """One optimizer step on a mini-batch of all ranks; none where nothing is learned from."""
        settings, group = self.settings, self.inputs.ranks
        # Over all ranks, so that the mean does not depend on how completions were assigned.
        completions, targets = group.all_reduce_sum(
            sum(len(pack.advantages) for pack in packs),
            sum(len(pack.batch.labels) for pack in packs),
        )
        if not completions:
            # No optimizer step either: AdamW would still decay weights and move by its averages.
            return
        total = targets if settings.loss == "dapo" else completions
        for pack in packs:
            batch = pack.batch.to(group.device)
            new, entropy = self.policy(batch, settings.temperature)
            old = pack.old_logprobs
            if old is None:
                old = new.detach()
                stats.entropy += float(entropy.sum())
                stats.targets += len(entropy)
            inputs = LossInputs(old, batch.sequence, pack.advantages, pack.engine_logprobs)
            outputs = LOSSES[settings.loss](
                new, inputs, settings.clip, total, settings.importance_cap
            )
            loss = outputs.loss
            if pack.reference_logprobs is not None:
                count = len(pack.advantages)
                divergence = kl(new, pack.reference_logprobs, batch.sequence, count, completions)
                loss = loss + settings.kl * divergence
            # FSDP takes the mean over ranks, and a batch's loss is a sum over them.
            torch.autograd.backward(loss * group.world)
            stats.ratio += float(outputs.ratio)
            stats.log_ratio_abs += float(outputs.log_ratio_abs)
            stats.clipped += float(outputs.clipped)
            stats.compared += outputs.count
        # After all packs: clipping each would weigh packs by their number of completions.
        stats.norm += clip_gradients(self.policy, settings.grad_clip)
        stats.updates += 1
        self.optimizer.step()
        self.optimizer.zero_grad()


def pack_rollouts(
    examples: Sequence[Example],
    completions: Sequence[ScoredCompletion],
    encoder: Encoder,
    device: torch.device,
) -> RolloutPack:
    """Makes a pack of completions that fit into one.

    Args:
        examples: Prompts and completions as one sequence each.
        completions: The same completions with their advantages.
        encoder: Gives the placeholder of a pack without images.
        device: Where advantages and log-probabilities are needed.
    """
    logprobs = [one.completion.logprobs for one in completions]
    known = [np.array(values) for values in logprobs if values is not None]
    engine_logprobs = None
    # A correction of some completions and not of others would favor one kind.
    if known and len(known) == len(logprobs):
        engine_logprobs = torch.from_numpy(np.concatenate(known)).float().to(device)
    # float32, as the policy's log-probabilities are; rewards themselves were computed in float64.
    values = [one.advantage for one in completions]
    advantages = torch.tensor(values, dtype=torch.float32, device=device)
    return RolloutPack(collate(examples, encoder), advantages, engine_logprobs)
