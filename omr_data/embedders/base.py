"""What an embedder is.

**Embedder**: a Spec that turns texts into vectors; texts of similar meaning have vectors of similar
direction. Its identity is the model's name with the commit on the Hub, or with the sha256 of the
weights. The folder with the weights does not count for the identity.

Deriving from `Embedder` is all that another kind needs: fields that say which model, and `embed`.
"""

import hashlib
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from omr_data.errors import RecipeError, SourceError
from omr_data.identity import Spec, runtime_field

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Safetensors alone: pickled weights could run code when they are loaded.
WEIGHTS_FILE = "model.safetensors"


@dataclass(frozen=True)
class Embedder(Spec):
    """Embeds texts.

    One object is sent to several processes, so a loaded model is kept outside of it.
    """

    @abstractmethod
    def embed(self, texts: Sequence[str]) -> "NDArray[np.float32]":
        """One vector for each text, shape (texts, places).

        Vectors may have any length, as only directions count.

        Raises:
            OmrError: the model cannot be loaded or run.
        """


@dataclass(frozen=True)
class ModelFolder(Embedder):
    """A model in a folder: from the Hub at a commit, or a local one with its weights' sha256.

    Raises:
        RecipeError: neither is given, so that nobody could say which model it was.
    """

    model: str
    """The name of the model, on the Hub like "owner/name"."""
    commit: str = ""
    """The commit on the Hub, 40 hex digits. A branch or a tag could move."""
    weights: str = ""
    """The sha256 of the file of weights, in hex. It is required where `folder` is given."""
    folder: Path | None = runtime_field(None)
    """The folder with the model; the Hub's cache if not given. It may differ between machines."""

    def __post_init__(self) -> None:
        super().__post_init__()
        # Refused when the recipe is read: a build would fail hours later, or not be repeatable.
        if self.folder is None and len(self.commit) != 40:
            raise RecipeError(
                f"{self.name} needs the commit of {self.model} on the Hub (40 hex digits), or a "
                "folder with its weights' sha256."
            )
        if self.folder is not None and not self.weights:
            raise RecipeError(
                f"{self.name} reads {self.model} from a folder: give weights=, the sha256 of its "
                f"{WEIGHTS_FILE}."
            )

    def files(self) -> Path:
        """The folder with the model, fetched from the Hub if need be.

        Raises:
            SourceError: there are no weights, or they are others than was said.
        """
        from huggingface_hub import snapshot_download

        folder = self.folder or Path(snapshot_download(self.model, revision=self.commit))
        # model2vec and sentence-transformers keep the weights at different depths.
        weights = next(iter(sorted(folder.rglob(WEIGHTS_FILE))), None)
        if weights is None:
            raise SourceError(
                f"{folder} holds no {WEIGHTS_FILE}. Give a folder with the model {self.model}."
            )
        # Hashed at every start, a few seconds for a large model: other weights give other vectors.
        with open(weights, "rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if self.weights not in ("", found):
            raise SourceError(
                f"{weights} has the sha256 {found}, and {self.name} was told {self.weights}. "
                "Is it another version?"
            )
        return folder
