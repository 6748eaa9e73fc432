"""Which column of a dataset is which field of a record, and the conversion that follows from it.

    ColumnMap(question="q", answer="a", images="pics", options="choices", meta=("topic",))
    ColumnMap(messages="conversations", images="images")

`files.Source` and `hub.Source` convert rows with it, so most datasets need no class of their own.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from omr_data.errors import BadRow, SourceError
from omr_data.identity import Spec
from omr_data.records import IMAGE_MARK, TYPED_MARK, Message, Record, Response
from omr_data.sources.chats import read_chat, read_history
from omr_data.sources.convert import ImageCells, as_text
from omr_data.sources.marks import place_images
from omr_data.sources.options import read_options

Names = str | tuple[str, ...] | None
"""One column, several that belong together, or none."""

EVERYTHING_ELSE = "*"
"""As `meta`: every column that no other field takes."""


@dataclass(frozen=True)
class ColumnMap(Spec):
    """Names of the columns of a dataset, by what they hold. None: there is no such column."""

    question: Names = None
    """The question. Several columns are joined by line breaks, such as instruction and input."""
    answer: str | None = None
    """The accepted answer. A list holds several accepted answers, see `accept_all`."""
    options: Names = None
    """The options: null, list, lettered text or dict. Several columns hold one option each."""
    images: Names = None
    """The images: path, bytes, Hub struct, base64, data URL, or a list of these."""
    messages: str | None = None
    """A whole chat. A last turn of the assistant is a response. Used instead of `question`."""
    history: str | None = None
    """Earlier turns before the question: a list of [question, answer] pairs."""
    system: str | None = None
    """The system message."""
    response: str | None = None
    """A response that came with the dataset: text, or a list of texts."""
    reasoning: str | None = None
    """The reasoning of the response, where it is apart from its text."""
    id: str | None = None
    """The id of the row. Without it, the file and the number of the row are the id."""
    group: str | None = None
    """What groups rows that belong together."""
    task: str | None = None
    """The kind of answer that is expected."""
    license: str | None = None
    """The license of the row, where rows differ."""
    meta: tuple[str, ...] = ()
    """ColumnMap to keep as text. ("*",) keeps all that no other field takes."""
    accept_all: bool = False
    """Whether a list of answers must be given completely, instead of any one of them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.question is None and self.messages is None:
            raise SourceError(
                "columns need a question or messages: say which column holds the question, "
                "like columns={'question': 'problem'}."
            )

    def is_plain(self) -> bool:
        """Tells whether rows hold a question and one answer in text, and nothing else is read."""
        if not isinstance(self.question, str) or self.answer is None:
            return False
        chat = self.messages or self.history or self.system or self.response or self.reasoning
        other = self.options or self.images or self.id or self.group or self.task or self.license
        return not (chat or other or self.meta)

    def mapped(self) -> list[str]:
        """The columns that a field takes, in order of the fields."""
        names: list[str] = []
        for field in fields(self):
            # The one field that is not the name of a column.
            if field.name != "accept_all":
                names += names_of(getattr(self, field.name))
        return [name for name in names if name != EVERYTHING_ELSE]

    def required(self) -> list[str]:
        """The columns without which no row can become a record."""
        # A chat is read instead of a question, as `messages` says.
        return [*names_of(self.messages or self.question), *names_of(self.answer)]


def names_of(names: Names) -> tuple[str, ...]:
    """The columns of a field as a tuple."""
    if names is None:
        return ()
    if isinstance(names, str):
        return (names,)
    return names


def cell_of(row: Mapping[str, Any], name: str | None) -> Any:
    """Returns a cell, or None where there is none. "a.b" is the key b of the struct in column a.

    Args:
        row: The row.
        name: The column. None: the dataset has no such column.
    """
    if name is None:
        return None
    # A column may have a dot in its own name, which then comes first.
    if name in row or "." not in name:
        return row.get(name)
    value: Any = row
    for key in name.split("."):
        # A struct that is null has no keys, which is a missing cell and not a fault.
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


def as_columns(given: ColumnMap | Mapping[str, Any]) -> ColumnMap:
    """Returns columns that were given as a dict of field to column.

    Raises:
        SourceError: A field is not known.
    """
    if isinstance(given, ColumnMap):
        return given
    known = [field.name for field in fields(ColumnMap)]
    for name in given:
        if name not in known:
            # Most wrong names are slips of one letter.
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = "".join(f"Did you mean {one!r}? " for one in near)
            raise SourceError(
                f"columns has no field {name!r}. {hint}The fields are {', '.join(known)}; "
                "each is given the name of a column."
            )
    # Lists are what people write, and tuples are what has an identity.
    values: dict[str, Any] = {}
    for name, value in given.items():
        values[name] = tuple(value) if isinstance(value, list) else value
    return ColumnMap(**values)


def convert_row(
    row: Mapping[str, Any],
    columns: ColumnMap,
    cells: ImageCells,
    id_: str,
    dataset: str,
    license: str,
) -> Record:
    """Converts one row.

    Args:
        row: The row, as `tables.table_rows` gives it.
        columns: Which column is what.
        cells: Reads the images.
        id_: The id of a row that has none of its own.
        dataset: The dataset's name, for the ids and as the source.
        license: The license of a row that states none.

    Raises:
        BadRow: The row cannot become a record.
    """
    if "_broken" in row:
        raise BadRow("the row cannot be read", str(row["_broken"]))
    if columns.is_plain() and not isinstance(row.get(str(columns.answer)), list | tuple):
        # Questions in text are the most rows by far, and need a third of the work below.
        return _convert_plain(row, columns, id_, dataset, license)
    options = _options(row, columns)
    system, turns, embedded = _turns(row, columns)
    responses: list[str] = []
    if columns.response is not None and cell_of(row, columns.response) not in (None, ""):
        responses = _texts(row, columns.response)
    if turns[-1].role == "assistant":
        responses = [turns.pop().text, *responses]
    # Images inside a chat win: its marks stand for them, and a column beside it repeats them.
    given = embedded or [cell_of(row, name) for name in names_of(columns.images)]
    images = cells.read(given)
    # Options take part: those of MMMU hold images, and a mark typed there would be asked as one.
    placed, images = place_images([*(turn.text for turn in turns), *options], images)
    chat: tuple[Message, ...] = ()
    if system or len(turns) > 1:
        plain = [replace(turn, text=text) for turn, text in zip(turns, placed, strict=False)]
        chat = tuple(plain)
    if system:
        chat = (Message("system", system), *chat)
    # User turns are the even ones, because turns alternate.
    question = "\n".join(placed[number] for number in range(0, len(turns), 2))
    answers: list[str] = []
    if columns.answer is not None:
        answers = _texts(row, columns.answer)
        if not answers:
            raise BadRow(f"column '{columns.answer}' is empty")
    several = len(answers) > 1
    own_id = _optional(row, columns.id)
    if own_id:
        id_ = f"{dataset}/{own_id}"
    return Record(
        id=id_,
        source=dataset,
        license=_optional(row, columns.license) or license,
        question=question,
        answer=next(iter(answers), ""),
        images=images,
        options=tuple(placed[len(turns) :]),
        responses=tuple(_response(row, columns, n, text) for n, text in enumerate(responses)),
        meta=_meta(row, columns),
        turns=chat,
        answers=tuple(answers) if several else (),
        accept="all" if several and columns.accept_all else "any",
        task=_optional(row, columns.task) or "maths",
        group=_optional(row, columns.group),
    )


def _convert_plain(
    row: Mapping[str, Any], columns: ColumnMap, id_: str, dataset: str, license: str
) -> Record:
    question = as_text(cell_of(row, str(columns.question)), str(columns.question))
    if "<" in question or "[" in question:
        # There are no images, so that a mark here is a fault of the row.
        question = place_images([question], ())[0][0]
    answer = as_text(cell_of(row, columns.answer), str(columns.answer))
    return Record(id_, dataset, license, question, answer)


def _turns(row: Mapping[str, Any], columns: ColumnMap) -> tuple[str, list[Message], list[Any]]:
    """The system message, the user and assistant turns, and images that stand inside them."""
    # System prompts explain the mark to the model; they never hold an image.
    system = _optional(row, columns.system).replace(IMAGE_MARK, TYPED_MARK)
    if columns.messages is not None:
        turns, embedded = read_chat(cell_of(row, columns.messages), columns.messages)
        if turns[0].role == "system":
            first = turns.pop(0).text.replace(IMAGE_MARK, TYPED_MARK)
            system = system or first
        return system, turns, embedded
    names = names_of(columns.question)
    texts = [as_text(cell_of(row, names[0]), names[0])]
    # An empty input beside an instruction is how Alpaca says that there is none.
    texts += [text for name in names[1:] if (text := _optional(row, name))]
    history: list[Message] = []
    if columns.history is not None:
        history = read_history(cell_of(row, columns.history), columns.history)
    return system, [*history, Message("user", "\n".join(texts))], []


def _options(row: Mapping[str, Any], columns: ColumnMap) -> tuple[str, ...]:
    if columns.options is None:
        return ()
    if isinstance(columns.options, tuple):
        # A row with fewer options than columns leaves the last ones empty; NaN is pandas's word.
        cells = [cell_of(row, name) for name in columns.options]
        return read_options([cell for cell in cells if cell not in (None, "") and cell == cell])
    return read_options(cell_of(row, columns.options))


def _texts(row: Mapping[str, Any], name: str) -> list[str]:
    """The texts of a cell that holds one value or a list of them. Raises BadRow."""
    cell = cell_of(row, name)
    if not isinstance(cell, list | tuple):
        cell = [cell]
    return [as_text(item, name) for item in cell]


def _response(row: Mapping[str, Any], columns: ColumnMap, number: int, text: str) -> Response:
    # A mark in an answer is typed text: the images of a record belong to its prompt.
    typed = text.replace(IMAGE_MARK, TYPED_MARK)
    reasoning = ""
    if number == 0:
        # A row has one reasoning, and only its first response can be the one that it led to.
        reasoning = _optional(row, columns.reasoning)
    return Response(typed, number, model="", reasoning=reasoning or None)


def _optional(row: Mapping[str, Any], name: str | None) -> str:
    """A cell as text, or nothing where it is missing."""
    cell = cell_of(row, name)
    # Only NaN, the missing cell of pandas, differs from itself.
    if cell is None or cell == "" or cell != cell:
        return ""
    return as_text(cell, str(name))


def _meta(row: Mapping[str, Any], columns: ColumnMap) -> dict[str, str]:
    names: tuple[str, ...] = columns.meta
    if EVERYTHING_ELSE in names:
        taken = set(columns.mapped())
        # Names with an underscore are the place of the row, which `tables` adds.
        names = tuple(name for name in row if name[:1] != "_" and name not in taken)
    return {name: meta_text(cell_of(row, name)) for name in names if cell_of(row, name) is not None}


def meta_text(value: object) -> str:
    """A value as text to keep: text as it is, anything else as it prints, cut at 10,000 letters."""
    if isinstance(value, bytes):
        return f"<{len(value):,} bytes>"
    # Broken characters are replaced: a column that is only kept must not cost the row.
    return str(value)[:10_000].encode("utf-8", "replace").decode()
