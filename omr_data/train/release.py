"""Reading a release: a folder that `omr build` made, or `organization/name@version` on the Hub."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import datasets

from omr_data.errors import BadRow, StoreError, TrainError
from omr_data.records import Record, render_question
from omr_data.store.workspace import check_format
from omr_data.train.chat import Encoder, Example

FORMAT = 2
"""The format of the manifests that this reader understands. It is stated here, because the trainer
reads what lies on disk and imports nothing of the code that writes it."""
COLUMNS = frozenset({"messages", "images", "answer", "options", "question_id", "source"})
"""Columns of a release that training and evaluation read."""


@dataclass(frozen=True, slots=True)
class PolicyPrompt:
    """A question as the policy is asked it, with what its answers are verified against."""

    id: str
    """The id of the question. All rows of one question share it."""
    messages: tuple[dict[str, str], ...]
    """The chat up to where the policy answers: `role` and `content` of each turn, with an `<image>`
    mark for each image."""
    images: tuple[bytes, ...]
    """The encoded images, in the order of their marks."""
    gold: str
    """The accepted answer."""
    options: tuple[str, ...] = ()
    """The options of a multiple-choice question."""
    source: str = ""
    """The dataset that the question comes from."""

    @classmethod
    def from_record(cls, record: Record, images: Sequence[bytes]) -> "PolicyPrompt":
        """Makes a prompt of a record, worded as a recipe's teacher is asked it."""
        chat = ({"role": "user", "content": render_question(record)},)
        return cls(
            id=record.id,
            messages=chat,
            images=tuple(images),
            gold=record.answer,
            options=record.options,
            source=record.source,
        )


@dataclass(frozen=True, slots=True)
class ReleaseReader:
    """The rows of a release, read from a memory map."""

    name: str
    """The release as it was given: a folder, or organization/name@version."""
    identity: str
    """Its commit on the Hub, or the sha256 of its manifest."""
    data: datasets.Dataset
    """Its rows. Images stay encoded."""

    def __len__(self) -> int:
        return len(self.data)

    def chat(self, number: int) -> tuple[list[dict[str, str]], list[bytes]]:
        """Returns the messages and the encoded images of one row."""
        row = self.data[number]
        return row["messages"], [image["bytes"] for image in row["images"]]

    def example(self, number: int, encoder: Encoder) -> Example:
        """Encodes one row.

        Raises:
            TrainError: An image cannot be decoded. Measuring reads headers only, so damaged pixels
                are first noticed here.
        """
        try:
            return encoder.chat(*self.chat(number))
        except BadRow as error:
            raise TrainError(
                f"row {number:,} of {self.name}: {error}. "
                "It is damaged: download or build it again."
            ) from error

    def prompt_numbers(self) -> list[int]:
        """Returns the number of the first row of each question, in order.

        A release of kind sft has a row for each answer, and a question may have several.
        """
        # Read as one column: rows would decode messages and images.
        first: dict[str, int] = {}
        for number, question in enumerate(self.data["question_id"]):
            first.setdefault(question, number)
        return list(first.values())

    def prompt(self, number: int) -> PolicyPrompt:
        """Returns the question of one row."""
        row = self.data[number]
        asked = tuple(message for message in row["messages"] if message["role"] != "assistant")
        return PolicyPrompt(
            id=row["question_id"],
            messages=asked,
            images=tuple(image["bytes"] for image in row["images"]),
            gold=row["answer"],
            options=tuple(row["options"] or ()),
            source=row["source"],
        )

    def prompts(self) -> list[PolicyPrompt]:
        """Returns all questions, in order."""
        return [self.prompt(number) for number in self.prompt_numbers()]


def open_release(name: str) -> ReleaseReader:
    """Opens a release. One on the Hub is downloaded once.

    Raises:
        TrainError: The release does not exist, it has no rows, or its files do not fit together.
    """
    folder = Path(name)
    if folder.is_dir():
        manifest = folder / "manifest.json"
        if not manifest.is_file():
            raise TrainError(
                f"{folder} has no manifest.json, so it is not a release. "
                "Give a folder like releases/NAME/VERSION."
            )
        text = manifest.read_bytes()
        return _open(name, sha256(text).hexdigest(), text, str(folder), None)

    repo, _, version = name.partition("@")
    if repo.count("/") != 1 or not version:
        raise TrainError(
            f"the release {name} does not exist. "
            "Give a folder, or organization/name@version for one on the Hub."
        )
    # Imported here: it takes a second, and a release in a folder needs no Hub.
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        # A tag may be moved while files are fetched, so the commit it names is fixed first.
        commit = str(HfApi().dataset_info(repo, revision=version).sha)
        path = hf_hub_download(repo, "manifest.json", repo_type="dataset", revision=commit)
        text = Path(path).read_bytes()
    except (HfHubHTTPError, OSError) as error:
        raise TrainError(f"{name} cannot be read from the Hub: {error}") from error
    return _open(name, commit, text, repo, commit)


def _open(
    name: str, identity: str, manifest: bytes, where: str, revision: str | None
) -> ReleaseReader:
    """Loads the rows, and checks them against the manifest."""
    try:
        found = json.loads(manifest)
        # Before the rows: columns of another format may have the same names and mean other things.
        check_format(found, FORMAT, f"the release {name}", "Use the version that made it.")
    except (ValueError, AttributeError, StoreError) as error:
        raise TrainError(f"{name} cannot be read: {error}") from error
    # A missing file would otherwise go unnoticed: `datasets` reads whatever is there.
    promised = found.get("rows")
    # `datasets` fails on a file without rows with an error of its format, so they are counted
    # first.
    if promised == 0:
        raise TrainError(
            f"{name} has no rows: its recipe left nothing. "
            "See the drops in its manifest.json, and build it with other settings."
        )
    # The bars of `datasets` would be drawn over ours.
    showed_bars = datasets.utils.logging.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        data = datasets.load_dataset(where, revision=revision, split="train")
        if missing := sorted(COLUMNS - set(data.column_names)):
            raise TrainError(f"{name} has no column {', '.join(missing)}, so it is not a release.")
        # Images stay encoded here; the encoder decodes them under its own limits.
        data = data.cast_column("images", datasets.List(datasets.Image(decode=False)))
    except (datasets.exceptions.DatasetsError, OSError, ValueError) as error:
        raise TrainError(f"{name} cannot be read: {error}") from error
    finally:
        if showed_bars:
            datasets.enable_progress_bars()
    if len(data) != promised:
        raise TrainError(
            f"{name} has {len(data):,} rows, and its manifest says {promised}. "
            "Build or download it again."
        )
    return ReleaseReader(name, identity, data)
