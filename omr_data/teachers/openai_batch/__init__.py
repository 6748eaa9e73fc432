"""The same models asked through the Batch API of hosted providers: at half the price, and within a day.

    openai_batch.Teacher("o4-mini", max_tokens=16_384, tokens_field="max_completion_tokens")

What is asked is what `openai_api.Teacher` asks, so both have one name: a question has the same key either way, and a build
that began live goes on in batches, or the other way round, without asking for anything twice. How an answer travelled is
no part of what it is, like a URL. The URL and the key are read from the same variables.

A batch is paid for when it is made, and answered up to 24 hours later. So the build writes down what it bought in a
**journal** beside the rollouts, and a build that was killed finds its batches again (see `journal`).
"""

import importlib.util
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from omr_data.errors import MissingExtra, TeacherError
from omr_data.identity import runtime_field
from omr_data.records import Response
from omr_data.teacher import Budget, Estimate, ReadImage, Request, Session
from omr_data.teachers import openai_api

PRICE_SHARE = 0.5
"""What a batch costs of the live price."""

_SIZES = ("requests_per_file", "bytes_per_file", "batches_at_once")


@dataclass(frozen=True)
class Teacher(openai_api.Teacher):
    """One model with its sampling parameters, as `openai_api.Teacher`; prices are the live ones, and halved here.

    Batches hold at most `requests_per_file` requests and `bytes_per_file` bytes; `batches_at_once` of them are under way, and
    looked at every `poll` seconds. `patience`: seconds of a provider that cannot be reached. `folder` is where the journal
    is; a build puts it into its workspace. `concurrency`, `tries` and `stop_share` mean nothing here: what fails in a batch
    is recorded, and asked again by the next run.

    Raises:
        TeacherError: a parameter that no provider takes.
    """

    name: ClassVar[str] = openai_api.Teacher.name
    at_least_one: ClassVar[tuple[str, ...]] = (*openai_api.Teacher.at_least_one, *_SIZES)
    requests_per_file: int = runtime_field(50_000)
    bytes_per_file: int = runtime_field(200_000_000)
    batches_at_once: int = runtime_field(4)
    poll: float = runtime_field(30.0)
    folder: Path | None = runtime_field(None)

    def kept_in(self, folder: Path) -> "Teacher":
        return replace(self, folder=self.folder or folder / "batches")

    @contextmanager
    def open(self, workers: int, read_image: ReadImage, budget: Budget) -> Iterator[Session]:
        """Raises MissingExtra without `openai`, and TeacherError when there is not one URL, or no folder for the journal."""
        if importlib.util.find_spec("openai") is None:
            raise MissingExtra("openai", "batch")
        import openai

        from omr_data.teachers.openai_batch.journal import BatchJournal
        from omr_data.teachers.openai_batch.provider import Provider
        from omr_data.teachers.openai_batch.session import BatchSession

        if self.folder is None:
            raise TeacherError(
                f"{self.model} is asked in batches, which outlive a process: only a build has a workspace to remember them in."
            )
        urls = self.urls or tuple(
            url.strip() for url in os.environ.get(openai_api.URLS, "").split(",") if url.strip()
        )
        if len(urls) != 1 or not urls[0].startswith(("http://", "https://")):
            raise TeacherError(
                f"{self.model} is asked in batches at one provider, and {openai_api.URLS} names {len(urls)}: {', '.join(urls) or 'none'}. "
                f"Set {openai_api.URLS}=https://HOST/v1."
            )
        key, url = os.environ.get(openai_api.KEY) or None, urls[0].rstrip("/")
        with openai.OpenAI(api_key=key or "none", base_url=url, timeout=self.timeout) as client:
            provider = Provider(client, url, key, self.poll, self.patience)
            yield BatchSession(self, provider, BatchJournal(self.folder), read_image, budget)

    def cost(self, responses: Sequence[Response]) -> float:
        """US dollars for some responses, at the price of a batch; 0 where no price is given."""
        return PRICE_SHARE * super().cost(responses)

    def estimate(self, requests: Iterator[Request]) -> Estimate:
        """As live, at the price of a batch."""
        live = super().estimate(requests)
        return replace(live, usd=None if live.usd is None else PRICE_SHARE * live.usd)

    def most(self, request: Request, attempts: int) -> float:
        """US dollars that one request for so many answers costs if each is as long as it may be; 0 where no price is given."""
        one = self.estimate(iter([replace(request, attempts=request.attempts[:1])]))
        completion = attempts * self.max_tokens * (self.completion_price or 0.0)
        return PRICE_SHARE * (one.prompt_tokens * (self.prompt_price or 0.0) + completion) / 1e6
