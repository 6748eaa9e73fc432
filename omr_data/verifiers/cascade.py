"""The order in which verifiers are asked: the first final decision counts.

    cascade.Verifier()                             the order for maths
    cascade.Verifier(verifiers=(typed.Verifier(),))

A response is judged by what it states outside its thinking. One that states no answer is UNDECIDED
with the cause "unstated", or "cut off" where it reached its token limit; it is never WRONG. One that
is the gold answer word for word is RIGHT.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from omr_data.errors import VerifyError
from omr_data.identity import Spec
from omr_data.records import UNDECIDED, WRONG, Verdict
from omr_data.verifiers import base, choice, typed
from omr_data.verifiers.answers import parse
from omr_data.verifiers.answers.base import Rules
from omr_data.verifiers.answers.collection import split_items
from omr_data.verifiers.base import AnswerPair, Cause, Decision, right
from omr_data.verifiers.compare import compare
from omr_data.verifiers.deadline import TimedOut, deadline
from omr_data.verifiers.extract import Extraction, extract, visible
from omr_data.verifiers.normalize import normalize

Step: TypeAlias = tuple[str, str]
"""What was asked, and what came of it: a line of an explanation."""

DEFAULT: tuple[base.Verifier, ...] = (choice.Verifier(), typed.Verifier())
_LONGEST = 20_000
"""A response longer than this is not compared word for word."""


@dataclass(frozen=True)
class Verifier(Spec):
    """Verifiers in the order in which they are asked. Raises VerifyError when there is none."""

    revision = 2

    verifiers: tuple[base.Verifier, ...] = DEFAULT
    """The verifiers, the first one first."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.verifiers:
            raise VerifyError(
                "cascade.Verifier has no verifiers. Leave the field out for the default order."
            )

    def verify(self, pair: AnswerPair) -> Verdict:
        """The verdict on one pair. Never raises for what a response holds."""
        *_, (verdict, _) = self._path(pair)
        return verdict

    def verify_many(self, pairs: Sequence[AnswerPair]) -> list[Verdict]:
        """The verdicts on many pairs, in order."""
        return [self.verify(pair) for pair in pairs]

    def explain(self, pair: AnswerPair) -> list[Step]:
        """Each thing that was looked at or asked, and what came of it; the last is the verdict."""
        steps: list[Step] = []
        for verdict, step in self._path(pair):
            steps.append(step)
            last = verdict
        said = f"{last.outcome} by {last.verifier}/{last.revision}: {last.reason}"
        return [*steps, ("verdict", said)]

    def _path(self, pair: AnswerPair) -> Iterator[tuple[Verdict, Step]]:
        """The verdict so far, step by step."""
        text = visible(pair.response)
        if len(text) <= _LONGEST and text.strip() and text.strip() == pair.gold.strip():
            decision = right("the response is the gold answer, word for word")
            yield self._verdict(self, text.strip(), decision), ("extract", decision.reason)
            return
        found = extract(pair.response, pair.options)
        answer = _answer(found, pair)
        stated = self._unstated(pair, found)
        shown = found.how if answer is None else f"{found.how}: {answer}"
        yield stated, ("extract", shown)
        reads_all = any(verifier.reads_response for verifier in self.verifiers)
        if stated.cause == "cut off" or (answer is None and not reads_all):
            return
        try:
            with deadline():
                if _contradicts(found, answer):
                    decision = Decision(UNDECIDED, "it states two values", "contradictory")
                    yield self._verdict(self, answer, decision), (self.name, decision.reason)
                    return
                yield from self._ask(pair, answer, text)
        except TimedOut:
            decision = Decision(UNDECIDED, "the deadline of the pair passed", "timed out")
            yield self._verdict(self, answer, decision), (self.name, decision.reason)

    def _ask(
        self, pair: AnswerPair, answer: str | None, text: str
    ) -> Iterator[tuple[Verdict, Step]]:
        """Asks the verifiers in turn, and compares word for word where none of them knows more."""
        last: Decision | None = None
        for verifier in self.verifiers:
            claim = text if verifier.reads_response else answer
            if claim is None or not verifier.accepts(pair.gold, pair.options):
                yield (
                    self._verdict(self, answer, last or _OTHER),
                    (verifier.name, "does not know this kind of gold answer"),
                )
                continue
            decision = verifier.decide(claim, pair.gold, pair.options)
            last = decision
            said = f"{decision.outcome}: {decision.reason}"
            yield self._verdict(verifier, answer, decision), (verifier.name, said)
            if decision.final:
                return
        if answer is not None and normalize(answer) == normalize(pair.gold) != "":
            decision = right("the same text")
            yield self._verdict(self, answer, decision), (self.name, decision.reason)

    def _unstated(self, pair: AnswerPair, found: Extraction) -> Verdict:
        """The verdict where no answer is stated, or where it was cut off in the middle of one."""
        cut = pair.finish_reason == "length"
        if cut and (found.answer is None or found.open_ended):
            decision = Decision(UNDECIDED, "cut off before an answer was stated", "cut off")
            return self._verdict(self, None, decision)
        cause: Cause = "unstated" if found.answer is None else "other kind"
        return self._verdict(self, found.answer, Decision(UNDECIDED, found.how, cause))

    @staticmethod
    def _verdict(verifier: Spec, extracted: str | None, decision: Decision) -> Verdict:
        return Verdict(
            decision.outcome,
            verifier.name,
            verifier.revision,
            extracted,
            decision.reason,
            decision.cause,
            decision.score,
        )


_OTHER = Decision(UNDECIDED, "no verifier knows this kind of gold answer", "other kind")
STANDARD = Verifier()
"""The default cascade."""


def _answer(found: Extraction, pair: AnswerPair) -> str | None:
    """The answer to compare: several boxes are one list where the gold answer has several parts."""
    if len(found.parts) > 1 and not pair.options:
        parts = split_items(normalize(pair.gold).strip("()[]⦃⦄{}"))
        if len(parts) == len(found.parts):
            return ", ".join(found.parts)
    return found.answer


def _contradicts(found: Extraction, answer: str | None) -> bool:
    """Whether another statement of the same sentence has another value."""
    if found.rival is None or found.answer is None or answer != found.answer:
        return False
    one, other = parse(found.rival), parse(found.answer)
    if not one or not other:
        return normalize(found.rival).lower() != normalize(found.answer).lower()
    return (
        compare(one, other, Rules()).outcome == WRONG
        or compare(other, one, Rules()).outcome == WRONG
    )
