"""Makes one training row of each response that is good enough."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from omr_data.records import RIGHT, UNDECIDED, Record
from omr_data.step import Expand


@dataclass(frozen=True)
class Right(Expand):
    """One record for each RIGHT response, named "<id>#<attempt>", with that response alone; `question_id` is the old id."""

    def expand(self, record: Record) -> Sequence[Record] | str:
        right = [
            response
            for response in record.responses
            if response.verdict is not None and response.verdict.outcome == RIGHT
        ]
        if right:
            return [
                replace(
                    record,
                    id=f"{record.id}#{response.attempt}",
                    question_id=record.id,
                    responses=(response,),
                )
                for response in right
            ]
        if not record.responses:
            return "no answer was given"
        if any(response.verdict is None for response in record.responses):
            return "the answers were not verified"
        undecided = any(
            response.verdict and response.verdict.outcome == UNDECIDED
            for response in record.responses
        )
        return "no answer is right, some undecided" if undecided else "no answer is right"
