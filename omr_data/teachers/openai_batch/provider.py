"""The provider's side of a batch, through the official client: upload, make, look, download.

What may pass (no connection, 429, 5xx) is tried again for `patience` seconds; what cannot is a TeacherError that says what to do.
"""

import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import httpx2
import openai
from openai.types import Batch

from omr_data.errors import TeacherError
from omr_data.store.atomic import atomic_path
from omr_data.teachers.openai_batch.lines import ENDPOINT

PASSING = (
    openai.APIConnectionError,
    openai.InternalServerError,
    openai.RateLimitError,
    httpx2.TransportError,
)
FINAL = ("completed", "expired", "cancelled", "failed")

T = TypeVar("T")


class Provider:
    """One account at one URL. Times are in seconds."""

    def __init__(
        self, client: openai.OpenAI, url: str, key: str | None, poll: float, patience: float
    ) -> None:
        self._client, self.url, self._key, self.poll, self._patience = (
            client,
            url,
            key,
            poll,
            patience,
        )
        # The client tries again by itself, and the API knows no idempotency keys: a batch would be made, and paid for, twice.
        self._once = client.with_options(max_retries=0)

    def upload(self, path: Path) -> str:
        """Uploads a file of requests; returns its id."""

        def upload() -> str:
            with open(path, "rb") as stream:
                return self._client.files.create(
                    file=("requests.jsonl", stream), purpose="batch"
                ).id

        return self._patiently("take a file of requests", upload)

    def make(self, file: str) -> Batch:
        """Makes a batch from an uploaded file, once: where no answer came, it is looked for, a poll later, before trying again."""
        tries = itertools.count()

        def make() -> Batch:
            if next(tries) and (found := self._find(file)) is not None:
                return found
            return self._once.batches.create(
                input_file_id=file, endpoint=ENDPOINT, completion_window="24h"
            )

        return self._patiently("make a batch", make)

    def find(self, file: str) -> Batch | None:
        """The batch that was made from a file, if one was. Reads the account's list of batches."""
        return self._patiently("list its batches", lambda: self._find(file))

    def _find(self, file: str) -> Batch | None:
        return next(
            (
                batch
                for batch in self._client.batches.list(limit=100)
                if batch.input_file_id == file
            ),
            None,
        )

    def look(self, batch: str, entry: Path) -> Batch:
        """How a batch is getting on."""
        return self._patiently(
            f"tell of the batch {batch}", lambda: self._client.batches.retrieve(batch), _lost(entry)
        )

    def download(self, file: str, path: Path, entry: Path) -> None:
        """Writes an output file of a batch to a path."""

        def download() -> None:
            content = self._client.files.with_streaming_response.content(file)
            with content as answer, atomic_path(path) as whole, open(whole, "wb") as stream:
                for piece in answer.iter_bytes(2**20):
                    stream.write(piece)

        self._patiently(f"give the output {file}", download, _lost(entry))

    def _patiently(
        self,
        what: str,
        call: Callable[[], T],
        advice: str = "Check the URL, the key and the account.",
    ) -> T:
        """Calls until it succeeds, and gives up after the patience is over or at once where trying again cannot help."""
        end = time.monotonic() + self._patience
        while True:
            try:
                return call()
            except PASSING as error:
                if time.monotonic() + self.poll > end:
                    raise TeacherError(
                        f"{self.url} does not {what}: {self._shown(error)}. {_KEPT}"
                    ) from error
            except openai.APIError as error:
                raise TeacherError(
                    f"{self.url} refuses to {what}: {self._shown(error)}. {advice} {_KEPT}"
                ) from error
            time.sleep(self.poll)

    def _shown(self, error: Exception) -> str:
        return (str(error).replace(self._key, "***") if self._key else str(error))[:300]


_KEPT = "Batches under way go on, and the same command collects them."


def _lost(entry: Path) -> str:
    return (
        "It was paid for: if it was made with another account's key, use that key. "
        f"To give it up, delete {entry}; what it asked for is then asked for, and paid, again."
    )
