"""A server on 127.0.0.1 that speaks chat completions."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from omr_data.teacher import Teacher
from omr_data.teachers import openai_api
from tests.servers import fault_server


@contextmanager
def example(folder: Path) -> Iterator[Teacher]:
    """Yields a teacher of a server that answers at once."""
    with fault_server() as server:
        yield openai_api.Teacher("tiny", max_tokens=64, urls=(server.url,), timeout=5.0)
