"""A provider of batches on 127.0.0.1."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from omr_data.teacher import Teacher
from omr_data.teachers import openai_batch
from tests.servers import batch_server

TIER = "build"
"""The provider needs the `openai` package, which takes a second to import."""


@contextmanager
def example(folder: Path) -> Iterator[Teacher]:
    """Yields a teacher of a provider that completes batches at once."""
    with batch_server() as server:
        yield openai_batch.Teacher(
            "tiny", max_tokens=64, urls=(server.url,), timeout=5.0, poll=0.02, folder=folder
        )
