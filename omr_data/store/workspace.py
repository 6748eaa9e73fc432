"""The workspace of a machine: `.omr/` with stages, images and paid rollouts. One build at a time works in it.

.omr/
    rollouts.sqlite   paid answers; outlives every recipe
    images/           original bytes by sha256
    stages/           one folder a stage, by fingerprint; may be deleted, and is then built again
    lock              held while a build runs
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from omr_data.errors import StoreError
from omr_data.store.images import ImageStore
from omr_data.store.shards import StageFolder


@dataclass(frozen=True, slots=True)
class Workspace:
    """Paths below one root folder."""

    root: Path

    @property
    def images(self) -> ImageStore:
        """The image store."""
        return ImageStore(self.root / "images")

    @property
    def rollouts(self) -> Path:
        """The rollout store's file."""
        return self.root / "rollouts.sqlite"

    def stage(self, name: str, fingerprint: str) -> StageFolder:
        """The folder of a stage. 16 hex digits of its fingerprint tell stages apart."""
        return StageFolder(self.root / "stages" / f"{name}-{fingerprint[:16]}")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the workspace for one build; the system releases it when the process ends, however it ends.

        A build that was killed leaves its mark in the lock file; then what it had half-written is swept first.

        Raises:
            StoreError: another build holds it, or the folder cannot be made.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise StoreError(
                f"the workspace {self.root} cannot be used: {error.strerror}. Choose another folder with --work."
            ) from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StoreError(
                    f"another build is running in {self.root}. Wait for it, or give this one a workspace of its own with --work."
                ) from None
            if os.read(descriptor, 1):
                sweep(self.root)
            os.pwrite(descriptor, b"running", 0)
            yield
            os.ftruncate(descriptor, 0)
        finally:
            os.close(descriptor)


def sweep(folder: Path) -> None:
    """Deletes temporary files that a killed process left."""
    for path in folder.rglob(".*.tmp"):
        path.unlink(missing_ok=True)
