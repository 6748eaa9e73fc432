"""`omr check` and `omr verify-release`: reads stored files again, and says which were changed."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from omr_data.cli.common import WORK, WorkOption
from omr_data.release.manifest import read_manifest
from omr_data.release.verify import release_problems
from omr_data.store.check import workspace_problems
from omr_data.store.workspace import Workspace

ReleaseFolder = Annotated[
    Path, typer.Argument(metavar="DIR", help="A release, like releases/NAME/VERSION.")
]


def check_command(work: WorkOption = WORK) -> None:
    """Check every stored file of a workspace: stages, images and paid rollouts."""
    workspace = Workspace(work)
    exit_with_problems(workspace_problems(workspace))
    print(f"{work} is whole: {len(workspace.stages()):,} stages, their images and the rollouts.")


def verify_release_command(folder: ReleaseFolder) -> None:
    """Check every file of a release against its manifest, byte by byte."""
    exit_with_problems(release_problems(folder))
    manifest = read_manifest(folder)
    print(
        f"{manifest['name']} {manifest['version']} is whole: {manifest['rows']:,} rows in "
        f"{len(manifest['files'])} files."
    )


def exit_with_problems(problems: Iterable[str]) -> None:
    """Prints each problem as it is found, and ends the command with code 1 where there was one."""
    # Printed one by one: reading a large workspace takes minutes, and the first problem may be
    # all that somebody waits for.
    found = 0
    for problem in problems:
        print(problem, file=sys.stderr, flush=True)
        found += 1
    if found:
        raise typer.Exit(1)
