"""What a verifier is, and what it says.

**AnswerPair**: a response with its gold answer. **Claim**: what the response gives as its answer, after
extraction. **Verifier**: says which gold answers it `accepts`, and compares a claim with one of these.
**Decision**: what one verifier says of one claim. It is RIGHT or WRONG only where the verifier is
certain; what it cannot tell is UNDECIDED with a cause, and the next verifier of a cascade is asked.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

from omr_data.identity import Spec
from omr_data.records import RIGHT, UNDECIDED, WRONG, Outcome

Cause = Literal[
    "",
    "unstated",
    "unreadable",
    "other kind",
    "contradictory",
    "too close",
    "cut off",
    "timed out",
    "judge down",
]
"""Why a verdict is UNDECIDED; empty for RIGHT and WRONG.

unstated: no answer outside the thinking. unreadable: no typed answer accounts for all of its text.
other kind: its type cannot be compared with the gold answer's. contradictory: two statements with
different values. too close: read and compared, and rules cannot tell. cut off: the response reached
its token limit. timed out: the pair's deadline passed. judge down: the judge could not be asked.
"""


@dataclass(frozen=True, slots=True)
class AnswerPair:
    """A response with the gold answer that it is compared with."""

    response: str
    """The whole text, thinking included."""
    gold: str
    """The gold answer, as the source gives it."""
    options: tuple[str, ...] = ()
    """The texts of the options, in order; empty for open questions."""
    finish_reason: str = "stop"
    """How the response ended: "stop", or "length" when it was cut off."""
    question: str = ""
    """The question; only a judge reads it."""
    task: str = "maths"
    """Which cascade decides (see `tasks`)."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What one verifier says of one claim."""

    outcome: Outcome
    """RIGHT, WRONG or UNDECIDED."""
    reason: str
    """Why, in words."""
    cause: Cause = ""
    """Why it is UNDECIDED, as one of a few names."""
    final: bool = True
    """Whether the cascade ends here. An UNDECIDED decision is final when the verifier has read
    both answers and knows that rules cannot tell them apart."""
    score: float | None = None
    """Partial credit in [0, 1], where the task gives it."""


def right(reason: str) -> Decision:
    """A decision for RIGHT."""
    return Decision(RIGHT, reason)


def wrong(reason: str) -> Decision:
    """A decision for WRONG."""
    return Decision(WRONG, reason)


def too_close(reason: str) -> Decision:
    """Read and compared, and still not to be told by rule: only a judge may decide."""
    return Decision(UNDECIDED, reason, "too close")


def other_kind(reason: str) -> Decision:
    """Both are read, and of types that are not compared."""
    return Decision(UNDECIDED, reason, "other kind", final=False)


def unreadable(reason: str) -> Decision:
    """Not a claim that this verifier can read: the next one is asked."""
    return Decision(UNDECIDED, reason, "unreadable", final=False)


def scored(score: float, needed: float, reason: str) -> Decision:
    """The decision of a task's own metric: RIGHT when the score reaches what is needed.

    Args:
        score: Partial credit in [0, 1].
        needed: The least score that counts as RIGHT.
        reason: The measured value, in words.
    """
    outcome: Outcome = RIGHT if score >= needed else WRONG
    return Decision(outcome, reason, score=score)


@dataclass(frozen=True)
class Verifier(Spec):
    """Base of the verifiers. Bump `revision` whenever a verdict changes."""

    reads_response: ClassVar[bool] = False
    """Whether `decide` gets the whole visible response in place of the extracted answer."""

    @abstractmethod
    def accepts(self, gold: str, options: tuple[str, ...]) -> bool:
        """Whether this verifier knows this kind of gold answer.

        Args:
            gold: The gold answer as the source gives it.
            options: The texts of the options.
        """

    @abstractmethod
    def decide(self, claim: str, gold: str, options: tuple[str, ...]) -> Decision:
        """Compares a claim with a gold answer that was accepted.

        Args:
            claim: The answer that was extracted, or the whole response (see `reads_response`).
            gold: The gold answer as the source gives it.
            options: The texts of the options.
        """
