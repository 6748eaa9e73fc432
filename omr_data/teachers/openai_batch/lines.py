"""One line of a batch: a request on its way out, and what an output file says of it.

A line of an output file is {"custom_id", "response": {"status_code", "body"}, "error": {"code", "message"}}, with a response
where the model was reached, and an error where it was not.
"""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from omr_data.errors import TeacherError
from omr_data.records import Response
from omr_data.teacher import Failure, ReadImage, Request
from omr_data.teachers.openai_api.client import BUSY, MISCONFIGURED
from omr_data.teachers.openai_api.wire import failure, prepare, read_reply, tail

if TYPE_CHECKING:
    from omr_data.teachers.openai_batch import Teacher

Results = list[Response | Failure]
ENDPOINT: Final = "/v1/chat/completions"


@dataclass(frozen=True, slots=True)
class BatchLine:
    """Consecutive attempts at one question. `request` is the question as the engine gave it."""

    request: Request
    attempts: tuple[int, ...]

    @property
    def id(self) -> str:
        """The line's name in its batch."""
        return custom_id(self.request.key, self.attempts[0])


def custom_id(key: str, first: int) -> str:
    """A line's name: at most 64 characters, which every provider takes."""
    return f"{key[:48]}-{first}"


def write_line(teacher: "Teacher", line: BatchLine, read_image: ReadImage) -> bytes:
    """A line of the file that is uploaded. Raises TeacherError when no file may hold it."""
    body = prepare(teacher, line.request, read_image) + tail(
        teacher, line.request.key, line.attempts
    )
    raw = b'{"custom_id": "%b", "method": "POST", "url": "%b", "body": %b}\n' % (
        line.id.encode(),
        ENDPOINT.encode(),
        body,
    )
    if len(raw) > teacher.bytes_per_file:
        raise TeacherError(
            f"one request has {len(raw):,} bytes, and the file of a batch may have {teacher.bytes_per_file:,}."
        )
    return raw


def parse_line(raw: bytes) -> dict[str, Any]:
    """A line of an output file. A broken one is empty: its request is then one without an answer."""
    try:
        answer = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    return answer if isinstance(answer, dict) else {}


def read_line(line: BatchLine, answer: dict[str, Any], model: str, seconds: float) -> Results:
    """What came of a line: responses, or failures. An attempt without either is to be asked alone: the request for several was
    refused or cut short."""
    response, error = answer.get("response"), answer.get("error")
    if not isinstance(response, dict):
        code, message = (
            (str(error.get("code")), str(error.get("message")))
            if isinstance(error, dict)
            else ("", str(answer)[:300])
        )
        kind = {"batch_expired": "expired", "batch_cancelled": "cancelled"}.get(
            code, "server error"
        )
        return failures(line, kind, f"{code}: {message}")
    status = response.get("status_code")
    body = json.dumps(response.get("body")).encode()
    if status == 200:
        reply = read_reply(body, model, line.request.key, line.attempts, seconds)
        return (
            failures(line, reply.fault, reply.detail, 200) if reply.fault else list(reply.responses)
        )
    if not isinstance(status, int) or status in BUSY or status in MISCONFIGURED or status >= 500:
        kind = (
            "rate limited"
            if status == 429
            else "refused access"
            if status in MISCONFIGURED
            else "server error"
        )
        return failures(line, kind, body.decode(), status if isinstance(status, int) else 0)
    return (
        []
        if len(line.attempts) > 1
        else failures(line, "rejected", body.decode(), status, retriable=False)
    )


def failures(
    line: BatchLine, kind: str, detail: str, status: int = 0, retriable: bool = True
) -> Results:
    """The same failure of the line's attempts, each tried once. What this run did not want (an earlier one bought it) is left out."""
    return [
        failure(one, kind, detail, status, 1, retriable)
        for one in line.attempts
        if one in line.request.attempts
    ]
