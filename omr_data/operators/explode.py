"""Makes training rows of the responses of a record, one row for each response that is right."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from omr_data.records import RIGHT, UNDECIDED, Record
from omr_data.step import Expand


@dataclass(frozen=True)
class Right(Expand):
    """Splits a record into one record for each RIGHT response.

    The new record is named "<id>#<attempt>" ("<id>#given-<attempt>" for a response that came with
    the dataset), holds that response alone, and carries the old id as its `question_id`, so that
    the rows of one question can be found and weighted together.
    """

    revision: ClassVar[int] = 2
    """2: rows of responses that came with a dataset are named "given-<attempt>"."""

    def expand(self, record: Record) -> Sequence[Record] | str:
        """Returns the rows, or why there are none."""
        verdicts = [response.verdict for response in record.responses]
        outcomes = [verdict and verdict.outcome for verdict in verdicts]
        # A row is named by its attempt and not by its position, which changes when more are sampled
        # later. A response that came with the dataset has no key, and counts its attempts apart.
        labels = []
        for response in record.responses:
            prefix = "" if response.key else "given-"
            labels.append(f"{prefix}{response.attempt}")
        right = [
            replace(
                record,
                id=f"{record.id}#{label}",
                question_id=record.id,
                responses=(response,),
            )
            for response, outcome, label in zip(record.responses, outcomes, labels, strict=True)
            if outcome == RIGHT
        ]
        if right:
            return right
        # The reasons are told apart because each has a mend of its own: another teacher, a missing
        # verify.Answers(), or a judge for what rules cannot decide.
        if not outcomes:
            return "no answer was given"
        if None in outcomes:
            return "the answers were not verified"
        if UNDECIDED in outcomes:
            return "no answer is right, some undecided"
        return "no answer is right"
