"""One spelling for answers: LaTeX, Unicode and Markdown become plain text.

`normalize` maps gold answers and claims alike to one small language, so that each reader of
`answers/` knows one spelling: `*` for \\times and the middle dot, `<=` for \\leq, `°` for ^\\circ,
`⦃ ⦄` for the braces of sets, Greek letters as Unicode, units and words without \\text. Nothing that
carries meaning is dropped: what has no plain spelling stays as it was, and no reader accepts it.
"""

import functools
import re
import unicodedata

from omr_data.verifiers.scanner import ITEM, balanced
from omr_data.verifiers.spellings import COMMANDS, SIGNS, entries

LONGEST = 4_000
"""Characters of an answer that are read. The longest gold answers of the sources have a few
hundred; a longer text is cut off here, and then no reader accepts it as a whole."""

_PLAIN = re.compile(r"[\w+,:/()<>=.\- ]*", re.ASCII)
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]"
)
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿ", "0123456789-+n")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_RAISED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿ]+")
_LOWERED = re.compile("[₀-₉]+")
_FRACTIONS = {
    sign: "\\frac{{{}}}{{{}}}".format(*unicodedata.normalize("NFKC", sign).split("⁄"))
    for sign in "½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅐⅛⅜⅝⅞⅑⅒"
}
_VULGAR = re.compile(f"[{''.join(_FRACTIONS)}]")
_SIGNS = str.maketrans(SIGNS)
_ROOT = re.compile(r"([√∛])\s*(\([^()]*\)|\{[^{}]*\}|\d+(?:\.\d+)?|[A-Za-zα-ω])")

_COMMAND = re.compile(r"\\([a-zA-Z]+|.)", re.DOTALL)
# `\\,` before three digits is a thousands mark, as is `,\\!`; elsewhere both are only spacing.
_THOUSANDS = re.compile(r"(?<=\d)(?:,\s*\\!\s*|\{,\}\s*|\\,)(?=\d{3}(?!\d))")
_UNWRAPPED = set(
    entries(
        """text textbf textit textrm textsf mathrm mathbf mathit mathsf bf rm operatorname mbox hbox
    boxed fbox unit si num number ce boldsymbol mathnormal bm emph"""
    )
)
_INNER = re.compile(r"\\(?:text|mathrm|unit|textbf|mathbf)\s*\{([^{}]*)\}")
_MEASURED = {"quantity", "SI", "qty"}
_SYMBOLS = {"sin", "cos", "tan", "cot", "sec", "csc", "ln", "log", "lg", "exp", "max", "min"}
_ROWS = re.compile(r"\\begin\{(cases|aligned|align\*?|gathered|split)\}(.*?)\\end\{\1\}", re.DOTALL)
_BOLD = re.compile(r"(?<![\w)}\]*])\*\*(?=\S)([^*\n]+?)(?<=\S)\*\*(?![\w(*])")
_SPACES = re.compile(r"[ \t]+")
_ITEM_SPACE = re.compile(rf"[ ,;]*{ITEM}(?:[ ,;]|{ITEM})*")
_ITEM_WORD = re.compile(rf" ?{ITEM}? ?\b(and|or)\b ?{ITEM}? ?")
_LEAD = re.compile(
    r"(?:(?:so|thus|hence|therefore)\b,? ?)?(?:(?:the|my) )?(?:(?:final|correct) )?"
    r"(?:answer|ans)(?: ?[:：=]| is:?| equals)\s*|答案(?:是|为|:|：)\s*",
    re.IGNORECASE,
)
_PEELED = re.compile(r"""^[=`"'«\s]|[`"'».,;:!\s\x1e]$|answer|ans\b|答案""", re.IGNORECASE)
"""What there may be to take off; most answers have none of it."""
_ENDS = (("`", "`"), ('"', '"'), ("'", "'"), ("«", "»"))


def normalize(text: str) -> str:
    """Returns the plain spelling of an answer, of at most `LONGEST` characters."""
    if len(text) > LONGEST:
        text = text[:LONGEST]
    # Most answers are a number or a word, and need no more than their spaces put in order.
    if _PLAIN.fullmatch(text):
        return _peel(" ".join(text.split()))

    return _normalize(text)


@functools.lru_cache(maxsize=4_096)
def _normalize(text: str) -> str:
    text = _INVISIBLE.sub("", text)
    if not text.isascii():
        # 10² becomes 10^{2}, never 102; 3½ becomes 3\\frac{1}{2}.
        text = _RAISED.sub(lambda run: f"^{{{run[0].translate(_SUPERSCRIPTS)}}}", text)
        text = _LOWERED.sub(lambda run: f"_{{{run[0].translate(_SUBSCRIPTS)}}}", text)
        text = _VULGAR.sub(lambda sign: _FRACTIONS[sign[0]], text).translate(_SIGNS)
        # Signs of roots reach over one group only; \\sqrt says how far in braces.
        text = _ROOT.sub(_root_to_command, text)
        # NFKC makes full-width letters, digits and brackets plain, and the micro sign a Greek
        # letter.
        text = unicodedata.normalize("NFKC", text)
    if "\\" in text or "$" in text:
        # Money is marked by another dollar sign while those of formulas are taken away.
        text = _THOUSANDS.sub(",", text).replace("~", " ")
        text = _unwrap(_COMMAND.sub(_replace_command, _ROWS.sub(_rows_to_items, text)))
        if "$" in text or "\x02" in text:
            text = _without_delimiters(text)

        text = text.replace("＄", "$")
    if "*" in text:
        text = _BOLD.sub(r"\1", text)
        # Half of a pair of marks is left where a sentence was cut: "**Answer: D**".
        text = re.sub(r"^\s*\*\*(?=\S)|(?<=\S)\*\*[.。]?\s*$", "", text)

    text = text.replace("**", "^").replace("+/-", "±")
    if "{,}" in text:
        text = _THOUSANDS.sub(",", text)
    if "^" in text:
        text = re.sub(r"\s+\^", "^", text)

    # An exponent that is a bare degree sign: 45^° and 45^{°} are 45°.
    text = re.sub(r"\s*\^\s*(?:\{\s*°\s*\}|°)", "°", text)
    text = re.sub(r"\s*\n\s*", ITEM, text.strip())
    text = _ITEM_WORD.sub(r" \1 ", _ITEM_SPACE.sub(ITEM, _SPACES.sub(" ", text)))
    return _peel(text.strip(" " + ITEM))


def _root_to_command(match: re.Match[str]) -> str:
    inside = match[2]
    if inside[0] in "({":
        inside = inside[1:-1]

    degree = ""
    if match[1] == "∛":
        degree = "[3]"

    return f"\\sqrt{degree}{{{inside}}}"


def _rows_to_items(match: re.Match[str]) -> str:
    rows = match[2].replace("&", " ").replace("\\cr", "\\\\").split("\\\\")
    return ITEM.join(row.strip(" ,;") for row in rows if row.strip())


def _replace_command(match: re.Match[str]) -> str:
    name = match[1]
    plain = COMMANDS.get(name)
    if plain is None:
        if name in _SYMBOLS:
            return f"\\{name} "

        return match[0]

    return plain


def _unwrap(text: str) -> str:
    """Takes the content of \\text{..} and its like out of its braces, however deep they nest."""
    found = re.search(r"\\(?:[a-zA-Z]+)\s*\{", text)
    if found is None:
        return text

    parts: list[str] = []
    at = 0

    for command in re.finditer(r"\\([a-zA-Z]+)\s*\{", text):
        if command.start() < at or command[1] not in _UNWRAPPED | _MEASURED:
            continue

        inside = balanced(text, command.end() - 1)
        if inside is None:
            continue

        # A space keeps "5\\text{cm}" and "\\text{is}5" apart; next to a sign none is needed.
        before = text[at : command.start()]
        at = command.end() + len(inside) + 1
        space = ""
        if before[-1:].isalnum():
            space = " "

        tail = ""
        if text[at : at + 1].isalnum():
            tail = " "

        # Two levels are as deep as real answers go: \\boxed{5 \\text{ cm}}. A deeper one is left as
        # it is, and then no reader accepts it: the cost of a bound on the time.
        inside_plain = _INNER.sub(r" \1 ", inside)
        parts += [before, space, inside_plain, tail]
        # \\quantity{24}{cm}: its second argument is the unit.
        if command[1] in _MEASURED and (unit := balanced(text, at)) is not None:
            parts.append(unit)
            at += len(unit) + 2

    return "".join([*parts, text[at:]])


def _without_delimiters(text: str) -> str:
    r"""Removes $..$, $$..$$, \(..\) and \[..\] wherever they stand; other dollar signs are money.

    A dollar sign opens a formula when no space follows it, and closes one when no space precedes
    it and no digit follows it (the rule of Pandoc), so that "$5 and $6" holds two amounts.
    """
    # Two private signs stand for the doubled one, so that single dollar signs are found alone.
    text = text.replace("$$", "\x02\x03")
    parts: list[str] = []
    opened = -1
    double = False

    for at, sign in enumerate(text):
        if sign == "\x02" and text[at : at + 2] == "\x02\x03":
            parts.append("\x03" if double else "\x02")
            double = not double
        elif sign == "\x03" and at and text[at - 1 : at + 1] == "\x02\x03":
            continue
        elif sign != "$":
            parts.append(sign)
        elif opened >= 0 and text[at - 1] != " " and not text[at + 1 : at + 2].isdigit():
            # The opening sign was kept as money until its partner was found.
            parts[opened] = "\x02"
            parts.append("\x03")
            opened = -1
        elif opened < 0 and text[at + 1 : at + 2].strip():
            opened = len(parts)
            parts.append("$")
        else:
            parts.append("$")

    plain = "".join(parts)
    # Formulas side by side are items of a list: $7$ $10$.
    plain = re.sub("\x03[ \n]*\x02", ITEM, plain)
    return plain.replace("\x02", "").replace("\x03", "")


def _peel(text: str) -> str:
    """Takes off quotes, a leading "the answer is" and what ends a sentence."""
    # Most answers have nothing to take off, and one search finds that out.
    if text.isalnum() or not _PEELED.search(text):
        return text
    # Marks nest ("**'5.'**"); six rounds are more than any answer needs, and bound the work.
    for _ in range(6):
        before = text
        if text.startswith("=") and len(text) > 1:
            text = text[1:].strip()

        lead = _LEAD.match(text)
        if lead is not None and lead.end() < len(text):
            text = text[lead.end() :]
        for opening, closing in _ENDS:
            inner = text[1:-1]
            if len(text) > 2 and text[0] == opening and text[-1] == closing != inner[-1:]:
                text = inner.strip()

        if text.endswith((".", ",", ";", ":")) and not text.endswith(("..", "\\ldots.")):
            text = text[:-1].rstrip()
        # "5!" is a factorial; after two letters it is an exclamation.
        if text.endswith("!") and re.search(r"[A-Za-z]{2}!$", text):
            text = text[:-1]

        text = text.strip(" " + ITEM)
        if text == before:
            break

    return text
