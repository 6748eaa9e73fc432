"""Rows of tar and zip archives: one row for each group of files with one name.

`000012.jpg`, `000012.json` and `000012.txt` are one row. An object in the JSON file gives its keys
as columns; a text file is the column "txt"; images are the column `__images__`, in the order of
their names; `__key__` is the common name. Bytes are read where they lie, and nothing is unpacked.
"""

import json
import re
import zipfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import PurePosixPath
from typing import IO, Any

from omr_data.errors import SourceError
from omr_data.source import Part
from omr_data.sources.formats import DataFile, read_forward
from omr_data.sources.json_rows import ROWS_PER_PART, cut_parts

BLOCK = 512
IMAGE_SUFFIXES = ("png", "jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff")
TABLE_SUFFIXES = ("jsonl", "csv", "tsv", "parquet", "arrow")
MAX_MEMBER = 512 * 2**20
"""Bytes of one file in an archive. A larger one is refused before it is read."""

Member = tuple[str, str, int, int, int]
"""Key, suffix, the byte where the header starts, the byte where the data starts, size of the
data."""


def tar_parts(file: DataFile, name: str) -> list[Part]:
    """Cuts a tar file between groups, from the headers alone.

    Args:
        file: The file.
        name: Its path relative to the dataset's root.

    Raises:
        SourceError: The archive is damaged or holds tables instead of samples.
    """
    with file.open() as stream:
        starts = [start for _, start, _ in _groups(file, stream, 0)]
        if not starts:
            raise SourceError(f"{file.path} holds no files. Check how it was made.")
        # Where the last group ends is not known, and not needed: rows are read by their number.
        ends = [*starts[1:], starts[-1]]
        pieces = ((end - start, 1) for start, end in zip(starts, ends, strict=True))
        return cut_parts(name, pieces, starts[0])


def tar_rows(file: DataFile, part: Part) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields the rows of a part of a tar file with their numbers.

    Args:
        file: The file.
        part: A part that `tar_parts` made.
    """
    if file.compression is None:
        with file.open() as stream:
            stream.seek(part.offset)
            groups = _groups(file, stream, part.offset, keep=True)
            for number in range(part.start, part.stop):
                key, _, members = next(groups)
                yield number, _row(key, members)
    else:
        # A compressed archive cannot be entered in the middle, so it stays open between parts.
        def begin() -> tuple[int, Iterator[tuple[str, int, list[tuple[str, bytes]]]]]:
            return 0, _groups(file, file.open(), 0, keep=True)

        items = read_forward(file, part.start, part.stop, begin)
        for number, (key, _, members) in enumerate(items, part.start):
            yield number, _row(key, members)


def _groups(
    file: DataFile, stream: IO[bytes], at: int, keep: bool = False
) -> Iterator[tuple[str, int, list[tuple[str, bytes]]]]:
    """Yields the key, the first byte and the files of each group; without data unless `keep`."""
    key, start = "", at
    files: list[tuple[str, bytes]] = []
    for path, header, size in _headers(file, stream, at):
        data = b""
        if keep:
            data = stream.read(size)
            if len(data) < size:
                raise _damaged(file, header)
        else:
            _pass(file, stream, size)
        # Data is padded to whole blocks.
        _pass(file, stream, -size % BLOCK)
        name, suffix = _split(path)
        if suffix in TABLE_SUFFIXES:
            raise SourceError(
                f"{file.path} holds the table {path}. Unpack the archive and read that file."
            )
        # Files of one sample stand together, as the tools that make such archives write them. A
        # sample that is scattered gives several rows, since collecting it would take all memory.
        if files and name != key:
            yield key, start, files
            files = []
        if not files:
            key, start = name, header
        files.append((suffix, data))
    if files:
        yield key, start, files


def _headers(file: DataFile, stream: IO[bytes], at: int) -> Iterator[tuple[str, int, int]]:
    """Yields path, the byte of the header and size of each regular file.

    The caller reads or passes over the data and its padding before it goes on. The headers are
    parsed here and not by `tarfile`, which takes 20 microseconds for each: five times the rest.
    Links and devices are passed over: an archive must not name files outside itself.
    """
    long_name, first = "", -1
    while len(block := stream.read(BLOCK)) == BLOCK:
        header, at = at, at + BLOCK
        if not block.rstrip(b"\0"):
            return  # the end is marked by empty blocks
        if block[257:262] != b"ustar":
            raise _damaged(file, header)
        size = _number(file, block[124:136], header)
        padded = size + -size % BLOCK
        at += padded
        kind = block[156:157]
        if first < 0:
            # A part begins at the entry with the long name, where there is one.
            first = header
        if kind in (b"L", b"x"):
            # Long names come in an extra entry before the one that they belong to.
            extra = stream.read(padded)[:size]
            if kind == b"L":
                found = extra.rstrip(b"\0")
            else:
                # Of the lines "<length> <key>=<value>" of a POSIX entry, only the path matters.
                line = re.search(rb"^[^ \n]* path=(.*)$", extra, re.MULTILINE)
                found = line[1] if line else b""
            long_name = found.decode("utf-8", "replace") or long_name
            continue
        if kind in (b"0", b"\0", b"7"):
            name = block[:100].split(b"\0", 1)[0]
            prefix = block[345:500].split(b"\0", 1)[0]
            # Only POSIX archives have a prefix; GNU keeps times in the same bytes.
            if prefix and block[257:263] == b"ustar\0":
                name = prefix + b"/" + name
            yield long_name or name.decode("utf-8", "replace"), first, size
        else:
            _pass(file, stream, padded)
        long_name, first = "", -1
    # A whole archive ends with an empty block, so this one was cut off, if only between files.
    raise _damaged(file, at)


def _number(file: DataFile, field: bytes, header: int) -> int:
    try:
        # Sizes from 8 GB on are written in binary, which no single sample has.
        size = int(field.strip(b"\0 ") or b"0", 8)
    except ValueError as error:
        raise _damaged(file, header) from error
    if size > MAX_MEMBER:
        raise SourceError(
            f"{file.path} holds a file of {size:,} bytes (header at byte {header:,}). "
            f"At most {MAX_MEMBER:,} are read: an archive holds small files of one sample each."
        )
    return size


def _pass(file: DataFile, stream: IO[bytes], size: int) -> None:
    if file.compression is None:
        # Seeking costs nothing, so that cutting an archive reads its headers alone.
        stream.seek(size, 1)
    else:
        stream.read(size)


def _damaged(file: DataFile, at: int) -> SourceError:
    return SourceError(f"{file.path} is damaged or cut off at byte {at:,}. Fetch it again.")


def zip_parts(file: DataFile, name: str) -> list[Part]:
    """Cuts a zip file between groups, from its directory.

    Args:
        file: The file.
        name: Its path relative to the dataset's root.

    Raises:
        SourceError: The archive is damaged or holds tables instead of samples.
    """
    count = len(_zip_groups(file))
    return [
        Part(name, start, min(start + ROWS_PER_PART, count))
        for start in range(0, count, ROWS_PER_PART)
    ]


def zip_rows(file: DataFile, part: Part) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields the rows of a part of a zip file with their numbers.

    Args:
        file: The file.
        part: A part that `zip_parts` made.
    """

    def begin() -> tuple[int, Iterator[tuple[str, list[zipfile.ZipInfo]]]]:
        return part.start, iter(_zip_groups(file)[part.start :])

    with zipfile.ZipFile(file.path) as archive:
        groups = read_forward(file, part.start, part.stop, begin)
        for number, (key, members) in enumerate(groups, part.start):
            files = [(_split(one.filename)[1], archive.read(one)) for one in members]
            yield number, _row(key, files)


def _zip_groups(file: DataFile) -> list[tuple[str, list[zipfile.ZipInfo]]]:
    try:
        with zipfile.ZipFile(file.path) as archive:
            members = [one for one in archive.infolist() if not one.is_dir()]
    except (zipfile.BadZipFile, OSError) as error:
        raise SourceError(
            f"{file.path} is not a readable zip file: {error}. Fetch it again."
        ) from error
    for one in members:
        if _split(one.filename)[1] in TABLE_SUFFIXES:
            raise SourceError(
                f"{file.path} holds the table {one.filename}. Unpack it and read that file."
            )
        if one.file_size > MAX_MEMBER:
            raise SourceError(
                f"{file.path} holds {one.filename} of {one.file_size:,} bytes; "
                f"at most {MAX_MEMBER:,} are read."
            )
    # The directory of a zip file is in the order of writing; files of one sample may be apart.
    members.sort(key=lambda one: one.filename)
    grouped = groupby(members, key=lambda one: _split(one.filename)[0])
    return [(key, list(files)) for key, files in grouped]


def _split(path: str) -> tuple[str, str]:
    """The key and the suffix of a file: "a/0001.2.jpg" is "a/0001" and "2.jpg"."""
    folder, _, name = path.rpartition("/")
    # All after the first dot is the suffix, so that "1.left.png" and "1.json" are one sample.
    stem, _, suffix = name.partition(".")
    if folder:
        stem = f"{folder}/{stem}"
    return stem, suffix.lower()


def _row(key: str, files: list[tuple[str, bytes]]) -> dict[str, Any]:
    # A broken JSON file spoils its own sample, and not the archive.
    row: dict[str, Any] = {"__key__": key}
    images = []
    for suffix, data in files:
        if suffix.rpartition(".")[2] in IMAGE_SUFFIXES:
            images.append(data)
            continue
        if PurePosixPath(suffix).name == "json" or suffix.endswith(".json"):
            try:
                value = json.loads(data)
            except (ValueError, RecursionError) as error:
                return {"_broken": f"{key}.{suffix} is not JSON: {error}"}
            if isinstance(value, dict):
                row |= value
            else:
                row[suffix] = value
        else:
            # Broken bytes stay visible in the cell, and the converter refuses the row.
            row[suffix] = data.decode("utf-8", "surrogateescape")
    if images:
        row["__images__"] = images
    return row
