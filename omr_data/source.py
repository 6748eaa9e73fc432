"""Everything that the author of a source needs.

A **source** reads one dataset and converts each raw row into a Record. Adding a source is adding
one file to `omr_data/sources/` (with a fixture, see docs/howto/add-a-source.md), or a class in a
recipe:

    @dataclass(frozen=True)
    class Source(source.Source):
        count: int = 100

        def parts(self, files: Files) -> Sequence[Part]:
            return [Part("", 0, self.count)]

        def rows(self, files: Files, part: Part) -> Iterator[Mapping[str, Any]]:
            for number in range(part.start, part.stop):
                yield {"number": number}

        def convert(self, row: Mapping[str, Any], images: Images) -> Record:
            number = row["number"]
            return Record(
                id=f"doubles/{number}",
                source="doubles",
                license="CC0-1.0",
                question=f"What is twice {number}?",
                answer=str(2 * number),
            )

The engine calls these in order: `resolve` when a plan is made, `download` and `parts` when the
source is first read, then `rows` and `convert` in worker processes, one part each.
"""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from omr_data.errors import OmrError
from omr_data.flow import SourceNode
from omr_data.records import ImageRef, Record


class Images(Protocol):
    """Stores the images of a row. The original bytes are kept; nothing is encoded again."""

    # A protocol and not the store itself: an author's tests can give images without a workspace.
    def from_bytes(self, data: bytes) -> ImageRef:
        """Stores encoded image bytes. Raises BadRow when they cannot be decoded."""
        ...

    def from_file(self, relative: str) -> ImageRef:
        """Stores a file, given relative to the dataset's folder. Raises BadRow when it is broken,
        missing or outside that folder.
        """
        ...


@dataclass(frozen=True, slots=True)
class Pin:
    """States exactly which bytes a dataset is."""

    commit: str | None = None
    """The commit on the Hub, 40 hex digits. None for files that do not come from the Hub."""
    digest: str | None = None
    """sha256 over the relative paths and contents of the files read, where they come from a mirror
    or a local folder."""


@dataclass(frozen=True, slots=True)
class Files:
    """The files of one dataset on this machine."""

    # Small and picklable: it goes to worker processes with every part.
    root: Path = Path()
    """The folder that the paths are relative to."""
    paths: tuple[str, ...] = ()
    """Paths relative to the root, with forward slashes, sorted."""
    images: Path | None = None
    """The folder that image paths are relative to. None is the root."""
    readable: frozenset[str] | None = None
    """The paths that rows may refer to, such as images, where a dataset lists them all. None: every
    file below the root that is data; the source must then digest them (`resolve_local`)."""


@dataclass(frozen=True, slots=True)
class Part:
    """The piece of a source that one worker reads: rows [start, stop) of one file.

    Each part becomes one shard.
    """

    path: str
    """The file, relative to the dataset's root. Empty for a source without files."""
    start: int
    """The first row."""
    stop: int
    """The row after the last one."""
    offset: int = 0
    """The byte where the first row starts, in files that are read from there. 0 otherwise."""
    size: int = 0
    """The bytes of the part, in files that are read from `offset`. 0 otherwise."""


class DatasetLocator(Protocol):
    """Finds datasets for this machine. Resolving is cheap and happens at plan time; downloading
    happens when the source is read.
    """

    def resolve_hub(self, repo: str, commit: str | None, patterns: Sequence[str]) -> Pin:
        """Pins a dataset on the Hub.

        Args:
            repo: The id of the dataset on the Hub, as in "openai/gsm8k".
            commit: The commit that the source names. None takes the one in pins.json.
            patterns: Globs of the files needed. Each must match a file; "a|b" is met by either.

        Raises:
            UnpinnedError: No commit is known.
            SourceError: A mirror folder is in use and does not hold the dataset.
        """
        ...

    def download_hub(self, repo: str, commit: str | None, patterns: Sequence[str]) -> Files:
        """Fetches the files of a dataset on the Hub, or finds them in the mirror.

        Args:
            repo: As in `resolve_hub`.
            commit: As in `resolve_hub`.
            patterns: As in `resolve_hub`; only matching files are fetched.
        """
        ...

    def resolve_local(self, folder: Path, patterns: Sequence[str]) -> Pin:
        """Pins the files of a local folder that match, by the digest of their contents."""
        ...

    def find_local(self, folder: Path, patterns: Sequence[str]) -> Files:
        """Lists the files of a local folder that match. Raises SourceError when none does."""
        ...


@dataclass(frozen=True)
class Source(SourceNode):
    """A dataset. Subclasses say which files it has, how to read rows and how to convert one."""

    def resolve(self, locator: DatasetLocator) -> Pin:
        """Pins the bytes that will be read. A generated source is identified by its fields."""
        # The default suits generated sources. One that reads files and forgets to pin them finds
        # none, because `download` is empty by default as well.
        return Pin()

    def problem(self) -> OmrError | None:
        """Tells why this source cannot be read yet, or None. A plan shows it."""
        return None

    def download(self, locator: DatasetLocator) -> Files:
        """Makes the files to read available on this machine. A generated source has none."""
        return Files()

    def notes(self, files: Files) -> Sequence[str]:
        """Tells what a person should know before the rows are read, such as columns that no field
        takes. A build prints each line once.
        """
        return ()

    # Parts and rows are two methods, so that workers read their parts at the same time.
    @abstractmethod
    def parts(self, files: Files) -> Sequence[Part]:
        """Cuts the files into pieces, in order. Each becomes one shard, so the result must not
        depend on the machine or on the number of workers.
        """

    @abstractmethod
    def rows(self, files: Files, part: Part) -> Iterator[Mapping[str, Any]]:
        """Yields the raw rows of one part, in order."""

    # Apart from `rows`, so that a malformed row costs that row and not the rest of its part.
    @abstractmethod
    def convert(self, row: Mapping[str, Any], images: Images) -> Record:
        """Converts one raw row. This is the only place where malformed input is handled.

        Args:
            row: A raw row, as `rows` yielded it.
            images: Stores the row's images and returns references to them.

        Raises:
            BadRow: The row cannot become a Record. Its reason is counted, and the row can be looked
                up with `omr show --dropped`.
        """
