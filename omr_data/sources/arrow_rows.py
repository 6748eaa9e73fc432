"""Rows of parquet files and of Arrow files (IPC files and streams, as `datasets` caches them)."""

from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Any

from omr_data.errors import SourceError
from omr_data.source import Part
from omr_data.sources.formats import DataFile, read_forward
from omr_data.sources.json_rows import ROWS_PER_PART

WIDE_ROW = 8_192
"""Bytes of a row from which few are converted at once: cells may hold images of megabytes."""


def parts(file: DataFile, name: str) -> list[Part]:
    """Cuts the file into parts of at most 1,000 rows, from its footer.

    Args:
        file: The file.
        name: Its path relative to the dataset's root.

    Raises:
        SourceError: The file is damaged.
    """
    rows = sum(_opened(file)[0])
    return [
        Part(name, start, min(start + ROWS_PER_PART, rows))
        for start in range(0, rows, ROWS_PER_PART)
    ]


def rows(file: DataFile, part: Part) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields the rows of a part with their numbers.

    Only the row groups that the part touches are read. A file with one group is read forward from
    part to part, so that the group is decoded once and not once for each part.

    Args:
        file: The file.
        part: A part that `parts` made.
    """
    counts, read = _opened(file)
    starts = [0, *accumulate(counts)]

    def begin() -> tuple[int, Iterator[dict[str, Any]]]:
        # An empty group starts where the next one does, and the last of them holds the row.
        group = max(group for group, start in enumerate(starts) if start <= part.start)
        return starts[group], read(group)

    yield from enumerate(read_forward(file, part.start, part.stop, begin), part.start)


def _opened(
    file: DataFile,
) -> tuple[list[int], Callable[[int], Iterator[dict[str, Any]]]]:
    """The rows of each group, and a function that reads all rows from a group on."""
    import pyarrow as pa

    try:
        if file.kind == "parquet":
            return _parquet(file)
        return _arrow(file)
    # Damaged footers raise either of the two, depending on where they break off.
    except (pa.ArrowException, OSError) as error:
        raise SourceError(
            f"{file.path} is not a readable {file.kind} file: {error}. Fetch it again."
        ) from error


def _parquet(file: DataFile) -> tuple[list[int], Callable[[int], Iterator[dict[str, Any]]]]:
    import pyarrow.parquet as pq

    table = pq.ParquetFile(file.path)
    groups = [table.metadata.row_group(group) for group in range(table.num_row_groups)]
    counts = [group.num_rows for group in groups]
    size = sum(group.total_byte_size for group in groups)
    # Text rows are fastest by the thousand; a thousand images would fill the memory.
    batch = ROWS_PER_PART
    if size > WIDE_ROW * sum(counts):
        batch = 100

    def read(group: int) -> Iterator[dict[str, Any]]:
        left = range(group, len(counts))
        for rows in table.iter_batches(batch_size=batch, row_groups=list(left)):
            yield from rows.to_pylist()

    return counts, read


def _arrow(file: DataFile) -> tuple[list[int], Callable[[int], Iterator[dict[str, Any]]]]:
    import pyarrow as pa

    source = pa.memory_map(str(file.path))
    if file.kind == "arrow":
        opened = pa.ipc.open_file(source)
        batches = [opened.get_batch(number) for number in range(opened.num_record_batches)]
    else:
        # A stream has no footer. Batches are views of the mapped file, so listing them is cheap.
        batches = list(pa.ipc.open_stream(source))

    def read(group: int) -> Iterator[dict[str, Any]]:
        # Batches are as large as their writer wanted, so they are converted in slices.
        for batch in batches[group:]:
            for start in range(0, batch.num_rows, 100):
                yield from batch.slice(start, 100).to_pylist()

    return [batch.num_rows for batch in batches], read
