"""Verdicts on the responses of records, and a check of the gold answers themselves.

verify.Gold()          drops records whose gold answer is not RIGHT against itself
verify.Answers()       puts a verdict on every response, by rules
verify.Judged(JUDGE)   puts what is still UNDECIDED to the vote of a language model
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from omr_data.errors import RecipeError
from omr_data.records import RIGHT, UNDECIDED, Outcome, Record, Response
from omr_data.step import AskStep, BatchMap, Filter
from omr_data.teacher import Request, Teacher
from omr_data.verifiers import cascade, judge
from omr_data.verifiers.base import AnswerPair


@dataclass(frozen=True)
class Answers(BatchMap):
    """Puts a verdict on every response. All responses stay, right and wrong; selecting is a later step's work."""

    checkpoint: ClassVar[bool] = True
    verifier: cascade.Verifier = cascade.STANDARD

    def apply_batch(self, records: Sequence[Record]) -> Sequence[Record]:
        pairs = [_pair(record, response) for record in records for response in record.responses]
        verdicts = iter(self.verifier.verify_many(pairs))
        return [
            replace(
                record,
                responses=tuple(
                    replace(response, verdict=next(verdicts)) for response in record.responses
                ),
            )
            for record in records
        ]

    def tally(self, record: Record) -> Mapping[str, int]:
        return _outcomes(record)


@dataclass(frozen=True)
class Judged(AskStep):
    """Asks a judge about the responses whose verdict is one of `among`, after verify.Answers. Its votes are stored like any
    paid answer. When the judge is down the build stops, those responses are still UNDECIDED, and the next run asks again.

    Raises:
        RecipeError: `among` is empty, or a response has no verdict yet.
    """

    judge: judge.Judge
    among: tuple[Outcome, ...] = (UNDECIDED,)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.among:
            raise RecipeError(
                f"{self.name}: among is empty, so nothing would be judged. Leave it out for ('UNDECIDED',)."
            )

    def get_teacher(self) -> Teacher:
        return self.judge.teacher

    def requests(self, record: Record) -> Sequence[Request]:
        return [request for request in self._by_response(record) if request is not None]

    def attach(self, record: Record, answers: Sequence[Sequence[Response]]) -> Record:
        given = iter(answers)
        responses = []
        for response, request in zip(record.responses, self._by_response(record), strict=True):
            assert response.verdict is not None  # _by_response saw to it
            verdict = (
                response.verdict
                if request is None
                else self.judge.count(response.verdict, next(given))
            )
            responses.append(replace(response, verdict=verdict))
        return replace(record, responses=tuple(responses))

    def tally(self, record: Record) -> Mapping[str, int]:
        return _outcomes(record)

    def _by_response(self, record: Record) -> list[Request | None]:
        wanted: list[Request | None] = []
        for response in record.responses:
            if response.verdict is None:
                raise RecipeError(f"{self.name} needs verdicts: put verify.Answers() before it.")
            judged = response.verdict.outcome in self.among
            wanted.append(
                self.judge.request(_pair(record, response), response.verdict) if judged else None
            )
        return wanted


def _pair(record: Record, response: Response) -> AnswerPair:
    return AnswerPair(
        response.text, record.answer, record.options, response.finish_reason, record.question
    )


def _outcomes(record: Record) -> Mapping[str, int]:
    return Counter(
        response.verdict.outcome for response in record.responses if response.verdict is not None
    )


@dataclass(frozen=True)
class Gold(Filter):
    """Drops records whose gold answer, given as the response, is not RIGHT: nothing could ever be right for them."""

    verifier: cascade.Verifier = cascade.STANDARD

    def reason(self, record: Record) -> str | None:
        verdict = self.verifier.verify(
            AnswerPair(f"<answer>{record.answer}</answer>", record.answer, record.options)
        )
        return (
            None
            if verdict.outcome == RIGHT
            else f"the gold answer is not right against itself: {verdict.outcome}"
        )
