"""Rows of CSV and TSV files, with the names of the columns in the first line.

Cells are text as they stand. A row whose number of cells is not that of the header becomes a row
with the key `_broken`; a quote that is never closed is an error for the whole file, because the
rows after it cannot be told from its text.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

from omr_data.errors import SourceError
from omr_data.source import Part
from omr_data.sources.formats import DataFile, read_forward
from omr_data.sources.json_rows import cut_parts

MAX_CELL = 200_000_000
"""Characters of a cell. Images as base64 are far longer than the limit of the csv module."""


@dataclass(slots=True)
class _Table:
    """An open table: parses rows, and counts the bytes that they took."""

    file: DataFile
    """The file, for messages."""
    stream: IO[bytes]
    """The open file, at the start of a row."""
    delimiter: str
    """What stands between two cells."""
    used: int = 0
    """Bytes that were read from the stream so far."""

    def rows(self) -> Iterator[list[str] | str]:
        """Yields the cells of each row, or what is wrong with it."""

        def lines() -> Iterator[str]:
            for line in self.stream:
                self.used += len(line)
                # Broken bytes stay visible in the cell, and the converter refuses the row.
                yield line.decode("utf-8", "surrogateescape").removeprefix("\ufeff")

        # The limit is one for the process, and nothing else here reads CSV.
        csv.field_size_limit(MAX_CELL)
        reader = csv.reader(lines(), delimiter=self.delimiter, strict=True)
        while True:
            start = self.used
            try:
                yield next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                # The csv module has one error for all faults, and only its text tells them apart.
                if "unexpected end of data" in str(error):
                    raise SourceError(
                        f"{self.file.path}: the quote that opens in the row at byte {start:,} is "
                        "never closed. Close it, or double the quotes inside the cell."
                    ) from error
                yield f"not a row of CSV: {error}"


def table_parts(file: DataFile, name: str) -> list[Part]:
    """Cuts a CSV or TSV file between rows, at about a million rows a second.

    Args:
        file: The file.
        name: Its path relative to the dataset's root.

    Raises:
        SourceError: The header has no name or one name twice, or a quote is never closed.
    """
    with file.open() as stream:
        table = _open(file, stream)
        rows = table.rows()
        _header(file, rows)

        def lengths() -> Iterator[tuple[int, int]]:
            before = table.used
            for row in rows:
                # Empty lines are not rows, and csv gives them as rows without cells.
                yield table.used - before, int(bool(row))
                before = table.used

        return cut_parts(name, lengths(), table.used)


def table_rows(file: DataFile, part: Part) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields the rows of a part of a CSV or TSV file with their numbers, from 0 after the header.

    Args:
        file: The file.
        part: A part that `table_parts` made.
    """
    # The header stands at the start of the file, wherever the part is.
    with file.open() as stream:
        names = _header(file, _open(file, stream).rows())
    if file.compression is None:
        with file.open() as stream:
            stream.seek(part.offset)
            rows = (row for row in _open(file, stream).rows() if row)
            for number in range(part.start, part.stop):
                yield number, _named(names, next(rows))
    else:
        # A compressed file cannot be entered in the middle, so it stays open between parts.
        def begin() -> tuple[int, Iterator[list[str] | str]]:
            forward = _open(file, file.open()).rows()
            _header(file, forward)
            return 0, (row for row in forward if row)

        items = read_forward(file, part.start, part.stop, begin)
        for number, row in enumerate(items, part.start):
            yield number, _named(names, row)


def _open(file: DataFile, stream: IO[bytes]) -> _Table:
    delimiters = {"csv": ",", "tsv": "\t"}
    return _Table(file, stream, delimiters[file.kind])


def _header(file: DataFile, rows: Iterator[list[str] | str]) -> list[str]:
    names = next(rows, None)
    if not isinstance(names, list) or not all(name.strip() for name in names):
        raise SourceError(
            f"{file.path} has no names of columns in its first line: {names!r:.200}. "
            "Put one name for each column there."
        )
    # A dict keeps one cell for each name, so the other column would vanish without a word.
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise SourceError(f"{file.path} has two columns with the name {twice[0]!r}. Rename one.")
    return names


def _named(names: list[str], row: list[str] | str) -> dict[str, Any]:
    if isinstance(row, str):
        return {"_broken": row}
    # Short rows are not filled up: a missing comma would move each cell under another name.
    if len(row) != len(names):
        return {"_broken": f"{len(row)} cells where the header has {len(names)}"}
    return dict(zip(names, row, strict=True))
