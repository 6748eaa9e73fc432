"""The processes of one run: a single one, or as many as `torchrun` started."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import HashStore

T = TypeVar("T")
COLLECTIVE_TIMEOUT = timedelta(hours=6)
"""How long the others wait for one process: for a slow server's answers, or while a large model is
written. Torch's own limit of 10 minutes would end such runs."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among all of the run. A single process gets back what it gives to each call."""

    rank: int
    """The number of this process, from 0."""
    world: int
    """How many processes there are."""
    device: torch.device
    """The device that this process computes on."""

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def shard(self, items: Sequence[T]) -> Sequence[T]:
        """Returns this process's share of the items, which are assigned round-robin."""
        return items[self.rank :: self.world]

    def all_gather(self, mine: list[T], total: int) -> list[T]:
        """Joins the shards of all processes, in the order that `shard` took them from.

        Args:
            mine: The results of this process, one for each item of its shard.
            total: How many items there are over all processes. Results beyond it are dropped, so a
                process may have worked on padding.
        """
        if self.world == 1:
            return mine[:total]
        # Gathered objects may differ in length, so shards need no padding.
        held: list[list[T]] = [[] for _ in range(self.world)]
        dist.all_gather_object(held, mine)
        return [held[item % self.world][item // self.world] for item in range(total)]

    def all_reduce_sum(self, *values: float) -> list[float]:
        """Returns the sum of each value over all processes, in float64."""
        return self._all_reduce(values, dist.ReduceOp.SUM)

    def all_reduce_max(self, value: int) -> int:
        """Returns the largest value of any process."""
        return int(self._all_reduce([value], dist.ReduceOp.MAX)[0])

    def barrier(self) -> None:
        """Waits until all processes are here."""
        if self.world > 1:
            dist.barrier()

    def _all_reduce(self, values: Sequence[float], how: dist.ReduceOp.RedOpType) -> list[float]:
        if self.world == 1:
            return list(values)
        # float64 holds counts of tokens exactly up to 2^53.
        held = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(held, how)
        return [float(value) for value in held.tolist()]


@contextmanager
def ranks() -> Iterator[Ranks]:
    """Joins the processes that `torchrun` started (gloo on CPUs, nccl on GPUs), or runs alone."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    rank = int(os.environ.get("RANK", "0"))
    cuda = torch.cuda.is_available()
    device = torch.device("cpu")
    if cuda:
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    # FSDP needs a process group for mixed precision even on one GPU.
    if world == 1 and not cuda:
        yield Ranks(rank, world, device)
        return

    # Objects are gathered over gloo, which takes no memory of the GPU.
    backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
    if world > 1:
        bound = device if cuda else None
        dist.init_process_group(backend, timeout=COLLECTIVE_TIMEOUT, device_id=bound)
    else:
        # A store in memory: a single process needs no port, and two runs cannot collide on one.
        dist.init_process_group(backend, store=HashStore(), rank=0, world_size=1)
    try:
        yield Ranks(rank, world, device)
    finally:
        dist.destroy_process_group()
