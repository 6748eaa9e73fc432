"""The order in which rows and prompts are trained on, as a pure function of the seed.

Orders are planned from numbers alone, so a run that is resumed at step N continues with exactly the
rows it would have had. The state of the data is one number, the next step.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = TypeVar("T")
OPEN_PACKS = 64
"""Packs that are tried for each row; when one more is opened, the oldest is closed. More of them
fill packs better, and packing takes longer in proportion."""


def first_fit(order: Sequence[int], lengths: "NDArray[np.int64]", capacity: int) -> list[list[int]]:
    """Packs rows: each goes into the first open pack that has room for it.

    Args:
        order: Row numbers in the order in which they are packed.
        lengths: Tokens of every row, of shape (rows,). None may exceed the capacity.
        capacity: Tokens of one pack.

    Returns:
        The row numbers of each pack.
    """
    packs: list[list[int]] = []
    room: list[int] = []  # tokens left in each pack of `packs`
    first_open = 0
    for row in order:
        length = int(lengths[row])
        # The first pack with room and not the fullest one: the search can stop early.
        for place in range(first_open, len(packs)):
            if length <= room[place]:
                room[place] -= length
                packs[place].append(row)
                break
        else:
            packs.append([row])
            room.append(capacity - length)
            # Without a limit the search would be quadratic in the number of packs.
            first_open = max(0, len(packs) - OPEN_PACKS)
    return packs


def epoch_packs(
    lengths: "NDArray[np.int64]", capacity: int, seed: int, epoch: int
) -> list[list[int]]:
    """Packs the rows of one epoch in a shuffled order.

    Args:
        lengths: Tokens of every row, of shape (rows,). Longer rows than the capacity are left out.
        capacity: Tokens of one pack.
        seed: The seed of the run.
        epoch: The number of the epoch; each has an order of its own.
    """
    # Philox takes a key, so (seed, epoch) needs no arithmetic that could make two epochs equal.
    random = np.random.Generator(np.random.Philox(key=[seed, epoch]))
    order = random.permutation(np.flatnonzero(lengths <= capacity))
    return first_fit(order.tolist(), lengths, capacity)


@dataclass(frozen=True, slots=True)
class PackSchedule:
    """Schedule of packs per optimizer step.

    Each step takes `per_step` packs, assigned to ranks round-robin. Packs left at the end of an
    epoch are carried into the next one, so every row is used eventually.
    """

    lengths: "NDArray[np.int64]"
    """Tokens of every row, of shape (rows,). Rows longer than the capacity are never used."""
    capacity: int
    """Tokens of one pack."""
    per_step: int
    """Packs of one optimizer step, over all ranks."""
    seed: int
    """The seed of the orders."""

    def count(self, epochs: float) -> int:
        """Returns the steps in this many epochs, estimated from the first; at least one."""
        # Later epochs may have a pack more or less. Counting them all would pack the whole run.
        packs = len(epoch_packs(self.lengths, self.capacity, self.seed, 0))
        return max(1, int(epochs * packs / self.per_step))

    def iterate(self, first: int) -> Iterator[list[list[int]]]:
        """Yields the packs of step `first` and of each step after it, without end."""

        def packs_of(epoch: int) -> list[list[int]]:
            return epoch_packs(self.lengths, self.capacity, self.seed, epoch)

        return batches_from_epochs(packs_of, self.per_step, first)


def prompt_order(
    numbers: Sequence[int], per_step: int, seed: int, first: int
) -> Iterator[list[int]]:
    """Yields the prompts of step `first` and of each step after it, without end.

    Args:
        numbers: The row numbers of the prompts.
        per_step: Prompts of one step, over all ranks.
        seed: The seed of the run. Each epoch has an order of its own.
        first: The step to start from, counted from 0.
    """

    def prompts_of(epoch: int) -> list[int]:
        random = np.random.Generator(np.random.Philox(key=[seed, epoch]))
        return [numbers[place] for place in random.permutation(len(numbers)).tolist()]

    return batches_from_epochs(prompts_of, per_step, first)


def batches_from_epochs(
    items_of: Callable[[int], list[T]], per_step: int, first: int
) -> Iterator[list[T]]:
    """Cuts an endless sequence of epochs into batches of equal size.

    Args:
        items_of: Gives the items of an epoch by its number.
        per_step: Items of one batch.
        first: The number of the first batch that is yielded; those before it are passed over.

    Yields:
        Lists of `per_step` items. A batch may hold the end of one epoch and the start of the next.
    """
    waiting: list[T] = []
    epoch = step = 0
    while True:
        while len(waiting) < per_step:
            waiting += items_of(epoch)
            epoch += 1
        # What is left over waits for the next epoch: dropped, short runs would never see some rows.
        batch, waiting = waiting[:per_step], waiting[per_step:]
        # Batches before `first` are built all the same: what carries over depends on them.
        if step >= first:
            yield batch
        step += 1
