"""How good a model is: sampled or greedy accuracy with this project's verifiers, over a release or a source, with intervals.

**Accuracy**: the share of all answers that are RIGHT; what stays UNDECIDED is not right, and is counted apart. **pass@k**: the
chance that at least one of k answers is right, 1 - C(n - c, k) / C(n, k) for c right ones of n (Chen et al., arXiv
2107.03374, equation 1). Intervals are of 95%: Wilson's for one answer a question, else a bootstrap over questions, since the
answers to one question are no independent draws.
"""

import importlib
import math
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
from rich.console import Console

from omr_data.arguments import read_values
from omr_data.errors import BadRow, TrainError
from omr_data.progress import reporter
from omr_data.records import RIGHT, UNDECIDED, render_question
from omr_data.source import DatasetLocator, Source
from omr_data.store.images import ImageStore, RowImages
from omr_data.train.chat import Encoder, Example
from omr_data.train.engines import ROWS, Own, Sampling
from omr_data.train.model import load_policy
from omr_data.train.ranks import ranks
from omr_data.train.rewards import outcomes
from omr_data.train.rows import Problem, open_release
from omr_data.train.settings import Eval

RESAMPLES = 2_000


@dataclass(frozen=True, slots=True)
class Answered:
    """A question with its answers and their verdicts."""

    id: str
    source: str
    gold: str
    texts: tuple[str, ...]
    outcomes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Share:
    """A share with its interval of 95%."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True, slots=True)
class Score:
    """What was measured. `by_source` has accuracies; `skipped` counts questions that could not be put, by reason."""

    model: str
    data: str
    questions: int
    answers: int
    accuracy: Share
    pass_at: Mapping[int, Share]
    undecided: float
    by_source: Mapping[str, Share]
    skipped: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def release_problems(name: str) -> list[Problem]:
    """The questions of a release. Raises TrainError where it cannot be read."""
    release = open_release(name)
    return [release.problem(number) for number in release.problems()]


def source_problems(source: Source, locator: DatasetLocator) -> tuple[list[Problem], Counter[str]]:
    """The questions of a source, put as a recipe's teacher sees them, and the rows that cannot be read, by reason. Raises SourceError."""
    files = source.download(locator)
    found: list[Problem] = []
    bad: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        images = RowImages(files.root, ImageStore(Path(folder)))
        for part in source.parts(files):
            for row in source.rows(files, part):
                try:
                    record = source.convert(row, images)
                except BadRow as error:
                    bad[error.reason] += 1
                    continue
                chat = ({"role": "user", "content": render_question(record)},)
                data = tuple(images.store.read(image) for image in record.images)
                found.append(
                    Problem(record.id, chat, data, record.answer, record.options, record.source)
                )
    return found, bad


def named_source(name: str, given: Mapping[str, str]) -> Source:
    """The Source of a module of omr_data.sources, with arguments as text. Raises TrainError."""
    try:
        kind = getattr(importlib.import_module(f"omr_data.sources.{name}"), "Source", None)
    except ImportError:
        kind = None
    if kind is None:
        raise TrainError(f"{name} is no release, and omr_data.sources has no source of that name.")
    hints = get_type_hints(kind)
    made: Source = kind(
        **read_values(name, {one.name: hints[one.name] for one in fields(kind)}, given, TrainError)
    )
    return made


def evaluate(
    settings: Eval, problems: Sequence[Problem], data: str, bad: Mapping[str, int] | None = None
) -> tuple[Score, list[Answered]]:
    """Asks the model everything and verifies its answers; `bad` are rows of the data that are no questions. Under `torchrun`, the
    questions are dealt out.

    Raises:
        TrainError: the model or the settings do not fit, or no question is left.
    """
    if settings.n > 1 and settings.temperature <= 0:
        raise TrainError(
            f"n is {settings.n} at temperature {settings.temperature}: greedy answers are all the same; give a temperature."
        )
    if wrong := [k for k in settings.pass_at if not 1 <= k <= settings.n]:
        raise TrainError(
            f"pass_at has {wrong[0]}, and n is {settings.n}: pass@k takes at least k answers."
        )
    chosen = list(problems[: settings.questions])
    if not chosen:
        raise TrainError(f"{data} has no question.")
    with ranks() as group:
        encoder = Encoder(settings.folder, settings.revision_of_model, settings.max_pixels)
        engine = Own(load_policy(settings, group, settings.seed), encoder, group)
        padded = chosen + chosen[:1] * (-len(chosen) % group.world)
        mine = padded[group.rank :: group.world]
        found: list[Answered | str] = []
        report = reporter(Console(stderr=True, quiet=not group.first))
        with report.bar("evaluating", len(mine), "questions") as bar:
            for step, part in enumerate(_groups(mine, max(1, ROWS // settings.n))):
                found += _answer(engine, encoder, part, settings, step)
                bar.advance(len(part))
        every = group.together(found)[: len(chosen)]
        skipped = Counter(bad) + Counter(one for one in every if isinstance(one, str))
        for reason, count in sorted(skipped.items()):
            report.say(f"  {count:,} questions left out: {reason}")
    answered = [one for one in every if isinstance(one, Answered)]
    if not answered:
        raise TrainError(f"no question of {data} can be put to {settings.model}.")
    return score(answered, settings, data, skipped), answered


def _groups(problems: Sequence[Problem], size: int) -> Iterator[Sequence[Problem]]:
    for start in range(0, len(problems), size):
        yield problems[start : start + size]


def _answer(
    engine: Own, encoder: Encoder, part: Sequence[Problem], settings: Eval, step: int
) -> list[Answered | str]:
    """The answers to some questions; for one that cannot be put, why."""
    prompts: list[Example] = []
    faults: list[str] = []
    for problem in part:
        try:
            prompts.append(encoder.prompt(problem.messages, problem.images))
            faults.append("")
        except BadRow as error:
            faults.append(error.reason)
    whole = [problem for problem, fault in zip(part, faults, strict=True) if not fault]
    sampling = Sampling(
        settings.n, settings.max_tokens, settings.temperature, settings.top_p, settings.seed
    )
    sampled = engine.sample(whole, prompts, sampling, step)
    texts = [[encoder.text(one.ids) for one in group] for group in sampled]
    verdicts = outcomes(whole, texts, [[one.ended for one in group] for group in sampled])
    answered = iter(
        Answered(problem.id, problem.source, problem.gold, tuple(said), tuple(given))
        for problem, said, given in zip(whole, texts, verdicts, strict=True)
    )
    return [fault or next(answered) for fault in faults]


def score(
    answered: Sequence[Answered], settings: Eval, data: str, skipped: Mapping[str, int]
) -> Score:
    """The measures of some answered questions."""
    rates = np.array([one.outcomes.count(RIGHT) / len(one.outcomes) for one in answered])
    sources = sorted({one.source for one in answered})
    of = np.array([sources.index(one.source) for one in answered])
    return Score(
        model=settings.model,
        data=data,
        questions=len(answered),
        answers=len(answered) * settings.n,
        accuracy=interval(rates, settings.n),
        pass_at={
            k: interval(np.array([pass_at(one.outcomes, k) for one in answered]), settings.n)
            for k in settings.pass_at
        },
        undecided=sum(one.outcomes.count(UNDECIDED) for one in answered)
        / (len(answered) * settings.n),
        by_source={
            source: interval(rates[of == number], settings.n)
            for number, source in enumerate(sources)
        },
        skipped=dict(sorted(skipped.items())),
    )


def pass_at(found: Sequence[str], k: int) -> float:
    """The chance that one of k answers is right, by all ways to draw k of these."""
    n, right = len(found), list(found).count(RIGHT)
    return 1 - math.comb(n - right, k) / math.comb(n, k)


def interval(values: "np.ndarray[Any, Any]", n: int) -> Share:
    """The mean of one value from 0 to 1 for each question, with its interval of 95%."""
    mean, count = float(values.mean()), len(values)
    if n == 1 or values.std() == 0:
        z = 1.959964  # of the normal distribution
        middle, spread = (
            (mean + z * z / (2 * count)),
            z * math.sqrt(mean * (1 - mean) / count + z * z / (4 * count * count)),
        )
        scale = 1 + z * z / count
        return Share(mean, max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale))
    drawn = np.random.Generator(np.random.Philox(key=0)).integers(0, count, (RESAMPLES, count))
    low, high = np.quantile(values[drawn].mean(1), [0.025, 0.975])
    return Share(mean, float(low), float(high))
