"""A language model as the last verifier, for what rules leave UNDECIDED.

**Vote**: one answer of the judge: RIGHT or WRONG; anything else, or an answer that was cut off,
does not count as a vote. **Judge**: asks for `votes` votes on one pair; an outcome counts when
`needed` of them agree on it, and else the pair stays UNDECIDED. So does every pair of a judge that
is down, with that cause. The model, its sampling and the prompt are the judge's identity.

The judge reads the question, the gold answer and the answer that was extracted; never the
reasoning, which could persuade it, and never the images.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from omr_data.errors import TeacherError, VerifyError
from omr_data.identity import Spec
from omr_data.records import (
    IMAGE_MARK,
    RIGHT,
    UNDECIDED,
    WRONG,
    Message,
    Outcome,
    Response,
    Verdict,
    lettered,
)
from omr_data.teacher import Budget, Request, Teacher
from omr_data.verifiers.extract import extract, visible

if TYPE_CHECKING:
    from omr_data.records import ImageRef
    from omr_data.verifiers.base import AnswerPair

PROMPT = """You compare a student's final answer with the correct answer to a question. \
Do not solve the question. \
The student is right if both answers mean the same; how they are written does not matter, \
but values, units and order do.

Question: {question}
Correct answer: {gold}
Student's answer: {claim}

Reply with one word: RIGHT, WRONG, or UNSURE if the two cannot be compared."""

_VOTE = re.compile(r"\W*(RIGHT|WRONG)\W*", re.IGNORECASE)
_LONGEST = 4_000
_PLACES = ("{question}", "{gold}", "{claim}")


@dataclass(frozen=True)
class Judge(Spec):
    """Asks a teacher for votes, of which a majority must agree.

    Raises:
        VerifyError: `needed` is not a majority of `votes`, or the prompt lacks a place.
    """

    teacher: Teacher
    """The model that votes."""
    votes: int = 3
    """Votes on each pair."""
    needed: int = 2
    """Votes that must agree on an outcome."""
    prompt: str = PROMPT
    """What is asked, with places for {question}, {gold} and {claim}."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.votes / 2 < self.needed <= self.votes:
            raise VerifyError(
                f"{self.name}: {self.needed} of {self.votes} votes is not a majority. "
                "Give needed from more than half to all."
            )

        missing = [place for place in _PLACES if place not in self.prompt]
        if missing:
            raise VerifyError(
                f"{self.name}: the prompt has no place {missing[0]}. "
                "It needs {question}, {gold} and {claim}."
            )

    def request(self, pair: "AnswerPair", verdict: Verdict) -> Request | None:
        """What to ask about a pair that has a verdict, or None without an answer to judge.

        Args:
            pair: The response with its question and gold answer.
            verdict: The verdict of the rules, with the answer that was extracted.
        """
        # A judge that saw the whole response could be persuaded by it, so without an answer nothing
        # is asked.
        if verdict.extracted is None:
            return None

        options = "".join(f"\n{line}" for line in lettered(pair.options))
        values = {
            "question": pair.question.replace(IMAGE_MARK, "") + options,
            "gold": pair.gold,
            "claim": verdict.extracted,
        }
        # One pass, so that an answer which holds "{gold}" is not filled in again; the mark of an
        # image would ask for one.
        text = re.sub(
            r"\{(question|gold|claim)\}",
            lambda place: values[place[1]][:_LONGEST].replace(IMAGE_MARK, ""),
            self.prompt,
        )
        return self.teacher.request((Message("user", text),), (), self.votes)

    def requests(self, pair: "AnswerPair", verdict: Verdict) -> list[Request]:
        """All that is asked about a pair: one request, unless a subclass asks item by item.

        Args:
            pair: The response with its question and gold answer.
            verdict: The verdict of the rules.
        """
        request = self.request(pair, verdict)
        if request is None:
            return []

        return [request]

    def count(self, verdict: Verdict, answers: Sequence[Response]) -> Verdict:
        """The verdict after the votes.

        Args:
            verdict: The verdict of the rules.
            answers: The votes; fewer than were asked for when the judge failed.
        """
        votes = Counter(vote(answer) for answer in answers)
        # Votes that never came are no votes, so the same majority is needed.
        votes[None] += self.votes - len(answers)
        outcome: Outcome = UNDECIDED

        for candidate in (RIGHT, WRONG):
            if votes[candidate] >= self.needed:
                outcome = candidate

        cause = ""
        if outcome == UNDECIDED:
            # Without enough answers the judge said nothing; with them, it could not agree.
            cause = "judge down"
            if len(answers) >= self.needed:
                cause = "too close"

        said = f"{votes[RIGHT]} RIGHT, {votes[WRONG]} WRONG, {votes[None]} no vote"
        return replace(
            verdict,
            outcome=outcome,
            verifier=self.name,
            revision=self.revision,
            reason=f"{said}, of {self.votes} by {self.teacher.model_id}; {self.needed} are needed",
            cause=cause,
        )

    def count_all(
        self, pair: "AnswerPair", verdict: Verdict, answers: Sequence[Sequence[Response]]
    ) -> Verdict:
        """The verdict after the votes on all of `requests`.

        Args:
            pair: The response with its question and gold answer.
            verdict: The verdict of the rules.
            answers: The votes, request by request.
        """
        return self.count(verdict, answers[0])

    def verify_many(
        self, pairs: "Sequence[AnswerPair]", verdicts: Sequence[Verdict]
    ) -> list[Verdict]:
        """The verdicts, with those that are UNDECIDED put to the vote.

        Nothing is stored: in a recipe, use verify.Judged.

        Args:
            pairs: The responses with their questions and gold answers.
            verdicts: The verdicts of the rules, in the same order.
        """
        # Equal questions are asked once: many responses give the same answer.
        asked: dict[int, list[Request]] = {}

        for place, (pair, verdict) in enumerate(zip(pairs, verdicts, strict=True)):
            if verdict.outcome == UNDECIDED:
                asked[place] = self.requests(pair, verdict)

        by_key: dict[str, Request] = {}

        for requests in asked.values():
            # The key leaves out the pair, so equal questions of different responses share their
            # votes.
            by_key |= {request.key: request for request in requests}

        answers = self._ask(list(by_key.values()))
        judged = list(verdicts)

        for place, requests in asked.items():
            if requests:
                votes = [answers.get(request.key, []) for request in requests]
                judged[place] = self.count_all(pairs[place], verdicts[place], votes)

        return judged

    def _ask(self, requests: Sequence[Request]) -> dict[str, list[Response]]:
        if not requests:
            return {}

        size = self.teacher.batch
        batches = (requests[start : start + size] for start in range(0, len(requests), size))
        found: dict[str, list[Response]] = {}

        try:
            with self.teacher.open(1, _no_image, Budget()) as session:
                for answers in session.answer(iter(batches)):
                    for request, results in answers:
                        # One request may come back in parts.
                        found.setdefault(request.key, []).extend(
                            result for result in results if isinstance(result, Response)
                        )
        except TeacherError:
            # A judge that is down says nothing about the pairs it did not see: they have no votes,
            # and stay UNDECIDED with the cause "judge down".
            pass

        return found


def vote(answer: Response) -> Outcome | None:
    """What one answer of the judge votes for.

    The answer that it states, or its last line outside the thinking, must be the one word.
    """
    said = extract(answer.text).answer or visible(answer.text).strip().rpartition("\n")[2]
    match = _VOTE.fullmatch(said) if answer.finish_reason != "length" else None
    if match is None:
        return None
    if match[1].upper() == RIGHT:
        return RIGHT

    return WRONG


def _no_image(image: "ImageRef") -> bytes:
    raise VerifyError("a judge is never shown images.")
