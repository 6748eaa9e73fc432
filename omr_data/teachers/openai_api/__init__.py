"""A teacher behind any OpenAI-compatible server: vLLM, SGLang, or a hosted one.

    openai_api.Teacher("Qwen/Qwen3-VL-235B-A22B-Instruct", temperature=1.0, max_tokens=16_384)

Where the server is, is not part of the data. OMR_TEACHER_URL holds its URL, or several with commas
between them, each up to `/v1`; OMR_TEACHER_KEY holds the key, if one is needed. The model and every
sampling parameter are identity: change one, and every question is asked anew.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

from omr_data.errors import TeacherError
from omr_data.teacher import Budget, ReadImage, Session
from omr_data.teachers.openai_api.settings import KEY, URLS, ServedModel

__all__ = ["KEY", "URLS", "Teacher"]


@dataclass(frozen=True)
class Teacher(ServedModel):
    """A model behind a server, asked live.

    Its fields are those of `ChatModel` and `ServedModel`.
    """

    name: ClassVar[str] = ServedModel.name
    """One name for all ways of asking a model, so that they share rollout keys."""

    @contextmanager
    def open(self, workers: int, read_image: ReadImage, budget: Budget) -> Iterator[Session]:
        """Connects. Nothing is sent yet.

        Args:
            workers: Not used: the servers scale by themselves.
            read_image: Reads the bytes of the requests' images.
            budget: What may be spent.

        Raises:
            TeacherError: No URL is given, the key cannot be sent, the budget needs prices, or an
                event loop runs in this thread already.
        """
        # Imported here, so that declaring a teacher does not import aiohttp's client.
        from omr_data.teachers.openai_api.client import Client
        from omr_data.teachers.openai_api.session import HttpSession, calm_collector

        urls, key = self.server_urls(), self.server_key()
        self.check_budget(budget)
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            is_in_a_loop = False
        else:
            is_in_a_loop = True
        # A thread runs one loop at a time. A notebook has one already.
        if is_in_a_loop:
            raise TeacherError(
                "asking runs an event loop of its own, and one runs in this thread already. "
                "Call it from another thread."
            )
        with calm_collector(), asyncio.Runner() as runner:
            client = Client(self, urls, key, read_image, budget)
            try:
                runner.run(client.start())
                yield HttpSession(client, runner)
            finally:
                runner.run(client.close())
