"""The data words, and the one Arrow schema that stores them.

**Record**: one problem: the question (with one `<image>` mark where each image stands), its images by reference,
options, gold answer, source and license, and its **responses** nested inside it.
**Response**: one attempt of one teacher at one record. **Verdict**: what a verifier said of one response.
**ImageRef**: an image by the sha256 of its original bytes; the bytes are in the image store.

Records are values: frozen, compared by content, changed with `dataclasses.replace`.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pyarrow as pa

IMAGE_MARK = "<image>"

ANSWER_FINISH_REASONS = ("stop", "length")
"""Finish reasons of an answer: the model ended by itself, or reached `max_tokens`. A response with
any other one (abort, error, content_filter, tool_calls, null) is no answer and never RIGHT."""
REPLACEMENT = "\ufffd"
"""What stands for a character that cannot be stored."""

RIGHT: Literal["RIGHT"] = "RIGHT"
WRONG: Literal["WRONG"] = "WRONG"
UNDECIDED: Literal["UNDECIDED"] = "UNDECIDED"
Outcome = Literal["RIGHT", "WRONG", "UNDECIDED"]


@dataclass(frozen=True, slots=True)
class ImageRef:
    """An image by content. `sha256` is the hex digest of the original bytes; width and height are in pixels."""

    sha256: str
    width: int
    height: int
    format: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a verifier said: the outcome, who said it (name and revision), the answer it read, and why, in words."""

    outcome: Outcome
    verifier: str
    revision: int
    extracted: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Response:
    """One attempt. `text` is the visible answer text, `reasoning` what the server returned apart from it.

    `finish_reason` is the server's word ("stop", "length", ...); token counts are the server's own.
    Of a request that was answered several times at once, the first answer carries the prompt's tokens and the others 0, and
    the completion tokens are shared by length, so that sums are what the server counted.
    `key` is the rollout key (sha256 of the request, without the attempt number); empty for traces that came with a dataset.
    `seconds` is how long the request took, and `logprob` the sum of the natural logarithms of its tokens' probabilities, where
    the teacher was asked to keep it: both are kept in the rollout store, and are no part of a record.
    """

    text: str
    attempt: int
    model: str
    finish_reason: str = "stop"
    reasoning: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    key: str = ""
    verdict: Verdict | None = None
    seconds: float = field(default=0.0, compare=False)
    logprob: float | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Message:
    """One chat message; `text` holds an `<image>` mark for each image that stands in it."""

    role: Literal["system", "user", "assistant"]
    text: str


@dataclass(frozen=True, slots=True)
class Record:
    """One problem with its responses.

    `prompt` is the chat exactly as the teacher saw it (empty until a teacher was asked), `question_id` the id of the
    problem that an exploded record came from, and `pass_rate` the share of decided responses that are RIGHT.
    """

    id: str
    source: str
    license: str
    question: str
    answer: str
    images: tuple[ImageRef, ...] = ()
    options: tuple[str, ...] = ()
    prompt: tuple[Message, ...] = ()
    responses: tuple[Response, ...] = ()
    pass_rate: float | None = None
    question_id: str = ""
    meta: Mapping[str, str] = field(default_factory=dict)


def storable_text(text: str) -> tuple[str, int]:
    """Makes any text storable, and counts what had to be replaced.

    Half an emoji (a lone surrogate) has no UTF-8 form, so Parquet, SQLite and every hash refuse it.
    Two halves that stand together become the character that they are.

    Returns:
        The text, and how many characters of it were replaced by U+FFFD.
    """
    # Nearly all text passes here. Encoding it is the cheapest complete test there is.
    try:
        text.encode()
    except UnicodeEncodeError:
        stored = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        return stored, stored.count(REPLACEMENT) - text.count(REPLACEMENT)
    return text, 0


def plain_number(value: object) -> int | float:
    """Checks a number that came from outside. A whole float becomes the integer: 3.0 is 3.

    Raises:
        ValueError: The value is not a number, is NaN or infinite, or is an integer of more than
            64 bits, which no column can hold.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r:.60} is not a number")
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} is not a finite number")
        if not value.is_integer():
            return value
    whole = int(value)
    if not -(2**63) <= whole < 2**63:
        raise ValueError(f"an integer of {whole.bit_length()} bits does not fit in 64")
    return whole


def render_question(record: Record) -> str:
    """The question as it is put to a teacher: its text, then one line for each option, lettered from (A).

    Datasets keep options apart from the question, and a question without its options cannot be answered by letter.
    """
    if not record.options:
        return record.question
    lines = [f"({chr(ord('A') + number)}) {option}" for number, option in enumerate(record.options)]
    return "\n".join([record.question, "Options:", *lines])


def schema() -> "pa.Schema":
    """The Arrow schema of a shard of records. Made on call, so that importing the words does not import Arrow."""
    import pyarrow as pa

    text, whole = pa.string(), pa.int64()
    image = pa.struct({"sha256": text, "width": whole, "height": whole, "format": text})
    message = pa.struct({"role": text, "text": text})
    verdict = pa.struct(
        {"outcome": text, "verifier": text, "revision": whole, "extracted": text, "reason": text}
    )
    response = pa.struct(
        {
            "text": text,
            "attempt": whole,
            "model": text,
            "finish_reason": text,
            "reasoning": text,
            "prompt_tokens": whole,
            "completion_tokens": whole,
            "key": text,
            "verdict": verdict,
        }
    )
    return pa.schema(
        {
            "id": text,
            "source": text,
            "license": text,
            "question": text,
            "answer": text,
            "images": pa.list_(image),
            "options": pa.list_(text),
            "prompt": pa.list_(message),
            "responses": pa.list_(response),
            "pass_rate": pa.float64(),
            "question_id": text,
            "meta": pa.map_(text, text),
        }
    )


def to_table(records: Iterable[Record]) -> "pa.Table":
    """Records as one Arrow table in the schema above, in the order given."""
    import pyarrow as pa

    return pa.Table.from_pylist([_row(record) for record in records], schema=schema())


def _row(record: Record) -> dict[str, Any]:
    row = dataclasses.asdict(record)
    row["meta"] = sorted(record.meta.items())
    for response in row["responses"]:
        del response["seconds"], response["logprob"]
    return row


def from_table(table: "pa.Table") -> list[Record]:
    """The records of one Arrow table, in its order. Inverse of `to_table`."""
    return [from_row(row) for row in table.to_pylist()]


def from_row(row: Mapping[str, Any]) -> Record:
    """One record from the plain values of one table row."""
    return Record(
        **{
            **row,
            "images": tuple(ImageRef(**image) for image in row["images"]),
            "options": tuple(row["options"]),
            "prompt": tuple(Message(**message) for message in row["prompt"]),
            "responses": tuple(_response(response) for response in row["responses"]),
            "meta": dict(row["meta"]),
        }
    )


def _response(row: Mapping[str, Any]) -> Response:
    verdict = row["verdict"]
    return Response(**{**row, "verdict": None if verdict is None else Verdict(**verdict)})
