"""`omr build` and `omr release`: makes a recipe's data, and packs it as a release."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from omr_data.cli.common import (
    RELEASES,
    WORK,
    WORKERS,
    Mirror,
    RecipeFile,
    Releases,
    SetOption,
    Workers,
    WorkOption,
    load_job,
)
from omr_data.cli.problems import require_ready
from omr_data.cli.show import print_records
from omr_data.engine.build import Built, build, folders
from omr_data.engine.preview import preview
from omr_data.engine.unanswered import stale_stages
from omr_data.errors import RecipeError
from omr_data.plan import make_plan
from omr_data.progress import printable, reporter
from omr_data.release.package import check_drift, release
from omr_data.store.ledger import read_json
from omr_data.teacher import Budget


def build_command(
    file: RecipeFile,
    set: SetOption = None,
    mirror: Mirror = None,
    work: WorkOption = WORK,
    releases: Releases = RELEASES,
    workers: Workers = WORKERS,
    budget: Annotated[
        str | None,
        typer.Option(metavar="AMOUNT", help="Pause when this much is spent, like 500usd."),
    ] = None,
    max_requests: Annotated[
        int | None, typer.Option(min=0, help="Pause after this many requests.")
    ] = None,
    rows: Annotated[
        int | None,
        typer.Option(
            "--limit", min=1, help="Preview: only this many rows of each source, and no release."
        ),
    ] = None,
) -> None:
    """Build a recipe and release it.

    Steps that are built already are not built again, and no paid answer is asked for twice.
    After Ctrl-C or a crash, the same command goes on from there.
    """
    # Everything that can be wrong with the command is checked before the workspace is locked.
    job = load_job(file, set, mirror, work)
    limit = Budget(dollars(budget), max_requests)
    if rows is not None:
        # A preview is another plan: it shares the paid answers, and nothing else.
        job = replace(job, plan=make_plan(preview(job.plan.recipe, rows), job.locator))
    require_ready(job)
    if rows is not None:
        with job.workspace.lock(), job.mapper(workers) as processes:
            quiet = reporter(Console(stderr=True))
            built = build(job.plan, job.workspace, job.locator, processes, workers, quiet, limit)
        print_preview(Console(), built)
        return
    # A version that was released from another plan is refused before anything is paid for.
    check_drift(job.plan, releases)
    # Progress goes to standard error, so that standard output holds the result alone.
    console = Console(stderr=True)
    with job.workspace.lock(), job.mapper(workers) as processes:
        built = build(
            job.plan, job.workspace, job.locator, processes, workers, reporter(console), limit
        )
        folder = release(built, job.workspace, releases, job.prose(), processes, reporter(console))
    print_release(Console(), folder)


def print_preview(console: Console, built: Built) -> None:
    """Prints the first rows that a preview made, and says that nothing was released."""
    # Counted from footers, so that a preview of many rows is not read twice.
    total = sum(count_rows(shard) for shard in built.result)
    if total:
        last = [built.folders[number] for number in built.cut.result]
        print_records(console, last, "", rows=3)
    console.print(
        f"Preview of {built.plan.recipe.name}: {total:,} rows, not released. "
        "Without --limit the whole recipe is built.",
        highlight=False,
    )


def count_rows(shard: Path) -> int:
    """Returns the number of rows of a shard, from its footer."""
    import pyarrow.parquet as pq

    return int(pq.read_metadata(shard).num_rows)


def dollars(text: str | None) -> float | None:
    """Reads an amount of US dollars: "500usd", "$12.50" or "3". None stays None.

    Raises:
        RecipeError: The text is not an amount.
    """
    if text is None:
        return None
    # Other currencies are refused: prices of teachers are in dollars, and rates change.
    match = re.fullmatch(r"\$?(\d+(?:\.\d+)?)(?:usd)?", text.strip().lower())
    if match is None:
        raise RecipeError(
            f"--budget takes US dollars, and got {text!r}. Write for example --budget 500usd."
        )
    return float(match[1])


def release_command(
    file: RecipeFile,
    set: SetOption = None,
    mirror: Mirror = None,
    work: WorkOption = WORK,
    releases: Releases = RELEASES,
    workers: Workers = WORKERS,
) -> None:
    """Release a recipe that is built already."""
    job = load_job(file, set, mirror, work)
    require_ready(job)
    # A stage counts as built only where its answers are still those in the store: retried
    # failures make it stale.
    cut, where = folders(job.plan, job.workspace)
    stale = stale_stages(cut, where, job.workspace)
    left = [
        stage.last.name
        for number, (stage, folder) in enumerate(zip(cut.stages, where, strict=True))
        if number in stale or not folder.done()
    ]
    if left:
        raise RecipeError(
            f"{job.plan.recipe.name} is not built yet: {', '.join(left)} did not run. "
            f"`omr build {file}` builds and releases it."
        )
    # Nothing is read again: the stages on disk are what a release is written from.
    with job.workspace.lock(), job.mapper(workers) as processes:
        built = Built(job.plan, cut, where)
        console = Console(stderr=True)
        folder = release(built, job.workspace, releases, job.prose(), processes, reporter(console))
    print_release(Console(), folder)


def print_release(console: Console, folder: Path) -> None:
    """Prints what a release holds, and how to load it."""
    manifest = read_json(folder / "manifest.json")
    console.print(
        f"{manifest['name']} {manifest['version']}: {manifest['rows']:,} rows in {folder}",
        highlight=False,
    )
    for line in manifest["by_source"]:
        # Names of sources come from rows, where brackets would be read as styles.
        of_source = f"{line['rows']:,} rows of {line['questions']:,} questions ({line['license']})"
        console.print(Text(printable(f"  {line['source']}: {of_source}")))
    # One line, however long, so that it can be copied.
    console.print(
        f"Load it: datasets.load_dataset({str(folder)!r}, split='train')",
        highlight=False,
        soft_wrap=True,
    )
