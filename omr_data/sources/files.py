"""Any data files on this machine: JSON, JSON lines, CSV, TSV, parquet, Arrow, tar and zip.

    files.Source("data/train.jsonl", dataset="mine", license="MIT")
    files.Source("data/*.parquet", dataset="mine", license="MIT",
                 columns={"question": "problem", "answer": "solution", "images": "image"})

A row of train.jsonl, with the columns that are read where none are given:
    {"question": "What is 3 + 4?", "answer": "7"}
"""

import functools
import glob
import hashlib
import re
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omr_data.errors import SourceError
from omr_data.identity import NOT_IDENTITY, runtime_field
from omr_data.records import Record
from omr_data.source import DatasetLocator, Files, Images, Part, Pin
from omr_data.source import Source as BaseSource
from omr_data.sources.columns import EVERYTHING_ELSE, ColumnMap, as_columns, convert_row
from omr_data.sources.convert import IMAGE_SUFFIXES, ImageCells
from omr_data.sources.locator import digest_files
from omr_data.sources.tables import (
    DATA_SUFFIXES,
    columns_of,
    table_parts,
    table_rows,
)


def any_case(suffix: str) -> str:
    """A glob that matches a suffix in capitals as well: cameras write IMG_0001.JPG."""
    return re.sub(r"[a-z]", lambda char: f"[{char[0]}{char[0].upper()}]", suffix)


QUESTION_AND_ANSWER = ColumnMap(question="question", answer="answer")
IMAGE_FILES = "|".join(f"**/*{any_case(suffix)}" for suffix in IMAGE_SUFFIXES)
LOOKED_AT = 200
"""Rows of a file that are looked at to see which columns there are."""


@dataclass(frozen=True, kw_only=True)
class ColumnsSource(BaseSource):
    """Base of the sources that are told which column is what."""

    dataset: str
    """Names the rows: ids are "<dataset>/<file>/<row>". Also the `source` of each record."""
    license: str
    """The license, as the dataset states it."""
    columns: ColumnMap | Mapping[str, Any] = QUESTION_AND_ANSWER
    """Which column is what, as ColumnMap or as a dict of field to column."""
    download_images: bool = False
    """Whether images that are http addresses are fetched when the source is read."""

    def __post_init__(self) -> None:
        # People write a dict; only ColumnMap has an identity.
        object.__setattr__(self, "columns", as_columns(self.columns))
        super().__post_init__()

    @abstractmethod
    def download(self, locator: DatasetLocator) -> Files:
        """Finds the files, as in `Source.download`."""

    def absolute_root(self) -> str:
        """The folder that absolute image paths must be below. Empty refuses them."""
        return ""

    def parts(self, files: Files) -> Sequence[Part]:
        paths = table_files(files)
        parts = table_parts(files, paths)
        required = as_columns(self.columns).required()
        # Each file is looked at: a wrong name is found before a build, and not in its last file.
        for first in first_parts(parts):
            found = columns_of(files, first, LOOKED_AT)
            # "a.b" is in the column a.
            missing = [name for name in required if not {name, name.partition(".")[0]} & {*found}]
            # Without any column every row is broken, and each of them is counted with its reason.
            if missing and found:
                raise SourceError(
                    f"{files.root / first.path} has no column {missing[0]!r}. Its columns are "
                    f"{', '.join(found)}. Say which is what, like columns={{'question': "
                    f"{next(iter(found))!r}}}; `omr inspect` guesses it."
                )
        return parts

    def rows(self, files: Files, part: Part) -> Iterator[Mapping[str, Any]]:
        return table_rows(files, part)

    def convert(self, row: Mapping[str, Any], images: Images) -> Record:
        root = self.absolute_root()
        folder = row["_folder"]
        if folder:
            folder += "/"
        # Paths are relative to the file that names them, unless a root is declared.
        base = "" if root else folder
        cells = ImageCells(images, base, root, self.download_images)
        # Padded, so that ids sort as rows do in files of up to a million rows.
        id_ = f"{self.dataset}/{folder}{row['_file']}/{row['_line']:06}"
        return convert_row(row, as_columns(self.columns), cells, id_, self.dataset, self.license)

    def notes(self, files: Files) -> Sequence[str]:
        # The first file stands for all: a build names each column once.
        columns = as_columns(self.columns)
        parts = table_parts(files, table_files(files)[:1])
        if not parts or EVERYTHING_ELSE in columns.meta:
            return ()
        found = columns_of(files, parts[0], LOOKED_AT)
        unused = [name for name in found if name not in columns.mapped()]
        if not unused:
            return ()
        listed = ", ".join(unused)
        return [f"{self.dataset}: no field takes the columns {listed}. meta=('*',) keeps them."]


@dataclass(frozen=True)
class Source(ColumnsSource):
    """Rows of the files that match a path or pattern, by path and row.

    The digest of the files is the identity, so they may move. Where images are paths, the image
    files below their root are part of it: changing an image is changing the data.
    """

    path: Path | str = field(metadata=NOT_IDENTITY)
    """A file, a folder, or a pattern like "data/**/*.jsonl"."""
    image_root: Path | str | None = runtime_field(None)
    """The folder that image paths are relative to, and that absolute ones must be below. None: each
    file's own folder, and no absolute paths."""

    def absolute_root(self) -> str:
        if self.image_root is None:
            return ""
        return _resolved(str(self.image_root))

    def resolve(self, locator: DatasetLocator) -> Pin:
        folder, pattern = _folder_and_pattern(Path(self.path))
        pin = locator.resolve_local(folder, (pattern,))
        columns = as_columns(self.columns)
        # Rows of text alone stay the same whatever images lie beside them.
        if columns.images is None and columns.messages is None:
            return pin
        images = self._image_files(locator)
        if not images.paths:
            return pin
        both = hashlib.sha256(f"{pin.digest} {digest_files(images)}".encode())
        return Pin(None, both.hexdigest())

    def download(self, locator: DatasetLocator) -> Files:
        folder, pattern = _folder_and_pattern(Path(self.path))
        files = locator.find_local(folder, (pattern,))
        root = None
        if self.image_root is not None:
            root = Path(self.image_root)
        # Rows may refer to exactly the files that are digested.
        readable = frozenset(self._image_files(locator).paths)
        return Files(files.root, files.paths, root, readable)

    def _image_files(self, locator: DatasetLocator) -> Files:
        below, _ = _folder_and_pattern(Path(self.path))
        if self.image_root is not None:
            below = Path(self.image_root)
        try:
            return locator.find_local(below, (IMAGE_FILES,))
        except SourceError:
            # Images may also be inside the data files, so there may be no image file at all.
            return Files(below)


@functools.lru_cache(maxsize=16)
def _resolved(folder: str) -> str:
    # Asked for every row, and each answer asks the disk about every folder on the way.
    return str(Path(folder).resolve())


def _folder_and_pattern(path: Path) -> tuple[Path, str]:
    """The folder that paths are relative to, and the pattern of the data files below it."""
    if path.is_dir():
        return path, "|".join(f"**/*{suffix}*" for suffix in DATA_SUFFIXES)
    # A name with brackets is a file before it is a pattern.
    if path.exists():
        return path.parent, glob.escape(path.name)
    parts = path.parts
    fixed = [part for part in parts[:-1] if not glob.has_magic(part)]
    # Everything before the first wildcard is the folder.
    first = next((n for n, part in enumerate(parts) if glob.has_magic(part)), len(parts) - 1)
    return Path(*fixed[:first]), "/".join(parts[first:])


def table_files(files: Files) -> list[str]:
    """The data files among the files of a dataset.

    Raises:
        SourceError: Two files would give their rows the same ids.
    """
    # Image files are part of the pin, and no rows.
    paths = [path for path in files.paths if not path.lower().endswith(IMAGE_SUFFIXES)]
    stems: dict[str, str] = {}
    for path in paths:
        twin = stems.setdefault(stem_of(path), path)
        if twin != path:
            raise SourceError(
                f"{twin} and {path} would give their rows the same ids. Rename one, or give each a "
                "source of its own with another dataset name."
            )
    return paths


def first_parts(parts: Sequence[Part]) -> list[Part]:
    """The first part of each file."""
    return [part for part in parts if part.start == 0]


def stem_of(path: str) -> str:
    """A path without its suffixes, as it is used in ids."""
    folder, slash, name = path.rpartition("/")
    return folder + slash + name.partition(".")[0]
