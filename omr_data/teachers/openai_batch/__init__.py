"""The same models asked through the Batch API of hosted providers: at half the price, in a day.

    openai_batch.Teacher("o4-mini", max_tokens=16_384, tokens_field="max_completion_tokens")

It asks what `openai_api.Teacher` asks, so both have one name and one key per question. A build that
began live goes on in batches, or the other way round, without asking for anything twice. The URL
and the key are read from the same variables.

A batch is paid for when it is made, and answered up to 24 hours later. So the build writes down
what it bought in a journal beside the rollouts, and a build that was killed finds its batches again
(see `journal`).
"""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from yarl import URL

from omr_data.errors import MissingExtra, TeacherError
from omr_data.http import proxy_of, secrets_of, shown_url
from omr_data.teacher import Budget, ReadImage, Session
from omr_data.teachers.openai_api.settings import URLS
from omr_data.teachers.openai_batch.settings import BatchModel

TRANSFER_SECONDS = 600.0
"""How long a provider may be silent in one call, where the teacher sets no `timeout`."""


@dataclass(frozen=True)
class Teacher(BatchModel):
    """A model asked in batches.

    Its fields are those of `ChatModel`, `ServedModel` and `BatchModel`.
    """

    name: ClassVar[str] = BatchModel.name
    """One name for all ways of asking a model, so that they share rollout keys."""

    def kept_in(self, folder: Path) -> "Teacher":
        return replace(self, folder=self.folder or folder / "batches")

    @contextmanager
    def open(self, workers: int, read_image: ReadImage, budget: Budget) -> Iterator[Session]:
        """Connects to the provider. Nothing is bought yet.

        Args:
            workers: Not used.
            read_image: Reads the bytes of the requests' images.
            budget: What may be spent.

        Raises:
            MissingExtra: The `openai` client is not installed.
            TeacherError: There is not exactly one URL, no folder for the journal, or the budget
                needs prices.
        """
        if importlib.util.find_spec("openai") is None:
            raise MissingExtra("openai", "batch")
        # Imported here, because they import the optional client.
        import openai

        from omr_data.teachers.openai_batch.journal import BatchJournal
        from omr_data.teachers.openai_batch.provider import Provider
        from omr_data.teachers.openai_batch.session import BatchSession

        if self.folder is None:
            raise TeacherError(
                f"{self.model} is asked in batches, which outlive a process: only a build has a "
                "workspace to remember them in."
            )
        # Batches belong to one account. Two providers would need two journals.
        urls = self.server_urls()
        if len(urls) != 1:
            raise TeacherError(
                f"{self.model} is asked in batches at one provider, and {URLS} names {len(urls)}: "
                f"{', '.join(map(shown_url, urls))}. Set {URLS}=https://HOST/v1."
            )
        self.check_budget(budget)
        key, url = self.server_key(), URL(urls[0])
        # The proxy is the one that live requests take. Files go up and down within the time limit.
        web = openai.DefaultHttpxClient(
            proxy=proxy_of(urls[0]), trust_env=False, timeout=self.timeout or TRANSFER_SECONDS
        )
        # Some gateways take their key in the query, which the client would drop from the URL.
        with openai.OpenAI(
            api_key=key or "none",
            base_url=str(url.with_query(None)),
            default_query=dict(url.query),
            http_client=web,
        ) as client:
            provider = Provider(
                client, urls[0], secrets_of(urls, key), poll=self.poll, outage=self.outage
            )
            yield BatchSession(self, provider, BatchJournal(self.folder), read_image, budget)
