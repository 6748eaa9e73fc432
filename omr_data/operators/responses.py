"""What becomes of the responses of a record once they have told what they can."""

from dataclasses import dataclass, replace

from omr_data.records import Record
from omr_data.step import Map


@dataclass(frozen=True)
class Drop(Map):
    """The problem without its responses, pass rate kept: a row of a set for reinforcement learning, or of a benchmark.

    The responses stay in the rollout store.
    """

    def apply(self, record: Record) -> Record:
        return replace(record, responses=())
