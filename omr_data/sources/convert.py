"""Cells of a row as text and as images: what every converter needs.

Each function raises BadRow with a reason that is the same for all rows with that fault, so that the
ledger counts them together. What is particular to the row is in the detail.
"""

import base64
import binascii
import json
import math
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from omr_data.errors import BadRow, SourceError
from omr_data.records import IMAGE_MARK, ImageRef
from omr_data.source import Images

MAX_TEXT = 1_000_000
MAX_IMAGE = 100_000_000
"""Bytes of an image that is downloaded or decoded from base64."""
DOWNLOAD_SECONDS = 30
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")

BASE64_STARTS = ("iVBORw0KGgo", "/9j/", "R0lGOD", "UklGR", "Qk", "SUkqA", "TU0AK")
"""How PNG, JPEG, GIF, WebP, BMP and TIFF begin in base64. "/9j/" would pass for a path."""


def text(row: Mapping[str, Any], column: str) -> str:
    """Returns a cell as text.

    Raises:
        BadRow: The cell is missing, empty, huge, or neither text nor a number.
    """
    if "_broken" in row:
        raise BadRow("the row cannot be read", str(row["_broken"]))
    return as_text(row.get(column), column)


def as_text(value: object, column: str) -> str:
    """Returns a value as text. A whole number has no decimals, whichever format it came from.

    Args:
        value: The value of a cell, or of an item in it.
        column: The name of the column, for the reason.

    Raises:
        BadRow: As `text`.
    """
    match value:
        case str():
            pass
        case float() if not math.isfinite(value):
            raise BadRow(f"column '{column}' is not a finite number", str(value))
        case float() if value.is_integer():
            # A column of whole numbers with one null becomes floats in pandas: 1.0 is 1.
            value = str(int(value))
        case float():
            value = repr(value)
        # A bool is an int to Python, and "True" is never what a dataset means by an answer.
        case int() if not isinstance(value, bool):
            value = str(value)
        case None:
            raise BadRow(
                f"no text in column '{column}'", "the cell is null or the column is missing"
            )
        case _:
            raise BadRow(f"no text in column '{column}'", f"found {type(value).__name__}")
    if not value or value.isspace():
        raise BadRow(f"column '{column}' is empty")
    if len(value) > MAX_TEXT:
        raise BadRow(
            f"column '{column}' is too long",
            f"{len(value):,} characters, at most {MAX_TEXT:,} are read",
        )
    # Most texts are ASCII, which is known without looking at them again.
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise BadRow(f"column '{column}' is not UTF-8", str(error)[:200]) from error
    return value


def options(row: Mapping[str, Any], column: str) -> tuple[str, ...]:
    """Returns a list of options as text, each of them distinct. Raises BadRow for another form.

    This is for sources whose options are known to be lists; `options.read_options` guesses.
    """
    values = row.get(column)
    if not isinstance(values, list | tuple):
        raise BadRow(f"no list in column '{column}'", f"found {type(values).__name__}")
    if len(values) > 26:
        raise BadRow("more than 26 options", str(len(values)))
    found = tuple(as_text(value, column) for value in values)
    if len(set(found)) < len(found):
        raise BadRow("two options are the same", " | ".join(found))
    return found


def with_marks(question: str, images: int) -> str:
    """Returns the question with one `<image>` mark for each image, in front where it has none.

    Args:
        question: The question.
        images: How many images it has.

    Raises:
        BadRow: The question has marks, and not one for each image.
    """
    marks = question.count(IMAGE_MARK)
    # Datasets with one image a question often leave the mark out.
    if marks == 0 and images:
        return IMAGE_MARK * images + question
    if marks != images:
        raise BadRow("image marks do not match the images", f"{marks} marks, {images} images")
    return question


@dataclass(frozen=True, slots=True)
class ImageCells:
    """Reads image cells: paths, bytes, Hub structs, base64, data URLs, and lists of these."""

    images: Images
    """Stores the images."""
    folder: str = ""
    """The folder that paths are relative to, with a slash at its end. Empty for the root."""
    root: str = ""
    """The folder on this machine that absolute paths must be below. Empty refuses them."""
    download: bool = False
    """Whether http and https addresses are fetched."""

    def read(self, cell: object) -> tuple[ImageRef, ...]:
        """Returns the images of a cell, in order.

        Raises:
            BadRow: The cell has another form, or an image is missing or broken.
            SourceError: A download failed in a way that may pass.
        """
        match cell:
            case None:
                return ()
            case bytes():
                return (self.images.from_bytes(cell),)
            case str():
                return self._from_string(cell.strip())
            case {"bytes": bytes(data)}:
                return (self.images.from_bytes(data),)
            case {"image_url": value} | {"url": value} | {"path": value} | {"image": value}:
                return self.read(value)
            case list() | tuple():
                refs: list[ImageRef] = []
                for item in cell:
                    refs += self.read(item)
                return tuple(refs)
            case float() if cell != cell:
                return ()  # NaN is how pandas writes a missing cell
        raise BadRow("image cell of an unknown kind", type(cell).__name__)

    def _from_string(self, cell: str) -> tuple[ImageRef, ...]:
        if not cell:
            return ()
        if cell.startswith("data:"):
            return (self.images.from_bytes(_from_base64(cell.partition(",")[2])),)
        # No image is as short as a path, whatever the path begins with.
        if cell.startswith(BASE64_STARTS) and len(cell) > 60:
            return (self.images.from_bytes(_from_base64(cell)),)
        if cell.startswith(("http://", "https://")):
            # Off unless asked for: a web address is not part of the identity, and may change.
            if not self.download:
                raise BadRow(
                    "the image is a web address",
                    f"{cell[:200]} is not fetched: give the source download_images=True",
                )
            return (self.images.from_bytes(_fetch(cell)),)
        if cell[0] == "[" and cell[-1] == "]":
            try:
                return self.read(json.loads(cell))
            except ValueError as error:
                raise BadRow("the list of images is not JSON", cell[:200]) from error
        path = cell.removeprefix("file://")
        # Paths come from data, so they may name only what lies below the declared folder.
        if path.startswith("/"):
            if not (self.root and PurePosixPath(path).is_relative_to(self.root)):
                raise BadRow("image path leaves the dataset", f"{path[:200]} is absolute")
            path = str(PurePosixPath(path).relative_to(self.root))
        else:
            path = self.folder + path
        if not path.lower().endswith(IMAGE_SUFFIXES):
            # Only files with these suffixes are part of the source's identity.
            raise BadRow("the image path has no suffix of an image", path[:200])
        return (self.images.from_file(path),)


def image_cell(cell: object, images: Images, folder: str = "") -> tuple[ImageRef, ...]:
    """Returns the images of a cell whose paths are relative to a folder. Raises BadRow.

    Args:
        cell: The cell.
        images: Stores the images.
        folder: The folder, with a slash at its end.
    """
    return ImageCells(images, folder).read(cell)


def _from_base64(text: str) -> bytes:
    # Four characters hold three bytes, so the size is known before anything is decoded.
    if len(text) > MAX_IMAGE * 4 // 3:
        raise BadRow("image too large", f"{len(text):,} characters of base64")
    # Strict, because lenient decoding skips broken characters and gives another image.
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadRow("the image is broken base64", str(error)) from error


def _fetch(url: str) -> bytes:
    """Downloads one image. What will never come is the row's fault; the rest stops the build."""
    # A name in the request: some servers refuse the default one of urllib.
    request = urllib.request.Request(url, headers={"User-Agent": "omr-data"})
    try:
        with urllib.request.urlopen(request, timeout=DOWNLOAD_SECONDS) as answer:
            data: bytes = answer.read(MAX_IMAGE + 1)
    except urllib.error.HTTPError as error:
        # 429 asks to come back later; the others below 500 will not change.
        if 400 <= error.code < 500 and error.code != 429:
            raise BadRow("the image cannot be downloaded", f"{url[:200]}: {error.code}") from error
        raise _failed(url, error) from error
    except (OSError, ValueError) as error:
        raise _failed(url, error) from error
    if len(data) > MAX_IMAGE:
        raise BadRow("image too large", f"{url[:200]} has over {MAX_IMAGE:,} bytes")
    return data


def _failed(url: str, error: Exception) -> SourceError:
    return SourceError(
        f"{url[:200]} could not be downloaded: {error}. What was read is kept; run the build again."
    )
