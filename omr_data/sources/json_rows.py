"""Rows of JSON-lines files and of JSON arrays.

A line that is not a JSON object becomes a row with the key `_broken`, which converters turn into a
counted drop. A JSON array that breaks off cannot be read on, so it is an error for the whole file.
"""

import json
from collections.abc import Iterator
from typing import IO, Any

from omr_data.errors import SourceError
from omr_data.source import Part
from omr_data.sources.formats import DataFile, read_forward

ROWS_PER_PART = 1_000
BYTES_PER_PART = 256 * 2**20
"""A part ends at this size even with fewer rows: rows may hold images as base64."""
CHUNK = 4 * 2**20
"""Bytes of a JSON array that are parsed at once."""

_DECODER = json.JSONDecoder()


def line_parts(file: DataFile, name: str) -> list[Part]:
    """Cuts a JSON-lines file at line ends, at about 10 million lines a second.

    Args:
        file: The file.
        name: Its path relative to the dataset's root.
    """
    # Only line ends are looked at: parsing here would read every row twice.
    with file.open() as stream:
        return cut_parts(name, ((len(line), 1) for line in stream))


def cut_parts(name: str, pieces: Iterator[tuple[int, int]], start: int = 0) -> list[Part]:
    """Cuts consecutive pieces of a file into parts of at most 1,000 rows.

    Args:
        name: The file's path relative to the dataset's root.
        pieces: Bytes and rows of each piece, in order. A piece without rows is skipped over.
        start: The byte where the first piece starts.
    """
    parts: list[Part] = []
    first = row = 0
    offset, size = start, 0
    for length, rows in pieces:
        size += length
        row += rows
        if row - first == ROWS_PER_PART or size >= BYTES_PER_PART:
            parts.append(Part(name, first, row, offset, size))
            first, offset, size = row, offset + size, 0
    if row > first:
        parts.append(Part(name, first, row, offset, size))
    return parts


def line_rows(file: DataFile, part: Part) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields the rows of a part of a JSON-lines file with their line numbers, from 0.

    Args:
        file: The file.
        part: A part that `line_parts` made.
    """
    lines: Iterator[bytes]
    if file.compression is None:
        with file.open() as stream:
            stream.seek(part.offset)
            lines = (stream.readline() for _ in range(part.start, part.stop))
            yield from _parsed(lines, part.start)
    else:
        lines = read_forward(file, part.start, part.stop, lambda: (0, iter(file.open())))
        yield from _parsed(lines, part.start)


def _parsed(lines: Iterator[bytes], start: int) -> Iterator[tuple[int, dict[str, Any]]]:
    decode = _DECODER.decode
    for number, line in enumerate(lines, start):
        # Windows editors put a byte order mark at the start of a file.
        if number == 0:
            line = line.removeprefix(b"\xef\xbb\xbf")
        try:
            row = decode(line.decode())
        except (ValueError, RecursionError) as error:
            # A blank line is not a row: editors leave one at the end.
            if line.strip():
                yield number, {"_broken": f"not JSON: {error}"}
            continue
        yield number, _object(row)


def _object(row: Any) -> dict[str, Any]:
    if isinstance(row, dict):
        return row
    return {"_broken": "not a JSON object"}


def array_parts(file: DataFile, name: str) -> list[Part]:
    """Cuts a JSON array between its elements. Parses it once, in memory of one chunk.

    Args:
        file: The file.
        name: Its path relative to the dataset's root.

    Raises:
        SourceError: The array is broken or breaks off; the message says at which row.
    """
    with file.open() as stream:
        # A piece reaches from one element's end to the next, with the comma between them.
        def lengths() -> Iterator[tuple[int, int]]:
            before = 0
            for _, end in _elements(stream, file):
                yield end - before, 1
                before = end

        return cut_parts(name, lengths())


def array_rows(file: DataFile, part: Part) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields the rows of a part of a JSON array with their numbers.

    Args:
        file: The file.
        part: A part that `array_parts` made.
    """
    if file.compression is None:
        with file.open() as stream:
            stream.seek(part.offset)
            # The bytes of a part begin with the "[" or "," before its first element.
            text = stream.read(part.size).removeprefix(b"\xef\xbb\xbf").lstrip()
        # One call of the parser for the whole part is three times as fast as one for each row.
        rows = iter(json.loads(b"[" + text[1:] + b"]"))
    else:
        # A compressed file cannot be entered in the middle, so it stays open between parts.
        def begin() -> tuple[int, Iterator[Any]]:
            elements = _elements(file.open(), file)
            return 0, (json.loads(text.encode("latin-1")) for text, _ in elements)

        rows = read_forward(file, part.start, part.stop, begin)
    for number, row in enumerate(rows, part.start):
        yield number, _object(row)


def _elements(stream: IO[bytes], file: DataFile) -> Iterator[tuple[str, int]]:
    """Yields each element's text (bytes as latin-1) and the byte after it.

    Bytes are read as latin-1, so that a position in the text is a position in the file. UTF-8 never
    uses the bytes of quotes or brackets inside a character, so the borders are right.
    """
    buffer, base, at = "", 0, 0
    row, border = 0, "["
    wanted = CHUNK
    while True:
        at = _skip_space(buffer, at)
        if border and buffer[at : at + 1] == border:
            border, at = "", _skip_space(buffer, at + 1)
        # A comma before the closing bracket is a frequent slip, and loses nothing.
        if buffer[at : at + 1] == "]":
            return
        if at < len(buffer):
            try:
                if border:
                    raise json.JSONDecodeError(f"expected {border!r}", buffer, at)
                _, end = _DECODER.raw_decode(buffer, at)
            except (ValueError, RecursionError) as error:
                _check_cut_off(error, buffer, file, row, base)
            else:
                # A number at the end of the chunk may go on in the next one; an object may not.
                if end < len(buffer) or buffer[at] == "{":
                    yield buffer[at:end], base + end
                    row, at, border = row + 1, end, ","
                    continue
        more = stream.read(wanted).decode("latin-1")
        if not more:
            raise SourceError(
                f"{file.path} is a JSON array that breaks off in row {row} (byte "
                f"{base + len(buffer):,}): the file is incomplete. Fetch it again, or close the "
                "array after its last whole row."
            )
        # What is parsed is forgotten, so memory holds one chunk and the longest element. Chunks
        # double while one element does not fit, so that it is parsed only a few times.
        wanted *= 2
        if at:
            wanted = CHUNK
        buffer, base, at = buffer[at:] + more, base + at, 0


def _skip_space(buffer: str, at: int) -> int:
    """The next place that is neither a space nor the byte order mark, as latin-1."""
    while at < len(buffer) and buffer[at] in " \t\r\n\xef\xbb\xbf":
        at += 1
    return at


def _check_cut_off(error: Exception, buffer: str, file: DataFile, row: int, base: int) -> None:
    """Raises SourceError where more text cannot mend the error."""
    # The parser gives a place near the end of the text, or that of an open quote, where more text
    # is needed. Words such as "true" may be cut in the middle, hence the 16.
    place = getattr(error, "pos", len(buffer))
    is_cut = place > len(buffer) - 16 or str(error).startswith("Unterminated string")
    if not is_cut:
        raise SourceError(
            f"{file.path} is a JSON array that is broken in row {row} (byte {base + place:,}): "
            f"{error}. Mend that row, or write one row a line: a broken line is dropped alone."
        ) from error
