"""The forms in which responses state answers, each with a finder. `extract` picks the last one."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from omr_data.verifiers import languages
from omr_data.verifiers.answers import parse
from omr_data.verifiers.normalize import normalize
from omr_data.verifiers.options import read_letters, split_label
from omr_data.verifiers.scanner import balanced
from omr_data.verifiers.sentences import is_only_answer, sole_answer
from omr_data.verifiers.words import phrase


@dataclass(frozen=True, slots=True)
class Statement:
    """One place where a response states an answer."""

    start: int
    """Where it begins, with its marks."""
    end: int
    """Where it ends, with its marks."""
    answer: str
    """The answer as it was written."""
    how: str
    """Its form, in words."""
    open_ended: bool = False
    """Whether nothing closes it."""


_TAG = re.compile(r"<(/?)(answer|conclusion|final_answer|final answer)>", re.IGNORECASE)
_BOX = re.compile(r"\\(?:boxed|fbox)\s*(?=\{)")
_GLM = re.compile(r"<\|begin_of_box\|>(.*?)(?:<\|end_of_box\|>|$)", re.DOTALL)
_HASHES = re.compile(r"####[ \t]*([^\n]*\S)")
_HEADING = re.compile(
    r"^[ \t]*(?:#{1,6}[ \t]*\**|\*\*)(?:final |correct )?(?:answer|最终答案|答案|conclusion)(?![a-z])"
    r"[ \t]*[:：]?\**[ \t]*[:：]?[ \t]*(?:\n\s*|$|(?=\S))",
    re.IGNORECASE | re.MULTILINE,
)
_JSON_KEYS = ("answer", "final_answer", "final answer", "Answer", "result", "solution", "答案")
_OBJECT = re.compile(r"\{[^{}]*\"[^{}]*\}")
_REASON = re.compile(
    r",?\s+(?:because|since|as it|as the|as there|which|due to|given that|where)\b|,\s+(?:as|so|and)\b"
    r"|，?因为|，"
)
_STOP = re.compile(r"[.!?](?=\s|$)(?!\s*\d)|[。！？]|;\s|\n")
_EMPTY = re.compile(r"[\s*_`#:：.]*")
_CLAUSE_MOST = 400
_WHOLE_MOST = 60

Finder = Callable[[str, Sequence[str]], Iterator[Statement]]


def find_statements(text: str, options: Sequence[str]) -> list[Statement]:
    """All statements of a visible text, in the order of their ends.

    A statement inside another one is the same statement in two forms. The outer tag or JSON object
    counts then; a box inside a phrase counts in place of the phrase.

    Args:
        text: The text without its thinking.
        options: The texts of the options.
    """
    explicit = [one for finder in _EXPLICIT for one in finder(text, options)]
    phrases = [one for one in _phrases(text, options) if not _touches(one, explicit)]
    found = sorted(explicit + phrases, key=lambda one: (one.end, -one.start))
    last = found[-1].end if found else 0
    found += [one for one in _endings(text, options, last) if one.end > last]
    return [one for one in found if _EMPTY.fullmatch(one.answer) is None]


def _touches(one: Statement, others: list[Statement]) -> bool:
    return any(one.start < other.end and other.start < one.end for other in others)


def _tags(text: str, options: Sequence[str]) -> Iterator[Statement]:
    """<answer>..</answer> and its like; one that is never closed counts when nothing follows."""
    opened: re.Match[str] | None = None
    for tag in _TAG.finditer(text):
        if not tag[1]:
            opened = tag
        elif opened is not None and opened[2].lower() == tag[2].lower():
            inside = text[opened.end() : tag.start()]
            yield Statement(opened.start(), tag.end(), inside.strip(), f"in <{tag[2].lower()}>")
            opened = None
    if opened is not None:
        rest = text[opened.end() :].strip()
        if rest and "\n\n" not in rest and len(rest) <= _CLAUSE_MOST and "<" not in rest:
            yield Statement(opened.start(), len(text), rest, "in an open <answer>", True)


def _boxes(text: str, options: Sequence[str]) -> Iterator[Statement]:
    at = 0
    for box in _BOX.finditer(text):
        if box.start() < at:
            continue
        inside = balanced(text, box.end())
        if inside is None:
            # An unclosed brace swallows the rest, and looking on from each box would be quadratic.
            return
        at = box.end() + len(inside) + 2
        yield Statement(box.start(), at, inside.strip(), "in \\boxed")


def _glm_boxes(text: str, options: Sequence[str]) -> Iterator[Statement]:
    if "<|begin_of_box|>" in text:
        for box in _GLM.finditer(text):
            yield Statement(box.start(), box.end(), box[1].strip(), "in a box of GLM")


def _hashes(text: str, options: Sequence[str]) -> Iterator[Statement]:
    for line in _HASHES.finditer(text):
        heading = _HEADING.match(text, line.start())
        if heading is None:
            yield Statement(
                line.start(), line.end(), line[1], "after ####", line.end() == len(text)
            )


def _headings(text: str, options: Sequence[str]) -> Iterator[Statement]:
    """ "### Final Answer" or "**Answer:**", with the answer on its line or in the next paragraph."""
    for heading in _HEADING.finditer(text):
        paragraph = text[heading.end() :].lstrip("\n").partition("\n\n")[0].strip()
        start = text.find(paragraph, heading.end()) if paragraph else -1
        if start < 0 or len(paragraph) > _CLAUSE_MOST:
            continue
        if _BOX.search(paragraph) or _TAG.search(paragraph) or languages.before().search(paragraph):
            continue
        answer = _first_answer(paragraph, options)
        if answer is not None:
            end = start + len(paragraph)
            yield Statement(heading.start(), end, answer, "after a heading", end == len(text))


def _json(text: str, options: Sequence[str]) -> Iterator[Statement]:
    if '"' not in text or "{" not in text:
        return
    for found in _OBJECT.finditer(text):
        try:
            value = json.loads(found[0])
        except ValueError:
            continue
        for key in _JSON_KEYS:
            if isinstance(value, dict) and key in value and not isinstance(value[key], dict):
                yield Statement(found.start(), found.end(), _as_text(value[key]), "in JSON")
                break


def _as_text(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(_as_text(one) for one in value)
    return value if isinstance(value, str) else json.dumps(value)


_EXPLICIT: tuple[Finder, ...] = (_tags, _boxes, _glm_boxes, _hashes, _headings, _json)


def _phrases(text: str, options: Sequence[str]) -> Iterator[Statement]:
    """ "The answer is 48." and "48 is the answer." in every language of the table."""
    for match in languages.before().finditer(text):
        rest = text[match.end() : match.end() + _CLAUSE_MOST]
        if not rest.strip(" *:"):
            continue
        blank = re.match(r"[*\s]*", rest)
        offset = blank.end() if blank else 0
        clause = _clause(rest[offset:])
        answer = _first_answer(clause, options)
        if answer is not None:
            end = match.end() + offset + len(clause)
            whole = end >= len(text.rstrip(" *"))
            yield Statement(match.start(), end, answer, 'after "the answer is"', whole)
    for start, sentence in _sentences(text[-2_000:], max(0, len(text) - 2_000)):
        said = languages.after().match(sentence.strip(" *"))
        if said is not None and " not" not in sentence:
            answer = said["answer"].strip(" *")
            letters = re.sub(r"^(?i:option|choice|选项)\s*", "", answer)
            if parse(answer) or read_letters(letters):
                yield Statement(start, start + len(sentence), answer, 'before "is the answer"')


def _clause(text: str) -> str:
    """The text up to the end of its sentence; a display formula on its own lines is one line."""
    opening = re.match(r"\\\[|\$\$", text)
    if opening is not None:
        closing = {"\\[": "\\]", "$$": "$$"}[opening[0]]
        end = text.find(closing, opening.end())
        if end >= 0:
            return text[: end + 2]
    stop = _STOP.search(text)
    # A full stop inside "A. circle" or after an initial does not end a sentence.
    while stop is not None and re.fullmatch(r"\W*\(?[A-Z]\)?", text[: stop.start()].strip(" *")):
        if stop[0] == "\n":
            break
        stop = _STOP.search(text, stop.end())
    return text if stop is None else text[: stop.start()]


def _first_answer(clause: str, options: Sequence[str]) -> str | None:
    """The answer that a clause gives: all of it, or what stands before its reason."""
    text = clause.strip()
    if not text:
        return None
    if parse(text) and not _is_long_words(text):
        return text
    reason = _REASON.search(text)
    while reason is not None:
        head = text[: reason.start()].strip()
        if head and (parse(head) or read_letters(normalize(head)) or split_label(normalize(head))):
            return head
        reason = _REASON.search(text, reason.end())
    found = sole_answer(text)
    if found is not None and re.match(r"(?:there|it|he|she|they|the|we|this)\b", text, re.I):
        return found
    return text


def _is_long_words(text: str) -> bool:
    return len(text.split()) > 4 and not re.search(r"\d", text)


def _sentences(text: str, offset: int) -> Iterator[tuple[int, str]]:
    """The sentences of a text, each with its place in the whole."""
    start = 0
    for stop in _STOP.finditer(text):
        if text[start : stop.start()].strip():
            yield offset + start, text[start : stop.start()]
        start = stop.end()
    if text[start:].strip():
        yield offset + start, text[start:]


def _endings(text: str, options: Sequence[str], after: int) -> Iterator[Statement]:
    """A last line that is only an answer, or a last sentence that concludes with exactly one."""
    stripped = text.rstrip()
    start = stripped.rfind("\n") + 1
    line = stripped[start:].strip()
    if not line or len(line) > _CLAUSE_MOST:
        return
    whole = start == 0 or not stripped[:start].strip()
    if whole and len(line) <= _WHOLE_MOST and not after and _may_be_whole(line):
        yield Statement(start, len(text), line, "the whole text", True)
        return
    if (start >= after and is_only_answer(line)) or phrase(normalize(line)) in _phrases_of(options):
        yield Statement(start, len(text), line, "the last line", True)
        return
    *_, (begin, sentence) = _sentences(stripped[start:], start)
    opening = languages.conclusion().match(sentence.strip(" *"))
    if opening is None or begin < after:
        return
    rest = sentence.strip(" *")[opening.end() :].strip()
    if is_only_answer(rest):
        answer: str | None = rest
    else:
        answer = sole_answer(rest)
    if answer is not None:
        yield Statement(begin, len(text), answer, "a concluding sentence", True)


def _may_be_whole(line: str) -> bool:
    """Whether one short line may be nothing but an answer: no unclosed box or tag in it."""
    return "<" not in line or bool(parse(line))


def _phrases_of(options: Sequence[str]) -> set[str]:
    return {phrase(normalize(option)) for option in options} - {""}
