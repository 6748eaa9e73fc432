"""One deadline for a pair: everything that is done for a verdict ends within three seconds.

Comparisons look at the clock where they may take long (lists of formulas, the algebra system), and
the first time-out ends the whole pair: a list of 25 hard formulas costs what one of them costs.
The deadline is kept in a context variable, so threads and event loops each have their own.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

# Long enough for two questions to the algebra system, which limits each of them to 1.5 s.
SECONDS = 3.0

_ends: ContextVar[float | None] = ContextVar("omr_data_deadline", default=None)


class TimedOut(Exception):
    """The deadline of the pair has passed."""


@contextmanager
def deadline(seconds: float = SECONDS) -> Iterator[None]:
    """Sets the deadline of what runs inside. An outer deadline stays, so it is never extended."""
    if _ends.get() is not None:
        yield
        return

    token = _ends.set(time.monotonic() + seconds)

    try:
        yield
    finally:
        _ends.reset(token)


def seconds_left() -> float:
    """What is left of the pair's time; all of it where no deadline was set."""
    ends = _ends.get()
    if ends is None:
        return SECONDS

    return ends - time.monotonic()


def check_deadline() -> None:
    """Raises TimedOut when the deadline has passed."""
    ends = _ends.get()
    if ends is not None and time.monotonic() > ends:
        raise TimedOut
