"""Words: single words and short phrases, without regard to case and articles."""

import re
from dataclasses import dataclass

from rapidfuzz import fuzz

from omr_data.verifiers.answers.base import Answer, Reader, Rules
from omr_data.verifiers.base import Decision, right, too_close, wrong
from omr_data.verifiers.words import phrase

_WORDS = re.compile(r"[^\W\d_]+(?:['.-]?[\w]+)*(?:[ ,]{1,2}[\w'.&-]+){0,7}")
_LISTED = re.compile(r"[_,;]| and | or ")
"""A text with these is a list of words, or no words at all."""
_NEAR = 80.0


@dataclass(frozen=True, slots=True)
class Words(Answer):
    """One to eight words."""

    text: str
    """The words in lower case, without articles."""

    order = 70

    @classmethod
    def read(cls, text: str, parts: Reader) -> "Words | None":
        if len(text) > 120 or _LISTED.search(text) or not _WORDS.fullmatch(text):
            return None

        said = phrase(text)
        # One or two Latin letters belong to choices and formulas.
        if len(said) > 2 or not said.isascii():
            return cls(said)

        return None

    def compare(self, claim: Answer, rules: Rules) -> Decision | None:
        """Another word is WRONG, unless it is so like the gold word, or so much longer, that a
        person must look."""
        if not isinstance(claim, Words):
            return None

        said, wanted = claim.text, self.text
        if said == wanted:
            return right("the same words")
        # "red circle" for "circle" may say more, or something else: a person must look.
        if f" {wanted} " in f" {said} " or f" {said} " in f" {wanted} ":
            return too_close("one answer holds the words of the other")

        # Chinese has no spaces between its words.
        spaced = said.isascii() and wanted.isascii()
        if not spaced and (wanted in said or said in wanted):
            return too_close("one answer holds the words of the other")
        if fuzz.ratio(said, wanted) >= _NEAR:
            # Similarity of letters hides a digit, and the digit is usually the answer.
            if re.sub(r"\D", "", said) != re.sub(r"\D", "", wanted):
                return wrong("another number in the same words")

            return too_close("the words are nearly the same")

        return wrong("other words")
