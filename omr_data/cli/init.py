"""`omr init`: writes a recipe that works, with its card and .gitignore, to begin from."""

import re
from pathlib import Path
from typing import Annotated

import typer

from omr_data.cli.common import Mirror
from omr_data.cli.inspect import Config, SplitOption, inspect_data
from omr_data.errors import RecipeError
from omr_data.sources.locator import LocalDatasets

RECIPE = '''\
"""{title}."""

from omr_data import Recipe
from omr_data.operators import {operators}
from omr_data.sources import {sources}
{teacher}

def recipe({arguments}) -> Recipe:
    rows = {source}
    return Recipe(
        name="{name}",
        version="1.0.0",
        data=rows.then(
{steps}
        ),
    )
'''
ASKED = """\
            verify.Gold(),
            rollout.Sample(TEACHER, n=rollouts),
            verify.Answers(),
            difficulty.PassRate(),
            explode.Right(),"""
GIVEN = """\
            verify.Answers(),
            explode.Right(),"""
KEPT = """\
            dedup.Exact(),"""
TEACHER = """from omr_data.teachers import tiny

# The embedded teacher needs no network and answers few real questions. Ask a model of your own with
# openai_api.Teacher("organization/model").
TEACHER = tiny.Teacher()
"""
CARD = """\
# {{name}} {{version}}

{{rows}} rows. Say here what the data is for, and what it should not be used for.

## Where the rows come from

{{sources}}

## What each step did

{{steps}}

## What was dropped

{{dropped}}

## Columns

{{columns}}
"""
IGNORED = ".omr/\nreleases/\n"


def init_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to write into.")],
    data: Annotated[
        str | None,
        typer.Option(help="A file or organization/name to read; without it, synthetic problems."),
    ] = None,
    config: Config = None,
    split: SplitOption = None,
    mirror: Mirror = None,
) -> None:
    """Write a recipe that works, its card and a .gitignore."""
    # The name becomes that of a folder and of a dataset on the Hub, which take these characters.
    name = re.sub(r"[^a-z0-9._-]+", "-", folder.resolve().name.lower()).strip("-.") or "my-set"
    recipe = folder / "recipe.py"
    card = folder / "cards" / f"{name}.md"
    ignore = folder / ".gitignore"
    for path in (recipe, card, ignore):
        # Nothing is replaced: the folder may hold work that is nowhere else.
        if path.exists():
            raise RecipeError(f"{path} exists already. Give another folder, or move that file.")
    # Made before anything is written, so that data that cannot be read leaves no half a folder.
    text = recipe_text(name, data, config, split, LocalDatasets(mirror))
    card.parent.mkdir(parents=True, exist_ok=True)
    recipe.write_text(text, encoding="utf-8")
    card.write_text(CARD, encoding="utf-8")
    ignore.write_text(IGNORED, encoding="utf-8")
    print(f"Wrote {recipe}, {card} and {ignore}.")
    print(f"Next: omr build {recipe}")


def recipe_text(
    name: str, data: str | None, config: str | None, split: str | None, locator: LocalDatasets
) -> str:
    """Returns a recipe file for some data.

    Args:
        name: The name of the recipe.
        data: A file, folder, pattern or dataset on the Hub; None for synthetic problems.
        config: The configuration of a dataset on the Hub.
        split: The split of a dataset on the Hub.
        locator: Finds the data.

    Raises:
        RecipeError: No column of the data can be the question.
        SourceError: The data cannot be read.
    """
    source, steps = "synthetic.Source(count=60)", ASKED
    if data is not None:
        # A recipe is built from any folder, so the file is named by its whole path.
        where = data
        if Path(data).exists():
            where = str(Path(data).resolve())
        found = inspect_data(where, config, split, locator)
        if not found.line:
            raise RecipeError(f"{data}: {found.guess.doubts[0]} `omr inspect` shows its columns.")
        source = found.line
        # What the data lacks is asked for, and what it has is kept. Without answers nothing can be
        # verified, so that responses would be asked for in vain.
        if not any(one.answer for one in found.records):
            steps = KEPT
        elif any(one.responses for one in found.records):
            steps = GIVEN
    # A teacher is named only where it is used: it decides what a build costs.
    teacher = arguments = ""
    if steps == ASKED:
        teacher, arguments = TEACHER, "rollouts: int = 4"
    # The import names what the steps use, or the linter of whoever goes on with the file objects.
    operators = sorted({*re.findall(r"(\w+)\.\w+\(", steps)})
    return RECIPE.format(
        title=f"{name}: made by omr init",
        name=name,
        operators=", ".join(operators),
        sources=source.partition(".")[0],
        source=source,
        steps=steps,
        teacher=teacher,
        arguments=arguments,
    )
