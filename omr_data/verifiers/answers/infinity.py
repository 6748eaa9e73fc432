"""Infinity and minus infinity."""

import re
from dataclasses import dataclass

from omr_data.verifiers.answers.base import Answer, Reader, Rules
from omr_data.verifiers.base import Decision, decided, wrong

_INFINITY = re.compile(r"([+-]?)\s*(?:(positive|negative)\s+)?(?:∞|infinity|infinite)")


@dataclass(frozen=True, slots=True)
class Infinity(Answer):
    """One of the two infinities."""

    negative: bool
    """Whether it is minus infinity."""

    order = 9
    arity = "one"
    exclusive = True

    @classmethod
    def read(cls, text: str, parts: Reader) -> "Infinity | None":
        match = _INFINITY.fullmatch(text)
        if match is None:
            return None

        return cls((match[1] == "-") != (match[2] == "negative"))

    def compare(self, claim: Answer, rules: Rules) -> Decision | None:
        if not isinstance(claim, Infinity):
            if claim.arity == "one":
                return wrong("the gold answer is infinite")

            return None

        same = self.negative == claim.negative
        return decided(same, "the same infinity", "the other infinity")

    def compare_as_claim(self, gold: Answer, rules: Rules) -> Decision | None:
        if gold.arity == "one":
            return wrong("it is infinite")

        return None
