"""The data words: Record, Response, Verdict, Message and ImageRef.

**Record**: one stored problem: its prompt, images by reference, options, accepted answers, where it
comes from, and its responses nested inside it. **Response**: one attempt of one model at one
record. **Verdict**: what a verifier said of one response. **ImageRef**: an image by the sha256 of
its original bytes, which are in the image store.

Records are values: frozen, compared by content, changed with `dataclasses.replace`. Text holds one
`<image>` mark where each image stands. `schema` is the one Arrow schema that stores records.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal

from omr_data.errors import BadRow

if TYPE_CHECKING:
    import pyarrow as pa

IMAGE_MARK = "<image>"
"""Stands in a text where an image stands in the prompt."""
TYPED_MARK = "< image>"
"""Replaces `<image>` where it is typed text: trainers take every exact mark for an image."""

ANSWER_FINISH_REASONS = ("stop", "length")
"""Finish reasons of an answer: the model ended by itself, or reached `max_tokens`. A response with
any other one (abort, error, content_filter, tool_calls, null) is never RIGHT."""
REPLACEMENT = "\ufffd"
"""What stands for a character that cannot be stored."""

RIGHT: Literal["RIGHT"] = "RIGHT"
WRONG: Literal["WRONG"] = "WRONG"
UNDECIDED: Literal["UNDECIDED"] = "UNDECIDED"
Outcome = Literal["RIGHT", "WRONG", "UNDECIDED"]


@dataclass(frozen=True, slots=True)
class ImageRef:
    """An image by content."""

    sha256: str
    """sha256 of the original bytes, 64 hex digits."""
    width: int
    """Width in pixels, as stored: before the orientation is applied."""
    height: int
    """Height in pixels, as stored."""
    format: str
    """The encoding, as Pillow names it: "PNG", "JPEG", ..."""
    orientation: int = 1
    """The EXIF orientation, 1 to 8. 1 is upright; 6 and 8 are turned by a quarter."""


_MEDIA_TYPES = {
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "BMP": "image/bmp",
    "TIFF": "image/tiff",
}


def data_url(image: ImageRef, content: str) -> str:
    """Returns a URL that holds an image; `content` is its bytes in base64."""
    # Servers look at the bytes in the end, so an unknown format is sent and not refused.
    media_type = _MEDIA_TYPES.get(image.format, "application/octet-stream")
    return f"data:{media_type};base64,{content}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a verifier said of one response."""

    outcome: Outcome
    """RIGHT, WRONG or UNDECIDED."""
    verifier: str
    """The verifier's name."""
    revision: int
    """The verifier's revision."""
    extracted: str | None
    """The answer that was read from the response. None where none was found."""
    reason: str
    """Why, in words."""
    cause: str = ""
    """Why an UNDECIDED response is undecided, see `verifiers.base.Cause`. Empty otherwise."""
    score: float | None = None
    """Partial credit in [0, 1], where the task gives it."""


@dataclass(frozen=True, slots=True)
class Response:
    """One attempt of one model at one record.

    Of a request that was answered several times at once, the first answer carries the prompt's
    tokens and the others 0, and the completion tokens are shared by length. Sums are then what the
    server counted.
    """

    text: str
    """The visible text of the answer."""
    attempt: int
    """The attempt number, from 0. Unique for one `key`."""
    model: str
    """The model that answered. Empty where a dataset does not say."""
    finish_reason: str = "stop"
    """The server's word for how it ended: "stop", "length", ..."""
    reasoning: str | None = None
    """What the server returned apart from the text."""
    prompt_tokens: int = 0
    """Tokens of the prompt, counted by the server."""
    completion_tokens: int = 0
    """Tokens of the answer, counted by the server."""
    key: str = ""
    """The rollout key: sha256 of the request without the attempt number. Empty for a response that
    came with a dataset."""
    verdict: Verdict | None = None
    """What a verifier said. None until one was asked."""
    seconds: float = field(default=0.0, compare=False)
    """Duration of the request. Kept in the rollout store, and no part of a record."""
    logprob: float | None = field(default=None, compare=False)
    """Sum of the natural logarithms of the tokens' probabilities, where the teacher kept it. Kept
    in the rollout store, and no part of a record."""


@dataclass(frozen=True, slots=True)
class Message:
    """One chat message."""

    role: Literal["system", "user", "assistant"]
    """Who speaks."""
    text: str
    """The text, with an `<image>` mark for each image that stands in it."""


@dataclass(frozen=True, slots=True)
class Record:
    """One problem with its responses."""

    id: str
    """Unique in a recipe: "<dataset>/<file>/<row>", or what the source says."""
    source: str
    """The dataset that the record comes from."""
    license: str
    """The license of the record, as the dataset states it."""
    question: str
    """The question without its options. Of a chat of several turns: all user turns, one a line."""
    answer: str
    """The accepted answer, or the first of several. Empty for a chat without a gold answer."""
    images: tuple[ImageRef, ...] = ()
    """The images, in the order of their marks in the prompt."""
    options: tuple[str, ...] = ()
    """The texts of the options, without their letters."""
    prompt: tuple[Message, ...] = ()
    """The chat exactly as a teacher saw it. Empty until a teacher was asked."""
    responses: tuple[Response, ...] = ()
    """The responses: first those that came with the dataset, then a teacher's."""
    pass_rate: float | None = None
    """`n_right / n_counted`, see `verifiers.rates`. None until it is computed."""
    n_right: int | None = None
    """How many responses are RIGHT."""
    n_counted: int | None = None
    """How many responses count: every answered one that ended by itself."""
    n_left_out: int | None = None
    """How many responses say nothing about the model: cut off, timed out, judge down."""
    question_id: str = ""
    """The id of the record that this one was exploded from. Empty for a record with its own id."""
    meta: Mapping[str, str] = field(default_factory=dict)
    """Further columns of the dataset, as text."""
    turns: tuple[Message, ...] = ()
    """The chat as the source gave it, with its system message, up to the turn to answer. Empty
    where the question alone is the prompt."""
    answers: tuple[str, ...] = ()
    """All accepted answers where there are several, `answer` among them. Empty for one."""
    accept: Literal["any", "all"] = "any"
    """Whether a response needs any one of `answers` or all of them."""
    task: str = "maths"
    """The kind of answer that is expected, which decides the verifiers that are asked."""
    group: str = ""
    """Names records that belong together: one template, image or parent question. Splits, quotas
    and intervals respect it. Empty: the record is a group of its own."""
    parent: str = ""
    """The id of the record that this question was derived from. Empty for an original question."""
    split: str = ""
    """The part of a release that the record belongs to. Empty until a step decides it."""


def lettered(options: Sequence[str]) -> list[str]:
    """Returns options as lines, lettered from (A). Options get their letters only here."""
    # Letters are added as late as this, so that options can be shuffled or taken apart before.
    return [f"({chr(ord('A') + number)}) {option}" for number, option in enumerate(options)]


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
    # A bool is an int to Python, and not to anybody who wrote the data.
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r:.60} is not a number")
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} is not a finite number")
        if not value.is_integer():
            return value
    # JSON has one kind of number, and Arrow's integers have 64 bits.
    whole = int(value)
    if not -(2**63) <= whole < 2**63:
        raise ValueError(f"an integer of {whole.bit_length()} bits does not fit in 64")
    return whole


def render_question(record: Record) -> str:
    """The question as it is put to a teacher: its text, then one line for each option.

    Datasets keep options apart from the question, and a question without its options cannot be
    answered by letter.
    """
    return _with_options(record.question, record.options)


def chat(record: Record) -> tuple[Message, ...]:
    """The prompt of a record as its source gave it: its turns, or one user turn with the question.

    The options follow the last user turn. This is what `rollout.Sample` asks.
    """
    if not record.turns:
        return (Message("user", render_question(record)),)
    # Options belong to what is asked last, wherever the images stand.
    *before, last = record.turns
    return (*before, replace(last, text=_with_options(last.text, record.options)))


def group_of(record: Record) -> str:
    """The group of a record: its own, or else the question that it comes from, or else itself."""
    # The widest tie comes first: a template holds its questions, and those hold what is derived.
    return record.group or record.parent or record.question_id or record.id


def check_marks(record: Record) -> Record:
    """Returns the record when its prompt has one mark for each image.

    The engine calls this on every record that a source makes, so that a mismatch is a counted drop
    with file and row, and not a failed request later.

    Raises:
        BadRow: There are more or fewer marks than images.
    """
    # Options count as well: those of some datasets are images.
    if record.turns or record.options:
        texts = [message.text for message in record.turns] or [record.question]
        marks = sum(text.count(IMAGE_MARK) for text in (*texts, *record.options))
    else:
        marks = record.question.count(IMAGE_MARK)
    if marks != len(record.images):
        raise BadRow(
            "image marks do not match the images",
            f"{marks} marks, {len(record.images)} images in {record.id}. "
            f"Write \\{IMAGE_MARK} where the mark is typed text",
        )
    return record


def _with_options(text: str, options: Sequence[str]) -> str:
    if not options:
        return text
    return "\n".join([text, "Options:", *lettered(options)])


def schema() -> "pa.Schema":
    """Returns the Arrow schema of a shard of records.

    It is made on call, so that importing the words does not import Arrow.
    """
    import pyarrow as pa

    text, whole, real = pa.string(), pa.int64(), pa.float64()
    image = {"sha256": text, "width": whole, "height": whole, "format": text, "orientation": whole}
    message = pa.struct({"role": text, "text": text})
    verdict = pa.struct(
        {
            "outcome": text,
            "verifier": text,
            "revision": whole,
            "extracted": text,
            "reason": text,
            "cause": text,
            "score": real,
        }
    )
    response = {
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
    return pa.schema(
        {
            "id": text,
            "source": text,
            "license": text,
            "question": text,
            "answer": text,
            "images": pa.list_(pa.struct(image)),
            "options": pa.list_(text),
            "prompt": pa.list_(message),
            "responses": pa.list_(pa.struct(response)),
            "pass_rate": real,
            "n_right": whole,
            "n_counted": whole,
            "n_left_out": whole,
            "question_id": text,
            "meta": pa.map_(text, text),
            "turns": pa.list_(message),
            "answers": pa.list_(text),
            "accept": text,
            "task": text,
            "group": text,
            "parent": text,
            "split": text,
        }
    )


def to_table(records: Iterable[Record]) -> "pa.Table":
    """Converts records to one Arrow table in the schema above, in the order given."""
    import pyarrow as pa

    # A generator may be given, and each column goes through all rows.
    rows = list(records)
    # Column by column: `dataclasses.asdict` and rows of dicts take ten times as long.
    columns = []
    for column in schema():
        values = list(map(attrgetter(column.name), rows))
        if pa.types.is_nested(column.type):
            values = [_plain(value, column.type) for value in values]
        columns.append(pa.array(values, column.type))
    return pa.table(columns, schema=schema())


def _plain(value: Any, kind: "pa.DataType") -> Any:
    """Turns one nested value into the plain lists and dicts that Arrow takes for the type."""
    import pyarrow as pa

    if value is None:
        return None
    if not value:
        # Most records have no response and few images, so this is the common case.
        return []
    if pa.types.is_map(kind):
        # Sorted, so that equal records are equal bytes.
        return sorted(value.items())
    if pa.types.is_list(kind):
        if not pa.types.is_nested(kind.value_type):
            return value
        return [_plain(item, kind.value_type) for item in value]
    plain = {}
    for member in kind:
        one = getattr(value, member.name)
        if pa.types.is_nested(member.type):
            one = _plain(one, member.type)
        plain[member.name] = one
    return plain


def from_table(table: "pa.Table") -> list[Record]:
    """Returns the records of one Arrow table, in its order. Inverse of `to_table`."""
    return [from_row(row) for row in table.to_pylist()]


def from_row(row: Mapping[str, Any]) -> Record:
    """Returns one record from the plain values of one table row."""
    responses = []
    for response in row["responses"]:
        verdict = response["verdict"]
        if verdict is not None:
            verdict = Verdict(**verdict)
        responses.append(Response(**{**response, "verdict": verdict}))
    # Arrow gives lists where records have tuples, which make them values that can be compared.
    return Record(
        **{
            **row,
            "images": tuple(ImageRef(**image) for image in row["images"]),
            "options": tuple(row["options"]),
            "answers": tuple(row["answers"]),
            "prompt": tuple(Message(**message) for message in row["prompt"]),
            "turns": tuple(Message(**message) for message in row["turns"]),
            "responses": tuple(responses),
            "meta": dict(row["meta"]),
        }
    )
