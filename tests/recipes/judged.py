"""A recipe for tests of the judge, which may be down: no rule can read the teacher's answers."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from omr_data import Recipe
from omr_data.errors import TeacherError
from omr_data.operators import explode, rollout, verify
from omr_data.sources import synthetic
from omr_data.teacher import Budget, ReadImage, Session
from omr_data.teachers import echo
from omr_data.verifiers import judge


@dataclass(frozen=True)
class Reachable(echo.Teacher):
    """An echo that cannot be reached while OMR_TEST_DOWN is set."""

    @contextmanager
    def open(self, workers: int, read_image: ReadImage, budget: Budget) -> Iterator[Session]:
        if os.environ.get("OMR_TEST_DOWN"):
            raise TeacherError("the judge cannot be reached.")
        with super().open(workers, read_image, budget) as session:
            yield session


def recipe(votes: int = 3) -> Recipe:
    panel = judge.Judge(
        Reachable(answers=("RIGHT", "WRONG", "UNSURE")), votes=votes, needed=votes // 2 + 1
    )
    judged = synthetic.Source(count=30, families=("text",)).then(
        rollout.Sample(echo.Teacher(answers=("one or the other of them", "7")), n=4),
        verify.Answers(),
        verify.Judged(panel),
        explode.Right(),
    )
    return Recipe(name="judged", version="1.0.0", data=judged)
