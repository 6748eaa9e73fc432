"""Letters of options where the options are not known: D, (D), D. hexagon, A and C, ABD."""

import re
from dataclasses import dataclass

from omr_data.verifiers.answers.base import Answer, Reader, Rules
from omr_data.verifiers.base import Decision, right, too_close, wrong
from omr_data.verifiers.options import read_letters, split_label
from omr_data.verifiers.words import phrase


@dataclass(frozen=True, slots=True)
class Letters(Answer):
    """One letter or several, each that of an option."""

    letters: frozenset[str]
    """The letters, in capitals."""
    text: str = ""
    """The option's text, where one letter comes with it."""

    order = 55

    @classmethod
    def read(cls, text: str, parts: Reader) -> "Letters | None":
        # Signs of mathematics in the first characters mean a formula: "A = 5" is not option A.
        if len(text) > 200 or re.search(r"[=^_\\+*/<>]", text[:40]):
            return None

        letters = read_letters(text)
        if letters:
            return cls(frozenset(letters))

        labelled = split_label(text)
        if labelled is None:
            return None

        return cls(frozenset(labelled[0]), phrase(labelled[1]))

    def compare(self, claim: Answer, rules: Rules) -> Decision | None:
        if not isinstance(claim, Letters):
            return None
        if self.letters != claim.letters:
            return wrong("other letters")
        # The letter decides, but another text hints that the options were numbered otherwise.
        if self.text and claim.text and self.text != claim.text:
            return too_close("the same letter with another text")

        return right("the same letter")
