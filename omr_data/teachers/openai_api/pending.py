"""Requests that wait to be sent, and requests on their way."""

import heapq
import itertools
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from omr_data.teacher import Request
from omr_data.teachers.openai_api.endpoints import Endpoint
from omr_data.teachers.openai_api.settings import ServedModel, Usage


@dataclass(slots=True)
class PendingRequest:
    """A question with the attempts of one request."""

    request: Request
    """The question as the engine gave it."""
    prepared: bytes
    """The body without its tail, shared by all requests of the question."""
    attempts: tuple[int, ...]
    """The attempts that this request asks for."""
    most: Usage
    """What one try can use at most."""
    tries: int = 0
    """Tries that failed."""
    turned_away: int = 0
    """How often the server had too much to do for it, while it answered others."""
    alone: bool = False
    """Whether it was split from a request that the server refused."""

    def only(self, attempts: Sequence[int], teacher: ServedModel) -> "PendingRequest":
        """The same question with some of its attempts.

        Args:
            attempts: The attempts that are left.
            teacher: The model, which knows what they can use at most.
        """
        # Fewer attempts reserve less of the budget.
        most = teacher.usage_at_most(self.request, len(attempts))
        return replace(self, attempts=tuple(attempts), most=most)

    def one_by_one(self, teacher: ServedModel) -> list["PendingRequest"]:
        """The attempts, each in a request of its own."""
        # Marked, so that an answer to one of them shows that it was n that the server refused.
        return [replace(self.only([attempt], teacher), alone=True) for attempt in self.attempts]


@dataclass(slots=True)
class Try:
    """One request on its way."""

    job: PendingRequest
    """What is asked."""
    endpoint: Endpoint
    """Where it was sent."""
    sent: float
    """When it left, on the monotonic clock."""
    reserved: float
    """US dollars that it can cost at most."""
    is_probe: bool
    """Whether it tries if an endpoint that was away is back."""


class PendingQueue:
    """Requests in the order in which they are sent, and those that pause before the next try."""

    def __init__(self) -> None:
        # A deque, because retries of a refused request go in front.
        self._ready: deque[PendingRequest] = deque()
        self._later: list[tuple[float, int, PendingRequest]] = []
        # Breaks ties of the heap: pending requests have no order.
        self._numbers = itertools.count()
        self._is_closed = False

    def __len__(self) -> int:
        """How many requests could be sent now."""
        return len(self._ready)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left, pausing requests included."""
        return not (self._ready or self._later)

    @property
    def next_pause_ends(self) -> float | None:
        """When the next pausing request may be sent, on the monotonic clock."""
        return self._later[0][0] if self._later else None

    def add(self, jobs: Iterable[PendingRequest]) -> None:
        """Puts requests at the end."""
        if not self._is_closed:
            self._ready.extend(jobs)

    def add_first(self, jobs: Iterable[PendingRequest]) -> None:
        """Puts requests in front, the first of them first."""
        if not self._is_closed:
            self._ready.extendleft(reversed([*jobs]))

    def add_later(self, job: PendingRequest, pause: float) -> None:
        """Puts a request back for another try.

        Args:
            job: The request.
            pause: Seconds until it may be sent.
        """
        if not self._is_closed:
            heapq.heappush(self._later, (time.monotonic() + pause, next(self._numbers), job))

    def wake(self, now: float) -> None:
        """Ends the pauses that are over.

        Retries go behind what waits already: a poison question must not hold others up.
        """
        while self._later and self._later[0][0] <= now:
            self._ready.append(heapq.heappop(self._later)[2])

    def take(self) -> PendingRequest:
        """Takes the first request that could be sent now."""
        return self._ready.popleft()

    def close(self) -> None:
        """Drops everything, and takes nothing any more.

        What is not sent now is asked for by the next run.
        """
        # Set first and for good: a request that ends later must not be put back.
        self._is_closed = True
        self._ready.clear()
        self._later.clear()
