"""A teacher behind any OpenAI-compatible server: vLLM, SGLang, or a hosted one.

    openai_api.Teacher("Qwen/Qwen3-VL-235B-A22B-Instruct", temperature=1.0, max_tokens=16_384)

Where the server is, is no part of the data: OMR_TEACHER_URL holds its URL, or several with commas between them, each up to
`/v1`; OMR_TEACHER_KEY holds the key, if one is needed. What the model is asked for is identity, and so is every sampling
parameter: change one, and every question is asked anew.
"""

import asyncio
import gc
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Literal

from omr_data.errors import TeacherError
from omr_data.identity import runtime_field
from omr_data.records import Response
from omr_data.teacher import Budget, Estimate, ReadImage, Request, Session
from omr_data.teachers.openai_api.model import ChatModel

URLS = "OMR_TEACHER_URL"
KEY = "OMR_TEACHER_KEY"
PATCH = 28
"""Pixels of one merged patch of Qwen-VL: images cost about one token for each. Only estimates use it."""


@dataclass(frozen=True)
class Teacher(ChatModel):
    """A model behind a server; None leaves a parameter to the server.

    The fields below are no identity. `samples_per_request`: how many attempts one request may ask for (servers that cannot
    are noticed). `concurrency`: most requests in flight for each URL. `timeout` and `patience` are in seconds: of one
    request, and without any answer. `tries`: of one attempt in one run. `stop_share`: of the last 200 requests that may
    fail. Prices are US dollars for a million tokens.
    """

    name: ClassVar[str] = ChatModel.name
    at_least_one: ClassVar[tuple[str, ...]] = (
        *ChatModel.at_least_one,
        "samples_per_request",
        "concurrency",
        "tries",
    )

    urls: tuple[str, ...] = runtime_field(())
    tokens_field: Literal["max_tokens", "max_completion_tokens"] = runtime_field("max_tokens")
    samples_per_request: int = runtime_field(8)
    concurrency: int = runtime_field(256)
    timeout: float = runtime_field(600.0)
    patience: float = runtime_field(300.0)
    tries: int = runtime_field(6)
    stop_share: float = runtime_field(0.5)
    prompt_price: float | None = runtime_field(None)
    completion_price: float | None = runtime_field(None)

    @contextmanager
    def open(self, workers: int, read_image: ReadImage, budget: Budget) -> Iterator[Session]:
        """Connects. Raises TeacherError when no URL is given, or inside a running event loop."""
        from omr_data.teachers.openai_api.client import Client, HttpSession

        urls = self.urls or tuple(
            url.strip() for url in os.environ.get(URLS, "").split(",") if url.strip()
        )
        if not urls:
            raise TeacherError(
                f"{self.model} has no server: set {URLS}=http://HOST:8000/v1 (several with commas between them)."
            )
        if bad := [url for url in urls if not url.startswith(("http://", "https://"))]:
            raise TeacherError(
                f"{bad[0]!r} is no http:// or https:// URL. {URLS} holds URLs up to /v1, like http://HOST:8000/v1."
            )
        if _in_a_loop():
            raise TeacherError(
                "asking runs an event loop of its own, and one runs in this thread already. Call it from another thread."
            )
        with _calm_collector(), asyncio.Runner() as runner:
            client = Client(
                self,
                tuple(url.rstrip("/") for url in urls),
                os.environ.get(KEY) or None,
                read_image,
                budget,
            )
            try:
                runner.run(client.start())
                yield HttpSession(client, runner)
            finally:
                runner.run(client.close())

    def cost(self, responses: Sequence[Response]) -> float:
        """US dollars for some responses; 0 where no price is given."""
        prompt = sum(response.prompt_tokens for response in responses) * (self.prompt_price or 0.0)
        return (
            prompt
            + sum(response.completion_tokens for response in responses)
            * (self.completion_price or 0.0)
        ) / 1e6

    def estimate(self, requests: Iterator[Request]) -> Estimate:
        """Prompts at four characters a token and one token for each image patch; answers at a quarter of `max_tokens`."""
        sent = prompt = completion = 0
        for request in requests:
            asked = -(-len(request.attempts) // self.samples_per_request)
            pixels = sum(
                -(-image.width // PATCH) * -(-image.height // PATCH) for image in request.images
            )
            sent += asked
            prompt += asked * (sum(len(message.text) for message in request.messages) // 4 + pixels)
            completion += len(request.attempts) * self.max_tokens // 4
        priced = self.prompt_price is not None or self.completion_price is not None
        usd = (
            (prompt * (self.prompt_price or 0.0) + completion * (self.completion_price or 0.0))
            / 1e6
            if priced
            else None
        )
        return Estimate(sent, prompt, completion, usd)


@contextmanager
def _calm_collector() -> Iterator[None]:
    """Leaves what is alive now out of garbage collection, and collects less often: with thousands of requests a second, the
    collector would walk all loaded modules again and again (a third of the time, measured). Cycles are still collected."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def _in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
