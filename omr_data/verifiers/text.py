"""Words: yes and no, single words and short phrases, without regard to case and articles."""

import re
from dataclasses import dataclass

from rapidfuzz import fuzz

from omr_data.verifiers import base
from omr_data.verifiers.base import Decision, right, unsure, wrong
from omr_data.verifiers.words import phrase

_PHRASE = re.compile(r"[^\W\d_]+(?:['-][^\W\d_]+)*(?: [^\W\d_]+(?:['-][^\W\d_]+)*){0,4}")
_TRUTH = {"yes": True, "no": False, "true": True, "false": False}
_NEAR = 80.0


@dataclass(frozen=True)
class Verifier(base.Verifier):
    """Accepts a gold answer of one to five words, letters only; one or two letters belong to choices and formulas.

    Another word is WRONG, unless it is so like the gold word (plural, spelling) or so much longer that a person must look.
    """

    def accepts(self, gold: str, options: tuple[str, ...]) -> bool:
        words = phrase(gold)
        return (
            "\\" not in gold
            and _PHRASE.fullmatch(words) is not None
            and (len(words.split()[0]) > 2 or words in _TRUTH)
        )

    def decide(self, claim: str, gold: str, options: tuple[str, ...]) -> Decision:
        said, wanted = phrase(claim), phrase(gold)
        if said == wanted:
            return right("the same words")
        if wanted in _TRUTH:
            return self._truth(said, wanted)
        if f" {wanted} " in f" {said} " or f" {said} " in f" {wanted} ":
            return unsure("one answer holds the words of the other")
        if fuzz.ratio(said[:200], wanted) >= _NEAR:
            return unsure("the words are nearly the same")
        return wrong(f'"{_short(said)}" is not "{wanted}"')

    def _truth(self, said: str, wanted: str) -> Decision:
        first = re.match(r"\w+(?=[,.;:]|$)", said)
        if first is None or first[0] not in _TRUTH:
            return unsure("it is neither yes nor no")
        same = _TRUTH[first[0]] == _TRUTH[wanted]
        return right(f"it says {first[0]}") if same else wrong(f"it says {first[0]}")


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
