"""What a response gives as its answer, and how it says so. Nothing is guessed: a response that states no answer has none.

In this order, each taken at its last place in the visible text (thinking never supplies an answer):
    1. <answer>..</answer>, complete
    2. \\boxed{..}, with nested braces
    3. <CONCLUSION>..</CONCLUSION> (LLaVA-CoT)
    4. #### .. (GSM8K)
    5. "the answer is ..", "answer: .."
    6. the whole text, when it is one line of at most 60 characters
"""

import functools
import re
import unicodedata
from dataclasses import dataclass

_THINK = re.compile(r"<think>|</think>", re.IGNORECASE)
_FORMAT = re.compile(
    r"\s*<think>(?P<think>.*?)</think>\s*<answer>(?P<answer>.*?)</answer>\s*", re.DOTALL
)
_PHRASE = re.compile(r"\banswer\s*(?:is|:|=)\s*:?\s*", re.IGNORECASE)
_BARE = 60
_LONGEST = 4_000
"""Characters of an answer that are looked at: the longest gold answers of the sources have a few hundred."""


@dataclass(frozen=True, slots=True)
class Extraction:
    """The answer as it was written, or None; `how` says where it was found or why there is none."""

    answer: str | None
    how: str


def extract(response: str) -> Extraction:
    """The answer that a response states. Linear in its length."""
    text = visible(response)
    for find, how in _FINDERS:
        found = find(text)
        if found is not None and found.strip():
            return Extraction(found.strip()[:_LONGEST], how)
    return Extraction(
        None,
        "no answer is stated outside the thinking"
        if text.strip()
        else "there is no text outside the thinking",
    )


def visible(response: str) -> str:
    """The response without its thinking: complete <think> blocks, what stands before a lone </think>, and after a lone <think>."""
    kept, depth, last = [], 0, 0
    for tag in _THINK.finditer(response):
        if tag[0].lower() == "<think>":
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
    """Whether a response is exactly `<think>..</think><answer>..</answer>`, each tag once: the format reward of RL is this, 0 or 1."""
    match = _FORMAT.fullmatch(response)
    return match is not None and not any(
        tag in part
        for part in match.groups()
        for tag in ("<think>", "</think>", "<answer>", "</answer>")
    )


def _between(opening: str, closing: str, text: str) -> str | None:
    lower = (
        text.lower() if text.isascii() else re.sub(r"[A-Z]", lambda letter: letter[0].lower(), text)
    )
    stop = lower.rfind(closing)
    start = lower.rfind(opening, 0, stop) if stop >= 0 else -1
    return text[start + len(opening) : stop] if start >= 0 else None


def _boxed(text: str) -> str | None:
    for command in ("\\boxed{", "\\fbox{"):
        start = text.rfind(command)
        if start >= 0:
            return balanced(text, start + len(command) - 1)
    return None


def balanced(text: str, start: int) -> str | None:
    """What stands between the brace at `start` and its partner, or None when it has none. An escaped brace is no brace."""
    depth, at = 0, start
    while at < len(text):
        if text[at] == "\\":
            at += 2
            continue
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if depth == 0:
            return text[start + 1 : at]
        at += 1
    return None


def _hashes(text: str) -> str | None:
    return text.rpartition("####")[2].partition("\n")[0] if "####" in text else None


def _phrase(text: str) -> str | None:
    """The rest of the sentence after the last "the answer is"."""
    tail = text[-_LONGEST:]
    matches = list(_PHRASE.finditer(tail))
    if not matches:
        return None
    line = tail[matches[-1].end() :].partition("\n")[0]
    return re.split(r"[.!]\s|[.!]$|;\s|,\s(?:because|since|as|so)\b", line, maxsplit=1)[0]


def _whole(text: str) -> str | None:
    stripped = text.strip()
    return (
        stripped
        if len(stripped) <= _BARE and not any(mark in stripped for mark in ("\n", "<", "\\boxed"))
        else None
    )


_FINDERS = (
    (lambda text: _between("<answer>", "</answer>", text), "in <answer>"),
    (_boxed, "in \\boxed"),
    (lambda text: _between("<conclusion>", "</conclusion>", text), "in <CONCLUSION>"),
    (_hashes, "after ####"),
    (_phrase, 'after "the answer is"'),
    (_whole, "the whole text"),
)

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_SIGNS = str.maketrans(
    {
        "−": "-",
        "–": "-",
        "—": "-",
        "﹣": "-",
        "×": "\\times ",
        "÷": "/",
        "∞": "\\infty ",
        "π": "\\pi ",
        "∪": "\\cup ",
        "\0": "",
    }
)
_WRAPPED = re.compile(
    r"\\(?:text|textbf|textit|mathrm|mathbf|textrm|operatorname|mbox)\s*\{([^{}]*)\}"
)
_DELIMITERS = (
    ("$$", "$$"),
    ("$", "$"),
    ("\\(", "\\)"),
    ("\\[", "\\]"),
    ("**", "**"),
    ("`", "`"),
    ('"', '"'),
    ("“", "”"),
    ("'", "'"),
)


@functools.lru_cache(maxsize=4_096)
def clean(answer: str) -> str:
    """An answer without what carries no meaning: delimiters, \\text, bold, a final full stop, the words "the answer is".

    Unicode signs become their plain ones; superscripts become powers, so that 10² is never 102.
    """
    text = re.sub(
        "[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+",
        lambda run: "^{" + run[0].translate(_SUPERSCRIPTS) + "}",
        answer.translate(_SIGNS),
    )
    text = unicodedata.normalize("NFKC", text).replace("⁄", "/")
    for command in ("\\displaystyle", "\\left", "\\right", "\\!", "\\,", "\\;", "\\:", "~"):
        text = text.replace(command, " " if command in ("\\,", "\\;", "\\:", "~") else "")
    text = (
        text.replace("\\dfrac", "\\frac")
        .replace("\\tfrac", "\\frac")
        .replace("\\%", "%")
        .replace("\\$", "$")
    )
    text = " ".join(_WRAPPED.sub(r" \1 ", text).split())
    while (shorter := _peel(text)) != text:
        text = shorter
    return text


def _peel(text: str) -> str:
    """Takes off one layer around an answer."""
    if text.startswith("\\boxed{") and balanced(text, 6) == text[7:-1]:
        return text[7:-1].strip()
    for opening, closing in _DELIMITERS:
        inner = text[len(opening) : len(text) - len(closing)]
        if (
            len(text) > len(opening) + len(closing)
            and text.startswith(opening)
            and text.endswith(closing)
            and opening not in inner
        ):
            return inner.strip()
    phrase = _PHRASE.search(text[:60])
    if phrase and re.fullmatch(
        r"(?:so |thus |therefore |hence )?,? ?(?:the )?(?:final |correct )?",
        text[: phrase.start()].lower(),
    ):
        return text[phrase.end() :].strip()
    return text[:-1].rstrip() if text.endswith((".", "。")) and not text.endswith("..") else text
