"""Gold answers: their type, what is fragile about them, and whether they match themselves.

A gold answer that its own re-renderings (bare, in tags, in a box, after a phrase) do not match is
dropped: no response could ever be right for it, whatever it says.
"""

import re
from dataclasses import dataclass
from typing import Protocol

from omr_data.records import RIGHT, Verdict
from omr_data.verifiers import choice
from omr_data.verifiers.answers import parse
from omr_data.verifiers.answers.letters import Letters
from omr_data.verifiers.base import AnswerPair
from omr_data.verifiers.normalize import normalize
from omr_data.verifiers.scanner import ITEM

RENDERINGS = (
    "<answer>{}</answer>",
    "So we get \\boxed{{{}}}",
    "First we look.\n\nThe answer is {}",
)
_NAMES_NONE = "the gold answer is not right against itself: it names none of the options"
_LETTERED = ("maths", "choice", "chart")
"""Tasks whose gold answer may be the letter of an option."""
_PROSE = 12
"""More words than this are prose."""
_PROVE = re.compile(
    r"\b(?:prove|show) that\b|\bproof\b|\bsee (?:solution|above)\b|证明", re.IGNORECASE
)
_BLANKS = re.compile(r"\(\s*1\s*\).*\(\s*2\s*\)|①.*②", re.DOTALL)


class Decides(Protocol):
    """A cascade, or a table of tasks."""

    def verify(self, pair: AnswerPair) -> Verdict: ...


@dataclass(frozen=True, slots=True)
class GoldCheck:
    """What is known of a gold answer."""

    answer_type: str
    """The type of its first reading, or "literal" where no type reads it."""
    fragile: str = ""
    """Why it is fragile; empty where it is not."""
    dropped: str = ""
    """Why its record is dropped; empty where it stays."""


def check_gold(
    verifier: Decides, gold: str, options: tuple[str, ...] = (), task: str = "maths"
) -> GoldCheck:
    """Checks one gold answer against itself.

    Args:
        verifier: What will decide on the responses.
        gold: The gold answer.
        options: The texts of the options.
        task: The task of its record.
    """
    readings = parse(gold)
    kind = "literal"
    if readings:
        kind = readings[0].kind
    if not gold.strip():
        return GoldCheck(kind, "empty", "the gold answer is empty")
    # As letters alone, "D" and "D" are equal, but nobody who sees two options can choose a fourth.
    if (
        task in _LETTERED
        and options
        and readings
        and isinstance(readings[0], Letters)
        and not choice.Verifier().accepts(gold, options)
    ):
        return GoldCheck(kind, "", _NAMES_NONE)
    if task != "maths":
        # A task's own metric reads its own gold answers: boxes, rubrics, objects.
        return GoldCheck(task)
    # One rendering that fails is enough: a response in that form would be refused.
    for rendering in RENDERINGS:
        verdict = verifier.verify(AnswerPair(rendering.format(gold), gold, options))
        if verdict.outcome != RIGHT:
            dropped = f"the gold answer is not right against itself: {verdict.outcome}"
            return GoldCheck(kind, _fragility(gold, bool(options), kind), dropped)

    return GoldCheck(kind, _fragility(gold, bool(options), kind))


def _fragility(gold: str, has_options: bool, kind: str) -> str:
    """Why only some right responses will match a gold answer, or an empty text."""
    plain = normalize(gold)
    # Half a formula: the source was cut off, or its markup was damaged.
    if gold.count("{") != gold.count("}") or gold.count("$") % 2:
        return "unbalanced"
    if _PROVE.search(gold):
        return "a proof"
    if _BLANKS.search(gold) or ITEM in plain:
        return "several blanks"
    if len(plain.split()) > _PROSE:
        return "prose"
    if kind == "literal" and not has_options:
        return "matches only word for word"

    return ""
