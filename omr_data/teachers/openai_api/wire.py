"""What is sent: OpenAI chat completions, as vLLM, SGLang and hosted servers speak it.

A question's body is prepared once, without its tail. Its images are base64 of the original bytes,
encoded once for all attempts. The tail holds what differs between requests: `n` and the seed.
`vllm_offline` takes its chats, fields, runs and seeds from here too.
"""

import base64
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from omr_data.errors import TeacherError
from omr_data.records import IMAGE_MARK, ImageRef, Message, data_url
from omr_data.teacher import ReadImage, Request
from omr_data.teachers.openai_api.model import ChatModel
from omr_data.teachers.openai_api.settings import ServedModel

SAMPLING = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
)
"""Fields of a teacher that are sent under their own names."""


def prepare(teacher: ServedModel, request: Request, read_image: ReadImage) -> bytes:
    """Returns the body of a question without its closing brace.

    Args:
        teacher: The model and its sampling parameters.
        request: The question.
        read_image: Reads the bytes of its images.

    Raises:
        TeacherError: The chat's image marks and its images do not match.
    """
    # Hashes stand for images until the JSON is written: base64 needs no escaping.
    chat = messages(request, lambda image: data_url(image, _mark(image)))
    body = {
        "model": teacher.model,
        "messages": chat,
        teacher.tokens_field: teacher.max_tokens,
    } | sampling(teacher)
    text = json.dumps(body, ensure_ascii=False).encode()[:-1]
    parts, at = [], 0
    for image in request.images:
        mark = _mark(image).encode()
        # Searching from the last place keeps two uses of one image apart. Going through JSON would
        # copy and scan every byte of an image three times.
        found = text.index(mark, at)
        parts += [text[at:found], base64.b64encode(read_image(image))]
        at = found + len(mark)
    return b"".join([*parts, text[at:]])


def sampling(model: ChatModel) -> dict[str, Any]:
    """The fields that say how to sample, without those left to the server."""
    fields: dict[str, Any] = {}
    for name in SAMPLING:
        value = getattr(model, name)
        if value is not None:
            fields[name] = value
    if model.stop:
        fields["stop"] = list(model.stop)
    if model.response_format is not None:
        fields["response_format"] = json.loads(model.response_format)
    # Last, so that it may replace a sampling field that a server calls otherwise.
    extra: dict[str, Any] = json.loads(model.extra_body)
    return fields | extra


def _mark(image: ImageRef) -> str:
    return f"<sha256:{image.sha256}>"


def tail(model: ChatModel, key: str, attempts: Sequence[int]) -> bytes:
    """Returns the rest of the body for some attempts.

    Args:
        model: The model, for the base of its seeds.
        key: The question's key.
        attempts: Attempt numbers, which are consecutive when there are several.
    """
    text = ""
    # Left out for one answer: some servers refuse the field, whatever it says.
    if len(attempts) > 1:
        text = f', "n": {len(attempts)}'
    if model.seed is not None:
        text += f', "seed": {seed(model.seed, key, attempts[0])}'
    return text.encode() + b"}"


def seed(base: int, key: str, attempt: int) -> int:
    """The seed of one attempt, from 0 to 2**31 - 1.

    vLLM gives sample i of a request the seed plus i. Seeds of attempts differ by one as well, so an
    attempt has the same seed asked alone and among others.

    Args:
        base: The teacher's `seed`.
        key: The question's key.
        attempt: The attempt number.
    """
    # The key is part of it, so that equal attempts of two questions differ.
    digest = hashlib.sha256(f"{base}:{key}".encode()).digest()
    return (int.from_bytes(digest[:4]) + attempt) % 2**31


def runs(attempts: Sequence[int], most: int) -> Iterator[tuple[int, ...]]:
    """Yields attempts in runs of at most `most` consecutive numbers.

    The seed of a run is that of its first attempt, so a gap starts a new run.
    """
    run: list[int] = []
    for attempt in attempts:
        if run and (attempt != run[-1] + 1 or len(run) == most):
            yield tuple(run)
            run = []
        run.append(attempt)
    yield tuple(run)


def messages(request: Request, url: Callable[[ImageRef], str]) -> list[dict[str, Any]]:
    """Returns the chat with each image as a URL where its mark stands.

    Raises:
        TeacherError: Marks and images do not match.
    """
    # One iterator over all messages: marks take images in the order of the chat.
    images = iter(request.images)
    found = [
        {"role": message.role, "content": _content(message, images, url)}
        for message in request.messages
    ]
    if left := len(list(images)):
        raise TeacherError(
            f"a question has {left} more images than {IMAGE_MARK} marks: "
            f"{request.messages[-1].text[:80]!r}."
        )
    return found


def _content(
    message: Message, images: Iterator[ImageRef], url: Callable[[ImageRef], str]
) -> str | list[dict[str, Any]]:
    if IMAGE_MARK not in message.text:
        return message.text
    parts: list[dict[str, Any]] = []
    for number, text in enumerate(message.text.split(IMAGE_MARK)):
        if number:
            image = next(images, None)
            if image is None:
                raise TeacherError(
                    f"a message has more {IMAGE_MARK} marks than images: {message.text[:80]!r}."
                )
            parts.append({"type": "image_url", "image_url": {"url": url(image)}})
        # Empty text parts are refused by some servers.
        if text:
            parts.append({"type": "text", "text": text})
    return parts
