"""What a mathematical answer is made of: a set, a tuple, an interval, a matrix, an equation, or one expression.

**Shape**: a kind with its parts as text. Order matters in tuples, intervals and matrices; in sets and lists it does not.
"""

import re
from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "expression", "tuple", "set", "list", "interval", "union", "matrix", "equation", "empty"
]

_MATRIX = re.compile(r"\\begin\{([pbvBV]?matrix|array)\}(?:\{[clr|]*\})?(.*)\\end\{\1\}", re.DOTALL)
_ASSIGNED = re.compile(r"([A-Za-z](?:_\{?\w\}?)?(?:\([a-z]\))?)\s*(?:=|\\in\b)\s*")
_OPEN, _CLOSE = "([{", ")]}"


@dataclass(frozen=True, slots=True)
class Shape:
    """A kind and its parts. `brackets` tells (1, 2) from [1, 2]; a matrix has its number of columns there."""

    kind: Kind
    parts: tuple[str, ...]
    brackets: str = ""


def read_shape(text: str) -> Shape:
    """The outermost shape of a cleaned answer. Linear in its length."""
    text = _without_name(text.strip())
    if text in ("\\emptyset", "\\varnothing", "\\{\\}", "∅"):
        return Shape("empty", ())
    if matrix := _MATRIX.fullmatch(text):
        rows = [row for row in re.split(r"\\\\(?:\[\w+\])?", matrix[2]) if row.strip()]
        columns = {row.count("&") for row in rows}
        if len(columns) == 1:
            return Shape(
                "matrix",
                tuple(cell.strip() for row in rows for cell in row.split("&")),
                str(columns.pop() + 1),
            )
    if interval := _inequality(text):
        return interval
    unions = split(text, ("\\cup",))
    if len(unions) > 1:
        return Shape("union", unions)
    if text.startswith("\\{") and text.endswith("\\}"):
        return Shape("set", split(text[2:-2], (",",)))
    inner = split(text[1:-1], (",",)) if len(text) > 2 else ()
    if (
        text[:1] in "([{"
        and text[-1:] in ")]}"
        and text[:1]
        and len(inner) > 1
        and _closes_last(text)
    ):
        if text[0] == "{":
            return Shape("set", inner)
        mixed = text[0] + text[-1] in ("(]", "[)") or "\\infty" in text
        return Shape("interval" if mixed else "tuple", inner, text[0] + text[-1])
    parts = split(text, (",", " or ", " and ", ";"))
    if len(parts) > 1:
        return Shape("list", tuple(_without_name(part) for part in parts))
    if "\\pm" in text:
        return Shape("list", (text.replace("\\pm", "+", 1), text.replace("\\pm", "-", 1)))
    sides = split(text, ("=",))
    if len(sides) == 2 and all(sides):
        return Shape("equation", sides)
    return Shape("expression", (text,))


_COMPARE = re.compile(
    r"(\\leq?(?![a-z])|\\geq?(?![a-z])|\\lt(?![a-z])|\\gt(?![a-z])|<=|>=|≤|≥|<|>)"
)
_PLAIN = {
    "\\lt": "<",
    "\\gt": ">",
    "\\le": "<=",
    "\\leq": "<=",
    "≤": "<=",
    "\\ge": ">=",
    "\\geq": ">=",
    "≥": ">=",
}
_FLIPPED = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}


def _inequality(text: str) -> Shape | None:
    """ "x < 3" is (-infinity, 3), and "0 <= x < 1" is [0, 1): an interval, when one side or the middle is a bare name."""
    parts = [_PLAIN.get(part.strip(), part.strip()) for part in _COMPARE.split(text)]
    if len(parts) == 3 and len(parts[2]) == 1 and parts[2].isalpha():
        parts = [parts[2], _FLIPPED[parts[1]], parts[0]]
    match parts:
        case [name, "<" | "<=" as sign, bound] if len(name) == 1 and name.isalpha() and bound:
            return Shape("interval", ("-\\infty", bound), "(]" if sign == "<=" else "()")
        case [name, ">" | ">=" as sign, bound] if len(name) == 1 and name.isalpha() and bound:
            return Shape("interval", (bound, "\\infty"), "[)" if sign == ">=" else "()")
        case [low, "<" | "<=" as first, name, "<" | "<=" as second, high] if (
            len(name) == 1 and name.isalpha() and low and high
        ):
            return Shape(
                "interval",
                (low, high),
                ("[" if first == "<=" else "(") + ("]" if second == "<=" else ")"),
            )
    return None


def _without_name(text: str) -> str:
    """ "x = 5" is 5, and "x \\in [0, 1]" is [0, 1]; "y = 2x" stays an equation unless the other side has no letters."""
    match = _ASSIGNED.match(text)
    if match is None:
        return text
    rest = text[match.end() :]
    if "=" in rest or (
        re.search(r"(?<![\\A-Za-z])[a-zA-Z](?![A-Za-z])", rest)
        and "(" not in match[1]
        and "\\in" not in match[0]
    ):
        return text
    return rest.strip()


def _closes_last(text: str) -> bool:
    """Whether the first bracket is closed by the last one, of whatever kind."""
    depth = 0
    for at, sign in enumerate(text):
        depth += (sign in _OPEN) - (sign in _CLOSE)
        if depth == 0:
            return at == len(text) - 1
    return False


def split(text: str, separators: tuple[str, ...]) -> tuple[str, ...]:
    """The parts between separators that stand outside all brackets, stripped."""
    parts, depth, start, at = [], 0, 0, 0
    while at < len(text):
        found = (
            next((one for one in separators if text.startswith(one, at)), None)
            if depth == 0
            else None
        )
        if found:
            parts.append(text[start:at].strip())
            at += len(found)
            start = at
            continue
        depth = max(0, depth + (text[at] in _OPEN) - (text[at] in _CLOSE))
        at += 1
    parts.append(text[start:].strip())
    return tuple(parts)
