"""The processes of one run: one alone, or as many as `torchrun` started."""

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
LONGEST = timedelta(hours=6)
"""How long one process may be waited for: a slow server's answers, or a large model being written."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process's number, how many there are, and its device. Alone, the collective calls return what they are given."""

    rank: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this process writes and speaks for all."""
        return self.rank == 0

    def sum(self, *values: float) -> list[float]:
        """The sum of each value over all processes, in float64."""
        return self._reduced(values, dist.ReduceOp.SUM)

    def most(self, value: int) -> int:
        """The largest value of any process."""
        return int(self._reduced([value], dist.ReduceOp.MAX)[0])

    def together(self, mine: list[T]) -> list[T]:
        """The lists of all processes as one, dealt out in turn: item i of process r stands at i x world + r. Of equal lengths."""
        if self.world == 1:
            return mine
        held: list[list[T]] = [[] for _ in range(self.world)]
        dist.all_gather_object(held, mine)
        return [item for row in zip(*held, strict=True) for item in row]

    def barrier(self) -> None:
        """Waits for all processes."""
        if self.world > 1:
            dist.barrier()

    def _reduced(self, values: Sequence[float], how: dist.ReduceOp.RedOpType) -> list[float]:
        if self.world == 1:
            return list(values)
        held = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(held, how)
        return [float(value) for value in held.tolist()]


@contextmanager
def ranks() -> Iterator[Ranks]:
    """Joins the processes that `torchrun` started (gloo on CPU, nccl on GPUs), or stands alone."""
    world, rank, local = (
        int(os.environ.get(name, usual))
        for name, usual in (("WORLD_SIZE", "1"), ("RANK", "0"), ("LOCAL_RANK", "0"))
    )
    device = torch.device("cuda", local) if torch.cuda.is_available() else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    grouped = (
        world > 1 or device.type == "cuda"
    )  # FSDP wants a group for mixed precision on one GPU too
    if not grouped:
        yield Ranks(rank, world, device)
        return
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    if world > 1:
        dist.init_process_group(
            backend, timeout=LONGEST, device_id=device if device.type == "cuda" else None
        )
    else:
        dist.init_process_group(backend, store=HashStore(), rank=0, world_size=1)
    try:
        yield Ranks(rank, world, device)
    finally:
        dist.destroy_process_group()
