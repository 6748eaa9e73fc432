"""Scores how hard a record is. A score, not a filter: `select` chooses by it on its own line."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from omr_data.records import Record
from omr_data.step import Map
from omr_data.verifiers.rates import pass_rate


@dataclass(frozen=True)
class PassRate(Map):
    """RIGHT over all responses that ended by themselves, from 0 to 1; None when none did.

    The rule is `verifiers.rates`, which rewards and evaluations use too. `n_right`, `n_counted` and
    `n_left_out` are stored with it, so that 1 of 1 and 8 of 8 can be told apart.
    """

    revision: ClassVar[int] = 2
    """Bumped when verdicts changed."""

    def apply(self, record: Record) -> Record:
        # All three counts are stored, so that a later step can ask for enough attempts.
        found = pass_rate(record.responses)
        return replace(
            record,
            pass_rate=found.rate,
            n_right=found.n_right,
            n_counted=found.n_counted,
            n_left_out=found.n_left_out,
        )

    def tally(self, record: Record) -> Mapping[str, int]:
        # The two ends are counted apart: neither gives a signal to reinforcement learning.
        match record.pass_rate:
            case None:
                return {"none decided": 1}
            case 0.0:
                return {"never right": 1}
            case 1.0:
                return {"always right": 1}
        return {"sometimes right": 1}
