"""`omr rollouts`: what the store of paid answers holds, and parquet in and out of it."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from omr_data.cli.common import WORK, WorkOption
from omr_data.progress import printable
from omr_data.store.replay import export_rollouts, import_rollouts
from omr_data.store.rollouts import RolloutStats, RolloutStore
from omr_data.store.workspace import Workspace

app = typer.Typer(
    help="The store of paid answers: what it holds, and parquet in and out.", no_args_is_help=True
)
File = Annotated[Path, typer.Argument(metavar="FILE", help="A parquet file.")]


@app.command("stats")
def stats_command(work: WorkOption = WORK) -> None:
    """Count what the store holds: answers, requests, failures and tokens, by model."""
    path = Workspace(work).rollouts
    with RolloutStore.read(path) as store:
        print_stats(Console(), path, store.stats())


@app.command("export")
def export_command(file: File, work: WorkOption = WORK) -> None:
    """Write every answer to a parquet file.

    Imported on another machine, it rebuilds the same releases without a teacher.
    """
    with RolloutStore.read(Workspace(work).rollouts) as store:
        rows, requests = export_rollouts(store, file)
    print(f"{rows:,} rollouts of {requests:,} requests in {file}")


@app.command("import")
def import_command(file: File, work: WorkOption = WORK) -> None:
    """Add the answers of an exported file to the store, after checking every key."""
    # The lock keeps a build from reading the store while keys are checked and added.
    workspace = Workspace(work)
    with workspace.lock(), RolloutStore.write(workspace.rollouts) as store:
        rows, new = import_rollouts(store, file)
    print(f"{rows:,} rollouts in {file}, {new:,} new in {workspace.rollouts}")


def print_stats(console: Console, path: Path, stats: RolloutStats) -> None:
    """Prints what a rollout store holds.

    Args:
        console: Where it is printed.
        path: The store's file.
        stats: What was counted in it.
    """
    console.print(
        f"{path} holds {stats.rollouts:,} rollouts of {stats.requests:,} requests, "
        f"{stats.failures:,} failed attempts"
    )
    console.print(
        f"  {stats.prompt_tokens:,} prompt tokens, {stats.completion_tokens:,} completion tokens"
    )
    for model, count in stats.models.items():
        # Names of models come from recipes and may hold brackets, which rich would read as styles.
        console.print(f"  {printable(model)}: {count:,}", markup=False)
