"""What a person sees while a build runs: live bars on a terminal, plain lines elsewhere.

Both say the same: how much is done, at what pace, how long the rest will take, and a note (failures, what is in flight, cost).
"""

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
"""The pace is that of so many last seconds: a stall shows, and a slow start is forgotten."""
BAR_WIDTHS = (8, 40)
"""Columns of a bar, at least and at most; a long label gives way first."""


class Bar(Protocol):
    """Progress of one piece of work."""

    def advance(self, amount: int, note: str = "") -> None:
        """So much more is done; `note` is shown beside it (failures, tokens a second)."""
        ...


class Reporter(Protocol):
    """Where progress goes."""

    def say(self, line: str) -> None:
        """One line that stays."""
        ...

    def bar(self, label: str, total: int, unit: str) -> AbstractContextManager[Bar]:
        """Around one piece of work of known size, counted in `unit`."""
        ...


def reporter(console: Console) -> Reporter:
    """Bars where the console is a terminal, plain lines where it is not (a log file, CI)."""
    return Bars(console) if console.is_terminal else Lines(console)


class Work:
    """One piece of work of known size, and how it is getting on."""

    def __init__(self, label: str, total: int, unit: str) -> None:
        self.label, self.total, self._unit = label, total, unit
        self.done, self.note = 0, ""
        self._past = deque([(time.monotonic(), 0)])

    def advance(self, amount: int, note: str = "") -> None:
        """So much more is done."""
        self.done, self.note = self.done + amount, note
        now = time.monotonic()
        if now - self._past[-1][0] >= 0.5:
            self._past.append((now, self.done))
        while len(self._past) > 1 and self._past[1][0] <= now - PACE_SECONDS:
            self._past.popleft()

    def status(self) -> str:
        """Like "416 of 2,400 answers, 139/s, 0:14 left"."""
        then, before = self._past[0]
        pace = (self.done - before) / max(time.monotonic() - then, 0.001)
        left = _clock((self.total - self.done) / pace) if pace else "-:--"
        return f"{self.done:,} of {self.total:,} {self._unit}, {pace:,.{0 if pace >= 10 or not pace else 1}f}/s, {left} left"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """One line with the label, a bar and the status, and one with the note; at any width each stays one line."""
        status, least = Text(self.status(), no_wrap=True, overflow="ellipsis"), BAR_WIDTHS[0]
        room = options.max_width - len(status) - 2
        label = Text(self.label, no_wrap=True)
        label.truncate(max(0, room - least), overflow="ellipsis")
        line = Table.grid(padding=(0, 1), pad_edge=False)
        line.add_row(
            label,
            ProgressBar(self.total, self.done, width=max(0, min(BAR_WIDTHS[1], room - len(label)))),
            status,
        )
        yield line
        if self.note:
            yield Text(f"  {self.note}", style="dim", no_wrap=True, overflow="ellipsis")


class Lines:
    """One plain line every ten seconds; nothing for work that ends sooner."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def say(self, line: str) -> None:
        self._console.print(line, soft_wrap=True, highlight=False, markup=False)

    @contextmanager
    def bar(self, label: str, total: int, unit: str) -> Iterator[Bar]:
        yield _Line(self, label, total, unit)


class _Line:
    def __init__(self, lines: Lines, label: str, total: int, unit: str) -> None:
        self._lines, self._work = lines, Work(label, total, unit)
        self._said = time.monotonic()

    def advance(self, amount: int, note: str = "") -> None:
        self._work.advance(amount, note)
        now = time.monotonic()
        if now - self._said >= PLAIN_SECONDS:
            self._said = now
            self._lines.say(
                f"{self._work.label}: {self._work.status()}{f'; {note}' if note else ''}"
            )


class Bars:
    """Live bars; each is gone when its work ends, and one line about it stays."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def say(self, line: str) -> None:
        self._console.print(line, soft_wrap=True, highlight=False, markup=False)

    @contextmanager
    def bar(self, label: str, total: int, unit: str) -> Iterator[Bar]:
        work = Work(label, total, unit)
        with Live(work, console=self._console, transient=True, refresh_per_second=4):
            yield work


def _clock(seconds: float) -> str:
    whole = int(seconds)
    return (
        f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
        if whole >= 3600
        else f"{whole // 60}:{whole % 60:02}"
    )
