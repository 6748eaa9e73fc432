"""Settings of a model behind a server: where it is, how it is asked, and what it costs.

None of them is identity. `ServedModel` adds them to `ChatModel`, and does the arithmetic of tokens
and dollars that estimates and budgets need.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from omr_data.errors import TeacherError
from omr_data.http import HttpError, read_key
from omr_data.identity import runtime_field
from omr_data.records import plain_number
from omr_data.teacher import Budget, Estimate, Request
from omr_data.teachers.openai_api.model import ChatModel

URLS = "OMR_TEACHER_URL"
KEY = "OMR_TEACHER_KEY"
PATCH = 28
"""Pixels of one merged patch of Qwen-VL: an image costs about one token each. Estimates only."""
MOST_TOKENS = 10**9
"""A reply that claims more tokens than this is not believed, and counts as one without usage."""
CHAT_TOKENS = 1_024
"""Most tokens that a chat template adds to the texts of a prompt."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one reply, as the server counted them."""

    prompt: int
    """Tokens of the prompt, images included."""
    completion: int
    """Tokens of all answers, reasoning included."""

    @classmethod
    def from_json(cls, given: Any) -> "Usage | None":
        """Reads the token counts of a reply. None where they are missing or absurd."""
        try:
            counts = [plain_number(given[name]) for name in ("prompt_tokens", "completion_tokens")]
        except (ValueError, KeyError, TypeError):
            return None
        # Float counts like 7.0 became integers above; 7.5 tokens are not believed.
        prompt, completion = counts
        if not all(isinstance(count, int) and 0 <= count <= MOST_TOKENS for count in counts):
            return None
        return cls(int(prompt), int(completion))


@dataclass(frozen=True)
class ServedModel(ChatModel):
    """A model behind a server. Times are in seconds, prices in US dollars for a million tokens."""

    name: ClassVar[str] = ChatModel.name
    """One name for all ways of asking a model, so that they share rollout keys."""
    at_least_one: ClassVar[tuple[str, ...]] = (
        *ChatModel.at_least_one,
        "samples_per_request",
        "concurrency",
        "tries",
    )
    """Fields that must be 1 or more."""
    price_share: ClassVar[float] = 1.0
    """What this way of asking costs, as a share of the prices."""

    urls: tuple[str, ...] = runtime_field(())
    """Base URLs up to `/v1`. Without any, OMR_TEACHER_URL holds them, with commas between."""
    served_as: tuple[str, ...] = runtime_field(())
    """Names that the server may report as the model. Given, an answer of any other name is a
    failure. Without them, another name than the asked one is only reported."""
    tokens_field: Literal["max_tokens", "max_completion_tokens"] = runtime_field("max_tokens")
    """What the server calls the limit of tokens."""
    samples_per_request: int = runtime_field(8)
    """Most attempts of one request. A server that gives only one is noticed."""
    concurrency: int = runtime_field(256)
    """Most requests in flight for each URL."""
    timeout: float | None = runtime_field(None)
    """How long one request may take. None waits as long as the server is alive."""
    silence: float = runtime_field(60.0)
    """How long an endpoint may send nothing before it is asked whether it is alive."""
    outage: float = runtime_field(3_600.0)
    """How long endpoints that are away are waited for."""
    tries: int = runtime_field(6)
    """Tries of one attempt in one run. Waiting for an endpoint that is away counts as none."""
    stop_share: float = runtime_field(0.5)
    """The share of the last 200 paid replies that may hold no answer."""
    image_tokens_at_most: int = runtime_field(16_384)
    """Most tokens of one image, for what a request can cost at most."""
    prompt_price: float | None = runtime_field(None)
    """US dollars for a million tokens of prompts."""
    completion_price: float | None = runtime_field(None)
    """US dollars for a million tokens of answers."""

    def server_urls(self) -> tuple[str, ...]:
        """Returns the URLs of the servers, without a slash at the end.

        Raises:
            TeacherError: There is none, or one is not an http:// or https:// URL.
        """
        # A recipe's own URLs win: a judge often stands elsewhere than the teacher.
        given = self.urls or tuple(os.environ.get(URLS, "").split(","))
        urls = tuple(url.strip().rstrip("/") for url in given if url.strip())
        if not urls:
            raise TeacherError(
                f"{self.model} has no server: set {URLS}=http://HOST:8000/v1 "
                "(several with commas between them)."
            )
        # Checked before anything is sent: aiohttp would fail at each request.
        for url in urls:
            if not url.startswith(("http://", "https://")):
                raise TeacherError(
                    f"{url!r} is not an http:// or https:// URL. {URLS} holds URLs up to /v1, "
                    "like http://HOST:8000/v1."
                )
        return urls

    def server_key(self) -> str | None:
        """Returns the key of OMR_TEACHER_KEY, or None. Raises TeacherError for an unusable one."""
        try:
            # Read anew for each run and not a field, which would be printed with the recipe.
            return read_key(KEY)
        except HttpError as error:
            raise TeacherError(str(error)) from error

    def accepts(self, served: str) -> bool:
        """Whether answers of the model that a server says it served are kept."""
        # A server that does not say what it served is believed.
        return not self.served_as or served in ("", self.model, *self.served_as)

    def check_budget(self, budget: Budget) -> None:
        if budget.usd is not None and not self.has_prices:
            raise TeacherError(
                f"--budget counts US dollars, and {self.model} has no prices. Write "
                "prompt_price=2.0, completion_price=8.0 (US dollars for a million tokens; 0.0 for "
                "a server of your own) in its Teacher(...), or limit the run by --max-requests."
            )

    @property
    def has_prices(self) -> bool:
        """Whether both prices are known."""
        return self.prompt_price is not None and self.completion_price is not None

    def dollars(self, usage: Usage) -> float:
        """US dollars for some tokens. An unknown price counts as 0."""
        # None counts as 0, so that a plan with one known price has a lower bound.
        prompt = usage.prompt * (self.prompt_price or 0.0)
        completion = usage.completion * (self.completion_price or 0.0)
        return self.price_share * (prompt + completion) / 1e6

    def usage_at_most(self, request: Request, samples: int) -> Usage:
        """Tokens that one request can use at most.

        No tokenizer makes more tokens than its text has bytes of UTF-8.

        Args:
            request: The question.
            samples: How many answers the request asks for.
        """
        # Bytes bound tokens in every byte-level tokenizer; most texts have a quarter of it.
        text = sum(len(message.text.encode()) for message in request.messages)
        images = len(request.images) * self.image_tokens_at_most
        return Usage(text + images + CHAT_TOKENS, samples * self.max_tokens)

    def estimate(self, requests: Iterator[Request]) -> Estimate:
        """Estimates prompts at four characters a token, answers at a quarter of `max_tokens`."""
        sent = prompt = completion = 0
        for request in requests:
            # Prompt tokens are charged once per request, however many answers it asks for.
            asked = -(-len(request.attempts) // self.samples_per_request)
            patches = sum(
                -(-image.width // PATCH) * -(-image.height // PATCH) for image in request.images
            )
            characters = sum(len(message.text) for message in request.messages)
            sent += asked
            prompt += asked * (characters // 4 + patches)
            completion += len(request.attempts) * self.max_tokens // 4
        # One known price gives a lower bound, which is better than none in a plan.
        has_price = self.prompt_price is not None or self.completion_price is not None
        usd = None
        if has_price:
            usd = self.dollars(Usage(prompt, completion))
        return Estimate(sent, prompt, completion, usd)
