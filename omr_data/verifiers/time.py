"""Times of day: 7:30 is 07:30 and not 7:30 PM; 19:30 is 7:30 PM."""

import re
from dataclasses import dataclass

from omr_data.verifiers import base
from omr_data.verifiers.base import Decision, right, undecided, unsure, wrong

_HALF_DAY = 12 * 3600
_TIME = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?\s*([aApP])?\.?\s*(?(4)[mM]\.?)")


@dataclass(frozen=True)
class Verifier(base.Verifier):
    """Accepts a gold answer that is a time: hours and minutes, seconds and AM or PM if it likes."""

    def accepts(self, gold: str, options: tuple[str, ...]) -> bool:
        return _read(gold) is not None

    def decide(self, claim: str, gold: str, options: tuple[str, ...]) -> Decision:
        given, wanted = _read(claim), _read(gold)
        assert wanted is not None  # accepts() read it
        if given is None:
            return undecided("the answer is not a time")
        (seconds, half), (gold_seconds, gold_half) = given, wanted
        if half == gold_half:
            return (
                right("the same time")
                if seconds == gold_seconds
                else wrong(f"{claim} is not {gold}")
            )
        if (seconds - gold_seconds) % _HALF_DAY:
            return wrong(f"{claim} is not {gold}")
        # From 13:00 on, a 24-hour clock says itself which half of the day it means; 7:30 alone does not.
        if seconds == gold_seconds and min(seconds, gold_seconds) >= 13 * 3600:
            return right("the same time on a 24-hour clock")
        return (
            wrong(f"{claim} does not say {gold_half}")
            if gold_half
            else unsure("only the answer says AM or PM")
        )


def _read(text: str) -> tuple[int, str] | None:
    """Seconds since midnight and "AM", "PM" or "", or None for what is no time."""
    match = _TIME.fullmatch(text.strip())
    if match is None:
        return None
    hours, minutes, seconds = int(match[1]), int(match[2]), int(match[3] or 0)
    half = f"{match[4].upper()}M" if match[4] else ""
    if minutes > 59 or seconds > 59 or hours > (12 if half else 24) or (half and hours == 0):
        return None
    if half:
        hours = hours % 12 + (12 if half == "PM" else 0)
    return hours * 3600 + minutes * 60 + seconds, half
