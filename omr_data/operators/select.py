"""Chooses records by a score that an earlier step has given."""

from dataclasses import dataclass

from omr_data.records import Record
from omr_data.step import Filter


@dataclass(frozen=True)
class PassRate(Filter):
    """Keeps records whose pass rate is from `at_least` to `at_most`, both included."""

    at_least: float = 0.0
    at_most: float = 1.0

    def reason(self, record: Record) -> str | None:
        if record.pass_rate is None:
            return "no pass rate: no response is decided"
        if record.pass_rate < self.at_least:
            return f"the pass rate is under {self.at_least}"
        if record.pass_rate > self.at_most:
            return f"the pass rate is over {self.at_most}"
        return None
