"""The data words, and the one Arrow schema that stores them.

**Record**: one problem: the question (with one `<image>` mark where each image stands), its images by reference,
options, gold answer, source and license, and its **responses** nested inside it.
**Response**: one attempt of one teacher at one record. **Verdict**: what a verifier said of one response.
**ImageRef**: an image by the sha256 of its original bytes; the bytes are in the image store.

Records are values: frozen, compared by content, changed with `dataclasses.replace`.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pyarrow as pa

IMAGE_MARK = "<image>"

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
    """What a verifier said: the outcome, who said it (name and revision), the answer it read, and why, in words.

    `cause` says why it is UNDECIDED (see `verifiers.base.Cause`) and is empty otherwise; `score` is partial credit in
    [0, 1], where the task gives it.
    """

    outcome: Outcome
    verifier: str
    revision: int
    extracted: str | None
    reason: str
    cause: str = ""
    score: float | None = None


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
    problem that an exploded record came from, and `pass_rate` is `n_right` / `n_counted` (see `verifiers.rates`);
    `n_left_out` responses say nothing: cut off, timed out, judge down. `task` names the verifiers (see `verifiers.tasks`).
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
    n_right: int | None = None
    n_counted: int | None = None
    n_left_out: int | None = None
    question_id: str = ""
    task: str = "maths"
    meta: Mapping[str, str] = field(default_factory=dict)


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
        {
            "outcome": text,
            "verifier": text,
            "revision": whole,
            "extracted": text,
            "reason": text,
            "cause": text,
            "score": pa.float64(),
        }
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
            "n_right": whole,
            "n_counted": whole,
            "n_left_out": whole,
            "question_id": text,
            "task": text,
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
