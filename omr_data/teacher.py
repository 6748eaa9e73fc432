"""Everything that the author of a teacher needs.

A **teacher** is a model that answers requests; a **judge** is a teacher that votes on verdicts.
**Request**: what a model is asked: one chat with its images, and the attempt numbers wanted.
**Rollout**: one stored answer to a request. Its key is the sha256 of everything that decides the
answer (messages, image hashes, the teacher's identity fields), and nothing else. So a changed URL
or concurrency finds every paid answer again.

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
                    (request, [Response("42", one, "always-42") for one in request.attempts])
                    for request in batch
                ]

        def note(self) -> str:
            return ""
"""

import enum
import json
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from omr_data.identity import Canonical, Spec, canonical, digest, to_json
from omr_data.records import ImageRef, Message, Response, storable_text


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


# Four and no more: the release only asks whether to wait, to ask again or to leave out.
class AttemptStatus(enum.Enum):
    """How one attempt ended. Every attempt that was asked for ends in exactly one of these.

    What it means for the data:

    - Only an answered attempt has a Response, so only it can be RIGHT.
    - Refused and rejected attempts are settled: no run asks for them again, until
      `omr rollouts retry` forgets them. Their share is limited by `rollout.Sample(unanswered=)`.
    - A failed attempt blocks the release. The next run asks for exactly the failed ones.
    """

    ANSWERED = "answered"
    """The model ended by itself (`stop`) or reached `max_tokens` (`length`). Stored for good."""
    REFUSED = "refused"
    """A content filter or the provider's policy stands against an answer. Settled."""
    REJECTED = "rejected"
    """The server cannot serve this request as it was asked: too long, an image of a wrong shape,
    a tool call instead of an answer. Settled, with its HTTP status and the server's message."""
    FAILED = "failed"
    """No answer, for a reason that may pass: a time-out, an outage, an empty or broken reply, an
    aborted generation, a key that was withdrawn after it had worked."""

    @property
    def settled(self) -> bool:
        """Whether no later run asks for the attempt again."""
        return self is not AttemptStatus.FAILED


@dataclass(frozen=True, slots=True)
class Failure:
    """An attempt that got no answer."""

    attempt: int
    """The attempt number that was asked for."""
    status: AttemptStatus
    """Refused, rejected or failed."""
    kind: str
    """A short word for counting, such as "timeout" or "rate limited"."""
    detail: str
    """What the server or library said, without secrets."""
    http_status: int = 0
    """The HTTP status. 0 where there was none."""
    tries: int = 1
    """How often the attempt was tried in this run."""


JSON_FIELDS = ("response_format", "extra_body")
"""Fields of a teacher that hold a JSON object as text. `canonical_json` is how they are stored."""

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
    """What a run may spend, and what it has spent. No identity includes it.

    The limit in dollars holds by reservation. Before a request leaves, the most that it can cost is
    reserved. When its reply is there, what it really cost takes the reservation's place. So the
    spent dollars never exceed the limit, however many requests are in flight.
    """

    usd: float | None = None
    """The limit in US dollars. None for no limit."""
    requests: int | None = None
    """The limit in requests. None for no limit."""
    spent: float = 0.0
    """US dollars spent so far."""
    sent: int = 0
    """Requests sent so far."""
    reserved: float = 0.0
    """US dollars that the requests in flight can cost at most."""
    reached: bool = False
    """Whether a request was not sent for lack of budget. It stays true, so that the run reports a
    pause and no fault of the teacher."""

    # Reserving, and not checking what was spent: thousands of requests may be in flight.
    def reserve(self, most: float = 0.0) -> bool:
        """Counts one more request and reserves its cost. Returns False where the limit forbids it.

        A False is not yet a pause: requests in flight may turn out cheaper than their reservations.
        Call `pause` when nothing is in flight.

        Args:
            most: US dollars that the request can cost at most.
        """
        has_requests = self.requests is None or self.sent < self.requests
        # Equality is allowed, so that a budget of 0 still asks teachers that cost nothing.
        has_dollars = self.usd is None or self.spent + self.reserved + most <= self.usd
        if not (has_requests and has_dollars):
            return False
        self.sent += 1
        self.reserved += most
        return True

    def settle(self, reserved: float, cost: float) -> None:
        """Replaces the reservation of one request by what it cost.

        Args:
            reserved: What `reserve` was given for it.
            cost: US dollars that it cost.
        """
        # Sums of floats drift by 1e-16 of the total. A negative reservation must not come of it.
        self.reserved = max(0.0, self.reserved - reserved)
        self.spent += cost

    def pause(self) -> None:
        """Notes that something was not sent because the budget does not allow it."""
        # For good, even if dollars become free later: what was not sent needs another run.
        self.reached = True

    def within(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Yields batches until the limit is reached, counting each question as one request.

        This is for teachers that cost nothing, where only `--max-requests` can stop a run.
        """
        while self.requests is None or self.sent < self.requests:
            # Taken only after the check, so that a paused run has not read what it does not ask.
            batch = next(batches, None)
            if batch is None:
                return
            # Whole batches: a teacher whose texts depend on the batch is asked for whole ones.
            self.sent += len(batch)
            yield batch
        self.pause()


class Session(Protocol):
    """An open connection to a teacher, or its running processes."""

    def answer(self, batches: Iterator[Batch]) -> Iterator[Answers]:
        """Yields answers as they come, in any order.

        Every attempt of every request comes back exactly once, as a Response or a Failure; one
        request may come back in parts. Batches are taken only as fast as they are answered, so that
        the engine can stream millions of them. The iterator ends early when the budget is spent.
        It may yield an empty group at any time, so that the live line is drawn while it waits.
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

    Its identity fields (model, revision, sampling parameters) are part of every rollout key.
    Declare what is not, such as URLs and limits, with `runtime_field`.
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
        # A lone surrogate has no bytes to hash or to send. Sources replace theirs; a step that
        # makes text of its own may not.
        chat = [Message(one.role, storable_text(one.text)[0]) for one in messages]
        # Canonical JSON of this is hashed, so its names are part of the stored format.
        identity: Canonical = {
            "teacher": canonical(self),
            "messages": [{"role": message.role, "text": message.text} for message in chat],
            # Hashes of the original bytes, so that a moved or renamed file is the same request.
            "images": [image.sha256 for image in images],
        }
        # The number of attempts is left out of the key: going from 8 to 12 asks for exactly 4 more.
        return Request(
            digest(identity),
            tuple(chat),
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

    # Not an argument of `open`: only one kind of teacher would use it.
    def kept_in(self, folder: Path) -> "Teacher":
        """Returns this teacher with a folder that outlives the process.

        Only a teacher with work in progress elsewhere, such as a bought batch, needs one.
        """
        return self

    # Apart from `open`, so that a plan can refuse a budget before sources are read.
    def check_budget(self, budget: Budget) -> None:
        """Checks that a budget can be kept, before anything is asked. See `Session` for asking.

        Raises:
            TeacherError: The budget is in dollars, and this teacher costs money but has no prices.
        """
        return None

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

    # An iterator, so that a plan over millions of questions holds none of them.
    def estimate(self, requests: Iterator[Request]) -> Estimate | None:
        """Estimates what answering would take. None for a teacher that costs nothing."""
        return None


def canonical_json(value: Any) -> str:
    """A JSON value as its one canonical text: no spaces, sorted names, UTF-8 as it is.

    Names below "properties" keep their order: a JSON schema's properties are generated in it, so
    another order is another request.

    Raises:
        ValueError: The value holds NaN or infinity, which JSON does not have.
    """
    # Text and not an object, because identity fields must be hashable.
    return json.dumps(_sorted(value), separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _sorted(value: Any, keep_order: bool = False) -> Any:
    if isinstance(value, list):
        return [_sorted(item) for item in value]
    if not isinstance(value, dict):
        return value
    names = list(value) if keep_order else sorted(value)
    return {name: _sorted(value[name], name == "properties") for name in names}
