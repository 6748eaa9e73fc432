"""Where requests go, and how many at once.

**Endpoint**: one server. Its **limit** of requests in flight climbs while that pays: in **rounds** of as many answers as the
limit, twice the limit is tried as long as answers come faster by 5%; later, now and then, a quarter more. So a server is
kept full, and not asked for what would only wait in its queue. When it says that it is too much, the limit is halved
(multiplicative decrease). An endpoint in trouble **rests**, longer each time, and then returns.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

FIRST_LIMIT = 32.0
SHORTEST_REST, LONGEST_REST = 0.25, 30.0
ROUND_SECONDS = 0.15
"""A round takes at least so long: shorter ones measure the commits of the caller."""
TRIALS = 3
"""Rounds that a larger limit gets to show that it pays: one alone may have met a pause."""
GAIN = 1.05
QUIET_ROUNDS = 8
"""Rounds between two tries of a quarter more."""
STRIKES = 3
"""Faults in a row after which an endpoint rests even if it did not ask for it."""


@dataclass(slots=True)
class Endpoint:
    """One server. Times are in seconds of the event loop's clock."""

    url: str
    most: int
    limit: float = FIRST_LIMIT
    in_flight: int = 0
    resting_until: float = 0.0
    strikes: int = 0
    several: bool | None = None
    """Whether it gives several samples for one request; None until it has been seen."""
    _climbing: bool = True
    _proven: float = 0.0
    """The largest limit that paid; a larger one is being tried."""
    _rate: float = 0.0
    _quiet: int = 0
    _trials: int = 0
    _answers: int = 0
    _round_began: float | None = None
    _was_full: bool = False
    _rest: float = 0.0
    _cut_at: float = 0.0

    def __post_init__(self) -> None:
        self.limit = self._proven = min(self.limit, float(self.most))

    def free(self, now: float) -> bool:
        """Whether it takes another request now."""
        if self.in_flight < int(self.limit):
            return now >= self.resting_until
        self._was_full = True
        return False

    def succeeded(self, now: float) -> None:
        """An answer came."""
        self.strikes, self._rest = 0, 0.0
        if self._round_began is None:
            self._round_began = now
            return
        self._answers += 1
        seconds = now - self._round_began
        if self._answers >= self.limit and seconds >= ROUND_SECONDS:
            if self._was_full:  # else the rate says nothing about the limit
                self._turn(self._answers / seconds)
            self._new_round(now)

    def _turn(self, rate: float) -> None:
        """A round is over: was its limit worth it?"""
        tried = self.limit > self._proven
        if tried and rate < GAIN * self._rate:
            self._trials += 1
            if self._trials == TRIALS:
                self.limit, self._climbing, self._quiet, self._trials = self._proven, False, 0, 0
            return
        self._rate = rate if tried or not self._rate else 0.8 * self._rate + 0.2 * rate
        self._proven, self._quiet, self._trials = self.limit, self._quiet + 1, 0
        if self._climbing:
            self.limit = min(self.most, 2 * self.limit)
        elif tried or self._quiet >= QUIET_ROUNDS:
            self.limit, self._quiet = min(self.most, 1.25 * self.limit), 0

    def _new_round(self, now: float | None) -> None:
        self._round_began, self._answers, self._was_full = now, 0, False

    def too_much(self, now: float, sent: float, retry_after: float | None) -> None:
        """It said 429 or 503 to a request sent at `sent`."""
        self._cut(now, sent)
        if retry_after is not None:
            self.resting_until = max(self.resting_until, now + retry_after)
        else:
            self._take_rest(now, sent)

    def failed(self, now: float, sent: float, gone: bool) -> None:
        """A request failed; `gone` when the server could not be reached at all."""
        self.strikes += 1
        if gone or self.strikes >= STRIKES:
            self._cut(now, sent)
            self._take_rest(now, sent)

    def _cut(self, now: float, sent: float) -> None:
        # Requests that were in flight at the last cut tell nothing about the new limit.
        if sent >= self._cut_at:
            self.limit = self._proven = max(1.0, self.limit / 2)
            self._climbing, self._quiet, self._cut_at = False, 0, now
            self._new_round(None)

    def _take_rest(self, now: float, sent: float) -> None:
        if now >= self.resting_until:
            self._rest = min(LONGEST_REST, max(SHORTEST_REST, 2 * self._rest))
            self.resting_until = now + self._rest * random.uniform(0.8, 1.2)


def choose(endpoints: Sequence[Endpoint], now: float) -> Endpoint | None:
    """The least loaded endpoint that takes a request now: the one with the smallest share of its limit in use."""
    free = [endpoint for endpoint in endpoints if endpoint.free(now)]
    return min(free, key=lambda endpoint: endpoint.in_flight / endpoint.limit) if free else None
