"""What goes over the wire: OpenAI chat completions, as vLLM, SGLang and hosted servers speak it.

**Prepared**: one question's body without its tail. Its images are base64 of the original bytes, encoded once for all attempts.
The tail holds what differs between requests: `n` and the seed. `vllm_offline` takes its chats, fields, runs and seeds from here too.
"""

import base64
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from omr_data.errors import TeacherError
from omr_data.records import IMAGE_MARK, ImageRef, Message, Response, data_url
from omr_data.teacher import Failure, ReadImage, Request
from omr_data.teachers.openai_api.model import ChatModel

if TYPE_CHECKING:
    from omr_data.teachers.openai_api import Teacher

SAMPLING = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
)
EMPTY = "empty answer"


def prepare(teacher: "Teacher", request: Request, read_image: ReadImage) -> bytes:
    """The body of a question without its closing brace."""
    chat = messages(request, lambda image: data_url(image, _mark(image)))
    body = {
        "model": teacher.model,
        "messages": chat,
        teacher.tokens_field: teacher.max_tokens,
    } | sampling(teacher)
    return _with_images(
        json.dumps(body, ensure_ascii=False).encode()[:-1], request.images, read_image
    )


def sampling(model: ChatModel) -> dict[str, Any]:
    """The fields that say how to sample, without those left to the server."""
    fields = {name: value for name in SAMPLING if (value := getattr(model, name)) is not None}
    if model.stop:
        fields["stop"] = list(model.stop)
    if model.response_format is not None:
        fields["response_format"] = json.loads(model.response_format)
    extra: dict[str, Any] = json.loads(model.extra_body)
    return fields | extra


def _with_images(body: bytes, images: Sequence[ImageRef], read_image: ReadImage) -> bytes:
    """Puts each image's base64 where its hash stands. Going through JSON would copy and scan every byte of it three times."""
    if not images:
        return body
    parts, at = [], 0
    for image in images:
        mark = _mark(image).encode()
        found = body.index(mark, at)
        parts += [body[at:found], base64.b64encode(read_image(image))]
        at = found + len(mark)
    return b"".join([*parts, body[at:]])


def _mark(image: ImageRef) -> str:
    return f"<sha256:{image.sha256}>"


def tail(model: ChatModel, key: str, attempts: Sequence[int]) -> bytes:
    """The rest of the body for these attempts, which are consecutive when there are several."""
    text = "" if len(attempts) == 1 else f', "n": {len(attempts)}'
    if model.seed is not None:
        text += f', "seed": {seed(model.seed, key, attempts[0])}'
    return text.encode() + b"}"


def seed(base: int, key: str, attempt: int) -> int:
    """The seed of one attempt. vLLM gives sample i of a request the seed plus i, so attempts differ by one as well, and an
    attempt has the same seed asked alone and among others."""
    digest = hashlib.sha256(f"{base}:{key}".encode()).digest()
    return (int.from_bytes(digest[:4]) + attempt) % 2**31


def runs(attempts: Sequence[int], most: int) -> Iterator[tuple[int, ...]]:
    """Attempts in runs of consecutive numbers, at most so many each: the seed of a run is that of its first."""
    run: list[int] = []
    for attempt in attempts:
        if run and (attempt != run[-1] + 1 or len(run) == most):
            yield tuple(run)
            run = []
        run.append(attempt)
    yield tuple(run)


def messages(request: Request, url: Callable[[ImageRef], str]) -> list[dict[str, Any]]:
    """The chat with each image as a URL where its mark stands. Raises TeacherError when marks and images do not match."""
    images = iter(request.images)
    found = [
        {"role": message.role, "content": _content(message, images, url)}
        for message in request.messages
    ]
    if left := len(list(images)):
        raise TeacherError(
            f"a question has {left} more images than {IMAGE_MARK} marks: {request.messages[-1].text[:80]!r}."
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
        if text:
            parts.append({"type": "text", "text": text})
    return parts


@dataclass(frozen=True, slots=True)
class ChatReply:
    """What one HTTP answer came to: responses, in order of attempt, or what is wrong with all of it."""

    responses: tuple[Response, ...] = ()
    fault: str = ""
    detail: str = ""


def read_reply(
    raw: bytes, model: str, key: str, attempts: Sequence[int], seconds: float
) -> ChatReply:
    """The choices of a 200 answer as responses to the first attempts. Fewer choices than attempts are no fault here."""
    try:
        payload = json.loads(raw)
        choices = sorted(payload["choices"], key=lambda choice: choice.get("index") or 0)[
            : len(attempts)
        ]
        read = [_choice(choice) for choice in choices]
        usage = payload.get("usage") or {}
        prompt, completion = (
            int(usage.get("prompt_tokens") or 0),
            int(usage.get("completion_tokens") or 0),
        )
        served = str(payload.get("model") or model)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return ChatReply(
            fault="malformed answer",
            detail=f"{type(error).__name__}: {error}; it begins {raw[:80]!r}",
        )
    if not read:
        return ChatReply(fault="malformed answer", detail="it has no choices")
    if fault := next((fault for *_, fault in read if fault), ""):
        return ChatReply(fault=fault, detail="the answer's text is empty")
    shares = _shares(completion, [len(text) + len(reasoning or "") for text, reasoning, *_ in read])
    return ChatReply(
        tuple(
            Response(
                text=text,
                attempt=attempt,
                model=served,
                finish_reason=reason,
                reasoning=reasoning,
                prompt_tokens=prompt if place == 0 else 0,
                completion_tokens=share,
                key=key,
                seconds=round(seconds, 3),
            )
            for place, (attempt, (text, reasoning, reason, _), share) in enumerate(
                zip(attempts, read, shares, strict=False)
            )
        )
    )


def _choice(choice: dict[str, Any]) -> tuple[str, str | None, str, str]:
    """Text, reasoning, finish reason, and the fault if there is no text. What was cut off is an answer, if an empty one."""
    message = choice["message"]
    content = message.get("content") or ""
    text = (
        content if isinstance(content, str) else "".join(part.get("text") or "" for part in content)
    )
    reasoning = message.get("reasoning_content") or message.get("reasoning") or None
    if reasoning is not None and not isinstance(reasoning, str):
        raise TypeError("the reasoning is no text")
    reason = str(choice.get("finish_reason") or "stop")
    empty = "reasoning without an answer" if reasoning else EMPTY
    return text, reasoning, reason, empty if is_empty(text, reason) else ""


def is_empty(text: str, reason: str) -> bool:
    """Whether this is no answer: nothing was said, and not because the length was reached."""
    return not text.strip() and reason != "length"


def _shares(total: int, sizes: Sequence[int]) -> list[int]:
    """A total shared out by size, in whole numbers that add up to it."""
    whole, shares, before, given = sum(sizes) or 1, [], 0, 0
    for size in sizes[:-1]:
        before += size
        upto = total * before // whole
        shares.append(upto - given)
        given = upto
    return [*shares, total - given]


def failure(
    attempt: int, kind: str, detail: str, status: int, tries: int, retriable: bool
) -> Failure:
    """A failed attempt with at most 500 characters of detail."""
    return Failure(
        attempt=attempt,
        kind=kind,
        detail=detail[:500],
        retriable=retriable,
        status=status,
        tries=tries,
    )
