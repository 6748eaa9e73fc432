"""The forms in which responses state answers, each with a finder. `extract` picks the last one."""

import json
import re
from collections.abc import Callable, Iterator, Sequence

from omr_data.verifiers import languages
from omr_data.verifiers.answers import parse
from omr_data.verifiers.clauses import Statement, clause_of, first_answer, sentences_of
from omr_data.verifiers.normalize import normalize
from omr_data.verifiers.options import read_letters
from omr_data.verifiers.scanner import balanced
from omr_data.verifiers.sentences import is_only_answer, sole_answer
from omr_data.verifiers.words import phrase

_TAG = re.compile(r"<(/?)(answer|conclusion|final_answer|final answer)>", re.IGNORECASE)
_BOX = re.compile(r"\\(?:boxed|fbox)\s*(?=\{)")
_GLM = re.compile(r"<\|begin_of_box\|>(.*?)(?:<\|end_of_box\|>|$)", re.DOTALL)
_HASHES = re.compile(r"####[ \t]*([^\n]*\S)")
_HEADING = re.compile(
    r"^[ \t]*(?:#{1,6}[ \t]*\**|\*\*)(?:final |correct )?"
    r"(?:answer|最终答案|答案|conclusion)(?![a-z])"
    r"[ \t]*[:：]?\**[ \t]*[:：]?[ \t]*(?:\n\s*|$|(?=\S))",
    re.IGNORECASE | re.MULTILINE,
)
_JSON_KEYS = ("answer", "final_answer", "final answer", "Answer", "result", "solution", "答案")
_OBJECT = re.compile(r"\{[^{}]*\"[^{}]*\}")
_EMPTY = re.compile(r"[\s*_`#:：.]*")
_CLAUSE_MOST = 400
_WHOLE_MOST = 60
_WORDS_MOST = 8
"""Words of a bare response that may still be an answer and not a sentence about it."""

Finder = Callable[[str, Sequence[str]], Iterator[Statement]]


def find_statements(text: str, options: Sequence[str]) -> list[Statement]:
    """All statements of a visible text, in the order of their ends.

    A statement inside another one is the same statement in two forms. The outer tag or JSON object
    counts then; a box inside a phrase counts in place of the phrase.

    Args:
        text: The text without its thinking.
        options: The texts of the options.
    """
    explicit: list[Statement] = []

    for mark, finder in _EXPLICIT:
        if mark in text:
            explicit += finder(text, options)

    if len(explicit) == 1 and explicit[0].start == 0 and explicit[0].end == len(text):
        # The whole text is one tag or box: nothing else can be stated.
        if not _EMPTY.fullmatch(explicit[0].answer):
            return explicit

        return []

    # A phrase that overlaps a tag or box states the same answer less precisely.
    phrases = [
        one
        for one in _phrases(text, options)
        if not any(one.start < other.end and other.start < one.end for other in explicit)
    ]
    found = sorted(explicit + phrases, key=lambda one: (one.end, -one.start))
    last = 0
    if found:
        last = found[-1].end

    found += [one for one in _endings(text, options, last) if one.end > last]
    return [one for one in found if _EMPTY.fullmatch(one.answer) is None]


def _tags(text: str, options: Sequence[str]) -> Iterator[Statement]:
    """<answer>..</answer> and its like; one that is never closed counts when nothing follows."""
    # Only the last opening tag counts, since models repeat it before they answer.
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
        # A second paragraph means that the response went on, and the tag was forgotten.
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
    """ "### Final Answer", with the answer on its line or in the next paragraph."""
    for heading in _HEADING.finditer(text):
        paragraph = text[heading.end() :].lstrip("\n").partition("\n\n")[0].strip()
        start = text.find(paragraph, heading.end()) if paragraph else -1
        if start < 0 or len(paragraph) > _CLAUSE_MOST:
            continue
        if _BOX.search(paragraph) or _TAG.search(paragraph) or languages.before().search(paragraph):
            continue

        answer = first_answer(paragraph, options)
        if answer is not None:
            end = start + len(paragraph)
            yield Statement(heading.start(), end, answer, "after a heading", end == len(text))


def _bold_headings(text: str, options: Sequence[str]) -> Iterator[Statement]:
    # Where both marks stand, `_headings` has found the bold ones already.
    if "#" not in text:
        yield from _headings(text, options)


def _json(text: str, options: Sequence[str]) -> Iterator[Statement]:
    if "{" not in text:
        return
    for found in _OBJECT.finditer(text):
        try:
            # Braces of LaTeX look like objects too, so that a failure means nothing.
            value = json.loads(found[0])
        except ValueError:
            continue

        for key in _JSON_KEYS:
            if isinstance(value, dict) and key in value and not isinstance(value[key], dict):
                yield Statement(found.start(), found.end(), _as_text(value[key]), "in JSON")
                break


def _as_text(value: object) -> str:
    # A list in JSON is a list of answers, which commas join as in text.
    if isinstance(value, list):
        return ", ".join(_as_text(one) for one in value)
    if isinstance(value, str):
        return value

    return json.dumps(value)


_EXPLICIT: tuple[tuple[str, Finder], ...] = (
    ("<", _tags),
    ("box", _boxes),
    ("<|", _glm_boxes),
    ("####", _hashes),
    ("#", _headings),
    ("**", _bold_headings),
    ('"', _json),
)
"""The finders of explicit forms, each with a sign that its form always holds."""


def _phrases(text: str, options: Sequence[str]) -> Iterator[Statement]:
    """ "The answer is 48." and "48 is the answer." in every language of the table."""
    # The rest of the line is looked at, and no more than a few hundred characters.
    for match in languages.before().finditer(text):
        rest = text[match.end() : match.end() + _CLAUSE_MOST]
        if not rest.strip(" *:"):
            continue

        blank = re.match(r"[*\s]*", rest)
        offset = 0
        if blank:
            offset = blank.end()

        clause = clause_of(rest[offset:])
        answer = first_answer(languages.ending().sub("", clause), options)
        if answer is not None:
            end = match.end() + offset + len(clause)
            whole = end >= len(text.rstrip(" *"))
            yield Statement(match.start(), end, answer, 'after "the answer is"', whole)

    for start, sentence in sentences_of(text[-2_000:], max(0, len(text) - 2_000)):
        if languages.after_end().search(sentence.strip(" *")) is None:
            continue

        said = languages.after().match(sentence.strip(" *"))
        if said is not None and " not" not in sentence:
            answer = said["answer"].strip(" *")
            letters = re.sub(r"^(?i:option|choice|选项)\s*", "", answer)
            if parse(answer) or read_letters(letters):
                yield Statement(start, start + len(sentence), answer, 'before "is the answer"')


def _endings(text: str, options: Sequence[str], after: int) -> Iterator[Statement]:
    """A last line that is only an answer, or a last sentence that concludes with exactly one."""
    # Only the last line: an earlier bare number is a step and no answer.
    stripped = text.rstrip()
    start = stripped.rfind("\n") + 1
    line = stripped[start:].strip()
    if not line or len(line) > _CLAUSE_MOST:
        return

    *_, (begin, sentence) = sentences_of(stripped[start:], start)
    opening = languages.conclusion().match(sentence.strip(" *"))
    texts = {phrase(normalize(option)) for option in options} - {""}
    is_option = phrase(normalize(line)) in texts

    # One short line may be nothing but an answer, unless an unclosed tag stands in it. A sentence
    # that concludes is read as one even where it is the whole text: "Thus, x = 4." states 4.
    whole = not stripped[:start].strip()
    bare = "<" not in line and len(line.split()) <= _WORDS_MOST
    short = whole and len(line) <= _WHOLE_MOST and not after
    if short and (opening is None or is_option) and (bare or parse(line)):
        yield Statement(start, len(text), line, "the whole text", True)
        return

    if opening is None or is_option:
        if is_option or (start >= after and is_only_answer(line)):
            yield Statement(start, len(text), line, "the last line", True)

        return

    rest = sentence.strip(" *")[opening.end() :].strip()
    answer: str | None = rest
    if not is_only_answer(rest):
        answer = sole_answer(rest)
    if answer is not None and begin >= after:
        yield Statement(begin, len(text), answer, "a concluding sentence", True)
