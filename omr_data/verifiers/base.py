"""What a verifier is.

**AnswerPair**: a response with its gold answer. **Claim**: what the response gives as its answer, after extraction.
**Verifier**: says which gold answers it `accepts`, and compares a claim with one of these. It decides RIGHT or WRONG only
where it is certain; what it cannot tell is UNDECIDED, and the next verifier of a cascade is asked.
"""

from abc import abstractmethod
from dataclasses import dataclass

from omr_data.identity import Spec
from omr_data.records import RIGHT, UNDECIDED, WRONG, Outcome


@dataclass(frozen=True, slots=True)
class AnswerPair:
    """A response (whole text, thinking included) and the gold answer; `question` is for a judge only."""

    response: str
    gold: str
    options: tuple[str, ...] = ()
    finish_reason: str = "stop"
    question: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """What one verifier says of one claim. A `final` one ends the cascade even if it is UNDECIDED: the verifier has read both
    answers, and knows that they cannot be told apart by rule."""

    outcome: Outcome
    reason: str
    final: bool = True


def right(reason: str) -> Decision:
    """A decision for RIGHT."""
    return Decision(RIGHT, reason)


def wrong(reason: str) -> Decision:
    """A decision for WRONG."""
    return Decision(WRONG, reason)


def unsure(reason: str) -> Decision:
    """Read and compared, and still not to be told by rule: only a judge may decide."""
    return Decision(UNDECIDED, reason)


def undecided(reason: str) -> Decision:
    """Not a claim that this verifier can read: the next one is asked."""
    return Decision(UNDECIDED, reason, final=False)


@dataclass(frozen=True)
class Verifier(Spec):
    """Base of the verifiers. Bump `revision` whenever a verdict changes."""

    @abstractmethod
    def accepts(self, gold: str, options: tuple[str, ...]) -> bool:
        """Whether this verifier knows this kind of gold answer. `gold` is cleaned (see `extract.clean`)."""

    @abstractmethod
    def decide(self, claim: str, gold: str, options: tuple[str, ...]) -> Decision:
        """Compares a cleaned claim with a gold answer that was accepted."""
