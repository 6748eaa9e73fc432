"""The order in which verifiers are asked: the first final decision counts.

    cascade.Verifier()                             the order for maths
    cascade.Verifier(verifiers=(typed.Verifier(),))

A response is judged by what it states outside its thinking. One that states no answer is
UNDECIDED with the cause "unstated", or "cut off" where it reached its token limit; it is never
WRONG. One that is the gold answer word for word is RIGHT.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from omr_data.errors import VerifyError
from omr_data.identity import Spec
from omr_data.records import RIGHT, UNDECIDED, WRONG, Verdict
from omr_data.verifiers import base, choice, typed
from omr_data.verifiers.answers import parse
from omr_data.verifiers.answers.base import Rules
from omr_data.verifiers.answers.collection import split_items
from omr_data.verifiers.base import AnswerPair, Cause, Decision, right
from omr_data.verifiers.compare import compare
from omr_data.verifiers.deadline import TimedOut, deadline
from omr_data.verifiers.extract import Extraction, extract_visible, visible
from omr_data.verifiers.normalize import normalize

Step: TypeAlias = tuple[str, str]
"""What was asked, and what came of it: a line of an explanation."""

# Choices come first: with options, "B" is a letter; without them, they accept nothing.
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
        if len(pair.golds) <= 1:
            *_, last = self._path(pair)
            return last.verdict()
        if pair.accept == "all":
            # All of them are one list, which is compared without regard to order.
            return self.verify(replace(pair, gold=", ".join(pair.golds), golds=()))

        # Any one is enough, so the best outcome counts; WRONG needs all of them to be WRONG.
        found = [self.verify(replace(pair, gold=gold, golds=())) for gold in pair.golds]

        for outcome in (RIGHT, UNDECIDED):
            for verdict in found:
                if verdict.outcome == outcome:
                    return verdict

        return found[0]

    def verify_many(self, pairs: Sequence[AnswerPair]) -> list[Verdict]:
        """The verdicts on many pairs, in order."""
        return [self.verify(pair) for pair in pairs]

    def explain(self, pair: AnswerPair) -> list[Step]:
        """Each thing that was looked at or asked, and what came of it; the last is the verdict."""
        steps: list[Step] = []
        if len(pair.golds) > 1:
            last = self.verify(pair)
            return [("verdict", f"{last.outcome} by {last.verifier}: {last.reason}")]
        for looked in self._path(pair):
            steps.append((looked.name, looked.said))
            last = looked.verdict()

        said = f"{last.outcome} by {last.verifier}/{last.revision}: {last.reason}"
        return [*steps, ("verdict", said)]

    def _path(self, pair: AnswerPair) -> Iterator["_Looked"]:
        """What was looked at, step by step; the decision of the last one is the verdict."""
        text = visible(pair.response)
        reads_all = any(verifier.reads_response for verifier in self.verifiers)
        # Before any extraction: a proof or a sentence equals itself even if no type reads it.
        same = len(text) <= _LONGEST and text.strip() == pair.gold.strip() != ""
        if same and not reads_all:
            decision = right("the response is the gold answer, word for word")
            yield _Looked("extract", self, text.strip(), decision)
            return

        found = extract_visible(text, pair.options)
        answer = found.answer
        # Several boxes are one list where the gold answer has as many parts.
        if len(found.parts) > 1 and not pair.options:
            parts = split_items(normalize(pair.gold).strip("()[]⦃⦄{}"))
            if len(parts) == len(found.parts):
                answer = ", ".join(found.parts)

        cut = pair.finish_reason == "length"
        if cut and (found.answer is None or found.open_ended):
            # An answer at the very end may be the beginning of a longer one.
            decision = Decision(UNDECIDED, "cut off before an answer was stated", "cut off")
            yield _Looked("extract", self, None, decision)
            return

        cause: Cause = "unstated" if answer is None else "other kind"
        yield _Looked("extract", self, answer, Decision(UNDECIDED, found.how, cause))
        if answer is None and not reads_all:
            return
        try:
            with deadline():
                if _contradicts(found, answer):
                    decision = Decision(UNDECIDED, "it states two values", "contradictory")
                    yield _Looked(self.name, self, answer, decision)
                    return

                yield from self._ask(pair, answer, text)
        except TimedOut:
            decision = Decision(UNDECIDED, "the deadline of the pair passed", "timed out")
            yield _Looked(self.name, self, answer, decision)

    def _ask(self, pair: AnswerPair, answer: str | None, text: str) -> Iterator["_Looked"]:
        """Asks the verifiers in turn, and compares word for word where none of them knows more."""
        # Where no verifier knows the gold answer, this is what is said about the pair.
        last = _OTHER

        for verifier in self.verifiers:
            claim = answer
            if verifier.reads_response:
                claim = text
            # A step is shown for what was skipped too, so that --explain leaves nothing unsaid.
            if claim is None or not verifier.accepts(pair.gold, pair.options):
                yield _Looked(verifier.name, self, answer, last, skipped=True)
                continue

            last = verifier.decide(claim, pair.gold, pair.options)
            yield _Looked(verifier.name, verifier, answer, last)
            if last.final:
                return

        if answer is not None and normalize(answer) == normalize(pair.gold) != "":
            yield _Looked(self.name, self, answer, right("the same text"))


@dataclass(frozen=True, slots=True)
class _Looked:
    """One step: what was asked, and what it decided."""

    name: str
    """What was asked."""
    spec: Spec
    """Who decided."""
    extracted: str | None
    """The answer that was read."""
    decision: Decision
    """What was decided so far."""
    skipped: bool = False
    """Whether it does not know this kind of gold answer."""

    @property
    def said(self) -> str:
        """What came of it, in words."""
        if self.name == "extract":
            shown = "" if self.extracted is None else f": {self.extracted}"
            return f"{self.decision.reason}{shown}"
        if self.skipped:
            return "does not know this kind of gold answer"

        return f"{self.decision.outcome}: {self.decision.reason}"

    def verdict(self) -> Verdict:
        """The verdict, if this is the last step."""
        decision = self.decision
        return Verdict(
            decision.outcome,
            self.spec.name,
            self.spec.revision,
            self.extracted,
            decision.reason,
            decision.cause,
            decision.score,
        )


_OTHER = Decision(UNDECIDED, "no verifier knows this kind of gold answer", "other kind")
STANDARD = Verifier()
"""The default cascade."""


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
