"""A test double of a teacher: fixed answers, chosen by a hash of the question and the attempt.

It is for tests, and for trying a recipe's path in seconds. To the engine it is a real teacher: its
rollouts are stored under their keys.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from omr_data import teacher
from omr_data.records import Response
from omr_data.teacher import Answers, Batch, Budget, ReadImage, Request, Session


@dataclass(frozen=True)
class Teacher(teacher.Teacher):
    """Gives each of `answers` equally often, inside the usual tags."""

    answers: tuple[str, ...] = ("A", "B", "C", "1", "2", "3", "4", "5")
    """The answers to choose from."""

    @property
    def batch(self) -> int:
        return 16

    @property
    def model_id(self) -> str:
        return "echo"

    def reply(self, request: Request, attempt: int) -> Response:
        """Chooses the answer to one attempt."""
        # A hash and no random number, so that every run and every process agree.
        digest = hashlib.sha256(f"{request.key}:{attempt}".encode()).digest()
        answer = self.answers[int.from_bytes(digest[:4]) % len(self.answers)]
        text = f"<think>I say {answer}</think><answer>{answer}</answer>"
        return Response(
            text=text,
            attempt=attempt,
            model="echo",
            completion_tokens=len(text.split()),
            key=request.key,
        )

    @contextmanager
    def open(self, workers: int, read_image: ReadImage, budget: Budget) -> Iterator[Session]:
        """Starts at once.

        Args:
            workers: Not used.
            read_image: Not used: nothing is looked at.
            budget: What may be asked.
        """
        # Nothing to connect to: the answers are computed here.
        yield _Session(self, budget)


@dataclass(frozen=True, slots=True)
class _Session:
    teacher: Teacher
    """Whose answers are given."""
    budget: Budget
    """What may be asked: only its number of requests applies."""

    def answer(self, batches: Iterator[Batch]) -> Iterator[Answers]:
        for batch in self.budget.within(batches):
            # Whole batches, as a real teacher gives them: the engine commits each at once.
            yield [
                (request, [self.teacher.reply(request, attempt) for attempt in request.attempts])
                for request in batch
            ]

    def note(self) -> str:
        return ""
