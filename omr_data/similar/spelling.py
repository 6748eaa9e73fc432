r"""One spelling for the text of a problem, before it is cut into tokens.

Copies of a problem differ in how they are typed: LaTeX or plain text, Unicode signs or ASCII, a
question number in front, numbers in words. `respell` rewrites all of these to one plain spelling:

    \frac{3}{4} cup  ->  3/4 cup         2³  ->  2^3          5 ≤ x  ->  5<=x
    \text{if } x\neq 3  ->  if  x!=3     三个  ->  3 个        Q12. Find x  ->  Find x

`omr_data.similar.tokens` then reads numbers, operators and words from the result. The table in
docs/dedup.md lists what is one problem and what is two, and a test runs it.
"""

import re
import unicodedata

SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ⁿⁱ", "0123456789+-=()ni")
SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎ₐₑₒₓₙₘₖₜᵢⱼ", "0123456789+-=()aeoxnmktij")
_RAISED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ⁿⁱ]+")
_LOWERED = re.compile("[₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎ₐₑₒₓₙₘₖₜᵢⱼ]+")

SIGNS = {
    "−": "-",
    "–": "-",
    "‐": "-",
    "‑": "-",
    "﹣": "-",
    "—": " ",
    "―": " ",
    "×": "*",
    "⋅": "*",
    "·": "*",
    "∙": "*",
    "•": " ",
    "∗": "*",
    "÷": "/",
    "∕": "/",
    "⁄": "/",
    "≤": "<=",
    "⩽": "<=",
    "≦": "<=",
    "≥": ">=",
    "⩾": ">=",
    "≧": ">=",
    "≠": "!=",
    "≈": "~",
    "∼": "~",
    "≃": "~",
    "∣": "|",
    "∶": ":",
    "±": "+-",
    "∓": "-+",
    "√": " sqrt ",
    "∛": " root 3 ",
    "∞": " infinity ",
    "π": " pi ",
    "°": " degrees ",
    "℃": " degrees c",
    "℉": " degrees f",
    "′": "'",
    "’": "'",
    "‘": "'",
    "`": "'",
    "、": ",",
    "。": ". ",
    "【": " ",
    "】": " ",
    "「": " ",
    "」": " ",
    "『": " ",
    "』": " ",
    "《": " ",
    "》": " ",
    "¿": " ",
    "¡": " ",
    "¦": " ",
    "§": " ",
    "…": " ",
    "“": " ",
    "”": " ",
    "„": " ",
    "«": " ",
    "»": " ",
    "→": "->",
    "⟶": "->",
    "⇒": "=>",
    "⟹": "=>",
    "⇔": "<=>",
    "∆": "△",
    "µ": "μ",
    "ϕ": "φ",
    "∥": "∥",
    "⫽": "∥",
}
_SIGNS = str.maketrans(SIGNS)

COMMANDS = {
    "times": "*",
    "cdot": "*",
    "ast": "*",
    "div": "/",
    "pm": "+-",
    "mp": "-+",
    "le": "<=",
    "leq": "<=",
    "leqslant": "<=",
    "ge": ">=",
    "geq": ">=",
    "geqslant": ">=",
    "lt": "<",
    "gt": ">",
    "ne": "!=",
    "neq": "!=",
    "approx": "~",
    "sim": "~",
    "simeq": "~",
    "equiv": "≡",
    "cong": "≅",
    "perp": "⊥",
    "parallel": "∥",
    "angle": "∠",
    "triangle": "△",
    "in": "∈",
    "notin": "∉",
    "subset": "⊂",
    "subseteq": "⊆",
    "supset": "⊃",
    "cup": "∪",
    "cap": "∩",
    "setminus": "∖",
    "emptyset": "∅",
    "varnothing": "∅",
    "sum": "∑",
    "prod": "∏",
    "int": "∫",
    "partial": "∂",
    "nabla": "∇",
    "forall": "∀",
    "exists": "∃",
    "mid": "|",
    "vert": "|",
    "lvert": "|",
    "rvert": "|",
    "to": "->",
    "rightarrow": "->",
    "Rightarrow": "=>",
    "implies": "=>",
    "iff": "<=>",
    "infty": " infinity ",
    "circ": " degrees ",
    "degree": " degrees ",
    "prime": "'",
    "sqrt": " sqrt ",
    "lfloor": "⌊",
    "rfloor": "⌋",
    "lceil": "⌈",
    "rceil": "⌉",
    "langle": "⟨",
    "rangle": "⟩",
    "alpha": "α",
    "beta": "β",
    "gamma": "γ",
    "delta": "δ",
    "epsilon": "ε",
    "varepsilon": "ε",
    "theta": "θ",
    "lambda": "λ",
    "mu": "μ",
    "rho": "ρ",
    "sigma": "σ",
    "tau": "τ",
    "phi": "φ",
    "varphi": "φ",
    "omega": "ω",
    "Delta": "△",
    "Omega": "ω",
    "Sigma": "σ",
    "Phi": "φ",
}
_LAYOUT = re.compile(
    r"\\(?:left|right|bigg?|Bigg?|displaystyle|textstyle|limits|nolimits|hspace|vspace|quad|qquad"
    r"|ldots|cdots|dots|hline|noindent|newline)(?![A-Za-z])"
    r"|\\(?:begin|end)\s*\{[a-z]+\*?\}(?:\{[lcr|]+\})?"
    r"|\\(?:text|mathrm|mathbf|mathit|mathsf|mathbb|mathcal|textbf|textit|operatorname|mbox|boxed"
    r"|overline|vec|overrightarrow|hat|bar)\b\*?"
    r"|\\\\|\\[,;:!>\[\]() ]|\$+|~|&"
)
_FRACTION = re.compile(r"\\[dtc]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")
_SHORT_FRACTION = re.compile(r"\\[dtc]?frac\s*([0-9a-zA-Z])\s*([0-9a-zA-Z])")
_ROOT = re.compile(r"\\sqrt\s*\[([^\[\]]*)\]")
_COMMAND = re.compile(r"\\([A-Za-z]+)")
_SINGLE = re.compile(r"(?<=[\^_])\s*\{\s*([0-9]+(?:[.][0-9]+)?|[^\W\d_])\s*\}")
_DEGREES = re.compile(r"\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![A-Za-z])|°)")
_LISTED = re.compile(r"(?<=\d)\{,\}(?=\d)|(?<=\d)\\[,!;](?=\d{3})")

_MARK = re.compile(r"<\s*image(?:\s*\d+)?\s*>|<\|?img\|?>|</?(?:b|i|u|p|br|div|span|sub|sup)\s*/?>")
_NUMBERED = re.compile(
    r"\A\s*(?:"
    r"(?:question|problem|exercise|example|ques|prob|ex|no|q|p|frage|aufgabe|pregunta|вопрос|задача"
    r"|例|题|問題|问题|問|问|第)\s*[.:#]?\s*\d{1,4}\s*(?:题|題|問)?\s*[.:)\]、．：）]?"
    r"|[#(\[（【]?\s*\d{1,4}\s*[)\]）】.、．](?!\d)"
    r"|\(\s*[ivx]+\s*\)"
    r")\s+(?=\S)|\A\s*\d{1,3}\s*[、．]\s*(?=\D)|\A\s*第\s*\d+\s*[题題問]\s*[.:：、]?\s*",
    re.IGNORECASE,
)
_LABEL = re.compile(r"\A\s*[(\[（]?\s*([A-Ha-h])\s*(?:[)\]）]|[.:：、．](?=\s|\D))\s*(?=\S)")
_INLINE = re.compile(r"(?:(?<=\s)|(?<=[^\x00-\x7F])|\A)[(（]?([A-H])\s*[.)、．:：）]\s*")
_HEADER = re.compile(r"\s*(?:(?:options|choices|answer choices|选项)\s*[:：]?)\s*\Z", re.IGNORECASE)

_DIGITS = {digit: value for value, digit in enumerate("零一二三四五六七八九")} | {"两": 2, "〇": 0}
_UNITS = {"十": 10, "百": 100, "千": 1_000}
_CHINESE = re.compile(r"[零一二三四五六七八九十百千两〇]+")
MEASURES = "元角分円米里厘毫克吨升秒岁歲度寸尺"
"""Signs before which 一 alone is the quantity 1. Elsewhere it is an article most of the time."""
THAI = {
    "หนึ่ง": 1,
    "สอง": 2,
    "สาม": 3,
    "สี่": 4,
    "ห้า": 5,
    "หก": 6,
    "เจ็ด": 7,
    "แปด": 8,
    "เก้า": 9,
    "สิบ": 10,
}
_THAI = re.compile("|".join(THAI))


def respell(text: str) -> str:
    """Returns the text in one plain spelling, in lower case.

    Args:
        text: A question or an option, as its dataset has it. Image marks and a question number in
            front are left out of the result.
    """
    # Marks first: "<image> 12. Find x" begins with a question number once the mark is gone.
    text = _MARK.sub(" ", text)
    text = _NUMBERED.sub("", text, count=1)
    if not text.isascii():
        text = _plain_signs(text)
    text = _LISTED.sub("", text)
    # These passes are about LaTeX alone, so that plain text does not pay for them.
    if "\\" in text or "$" in text:
        text = _plain_latex(text)
    # x^{2} and x^2 are one; x^{2y} and x^2y are not, so longer groups keep brackets.
    text = _SINGLE.sub(r"\1 ", text)
    text = text.replace("{", "(").replace("}", ")")
    return text.lower()


def _plain_signs(text: str) -> str:
    """Unicode to plain signs. NFKC alone would turn 2³ into 23, so exponents are written first."""
    text = _RAISED.sub(lambda found: _script("^", found[0].translate(SUPERSCRIPTS)), text)
    text = _LOWERED.sub(lambda found: _script("_", found[0].translate(SUBSCRIPTS)), text)
    # ½ decomposes to 1⁄2. A space keeps 3½ apart from 31/2.
    text = re.sub("[¼½¾⅐-⅞]", lambda found: " " + unicodedata.normalize("NFKC", found[0]), text)
    text = unicodedata.normalize("NFKC", text.translate(_SIGNS)).translate(_SIGNS)
    text = _THAI.sub(lambda found: f" {THAI[found[0]]} ", text)
    return _CHINESE.sub(_chinese_number, text)


def _script(sign: str, inside: str) -> str:
    """An exponent or an index. One number or letter needs no brackets."""
    return f"{sign}{inside} " if inside.isdigit() or len(inside) == 1 else f"{sign}({inside})"


def _plain_latex(text: str) -> str:
    r"""LaTeX to plain signs. Fractions go from the inside out, at most eight deep."""
    text = _DEGREES.sub(" degrees ", text)
    text = re.sub(r"\\(?:[%#_{}])|(?<=\d)\$", lambda found: found[0].strip("\\$") + " ", text)
    text = _ROOT.sub(r" root \1 ", text)
    text = _LAYOUT.sub(" ", text)
    # Bounded, so that a hostile text of nested fractions costs eight passes and no more.
    for _ in range(8):
        shorter = _SHORT_FRACTION.sub(r" \1/\2 ", text)
        shorter = _FRACTION.sub(_plain_fraction, _COMMAND_GROUPS.sub(r" \1 (\2)", shorter))
        if shorter == text:
            break
        text = shorter
    return _COMMAND.sub(lambda found: f" {COMMANDS.get(found[1], found[1])} ", text)


_COMMAND_GROUPS = re.compile(r"(\\sqrt|root \w+)\s*\{([^{}]*)\}")


def _plain_fraction(found: re.Match[str]) -> str:
    """a/b. Brackets stay around more than one number or name."""
    parts = [part.strip() for part in found.groups()]
    whole = [part if re.fullmatch(r"[\w.]*", part) else f"({part})" for part in parts]
    return f" {whole[0]}/{whole[1]} "


def _chinese_number(found: re.Match[str]) -> str:
    """The value of a Chinese numeral; the text itself where it is none.

    一 alone is the indefinite article most of the time (一个). It stays a word, in both of two
    copies. Numerals inside of words (三角形, triangle) are read too: both copies have them.
    """
    text = found[0]
    following = found.string[found.end() : found.end() + 1]
    if text == "一" and (not following or following not in MEASURES):
        return text
    # Digits without units are read one by one: 二〇二四 is 2024.
    if not any(unit in text for unit in _UNITS):
        return " " + "".join(str(_DIGITS[digit]) for digit in text) + " "
    total = digit = 0
    for sign in text:
        if sign in _DIGITS:
            digit = _DIGITS[sign]
            continue
        # 十五 is 15: a unit without a digit in front counts once. 千克 alone is a measure.
        if text in ("千", "百"):
            return text
        total += max(digit, 1) * _UNITS[sign]
        digit = 0
    return f" {total + digit} "


def strip_label(option: str) -> str:
    """An option without its label: "A. 12 cm", "(A) 12 cm" and "12 cm" are one."""
    return _LABEL.sub("", option, count=1)


def split_options(question: str) -> tuple[str, tuple[str, ...]]:
    """The question without a block of options at its end, and these options.

    Some datasets write options into the question ("... A. 3 B. 4"), others keep them apart.

    Returns:
        The question as it is and no options, where labels do not run A, B, ... to the end.
    """
    found = list(_INLINE.finditer(question))
    labels = [match[1] for match in found]
    # The last block counts: a question may mention (A) before it.
    start = max((place for place, label in enumerate(labels) if label == "A"), default=-1)
    block = labels[start:]
    if start < 0 or len(block) < 2 or block != list("ABCDEFGH"[: len(block)]):
        return question, ()
    edges = [match.start() for match in found[start + 1 :]] + [len(question)]
    options = [
        question[match.end() : edge].strip()
        for match, edge in zip(found[start:], edges, strict=True)
    ]
    # Points called A, B and C are followed by sentences, not by a block of short texts.
    if not all(0 < len(option) <= 200 for option in options):
        return question, ()
    return _HEADER.sub("", question[: found[start].start()]), tuple(options)
