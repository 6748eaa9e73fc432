"""A release as the trainer reads it: a folder that `omr build` made, or `organization/name@version` on the Hub.

**Problem**: a question of a release with its gold answer, once, however many answers the release has for it.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import datasets
import numpy as np

from omr_data.errors import BadRow, TrainError
from omr_data.progress import Reporter
from omr_data.train.batches import deal
from omr_data.train.chat import Encoder, Example
from omr_data.train.ranks import Ranks

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHUNK = 500
"""Rows between two looks at the clock."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A question: the chat up to the answer, its images as bytes, the gold answer and the options."""

    id: str
    messages: tuple[dict[str, str], ...]
    images: tuple[bytes, ...]
    gold: str
    options: tuple[str, ...] = ()
    source: str = ""


@dataclass(frozen=True, slots=True)
class Release:
    """The rows of a release, read from a memory map. `identity` is its commit, or the sha256 of its manifest."""

    name: str
    identity: str
    data: datasets.Dataset

    def __len__(self) -> int:
        return len(self.data)

    def chat(self, number: int) -> tuple[list[dict[str, str]], list[bytes]]:
        """The messages and the images of one row."""
        row = self.data[number]
        return row["messages"], [image["bytes"] for image in row["images"]]

    def example(self, number: int, encoder: Encoder) -> Example:
        """One row, encoded. Raises TrainError for one whose images cannot be decoded: that is seen here first."""
        try:
            return encoder.chat(*self.chat(number))
        except BadRow as error:
            raise TrainError(
                f"row {number:,} of {self.name}: {error}. It is damaged: download or build it again."
            ) from error

    def problems(self) -> list[int]:
        """The number of the first row of each question, in order."""
        first: dict[str, int] = {}
        for number, question in enumerate(self.data["question_id"]):
            first.setdefault(question, number)
        return list(first.values())

    def problem(self, number: int) -> Problem:
        """The question of one row."""
        row = self.data[number]
        asked = tuple(message for message in row["messages"] if message["role"] != "assistant")
        images = tuple(image["bytes"] for image in row["images"])
        return Problem(
            row["question_id"],
            asked,
            images,
            row["answer"],
            tuple(row["options"] or ()),
            row["source"],
        )


def open_release(name: str) -> Release:
    """Opens a release; one on the Hub is downloaded once.

    Raises:
        TrainError: it is not there, is no release, or has no version.
    """
    folder = Path(name)
    if folder.is_dir():
        manifest = folder / "manifest.json"
        if not manifest.is_file():
            raise TrainError(
                f"{folder} is no release: it has no manifest.json. Give a folder like releases/NAME/VERSION."
            )
        text = manifest.read_bytes()
        return Release(
            name, sha256(text).hexdigest(), _checked(name, _load(name, str(folder), None), text)
        )
    repo, _, version = name.partition("@")
    if repo.count("/") != 1 or not version:
        raise TrainError(
            f"there is no release {name}. Give a folder, or organization/name@version for one on the Hub."
        )
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        commit = str(HfApi().dataset_info(repo, revision=version).sha)
        text = Path(
            hf_hub_download(repo, "manifest.json", repo_type="dataset", revision=commit)
        ).read_bytes()
    except (HfHubHTTPError, OSError) as error:
        raise TrainError(f"{name} cannot be read from the Hub: {error}") from error
    return Release(name, commit, _checked(name, _load(name, repo, commit), text))


def _load(name: str, where: str, revision: str | None) -> datasets.Dataset:
    quiet = datasets.utils.logging.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        data = datasets.load_dataset(where, revision=revision, split="train")
        return data.cast_column("images", datasets.List(datasets.Image(decode=False)))
    except (datasets.exceptions.DatasetsError, OSError, ValueError) as error:
        raise TrainError(f"{name} cannot be read: {error}") from error
    finally:
        if quiet:
            datasets.enable_progress_bars()


def _checked(name: str, data: datasets.Dataset, manifest: bytes) -> datasets.Dataset:
    needed = {"messages", "images", "answer", "options", "question_id", "source"}
    if missing := sorted(needed - set(data.column_names)):
        raise TrainError(f"{name} is no release: it has no column {', '.join(missing)}.")
    promised = json.loads(manifest).get("rows")
    if len(data) != promised:
        raise TrainError(
            f"{name} has {len(data):,} rows, and its manifest says {promised}. Build or download it again."
        )
    return data


# ---------------------------------------------------------------------------------------------- lengths


@dataclass(frozen=True, slots=True)
class Measured:
    """Tokens and targets of every row, (rows,) each; 0 tokens for a row that cannot be a chat. `bad` counts those by reason."""

    tokens: "NDArray[np.int64]"
    targets: "NDArray[np.int64]"
    bad: Counter[str]


def measure(release: Release, encoder: Encoder, group: Ranks, report: Reporter) -> Measured:
    """Measures all rows, dealt out to the processes, each about 2,000 a second; of images only the heads are read."""
    mine = range(group.rank, len(release), group.world)
    found: list[tuple[int, int, str]] = []  # tokens, targets, and why it cannot be a chat
    with report.bar("measuring rows", len(mine), "rows") as bar:
        for number in mine:
            try:
                found.append((*encoder.size(*release.chat(number)), ""))
            except BadRow as error:
                found.append((0, 0, error.reason))
            if len(found) % CHUNK == 0:
                bar.advance(CHUNK)
    padded = found + [(0, 0, "")] * (-(-len(release) // group.world) - len(found))
    every = group.together(padded)[: len(release)]
    tokens, targets = np.array([one[:2] for one in every], dtype=np.int64).reshape(-1, 2).T
    return Measured(tokens, targets, Counter(reason for *_, reason in every if reason))


def prompt_order(
    numbers: Sequence[int], per_step: int, seed: int, first: int
) -> Iterator[list[int]]:
    """The questions of step `first` and of those after it, without end: each epoch in a new order, a pure function of the seed."""

    def epoch(number: int) -> list[int]:
        order = np.random.Generator(np.random.Philox(key=[seed, number])).permutation(len(numbers))
        return [numbers[place] for place in order.tolist()]

    return deal(epoch, per_step, first)
