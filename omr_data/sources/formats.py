"""Tells what a data file is by its content, and opens it.

File names lie: `.json` files hold JSON lines, `.txt` files hold tables, and copies lose their
`.gz`. The first bytes decide instead. Compressed files (gzip, zstd) are opened as one forward
stream.
"""

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from omr_data.errors import SourceError

FileKind = Literal[
    "jsonl", "json", "csv", "tsv", "parquet", "arrow", "arrows", "tar", "zip", "empty"
]
"""What a file holds. "arrow" is an Arrow IPC file, "arrows" an Arrow IPC stream."""

HEAD_BYTES = 65_536
"""Bytes that are looked at. A first line longer than this is still recognized by how it begins."""
ONE_OBJECT_BYTES = 64 * 2**20
"""Up to this size a file is parsed to tell one large JSON object from JSON lines."""

_MAGIC: tuple[tuple[bytes, FileKind], ...] = (
    (b"PAR1", "parquet"),
    (b"ARROW1", "arrow"),
    (b"\xff\xff\xff\xff", "arrows"),
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
)


@dataclass(frozen=True, slots=True)
class DataFile:
    """One data file, with what its content says about it."""

    path: Path
    """Where it is."""
    kind: FileKind
    """What it holds, after decompression."""
    compression: str | None = None
    """"gzip", "zstd" or None."""

    def open(self) -> IO[bytes]:
        """Opens the file at its start, decompressed. Only an uncompressed file can seek."""
        # Large buffers: rows with images as base64 are longer than the usual 8 KiB.
        if self.compression is None:
            return open(self.path, "rb", buffering=1 << 20)
        import pyarrow as pa

        stream = pa.input_stream(str(self.path), compression=self.compression)
        return io.BufferedReader(_Raw(stream), 1 << 20)


class _Raw(io.RawIOBase):
    """Gives an Arrow stream the interface that `io.BufferedReader` wraps."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def identify(path: Path) -> DataFile:
    """Tells what a file is.

    Raises:
        SourceError: The content is of no known kind, or it is one JSON object instead of rows.
    """
    with open(path, "rb") as stream:
        head = stream.read(HEAD_BYTES)
    compression = None
    if head[:2] == b"\x1f\x8b":
        compression = "gzip"
    if head[:4] == b"\x28\xb5\x2f\xfd":
        compression = "zstd"
    if compression is not None:
        try:
            with DataFile(path, "empty", compression).open() as stream:
                head = stream.read(HEAD_BYTES)
        except OSError as error:
            raise SourceError(
                f"{path} begins as a {compression} file and cannot be decompressed: {error}. "
                "Fetch it again."
            ) from error
    found = DataFile(path, _kind(path, head), compression)
    named = path.suffix.lower().removeprefix(".")
    if named in ("parquet", "arrow", "tar", "zip") and found.kind in ("csv", "tsv"):
        # Content decides, but prose in a file that is named parquet is damage and not a table.
        raise SourceError(
            f"{path} is not a readable {named} file: it begins with {head[:20]!r}. Fetch it again."
        )
    if compression is not None and found.kind in ("parquet", "arrow", "arrows", "zip"):
        # These are read from many places at once, which a compressed stream does not allow.
        raise SourceError(f"{path} is a {found.kind} file inside {compression}. Decompress it.")
    if found.kind == "jsonl":
        _refuse_one_object(found, head)
    return found


def _kind(path: Path, head: bytes) -> FileKind:
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    # A tar file has its magic inside its first header.
    if head[257:262] == b"ustar":
        return "tar"
    # Reading it as UTF-8 would give rows with a null byte after each letter.
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise SourceError(f"{path} is UTF-16 text. Save it as UTF-8.")
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not text:
        return "empty"
    if text[:1] == b"[" and text[1:].lstrip()[:1] in (b"{", b"]", b""):
        # "[1]" begins a line of JSON lines that is not an object; rows of an array are objects.
        return "json"
    if text[:1] in (b"{", b"["):
        return "jsonl"
    line = text.split(b"\n", 1)[0]
    if b"\0" in text:
        raise SourceError(
            f"{path} is of no known kind. Data files hold JSON, JSON lines, CSV, TSV, parquet, "
            "Arrow, tar or zip, and may be compressed with gzip or zstd."
        )
    # A header may hold commas in its names, so tabs win where there are as many.
    if line.count(b"\t") >= max(1, line.count(b",")):
        return "tsv"
    return "csv"


def _refuse_one_object(file: DataFile, head: bytes) -> None:
    """Raises SourceError for a file that is one JSON object spread over many lines."""
    # Cheap for JSON lines: their first line is an object, and nothing more is read.
    first, _, rest = head.partition(b"\n")
    if not rest.strip():
        return
    try:
        json.loads(first)
    except (ValueError, RecursionError):
        pass  # the usual case of an object over many lines: its first line is "{" alone
    else:
        return
    with file.open() as stream:
        text = stream.read(ONE_OBJECT_BYTES).decode("utf-8", "replace")
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        return  # broken first lines are met one by one, when rows are read
    keys = ", ".join(list(whole)[:8])
    raise SourceError(
        f"{file.path} is one JSON object with the keys {keys}, not a list of rows. "
        "Write the rows as a JSON array, or as one JSON object a line."
    )


class Forward:
    """Rows of a file that can only be read from its start, kept open between two parts.

    Parts of one file are read in order, so continuing where the last part ended makes reading
    linear. Each worker process skips over the parts of the others, which is far cheaper than
    starting again. The result is the same as that of a fresh start.
    """

    def __init__(self, key: tuple[object, ...], items: Iterator[Any], position: int = 0) -> None:
        self.key = key
        self.items = items
        self.position = position

    def take(self, start: int, stop: int) -> Iterator[Any]:
        """Yields the items from `start` up to `stop`, and remembers the position."""
        while self.position < stop:
            # The end is marked by this object itself, because rows may be None.
            item = next(self.items, self)
            if item is self:
                return
            self.position += 1
            if self.position > start:
                yield item


_last: list[Forward] = []
"""The last file that was read forward in this process. One is enough: parts come file by file."""


def read_forward(
    file: DataFile, start: int, stop: int, begin: Callable[[], tuple[int, Iterator[Any]]]
) -> Iterator[Any]:
    """Yields items [start, stop) of a file, going on where the last call in this process ended.

    Args:
        file: The file.
        start: The first item.
        stop: The item after the last one.
        begin: Opens the file at or before `start`; returns the number of its first item and all
            items from there.
    """
    # A file that was replaced in between is another file.
    status = file.path.stat()
    key = (str(file.path), status.st_mtime_ns, status.st_size)
    at, items = -1, iter(())
    if not (_last and _last[0].key == key and _last[0].position <= start):
        at, items = begin()
        _last[:] = [Forward(key, items, at)]
    yield from _last[0].take(start, stop)
