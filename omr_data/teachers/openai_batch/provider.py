"""The provider's side of a batch, through the official client: upload, make, look, download.

What may pass (no connection, 429, 5xx) is tried again with growing pauses for `outage` seconds.
What cannot pass is a TeacherError with the provider's own words and what to do.
"""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import httpx2
import openai
from openai.types import Batch

from omr_data.errors import TeacherError
from omr_data.http import Meaning, Pauses, meaning, redact, retry, shown_url
from omr_data.store.atomic import atomic_path
from omr_data.teachers.openai_batch.lines import ENDPOINT

FINAL = ("completed", "expired", "cancelled", "failed")
KEPT = "Batches under way go on, and the same command collects them."

T = TypeVar("T")


class Provider:
    """One account at one URL. Times are in seconds."""

    def __init__(
        self, client: openai.OpenAI, url: str, secrets: Sequence[str], *, poll: float, outage: float
    ) -> None:
        """Makes the provider.

        Args:
            client: The official client.
            url: The base URL.
            secrets: Texts that no error may show.
            poll: Between two looks at a batch.
            outage: How long a provider that is away is waited for.
        """
        self.url, self.poll, self.outage = url, poll, outage
        self._secrets = secrets
        # The client would try again by itself, and the API knows no idempotency keys: a batch would
        # be made, and paid for, twice.
        self._client = client.with_options(max_retries=0)

    @property
    def name(self) -> str:
        """The URL as people may see it."""
        return shown_url(self.url)

    def upload(self, path: Path) -> str:
        """Uploads a file of requests. Returns its id."""

        def upload() -> str:
            # Opened anew for each try: the last one may have read half of it.
            with open(path, "rb") as stream:
                made = self._client.files.create(file=("requests.jsonl", stream), purpose="batch")
            return made.id

        return self._patiently("take a file of requests", upload)

    def make(self, file: str) -> Batch:
        """Makes a batch from an uploaded file, once.

        Where no answer came, the batch is looked for before trying again: it may have been made.
        """
        tries = itertools.count()

        def make() -> Batch:
            if next(tries):
                found = self._find(file)
                if found is not None:
                    return found
            return self._client.batches.create(
                input_file_id=file, endpoint=ENDPOINT, completion_window="24h"
            )

        return self._patiently("make a batch", make)

    def find(self, file: str) -> Batch | None:
        """The batch that was made from a file, if one was. Reads the account's list of batches."""
        # Reads the whole list: the API cannot search it by file.
        return self._patiently("list its batches", lambda: self._find(file))

    def _find(self, file: str) -> Batch | None:
        for batch in self._client.batches.list(limit=100):
            if batch.input_file_id == file:
                return batch
        return None

    def look(self, batch: str, entry: Path) -> Batch:
        """How a batch is getting on.

        Args:
            batch: Its id.
            entry: Its file in the journal, which the error names.
        """
        return self._patiently(
            f"tell of the batch {batch}",
            lambda: self._client.batches.retrieve(batch),
            _lost(entry),
        )

    def download(self, file: str, path: Path, entry: Path) -> None:
        """Writes an output file of a batch.

        Args:
            file: The id of the file.
            path: Where it is written.
            entry: The batch's file in the journal, which the error names.
        """

        def download() -> None:
            content = self._client.files.with_streaming_response.content(file)
            # Streamed to disk: an output file may be larger than memory.
            with content as answer, atomic_path(path) as whole, open(whole, "wb") as stream:
                for piece in answer.iter_bytes(2**20):
                    stream.write(piece)

        self._patiently(f"give the output {file}", download, _lost(entry))

    def _patiently(
        self,
        what: str,
        call: Callable[[], T],
        advice: str = "Check the URL, the key, the account and its balance.",
    ) -> T:
        """Calls until it succeeds.

        Args:
            what: What is asked of the provider, for errors.
            call: The call.
            advice: What to do when it is refused.

        Raises:
            TeacherError: It was away for too long, or refuses.
        """
        # A new batch may be in the list only a poll later, so no pause is shorter than that.
        pauses = Pauses(self.outage, first=self.poll, longest=max(60.0, self.poll))
        try:
            return retry(call, _may_pass, pauses)
        except (openai.APIError, httpx2.TransportError) as error:
            # Providers repeat the key, or the URL with it, in their messages.
            shown = redact(str(error), self._secrets)[:300]
            if _may_pass(error):
                raise TeacherError(f"{self.name} does not {what}: {shown}. {KEPT}") from error
            raise TeacherError(
                f"{self.name} refuses to {what}: {shown}. {advice} {KEPT}"
            ) from error


def _may_pass(error: Exception) -> bool:
    """Whether trying again may help. What a status means is the same as for live requests."""
    if isinstance(error, openai.APIStatusError):
        return meaning(error.status_code, error.response.content) in (Meaning.BUSY, Meaning.BROKEN)
    return isinstance(error, openai.APIConnectionError | httpx2.TransportError)


def _lost(entry: Path) -> str:
    return (
        "It was paid for: if it was made with another account's key, use that key. "
        f"To give it up, delete {entry}; what it asked for is then asked for, and paid, again."
    )
