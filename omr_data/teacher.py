"""Everything that the author of a teacher needs.

A **teacher** is a model that answers requests; a **judge** is a teacher that votes on verdicts.
**Request**: what a model is asked: one chat with its images, and the attempt numbers wanted.
**Rollout**: one stored answer to a request. Its key is the sha256 of everything that decides the
answer (messages, image hashes, the teacher's identity fields), and nothing else, so a changed URL or
concurrency finds every paid answer again.

Adding a teacher is adding one file to `omr_data/teachers/`, or a class in a recipe:

    @dataclass(frozen=True)
    class Teacher(teacher.Teacher):
        @property
        def model_id(self) -> str:
            return "always-42"

        @contextmanager
        def open(self, workers, read_image, budget) -> Iterator[Session]:
            yield Always42(budget)

    class Always42:
        def __init__(self, budget: Budget) -> None:
            self._budget = budget

        def answer(self, batches: Iterator[Batch]) -> Iterator[Answers]:
            for batch in self._budget.within(batches):
                yield [
                    (request, [Response("42", attempt, "always-42") for attempt in request.attempts])
                    for request in batch
                ]

        def note(self) -> str:
            return ""
"""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from omr_data.identity import Canonical, Spec, canonical, digest, to_json
from omr_data.records import ImageRef, Message, Response


@dataclass(frozen=True, slots=True)
class Request:
    """One question for a model."""

    key: str
    """The rollout key: sha256 of `identity`, 64 hex digits."""
    messages: tuple[Message, ...]
    """The chat. Each `<image>` mark in it stands for one of `images`, in order."""
    images: tuple[ImageRef, ...]
    """The images, in the order of their marks."""
    attempts: tuple[int, ...]
    """The attempt numbers that are wanted."""
    identity: str = ""
    """Canonical JSON of everything that decides the answer: teacher, messages, image hashes."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An attempt that got no answer."""

    attempt: int
    """The attempt number that was asked for."""
    kind: str
    """A short word for counting, such as "timeout" or "rate limit"."""
    detail: str
    """What the server or library said."""
    retriable: bool
    """Whether asking again may succeed. The next run asks again for exactly these."""
    status: int = 0
    """The HTTP status. 0 where there was none."""
    tries: int = 1
    """How often the attempt was tried in this run."""


Batch = Sequence[Request]
"""Requests that are handed to a teacher together."""
Answers = Sequence[tuple[Request, Sequence[Response | Failure]]]
"""What came back for some requests."""


class ReadImage(Protocol):
    """Reads the original bytes of an image. Picklable, so that worker processes can have one."""

    def __call__(self, image: ImageRef, /) -> bytes:
        """Returns the bytes. Raises StoreError when they are missing or damaged."""
        ...


@dataclass(slots=True)
class Budget:
    """What a run may spend, and what it has spent. It is no part of any identity."""

    usd: float | None = None
    """The limit in US dollars. None is no limit."""
    requests: int | None = None
    """The limit in requests. None is no limit."""
    spent: float = 0.0
    """US dollars spent so far."""
    sent: int = 0
    """Requests sent so far."""
    reached: bool = False
    """Whether a request was refused for lack of budget. It stays true: what is in flight may turn
    out cheaper than expected, and the run must still report that it paused."""

    def allows(self, under_way: float = 0.0) -> bool:
        """Tells whether one more request may be sent, and remembers a refusal.

        Args:
            under_way: US dollars that requests in flight are expected to cost.
        """
        allowed = self.room(under_way)
        self.reached |= not allowed
        return allowed

    def room(self, under_way: float = 0.0) -> bool:
        """Tells whether one more request would be allowed, for a teacher that can wait for those in
        flight. See `allows` for the argument."""
        has_requests = self.requests is None or self.sent < self.requests
        has_dollars = self.usd is None or self.spent + under_way < self.usd
        return has_requests and has_dollars

    def within(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Yields batches until the limit is reached, counting each question as one request.

        This is for teachers that cost nothing, where only `--max-requests` can stop a run.
        """
        while self.allows() and (batch := next(batches, None)) is not None:
            self.sent += len(batch)
            yield batch


class Session(Protocol):
    """An open connection to a teacher, or its running processes."""

    def answer(self, batches: Iterator[Batch]) -> Iterator[Answers]:
        """Yields answers as they come, in any order.

        Every attempt of every request comes back exactly once, as a Response or a Failure; one
        request may come back in parts. Batches are taken only as fast as they are answered, so that
        the engine can stream millions of them. The iterator ends early when the budget is spent.
        """
        ...

    def note(self) -> str:
        """Returns what to show beside the progress, such as requests in flight. May be empty."""
        ...


@dataclass(frozen=True, slots=True)
class Estimate:
    """What asking is expected to take. All figures are rough."""

    requests: int
    """Requests to send."""
    prompt_tokens: int
    """Tokens of the prompts, images included."""
    completion_tokens: int
    """Tokens of the answers."""
    usd: float | None
    """The cost in US dollars. None where no price is known."""


@dataclass(frozen=True)
class Teacher(Spec):
    """A model that answers requests.

    Its identity fields (model, revision, sampling parameters) are part of every rollout key. Declare
    what is not, such as URLs and limits, with `runtime_field`.
    """

    def request(
        self, messages: Sequence[Message], images: Sequence[ImageRef], attempts: int
    ) -> Request:
        """Makes the request for some answers to one chat.

        Args:
            messages: The chat, with an `<image>` mark for each image.
            images: The images, in the order of their marks.
            attempts: How many answers are wanted: attempt numbers 0 to attempts - 1.
        """
        identity: Canonical = {
            "teacher": canonical(self),
            "messages": [{"role": message.role, "text": message.text} for message in messages],
            "images": [image.sha256 for image in images],
        }
        # The number of attempts is left out of the key: going from 8 to 12 asks for exactly 4 more.
        return Request(
            digest(identity),
            tuple(messages),
            tuple(images),
            tuple(range(attempts)),
            to_json(identity),
        )

    @property
    def batch(self) -> int:
        """Questions per unit of work.

        A batch is stored in one transaction. Its members do not change on a rerun, so a teacher
        whose texts depend on the batch still gives the same ones after a crash.
        """
        return 1

    @property
    @abstractmethod
    def model_id(self) -> str:
        """The name recorded with every response."""

    def kept_in(self, folder: Path) -> "Teacher":
        """Returns this teacher with a folder that outlives the process.

        Only a teacher with work in progress elsewhere, such as a bought batch, needs one.
        """
        return self

    @abstractmethod
    def open(
        self, workers: int, read_image: ReadImage, budget: Budget
    ) -> AbstractContextManager[Session]:
        """Connects to the model, or starts it.

        Args:
            workers: How many processes a local model may use.
            read_image: Reads the bytes of the requests' images.
            budget: What may be spent. The session keeps it up to date.

        Raises:
            TeacherError: The model cannot be reached or started.
            MissingExtra: A package that this teacher needs is not installed.
        """

    def estimate(self, requests: Iterator[Request]) -> Estimate | None:
        """Estimates what answering would take. None for a teacher that costs nothing."""
        return None
