"""Positions of tokens in a prompt with images: the multimodal rotary embedding of Qwen-VL models.

The embedded teacher and the trainer both need these numbers, and neither may import the other.
Only numpy is needed, so loader processes can compute them without a model.
"""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def mrope_positions(
    ids: "NDArray[np.int64]", grids: "NDArray[np.int64]", image_token: int, merge: int
) -> "NDArray[np.int64]":
    """Computes the position of each token on three axes: time, row and column.

    In text the three numbers are equal. Inside an image they are (time, row, column) of the merged
    patch, counted from the position where the image starts. Text after an image resumes at that
    start plus the image's longer side (Qwen2-VL, arXiv 2409.12191, section 2.1).

    Args:
        ids: Token ids of shape (tokens,), with one image token for each merged patch.
        grids: Patches of each image as (time, rows, columns), of shape (images, 3). Time is 1.
        image_token: The id that stands for a merged patch.
        merge: Patches along one side of a merged patch.

    Returns:
        Positions of shape (3, tokens).
    """
    positions = np.zeros((3, len(ids)), dtype=np.int64)
    token = 0  # the next token without a position
    position = 0  # the position that it gets if it is text
    image_tokens = np.flatnonzero(ids == image_token)
    for _, rows, columns in (grids // [1, merge, merge]).tolist():
        start = int(image_tokens[np.searchsorted(image_tokens, token)])
        positions[:, token:start] = position + np.arange(start - token)
        position += start - token
        cells = np.arange(rows * columns)
        token = start + rows * columns
        coordinates = np.stack([np.zeros_like(cells), cells // columns, cells % columns])
        positions[:, start:token] = position + coordinates
        # The longer side, not the number of tokens: a large image moves text by few positions.
        position += max(rows, columns)
    positions[:, token:] = position + np.arange(len(ids) - token)
    return positions
