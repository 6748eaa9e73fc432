"""`omr inspect`: what a data file or a dataset on the Hub holds, and the line that reads it."""

import re
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, Any

import typer

from omr_data.cli.common import Mirror
from omr_data.errors import BadRow, SourceError
from omr_data.progress import printable
from omr_data.records import Record, chat, check_marks
from omr_data.source import Files
from omr_data.sources import files, hub
from omr_data.sources.columns import ColumnMap
from omr_data.sources.guess import Guess, guess_columns, source_line
from omr_data.sources.locator import LocalDatasets
from omr_data.sources.tables import columns_of, table_parts, table_rows
from omr_data.store.images import ImageStore, RowImages

ROWS = 200
"""Rows that are looked at."""
SHOWN = 3
"""Records that are printed."""
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
_PLACES = ("_line", "_file", "_folder")

Data = Annotated[
    str,
    typer.Argument(metavar="DATA", help="A file, a folder, a pattern, or organization/name."),
]
SplitOption = Annotated[
    str | None, typer.Option(help="The split of a dataset on the Hub, such as train.")
]
Config = Annotated[str | None, typer.Option(help="The configuration of a dataset on the Hub.")]


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was found in the first rows of some data."""

    columns: Mapping[str, int]
    """In how many of the rows each column is."""
    rows: int
    """How many rows were looked at."""
    guess: Guess
    """Which column is what."""
    line: str
    """The line that reads the data. Empty where no column can be the question."""
    records: tuple[Record, ...]
    """The rows that became records."""
    dropped: Mapping[str, int]
    """Why the other rows did not, and how many of them."""


def inspect_command(
    data: Data, config: Config = None, split: SplitOption = None, mirror: Mirror = None
) -> None:
    """Show what the first 200 rows of some data would become, and the line that reads them."""
    found = inspect_data(data, config, split, LocalDatasets(mirror))
    print(f"{data}: columns in the first {found.rows} rows")
    for name, count in found.columns.items():
        note = ""
        if count < found.rows:
            note = f"  in {count} rows"
        print(f"  {printable(name)}{note}")
    # Data may hold escape sequences, which a terminal would obey: all of it is made printable.
    for number, record in enumerate(found.records[:SHOWN], 1):
        print(f"\nrecord {number}: {printable(record.id)}")
        for message in chat(record):
            print(f"  {message.role}: {printable(_short(message.text))}")
        for response in record.responses:
            print(f"  response: {printable(_short(response.text))}")
        # Of several accepted answers, all are shown: one that is missing makes right answers wrong.
        answers = f" {record.accept} of ".join(record.answers) or record.answer or "none"
        print(f"  answer: {printable(_short(answers))}")
        sizes = [f"{image.width}x{image.height} {image.format}" for image in record.images]
        if sizes:
            print(f"  images: {', '.join(sizes)}")
    print(f"\n{len(found.records)} of {found.rows} rows become records.")
    for reason, count in found.dropped.items():
        print(f"  {count} dropped: {printable(reason)}")
    for doubt in found.guess.doubts:
        print(f"Not known: {printable(doubt)}")
    # The license is never guessed, even where the data has a column for it.
    if found.line:
        print("Not known: the license. State it as the dataset does.")
        print(f"\nThe line for a recipe:\n\n{found.line}")


def inspect_data(
    data: str, config: str | None, split: str | None, locator: LocalDatasets
) -> Inspection:
    """Reads the first rows, guesses which column is what, and converts them.

    Args:
        data: A file, a folder, a pattern, or the id of a dataset on the Hub.
        config: The configuration of a dataset on the Hub.
        split: The split of a dataset on the Hub.
        locator: Finds the data.

    Raises:
        SourceError: The data cannot be read.
    """
    # What exists on this machine is meant before anything on the Hub.
    is_hub = not Path(data).exists() and "*" not in data and _REPOSITORY.fullmatch(data)
    name = re.sub(r"[^a-z0-9]+", "-", Path(data.rstrip("/*")).name.partition(".")[0].lower())
    shared: dict[str, Any] = {"dataset": name.strip("-") or "data", "license": "unknown"}
    arguments: dict[str, Any] = {"class": "files.Source", "first": data, **shared}
    if is_hub:
        arguments |= {"class": "hub.Source", "config": config, "split": split}

    def make(columns: ColumnMap) -> files.ColumnsSource:
        if is_hub:
            return hub.Source(data, config=config, split=split, columns=columns, **shared)
        return files.Source(data, columns=columns, **shared)

    # Any mapping finds the files; which columns there are is only known after that.
    where = make(ColumnMap(question="question")).download(locator)
    parts = table_parts(where, files.table_files(where))
    if not parts:
        raise SourceError(f"{data} has no rows. Check that it is the file you mean.")
    # Rows of the first files only: reading all would take as long as a build.
    every = chain.from_iterable(table_rows(where, part) for part in parts)
    rows = list(islice(every, ROWS))
    plain = [{key: row[key] for key in row if key not in _PLACES} for row in rows]
    guess = guess_columns([row for row in plain if "_broken" not in row])
    columns = columns_of(where, parts[0], ROWS)
    if guess.columns is None:
        return Inspection(columns, len(rows), guess, "", (), {})
    line = source_line(arguments, guess.columns)
    records, dropped = _convert(make(guess.columns), where, rows)
    return Inspection(columns, len(rows), guess, line, tuple(records), dropped)


def _convert(
    source: files.ColumnsSource, where: Files, rows: Sequence[Mapping[str, Any]]
) -> tuple[list[Record], Counter[str]]:
    records: list[Record] = []
    dropped: Counter[str] = Counter()
    # Looking at data must leave nothing behind, so images are stored for as long as this takes.
    with tempfile.TemporaryDirectory() as folder:
        images = RowImages(where.images or where.root, ImageStore(Path(folder)))
        for row in rows:
            try:
                records.append(check_marks(source.convert(row, images)))
            except BadRow as bad:
                dropped[bad.reason] += 1
    return records, dropped


def _short(text: str) -> str:
    # Enough to recognize a row by, and three records still fit a screen.
    if len(text) <= 400:
        return text
    return f"{text[:400]}..."
