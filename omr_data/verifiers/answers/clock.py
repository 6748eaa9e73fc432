"""Times of day: 7:30 is 07:30 and not 7:30 PM; 19:30 is 7:30 PM."""

import re
from dataclasses import dataclass

from omr_data.verifiers.answers.base import Answer, Reader, Rules
from omr_data.verifiers.base import Decision, right, too_close, wrong

_HALF_DAY = 12 * 3600
_CLOCK = re.compile(
    r"(\d{1,2}):(\d{2})(?::(\d{2}))?(?:\s*([ap])\.?\s?m\.?)?(?:\s*(?:h|hrs|o'clock))?",
    re.IGNORECASE,
)
_HOUR = re.compile(
    r"(\d{1,2})\s*(?:([ap])\.?\s?m\.?|o'?clock(?:\s*([ap])\.?\s?m\.?)?)", re.IGNORECASE
)
_NAMED = {"noon": 12, "midday": 12, "midnight": 0}


@dataclass(frozen=True, slots=True)
class Clock(Answer):
    """A time of day."""

    seconds: int
    """Seconds since midnight."""
    half: str = ""
    """AM or PM, where it is said."""

    order = 20
    arity = "one"

    @property
    def alone(self) -> bool:
        """With AM or PM it is nothing else; "1:10" may also be a ratio."""
        return bool(self.half)

    @classmethod
    def read(cls, text: str, parts: Reader) -> "Clock | None":
        # Longer texts are sentences, and the patterns below would backtrack over them.
        if len(text) > 24:
            return None
        if (hour := _NAMED.get(text.lower())) is not None:
            return cls(hour * 3600, "PM" if hour else "AM")

        match = _CLOCK.fullmatch(text)
        if match is not None:
            hours, minutes, seconds = int(match[1]), int(match[2]), int(match[3] or 0)
            letter = match[4] or ""
        else:
            match = _HOUR.fullmatch(text)
            if match is None:
                return None

            hours, minutes, seconds = int(match[1]), 0, 0
            letter = match[2] or match[3] or ""

        # "25:30" is a ratio, and "13 PM" a mistake that nobody should be guessed right for.
        if minutes > 59 or seconds > 59 or hours > 24 or (letter and not 1 <= hours <= 12):
            return None

        half = ""
        if letter:
            half = f"{letter.upper()}M"
        if half:
            hours = hours % 12 + 12 * (half == "PM")

        return cls(hours * 3600 + minutes * 60 + seconds, half)

    def compare(self, claim: Answer, rules: Rules) -> Decision | None:
        if not isinstance(claim, Clock):
            return None
        if self.half == claim.half:
            if self.seconds == claim.seconds:
                return right("the same time")

            return wrong("another time")

        # Twelve hours apart, the two may be one time with half of the day left unsaid.
        if (self.seconds - claim.seconds) % _HALF_DAY:
            return wrong("another time")

        same = self.seconds == claim.seconds
        # From 13:00 on, a 24-hour clock says itself which half of the day it means.
        if same and self.seconds >= 13 * 3600:
            return right("the same time on a 24-hour clock")
        if self.half:
            return wrong(f"it does not say {self.half}")

        return too_close("only the answer says AM or PM")
