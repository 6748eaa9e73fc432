"""What a typed answer is.

**Answer**: a value of one type, read from a text of which every character is accounted for.
**Parsed**: all readings of one text: "1:10" is a time of day and a ratio, "(1, 2)" a point and an
open interval. **Rules**: the settings of a comparison.

Adding a type is adding one file to this folder, with one class derived from `Answer`; `parse` finds
it. It says how it is read, how it compares with its own type and, where that makes sense, with
types that existed before it.
"""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

from omr_data.verifiers.base import Decision

Parsed = tuple["Answer", ...]
Reader = Callable[[str], Parsed]
"""Reads a part of an answer into its readings; an empty tuple where there is none."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The settings of a comparison."""

    significant: int = 3
    """Significant digits that a rounded decimal needs to stand for a longer value."""
    units: Literal["required", "optional"] = "required"
    """Whether a bare number may stand for the gold value in the gold unit."""


# Not a Spec: types are found by `answer_types`, and the revision of the verifier covers them all.
class Answer:
    """Base of the typed answers."""

    order: ClassVar[int] = 100
    """When it is tried: smaller numbers first."""
    arity: ClassVar[Literal["one", "many", "either"]] = "either"
    """Whether it is always a single value, or always one with several parts: those two differ."""
    exclusive: ClassVar[bool] = False
    """Whether a text that this type reads has no other reading."""

    @classmethod
    @abstractmethod
    def read(cls, text: str, parts: Reader) -> Self | None:
        """The answer that a normalized text is, or None unless every character is accounted for.

        Args:
            text: A normalized text (see `normalize`).
            parts: Reads the parts of a composed answer.
        """

    @abstractmethod
    def compare(self, claim: "Answer", rules: Rules) -> Decision | None:
        """What a claim is worth against this gold answer; None for a type that is not comparable.

        Args:
            claim: One reading of the claim.
            rules: The settings of the comparison.
        """

    def compare_as_claim(self, gold: "Answer", rules: Rules) -> Decision | None:
        """The same, asked of the claim's type when the gold answer's type does not know it.

        Args:
            gold: One reading of the gold answer.
            rules: The settings of the comparison.
        """
        return None

    @property
    def alone(self) -> bool:
        """Whether this answer has no other reading; where that depends on the answer."""
        return self.exclusive

    @property
    def kind(self) -> str:
        """The name of its type, in words."""
        return type(self).__name__.lower()
