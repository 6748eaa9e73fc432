"""A recipe for tests of the engine: synthetic problems, and a slow teacher that keeps a log."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from omr_data import ALL, Map, Recipe, Record, mix, runtime_field
from omr_data.operators import difficulty, explode, rollout, verify
from omr_data.sources import synthetic
from omr_data.teacher import Answers, Batch, Budget, ReadImage, Session
from omr_data.teachers import echo


@dataclass(frozen=True)
class Logged(echo.Teacher):
    """Waits `delay` seconds for each batch; appends "key attempt" per answer to OMR_TEST_LOG."""

    delay: float = runtime_field(float(os.environ.get("OMR_TEST_DELAY", "0")))

    @contextmanager
    def open(self, workers: int, read_image: ReadImage, budget: Budget) -> Iterator[Session]:
        with super().open(workers, read_image, budget) as session:
            yield Slow(session, self.delay)


@dataclass(frozen=True)
class Slow:
    session: Session
    delay: float

    def answer(self, batches: Iterator[Batch]) -> Iterator[Answers]:
        log = Path(os.environ["OMR_TEST_LOG"])
        for answers in self.session.answer(batches):
            time.sleep(self.delay)
            lines = [
                f"{request.key} {result.attempt}\n"
                for request, results in answers
                for result in results
            ]
            with log.open("a") as stream:
                stream.write("".join(lines))
            yield answers

    def note(self) -> str:
        return self.session.note()


@dataclass(frozen=True)
class Loud(Map):
    """A step of the recipe's own, which worker processes must be able to load."""

    def apply(self, record: Record) -> Record:
        return record


def recipe(
    rollouts: int = 4, questions: int = 640, rows: int = 0, version: str = "1.0.0"
) -> Recipe:
    answered = synthetic.Source(count=questions, families=("larger", "bars", "choice")).then(
        Loud(),
        rollout.Sample(Logged(), n=rollouts),
        verify.Answers(),
        difficulty.PassRate(),
        explode.Right(),
    )
    return Recipe(name="logged", version=version, data=mix({answered: rows or ALL}))
