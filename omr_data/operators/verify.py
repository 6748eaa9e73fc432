"""Verdicts on the responses of records, and a check of the gold answers themselves.

verify.Gold()          drops records whose gold answer nothing could match, and keeps its type
verify.Answers()       puts a verdict on every response, by the rules of the record's task
verify.Judged(JUDGE)   puts what is still UNDECIDED to the vote of a language model
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from omr_data.errors import RecipeError
from omr_data.records import UNDECIDED, Outcome, Record, Response
from omr_data.step import AskStep, BatchMap, Expand
from omr_data.teacher import Request, Teacher
from omr_data.verifiers import cascade, golds, judge, tasks
from omr_data.verifiers.base import AnswerPair


@dataclass(frozen=True)
class Answers(BatchMap):
    """Puts a verdict on every response.

    All responses stay, right and wrong; selecting is a later step's work. A router gives each
    record to the verifiers of its task; a cascade is used for every task.
    """

    checkpoint: ClassVar[bool] = True
    """Verdicts are written, and read again by later builds."""
    revision: ClassVar[int] = 2
    """Bumped when verdicts changed."""
    verifier: tasks.Router | cascade.Verifier = tasks.STANDARD
    """What decides."""

    def apply_batch(self, records: Sequence[Record]) -> Sequence[Record]:
        pairs = []
        for record in records:
            pairs += [_pair(record, response) for response in record.responses]
        # One call for the batch, since verifiers keep what they have parsed between pairs.
        verdicts = iter(self.verifier.verify_many(pairs))
        verified = []
        for record in records:
            responses = tuple(
                replace(response, verdict=next(verdicts)) for response in record.responses
            )
            verified.append(replace(record, responses=responses))
        return verified

    def tally(self, record: Record) -> Mapping[str, int]:
        return _outcomes(record)


@dataclass(frozen=True)
class Judged(AskStep):
    """Asks a judge about some of the responses, after verify.Answers.

    Its votes are stored like any paid answer. When the judge is down the build stops, those
    responses are still UNDECIDED, and the next run asks again.

    Raises:
        RecipeError: `among` is empty, or a response has no verdict yet.
    """

    # 2: votes carry a cause, and typed answers decide before a judge is asked.
    revision: ClassVar[int] = 2
    """Bumped when verdicts changed."""

    judge: judge.Judge
    """Who votes."""
    among: tuple[Outcome, ...] = (UNDECIDED,)
    """The outcomes that are put to the vote."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.among:
            raise RecipeError(
                f"{self.name}: among is empty, so nothing would be judged. "
                "Leave it out for ('UNDECIDED',)."
            )

    def get_teacher(self) -> Teacher:
        return self.judge.teacher

    def requests(self, record: Record) -> Sequence[Request]:
        # Flat here and grouped again in `attach`: the store knows requests, not responses.
        asked: list[Request] = []
        for requests in self._by_response(record):
            asked += requests
        return asked

    def attach(self, record: Record, answers: Sequence[Sequence[Response]]) -> Record:
        given = iter(answers)
        responses = []
        for response, requests in zip(record.responses, self._by_response(record), strict=True):
            verdict = response.verdict
            assert verdict is not None  # _by_response saw to it
            if requests:
                votes = [next(given) for _ in requests]
                verdict = self.judge.count_all(_pair(record, response), verdict, votes)
            responses.append(replace(response, verdict=verdict))
        return replace(record, responses=tuple(responses))

    def tally(self, record: Record) -> Mapping[str, int]:
        return _outcomes(record)

    def _by_response(self, record: Record) -> list[list[Request]]:
        wanted: list[list[Request]] = []
        for response in record.responses:
            # The extracted answer is all that a judge may see, and it stands in the verdict.
            if response.verdict is None:
                raise RecipeError(f"{self.name} needs verdicts: put verify.Answers() before it.")
            requests: list[Request] = []
            if response.verdict.outcome in self.among:
                requests = self.judge.requests(_pair(record, response), response.verdict)
            wanted.append(requests)
        return wanted


def _pair(record: Record, response: Response) -> AnswerPair:
    return AnswerPair(
        response.text,
        record.answer,
        record.options,
        response.finish_reason,
        record.question,
        record.task,
        record.answers,
        record.accept,
    )


def _outcomes(record: Record) -> Mapping[str, int]:
    return Counter(
        response.verdict.outcome for response in record.responses if response.verdict is not None
    )


@dataclass(frozen=True)
class Gold(Expand):
    """Drops records whose gold answer does not match its own re-renderings.

    Nothing could ever be right for them. The others keep the type of their gold answer in
    `meta["answer_type"]`, and what is fragile about it, if anything, in `meta["fragile_gold"]`:
    such a gold answer matches only word for word, or holds several blanks.
    """

    # 3: a letter that none of the options has is dropped.
    revision: ClassVar[int] = 3
    """Bumped when verdicts changed."""
    verifier: tasks.Router | cascade.Verifier = tasks.STANDARD
    """What decides."""

    def expand(self, record: Record) -> Sequence[Record] | str:
        every = record.answers or (record.answer,)
        checks = [
            golds.check_gold(self.verifier, answer, record.options, record.task) for answer in every
        ]
        # Of several gold answers, one that can be matched is enough where any is accepted.
        found = next((check for check in checks if not check.dropped), checks[0])
        if record.accept == "all":
            found = next((check for check in checks if check.dropped), found)
        if found.dropped:
            return found.dropped
        # Kept as text, because a release shows it to users who choose by it.
        meta = {**record.meta, "answer_type": found.answer_type}
        if found.fragile:
            meta["fragile_gold"] = found.fragile
        return [replace(record, meta=meta)]

    def tally(self, record: Record) -> Mapping[str, int]:
        kinds = {record.meta["answer_type"]: 1}
        if fragile := record.meta.get("fragile_gold"):
            kinds[f"fragile: {fragile}"] = 1
        return kinds
