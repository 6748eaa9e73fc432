"""The workspace of a machine: `.omr/` with stages, images and paid rollouts.

    .omr/
        workspace.json    the format of this folder, and which version made it
        rollouts.sqlite   paid answers; outlives every recipe
        images/           original bytes by sha256
        stages/           one folder per stage; may be deleted, and is then built again
        lock              held while a build runs

One build at a time works in it. Several may share one folder of releases.
"""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from omr_data.errors import StoreError
from omr_data.store.atomic import write_text
from omr_data.store.datafiles import MARKER
from omr_data.store.images import ImageStore
from omr_data.store.ledger import read_json
from omr_data.store.shards import StageFolder

FORMAT = 2
"""The format of workspaces. Raise it when the layout of any file in them changes."""


@dataclass(frozen=True, slots=True)
class Workspace:
    """Paths below one root folder."""

    root: Path
    """The folder."""

    @property
    def images(self) -> ImageStore:
        """The image store."""
        return ImageStore(self.root / "images")

    @property
    def rollouts(self) -> Path:
        """The file of the rollout store."""
        return self.root / "rollouts.sqlite"

    def stage(self, name: str, fingerprint: str) -> StageFolder:
        """Returns the folder of a stage.

        Args:
            name: The name of the stage's last step, for people.
            fingerprint: The stage's identity. Its first 16 hex digits tell stages apart.
        """
        # 64 bits are enough for the stages of one machine, and keep paths short enough to read.
        return StageFolder(self.root / "stages" / f"{name}-{fingerprint[:16]}")

    def stages(self) -> list[StageFolder]:
        """Returns the folders of all stages that exist, of any recipe."""
        # Also those that no recipe makes any more: only a person knows which are still wanted.
        return [StageFolder(path) for path in sorted((self.root / "stages").glob("*-*"))]

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the workspace for one build.

        The system releases the lock when the process ends, however it ends. A build that was killed
        leaves its mark in the lock file; the next one then sweeps what was half-written.

        Raises:
            StoreError: Another build holds it, another version made it, or it cannot be written.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise StoreError(
                f"the workspace {self.root} cannot be used: {error.strerror}. "
                "Choose another folder with --work."
            ) from error
        try:
            try:
                # Not blocking: a person who waits should know for what.
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StoreError(
                    f"another build is running in {self.root}. Wait for it, or give this one a "
                    "workspace of its own with --work."
                ) from None
            self.check_format()
            if not (self.root / MARKER).exists():
                write_text(self.root / MARKER, json.dumps(made_by(FORMAT)) + "\n")
            # One byte in the file means that a build did not end: a clean end empties it.
            if os.read(descriptor, 1):
                sweep(self.root)
            os.pwrite(descriptor, b"running", 0)
            yield
            os.ftruncate(descriptor, 0)
        finally:
            os.close(descriptor)

    def check_format(self) -> None:
        """Refuses a workspace that this version cannot read. One that does not exist yet is fine.

        Raises:
            StoreError: The workspace has another format.
        """
        marker = self.root / MARKER
        if marker.exists():
            found = read_json(marker)
        elif self.rollouts.exists() or (self.root / "stages").exists():
            # Workspaces had no marker before format 2.
            found = {"format": 1, "made_by": "an earlier version"}
        else:
            return
        check_format(
            found,
            FORMAT,
            f"the workspace {self.root}",
            "Choose another folder with --work. To keep its paid answers, write them to a file "
            "with `omr rollouts export` of that version, and read them with `omr rollouts import` "
            "here.",
        )


def made_by(number: int) -> dict[str, Any]:
    """Returns the fields that tell a later version what wrote a folder, and in which format."""
    return {"format": number, "made_by": f"omr-data {version('omr-data')}"}


def check_format(found: Mapping[str, Any], wanted: int, what: str, advice: str) -> None:
    """Checks the format of a folder or file.

    Args:
        found: What it says of itself: `format`, and `made_by` if it was known.
        wanted: The format that this version reads and writes.
        what: What the folder or file is, for the message.
        advice: What to do about another format.

    Raises:
        StoreError: The format is another one.
    """
    # Equal, not at least: an older format is as unreadable as a newer one.
    number = found.get("format")
    if number != wanted:
        maker = found.get("made_by", "another version")
        raise StoreError(
            f"{what} has format {number} ({maker} made it), and omr-data {version('omr-data')} "
            f"reads format {wanted}. {advice}"
        )


def sweep(folder: Path) -> None:
    """Deletes temporary files that a killed process left."""
    for path in folder.rglob(".*.tmp"):
        # Folders of this kind are locked by whoever writes them; `new_folder` sweeps those.
        if path.is_file():
            path.unlink(missing_ok=True)
