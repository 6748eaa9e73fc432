"""A run of questions over one client: takes batches as there is room, and hands answers over."""

import asyncio
import gc
from collections.abc import Iterator
from contextlib import contextmanager

from omr_data.teacher import Answers, Batch
from omr_data.teachers.openai_api.client import Client


class HttpSession:
    """A run of questions: `teacher.Session` over one Client."""

    def __init__(self, client: Client, runner: asyncio.Runner) -> None:
        self._client, self._runner = client, runner

    def note(self) -> str:
        """What the client says of itself."""
        return self._client.note()

    def answer(self, batches: Iterator[Batch]) -> Iterator[Answers]:
        """Yields answers as they come, and an empty group each second while none comes.

        Raises:
            TeacherError: The client had to stop. What came before is given first.
        """
        # The loop runs only inside `run`, so nothing is sent while the engine commits.
        client = self._client
        left = True
        while True:
            # Batches are read as there is room, so that millions of questions are never in memory.
            while left and client.has_room():
                batch = next(batches, None)
                left = batch is not None
                client.add(batch or ())
            left = left and not client.paused and client.rules.fatal is None
            yield self._runner.run(client.collect(left))
            if not left and client.done():
                break
        # Last, so that every answer that was paid for is stored before the run fails.
        if client.rules.fatal is not None:
            raise client.rules.fatal


@contextmanager
def calm_collector() -> Iterator[None]:
    """Leaves what is alive now out of garbage collection, and collects less often.

    With thousands of requests a second, the collector would walk all loaded modules again and again
    (a third of the time, measured). Cycles are still collected.
    """
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
