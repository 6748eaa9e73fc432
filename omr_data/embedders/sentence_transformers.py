"""Transformer embeddings (sentence-transformers): better than static ones, and much slower.

sentence_transformers.Embedder("sentence-transformers/all-MiniLM-L6-v2", commit="...")
sentence_transformers.Embedder("ours", folder=Path("models/ours"), weights="its weights' sha256")
"""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from omr_data.embedders import base
from omr_data.errors import MissingExtra

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Embedder(base.ModelFolder):
    """A sentence-transformers model.

    A text is cut at the number of tokens that the model takes. Code in the model's folder is never
    run.
    """

    def embed(self, texts: Sequence[str]) -> "NDArray[np.float32]":
        import numpy as np

        return np.asarray(load_model(self).encode(list(texts), show_progress_bar=False), np.float32)


@lru_cache(maxsize=1)
def load_model(embedder: Embedder) -> Any:
    """The model of an embedder, loaded once in each process.

    Raises:
        MissingExtra: sentence-transformers is not installed.
    """
    # Looked up before it is imported: importing torch takes seconds.
    if importlib.util.find_spec("sentence_transformers") is None:
        raise MissingExtra("sentence_transformers", "sentence-transformers")
    from sentence_transformers import SentenceTransformer

    # Local files alone: the weights were checked, and nothing else may be fetched beside them.
    return SentenceTransformer(
        str(embedder.files()), trust_remote_code=False, local_files_only=True
    )
