"""The order in which verifiers are asked: cheap and certain ones first, and the first decision counts.

    cascade.Verifier()                             the default order
    cascade.Verifier(verifiers=(numeric.Verifier(),))

A response is judged by what it states outside its thinking. One that was cut off before it stated an answer is UNDECIDED;
one that ended without stating any is WRONG.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from omr_data.errors import VerifyError
from omr_data.identity import Spec
from omr_data.records import RIGHT, UNDECIDED, WRONG, Verdict
from omr_data.verifiers import base, choice, math_equal, numeric, text, time, units
from omr_data.verifiers.base import AnswerPair, Decision
from omr_data.verifiers.extract import Extraction, clean, extract

Step: TypeAlias = tuple[str, str]
"""What was asked, and what came of it: a line of an explanation."""

DEFAULT: tuple[base.Verifier, ...] = (
    choice.Verifier(),
    numeric.Verifier(),
    time.Verifier(),
    text.Verifier(),
    units.Verifier(),
    math_equal.Verifier(),
)


@dataclass(frozen=True)
class Verifier(Spec):
    """Verifiers in the order in which they are asked. Raises VerifyError when there is none."""

    verifiers: tuple[base.Verifier, ...] = DEFAULT

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
        """Each thing that was looked at or asked, and what came of it; the last one is the verdict."""
        steps: list[Step] = []
        for verdict, step in self._path(pair):
            steps.append(step)
            last = verdict
        return [
            *steps,
            ("verdict", f"{last.outcome} by {last.verifier}/{last.revision}: {last.reason}"),
        ]

    def _path(self, pair: AnswerPair) -> Iterator[tuple[Verdict, Step]]:
        """The verdict so far, step by step."""
        found = extract(pair.response)
        verdict = self._unstated(pair, found)
        yield (
            verdict,
            ("extract", f"{found.how}: {found.answer}" if found.answer is not None else found.how),
        )
        if found.answer is None:
            return
        claim, gold = clean(found.answer), clean(pair.gold)
        asked = 0
        for verifier in self.verifiers:
            if not verifier.accepts(gold, pair.options):
                yield verdict, (verifier.name, "does not know this kind of gold answer")
                continue
            asked += 1
            decision = verifier.decide(claim, gold, pair.options)
            verdict = _verdict(verifier, found.answer, decision)
            yield verdict, (verifier.name, f"{decision.outcome}: {decision.reason}")
            if decision.final:
                return
        if not asked:
            decision = (
                Decision(RIGHT, "the same text")
                if claim == gold
                else Decision(UNDECIDED, "no verifier knows this kind of gold answer")
            )
            verdict = _verdict(self, found.answer, decision)
            yield verdict, (self.name, decision.reason)

    def _unstated(self, pair: AnswerPair, found: Extraction) -> Verdict:
        """The verdict where no answer is stated."""
        if pair.finish_reason == "length":
            return Verdict(
                UNDECIDED, self.name, self.revision, None, "cut off before an answer was stated"
            )
        return Verdict(WRONG, self.name, self.revision, None, found.how)


STANDARD = Verifier()
"""The default cascade."""


def _verdict(verifier: Spec, extracted: str, decision: Decision) -> Verdict:
    return Verdict(decision.outcome, verifier.name, verifier.revision, extracted, decision.reason)
