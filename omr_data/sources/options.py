"""Reads the options of a question, in the forms in which datasets give them.

null, a list, a string ("A. 300;B. 400", a JSON or Python list), or a dict by letter. Letters are
split off the texts, because options get their letters when they are rendered.
"""

import ast
import json
import re
from collections.abc import Mapping, Sequence

from omr_data.errors import BadRow
from omr_data.sources.convert import as_text

MAX_OPTIONS = 26

_LABEL = re.compile(r"^\s*\(?([A-Z])\s*[.:)、]\s*|^\s*\(([A-Z])\)\s*")
_INSIDE = re.compile(r"(?:^|[\s;,|])\(?([A-Z])\s*[.:)、]\s*")
_EMPTY_TEXTS = ("", "none", "null", "nan", "[]")


def read_options(cell: object) -> tuple[str, ...]:
    """Returns the texts of the options without their letters; none for a null cell.

    Raises:
        BadRow: The cell has another form, or two options are the same.
    """
    found = _texts(cell)
    # Options are lettered, and Z is the last letter.
    if len(found) > MAX_OPTIONS:
        raise BadRow("more than 26 options", str(len(found)))
    labels = [_LABEL.match(option) for option in found]
    letters = [label and (label[1] or label[2]) for label in labels]
    # Labels are taken off only where every option has one and they run from A: "C. elegans" alone
    # is a text.
    if letters == [chr(ord("A") + number) for number in range(len(found))]:
        texts = [_LABEL.sub("", option, count=1).strip() for option in found]
        # "A." alone names an option that is only in the image: the letter is all there is.
        if all(texts):
            found = texts
    # Two equal options would be two letters for one answer.
    if len(set(found)) < len(found):
        raise BadRow("two options are the same", " | ".join(found)[:500])
    return tuple(found)


def _texts(cell: object) -> list[str]:
    match cell:
        case None:
            return []
        case float() if cell != cell:
            return []  # NaN is how pandas writes a missing cell
        case str():
            return _from_string(cell)
        case Mapping():
            # A struct column of parquet has a key for every letter, null where a row has fewer.
            present = {str(key).strip(): value for key, value in cell.items() if value is not None}
            letters = sorted(present)
            if letters != [chr(ord("A") + number) for number in range(len(letters))]:
                raise BadRow("the options are not lettered from A", ", ".join(letters)[:500])
            return [as_text(present[letter], "options") for letter in letters]
        case Sequence():
            return [as_text(item, "options") for item in cell]
    raise BadRow("options of an unknown kind", type(cell).__name__)


def _from_string(cell: str) -> list[str]:
    text = cell.strip()
    # Tables without a null write a word for it.
    if text.lower() in _EMPTY_TEXTS:
        return []
    if text[0] in "[{":
        try:
            value: object = json.loads(text)
        except (ValueError, RecursionError):
            # MMMU writes lists as Python code, whose quotes are not those of JSON.
            try:
                value = ast.literal_eval(text)
            except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
                raise BadRow("the options are a broken list", text[:200]) from error
        return _texts(value)
    # A separator alone is not enough: options hold semicolons and commas of their own.
    marks = list(_INSIDE.finditer(text))
    letters = "".join(mark[1] for mark in marks)
    # Only A, B, C ... in order is a list of options; "Fig. A: 3" in a sentence is not.
    if len(marks) < 2 or letters != "".join(chr(ord("A") + n) for n in range(len(marks))):
        raise BadRow("the options are a text without letters A, B, ...", text[:200])
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    pieces = [text[mark.end() : end] for mark, end in zip(marks, ends, strict=True)]
    return [as_text(piece.strip().rstrip(";,|").rstrip(), "options") for piece in pieces]
