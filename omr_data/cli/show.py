"""`omr show`: rows of a built step, the rows it dropped, or a table it made."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain, islice
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from omr_data.cli.common import WORK, Mirror, RecipeFile, SetOption, WorkOption, load_job
from omr_data.engine.build import folders
from omr_data.errors import RecipeError
from omr_data.progress import printable
from omr_data.records import Record
from omr_data.store.shards import StageFolder, iter_dropped, read_records

ID_COLUMNS = ("id", "dropped", "kept", "one", "other", "benchmark_id")
"""Columns of tables that hold ids of rows."""

# UNDECIDED and a missing verdict are yellow.
_STYLES = {"RIGHT": "green", "WRONG": "red"}


def show_command(
    file: RecipeFile,
    set: SetOption = None,
    mirror: Mirror = None,
    work: WorkOption = WORK,
    step: Annotated[
        str | None,
        typer.Option(help="A step of the plan, like verify.Answers; the last one if not given."),
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="How many rows.")] = 3,
    id: Annotated[str | None, typer.Option(help="Only rows whose id starts with this.")] = None,
    dropped: Annotated[
        bool, typer.Option("--dropped", help="Show rows that were dropped, with the reason.")
    ] = False,
    table: Annotated[
        str | None, typer.Option(help="Show a table that the step made, like pairs.")
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(help="Sort the table by this column, the largest first."),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(help="Only rows of the table with this value, as column=value. Repeatable."),
    ] = None,
) -> None:
    """Show rows of a built step, the rows it dropped, or a table it made."""
    job = load_job(file, set, mirror, work)
    cut, places = folders(job.plan, job.workspace)
    built = [
        (stage, folder) for stage, folder in zip(cut.stages, places, strict=True) if folder.done()
    ]
    called = {node.fingerprint: node.label for node in job.plan.nodes}
    # Several steps are often written as one stage, which is shown for each of them. A step may be
    # given by its name, or by its label where the plan has several of that name.
    chosen = [
        (stage, folder)
        for stage, folder in built
        if step is None
        or any(step in (node.name, called[node.fingerprint]) for node in stage.nodes)
    ]
    if not chosen:
        nodes = chain.from_iterable(stage.nodes for stage, _ in built)
        names = [called[node.fingerprint] for node in nodes]
        raise RecipeError(
            f"no step {step or ''} of {file} is built. "
            f"Built are: {', '.join(names) or 'none; run `omr build` first'}."
        )
    # Refused rather than ignored: rows that were not filtered would look as if they were.
    if table is None and (sort or where):
        raise RecipeError("--sort and --where go with --table: give the table, like --table pairs.")
    console = Console()
    if dropped:
        # Dropped rows know the name of their step; a label adds a dataset in parentheses.
        name = (step or "").partition(" (")[0]
        print_dropped(console, [folder for _, folder in chosen], name, id or "", rows)
    elif table is not None:
        wanted = [read_condition(text) for text in where or ()]
        print_table(console, chosen[-1][1], table, rows, sort or "", wanted, id or "")
    else:
        if step is None:
            # Without a step, the result of the recipe: the last stage.
            chosen = chosen[-1:]
        print_records(console, [folder for _, folder in chosen], id or "", rows)


def print_records(console: Console, folders: Sequence[StageFolder], prefix: str, rows: int) -> None:
    """Prints some records as they left a stage.

    Args:
        console: Where they are printed.
        folders: The stages to look in, in order.
        prefix: What the id of each record must start with.
        rows: At most this many records.

    Raises:
        RecipeError: No record has such an id.
    """
    # A generator, so that only the first shards of a large stage are read.
    shards = chain.from_iterable(folder.shards() for folder in folders)
    records = chain.from_iterable(map(read_records, shards))
    found = (record for record in records if record.id.startswith(prefix))
    shown = list(islice(found, rows))
    if not shown:
        raise RecipeError(f"no row there has an id that starts with {prefix!r}.")
    for record in shown:
        console.print(_record(record))


def _record(record: Record) -> Text:
    text = _styled(record.id, "bold")
    text.append_text(_styled(f"  {record.source}, {record.license}\n", "dim"))
    text.append_text(_styled(record.question + "\n"))
    # Lettered as a teacher saw them; answers often name the letter alone.
    for number, option in enumerate(record.options):
        text.append_text(_styled(f"  ({chr(ord('A') + number)}) {option}\n"))
    facts = [f"  answer: {record.answer}"]
    if record.pass_rate is not None:
        facts.append(f"pass rate {record.pass_rate:.2f}")
    # Images are told by size and format: most terminals cannot show them.
    facts += [f"{image.width}x{image.height} {image.format}" for image in record.images]
    text.append_text(_styled("   ".join(facts) + "\n", "cyan"))
    for response in record.responses:
        text.append(f"  #{response.attempt} ")
        verdict = response.verdict
        if verdict is None:
            text.append("not verified", style="yellow")
        else:
            text.append(f"{verdict.outcome:<9}", style=_STYLES.get(verdict.outcome, "yellow"))
        # Responses are cut: reasoning has thousands of words, and the release holds all.
        text.append_text(_styled(f" {_clip(response.text, 300)}\n"))
        if verdict is not None:
            # The reason says more than the outcome: a WRONG by a typo is a fault of the verifier.
            text.append_text(_styled(f"     {verdict.verifier}: {verdict.reason}\n", "dim"))
    return text


def _styled(text: str, style: str = "default") -> Text:
    # Everything that comes from data passes here: rich does not escape control characters.
    return Text(printable(text), style=style)


def _clip(text: str, length: int) -> str:
    """Returns the text on one line, cut to a number of characters."""
    line = " ".join(text.split())
    if len(line) <= length:
        return line
    return f"{line[: length - 3]}..."


def print_dropped(
    console: Console, folders: Sequence[StageFolder], step: str, prefix: str, rows: int
) -> None:
    """Prints dropped rows with their step and reason, and how many there are of each.

    Args:
        console: Where they are printed.
        folders: The stages to look in, in order.
        step: Only rows that a step of this name dropped. Empty for every step.
        prefix: What the id of each row must start with.
        rows: At most this many rows; the counts are of all.
    """
    found: list[dict[str, Any]] = []
    counts: Counter[tuple[str, str]] = Counter()
    for folder in folders:
        for row in iter_dropped(folder):
            # A stage runs several steps in one pass, and keeps what they drop in one file.
            if step in ("", row["step"]) and row["id"].startswith(prefix):
                counts[row["step"], row["reason"]] += 1
                if len(found) < rows:
                    found.append(row)
    # A step that drops nothing is fine, so this is not an error.
    if not counts:
        console.print("Nothing was dropped there.")
        return
    for (name, reason), count in counts.items():
        console.print(_styled(f"{count:>8,}  {name}: {reason}"))
    for row in found:
        console.print(_dropped_row(row))


def _dropped_row(row: Mapping[str, Any]) -> Text:
    """Describes a dropped row: why it was dropped, then what is known of it."""
    why = f"{row['step']}: {row['reason']}"
    if row["detail"]:
        why = f"{why} ({row['detail']})"
    text = _styled(f"\n{row['id']}  {why}\n", "bold")
    # A row that a source could not convert has no question; its raw text is kept instead.
    question = row["question"] or dict(row["meta"]).get("row", "")
    text.append_text(_styled(f"  {_clip(question, 300)}"))
    for number, option in enumerate(row["options"]):
        text.append_text(_styled(f"\n  ({chr(ord('A') + number)}) {option}"))
    if row["answer"]:
        text.append_text(_styled(f"\n  answer: {row['answer']}", "cyan"))
    # Three responses say why a question failed; `--step` of an earlier step shows all of them.
    for response in row["responses"][:3]:
        outcome = (response["verdict"] or {}).get("outcome", "")
        answered = _clip(response["text"], 200)
        text.append_text(_styled(f"\n  #{response['attempt']} {outcome} {answered}"))
    return text


def read_condition(text: str) -> tuple[str, str]:
    """Splits "column=value"; the value may hold further signs of equality.

    Raises:
        RecipeError: The text has no sign of equality.
    """
    column, found, value = text.partition("=")
    if not found:
        raise RecipeError(f"--where {text!r} has no '='. Write it as column=value.")
    return column, value


def print_table(
    console: Console,
    folder: StageFolder,
    name: str,
    rows: int,
    sort: str = "",
    where: Sequence[tuple[str, str]] = (),
    prefix: str = "",
) -> None:
    """Prints the first rows of a table that a step made.

    Args:
        console: Where they are printed.
        folder: The stage that made the table.
        name: The table's name, like "pairs".
        rows: At most this many rows.
        sort: A column to sort by, the largest value first. Empty for the order of the table.
        where: Columns, each with the value that it must have as text.
        prefix: What the value of some column of ids must start with.

    Raises:
        RecipeError: The stage has no such table, or the table no such column.
    """
    import polars as pl

    path = folder.table(name)
    if not path.exists():
        raise RecipeError(
            f"{folder.path.name} has no table {name!r}. "
            f"It has: {', '.join(folder.tables()) or 'none'}."
        )
    # Tables of pairs can have millions of rows. All are read, for their number.
    frame = pl.read_parquet(path)
    unknown = {sort, *(column for column, _ in where)} - {"", *frame.columns}
    if unknown:
        raise RecipeError(
            f"the table {name!r} has no column {', '.join(sorted(unknown))}. "
            f"It has: {', '.join(frame.columns)}."
        )
    # Compared as text, since a value from the command line has no type.
    for column, value in where:
        frame = frame.filter(pl.col(column).cast(pl.String) == value)
    ids = [column for column in frame.columns if column in ID_COLUMNS]
    if prefix and ids:
        # A pair is found by either of its sides.
        matches = [pl.col(column).str.starts_with(prefix) for column in ids]
        frame = frame.filter(pl.any_horizontal(matches))
    if sort:
        # Stable, so that equal rows keep the order in which the step wrote them.
        frame = frame.sort(sort, descending=True, nulls_last=True, maintain_order=True)
    head = frame.head(rows)
    if sum(len(column) + 2 for column in frame.columns) <= console.width:
        shown = Table(box=None, pad_edge=False, header_style="bold")
        for column in frame.columns:
            shown.add_column(_styled(column), overflow="fold")
        for row in head.iter_rows():
            shown.add_row(*(_styled(_clip(str(value), 120)) for value in row))
        console.print(shown)
    else:
        # Pairs have a dozen columns. Side by side, a terminal would show two letters of each.
        width = max(len(column) for column in frame.columns)
        for row in head.iter_rows():
            for column, value in zip(frame.columns, row, strict=True):
                line = f"{column:<{width}}  {_clip(str(value), 300)}"
                console.print(_styled(line), highlight=False)
            console.print()
    console.print(f"{min(rows, frame.height):,} of {frame.height:,} rows", highlight=False)
