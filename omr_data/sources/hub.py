"""Base of sources that read a Hub dataset at a pinned commit, or the same files from a mirror."""

from dataclasses import dataclass
from typing import ClassVar

from omr_data.identity import runtime_field
from omr_data.source import DatasetLocator, Files, Pin, Source


@dataclass(frozen=True)
class HubSource(Source):
    """A dataset on the Hub. `commit` overrides the pin beside the recipe; either way the commit is part of identity.

    Each of `patterns` must match a file; "a|b" is met by either (layouts of the Hub and of an author's repository).
    """

    repo: ClassVar[str]
    license: ClassVar[str]
    patterns: ClassVar[tuple[str, ...]]
    commit: str | None = runtime_field(None)

    def resolve(self, locator: DatasetLocator) -> Pin:
        return locator.resolve_hub(self.repo, self.commit, self.patterns)

    def download(self, locator: DatasetLocator) -> Files:
        return locator.download_hub(self.repo, self.commit, self.patterns)
