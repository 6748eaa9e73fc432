"""Where datasets are on this machine: the Hub, or a mirror folder that stands in for it.

A **mirror** holds datasets as `<organization>/<name>/...`, the layout of the Hub. From a mirror,
the digest of the files read is the identity; from the Hub, the pinned commit is. **Pins** map the
id of a repository to its commit. They live in `pins.json` beside the recipe and are written by `omr
pin`.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from omr_data.errors import SourceError, UnpinnedError
from omr_data.source import Files, Pin
from omr_data.store.atomic import write_text
from omr_data.store.datafiles import why_not_data

_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class LocalDatasets:
    """The datasets of this machine."""

    mirror: Path | None = None
    """A folder that stands in for the Hub. None uses the Hub."""
    pins: Mapping[str, str] = field(default_factory=dict)
    """The commit of each repository of the Hub that has one."""
    recipe: str = "RECIPE"
    """The recipe file, which is named in messages only."""

    def resolve_hub(self, repo: str, commit: str | None, patterns: Sequence[str]) -> Pin:
        """Pins a dataset on the Hub.

        Args:
            repo: The id of the dataset on the Hub.
            commit: The commit that the source names. None takes the one in the pins.
            patterns: Globs of the files needed. Each must match a file; "a|b" is met by either.

        Raises:
            UnpinnedError: No commit is known.
            SourceError: The mirror does not hold the dataset.
        """
        commit = commit or self.pins.get(repo)
        # The mirror wins over a pin: nothing proves that its files are of that commit.
        if self.mirror is not None:
            return Pin(commit, digest_files(self._in_mirror(self.mirror, repo, patterns)))
        if commit is None:
            raise UnpinnedError(
                f"{repo} has no pinned commit. Run `omr pin {self.recipe}`: it looks the commits "
                "up on the Hub and writes them to pins.json beside the recipe. Without the Hub, "
                "give a mirror folder with --mirror."
            )
        return Pin(check_commit(repo, commit))

    def download_hub(self, repo: str, commit: str | None, patterns: Sequence[str]) -> Files:
        """Downloads the files of a dataset on the Hub, or finds them in the mirror.

        Args:
            repo: As in `resolve_hub`.
            commit: As in `resolve_hub`.
            patterns: As in `resolve_hub`. Rows may refer to matching files only.
        """
        if self.mirror is not None:
            found = self._in_mirror(self.mirror, repo, patterns)
        else:
            import huggingface_hub

            pin = self.resolve_hub(repo, commit, patterns)
            wanted: list[str] = []
            for pattern in patterns:
                wanted += pattern.split("|")
            root = huggingface_hub.snapshot_download(
                repo, repo_type="dataset", revision=pin.commit, allow_patterns=wanted
            )
            found = _matching(Path(root), patterns, f"{repo} at commit {pin.commit}")
        return replace(found, readable=frozenset(found.paths))

    def resolve_local(self, folder: Path, patterns: Sequence[str]) -> Pin:
        """Pins the files of a local folder that match, by their digest."""
        return Pin(None, digest_files(self.find_local(folder, patterns)))

    def find_local(self, folder: Path, patterns: Sequence[str]) -> Files:
        """Lists the files of a local folder that match. Raises SourceError when there is none."""
        if not folder.is_dir():
            raise SourceError(
                f"the folder {folder} does not exist. Give the folder that holds "
                f"{', '.join(patterns)}."
            )
        return _matching(folder, patterns, str(folder))

    def _in_mirror(self, mirror: Path, repo: str, patterns: Sequence[str]) -> Files:
        if not mirror.is_dir():
            raise SourceError(
                f"the mirror folder {mirror} does not exist. Give one with --mirror or "
                "OMR_HUB_MIRROR, or neither to use the Hub."
            )
        root = mirror / repo
        if not root.is_dir():
            raise SourceError(
                f"the mirror {mirror} has no dataset {repo}: the folder {root} does not exist. "
                "Put its files there, in Hub layout."
            )
        return _matching(root, patterns, str(root))


def _matching(root: Path, patterns: Sequence[str], where: str) -> Files:
    paths: set[str] = set()
    # Each pattern must be met: a dataset without its images would give rows without them.
    for pattern in patterns:
        alternatives = pattern.split("|")
        found: set[str] = set()
        for alternative in alternatives:
            for path in root.glob(alternative):
                relative = path.relative_to(root).as_posix()
                # Notes of clients and editors lie beside data, and must not change its digest.
                if path.is_file() and why_not_data(root, relative) is None:
                    found.add(relative)
        if not found:
            raise SourceError(
                f"{where} has no file that matches {' or '.join(alternatives)}. "
                "The dataset is incomplete, or its layout has changed."
            )
        paths |= found
    return Files(root, tuple(sorted(paths)))


def digest_files(files: Files) -> str:
    """Returns the sha256 over the sorted relative paths and contents. Reads about 1 GB/s."""
    total = hashlib.sha256()
    for path in files.paths:
        try:
            with open(files.root / path, "rb") as stream:
                content = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise SourceError(
                f"{files.root / path} cannot be read: {error.strerror}. Check that it may be read, "
                "or take it out of the dataset."
            ) from error
        # A name that is not UTF-8 is still one name: its bytes are digested as they are.
        total.update(f"{path}\0{content}\n".encode(errors="surrogateescape"))
    return total.hexdigest()


def check_commit(repo: str, commit: str) -> str:
    """Returns the commit if it is one. A branch or tag moves, so it pins nothing.

    Args:
        repo: The dataset, for the message.
        commit: The commit of the dataset.

    Raises:
        UnpinnedError: It is not 40 hex digits.
    """
    if not _COMMIT.fullmatch(commit):
        raise UnpinnedError(
            f"{repo} is pinned to {commit!r}, which is not a commit (40 hex digits). Branches and "
            "tags move; run `omr pin`."
        )
    return commit


def read_pins(path: Path) -> dict[str, str]:
    """Reads the pins of a file; none where the file does not exist.

    Raises:
        SourceError: It is not a JSON object.
        UnpinnedError: A pin is not a commit.
    """
    # Recipes without datasets of the Hub need no pins.
    if not path.exists():
        return {}
    try:
        pins = json.loads(path.read_bytes())
    except ValueError as error:
        raise SourceError(
            f"{path} is not valid JSON ({error}). Correct it, or delete it and run `omr pin`."
        ) from error
    if not isinstance(pins, dict):
        raise SourceError(f"{path} must be one JSON object that maps repository ids to commits.")
    return {str(repo): check_commit(str(repo), str(commit)) for repo, commit in pins.items()}


def look_up_pins(repos: Sequence[str], path: Path) -> dict[str, str]:
    """Looks up the head commit of each dataset that has no pin yet, and writes all pins.

    Args:
        repos: The datasets of a recipe.
        path: The file of pins, which may hold some already.

    Raises:
        SourceError: The Hub cannot be reached, or does not know a dataset. Nothing was written.
    """
    import huggingface_hub

    pins = read_pins(path)
    api = huggingface_hub.HfApi()
    for repo in repos:
        # A pin that is there stays: moving it is a decision, made by deleting its line.
        if repo not in pins:
            try:
                pins[repo] = check_commit(repo, str(api.dataset_info(repo).sha))
            except Exception as error:  # the Hub's client raises errors of several HTTP libraries
                raise SourceError(
                    f"the Hub does not say which commit {repo} is at: {type(error).__name__}: "
                    f"{error}. Check the network, the name and the access; nothing was written."
                ) from error
    write_text(path, json.dumps(pins, indent=2, sort_keys=True) + "\n")
    return pins
