"""Options that several commands share, and a recipe file together with its plan."""

import importlib.util
import json
import os
import sys
import textwrap
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from omr_data.arguments import pairs
from omr_data.errors import MissingExtra, RecipeError
from omr_data.plan import Plan, make_plan
from omr_data.processes import Mapper, mapper
from omr_data.recipe import load, load_in_worker
from omr_data.sources.locator import LocalDatasets, read_pins
from omr_data.store.workspace import Workspace

RecipeFile = Annotated[Path, typer.Argument(metavar="RECIPE", help="The recipe's Python file.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="An argument of the recipe; may be repeated."),
]
Mirror = Annotated[
    Path | None,
    typer.Option(
        envvar="OMR_HUB_MIRROR",
        help="A folder of datasets in Hub layout that stands in for the Hub.",
    ),
]
WorkOption = Annotated[Path, typer.Option(help="The workspace: stages, images and paid rollouts.")]
Releases = Annotated[Path, typer.Option(help="Where releases are.")]
Workers = Annotated[
    int,
    typer.Option(
        min=1,
        help="Worker processes. The result does not depend on it.",
        # Not the number itself: help is the same on every machine.
        show_default="one for each core",
    ),
]

# Defaults are constants, because reference pages and tests show them too.
WORK = Path(".omr")
RELEASES = Path("releases")
WORKERS = os.cpu_count() or 1
# No default is read from a settings file: a command line says everything that decides a result.


@dataclass(frozen=True, slots=True)
class RecipeJob:
    """A recipe file with its plan on this machine."""

    file: Path
    """The recipe's Python file, as it was given."""
    arguments: tuple[str, ...]
    """Arguments of the recipe as NAME=VALUE, as they were given."""
    locator: LocalDatasets
    """Where the recipe's datasets are: the Hub at pinned commits, or a mirror folder."""
    plan: Plan
    """The recipe with every identity worked out."""
    workspace: Workspace
    """Where stages, images and rollouts are stored."""

    def prose(self) -> str | None:
        """The hand-written card: cards/<name>.md beside the recipe, or beside its folder."""
        # Recipes and cards stand in two folders here, and in one where a user has a single recipe.
        for folder in (self.file.parent / "cards", self.file.resolve().parent.parent / "cards"):
            path = folder / f"{self.plan.recipe.name}.md"
            if path.is_file():
                return path.read_text(encoding="utf-8")
        return None

    def mapper(self, workers: int) -> AbstractContextManager[Mapper]:
        """Worker processes that know the classes which the recipe file defines."""
        return mapper(workers, load_in_worker, self.file.resolve())


def load_job(
    file: Path, arguments: Sequence[str] | None, mirror: Path | None, work: Path
) -> RecipeJob:
    """Loads a recipe and works out its plan.

    Args:
        file: The recipe's Python file.
        arguments: Arguments of the recipe as NAME=VALUE.
        mirror: A folder in Hub layout that stands in for the Hub, or None for the Hub itself.
        work: The folder of the workspace.

    Raises:
        RecipeError: The file, its function or an argument cannot be used.
        SourceError: The mirror does not exist.
    """
    # Pins stand beside the recipe and not in the current folder: they belong to it, in git too.
    recipe = load(file, pairs(arguments, RecipeError))
    locator = LocalDatasets(mirror, read_pins(file.parent / "pins.json"), str(file))
    return RecipeJob(
        file, tuple(arguments or ()), locator, make_plan(recipe, locator), Workspace(work)
    )


def require_extra(extra: str, *modules: str) -> None:
    """Raises MissingExtra for the first module of an extra that is not installed."""
    for module in modules:
        # Looked up and not imported: importing torch takes seconds, and the help needs none of it.
        if importlib.util.find_spec(module) is None:
            raise MissingExtra(module, extra)


def print_json(value: Any) -> None:
    """Prints a value as JSON in UTF-8, which JSON is by definition, whatever the locale is."""
    text = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
    # A lone surrogate has no bytes in UTF-8. "backslashreplace" writes the escape JSON has for it.
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode("utf-8", "backslashreplace"))
    sys.stdout.buffer.flush()


def wrap(text: str, width: int, margin: str, first: str | None = None) -> list[str]:
    """Breaks text into lines. Names of datasets and files stay whole, so that they can be copied.

    Args:
        text: The text. Empty text has no lines.
        width: Columns of a line. At least forty are used: no terminal in use is narrower.
        margin: What each line starts with.
        first: What the first line starts with instead, such as "- ".
    """
    return textwrap.wrap(
        text,
        max(width, 40),
        initial_indent=first or margin,
        subsequent_indent=margin,
        break_long_words=False,
        break_on_hyphens=False,
    )


def main_console() -> Console:
    """Returns a console that prints in the first process only: torchrun starts one for each GPU."""
    return Console(quiet=os.environ.get("RANK", "0") != "0")
