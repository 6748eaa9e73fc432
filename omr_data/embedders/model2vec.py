"""Static embeddings (model2vec): the mean of one vector for each token.

They need no torch, and thousands of texts are embedded in a second on one core.

model2vec.Embedder("minishlab/potion-base-8M", commit="...")
model2vec.Embedder("ours", folder=Path("models/ours"), weights="sha256 of its model.safetensors")
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
    """A model2vec model. All of a text counts, however long it is."""

    def embed(self, texts: Sequence[str]) -> "NDArray[np.float32]":
        import numpy as np

        # No cut at a number of tokens. The engine's workers already use all cores.
        return np.asarray(
            load_model(self).encode(list(texts), max_length=None, use_multiprocessing=False),
            np.float32,
        )


@lru_cache(maxsize=1)
def load_model(embedder: Embedder) -> Any:
    """The model of an embedder, loaded once in each process.

    Raises:
        MissingExtra: model2vec is not installed.
    """
    # One model at a time is kept: a recipe with two would otherwise hold both in every worker.
    if importlib.util.find_spec("model2vec") is None:
        raise MissingExtra("model2vec", "model2vec")
    from model2vec import StaticModel

    return StaticModel.from_pretrained(embedder.files(), force_download=False)
