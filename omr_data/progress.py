"""What a person sees while a build runs: live bars on a terminal, plain lines elsewhere.

Both show how much is done, the pace, the time left, and a note of the work itself, such as
failures, requests in flight and cost.

**Reporter**: where progress goes. **Bar**: the progress of one piece of work of known size.
**printable**: makes text from data safe to print.
"""

import re
import time
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

PLAIN_SECONDS = 10.0
"""Seconds between two plain lines about the same piece of work."""
PACE_SECONDS = 30.0
"""The pace is measured over the last seconds: a stall shows, and a slow start is forgotten."""
SAMPLE_SECONDS = 0.5
"""Seconds between two samples of the pace. A fast teacher gives thousands of answers a second."""
BAR_WIDTHS = (8, 40)
"""Least and greatest width of a bar, in columns. A long label is cut before the bar is."""

_UNPRINTABLE = re.compile(
    # Control characters but for tab and newline, then the marks that reorder text, then surrogates
    # and the separators that some terminals take for a new line.
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
    "\ud800-\udfff\u2028\u2029]"
)


def printable(text: str) -> str:
    """Makes text from data safe for a terminal: control characters are written as escapes.

    Rows, answers and messages of servers are written by strangers. Sent as they are, an escape
    sequence could clear the screen, set the clipboard, or hide what follows.
    """
    return _UNPRINTABLE.sub(lambda match: ascii(match[0])[1:-1], text)


class Bar(Protocol):
    """Progress of one piece of work."""

    def advance(self, amount: int, note: str = "") -> None:
        """Adds to what is done. `note` is shown beside it, such as failures or tokens a second."""
        ...


class Reporter(Protocol):
    """Where progress goes."""

    def say(self, line: str) -> None:
        """Prints a line that stays."""
        ...

    def bar(self, label: str, total: int, unit: str) -> AbstractContextManager[Bar]:
        """Shows the progress of one piece of work while the context is open.

        Args:
            label: What is done, such as "[1/3] gsm8k.Source".
            total: How many units the work has.
            unit: What is counted, in the plural: "shards", "answers".
        """
        ...


def reporter(console: Console) -> Reporter:
    """Makes a reporter: bars where the console is a terminal, plain lines in a log file or CI."""
    if console.is_terminal:
        return LiveBars(console)
    return PlainLines(console)


class Work:
    """One piece of work of known size, and how far it is."""

    def __init__(self, label: str, total: int, unit: str) -> None:
        """Starts the clock.

        Args:
            label: What is done.
            total: How many units the work has.
            unit: What is counted, in the plural.
        """
        self.label = label
        self.total = total
        self.done = 0
        self.note = ""
        self._unit = unit
        # Pairs of a time and what was done by then. The oldest is the start of the pace.
        self._samples = deque([(time.monotonic(), 0)])

    def advance(self, amount: int, note: str = "") -> None:
        """Adds to what is done, and replaces the note."""
        self.done += amount
        self.note = note
        now = time.monotonic()
        if now - self._samples[-1][0] >= SAMPLE_SECONDS:
            self._samples.append((now, self.done))
        # The second sample is looked at, so that one older than the window always remains.
        while len(self._samples) > 1 and self._samples[1][0] <= now - PACE_SECONDS:
            self._samples.popleft()

    def status(self) -> str:
        """Says how far the work is: "416 of 2,400 answers, 139/s, 0:14 left"."""
        began, done_then = self._samples[0]
        elapsed = max(time.monotonic() - began, 0.001)
        pace = (self.done - done_then) / elapsed
        if not pace:
            shown, left = "0", "-:--"
        else:
            # Below ten a second, one more digit shows that something moves.
            shown = f"{pace:,.{int(pace < 10)}f}"
            left = clock((self.total - self.done) / pace)
        return f"{self.done:,} of {self.total:,} {self._unit}, {shown}/s, {left} left"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draws a line with the label, a bar and the status, and a line with the note.

        Each stays one line at any width: a line that wrapped would leave its rest on the screen
        when the next frame is drawn over it.
        """
        status = Text(self.status(), no_wrap=True, overflow="ellipsis")
        least, greatest = BAR_WIDTHS
        room = options.max_width - len(status) - 2
        label = Text(printable(self.label), no_wrap=True)
        label.truncate(max(0, room - least), overflow="ellipsis")
        width = max(0, min(greatest, room - len(label)))
        # A grid keeps the three on one line; concatenated text could wrap.
        line = Table.grid(padding=(0, 1), pad_edge=False)
        line.add_row(label, ProgressBar(self.total, self.done, width=width), status)
        yield line
        if self.note:
            yield Text(f"  {printable(self.note)}", style="dim", no_wrap=True, overflow="ellipsis")


class PlainLines:
    """A plain line every ten seconds. Work that ends sooner prints nothing."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def say(self, line: str) -> None:
        """Prints a line that stays."""
        self._console.print(printable(line), soft_wrap=True, highlight=False, markup=False)

    @contextmanager
    def bar(self, label: str, total: int, unit: str) -> Iterator[Bar]:
        """Prints a line about the work at most every ten seconds.

        Args:
            label: What is done.
            total: How many units the work has.
            unit: What is counted, in the plural.
        """
        yield _Line(self, label, total, unit)


class _Line:
    def __init__(self, lines: PlainLines, label: str, total: int, unit: str) -> None:
        self._lines, self._work = lines, Work(label, total, unit)
        self._said = time.monotonic()

    def advance(self, amount: int, note: str = "") -> None:
        self._work.advance(amount, note)
        now = time.monotonic()
        if now - self._said < PLAIN_SECONDS:
            return
        self._said = now
        parts = [f"{self._work.label}: {self._work.status()}", note]
        self._lines.say("; ".join(part for part in parts if part))


class LiveBars:
    """Live bars. Each disappears when its work ends; the engine then prints one line that stays."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def say(self, line: str) -> None:
        """Prints a line that stays, above a bar that is shown."""
        self._console.print(printable(line), soft_wrap=True, highlight=False, markup=False)

    @contextmanager
    def bar(self, label: str, total: int, unit: str) -> Iterator[Bar]:
        """Shows a bar while the context is open.

        Args:
            label: What is done.
            total: How many units the work has.
            unit: What is counted, in the plural.
        """
        work = Work(label, total, unit)
        # Four frames a second: more would cost a noticeable share of one core while asking.
        with Live(work, console=self._console, transient=True, refresh_per_second=4):
            yield work


def clock(seconds: float) -> str:
    """Writes a duration as "0:14", "12:05" or "1:02:03"."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minute:02}:{second:02}"
    return f"{minute}:{second:02}"
