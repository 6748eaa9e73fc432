"""Named values: x = 5; a = 4, b = 7; (a, b) = (6, 1). The names count."""

import re
from dataclasses import dataclass

from omr_data.verifiers.answers.base import Answer, Parsed, Reader, Rules
from omr_data.verifiers.answers.collection import List, split_items
from omr_data.verifiers.answers.expression import Expression
from omr_data.verifiers.answers.tuples import Tuple
from omr_data.verifiers.base import Decision, right, too_close, wrong
from omr_data.verifiers.compare import compare_if_comparable, compare_in_order, compare_unordered

_NAMED = re.compile(
    r"((?:\|?\s*[A-Za-zα-ωΔΩ]{1,2}\s*\|?|∠\s*\w{1,3}|[A-Z]{3}|[A-Za-z]{3,12}(?: [a-z]{2,12})?)"
    r"(?:_\{?\s*[\w△ ]+\s*\}?)?'*(?:\(\s*([a-z])\s*\))?)\s*[=≈]\s*(.+)",
    re.DOTALL,
)
_TUPLE = re.compile(r"\(([^()=]+)\)\s*=\s*(\(.+\))", re.DOTALL)
_SYMBOL = re.compile(r"[A-Za-zα-ωΔΩ](?:_\w+)?'*")


@dataclass(frozen=True, slots=True)
class NamedValues(Answer):
    """One or several values, each with the name of what it is the value of."""

    names: tuple[str, ...]
    """The names, in order, without spaces and braces."""
    values: tuple[Parsed, ...]
    """The readings of each value."""

    order = 40

    @classmethod
    def read(cls, text: str, parts: Reader) -> "NamedValues | None":
        if "=" not in text and "≈" not in text:
            return None
        # "(a, b) = (6, 1)" names its values in order, by the brackets on its left.
        if (together := _TUPLE.fullmatch(text)) is not None:
            names = tuple(name.strip() for name in together[1].split(","))
            value = parts(together[2])
            if value and isinstance(value[0], Tuple) and len(names) == len(value[0].parts):
                return cls(names, value[0].parts)

            return None

        items = split_items(text)
        if len(items) > 1:
            return cls._read_several(items, parts)

        match = _NAMED.fullmatch(text)
        if match is None:
            return None

        value = parts(match[3].strip())
        # "y = 2x" is an equation. A function's value may hold the variable in its brackets.
        free = set() if match[2] is None else {match[2]}
        value = tuple(one for one in value if _variables(one) <= free)
        if value:
            return cls((re.sub(r"[{}\s|]", "", match[1]),), (value,))

        return None

    @classmethod
    def _read_several(cls, items: list[str], parts: Reader) -> "NamedValues | None":
        names: list[str] = []
        values: list[Parsed] = []

        for item in items:
            read = [one for one in parts(item) if isinstance(one, NamedValues)]
            # One item without a name makes it a plain list, which another type reads.
            if not read or len(read[0].names) != 1:
                return None

            names.append(read[0].names[0])
            values.append(read[0].values[0])

        # One name with several values is a list of solutions, which `List` reads.
        if len(set(names)) == len(names):
            return cls(tuple(names), tuple(values))

        return None

    def compare(self, claim: Answer, rules: Rules) -> Decision | None:
        if isinstance(claim, NamedValues):
            return self._compare_names(claim, rules)
        if len(self.names) == 1:
            return compare_if_comparable((claim,), self.values[0], rules)
        if isinstance(claim, (List, Tuple)):
            return self._compare_plain(claim.parts, self.values, rules, isinstance(claim, List))

        return None

    def compare_as_claim(self, gold: Answer, rules: Rules) -> Decision | None:
        if len(self.names) == 1:
            return compare_if_comparable(self.values[0], (gold,), rules)
        if isinstance(gold, (List, Tuple)):
            return self._compare_plain(self.values, gold.parts, rules, isinstance(gold, List))

        return None

    def _compare_names(self, claim: "NamedValues", rules: Rules) -> Decision:
        if len(claim.names) != len(self.names):
            return wrong(f"it names {len(claim.names)} values, the gold answer {len(self.names)}")
        # With the same names the order of the values means nothing.
        if set(claim.names) == set(self.names):
            given = dict(zip(claim.names, claim.values, strict=True))
            ordered = [given[name] for name in self.names]
            return compare_in_order(ordered, list(self.values), rules)

        decision = compare_in_order(list(claim.values), list(self.values), rules)
        symbols = all(_SYMBOL.fullmatch(name) for name in (*claim.names, *self.names))
        lowered = [name.lower() for name in claim.names], [name.lower() for name in self.names]
        if decision.outcome == "RIGHT" and (not symbols or lowered[0] == lowered[1]):
            # "area = 24" and "S = 24" may name one thing.
            return too_close("the same values under other names")

        return wrong("other names")

    def _compare_plain(
        self, claim: tuple[Parsed, ...], gold: tuple[Parsed, ...], rules: Rules, unordered: bool
    ) -> Decision:
        """Against values without names: in the order of the names.

        Args:
            claim: The values of the claim.
            gold: The values of the gold answer.
            rules: The settings of the comparison.
            unordered: Whether the values without names are a list.
        """
        decision = compare_in_order(list(claim), list(gold), rules)
        if decision.outcome == "RIGHT":
            return right("the same values in the order of the names")
        if decision.outcome == "WRONG" and unordered:
            stems = {re.sub(r"_\w+$", "", name) for name in self.names}
            loose = compare_unordered(list(claim), list(gold), rules, True)
            if loose.outcome == "RIGHT":
                # x_1 and x_2 are the roots in either order; a and b are not.
                if len(stems) == 1:
                    return right("the same values of x_1, x_2, ...")

                return too_close("the same values in another order, without names")

        return decision


def _variables(answer: Answer) -> frozenset[str]:
    """The variables of a value, wherever they stand in it."""
    if isinstance(answer, Expression):
        return answer.formula.variables

    found: frozenset[str] = frozenset()
    if isinstance(answer, (List, Tuple)):
        for part in answer.parts:
            if part:
                found |= _variables(part[0])

    # An equation as a value ("x = y = 2z") is one of several variables.
    sides = getattr(answer, "sides", ())

    for side in sides:
        found |= side.variables

    return found
