"""What a person sees while a build runs: bars with rates and remaining time on a terminal, plain lines elsewhere."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

PLAIN_SECONDS = 10.0
"""Seconds between two plain lines about the same piece of work."""


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
        self._lines, self._label, self._total, self._unit = lines, label, total, unit
        self._done = 0
        self._start = self._said = time.monotonic()

    def advance(self, amount: int, note: str = "") -> None:
        self._done += amount
        now = time.monotonic()
        if now - self._said < PLAIN_SECONDS:
            return
        self._said = now
        rate = self._done / (now - self._start)
        left = (self._total - self._done) / rate if rate else 0.0
        tail = f"  {note}" if note else ""
        self._lines.say(f"{self._label}: {self._done:,} of {self._total:,} {self._unit}, {rate:,.0f}/s, {_clock(left)} left{tail}")


class Bars:
    """Live bars; each is gone when its work ends, and one line about it stays."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def say(self, line: str) -> None:
        self._console.print(line, soft_wrap=True, highlight=False, markup=False)

    @contextmanager
    def bar(self, label: str, total: int, unit: str) -> Iterator[Bar]:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(unit),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=self._console, transient=True) as progress:
            yield _RichBar(progress, progress.add_task(label, total=total, note=""))


class _RichBar:
    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    def advance(self, amount: int, note: str = "") -> None:
        self._progress.update(self._task, advance=amount, note=note)


class _Rate(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f} {self._unit}/s" if task.speed else f"? {self._unit}/s", style="progress.data.speed")


def _clock(seconds: float) -> str:
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}" if whole >= 3600 else f"{whole // 60}:{whole % 60:02}"
