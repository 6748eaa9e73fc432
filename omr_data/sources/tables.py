"""Rows of data files of every format, in parts of at most 1,000 rows.

The content of a file decides its format (see `formats`). Each row carries its number in the file as
`_line`, the file's folder as `_folder` and its stem as `_file`. A row that cannot be read is a row
with the key `_broken`; converters turn it into a counted drop.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omr_data.errors import SourceError
from omr_data.source import Files, Part
from omr_data.sources import archive_rows, arrow_rows, csv_rows, json_rows
from omr_data.sources.formats import DataFile, FileKind, identify

DATA_SUFFIXES = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".arrow", ".tar", ".zip")
"""Suffixes of files that are taken for data where a whole folder is searched."""
CHECKED_ROWS = 1_000
"""Rows at the start of a file that are looked at before it is read."""

Rows = Iterator[tuple[int, dict[str, Any]]]

_PARTS: dict[FileKind, Callable[[DataFile, str], list[Part]]] = {
    "jsonl": json_rows.line_parts,
    "json": json_rows.array_parts,
    "csv": csv_rows.table_parts,
    "tsv": csv_rows.table_parts,
    "parquet": arrow_rows.parts,
    "arrow": arrow_rows.parts,
    "arrows": arrow_rows.parts,
    "tar": archive_rows.tar_parts,
    "zip": archive_rows.zip_parts,
    "empty": lambda file, name: [],
}
_ROWS: dict[FileKind, Callable[[DataFile, Part], Rows]] = {
    "jsonl": json_rows.line_rows,
    "json": json_rows.array_rows,
    "csv": csv_rows.table_rows,
    "tsv": csv_rows.table_rows,
    "parquet": arrow_rows.rows,
    "arrow": arrow_rows.rows,
    "arrows": arrow_rows.rows,
    "tar": archive_rows.tar_rows,
    "zip": archive_rows.zip_rows,
}

# Each part of a file asks again; the same file is identified once in a process.
_identify = functools.lru_cache(maxsize=4_096)(lambda path, modified, size: identify(path))


@functools.lru_cache(maxsize=256)
def _cut(file: DataFile, name: str, modified: int, size: int) -> list[Part]:
    # Looking for columns and reading both need the parts, and cutting may read the whole file.
    return _PARTS[file.kind](file, name)


def data_file(path: Path) -> DataFile:
    """Tells what a file is, and remembers it for as long as the file does not change."""
    status = path.stat()
    found: DataFile = _identify(path, status.st_mtime_ns, status.st_size)
    return found


def table_paths(files: Files, folder: str = "") -> list[str]:
    """Lists the data files below a folder. Raises SourceError when there is none."""
    paths = [path for path in files.paths if path.startswith(folder) and is_data(path)]
    if not paths:
        raise SourceError(
            f"{files.root / folder} has no data file ({', '.join(DATA_SUFFIXES)}). "
            "The dataset is incomplete, or its layout has changed."
        )
    return paths


def is_data(path: str) -> bool:
    """Tells whether a path has the suffix of a data file, compressed or not."""
    return path.lower().removesuffix(".gz").removesuffix(".zst").endswith(DATA_SUFFIXES)


def table_parts(files: Files, paths: Sequence[str]) -> list[Part]:
    """Cuts data files into parts, in the order given.

    Raises:
        SourceError: A file is damaged, or half of its first rows are not rows at all.
    """
    parts: list[Part] = []
    for path in paths:
        file = data_file(files.root / path)
        status = file.path.stat()
        found = _cut(file, path, status.st_mtime_ns, status.st_size)
        # The other formats say by themselves when they are damaged.
        if found and file.kind in ("jsonl", "json", "csv", "tsv"):
            broken, checked = [], 0
            for row in table_rows(files, found[0]):
                checked += 1
                if "_broken" in row:
                    broken.append(row)
            # Dropping half of a file row by row would hide that it is the wrong file. Among fewer
            # than 10 rows, half may be bad by chance.
            if checked >= 10 and 2 * len(broken) >= checked:
                place = place_of(files, found[0], broken[0])
                raise SourceError(
                    f"{len(broken)} of the first {checked} rows of {file.path} cannot be read. "
                    f"The first is {place}: {broken[0]['_broken']}. Check that it is the file you "
                    "mean; single broken rows are dropped and counted."
                )
        parts += found
    return parts


def table_rows(files: Files, part: Part) -> Iterator[Mapping[str, Any]]:
    """Yields the rows of one part, in order."""
    file = data_file(files.root / part.path)
    folder, _, name = part.path.rpartition("/")
    for line, row in _ROWS[file.kind](file, part):
        row["_line"] = line
        row["_folder"] = folder
        row["_file"] = name.partition(".")[0]
        yield row


def columns_of(files: Files, part: Part, rows: int = CHECKED_ROWS) -> dict[str, int]:
    """Counts in how many of the first rows of a part each column is.

    Args:
        files: The files of the dataset.
        part: The part to look into.
        rows: How many rows to look at.
    """
    found: dict[str, int] = {}
    # Rows of JSON lines may each have keys of their own, so one row is not enough.
    for _, row in zip(range(rows), table_rows(files, part), strict=False):
        for name in row:
            found[name] = found.get(name, 0) + 1
    # "_line" and its like are the place of a row; "__key__" and "__images__" are columns.
    return {name: count for name, count in found.items() if name[:1] != "_" or name[:2] == "__"}


def place_of(files: Files, part: Part, row: Mapping[str, Any]) -> str:
    """Says where a row is, for people: the line of JSON lines, or the row of another file.

    Args:
        files: The files of the dataset.
        part: The part that the row is in.
        row: The row, as `table_rows` gave it.
    """
    number = row["_line"] + 1
    # Only in JSON lines is a row a line, which an editor can go to.
    unit = "row"
    if data_file(files.root / part.path).kind == "jsonl":
        unit = "line"
    return f"{part.path}, {unit} {number}"
