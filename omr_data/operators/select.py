"""Selects records by a score that an earlier step has given."""

from dataclasses import dataclass

from omr_data.errors import RecipeError
from omr_data.records import Record
from omr_data.step import Filter


@dataclass(frozen=True)
class PassRate(Filter):
    """Keeps records whose pass rate lies between two limits, both included.

    A record without a pass rate is dropped: nothing was measured on it. Put difficulty.PassRate()
    before this step.
    """

    at_least: float = 0.0
    """The lowest pass rate to keep, from 0 to 1."""
    at_most: float = 1.0
    """The highest pass rate to keep, from 0 to 1. Reinforcement learning learns nothing from a
    question that is always answered right, so its sets stay below 1."""

    def __post_init__(self) -> None:
        """Raises RecipeError where the limits are outside 0 to 1, or the wrong way round."""
        super().__post_init__()
        if not 0 <= self.at_least <= self.at_most <= 1:
            raise RecipeError(
                f"{self.name} keeps pass rates from {self.at_least} to {self.at_most}: give two "
                "numbers from 0 to 1, the smaller one first."
            )

    def reason(self, record: Record) -> str | None:
        """Returns on which side the pass rate is out of the limits, or None."""
        # Both 0.0 and None are false: only None means that nothing was measured.
        if record.pass_rate is None:
            return "no pass rate: no response is decided"
        if record.pass_rate < self.at_least:
            return f"the pass rate is under {self.at_least}"
        if record.pass_rate > self.at_most:
            return f"the pass rate is over {self.at_most}"
        return None
