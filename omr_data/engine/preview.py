"""The same recipe over the first rows of each source, to look at before anything large is built.

A preview has a plan of its own, so its stages stand beside those of the whole recipe. Requests to a
teacher are the same for the same question, so answers that a preview paid for are found again.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from omr_data.errors import OmrError, RecipeError
from omr_data.flow import Flow, as_flow
from omr_data.operators import mix, select
from omr_data.recipe import Recipe
from omr_data.records import Record
from omr_data.source import DatasetLocator, Files, Images, Part, Pin, Source


@dataclass(frozen=True)
class FirstRows(Source):
    """The first rows of another source."""

    source: Source
    """The source that is read."""
    rows_at_most: int
    """How many of its rows. They are taken from its first part, which has about a thousand."""

    # Pinned like the whole source, so that a preview notices the same problems with its files.
    def resolve(self, locator: DatasetLocator) -> Pin:
        return self.source.resolve(locator)

    def problem(self) -> OmrError | None:
        return self.source.problem()

    def download(self, locator: DatasetLocator) -> Files:
        return self.source.download(locator)

    def notes(self, files: Files) -> Sequence[str]:
        return self.source.notes(files)

    def parts(self, files: Files) -> Sequence[Part]:
        return self.source.parts(files)[:1]

    def rows(self, files: Files, part: Part) -> Iterator[Mapping[str, Any]]:
        # The part stays whole, because a part of some formats can only be read as a whole.
        return islice(self.source.rows(files, part), self.rows_at_most)

    def convert(self, row: Mapping[str, Any], images: Images) -> Record:
        return self.source.convert(row, images)


def preview(recipe: Recipe, rows: int) -> Recipe:
    """Returns a recipe that reads the first rows of each source.

    A number of rows that a mix takes becomes an upper limit, and the promised number of rows of the
    release is left out: neither can be met by a few rows.

    Args:
        recipe: The whole recipe.
        rows: How many rows of each source are read.

    Raises:
        RecipeError: The number of rows is below 1.
    """
    if rows < 1:
        raise RecipeError(f"a preview of {rows} rows shows nothing. Give at least 1.")
    done: dict[int, Flow] = {}

    def shorten(flow: Flow) -> Flow:
        # A node that is used twice must stay one node, so that it is built once.
        if id(flow) not in done:
            parents = tuple(shorten(parent) for parent in flow.parents)
            spec = flow.spec
            if isinstance(spec, Source):
                spec = FirstRows(spec, rows)
            # Take fails where there are too few rows, and a preview always has too few.
            if isinstance(spec, mix.Take):
                spec = select.AtMost(spec.rows, spec.seed)
            done[id(flow)] = Flow(spec, parents)
        return done[id(flow)]

    return replace(recipe, data=shorten(as_flow(recipe.data)), rows=None)
