"""One line of a batch: a request on its way out, and what an output file says of it.

A line of an output file is {"custom_id", "response": {"status_code", "body"}, "error": {"code",
"message"}}. It has a response where the model was reached, and an error where it was not.
"""

import json
from dataclasses import dataclass, field
from typing import Any, Final

from omr_data.errors import TeacherError
from omr_data.http import Meaning, meaning
from omr_data.records import Response
from omr_data.teacher import AttemptStatus, Failure, ReadImage, Request
from omr_data.teachers.openai_api.replies import failure, read_reply
from omr_data.teachers.openai_api.settings import Usage
from omr_data.teachers.openai_api.wire import prepare, tail
from omr_data.teachers.openai_batch.settings import BatchModel

ENDPOINT: Final = "/v1/chat/completions"
NAME_LENGTH = 48
"""Digits of a key in a line's name. With the attempt they make at most 64 characters."""
ENDINGS = {"batch_expired": "expired", "batch_cancelled": "cancelled"}
"""Kinds of failure by a line's error code."""


@dataclass(frozen=True, slots=True)
class BatchLine:
    """Consecutive attempts at one question."""

    request: Request
    """The question as the engine gave it."""
    attempts: tuple[int, ...]
    """The attempts that the line asks for."""

    @property
    def id(self) -> str:
        """The line's name in its batch."""
        return custom_id(self.request.key, self.attempts[0])


@dataclass(frozen=True, slots=True)
class LineResult:
    """What came of one line."""

    results: list[Response | Failure] = field(default_factory=list)
    """Answers, and failures of attempts that this run wanted."""
    missing: tuple[int, ...] = ()
    """Attempts that are to be asked alone: the line was refused, or gave fewer choices."""
    usage: Usage | None = None
    """What the provider counted, if it sent a reply."""
    was_run: bool = False
    """Whether the model was reached, so that it may have cost something."""
    takes_several: bool = True
    """False when the provider gave fewer choices than were asked for."""


def custom_id(key: str, first: int) -> str:
    """Names a line, in at most 64 characters, which every provider takes.

    Args:
        key: The question's key.
        first: The first attempt.
    """
    # 192 bits of the key: two questions of one batch never share a name.
    return f"{key[:NAME_LENGTH]}-{first}"


def write_line(teacher: BatchModel, line: BatchLine, read_image: ReadImage) -> bytes:
    """Writes a line of the file that is uploaded.

    Args:
        teacher: The model and its sampling parameters.
        line: What is asked.
        read_image: Reads the bytes of its images.

    Raises:
        TeacherError: No file may hold a line of this size.
    """
    start = prepare(teacher, line.request, read_image)
    # The body is byte for byte that of a live request, so answers are comparable.
    body = start + tail(teacher, line.request.key, line.attempts)
    raw = b'{"custom_id": "%b", "method": "POST", "url": "%b", "body": %b}\n' % (
        line.id.encode(),
        ENDPOINT.encode(),
        body,
    )
    if len(raw) > teacher.bytes_per_file:
        raise TeacherError(
            f"one request has {len(raw):,} bytes, and the file of a batch may have "
            f"{teacher.bytes_per_file:,}."
        )
    return raw


def parse_line(raw: bytes) -> dict[str, Any]:
    """Reads a line of an output file. A broken one is empty: its request has no answer then."""
    try:
        answer = json.loads(raw.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return {}
    # Counted as no answer and not as an error: the other lines of the file are paid for.
    if not isinstance(answer, dict):
        return {}
    return answer


def read_line(
    line: BatchLine, answer: dict[str, Any], teacher: BatchModel, seconds: float
) -> LineResult:
    """Tells what came of a line. Statuses and choices are judged as they are live.

    Args:
        line: What was asked.
        answer: The line of the output file.
        teacher: The asked model.
        seconds: From making the batch to its end.
    """
    response, error = answer.get("response"), answer.get("error")
    if not isinstance(response, dict):
        said: Any = error
        if not isinstance(error, dict):
            # Cut short: a broken line may be as large as an answer.
            said = {"message": str(answer)[:300]}
        code = str(said.get("code", ""))
        kind = ENDINGS.get(code, "server error")
        return LineResult(failures(line, kind, f"{code}: {said.get('message')}"))
    status = response.get("status_code")
    body = json.dumps(response.get("body")).encode()
    if not isinstance(status, int):
        return LineResult(failures(line, "server error", body.decode()))
    if 200 <= status < 300:
        return _read_reply(line, body, teacher, seconds, status)
    found = meaning(status, body)
    said_words = body.decode()
    # The filter speaks of the question, however many answers were asked for.
    if found is Meaning.POLICY:
        return LineResult(
            failures(line, "content filter", said_words, status, AttemptStatus.REFUSED)
        )
    if found is Meaning.REQUEST:
        # Only the refusal of a single answer says something about the question.
        if len(line.attempts) > 1:
            return LineResult(missing=_wanted(line, line.attempts))
        return LineResult(failures(line, "rejected", said_words, status, AttemptStatus.REJECTED))
    kind = "server error"
    if status == 429:
        kind = "rate limited"
    elif found is Meaning.ACCESS:
        kind = "refused access"
    # Nobody charges for what was turned away; a gateway's 5xx may hide a run.
    return LineResult(failures(line, kind, said_words, status), was_run=status >= 500)


def _read_reply(
    line: BatchLine, body: bytes, teacher: BatchModel, seconds: float, status: int
) -> LineResult:
    reply = read_reply(body, teacher, line.request.key, line.attempts, seconds)
    if reply.fault:
        failed = failures(line, reply.fault, reply.detail, status)
        return LineResult(failed, usage=reply.usage, was_run=True)
    # An earlier run may have bought more attempts than this one wants.
    wanted = [one for one in reply.failures if one.attempt in line.request.attempts]
    return LineResult(
        [*reply.responses, *wanted],
        missing=_wanted(line, line.attempts[reply.choices :]),
        usage=reply.usage,
        was_run=True,
        takes_several=reply.choices == len(line.attempts),
    )


def failures(
    line: BatchLine,
    kind: str,
    detail: str,
    http_status: int = 0,
    status: AttemptStatus = AttemptStatus.FAILED,
) -> list[Response | Failure]:
    """The same failure of the line's attempts, each tried once.

    What this run did not want (an earlier one bought it) is left out.

    Args:
        line: What was asked.
        kind: A short word for counting.
        detail: What the provider said.
        http_status: The line's HTTP status, if it has one.
        status: How the attempts ended.
    """
    return [failure(one, status, kind, detail, http_status) for one in _wanted(line, line.attempts)]


def _wanted(line: BatchLine, attempts: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(one for one in attempts if one in line.request.attempts)
