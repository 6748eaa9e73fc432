"""Base of sources that read a Hub dataset at a pinned commit, or the same files from a mirror."""

from dataclasses import dataclass
from typing import ClassVar

from omr_data.flow import Files, Pin, Places, Source
from omr_data.identity import runtime_field


@dataclass(frozen=True)
class HubSource(Source):
    """A dataset on the Hub. `commit` overrides the pin beside the recipe; either way the commit is part of identity.

    Each of `patterns` must match a file; "a|b" is met by either (layouts of the Hub and of an author's repository).
    """

    repo: ClassVar[str]
    license: ClassVar[str]
    patterns: ClassVar[tuple[str, ...]]
    commit: str | None = runtime_field(None)

    def pin(self, places: Places) -> Pin:
        return places.pin_hub(self.repo, self.commit, self.patterns)

    def fetch(self, places: Places) -> Files:
        return places.fetch_hub(self.repo, self.commit, self.patterns)
