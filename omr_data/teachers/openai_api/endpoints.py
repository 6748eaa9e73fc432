"""Where requests go, and how many at once.

An `Endpoint` is one server. Its limit of requests in flight climbs while that pays. In rounds of as
many answers as the limit, twice the limit is tried as long as answers come faster by 5%; later, now
and then, a quarter more is tried. So a server is kept full, and is not asked for what would only
wait in its queue. When the server says that it is too much, the limit is halved.

An endpoint in trouble rests, longer each time. After three faults in a row it counts as away: then
one request at a time tries whether it is back.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

FIRST_LIMIT = 32.0
"""Requests in flight at the start."""
SHORTEST_REST, LONGEST_REST = 0.25, 30.0
"""Seconds of the first and of the longest rest."""
ROUND_SECONDS = 0.15
"""A round takes at least this long: shorter ones would measure the commits of the caller."""
TRIALS = 3
"""Rounds that a larger limit gets to show that it pays: one alone may have met a pause."""
GAIN = 1.05
"""How much faster answers must come for a larger limit to stay."""
QUIET_ROUNDS = 8
"""Rounds between two tries of a quarter more."""
STRIKES = 3
"""Faults in a row after which an endpoint is away."""


@dataclass(slots=True)
class Endpoint:
    """One server. Times are in seconds of the monotonic clock."""

    url: str
    """The base URL, up to /v1."""
    most: int
    """Most requests in flight, whatever pays."""
    limit: float = FIRST_LIMIT
    """Requests in flight that are allowed now."""
    in_flight: int = 0
    """Requests that were sent and not answered."""
    resting_until: float = 0.0
    """Until when nothing is sent."""
    strikes: int = 0
    """Faults since the last success."""
    denied: int = 0
    """Replies of 401, 402, 403 or 404 since the last success."""
    several: bool | None = None
    """Whether it gives several samples for one request. None until it has been seen."""
    answered_at: float = -1.0
    """When the last success came. Negative before the first."""
    heard_at: float = 0.0
    """When the last reply of any kind came, or the first request left."""
    failing_since: float | None = None
    """When the first fault since the last success came."""
    trouble: str = ""
    """What the last fault was, for people."""
    probing: bool = False
    """Whether the one request is under way that tries whether it is back."""
    _climbing: bool = True
    """Whether each round still tries twice the limit."""
    _proven: float = 0.0
    """The largest limit that paid. A larger one is being tried."""
    _rate: float = 0.0
    """Answers a second at the proven limit."""
    _quiet: int = 0
    """Rounds since the limit last changed."""
    _trials: int = 0
    """Rounds in which the larger limit has not paid."""
    _answers: int = 0
    """Answers of this round."""
    _round_began: float | None = None
    """When this round began. None before its first answer."""
    _was_full: bool = False
    """Whether this round ever had as many requests in flight as allowed."""
    _rest: float = 0.0
    """Seconds of the last rest."""
    _cut_at: float = 0.0
    """When the limit was last halved."""
    _cuts: int = 0
    """How often the limit was halved since the last success."""

    def __post_init__(self) -> None:
        self.limit = self._proven = min(self.limit, float(self.most))

    @property
    def away(self) -> bool:
        """Whether it counts as away: it failed several times in a row."""
        return self.strikes >= STRIKES

    def free(self, now: float) -> bool:
        """Whether it takes another request now."""
        if self.away:
            # Old requests may still be running: only the probe is counted.
            return now >= self.resting_until and not self.probing
        if self.in_flight < int(self.limit):
            return now >= self.resting_until
        self._was_full = True
        return False

    def sent(self, now: float) -> None:
        """A request leaves."""
        # Silence is counted from the first request that waits, and not from the last reply.
        if not self.in_flight:
            self.heard_at = now
        self.in_flight += 1
        self.probing |= self.away

    def succeeded(self, now: float) -> None:
        """An answer came."""
        if self._cuts > 1:
            # It was away, which says nothing about how much it can do: the limit climbs again.
            self._climbing, self._rate = True, 0.0
        self.strikes, self.denied, self._rest, self._cuts = 0, 0, 0.0, 0
        self.answered_at, self.failing_since, self.trouble = now, None, ""
        if self._round_began is None:
            self._round_began = now
            return
        self._answers += 1
        seconds = now - self._round_began
        if self._answers >= self.limit and seconds >= ROUND_SECONDS:
            # A round that was never full says nothing about the limit.
            if self._was_full:
                self._turn(self._answers / seconds)
            self._new_round(now)

    def _turn(self, rate: float) -> None:
        """Ends a round: was its limit worth it?"""
        tried = self.limit > self._proven
        if tried and rate < GAIN * self._rate:
            # The larger limit stays while it is on trial: one slow round proves little.
            self._trials += 1
            if self._trials == TRIALS:
                self.limit, self._climbing, self._quiet, self._trials = self._proven, False, 0, 0
            return
        if tried or not self._rate:
            self._rate = rate
        else:
            # Smoothed: rounds at one limit differ with the lengths of their answers.
            self._rate = 0.8 * self._rate + 0.2 * rate
        self._proven, self._quiet, self._trials = self.limit, self._quiet + 1, 0
        if self._climbing:
            self.limit = min(self.most, 2 * self.limit)
        elif tried or self._quiet >= QUIET_ROUNDS:
            self.limit, self._quiet = min(self.most, 1.25 * self.limit), 0

    def _new_round(self, now: float | None) -> None:
        self._round_began, self._answers, self._was_full = now, 0, False

    def too_much(self, now: float, sent: float, retry_after: float | None, trouble: str) -> None:
        """It said 429 or 503: its limit is halved, and it rests.

        Args:
            now: The time.
            sent: When the request was sent.
            retry_after: Seconds that it asked for, if it did.
            trouble: What it said, for people.
        """
        self._note(now, trouble)
        self._cut(now, sent)
        # Taken literally, even when other requests were answered meanwhile.
        if retry_after is not None:
            self.resting_until = max(self.resting_until, now + retry_after)
        else:
            self._take_rest(now)

    def failed(self, now: float, sent: float, trouble: str, gone: bool = False) -> None:
        """A request failed.

        Args:
            now: The time.
            sent: When the request was sent.
            trouble: What happened, for people.
            gone: Whether the server could not be reached at all.
        """
        self._note(now, trouble)
        # A server that cannot be reached is away at once.
        self.strikes = max(self.strikes + 1, STRIKES * gone)
        if self.away:
            self._cut(now, sent)
            self._take_rest(now)

    def _note(self, now: float, trouble: str) -> None:
        self.trouble = trouble
        if self.failing_since is None:
            self.failing_since = now

    def _cut(self, now: float, sent: float) -> None:
        # Requests that were in flight at the last cut tell nothing about the new limit.
        if sent >= self._cut_at:
            self.limit = self._proven = max(1.0, self.limit / 2)
            self._climbing, self._quiet, self._cut_at = False, 0, now
            self._cuts += 1
            self._new_round(None)

    def _take_rest(self, now: float) -> None:
        # Faults that come while it rests belong to the burst that began the rest.
        if now >= self.resting_until:
            self._rest = min(LONGEST_REST, max(SHORTEST_REST, 2 * self._rest))
            self.resting_until = now + self._rest * random.uniform(0.8, 1.2)


def choose(endpoints: Sequence[Endpoint], now: float) -> Endpoint | None:
    """Returns the endpoint with the smallest share of its limit in use, or None.

    Args:
        endpoints: All endpoints. Those that take no request now are left out.
        now: The time.
    """
    free = [endpoint for endpoint in endpoints if endpoint.free(now)]
    return min(free, key=lambda endpoint: endpoint.in_flight / endpoint.limit, default=None)
