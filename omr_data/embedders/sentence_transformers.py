"""Transformer embeddings (sentence-transformers): better than static ones, and some hundred times slower without a GPU.

sentence_transformers.Embedder("sentence-transformers/all-MiniLM-L6-v2", commit="...")
sentence_transformers.Embedder("ours", folder=Path("models/ours"), weights="sha256 of its model.safetensors")
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
    """A sentence-transformers model. Of a text, as many tokens count as the model takes; code that comes with it is never run."""

    def embed(self, texts: Sequence[str]) -> "NDArray[np.float32]":
        import numpy as np

        return np.asarray(_loaded(self).encode(list(texts), show_progress_bar=False), np.float32)


@lru_cache(maxsize=1)
def _loaded(embedder: Embedder) -> Any:
    if importlib.util.find_spec("sentence_transformers") is None:
        raise MissingExtra("sentence_transformers", "sentence-transformers")
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(
        str(embedder.files()), trust_remote_code=False, local_files_only=True
    )
