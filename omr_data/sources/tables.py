"""Rows of JSON-lines and parquet files, in parts of at most 1,000 rows.

Each row carries its number in the file as `_line` and the file's stem as `_file`.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omr_data.errors import SourceError
from omr_data.source import Files, Part

ROWS_PER_PART = 1_000


def table_paths(files: Files, folder: str = "") -> list[str]:
    """The .json, .jsonl and .parquet files below a folder. Raises SourceError when there is none."""
    paths = [
        path
        for path in files.paths
        if path.startswith(folder) and path.endswith((".json", ".jsonl", ".parquet"))
    ]
    if not paths:
        raise SourceError(
            f"{files.root / folder} has no .json, .jsonl or .parquet file. The dataset is incomplete, or its layout has changed."
        )
    return paths


def table_parts(files: Files, paths: Sequence[str]) -> list[Part]:
    """The files cut into parts, in order. Counts the lines of JSON files (about 1 GB/s), and reads parquet footers."""
    parts = []
    for path in paths:
        rows = (
            _count_parquet(files.root / path)
            if path.endswith(".parquet")
            else _count_lines(files.root / path)
        )
        parts += [
            Part(path, start, min(start + ROWS_PER_PART, rows))
            for start in range(0, rows, ROWS_PER_PART)
        ]
    return parts


def table_rows(files: Files, part: Part) -> Iterator[Mapping[str, Any]]:
    """The rows of one part, in order. A line that is no JSON object comes out as a row without columns."""
    path = files.root / part.path
    rows = _parquet_rows(path, part) if part.path.endswith(".parquet") else _json_rows(path, part)
    for line, row in enumerate(rows, part.start):
        yield row | {"_line": line, "_file": path.stem}


def _count_lines(path: Path) -> int:
    with open(path, "rb") as stream:
        return sum(1 for _ in stream)


def _json_rows(path: Path, part: Part) -> Iterator[dict[str, Any]]:
    with open(path, "rb") as stream:
        for line, raw in enumerate(stream):
            if line >= part.stop:
                return
            if line >= part.start:
                yield _parse(raw)


def _parse(raw: bytes) -> dict[str, Any]:
    try:
        row = json.loads(raw)
    except (ValueError, RecursionError) as error:
        return {"_broken": f"not JSON: {error}"}
    return row if isinstance(row, dict) else {"_broken": "not a JSON object"}


def _count_parquet(path: Path) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return int(pq.read_metadata(path).num_rows)
    except (pa.ArrowException, OSError) as error:
        raise SourceError(
            f"{path} is not a readable parquet file: {error}. Fetch it again."
        ) from error


def _parquet_rows(path: Path, part: Part) -> Iterator[dict[str, Any]]:
    """Reads only the row groups that the part touches, 100 rows at a time: cells may hold images of megabytes."""
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)
    first = 0
    for group in range(file.num_row_groups):
        after = first + file.metadata.row_group(group).num_rows
        if first < part.stop and after > part.start:
            row = first
            for batch in file.iter_batches(batch_size=100, row_groups=[group]):
                start, stop = max(part.start - row, 0), min(part.stop - row, batch.num_rows)
                if start < stop:
                    yield from batch.slice(start, stop - start).to_pylist()
                row += batch.num_rows
        first = after
