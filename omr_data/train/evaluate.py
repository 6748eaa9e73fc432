"""How good a model is: accuracy of greedy or sampled answers with this project's verifiers.

**Accuracy**: the share of all answers that are RIGHT. What stays UNDECIDED is not right, and is
counted apart.
**pass@k**: the chance that at least one of k answers is right, 1 - C(n - c, k) / C(n, k) for c
right ones of n (Chen et al., arXiv 2107.03374, equation 1).

Intervals are of 95%: Wilson's for one answer to each question, else a bootstrap over questions,
since the answers to one question are not independent.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from omr_data.errors import BadRow, TrainError
from omr_data.progress import reporter
from omr_data.records import RIGHT, UNDECIDED
from omr_data.train.chat import Encoder, Example
from omr_data.train.model import load_policy
from omr_data.train.ranks import ranks
from omr_data.train.release import PolicyPrompt
from omr_data.train.rewards import verify_texts
from omr_data.train.samplers.base import PolicySampler, SamplingParams
from omr_data.train.samplers.hf import MAX_COMPLETIONS, HFSampler
from omr_data.train.settings import Eval

if TYPE_CHECKING:
    from numpy.typing import NDArray

RESAMPLES = 2_000
"""Samples of the bootstrap."""
Z_95 = 1.959964
"""Standard deviations of the normal distribution that hold 95% of it."""


@dataclass(frozen=True, slots=True)
class ProblemResult:
    """A question with its answers and their verdicts."""

    id: str
    """The id of the question."""
    source: str
    """The dataset that it comes from."""
    gold: str
    """The accepted answer."""
    texts: tuple[str, ...]
    """The model's answers."""
    outcomes: tuple[str, ...]
    """The verdict on each: RIGHT, WRONG or UNDECIDED."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its interval of 95%."""

    value: float
    """The estimate."""
    low: float
    """The lower end."""
    high: float
    """The upper end."""

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True, slots=True)
class Score:
    """What was measured."""

    model: str
    """The model as it was given."""
    data: str
    """The release or source as it was given."""
    questions: int
    """Questions that were asked."""
    answers: int
    """Answers to them."""
    accuracy: Interval
    """The share of answers that are RIGHT."""
    pass_at: Mapping[int, Interval]
    """pass@k by k."""
    undecided: float
    """The share of answers that are UNDECIDED."""
    by_source: Mapping[str, Interval]
    """Accuracy by the source of the question."""
    skipped: Mapping[str, int]
    """Questions that could not be asked, by reason."""

    def to_json(self) -> dict[str, Any]:
        """Returns the score as plain values."""
        return asdict(self)


def evaluate(
    settings: Eval,
    prompts: Sequence[PolicyPrompt],
    data: str,
    bad: Mapping[str, int] | None = None,
) -> tuple[Score, list[ProblemResult]]:
    """Asks a model questions and verifies its answers. Under `torchrun`, the processes share them.

    Args:
        settings: The model, and how it answers.
        prompts: The questions.
        data: The name of what they come from.
        bad: Rows of the data that hold no question, by reason. They are added to those skipped.

    Raises:
        TrainError: The model cannot be loaded, or no question is left.
    """
    chosen = list(prompts[: settings.questions])
    if not chosen:
        raise TrainError(f"{data} has no question.")
    with ranks() as group:
        encoder = Encoder(settings.folder, settings.revision_of_model, settings.max_pixels)
        sampler = HFSampler(load_policy(settings, group, settings.seed), encoder, group)
        # Sampling is a collective call, so each process gets equally many questions; the first one
        # is repeated where they do not divide, and the surplus answers are dropped.
        padded = chosen + chosen[:1] * (-len(chosen) % group.world)
        mine = group.shard(padded)
        found: list[ProblemResult | str] = []
        report = reporter(Console(stderr=True, quiet=not group.is_main))
        # In parts, so that progress shows and images are decoded for one part at a time.
        at_once = max(1, MAX_COMPLETIONS // settings.n)
        with report.bar("evaluating", len(mine), "questions") as bar:
            for start in range(0, len(mine), at_once):
                part = mine[start : start + at_once]
                found += ask(sampler, encoder, part, settings, start // at_once)
                bar.advance(len(part))
        # A reason is a string and a result is not, so both can travel in one list.
        every = group.all_gather(found, len(chosen))
        skipped = Counter(bad) + Counter(one for one in every if isinstance(one, str))
        for reason, count in sorted(skipped.items()):
            report.say(f"  {count:,} questions left out: {reason}")
    results = [one for one in every if isinstance(one, ProblemResult)]
    if not results:
        raise TrainError(
            f"no question of {data} can be put to {settings.model}: {', '.join(sorted(skipped))}."
        )
    return score(results, settings, data, skipped), results


def ask(
    sampler: PolicySampler,
    encoder: Encoder,
    prompts: Sequence[PolicyPrompt],
    settings: Eval,
    step: int,
) -> list[ProblemResult | str]:
    """Asks some questions.

    Args:
        sampler: Samples the answers.
        encoder: Encodes questions and decodes answers.
        prompts: The questions.
        settings: How to sample.
        step: The number of this call. Each has random numbers of its own.

    Returns:
        The result of each question, or the reason why it cannot be asked.
    """
    encoded: list[Example] = []
    askable: list[PolicyPrompt] = []
    reasons: list[str] = []  # "" for a question that can be asked
    for prompt in prompts:
        try:
            encoded.append(encoder.prompt(prompt.messages, prompt.images))
            askable.append(prompt)
            reasons.append("")
        except BadRow as error:
            reasons.append(error.reason)
    params = SamplingParams(
        settings.n, settings.max_tokens, settings.temperature, settings.top_p, settings.seed
    )
    sampled = sampler.sample(askable, encoded, params, step)
    texts = [[encoder.text(one.ids) for one in completions] for completions in sampled]
    ended = [[one.ended for one in completions] for completions in sampled]
    outcomes = verify_texts(askable, texts, ended)
    # Questions that cannot be asked keep their place in the result, so `all_gather` finds order.
    results = iter(
        ProblemResult(prompt.id, prompt.source, prompt.gold, tuple(said), tuple(given))
        for prompt, said, given in zip(askable, texts, outcomes, strict=True)
    )
    return [reason or next(results) for reason in reasons]


def score(
    results: Sequence[ProblemResult], settings: Eval, data: str, skipped: Mapping[str, int]
) -> Score:
    """Computes the measures of some results.

    Args:
        results: The questions with their answers.
        settings: How they were asked.
        data: The name of what they come from.
        skipped: Questions that could not be asked, by reason.
    """
    n = settings.n
    rates = np.array([one.outcomes.count(RIGHT) / n for one in results])
    sources = np.array([one.source for one in results])
    chances = {k: np.array([pass_at(one.outcomes, k) for one in results]) for k in settings.pass_at}
    undecided = sum(one.outcomes.count(UNDECIDED) for one in results)
    return Score(
        model=settings.model,
        data=data,
        questions=len(results),
        answers=len(results) * n,
        accuracy=interval(rates, n),
        pass_at={k: interval(values, n) for k, values in chances.items()},
        undecided=undecided / (len(results) * n),
        by_source={
            str(source): interval(rates[sources == source], n) for source in np.unique(sources)
        },
        skipped=dict(sorted(skipped.items())),
    )


def pass_at(outcomes: Sequence[str], k: int) -> float:
    """Returns the chance that one of k answers is right, over all ways to choose k of these."""
    # Binomials are exact integers in Python, so nothing is lost for large n.
    n, right = len(outcomes), list(outcomes).count(RIGHT)
    return 1 - math.comb(n - right, k) / math.comb(n, k)


def interval(values: "NDArray[np.float64]", n: int) -> Interval:
    """Returns the mean of values from 0 to 1, one for each question, with its interval of 95%.

    Args:
        values: The values, of shape (questions,).
        n: Answers that each value is computed from.
    """
    mean, count = float(values.mean()), len(values)
    # A bootstrap of equal values has no width, which would claim certainty.
    if n == 1 or values.std() == 0:
        scale = 1 + Z_95**2 / count
        middle = (mean + Z_95**2 / (2 * count)) / scale
        variance = mean * (1 - mean) / count + Z_95**2 / (4 * count**2)
        spread = Z_95 * math.sqrt(variance) / scale
        return Interval(mean, max(0.0, middle - spread), min(1.0, middle + spread))
    # A fixed key: the same answers always have the same interval.
    random = np.random.Generator(np.random.Philox(key=0))
    samples = random.integers(0, count, (RESAMPLES, count))
    low, high = np.quantile(values[samples].mean(1), [0.025, 0.975])
    return Interval(mean, float(low), float(high))
