"""Scores how hard a record is. A score, not a filter: `select` chooses by it on a line of its own."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from omr_data.records import RIGHT, UNDECIDED, Record
from omr_data.step import Map


@dataclass(frozen=True)
class PassRate(Map):
    """RIGHT / (RIGHT + WRONG) over the record's responses, from 0 to 1; None when no response is decided.

    UNDECIDED responses count on neither side: a verifier that cannot tell says nothing about the question.
    """

    def apply(self, record: Record) -> Record:
        outcomes = [
            response.verdict.outcome
            for response in record.responses
            if response.verdict is not None
        ]
        decided = [outcome for outcome in outcomes if outcome != UNDECIDED]
        return replace(record, pass_rate=decided.count(RIGHT) / len(decided) if decided else None)

    def tally(self, record: Record) -> Mapping[str, int]:
        match record.pass_rate:
            case None:
                return {"none decided": 1}
            case 0.0:
                return {"never right": 1}
            case 1.0:
                return {"always right": 1}
        return {"sometimes right": 1}
