"""Batches: several chats packed into one row of tokens, as tensors.

A **pack** is a list of examples whose lengths fit into one row. A **batch** is a pack as tensors:
the sequences stand one after the other, never see each other, and have positions of their own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Int32
from torch import Tensor

from omr_data.train.chat import Encoder, Example


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """Packed sequences. `tokens` counts all of them, `targets` only those that are trained on."""

    ids: Int[Tensor, "1 tokens"]
    """Token ids of all sequences, one after the other."""
    positions: Int[Tensor, "4 1 tokens"]
    """The place within the sequence, then the time, row and column of the rotary embedding."""
    edges: Int32[Tensor, " edges"]
    """Where each sequence begins, and where the last one ends: one more than there are sequences.
    int32 is what flash attention takes."""
    longest: int
    """Tokens of the longest sequence."""
    predict_at: Int[Tensor, " targets"]
    """The index of the token that predicts each target: the one before it."""
    labels: Int[Tensor, " targets"]
    """The token id of each target."""
    sequence: Int[Tensor, " targets"]
    """The number of the sequence that each target belongs to."""
    patches: Float[Tensor, "patches values"]
    """Normalized pixels of the patches of all images."""
    grids: Int[Tensor, "images 3"]
    """Patches of each image as (time, rows, columns)."""

    def to(self, device: torch.device) -> "PackedBatch":
        """Returns this batch on a device."""
        return self._map_tensors(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "PackedBatch":
        """Returns this batch in page-locked memory. A DataLoader calls it by this name."""
        return self._map_tensors(Tensor.pin_memory)

    def _map_tensors(self, change: Callable[[Tensor], Tensor]) -> "PackedBatch":
        held = {one.name: getattr(self, one.name) for one in fields(self)}
        tensors = {name: value for name, value in held.items() if isinstance(value, Tensor)}
        changed: dict[str, Any] = {name: change(value) for name, value in tensors.items()}
        return replace(self, **changed)


def collate(examples: Sequence[Example], encoder: Encoder) -> PackedBatch:
    """Packs examples into one batch, in order.

    A batch without images gets a placeholder: the smallest image there is, in a sequence of its own
    without targets. It costs one token.
    """
    # Without it a rank with texts only would not run its vision tower, and the collective calls of
    # the others would wait for it forever. Its gradients are zero this way, and not absent.
    if not any(len(example.grids) for example in examples):
        examples = [*examples, encoder.placeholder()]
    lengths = [len(example) for example in examples]
    edges = np.concatenate([[0], np.cumsum(lengths)])
    ids = np.concatenate([example.ids for example in examples])
    loss_mask = np.concatenate([example.loss_mask for example in examples])
    # The first token of a sequence has nothing before it that could predict it.
    loss_mask[edges[:-1]] = False
    # Only states before targets go through the language head, which is most of the logits' cost
    # when prompts are long.
    target = np.flatnonzero(loss_mask)
    # Places restart in each sequence. Otherwise a sequence would depend on its place in the pack.
    place = np.concatenate([np.arange(length) for length in lengths])
    positions = np.concatenate([example.positions for example in examples], axis=1)
    sequence = np.searchsorted(edges, target, side="right") - 1
    patches = np.concatenate([example.patches for example in examples])
    grids = np.concatenate([example.grids for example in examples])
    # `from_numpy` shares memory with the arrays, so nothing is copied here.
    return PackedBatch(
        ids=torch.from_numpy(ids)[None],
        positions=torch.from_numpy(np.concatenate([place[None], positions]))[:, None],
        edges=torch.from_numpy(edges.astype(np.int32)),
        longest=max(lengths),
        predict_at=torch.from_numpy(target - 1),
        labels=torch.from_numpy(ids[target]),
        sequence=torch.from_numpy(sequence),
        patches=torch.from_numpy(patches),
        grids=torch.from_numpy(grids),
    )
