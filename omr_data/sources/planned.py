"""Base of sources that are declared and cannot be read yet: plans show them, builds refuse them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omr_data.errors import OmrError, RecipeError
from omr_data.records import Record
from omr_data.source import Files, Images, Part
from omr_data.sources.hub import HubSource


@dataclass(frozen=True)
class PlannedSource(HubSource):
    """A Hub dataset whose converter is not written.

    Its revision is 0, so that the first converter changes every fingerprint.
    """

    revision = 0

    def problem(self) -> OmrError:
        return RecipeError(
            f"{self.name} ({self.repo}) has no converter yet: it can be planned, not built. "
            "Write `rows` and `convert` in its file, as the other sources do, or leave it out of "
            "the recipe."
        )

    def parts(self, files: Files) -> Sequence[Part]:
        raise self.problem()

    def rows(self, files: Files, part: Part) -> Iterator[Mapping[str, Any]]:
        raise self.problem()

    def convert(self, row: Mapping[str, Any], images: Images) -> Record:
        raise self.problem()
