"""What a response gives as its answer, and how it says so. The last statement wins.

A statement is a tag, a box, a heading, JSON, a phrase of `languages`, a last line that is only an
answer, or a last sentence that opens with a word of conclusion and holds exactly one answer.
Thinking never supplies one, and nothing is guessed: a response that states no answer has none.

    visible text -> statements, in order -> the last one -> Extraction
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from omr_data.verifiers.clauses import Statement
from omr_data.verifiers.statements import find_statements

_THINK = re.compile(r"<(/?)(?:think|thinking|thought)>", re.IGNORECASE)
_FORMAT = re.compile(
    r"\s*<think>(?P<think>.*?)</think>\s*<answer>(?P<answer>.*?)</answer>\s*", re.DOTALL
)
_TRAILING = re.compile(r"(?:<\|?(?:im_end|end_of_utterance|endoftext|eot_id)\|?>|</s>|\s)+$")
_LONGEST = 4_000
_TAIL = 60_000
"""Characters at the end of a response that are searched: a statement before them was followed by
twenty pages of text. It bounds the time that a text of megabytes takes."""
_CORRECTION = re.compile(
    r"\b(?:let me|correct|wait|no|not|actually|correction|sorry|rather|instead|oops|hmm|"
    r"mistake|recheck|but|then|"
    r"so|therefore|finally|now|hence|thus)\b|不对|应该|更正|所以",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)|[。！？\n]")


@dataclass(frozen=True, slots=True)
class Extraction:
    """The answer that a response states."""

    answer: str | None
    """The answer as it was written; None where none is stated."""
    how: str
    """Where it was found, or why there is none."""
    parts: tuple[str, ...] = ()
    """The answers of several boxes that stand together: a list, where the gold answer is one."""
    rival: str | None = None
    """Another answer, stated in the same sentence: where their values differ, they contradict."""
    open_ended: bool = False
    """Whether it runs to the end of the text without a closing mark, so that a response that was
    cut off there may have been about to say more."""


def extract(response: str, options: Sequence[str] = ()) -> Extraction:
    """Returns the answer that a response states, in time linear in its length.

    Args:
        response: The whole text, thinking included.
        options: The texts of the options: a last line that is one of them is an answer.
    """
    return extract_visible(visible(response), options)


def extract_visible(text: str, options: Sequence[str] = ()) -> Extraction:
    """The same of a response without its thinking.

    Args:
        text: The visible text.
        options: The texts of the options.
    """
    # Chat tokens at the end of a turn are no part of what was said.
    text = text[-_TAIL:].strip()
    if text.endswith(">"):
        text = _TRAILING.sub("", text)

    if not text:
        return Extraction(None, "the response has no text outside the thinking")

    # All statements are found before one is chosen: the last one of several forms wins.
    statements = find_statements(text, options)
    if not statements:
        return Extraction(None, "no answer is stated outside the thinking")

    # Models correct themselves, so what is said last counts.
    last = statements[-1]
    together = _together(text, statements)
    rival = _rival(text, statements)
    return Extraction(
        last.answer[:_LONGEST],
        last.how,
        tuple(one.answer for one in together),
        None if rival is None else rival.answer,
        last.open_ended,
    )


def visible(response: str) -> str:
    """Returns the response without its thinking.

    Thinking is a complete <think> block, what stands before a lone </think>, and what stands after
    a lone <think>.
    """
    # Depth is counted, because models open <think> inside their thinking.
    kept: list[str] = []
    depth = last = 0

    for tag in _THINK.finditer(response):
        if not tag[1]:
            if depth == 0:
                kept.append(response[last : tag.start()])

            depth += 1
        elif depth == 0:
            kept = []
        else:
            depth -= 1

        last = tag.end()

    if depth == 0:
        kept.append(response[last:])

    return "".join(kept)


def has_format(response: str) -> bool:
    """Whether a response is exactly `<think>..</think><answer>..</answer>`, each tag once.

    The format reward of RL is this, 0 or 1.
    """
    match = _FORMAT.fullmatch(response)
    if match is None:
        return False

    tags = ("<think>", "</think>", "<answer>", "</answer>")
    return not any(tag in part for part in match.groups() for tag in tags)


def _together(text: str, statements: list[Statement]) -> list[Statement]:
    """The last boxes, as far as one sentence or line joins them: "\\boxed{6} and \\boxed{9}"."""
    # Read backwards, since only boxes that end the response may be its answer.
    found: list[Statement] = []

    for one in reversed(statements):
        if one.how != "in \\boxed":
            break

        between = ""
        if found:
            between = text[one.end : found[0].start]
        if _SENTENCE_END.search(between) or len(between) > 80:
            break

        found.insert(0, one)

    if len(found) > 1:
        return found

    return []


def _rival(text: str, statements: list[Statement]) -> Statement | None:
    """A statement before the last one that stands in its sentence, without a correction between.

    A complete <answer> that is followed by another tag or box without a word between is one too.
    """
    if len(statements) < 2:
        return None

    before, last = statements[-2:]
    # The same answer twice is emphasis and not a contradiction.
    if before.answer.strip() == last.answer.strip():
        return None

    between = text[before.end : last.start]
    if _CORRECTION.search(between):
        return None

    tagged = before.how == "in <answer>"
    if not re.search(r"\w", re.sub(r"</?\w+>|\\boxed|\\text", "", between)):
        # Without a word between them, tags contradict across lines too; other forms do not.
        same_line = "\n" not in between
        if tagged or same_line:
            return before

        return None

    weak = last.how in ("the last line", "a concluding sentence")
    if weak or (tagged and not re.search(r"\bor\b|或", between)):
        # Words after a tag lead to a statement of their own, which is then the last one.
        return None
    if not _SENTENCE_END.search(between):
        return before

    return None
