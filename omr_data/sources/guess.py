"""Guesses which column of a dataset is what, from the names of the columns and their first cells.

`omr inspect` shows the guess and what it does to the first rows, so that a person decides. A name
alone is not enough: a column `answer` with long worked solutions is a response, not a gold answer.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from omr_data.sources.columns import ColumnMap, cell_of
from omr_data.sources.convert import BASE64_STARTS, IMAGE_SUFFIXES

NAMES: Mapping[str, tuple[str, ...]] = {
    "messages": ("messages", "conversations", "conversation", "chat", "dialog", "texts", "prompt"),
    "question": (
        "question",
        "problem",
        "query",
        "instruction",
        "prompt",
        "text",
        "input",
    ),
    "answer": (
        "answer",
        "gold",
        "gold_answer",
        "ground_truth",
        "final_answer",
        "reward_model.ground_truth",
        "solution",
        "target",
        "label",
        "output",
    ),
    "options": ("options", "choices", "option", "candidates", "choice"),
    "images": (
        "images",
        "__images__",
        "decoded_image",
        "image",
        "image_path",
        "img",
        "pics",
        "picture",
        "file_name",
        "photo",
    ),
    "history": ("history",),
    "system": ("system", "system_prompt"),
    "response": ("response", "output", "completion", "generation", "trace", "solution"),
    "reasoning": ("reasoning", "reasoning_content", "thinking", "rationale"),
    "id": ("id", "qid", "pid", "uid", "index", "__key__"),
}
"""Names of columns by field, the likeliest first. Case does not matter."""

LONG_ANSWER = 200
"""Characters from which an answer is taken for a worked solution."""


@dataclass(frozen=True, slots=True)
class Guess:
    """A mapping, and what a person has to decide."""

    columns: ColumnMap | None
    """The mapping. None where no column can be the question."""
    doubts: tuple[str, ...]
    """What the rows do not tell, each in one sentence."""


def guess_columns(rows: Sequence[Mapping[str, Any]]) -> Guess:
    """Guesses the mapping of a dataset.

    Args:
        rows: Its first rows.
    """
    found = _known(rows)
    messages = next((name for name in found["messages"] if _is_chat(_values(rows, name))), None)
    texts = []
    for name in found["question"]:
        if name != messages and all(isinstance(one, str) for one in _values(rows, name)):
            texts.append(name)
    doubts: list[str] = []
    if messages is None and not texts:
        return Guess(None, ("No column looks like a question or a chat.",))
    question: Any = None
    if messages is None:
        question = texts[0]
    if question == "instruction" and "input" in texts:
        # Alpaca: the input is what the instruction is about, and often empty.
        question = ("instruction", "input")
    taken = {messages, question}
    if isinstance(question, tuple):
        taken |= {*question}
    answer, response = _answer_and_response(rows, found, taken, doubts)
    if messages is not None:
        # A chat holds its own response and its own history.
        response, found["history"] = None, []
    options: Any = _first(found["options"], set())
    letters = [letter for letter in "ABCDEFGH" if any(letter in row for row in rows)]
    if options is None and len(letters) > 1:
        # VLMEvalKit writes a column for each option.
        options = tuple(letters)
    own_id = None
    for name in found["id"]:
        # Numbers that repeat, such as one for each figure, are groups and not ids.
        if len({str(value) for value in _values(rows, name)}) == len(rows):
            own_id = name
            break
    columns = ColumnMap(
        question=question,
        messages=messages,
        answer=answer,
        options=options,
        images=_images(rows, found["images"]),
        response=response,
        history=_first(found["history"], taken),
        system=_first(found["system"], taken),
        reasoning=_first(found["reasoning"], taken),
        id=own_id,
    )
    return Guess(columns, tuple(doubts))


def _known(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """The columns that are there and hold something, spelled as they are there, by field."""
    spelled: dict[str, str] = {}
    for row in rows:
        spelled |= {name.lower(): name for name in row}
    known: dict[str, list[str]] = {}
    for field, names in NAMES.items():
        present = []
        for name in names:
            # Of "reward_model.ground_truth", the column is what stands before the dot.
            column, dot, key = name.partition(".")
            if column in spelled:
                present.append(spelled[column] + dot + key)
        # A column without any value says nothing about what it would hold.
        known[field] = [name for name in present if _values(rows, name)]
    return known


def _values(rows: Sequence[Mapping[str, Any]], name: str) -> list[Any]:
    cells = [cell_of(row, name) for row in rows]
    # Only NaN, the missing cell of pandas, differs from itself.
    return [cell for cell in cells if cell is not None and cell != "" and cell == cell]


def _is_chat(values: Sequence[Any]) -> bool:
    # Names alone do not tell: `prompt` is a text in most datasets and a chat in some.
    for value in values[:10]:
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                return False
        if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
            return False
    return True


def _answer_and_response(
    rows: Sequence[Mapping[str, Any]],
    found: Mapping[str, list[str]],
    taken: set[Any],
    doubts: list[str],
) -> tuple[str | None, str | None]:
    """The columns of the gold answer and of a response, told apart by how long their cells are."""
    # An answer that is trained on as if it were gold is the costliest wrong guess.
    answer = response = None
    for name in found["answer"]:
        if name in taken or answer is not None:
            continue
        cells = [value for value in _values(rows, name) if isinstance(value, str)]
        length = sum(map(len, cells)) / max(1, len(cells))
        # "####" is how GSM8K ends a worked solution.
        marked = sum("<think>" in cell or "####" in cell for cell in cells)
        if length > LONG_ANSWER or 2 * marked > len(cells):
            response = response or name
            doubts.append(
                f"{name!r} holds worked solutions, which are taken for responses. No column holds "
                "the short answer that they are compared with."
            )
        else:
            answer = name
    # A column that is named as a response is one, and better than an answer that looks like it.
    free = [name for name in found["response"] if name not in taken and name != answer]
    response = _first(free, set()) or response
    if answer is not None:
        doubts.clear()
    elif not doubts:
        doubts.append("No column looks like a gold answer: nothing can be verified.")
    return answer, response


def _images(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Any:
    usable = []
    # An image as text is told by how it begins or ends; "[" begins a JSON list of images.
    begins = (*(start.lower() for start in BASE64_STARTS), "http", "data:image", "[")
    for name in names:
        value = _values(rows, name)[0]
        if isinstance(value, list | tuple):
            value = next(iter(value), None)
        text = str(value).lower()
        if (
            isinstance(value, bytes | Mapping | None)
            or text.endswith(IMAGE_SUFFIXES)
            or text.startswith(begins)
        ):
            usable.append(name)
    # A column with the image itself is better than one with a path that may lead nowhere.
    usable.sort(key=lambda name: isinstance(_values(rows, name)[0], str))
    if usable:
        return usable[0]
    # MMMU writes a column for each image, most of which are empty in most rows.
    every = sorted(set().union(*rows))
    numbered = [name for name in every if re.fullmatch(r"image_\d", name)]
    return tuple(numbered) or None


def _first(names: Sequence[str], taken: set[Any]) -> str | None:
    return next((name for name in names if name not in taken), None)


def source_line(arguments: Mapping[str, Any], columns: ColumnMap) -> str:
    """The line to paste into a recipe.

    Args:
        arguments: The arguments of the source besides columns, and its class as "class".
        columns: The mapping.
    """
    values = {field.name: getattr(columns, field.name) for field in fields(columns)}
    given = {name: value for name, value in values.items() if value not in (None, (), False)}
    shown = dict(arguments)
    cls = shown.pop("class")
    first = repr(shown.pop("first"))
    listed = "".join(f", {name}={value!r}" for name, value in shown.items() if value is not None)
    return f"{cls}({first}{listed}, columns={given!r})"
