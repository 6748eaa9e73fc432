"""What an embedder is.

**Embedder**: a Spec that turns texts into vectors; alike texts have vectors that point the same way. Its identity is the model's
name with the commit on the Hub, or with the sha256 of the weights; the folder they lie in is a place.

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

WEIGHTS_FILE = "model.safetensors"


@dataclass(frozen=True)
class Embedder(Spec):
    """Embeds texts. One object is used in several processes, so what it loads it keeps outside itself."""

    @abstractmethod
    def embed(self, texts: Sequence[str]) -> "NDArray[np.float32]":
        """One vector for each text, shape (texts, places); any length, as only directions count. Raises OmrError."""


@dataclass(frozen=True)
class ModelFolder(Embedder):
    """A model in a folder: from the Hub at a commit, or on this machine with the sha256 of its weights.

    Raises:
        RecipeError: neither is given, so that nobody could say which model it was.
    """

    model: str
    commit: str = ""
    weights: str = ""
    folder: Path | None = runtime_field(None)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.folder is None and len(self.commit) != 40:
            raise RecipeError(
                f"{self.name} needs the commit of {self.model} on the Hub (40 hex digits), or a folder with its weights' sha256."
            )
        if self.folder is not None and not self.weights:
            raise RecipeError(
                f"{self.name} reads {self.model} from a folder: give weights=, the sha256 of its {WEIGHTS_FILE}."
            )

    def files(self) -> Path:
        """The folder with the model, fetched from the Hub if need be.

        Raises:
            SourceError: there are no weights, or they are others than was said.
        """
        from huggingface_hub import snapshot_download

        folder = self.folder or Path(snapshot_download(self.model, revision=self.commit))
        weights = next(iter(sorted(folder.rglob(WEIGHTS_FILE))), None)
        if weights is None:
            raise SourceError(f"{folder} holds no {WEIGHTS_FILE}: it is no folder of {self.model}.")
        with open(weights, "rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if self.weights not in ("", found):
            raise SourceError(
                f"{weights} has the sha256 {found}, and {self.name} was told {self.weights}. Is it another version?"
            )
        return folder
