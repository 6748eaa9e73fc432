"""Truth values: yes and no, true and false, in English and Chinese."""

import re
from dataclasses import dataclass

from omr_data.verifiers.answers.base import Answer, Reader, Rules
from omr_data.verifiers.base import Decision, right, wrong

_VALUES = {
    "yes": True,
    "true": True,
    "correct": True,
    "是": True,
    "对": True,
    "正确": True,
    "✓": True,
    "no": False,
    "false": False,
    "incorrect": False,
    "否": False,
    "不是": False,
    "错": False,
    "错误": False,
    "不对": False,
}
# "Yes, it is" repeats the value in a clause, which must not say the opposite.
_CLAUSE = re.compile(
    r"(?P<value>yes|no|true|false)\s*,\s*(?:it|they|he|she|this|that|there|we|you) "
    r"(?:is|are|does|do|can|will|was|were|did|has|have|could|would|should)(?P<not>n't| not|not)?",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Truth(Answer):
    """Yes or no."""

    value: bool
    """Whether it says yes or true."""

    order = 5
    arity = "one"
    exclusive = True

    @classmethod
    def read(cls, text: str, parts: Reader) -> "Truth | None":
        # A longer text is a sentence that may say more than yes or no.
        if len(text) > 40:
            return None

        value = _VALUES.get(text.lower())
        if value is not None:
            return cls(value)

        clause = _CLAUSE.fullmatch(text)
        if clause is None:
            return None

        # "Yes, it is not" contradicts itself, and is not read at all.
        value = _VALUES[clause["value"].lower()]
        if value == (clause["not"] is None):
            return cls(value)

        return None

    def compare(self, claim: Answer, rules: Rules) -> Decision | None:
        if not isinstance(claim, Truth):
            return None
        if self.value == claim.value:
            return right("the same truth value")

        return wrong("the opposite truth value")
