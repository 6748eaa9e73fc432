"""How good a model is: accuracy of greedy or sampled answers with this project's verifiers.

**Accuracy**: the share of the answers that count which are RIGHT, averaged over questions. Which
answers count is the rule of `verifiers.rates`: what was cut off or timed out is left out and shown
apart, and any other UNDECIDED answer is not right.
**pass@k**: the chance that at least one of k answers is right, 1 - C(n - c, k) / C(n, k) for c
right ones of n that count (Chen et al., arXiv 2107.03374, equation 1). Questions with fewer than k
answers that count are left out of it.

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
from omr_data.verifiers import rates

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
    counted: tuple[bool, ...]
    """Whether each counts (see `verifiers.rates`)."""

    @property
    def counted_outcomes(self) -> list[str]:
        """The verdicts on the answers that count."""
        pairs = zip(self.outcomes, self.counted, strict=True)
        return [outcome for outcome, counts in pairs if counts]


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
    """The share of the answers that count which are RIGHT."""
    pass_at: Mapping[int, Interval]
    """pass@k by k."""
    undecided: float
    """The share of all answers that are UNDECIDED."""
    left_out: float
    """The share of all answers that do not count: cut off or timed out."""
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
    verdicts = verify_texts(askable, texts, ended)
    # Questions that cannot be asked keep their place in the result, so `all_gather` finds order.
    results = []
    for prompt, said, given, whole in zip(askable, texts, verdicts, ended, strict=True):
        outcomes = tuple(verdict.outcome for verdict in given)
        counted = tuple(
            rates.counts(verdict, "stop" if by_itself else "length")
            for verdict, by_itself in zip(given, whole, strict=True)
        )
        results.append(
            ProblemResult(prompt.id, prompt.source, prompt.gold, tuple(said), outcomes, counted)
        )
    in_order = iter(results)
    return [reason or next(in_order) for reason in reasons]


def score(
    results: Sequence[ProblemResult], settings: Eval, data: str, skipped: Mapping[str, int]
) -> Score:
    """Computes the measures of some results.

    Args:
        results: The questions with their answers.
        settings: How they were asked.
        data: The name of what they come from.
        skipped: Questions that could not be asked, by reason.

    Raises:
        TrainError: No answer counts.
    """
    n = settings.n
    answers = len(results) * n
    asked = [(one.source, one.counted_outcomes) for one in results]
    asked = [(source, outcomes) for source, outcomes in asked if outcomes]
    if not asked:
        raise TrainError(
            f"none of the {answers:,} answers of {settings.model} to {data} counts: they were cut "
            f"off or timed out. Give more than max_tokens={settings.max_tokens:,}."
        )
    shares = np.array([outcomes.count(RIGHT) / len(outcomes) for _, outcomes in asked])
    sources = np.array([source for source, _ in asked])
    chances: dict[int, NDArray[np.float64]] = {}
    for k in settings.pass_at:
        enough = [pass_at(outcomes, k) for _, outcomes in asked if len(outcomes) >= k]
        # A k that no question has answers enough for is left out: 0 would read as a result.
        if enough:
            chances[k] = np.array(enough)
    undecided = sum(one.outcomes.count(UNDECIDED) for one in results)
    left_out = sum(one.counted.count(False) for one in results)
    return Score(
        model=settings.model,
        data=data,
        questions=len(results),
        answers=answers,
        accuracy=interval(shares, n),
        pass_at={k: interval(values, n) for k, values in chances.items()},
        undecided=undecided / answers,
        left_out=left_out / answers,
        by_source={
            str(source): interval(shares[sources == source], n) for source in np.unique(sources)
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
