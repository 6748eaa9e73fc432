"""`omr show`: rows of a built step, the rows it dropped, or a table it made."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from omr_data.cli.common import WORK, Mirror, RecipeFile, Set, Work, load_job
from omr_data.engine.build import folders
from omr_data.engine.stages import Stage
from omr_data.errors import RecipeError
from omr_data.records import Record, Response
from omr_data.store.shards import StageFolder, iter_dropped, read_records

_STYLES = {"RIGHT": "green", "WRONG": "red"}


def show_command(
    file: RecipeFile,
    set: Set = None,
    mirror: Mirror = None,
    work: Work = WORK,
    step: Annotated[
        str | None,
        typer.Option(help="A step of the plan, like verify.Answers; the last one if not given."),
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="How many rows.")] = 3,
    id: Annotated[str | None, typer.Option(help="Only rows whose id starts so.")] = None,
    dropped: Annotated[
        bool, typer.Option("--dropped", help="Show rows that were dropped, with the reason.")
    ] = False,
    table: Annotated[
        str | None, typer.Option(help="Show a table that the step made, like pairs.")
    ] = None,
) -> None:
    """Show rows of a built step, the rows it dropped, or a table it made."""
    job = load_job(file, set, mirror, work)
    cut, where = folders(job.plan, job.workspace)
    built = [
        (stage, folder) for stage, folder in zip(cut.stages, where, strict=True) if folder.done()
    ]
    chosen = [
        (stage, folder)
        for stage, folder in built
        if step is None or step in (node.name for node in stage.nodes)
    ]
    if not chosen:
        names = list(dict.fromkeys(node.name for stage, _ in built for node in stage.nodes))
        raise RecipeError(
            f"no step {step or ''} of {file} is built. "
            f"Built are: {', '.join(names) or 'none; run `omr build` first'}."
        )
    console = Console()
    if dropped:
        print_dropped(console, [folder for _, folder in chosen], step, id or "", rows)
    elif table is not None:
        print_table(console, chosen[-1][1], table, rows)
    else:
        print_records(console, [chosen[-1]] if step is None else chosen, id or "", rows)


def print_records(
    console: Console, stages: Sequence[tuple[Stage, StageFolder]], prefix: str, rows: int
) -> None:
    """Prints some records as they left a stage.

    Args:
        console: Where they are printed.
        stages: The stages to look in, in order.
        prefix: What the id of each record must start with.
        rows: At most this many records.

    Raises:
        RecipeError: No record has such an id.
    """
    found = (
        record
        for _, folder in stages
        for shard in folder.shards()
        for record in read_records(shard)
        if record.id.startswith(prefix)
    )
    shown = list(islice(found, rows))
    if not shown:
        raise RecipeError(f"no row there has an id that starts with {prefix!r}.")
    for record in shown:
        console.print(_record(record))


def _record(record: Record) -> Text:
    text = Text(record.id, style="bold")
    text.append(f"  {record.source}, {record.license}\n", style="dim")
    text.append(record.question + "\n", style="default")
    for number, option in enumerate(record.options):
        text.append(f"  ({chr(ord('A') + number)}) {option}\n", style="default")
    rate = "" if record.pass_rate is None else f"   pass rate {record.pass_rate:.2f}"
    images = "".join(f"   {image.width}x{image.height} {image.format}" for image in record.images)
    text.append(f"  answer: {record.answer}{rate}{images}\n", style="cyan")
    for response in record.responses:
        text.append_text(_response(response))
    return text


def _response(response: Response) -> Text:
    verdict = response.verdict
    outcome = "not verified" if verdict is None else verdict.outcome
    text = Text(f"  #{response.attempt} ", style="default")
    text.append(f"{outcome:<9}", style=_STYLES.get(outcome, "yellow"))
    text.append(f" {_clip(response.text, 300)}", style="default")
    if verdict is not None:
        text.append(f"\n     {verdict.verifier}: {verdict.reason}", style="dim")
    return text.append("\n")


def _clip(text: str, length: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= length else f"{line[: length - 3]}..."


def print_dropped(
    console: Console, folders: Sequence[StageFolder], step: str | None, prefix: str, rows: int
) -> None:
    """Prints dropped rows with their step and reason, and how many there are of each.

    Args:
        console: Where they are printed.
        folders: The stages to look in, in order.
        step: Only rows that this step dropped, or None for every step.
        prefix: What the id of each row must start with.
        rows: At most this many rows; the counts are of all.
    """
    found: list[dict[str, Any]] = []
    counts: dict[tuple[str, str], int] = {}
    for row in _dropped_rows(folders, step, prefix):
        counts[row["step"], row["reason"]] = counts.get((row["step"], row["reason"]), 0) + 1
        if len(found) < rows:
            found.append(row)
    if not counts:
        console.print("Nothing was dropped there.")
        return
    for (name, reason), count in counts.items():
        console.print(Text(f"{count:>8,}  {name}: {reason}"))
    for row in found:
        detail = f" ({row['detail']})" if row["detail"] else ""
        console.print(Text(f"\n{row['id']}  {row['step']}: {row['reason']}{detail}", style="bold"))
        console.print(Text(f"  {_clip(row['question'] or dict(row['meta']).get('row', ''), 300)}"))
        if row["answer"]:
            console.print(Text(f"  answer: {row['answer']}", style="cyan"))
        for response in row["responses"][:3]:
            outcome = (response["verdict"] or {}).get("outcome", "")
            console.print(
                Text(f"  #{response['attempt']} {outcome} {_clip(response['text'], 200)}")
            )


def _dropped_rows(
    folders: Sequence[StageFolder], step: str | None, prefix: str
) -> Iterator[dict[str, Any]]:
    for folder in folders:
        for row in iter_dropped(folder):
            if (step is None or row["step"] == step) and row["id"].startswith(prefix):
                yield row


def print_table(console: Console, folder: StageFolder, name: str, rows: int) -> None:
    """Prints the first rows of a table that a step made.

    Args:
        console: Where they are printed.
        folder: The stage that made the table.
        name: The table's name, like "pairs".
        rows: At most this many rows.

    Raises:
        RecipeError: The stage has no such table.
    """
    import polars as pl

    path = folder.table(name)
    if not path.exists():
        raise RecipeError(
            f"{folder.path.name} has no table {name!r}. "
            f"It has: {', '.join(folder.tables()) or 'none'}."
        )
    frame = pl.read_parquet(path)
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for column in frame.columns:
        shown.add_column(column, overflow="fold")
    for row in frame.head(rows).iter_rows():
        shown.add_row(*(Text(_clip(str(value), 120)) for value in row))
    console.print(shown)
    console.print(f"{min(rows, frame.height):,} of {frame.height:,} rows", highlight=False)
