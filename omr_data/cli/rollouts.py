"""`omr rollouts`: what the store of paid answers holds, what failed, and parquet in and out."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from omr_data.cli.common import WORK, WorkOption
from omr_data.progress import printable
from omr_data.store.replay import export_rollouts, import_rollouts
from omr_data.store.rollout_files import FailureGroup, RolloutStats
from omr_data.store.rollouts import RolloutStore
from omr_data.store.workspace import Workspace

app = typer.Typer(
    help="The store of paid answers: what it holds, what failed, and parquet in and out.",
    no_args_is_help=True,
)
File = Annotated[Path, typer.Argument(metavar="FILE", help="A parquet file.")]
ImportFile = Annotated[
    Path,
    typer.Argument(
        metavar="FILE", help="An exported file, or another workspace's rollouts.sqlite."
    ),
]
FailureKind = Annotated[
    str | None,
    typer.Option(help="Only failures of this kind or status, like rejected; all if not given."),
]


@app.command("stats")
def stats_command(work: WorkOption = WORK) -> None:
    """Count what the store holds: answers, requests, failures and tokens, by model."""
    path = Workspace(work).rollouts
    with RolloutStore.read(path) as store:
        print_stats(Console(), path, store.stats())


@app.command("failures")
def failures_command(work: WorkOption = WORK) -> None:
    """Show attempts without an answer, by kind.

    Each kind has its count, what the server said and an example question.
    """
    with RolloutStore.read(Workspace(work).rollouts) as store:
        print_failures(Console(), store.failure_groups())


@app.command("retry")
def retry_command(kind: FailureKind = None, work: WorkOption = WORK) -> None:
    """Forget failures, so that the next build asks for these attempts again.

    It asks for exactly these, and rebuilds what was made without them.
    """
    workspace = Workspace(work)
    with workspace.lock(), RolloutStore.write(workspace.rollouts) as store:
        # Under the lock of the workspace: a build that runs would store them again.
        forgotten = store.forget_failures(kind)
        kinds = sorted({group.kind for group in store.failure_groups()})
    print(f"{forgotten:,} attempts will be asked again by the next build.")
    # A mistyped kind would otherwise look like success.
    if not forgotten and kinds:
        print(f"No failure is of the kind {kind!r}. There are: {', '.join(kinds)}.")


@app.command("export")
def export_command(file: File, work: WorkOption = WORK) -> None:
    """Write every settled attempt to a parquet file.

    Imported on another machine, it rebuilds the same releases without a teacher.
    """
    with RolloutStore.read(Workspace(work).rollouts) as store:
        rows, requests = export_rollouts(store, file)
    print(f"{rows:,} rollouts of {requests:,} requests in {file}")


@app.command("import")
def import_command(file: ImportFile, work: WorkOption = WORK) -> None:
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
        f"{path} holds {stats.rollouts:,} rollouts of {stats.requests:,} requests; "
        f"{stats.refused:,} attempts refused, {stats.rejected:,} rejected, "
        f"{stats.failures:,} failed",
        soft_wrap=True,
    )
    console.print(
        f"  {stats.prompt_tokens:,} prompt tokens, {stats.completion_tokens:,} completion tokens"
    )
    for model, count in stats.models.items():
        # Names of models come from recipes and may hold brackets, which rich would read as styles.
        console.print(f"  {printable(model)}: {count:,}", markup=False)


def print_failures(console: Console, groups: Sequence[FailureGroup]) -> None:
    """Prints failures by kind.

    Args:
        console: Where it is printed.
        groups: The failures, the largest group first.
    """
    # A table without rows would look like an error.
    if not groups:
        console.print("No attempt is without an answer.")
        return
    table = Table("status", "kind", "HTTP", "attempts", "the server said", "example question")
    for group in groups:
        cells = (
            group.status.value,
            group.kind,
            str(group.http_status or ""),
            f"{group.count:,}",
            group.message[:200],
            asked_last(group.identity)[:80],
        )
        table.add_row(*(Text(printable(cell)) for cell in cells))
    console.print(table)
    console.print(
        "Refused and rejected attempts stay as they are until `omr rollouts retry` forgets them; "
        "failed ones are asked again by the next build.",
        soft_wrap=True,
    )


def asked_last(identity: str) -> str:
    """The last message of a request, which is what the record asks. Empty where there is none."""
    # Answers of another store may stand without their request.
    request = json.loads(identity or "{}")
    messages = request.get("messages") or [{"text": ""}]
    return str(messages[-1]["text"])
