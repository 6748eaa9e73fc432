"""Batches of a release: rows packed into few long ones, in an order that is planned up front.

**Pack**: the numbers of some rows whose lengths fit into `capacity` tokens (first fit over a shuffled order). The packs of an
epoch are a pure function of (seed, epoch, lengths, capacity), so the state of a loader is one number: the next step.
**Batch**: a pack as tensors: one row of tokens in which sequences never see each other, with positions that begin anew.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch

from omr_data.train.chat import Encoder, Example

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = TypeVar("T")
OPEN_PACKS = 64
"""Packs that are tried for each row; the oldest is closed when one more is opened. More fill better and take longer."""


@dataclass(frozen=True, slots=True)
class Batch:
    """N sequences of L tokens in all, T of them targets.

    `ids` (1, L), `positions` (4, 1, L): place in the sequence, then time, row and column; `edges` (N + 1,) int32,
    `longest` sequence; `predict_at` (T,): where a target is predicted, one before it stands; `labels` (T,): the targets;
    `sequence` (T,): the sequence that each belongs to; `patches` (P, d) and `grids` (K, 3) of the images.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    edges: torch.Tensor
    longest: int
    predict_at: torch.Tensor
    labels: torch.Tensor
    sequence: torch.Tensor
    patches: torch.Tensor
    grids: torch.Tensor

    def to(self, device: torch.device) -> "Batch":
        """The same on a device."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "Batch":
        """The same in memory that a GPU copies from by itself; a DataLoader calls it."""
        return self._each(torch.Tensor.pin_memory)

    def _each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "Batch":
        held = {one.name: getattr(self, one.name) for one in fields(self)}
        changed: dict[str, Any] = {
            name: change(value) for name, value in held.items() if isinstance(value, torch.Tensor)
        }
        return replace(self, **changed)


def collate(examples: Sequence[Example], encoder: Encoder) -> Batch:
    """Packs examples, in order. One without an image gets a stand-in: the smallest image there is, in a sequence of its own
    without a target. So the vision tower runs on every rank, or collective calls would wait for each other for ever, and its
    gradients are zero, not absent. It costs one token."""
    if not any(len(example.grids) for example in examples):
        examples = [*examples, _stand_in(encoder)]
    lengths = [len(example) for example in examples]
    edges = np.concatenate([[0], np.cumsum(lengths)])
    ids = np.concatenate([example.ids for example in examples])
    targets = np.concatenate([example.targets for example in examples])
    targets[edges[:-1]] = False  # the first token of a sequence is predicted by nothing
    at = np.flatnonzero(targets)
    own = np.concatenate([np.arange(length) for length in lengths])
    positions = np.concatenate([example.positions for example in examples], axis=1)
    return Batch(
        ids=torch.from_numpy(ids)[None],
        positions=torch.from_numpy(np.concatenate([own[None], positions]))[:, None],
        edges=torch.from_numpy(edges.astype(np.int32)),
        longest=max(lengths),
        predict_at=torch.from_numpy(at - 1),
        labels=torch.from_numpy(ids[at]),
        sequence=torch.from_numpy(np.searchsorted(edges, at, side="right") - 1),
        patches=torch.from_numpy(np.concatenate([example.patches for example in examples])),
        grids=torch.from_numpy(np.concatenate([example.grids for example in examples])),
    )


def _stand_in(encoder: Encoder) -> Example:
    return Example(
        ids=np.array([encoder.image_token]),
        targets=np.array([False]),
        positions=np.zeros((3, 1), dtype=np.int64),
        patches=np.zeros((encoder.merge**2, encoder.patch_values), dtype=np.float32),
        grids=np.array([[1, encoder.merge, encoder.merge]]),
    )


def first_fit(order: Sequence[int], lengths: "NDArray[np.int64]", capacity: int) -> list[list[int]]:
    """Puts each row into the first open pack that has room for it. No length may exceed the capacity."""
    packs: list[list[int]] = []
    opened: list[list[int]] = []  # [room left, place in packs]
    for row in order:
        length = int(lengths[row])
        for one in opened:
            if length <= one[0]:
                one[0] -= length
                packs[one[1]].append(row)
                break
        else:
            opened.append([capacity - length, len(packs)])
            packs.append([row])
            if len(opened) > OPEN_PACKS:
                del opened[0]
    return packs


def epoch_packs(
    lengths: "NDArray[np.int64]", capacity: int, seed: int, epoch: int
) -> list[list[int]]:
    """The packs of one epoch over the rows that fit."""
    order = np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(
        np.flatnonzero(lengths <= capacity)
    )
    return first_fit(order.tolist(), lengths, capacity)


@dataclass(frozen=True, slots=True)
class Steps:
    """Which packs each step takes: `per_step` packs, dealt out to the ranks in turn. What an epoch leaves over for less than a
    step opens the next one's plan, so that no row is left out for good."""

    lengths: "NDArray[np.int64]"
    capacity: int
    per_step: int
    seed: int

    def count(self, epochs: float) -> int:
        """Steps in so many epochs, as the first one packs; at least one."""
        return max(
            1,
            int(
                epochs * len(epoch_packs(self.lengths, self.capacity, self.seed, 0)) / self.per_step
            ),
        )

    def iterate(self, first: int) -> Iterator[list[list[int]]]:
        """The packs of step `first`, and of those after it, without end."""
        return deal(
            lambda epoch: epoch_packs(self.lengths, self.capacity, self.seed, epoch),
            self.per_step,
            first,
        )


def deal(epoch: Callable[[int], list[T]], per_step: int, first: int) -> Iterator[list[T]]:
    """The items of step `first` and of those after it, without end, out of one epoch after the other."""
    waiting: list[T] = []
    number = step = 0
    while True:
        while len(waiting) < per_step:
            waiting += epoch(number)
            number += 1
        taken, waiting = waiting[:per_step], waiting[per_step:]
        if step >= first:
            yield taken
        step += 1
