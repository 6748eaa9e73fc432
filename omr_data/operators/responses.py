"""Drops responses from records, once later steps do not need them."""

from dataclasses import dataclass, replace

from omr_data.records import Record
from omr_data.step import Map


@dataclass(frozen=True)
class Drop(Map):
    """Drops all responses of a record and keeps what was learned from them, such as its pass rate.

    This makes a row of a set for reinforcement learning, or of a benchmark. Nothing paid for is
    lost: the responses stay in the rollout store.
    """

    def apply(self, record: Record) -> Record:
        """Returns the record without responses."""
        # `prompt` stays: it is what the policy is asked later, in the words that set the pass rate.
        return replace(record, responses=())
