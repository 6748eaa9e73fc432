"""What every converter needs: cells as text, options, and image marks that match the images."""

from collections.abc import Mapping, Sequence
from typing import Any

from omr_data.errors import BadRow
from omr_data.records import IMAGE_MARK, ImageRef
from omr_data.source import Images

MAX_TEXT = 1_000_000


def text(row: Mapping[str, Any], column: str) -> str:
    """A cell as text; whole numbers become their digits. Raises BadRow for what is missing, empty or huge."""
    if "_broken" in row:
        raise BadRow("the line is not a JSON object", row["_broken"])
    value = row.get(column)
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise BadRow(f"no text in column '{column}'", f"found {type(value).__name__}")
    if not value.strip():
        raise BadRow(f"column '{column}' is empty")
    if len(value) > MAX_TEXT:
        raise BadRow(
            f"column '{column}' is too long",
            f"{len(value):,} characters, at most {MAX_TEXT:,} are read",
        )
    return value


def options(row: Mapping[str, Any], column: str) -> tuple[str, ...]:
    """A list of options as text, each of them distinct. Raises BadRow."""
    values = row.get(column)
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise BadRow(f"no list in column '{column}'", f"found {type(values).__name__}")
    if len(values) > 26:
        raise BadRow("more than 26 options", str(len(values)))
    found = tuple(text({column: value}, column) for value in values)
    if len(set(found)) < len(found):
        raise BadRow("two options are the same", " | ".join(found))
    return found


def with_marks(question: str, images: int) -> str:
    """The question with one `<image>` mark for each image: put in front when it has none. Raises BadRow on a mismatch."""
    marks = question.count(IMAGE_MARK)
    if marks == 0 and images:
        return IMAGE_MARK * images + question
    if marks != images:
        raise BadRow("image marks do not match the images", f"{marks} marks, {images} images")
    return question


def image_cell(cell: object, images: Images, folder: str = "") -> tuple[ImageRef, ...]:
    """An image cell as references: bytes, a path below `folder`, a Hub Image struct, or a list of these. Raises BadRow."""
    match cell:
        case None:
            return ()
        case bytes():
            return (images.from_bytes(cell),)
        case str():
            return (images.from_file(cell if cell.startswith("/") else folder + cell),)
        case {"bytes": bytes(data)}:
            return (images.from_bytes(data),)
        case {"path": str(path)}:
            return image_cell(path, images, folder)
        case list() | tuple():
            return tuple(ref for item in cell for ref in image_cell(item, images, folder))
    raise BadRow("image cell of an unknown kind", type(cell).__name__)
