"""Where datasets are on this machine: the Hub, or a mirror folder that stands in for it by repository id.

A **mirror** holds datasets as `<organization>/<name>/...`, the layout of the Hub. From a mirror, the digest of the files
read is the identity; from the Hub, the pinned commit is. **Pins** map a repository id to its commit; they live in
`pins.json` beside the recipe and are written by `omr pin`.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from omr_data.errors import SourceError, UnpinnedError
from omr_data.source import Files, Pin
from omr_data.store.atomic import write_text

_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class LocalDatasets:
    """Datasets of this machine. `recipe` is named in messages only."""

    mirror: Path | None = None
    pins: Mapping[str, str] = field(default_factory=dict)
    recipe: str = "RECIPE"

    def resolve_hub(self, repo: str, commit: str | None, patterns: Sequence[str]) -> Pin:
        """The pin of a Hub dataset. Raises UnpinnedError, or SourceError when the mirror lacks the dataset."""
        commit = commit or self.pins.get(repo)
        if self.mirror is not None:
            return Pin(commit, digest_files(self._in_mirror(self.mirror, repo, patterns)))
        if commit is None:
            raise UnpinnedError(
                f"{repo} has no pinned commit. Run `omr pin {self.recipe}`: it looks the commits up on the Hub and writes them to "
                "pins.json beside the recipe. Without the Hub, give a mirror folder with --mirror."
            )
        return Pin(check_commit(repo, commit))

    def download_hub(self, repo: str, commit: str | None, patterns: Sequence[str]) -> Files:
        """The files of a Hub dataset, downloaded at the pinned commit or found in the mirror."""
        if self.mirror is not None:
            return self._in_mirror(self.mirror, repo, patterns)
        import huggingface_hub

        pin = self.resolve_hub(repo, commit, patterns)
        root = Path(
            huggingface_hub.snapshot_download(
                repo,
                repo_type="dataset",
                revision=pin.commit,
                allow_patterns=[one for pattern in patterns for one in pattern.split("|")],
            )
        )
        return _matching(root, patterns, f"{repo} at commit {pin.commit}")

    def resolve_local(self, folder: Path, patterns: Sequence[str]) -> Pin:
        """The pin of local files: their digest."""
        return Pin(None, digest_files(self.find_local(folder, patterns)))

    def find_local(self, folder: Path, patterns: Sequence[str]) -> Files:
        """The files of a local folder that match. Raises SourceError when there is none."""
        if not folder.is_dir():
            raise SourceError(
                f"the folder {folder} does not exist. Give the folder that holds {', '.join(patterns)}."
            )
        return _matching(folder, patterns, str(folder))

    def _in_mirror(self, mirror: Path, repo: str, patterns: Sequence[str]) -> Files:
        if not mirror.is_dir():
            raise SourceError(
                f"the mirror folder {mirror} does not exist. Give one with --mirror or OMR_HUB_MIRROR, or neither to use the Hub."
            )
        root = mirror / repo
        if not root.is_dir():
            raise SourceError(
                f"the mirror {mirror} has no dataset {repo}: the folder {root} does not exist. Put its files there, in Hub layout."
            )
        return _matching(root, patterns, str(root))


def _matching(root: Path, patterns: Sequence[str], where: str) -> Files:
    paths: set[str] = set()
    for pattern in patterns:
        found = {
            path.relative_to(root).as_posix()
            for one in pattern.split("|")
            for path in root.glob(one)
            if path.is_file()
        }
        if not found:
            raise SourceError(
                f"{where} has no file that matches {' or '.join(pattern.split('|'))}. The dataset is incomplete, or its layout has changed."
            )
        paths |= found
    return Files(root, tuple(sorted(paths)))


def digest_files(files: Files) -> str:
    """sha256 over the sorted relative paths and contents. Reads every byte: about 1 GB/s."""
    total = hashlib.sha256()
    for path in files.paths:
        with open(files.root / path, "rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        total.update(f"{path}\0{content}\n".encode())
    return total.hexdigest()


def check_commit(repo: str, commit: str) -> str:
    """The commit, if it is one. A branch or tag moves, so it is no pin."""
    if not _COMMIT.fullmatch(commit):
        raise UnpinnedError(
            f"{repo} is pinned to {commit!r}, which is no commit (40 hex digits). Branches and tags move; run `omr pin`."
        )
    return commit


def read_pins(path: Path) -> dict[str, str]:
    """The pins in a file; none when there is no file. Raises SourceError when it is not a JSON object of commits."""
    if not path.exists():
        return {}
    try:
        pins = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SourceError(
            f"{path} is not valid JSON ({error}). Mend it, or delete it and run `omr pin`."
        ) from error
    if not isinstance(pins, dict):
        raise SourceError(f"{path} must be one JSON object that maps repository ids to commits.")
    return {str(repo): check_commit(str(repo), str(commit)) for repo, commit in pins.items()}


def look_up_pins(repos: Sequence[str], path: Path) -> dict[str, str]:
    """Looks up the head commit of each dataset that has no pin yet, and writes all pins to the file.

    Raises:
        SourceError: the Hub cannot be reached, or does not know a dataset.
    """
    import huggingface_hub

    pins = read_pins(path)
    api = huggingface_hub.HfApi()
    for repo in repos:
        if repo not in pins:
            try:
                pins[repo] = check_commit(repo, str(api.dataset_info(repo).sha))
            except Exception as error:  # the Hub's client raises errors of several HTTP libraries
                raise SourceError(
                    f"the Hub does not say which commit {repo} is at: {type(error).__name__}: {error}. "
                    "Check the network, the name and the access; nothing was written."
                ) from error
    write_text(path, json.dumps(pins, indent=2, sort_keys=True) + "\n")
    return pins
