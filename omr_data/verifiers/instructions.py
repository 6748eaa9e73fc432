"""Exact instruction checks: conditions on a response that code can decide.

Source: IFEval (Zhou et al. 2023, table 1). The gold answer is a JSON list of checks, each an object
with its name and settings: [{"check": "words", "at_least": 50}, {"check": "no_commas"}]. The score
is the share of checks that hold; RIGHT when all hold. A check is one line of `CHECKS`.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from omr_data.verifiers import base
from omr_data.verifiers.base import Decision, scored

Settings = Mapping[str, Any]
Check = Callable[[str, Settings], bool]


def _within(count: int, settings: Settings) -> bool:
    """Whether a count is in the range that the settings give, both ends included."""
    if "exactly" in settings:
        return bool(count == settings["exactly"])

    return bool(settings.get("at_least", 0) <= count <= settings.get("at_most", count))


def _is_json(text: str) -> bool:
    # A fence around it is markup, which IFEval takes off too.
    body = re.sub(r"^```(?:json)?\s*|\s*```$", "", text.strip())
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return False

    return True


def _keyword(text: str, word: str) -> int:
    return len(re.findall(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE))


_SENTENCES = re.compile(r"[^.!?。！？]+[.!?。！？]+")
_BULLET = re.compile(r"^[ \t]*[-*•][ \t]+\S", re.MULTILINE)

CHECKS: Mapping[str, Check] = {
    "words": lambda text, to: _within(len(text.split()), to),
    "sentences": lambda text, to: _within(len(_SENTENCES.findall(text)), to),
    "paragraphs": lambda text, to: _within(
        len([p for p in re.split(r"\n\s*\n", text) if p.strip()]), to
    ),
    "lines": lambda text, to: _within(
        len([line for line in text.splitlines() if line.strip()]), to
    ),
    "bullets": lambda text, to: _within(len(_BULLET.findall(text)), to),
    "keyword": lambda text, to: _within(_keyword(text, to["word"]), {"at_least": 1, **to}),
    "forbidden": lambda text, to: not any(_keyword(text, word) for word in to["words"]),
    "letter": lambda text, to: _within(text.lower().count(to["letter"].lower()), to),
    "placeholders": lambda text, to: _within(len(re.findall(r"\[[^\[\]]+\]", text)), to),
    "no_commas": lambda text, to: "," not in text,
    "lowercase": lambda text, to: text == text.lower(),
    "uppercase": lambda text, to: text == text.upper(),
    "json": lambda text, to: _is_json(text),
    "title": lambda text, to: re.search(r"<<[^<>\n]+>>", text) is not None,
    "starts_with": lambda text, to: text.strip().startswith(to["text"]),
    "ends_with": lambda text, to: text.strip().endswith(to["text"]),
    "quoted": lambda text, to: re.fullmatch(r"\s*\".+\"\s*", text, re.DOTALL) is not None,
    "postscript": lambda text, to: re.search(r"^\s*P\.\s?S\.", text, re.MULTILINE) is not None,
}


@dataclass(frozen=True)
class Verifier(base.Verifier):
    """Accepts a gold answer that is a list of known checks."""

    reads_response: ClassVar[bool] = True
    """The whole response is read."""

    def accepts(self, gold: str, options: tuple[str, ...]) -> bool:
        return bool(_checks(gold))

    def decide(self, claim: str, gold: str, options: tuple[str, ...]) -> Decision:
        """See `base.Verifier.decide`.

        Args:
            claim: The answer that was extracted, or the whole response.
            gold: The gold answer.
            options: The texts of the options.
        """
        # Every check runs, so that the score says how many hold.
        checks = _checks(gold)
        failed = [one["check"] for one in checks if not CHECKS[one["check"]](claim, one)]
        score = 1 - len(failed) / len(checks)
        said = "all checks hold"
        if failed:
            said = f"failed: {', '.join(failed)}"

        return scored(score, 1.0, said)


_REQUIRED = {
    "keyword": "word",
    "forbidden": "words",
    "letter": "letter",
    "starts_with": "text",
    "ends_with": "text",
}


def _checks(gold: str) -> list[dict[str, Any]]:
    """The checks of a gold answer; none unless every one is known and has its settings."""

    # A gold answer that is not a list of checks is of another task, and no error.
    try:
        found = json.loads(gold)
    except (ValueError, RecursionError):
        return []

    if not isinstance(found, list):
        return []
    for one in found:
        if not isinstance(one, dict) or one.get("check") not in CHECKS:
            return []
        if _REQUIRED.get(one["check"], "check") not in one:
            return []

    return found
