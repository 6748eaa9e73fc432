"""Alternatives: "35/4 (or 8.75)". Any of them is right, where the gold answer gives several."""

import re
from dataclasses import dataclass

from omr_data.verifiers.answers.base import Answer, Parsed, Reader, Rules
from omr_data.verifiers.base import Decision
from omr_data.verifiers.compare import compare

_OR = re.compile(
    r"(.+?)\s*[,;]?\s*\(\s*(?:or|或|also|equivalently|i\.e\.|=)\s*(?:fill in|填|equivalently)?[,:]?"
    r"\s*(.+)\)",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Alternatives(Answer):
    """One answer in two forms."""

    forms: tuple[Parsed, Parsed]
    """The readings of each form."""

    order = 8
    exclusive = True

    @classmethod
    def read(cls, text: str, parts: Reader) -> "Alternatives | None":
        # The pattern backtracks over long texts, and one look at the last sign spares most of them.
        if not text.endswith(")"):
            return None

        match = _OR.fullmatch(text)
        if match is None:
            return None

        # Both forms must be read: a remark in brackets ("35/4 (or so)") is not a second form.
        forms = parts(match[1].strip()), parts(match[2].strip())
        if all(forms):
            return cls(forms)

        return None

    def compare(self, claim: Answer, rules: Rules) -> Decision | None:
        # The source vouches for every form, so one that is equal is enough.
        found = [compare((claim,), form, rules) for form in self.forms]
        for outcome in ("RIGHT", "UNDECIDED"):
            for decision in found:
                if decision.outcome == outcome:
                    return decision

        return found[0]

    def compare_as_claim(self, gold: Answer, rules: Rules) -> Decision | None:
        # A claim in two forms must be right in both: else it hedges.
        found = [compare(form, (gold,), rules) for form in self.forms]
        for outcome in ("WRONG", "UNDECIDED"):
            for decision in found:
                if decision.outcome == outcome:
                    return decision

        return found[0]
