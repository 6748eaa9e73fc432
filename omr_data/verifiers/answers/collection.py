r"""Lists and sets. A list counts how often a part stands there, a set does not; order never counts.

Items are set apart by commas, semicolons, "and", "or", lines, \quad, or formulas of their own.
"""

import re
from dataclasses import dataclass

from omr_data.verifiers.answers.base import Answer, Parsed, Reader, Rules
from omr_data.verifiers.answers.expression import Expression
from omr_data.verifiers.base import Decision, decided, right, too_close, wrong
from omr_data.verifiers.compare import compare_if_comparable, compare_in_order, compare_unordered
from omr_data.verifiers.scanner import ITEM, encloses, split

SEPARATORS = (ITEM, ";", ",", " or ", " and ", "或", " & ", "和", "以及")
_COMMA_WORD = re.compile(r"[,;]\s*(?:and|or)\s+")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_BLANK = re.compile(r"\(\s*([1-9])\s*\)|[①②③④⑤]")
_NAME = re.compile(r"([A-Za-zα-ω](?:_\{?\w+\}?)?'*)\s*=\s*")
_MOST = 400
"""More parts than this are not compared: each pair of parts costs some microseconds."""


@dataclass(frozen=True, slots=True)
class Dots(Answer):
    """The dots of "1, 2, 3, ...": a part that equals only itself."""

    order = 4
    exclusive = True

    @classmethod
    def read(cls, text: str, parts: Reader) -> "Dots | None":
        if text in ("\\ldots", "..."):
            return cls()

        return None

    def compare(self, claim: Answer, rules: Rules) -> Decision | None:
        return decided(isinstance(claim, Dots), "dots", "dots stand in one of them only")

    def compare_as_claim(self, gold: Answer, rules: Rules) -> Decision | None:
        return wrong("dots stand in one of them only")


@dataclass(frozen=True, slots=True)
class List(Answer):
    """Several answers in any order."""

    parts: tuple[Parsed, ...]
    """The readings of each part."""
    ordered: bool = False
    """Whether dots make it a sequence, in which order counts."""

    order = 50
    arity = "many"

    @classmethod
    def read(cls, text: str, parts: Reader) -> "List | None":
        # Numbered blanks of a worksheet are a list, although no separator stands between them.
        if text.startswith("(1)") or text[:1] == "①":
            items = [item.strip(" ,;") for item in _BLANK.sub(ITEM, text).split(ITEM)[1:]]
        elif "±" in text and text.count("±") == 1:
            body = _NAME.sub("", text, count=1)
            items = [body.replace("±", "+"), body.replace("±", "-")]
            if body.startswith("±"):
                # "+3" would be read as well, but "3" is what a claim of two values says.
                items[0] = body[1:].strip()
        else:
            items = without_common_name(split_items(text))

        if not 2 <= len(items) <= _MOST:
            return None

        read = tuple(parts(item) for item in items)
        if not all(read) or all(one[0].kind == "namedvalues" for one in read):
            # Values with names of their own are no list: their names count.
            return None
        if any(
            one[0].kind == "words" and len(item.split()) > 3
            for one, item in zip(read, items, strict=True)
        ):
            # Clauses of a sentence are no items.
            return None

        return cls(read, any(isinstance(one[0], Dots) for one in read))

    def compare(self, claim: Answer, rules: Rules) -> Decision | None:
        if isinstance(claim, List):
            # "1, 2, 3, ..." continues a pattern, so its order is part of what it says.
            if self.ordered or claim.ordered:
                if self.parts == claim.parts:
                    return right("the same sequence")

                return compare_in_order(list(claim.parts), list(self.parts), rules)

            return compare_unordered(list(claim.parts), list(self.parts), rules, True)

        if not isinstance(claim, Set):
            return None
        if not claim.parts:
            return wrong("the empty set is not the gold answer")

        decision = compare_unordered(list(claim.parts), list(self.parts), rules, True)
        if decision.outcome == "WRONG":
            # A set cannot say "2, 2": whether the repetition matters is not for rules to tell.
            loose = compare_unordered(list(claim.parts), list(self.parts), rules, False)
            if loose.outcome == "RIGHT":
                return too_close("equal as sets; the gold answer has a part more than once")

        return decision


@dataclass(frozen=True, slots=True)
class Set(Answer):
    """Several answers in braces."""

    parts: tuple[Parsed, ...]
    """The readings of each part; empty for the empty set."""

    order = 49

    @classmethod
    def read(cls, text: str, parts: Reader) -> "Set | None":
        # Plain braces are read as well: answers lose their backslashes on the way.
        if text in ("∅", "⦃⦄", "⦃ ⦄", "{}"):
            return cls(())
        if text[:1] not in ("⦃", "{") or text[-1:] not in ("⦄", "}") or not encloses(text):
            return None

        # Elements may be equations of one name: {x = 1, x = 2} is {1, 2}.
        items = without_common_name(split_items(text[1:-1], bracketed=True))
        if len(items) == 1 and "±" in items[0]:
            inner = parts(items[0])
            if inner and isinstance(inner[0], List):
                return cls(inner[0].parts)

            return None

        if not 1 <= len(items) <= _MOST:
            return None

        read = tuple(parts(item) for item in items)
        if all(read):
            return cls(read)

        return None

    def compare(self, claim: Answer, rules: Rules) -> Decision | None:
        if isinstance(claim, Set):
            if not self.parts or not claim.parts:
                # Two empty sets are equal, whatever they are empty of.
                same = len(self.parts) == len(claim.parts)
                return decided(same, "both are empty", "one of them is empty")

            return compare_unordered(list(claim.parts), list(self.parts), rules, False)

        if isinstance(claim, List):
            if not self.parts:
                return wrong("the gold answer is empty")

            return compare_unordered(list(claim.parts), list(self.parts), rules, False)

        if not self.parts:
            return wrong("the gold answer is the empty set")
        if len(self.parts) == 1:
            return compare_if_comparable((claim,), self.parts[0], rules)
        # Named values and equations may stand for several values, and are unwrapped first.
        if claim.arity == "one" or isinstance(claim, Expression):
            return wrong("one value, where the gold answer has several")

        return None

    def compare_as_claim(self, gold: Answer, rules: Rules) -> Decision | None:
        if not self.parts:
            return wrong("the empty set is not the gold answer")
        if len(self.parts) == 1:
            # A set of one is taken for its element, which is how a solution set is often written.
            return compare_if_comparable(self.parts[0], (gold,), rules)

        return None


def split_items(text: str, bracketed: bool = False) -> list[str]:
    """The items of a list.

    A comma before three digits is a thousands mark when the text has other separators, or commas
    with spaces: "1,200, 3,400" has two items, "(1,200)" has two as well.

    Args:
        text: The text of the list, without its brackets.
        bracketed: Whether it stood in brackets, where a comma is never a thousands mark by itself.
    """
    # Separators that normalization left come first: they stood between whole formulas.
    if ITEM in text:
        items = split(text, (ITEM,))
        if len(items) > 1:
            return [item.strip(" ,;") for item in items if item.strip(" ,;")]

    # ", and" is one separator; as two it would leave an empty item between them.
    text = _COMMA_WORD.sub(", ", text)
    thousands = len(_THOUSANDS.findall(text))
    if thousands:
        other = any(separator in text for separator in (", ", ";", " and ", " or "))
        if other or not bracketed:
            text = _THOUSANDS.sub("", text)

    items = split(text, SEPARATORS)
    # A list may end with its separator; an empty item in the middle is not forgiven.
    if items and not items[-1]:
        items.pop()

    return items


def without_common_name(items: list[str]) -> list[str]:
    """ "x = 2 or x = -2" and "x = 2, -2" are the values of one name; other names stay."""
    names = [_NAME.match(item) for item in items]
    first = names[0] if names else None
    if first is None or len(items) < 2:
        return items
    if any(name is not None and name[1] != first[1] for name in names):
        return items

    values = [item[name.end() :] if name else item for item, name in zip(items, names, strict=True)]
    # "x = 2, y > 1" is not a list of values of x.
    if any("=" in value or "<" in value for value in values):
        return items

    return values
