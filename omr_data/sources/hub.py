"""Datasets on the Hub, at a pinned commit or from a mirror.

    hub.Source("openai/gsm8k", config="main", split="train", dataset="gsm8k", license="MIT")

**HubSource** is the base of sources with a file of their own; **Source** reads any dataset by
configuration alone. A row, with the columns that are read where none are given:
    {"question": "What is 3 + 4?", "answer": "7"}
"""

from dataclasses import dataclass, replace
from fnmatch import fnmatch
from itertools import product
from typing import ClassVar

from omr_data.identity import runtime_field
from omr_data.source import DatasetLocator, Files, Pin
from omr_data.source import Source as BaseSource
from omr_data.sources.convert import IMAGE_SUFFIXES
from omr_data.sources.files import ColumnsSource


@dataclass(frozen=True)
class HubSource(BaseSource):
    """Base of a source that reads one dataset on the Hub, with its own columns."""

    repo: ClassVar[str]
    """The id of the dataset on the Hub."""
    license: ClassVar[str]
    """The license, as the dataset's card states it."""
    patterns: ClassVar[tuple[str, ...]]
    """Globs of the files. Each must match a file; "a|b" is met by either, where the layouts of the
    Hub and of the author's repository differ."""
    commit: str | None = runtime_field(None)
    """Overrides the pin beside the recipe. Either way the commit is part of the identity."""

    def resolve(self, locator: DatasetLocator) -> Pin:
        return locator.resolve_hub(self.repo, self.commit, self.patterns)

    def download(self, locator: DatasetLocator) -> Files:
        return locator.download_hub(self.repo, self.commit, self.patterns)


@dataclass(frozen=True)
class Source(ColumnsSource):
    """Rows of any dataset on the Hub, by path and row."""

    repo: str
    """The id of the dataset on the Hub, as in "openai/gsm8k"."""
    config: str | None = None
    """The configuration, where the dataset has several: usually the name of a folder."""
    split: str | None = None
    """The split, such as "train". None reads all data files."""
    files: str | None = None
    """A glob of the data files, where config and split do not find them."""
    image_files: str | None = None
    """A glob of image files, where cells are paths in the dataset."""
    commit: str | None = runtime_field(None)
    """Overrides the pin beside the recipe. Either way the commit is part of the identity."""

    @property
    def patterns(self) -> tuple[str, ...]:
        """Globs of the files that are read."""
        # Each pattern must match a file, so images are asked for only where they are named.
        data = "|".join(self._candidates())
        if self.image_files is None:
            return (data,)
        return (data, self.image_files)

    def resolve(self, locator: DatasetLocator) -> Pin:
        return locator.resolve_hub(self.repo, self.commit, self.patterns)

    def download(self, locator: DatasetLocator) -> Files:
        files = locator.download_hub(self.repo, self.commit, self.patterns)
        images = tuple(path for path in files.paths if path.lower().endswith(IMAGE_SUFFIXES))
        for pattern in self._candidates():
            # Datasets often hold the same rows twice, as parquet and as their author wrote them.
            data = [path for path in files.paths if fnmatch(path, pattern) and path not in images]
            if data:
                return replace(files, paths=(*sorted(data), *images))
        return files

    def _candidates(self) -> list[str]:
        """Globs of data files, the likeliest first."""
        if self.files is not None:
            return [self.files]
        # Layouts of the Hub differ by age: data/train-*.parquet, train.jsonl, main/train-*.parquet.
        folders = ["data/", ""]
        if self.config:
            folders = [f"{self.config}/", f"data/{self.config}/"]
        if self.split is None:
            found = ["".join(parts) for parts in product(folders, ("*",), _SUFFIXES)]
            if not self.config:
                # Anywhere, and last: a folder may be a configuration that was not asked for.
                found += [f"**/*{one}" for one in _SUFFIXES]
            return found
        names = (f"{self.split}-*", f"{self.split}", f"{self.split}/*")
        return ["".join(parts) for parts in product(folders, names, _SUFFIXES)]


_SUFFIXES = (".parquet", ".arrow", ".jsonl", ".jsonl.gz", ".json", ".csv", ".tsv", ".tar")
