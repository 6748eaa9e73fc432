"""Makes same.jsonl: labeled pairs of problems that are, or are not, one problem.

    python -m tests.truth.duplicates.make

Problems come from templates written for this purpose (problems.json, seven languages) with numbers
drawn from a seed; each kind of change is one function. Pairs that no function makes well are in
handmade.jsonl and are copied behind the others. Every line is {kind, language, same, one, other};
a side is {question, options}.
"""

import json
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
TARGET = FOLDER / "same.jsonl"
SPACELESS = ("zh", "ja", "th")
PER_KIND = 12
"""Pairs of each kind in each language."""
NAMES = {
    "en": ["Olivia", "Marcus", "Priya", "Tobias", "Yusuf", "Hannah"],
    "zh": ["小明", "小红", "王老师", "李阿姨", "张伯伯"],
    "ja": ["田中", "佐藤", "鈴木", "山本", "高橋"],
    "th": ["สมชาย", "มานี", "วิชัย", "สุดา"],
    "de": ["Johanna", "Friedrich", "Annika", "Lukas"],
    "fr": ["Camille", "Antoine", "Margot", "Julien"],
    "es": ["Lucía", "Mateo", "Valeria", "Sergio"],
}
THINGS = {
    "en": ["lemons", "notebooks", "candles", "muffins"],
    "zh": ["苹果", "面包", "橘子", "蛋糕"],
    "ja": ["りんご", "みかん", "パン", "たまご"],
    "th": ["ส้ม", "แตงโม", "มะม่วง"],
    "de": ["Zitronen", "Hefte", "Kerzen", "Brezeln"],
    "fr": ["citrons", "cahiers", "bougies", "gâteaux"],
    "es": ["naranjas", "libretas", "velas", "galletas"],
}
INSTRUCTIONS = {
    "en": [
        "Solve the following problem step by step and write the final answer in a box. ",
        "You are a careful mathematician. Think before you answer and check the result. ",
    ],
    "zh": ["请一步一步地推理，并把最后的答案写在方框里面。", "请仔细阅读下面的题目再作答。"],
    "ja": [
        "次の問題を順を追って解き、最後の答えを書いてください。",
        "よく考えてから答えてください。",
    ],
    "th": ["จงแก้โจทย์ต่อไปนี้ทีละขั้นตอนและเขียนคำตอบสุดท้าย ", "โปรดอ่านโจทย์อย่างละเอียดก่อนตอบ "],
    "de": ["Löse die folgende Aufgabe Schritt für Schritt und nenne am Ende das Ergebnis. "],
    "fr": ["Résous le problème suivant étape par étape et donne la réponse finale. "],
    "es": ["Resuelve el siguiente problema paso a paso y escribe la respuesta final. "],
}
ENGLISH = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
]
CHINESE = "零一二三四五六七八九十"

Change = Callable[[str, str, random.Random], str | None]
"""A changed question, or None where the change does not apply to it."""


def problem(language: str, chance: random.Random, small: bool = False) -> str:
    """A question with a name, a thing and three numbers drawn for it."""
    templates = json.loads((FOLDER / "problems.json").read_text())[language]
    # Four digits make thousands separators possible; two to nine have number words.
    ranges = [(2, 10)] * 3 if small else [(1_100, 9_800), (12, 98), (105, 980)]
    a, b, c = (chance.randrange(*bounds) for bounds in ranges)
    return str(
        chance.choice(templates).format(
            a=a, b=b, c=c, n1=chance.choice(NAMES[language]), o1=chance.choice(THINGS[language])
        )
    )


# --------------------------------------------------------------------------------- the same problem


def exact(text: str, language: str, chance: random.Random) -> str:
    return text


def spacing(text: str, language: str, chance: random.Random) -> str:
    changed = text.upper() if chance.random() < 0.5 else text.title()
    changed = text if "$" in text or language in ("de", "fr", "th") else changed
    return "  " + changed.replace(" ", "  ", 3).replace("，", ", ").replace("。", " 。") + "\n"


def thousands(text: str, language: str, chance: random.Random) -> str | None:
    changed = re.sub(r"\b(\d)(\d{3})\b", chance.choice([r"\1,\2", r"\1 \2", r"\1{,}\2"]), text)
    return None if changed == text else changed


def decimals(text: str, language: str, chance: random.Random) -> str | None:
    changed = re.sub(r"(?<![\d.])(\d{2,3})(?![\d.,])", r"\1.0", text, count=1)
    return None if changed == text else changed


def number_words(text: str, language: str, chance: random.Random) -> str | None:
    if language == "en":
        changed = re.sub(r"(?<![\d$^])\b([2-9])\b(?![x^])", lambda m: ENGLISH[int(m[1])], text)
    elif language == "zh":
        changed = re.sub(r"([2-9])(?=[个元米页])", lambda m: CHINESE[int(m[1])], text)
    else:
        return None
    return None if changed == text else changed


def question_number(text: str, language: str, chance: random.Random) -> str:
    number = chance.randrange(1, 60)
    front = [f"{number}. ", f"({number}) ", f"Q{number}: ", f"Problem {number}. "]
    if language == "zh":
        front = [f"{number}、", f"第{number}题 ", f"例{number}. "]
    return chance.choice(front) + text


def image_mark(text: str, language: str, chance: random.Random) -> str:
    return chance.choice([f"<image>\n{text}", f"{text} <image>", f"<image> {text}"])


def signs(text: str, language: str, chance: random.Random) -> str | None:
    changed = text.replace("x^2", "x²").replace("x^3", "x³").replace("$", "").replace(" - ", " − ")
    return None if changed == text else changed


def typos(text: str, language: str, chance: random.Random) -> str:
    """Two misspelled words, or two wrong characters in a script without spaces."""
    letters = [at for at, sign in enumerate(text) if sign.isalpha() and at + 1 < len(text)]
    changed = list(text)
    if language in SPACELESS:
        others = [text[at] for at in letters]
        for at in chance.sample(letters, 2):
            if text[at] not in "零一二三四五六七八九十百千":
                changed[at] = chance.choice(others)
        return "".join(changed)
    words = list(re.finditer(r"[^\W\d_]{5,}", text))
    for word in chance.sample(words, 2):
        at = chance.randrange(word.start() + 1, word.end() - 1)
        kind = chance.randrange(3)
        if kind == 0:
            changed[at] = ""
        elif kind == 1:
            changed[at] = changed[at] * 2
        else:
            changed[at], changed[at - 1] = changed[at - 1], changed[at]
    return "".join(changed)


def instruction(text: str, language: str, chance: random.Random) -> str:
    added = chance.choice(INSTRUCTIONS[language])
    return added + text if chance.random() < 0.7 else f"{text}\n{added}"


def joined(text: str, language: str, chance: random.Random) -> str:
    other = problem(language, chance)
    return f"{text}\n{other}" if chance.random() < 0.5 else f"{other}\n{text}"


def cut(text: str, language: str, chance: random.Random) -> str:
    """The first 80%, up to a word's end."""
    end = len(text) * 4 // 5
    if language in SPACELESS or text.rfind(" ", 0, end) < 0:
        return text[:end]
    return text[: text.rfind(" ", 0, end)]


# ---------------------------------------------------------------------------------- another problem


def one_number(text: str, language: str, chance: random.Random) -> str:
    found = chance.choice(list(re.finditer(r"\d+", text)))
    value = int(found[0]) + chance.choice([1, 2, 10])
    return f"{text[: found.start()]}{value}{text[found.end() :]}"


def one_digit(text: str, language: str, chance: random.Random) -> str:
    at = chance.choice([m.start() for m in re.finditer(r"\d", text)])
    digit = chance.choice([d for d in "123456789" if d != text[at]])
    return text[:at] + digit + text[at + 1 :]


def swapped_numbers(text: str, language: str, chance: random.Random) -> str | None:
    found = list(re.finditer(r"\d+", text))
    first, second = chance.sample(found, 2)
    if first[0] == second[0]:
        return None
    values = {first.start(): second[0], second.start(): first[0]}
    return re.sub(r"\d+", lambda m: values.get(m.start(), m[0]), text)


def negative(text: str, language: str, chance: random.Random) -> str:
    found = chance.choice(list(re.finditer(r"(?<![\w^$-])\d+", text)) or [re.search(r"\d+", text)])
    assert found is not None
    return f"{text[: found.start()]}-{text[found.start() :]}"


EXPRESSIONS = {
    "en": "Compute the exact value of the expression {} and simplify the result "
    "as far as possible.",
    "zh": "请计算算式 {} 的值，并把结果化到最简形式，写出主要的计算步骤。",
    "ja": "次の式 {} の値を計算し、結果をできるだけ簡単な形で答えなさい。",
    "th": "จงคำนวณค่าของนิพจน์ {} และเขียนผลลัพธ์ในรูปอย่างง่ายที่สุด",
    "de": "Berechne den genauen Wert des Ausdrucks {} und vereinfache das Ergebnis "
    "so weit wie möglich.",
    "fr": "Calcule la valeur exacte de l'expression {} et simplifie le résultat "
    "autant que possible.",
    "es": "Calcula el valor exacto de la expresión {} y simplifica el resultado todo lo posible.",
}


def expression_pairs(language: str, chance: random.Random) -> Iterator[tuple[str, str, str]]:
    """Kind and two questions about expressions that differ in one sign, operator or relation."""
    a, b, c = (chance.randrange(2, 60) for _ in range(3))
    choices = [
        ("sign flipped", f"{a}x + {b} - {c}", f"{a}x - {b} - {c}"),
        ("sign flipped", f"-{a} + {b}x", f"{a} + {b}x"),
        ("operator changed", f"{a} × {b} + {c}", f"{a} ÷ {b} + {c}"),
        ("operator changed", f"\\sqrt{{{a}}} + {b}", f"{a} + {b}"),
        ("operator changed", f"({a} + {b}) × {c}", f"{a} + ({b} × {c})"),
        ("relation changed", f"{a}x + {b} < {c}", f"{a}x + {b} > {c}"),
        ("relation changed", f"{a}x + {b} ≤ {c}", f"{a}x + {b} < {c}"),
        ("exponent or digits", f"{a}^{b % 9 + 1} + {c}", f"{a}{b % 9 + 1} + {c}"),
        ("exponent or digits", f"{a}{_raised(b % 9 + 1)} + {c}", f"{a}{b % 9 + 1} + {c}"),
        ("mixed number", f"{a}½ + {c}", f"{a}1/2 + {c}"),
        ("function changed", f"\\sin {a}x + {b}", f"\\cos {a}x + {b}"),
    ]
    for kind, one, other in choices:
        frame = EXPRESSIONS[language]
        yield kind, frame.replace("{}", f" {one} "), frame.replace("{}", f" {other} ")


def _raised(digit: int) -> str:
    return "⁰¹²³⁴⁵⁶⁷⁸⁹"[digit]


SAME: dict[str, Change] = {
    "exact": exact,
    "case and spaces": spacing,
    "thousands": thousands,
    "decimals": decimals,
    "number words": number_words,
    "question number": question_number,
    "image mark": image_mark,
    "Unicode or LaTeX": signs,
    "typos": typos,
    "instruction": instruction,
    "joined": joined,
    "cut": cut,
}
DIFFERENT: dict[str, Change] = {
    "one number changed": one_number,
    "one digit changed": one_digit,
    "numbers swapped": swapped_numbers,
    "sign added": negative,
}


def pairs() -> Iterator[dict[str, Any]]:
    """All made pairs, in a fixed order."""
    for language in NAMES:
        for same, changes in ((True, SAME), (False, DIFFERENT)):
            for kind, change in changes.items():
                yield from changed_pairs(language, kind, change, same)
        chance = random.Random(f"expressions {language}")
        for _ in range(4):
            for kind, one, other in expression_pairs(language, chance):
                yield line(kind, language, False, one, other)
        yield from option_pairs(language)


def changed_pairs(language: str, kind: str, change: Change, same: bool) -> Iterator[dict[str, Any]]:
    """Pairs of one kind in one language."""
    chance = random.Random(f"{kind} {language}")
    made = tries = 0
    while made < PER_KIND and tries < 20 * PER_KIND:
        tries += 1
        one = problem(language, chance, small=kind == "number words")
        other = change(one, language, chance)
        if other is not None:
            made += 1
            yield line(kind, language, same, one, other)


def option_pairs(language: str) -> Iterator[dict[str, Any]]:
    """Problems with options: labels and spaces do not matter, other options do."""
    chance = random.Random(f"options {language}")
    for _ in range(PER_KIND):
        question = problem(language, chance)
        values = chance.sample(range(10, 99), 4)
        plain = [f"{value}cm" for value in values]
        labeled = [f"{'ABCD'[at]}. {value} cm" for at, value in enumerate(values)]
        others = [f"{value + 1}cm" for value in values]
        yield line("option labels", language, True, question, question, plain, labeled)
        yield line("other options", language, False, question, question, plain, others)


def line(
    kind: str,
    language: str,
    same: bool,
    one: str,
    other: str,
    options: list[str] | None = None,
    others: list[str] | None = None,
) -> dict[str, Any]:
    """One line of the truth set.

    Args:
        kind: What was changed.
        language: Its code.
        same: Whether both sides are one problem.
        one: A question.
        other: The changed question.
        options: The options of the first side.
        others: The options of the other side.
    """
    sides = {
        "one": {"question": one, "options": options or []},
        "other": {"question": other, "options": others or []},
    }
    return {"kind": kind, "language": language, "same": same, **sides}


def main() -> None:
    """Writes the truth set."""
    handmade = (FOLDER / "handmade.jsonl").read_text().splitlines()
    lines = [json.dumps(pair, ensure_ascii=False) for pair in pairs()]
    TARGET.write_text("\n".join([*lines, *handmade]) + "\n")
    print(f"{len(lines) + len(handmade):,} pairs")


if __name__ == "__main__":
    main()
