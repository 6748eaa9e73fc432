"""What is watched during reinforcement learning: the measures of a step, and signs of collapse."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from omr_data.errors import CollapseError
from omr_data.train.ranks import Ranks
from omr_data.train.rewards import ScoredCompletion, reward_counts
from omr_data.train.settings import GSPO


@dataclass(slots=True)
class StepStats:
    """Sums over the tokens and updates of a step, on this rank."""

    entropy: float = 0.0
    """Entropies of the policy at the targets, in nats."""
    targets: int = 0
    """Targets that `entropy` is over."""
    ratio: float = 0.0
    """Ratios of new to old probabilities."""
    log_ratio_abs: float = 0.0
    """Absolute logarithms of these ratios."""
    clipped: float = 0.0
    """Ratios that the clip acted on."""
    compared: int = 0
    """How many ratios there were."""
    norm: float = 0.0
    """Norms of the gradients before clipping."""
    updates: int = 0
    """Optimizer steps."""


class StepTimer:
    """Seconds of each phase of a step."""

    def __init__(self) -> None:
        """Starts the first phase."""
        self.seconds: dict[str, float] = {}
        self._began = time.perf_counter()

    def end(self, phase: str) -> None:
        """Ends a phase and starts the next one."""
        now = time.perf_counter()
        self.seconds[phase] = now - self._began
        self._began = now


def step_measures(
    rollouts: Sequence[Sequence[ScoredCompletion]],
    stats: StepStats,
    timer: StepTimer,
    ranks: Ranks,
) -> dict[str, float]:
    """Computes the measures of a step, as means over all ranks.

    Args:
        rollouts: The completions of this rank.
        stats: The sums of this rank.
        timer: The seconds of its phases.
        ranks: The processes of the run.
    """
    counts = reward_counts(rollouts)
    # One collective call for all counts, in an order that is the same on every rank.
    names = sorted(counts)
    sums = dict(zip(names, ranks.all_reduce_sum(*(counts[name] for name in names)), strict=True))
    rewards = sum(sum(one.reward or 0.0 for one in group) for group in rollouts)
    reward, entropy, targets, ratio, log_ratio_abs, clipped, compared = ranks.all_reduce_sum(
        rewards,
        stats.entropy,
        stats.targets,
        stats.ratio,
        stats.log_ratio_abs,
        stats.clipped,
        stats.compared,
    )
    completions = sums["completions"]
    # A step in which nothing is learned from has no ratio and no gradient, and is written as 0.
    compared = max(1, compared)
    values = {
        "accuracy": sums["right"] / completions,
        "reward": reward / max(1, sums["rewarded"]),
        "formatted": sums["formatted"] / completions,
        "undecided": 1 - sums["decided"] / completions,
        "truncated": sums["truncated"] / completions,
        "length": sums["tokens"] / completions,
        "zero_variance": sums["zero_variance"] / sums["groups"],
        "kept": sums["kept"] / completions,
        "entropy": entropy / max(1, targets),
        "ratio": ratio / compared,
        "log_ratio_abs": log_ratio_abs / compared,
        "clip_fraction": clipped / compared,
        "grad_norm": stats.norm / max(1, stats.updates),
    }
    values |= {f"seconds_{phase}": seconds for phase, seconds in timer.seconds.items()}
    values["tokens_per_second"] = sums["tokens"] / sum(timer.seconds.values())
    return values


def check_collapse(history: Sequence[Mapping[str, float]], settings: GSPO) -> None:
    """Looks at the measures of all steps.

    Raises:
        CollapseError: The gradient is not finite; accuracy over the last `window` steps is under
            the share `collapse` of its best; or no group had anything to teach for a whole window.
    """
    window, last, step = settings.window, history[-1], len(history)
    advice = (
        f"Checkpoints are kept, one for every {settings.save_every} steps. "
        f"Begin again in another folder with a lower lr than {settings.lr:g}."
    )
    if not math.isfinite(last["grad_norm"]):
        raise CollapseError(f"step {step:,}: the gradient is not finite. {advice}")
    # One window to compare with and one to judge: fewer steps say nothing.
    if step < 2 * window:
        return
    accuracy = [values["accuracy"] for values in history]
    # Over a window: accuracy of a single step has a standard error of several points.
    means = np.convolve(accuracy, np.ones(window) / window, "valid")
    if means[-1] < settings.collapse * means.max():
        raise CollapseError(
            f"step {step:,}: accuracy collapsed to {means[-1]:.3f} over {window} steps, "
            f"from {means.max():.3f} at its best; entropy {last['entropy']:.2f}, "
            f"{last['truncated']:.0%} of answers truncated. {advice}"
        )
    if all(values["zero_variance"] == 1 for values in history[-window:]):
        raise CollapseError(
            f"step {step:,}: in {window} steps no question had answers of different reward "
            f"(accuracy {last['accuracy']:.3f}): there is nothing to learn from. "
            "Choose questions whose pass rate is inside (0, 1), or raise the temperature."
        )
