"""Builds small records and images for tests."""

import io
from typing import Any

from PIL import Image

from omr_data.records import Record, Response


def record(id: str = "demo/1", **fields: Any) -> Record:
    """A record with sensible defaults."""
    return Record(
        **{
            "id": id,
            "source": "demo",
            "license": "MIT",
            "question": "What is 3 + 4?",
            "answer": "7",
        }
        | fields
    )


def response(
    text: str = "<think>3 + 4 = 7</think><answer>7</answer>", attempt: int = 0, **fields: Any
) -> Response:
    """A response with sensible defaults."""
    return Response(**{"text": text, "attempt": attempt, "model": "demo-teacher"} | fields)


def png(color: str = "red", size: tuple[int, int] = (8, 6)) -> bytes:
    """The bytes of a one-color image."""
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, "PNG")
    return buffer.getvalue()
