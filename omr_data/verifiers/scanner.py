"""Bracket-aware reading of short texts: matching braces, splitting outside brackets.

Everything here is one pass over the text, so a hostile answer costs time linear in its length.
"""

OPENING = "([{⦃"
CLOSING = ")]}⦄"
ITEM = "\x1e"
"""Separates items that stood in formulas or lines of their own, or apart by \\quad."""


def balanced(text: str, start: int) -> str | None:
    """Returns what stands between the brace at `start` and its partner.

    None when it has no partner. An escaped brace counts as an ordinary character.
    """
    # By hand and not by a pattern, because brackets nest to any depth.
    depth, at = 0, start

    while at < len(text):
        sign = text[at]
        if sign == "\\":
            at += 2
            continue
        if sign == "{":
            depth += 1
        elif sign == "}":
            depth -= 1
            if depth == 0:
                return text[start + 1 : at]

        at += 1

    return None


def split(text: str, separators: tuple[str, ...]) -> list[str]:
    """Splits at separators that stand outside all brackets, and strips each part.

    Args:
        text: A normalized answer.
        separators: Where to split; the first one that matches at a place is taken.
    """
    parts: list[str] = []
    depth = start = at = 0
    # A set of first characters makes the common case one look-up.
    firsts = {separator[0] for separator in separators}

    while at < len(text):
        sign = text[at]
        if depth == 0 and sign in firsts:
            found = next((one for one in separators if text.startswith(one, at)), None)
            if found is not None:
                parts.append(text[start:at].strip())
                at += len(found)
                start = at
                continue

        if sign in OPENING:
            depth += 1
        elif sign in CLOSING:
            # A closing bracket too many is left to the reader of the part, which refuses it.
            depth = max(0, depth - 1)

        at += 1

    parts.append(text[start:].strip())
    return parts


def encloses(text: str) -> bool:
    """Whether the first bracket is closed by the last character, of whatever kind both are."""
    depth = 0

    for at, sign in enumerate(text):
        if sign in OPENING:
            depth += 1
        elif sign in CLOSING:
            depth -= 1

        if depth == 0:
            return at == len(text) - 1 and at > 0

    return False


def deepest(text: str) -> int:
    """How many brackets are open at once, at most."""
    # Counted and not parsed: the reader is not begun on a text that would exhaust the stack.
    depth = most = 0

    for sign in text:
        if sign in OPENING:
            depth += 1
            most = max(most, depth)
        elif sign in CLOSING:
            depth -= 1

    return most
