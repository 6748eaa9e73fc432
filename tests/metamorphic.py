"""Pairs made from a seed with their truth by construction: re-rendered golds and changed golds.

**Re-rendering**: another way to write the same answer, which must never be WRONG.
**Change**: one digit, sign, operator, name, unit, base or element is another one, which must never
be RIGHT. No pair is labeled by the verifier under test.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MadePair:
    """A gold answer with a claim, and whether the claim is right."""

    kind: str
    gold: str
    claim: str
    right: bool


Maker = Callable[[random.Random], tuple[str, list[str], list[str]]]
"""A gold answer, ways to write it again, and answers that differ from it in one place."""

SUPERSCRIPT = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
UNITS = (
    ("cm", "centimeters", "\\mathrm{cm}", "m"),
    ("kg", "kilograms", "\\text{ kg}", "g"),
    ("km/h", "km per hour", "\\text{ km/h}", "m/s"),
    ("N", "newtons", "\\mathrm{N}", "J"),
    ("m/s^2", "m/s²", "\\mathrm{m/s^{2}}", "m/s"),
    ("cm^2", "square centimeters", "cm²", "cm^3"),
    ("°", "degrees", "^\\circ", " cm"),
    ("L", "liters", "\\text{ L}", "mL"),
)
NOUNS = ("apples", "marbles", "square units", "students", "books", "triangles", "people")


def integer(rng: random.Random) -> tuple[str, list[str], list[str]]:
    value = rng.randint(-999, 10 ** rng.choice((2, 3, 5, 8)))
    forms = [f"{value:,}", f"{value}.0", f"x = {value}", f"\\text{{{value}}}", f"{value}."]
    forms += [f"{value * 3}/3", f"\\frac{{{value * 2}}}{{2}}", f"{value} units"]
    forms += [f"{value:,}".replace(",", "{,}"), f"{value:,}".replace(",", ",\\!"), f"{value},"]
    changed = [str(value + rng.randint(1, 9)), str(value * 10 or 5), f"{value}.5", f"{value}%"]
    changed += [str(-value or 4), f"{value or 3} hundred", f"{value or 3} squared plus 1"]
    return str(value), forms, changed


def decimal(rng: random.Random) -> tuple[str, list[str], list[str]]:
    cents = rng.randint(101, 99_999)
    cents += cents % 10 == 0
    gold = f"{cents // 100}.{cents % 100:02d}"
    forms = [f"{gold}0", f"{cents}/100", f"\\frac{{{cents}}}{{100}}", f"x={gold}", f"≈ {gold}"]
    forms += [f"{cents} \\times 10^{{-2}}", f"{cents}·10⁻²", f"{cents}e-2"]
    changed = [f"{(cents + 7) / 100:.2f}", f"{cents / 10:.1f}", f"-{gold}", f"{gold}5e3"]
    return gold, forms, changed


def fraction(rng: random.Random) -> tuple[str, list[str], list[str]]:
    top, bottom, times = rng.randint(1, 40), rng.randint(2, 40), rng.randint(2, 5)
    top += top == bottom
    gold = f"\\frac{{{top}}}{{{bottom}}}"
    forms = [f"{top}/{bottom}", f"\\dfrac{{{top * times}}}{{{bottom * times}}}"]
    forms += [f"\\tfrac{{{top}}}{{{bottom}}}", f"{top} / {bottom}", f"x = {top}/{bottom}"]
    whole, rest = divmod(top, bottom)
    if whole and rest:
        forms += [f"{whole} {rest}/{bottom}", f"{whole}\\frac{{{rest}}}{{{bottom}}}"]
    changed = [f"{top + 1}/{bottom}", f"-{top}/{bottom}", f"{bottom}/{top}", f"{top}{bottom}"]
    return gold, forms, changed


def percent(rng: random.Random) -> tuple[str, list[str], list[str]]:
    value = rng.randint(1, 99)
    forms = [f"{value}\\%", f"{value} percent", f"{value} %", f"{value}.0%", f"{value}/100"]
    return f"{value}%", forms, [f"{value + 1}%", f"-{value}%", f"{value * 10}%"]


def root(rng: random.Random) -> tuple[str, list[str], list[str]]:
    a, b = rng.randint(2, 9), rng.choice((2, 3, 5, 6, 7, 10, 11))
    gold = f"{a}\\sqrt{{{b}}}"
    forms = [f"{a}√{b}", f"\\sqrt{{{a * a * b}}}", f"{a} \\cdot \\sqrt{b}", f"{a}*sqrt({b})"]
    forms += [f"{a}·√{b}", f"\\frac{{{a * b}}}{{\\sqrt{{{b}}}}}", f"x={a}\\sqrt{{{b}}}"]
    changed = [
        f"{a + 1}\\sqrt{{{b}}}",
        f"-{a}\\sqrt{{{b}}}",
        f"{a}+\\sqrt{{{b}}}",
        f"\\sqrt{{{b}}}",
    ]
    return gold, forms, changed


def polynomial(rng: random.Random) -> tuple[str, list[str], list[str]]:
    a, b = rng.sample(range(1, 12), 2)
    gold = f"x^2+{a + b}x+{a * b}"
    forms = [f"(x+{a})(x+{b})", f"{a * b}+{a + b}x+x²", f"x^{{2}} + {a + b} x + {a * b}"]
    forms += [f"x \\cdot x + {a + b}x + {a * b}", f"x*x+{a + b}*x+{a * b}"]
    changed = [f"x^2+{a + b + 1}x+{a * b}", f"x^2-{a + b}x+{a * b}", f"y^2+{a + b}y+{a * b}"]
    return gold, forms, [*changed, f"x^3+{a + b}x+{a * b}"]


def pi(rng: random.Random) -> tuple[str, list[str], list[str]]:
    a, b = rng.randint(2, 30), rng.randint(2, 9)
    gold = f"\\frac{{{a}\\pi}}{{{b}}}"
    forms = [f"{a}π/{b}", f"\\frac{{{a}}}{{{b}}}\\pi", f"\\pi \\cdot \\frac{{{a}}}{{{b}}}"]
    return gold, forms, [f"{a + 1}π/{b}", f"{a}/{b}", f"-{a}π/{b}", f"\\frac{{{a}\\pi}}{{{b + 1}}}"]


def tiny(rng: random.Random) -> tuple[str, list[str], list[str]]:
    n = rng.randint(20, 90)
    forms = [f"e^{{-{n}}}", f"\\frac{{1}}{{e^{{{n}}}}}", f"1/e^{{{n}}}"]
    return f"e^{{-{n}}}", forms, [f"e^{{-{n + 1}}}", f"e^{{{n}}}", "0"]


def equation(rng: random.Random) -> tuple[str, list[str], list[str]]:
    a, b = rng.randint(2, 9), rng.randint(1, 9)
    gold = f"y={a}x+{b}"
    forms = [f"y = {b} + {a}x", f"{a}x - y + {b} = 0", f"2y={2 * a}x+{2 * b}", f"y-{b}={a}x"]
    forms += [f"{a}x+{b}"]
    changed = [f"y={a}x-{b}", f"y={a + 1}x+{b}", f"x={a}y+{b}", "1=1", f"z={a}x+{b}"]
    return gold, forms, changed


def named(rng: random.Random) -> tuple[str, list[str], list[str]]:
    a, b = rng.sample(range(-20, 20), 2)
    gold = f"a={a}, b={b}"
    forms = [f"a = {a} and b = {b}", f"b={b}, a={a}", f"a={a} \\quad b={b}", f"a={a}; b={b}"]
    forms += [f"(a,b)=({a},{b})", f"$a={a}$\n$b={b}$", f"a={a},\\ b={b}"]
    changed = [f"a={b}, b={a}", f"a={a + 1}, b={b}", f"a={a}, c={b}", f"a={a}, b={-b - 1}"]
    return gold, forms, changed


def listed(rng: random.Random) -> tuple[str, list[str], list[str]]:
    parts = rng.sample(range(-30, 60), rng.randint(2, 4))
    other = parts[1:] + parts[:1]
    gold = ", ".join(map(str, parts))
    forms = [", ".join(map(str, other)), "; ".join(map(str, parts)), " and ".join(map(str, parts))]
    forms += [
        f"\\{{{gold}\\}}",
        "$" + "$ $".join(map(str, parts)) + "$",
        " or ".join(map(str, other)),
    ]
    twice = ", ".join(map(str, [*parts, parts[0]]))
    changed = [", ".join(map(str, [parts[0] + 61, *parts[1:]])), twice, str(parts[0])]
    return gold, forms, changed


def pointed(rng: random.Random) -> tuple[str, list[str], list[str]]:
    a, b = rng.sample(range(-30, 60), 2)
    forms = [
        f"({a}, {b})",
        f"({a};{b})",
        f"(x,y)=({a},{b})",
        f"\\left({a}, {b}\\right)",
        f"P({a},{b})",
    ]
    forms += [f"({a}.0, {b})", f"({2 * a}/2,{b})"]
    changed = [f"({b},{a})", f"({a},{b + 1})", f"({a},{b},0)", f"({-a - 1},{b})", str(a)]
    return f"({a},{b})", forms, changed


def interval(rng: random.Random) -> tuple[str, list[str], list[str]]:
    a = rng.randint(-20, 20)
    b = a + rng.randint(1, 15)
    gold = f"[{a},{b})"
    forms = [f"[{a}, {b})", f"{a}\\leq x<{b}", f"x \\in [{a},{b})", f"{b} > x ≥ {a}"]
    forms += [f"\\left[{a},{b}\\right)", f"\\{{x \\mid {a} \\le x < {b}\\}}", f"x>={a} and x<{b}"]
    changed = [f"[{a},{b}]", f"({a},{b})", f"[{a},{b + 1})", f"({a},{b}]", f"[{a - 1},{b})"]
    return gold, forms, changed


def inequality(rng: random.Random) -> tuple[str, list[str], list[str]]:
    a, k = rng.randint(-20, 20), rng.randint(2, 6)
    forms = [f"{a} < x", f"({a},\\infty)", f"-{k}x < {-k * a}", f"{k}x > {k * a}", f"x \\gt {a}"]
    forms += [f"x \\in ({a}, +\\infty)", f"{k}x + 1 > {k * a + 1}"]
    changed = [f"x < {a}", f"x \\geq {a}", f"x > {a + 1}", f"y > {a}", f"[{a},\\infty)"]
    return f"x > {a}", forms, changed


def union(rng: random.Random) -> tuple[str, list[str], list[str]]:
    a = rng.randint(-20, 20)
    b = a + rng.randint(1, 15)
    gold = f"(-\\infty,{a})\\cup({b},\\infty)"
    forms = [f"x<{a} or x>{b}", f"x > {b} \\text{{ or }} x < {a}", f"({b},∞)∪(-∞,{a})"]
    changed = [f"({a},{b})", f"x<{a}", f"x\\le {a} or x>{b}", f"x<{a} or x>{b + 1}"]
    return gold, forms, changed


def measured(rng: random.Random) -> tuple[str, list[str], list[str]]:
    value = rng.randint(2, 400)
    short, words, latex, other = rng.choice(UNITS)
    space = "" if short == "°" else " "
    forms = [f"{value}{space}{short}", f"{value} {words}", f"{value}{latex}", f"${value}{latex}$"]
    forms += [f"x = {value}{space}{short}", f"{value}.0{space}{short}"]
    changed = [f"{value + 1}{space}{short}", f"{value}{space}{other}".replace("  ", " ")]
    return f"{value}{space}{short}", forms, [*changed, f"-{value}{space}{short}"]


def counted(rng: random.Random) -> tuple[str, list[str], list[str]]:
    value, noun = rng.randint(2, 900), rng.choice(NOUNS)
    forms = [str(value), f"{value} {noun}", f"{value}\\text{{ {noun}}}", f"{value} {noun}."]
    changed = [str(value + 1), f"{value * 10} {noun}", f"-{value}", f"{value} thousand"]
    return f"{value} {noun}", forms, changed


def money(rng: random.Random) -> tuple[str, list[str], list[str]]:
    value = rng.randint(2, 9_000)
    forms = [f"\\${value}", f"${value:,}", f"{value} dollars", f"${value}.00", str(value)]
    return f"${value}", [*forms, f"USD {value}"], [f"${value + 1}", f"€{value}", f"{value} cents"]


def based(rng: random.Random) -> tuple[str, list[str], list[str]]:
    base = rng.randint(3, 9)
    digits = "".join(str(rng.randint(1, base - 1)) for _ in range(rng.randint(3, 5)))
    other = digits[:-1] + str(int(digits[-1]) % (base - 1) + 1 if base > 2 else 0)
    gold = f"{digits}_{base}"
    forms = [f"{digits}_{{{base}}}", f"{digits} (base {base})", f"{digits} base {base}"]
    changed = [f"{digits}_{{{base + 1}}}", f"{other}_{base}"] if other != digits else []
    return gold, forms, changed or [f"{digits}_{{{base + 1}}}"]


def ratio(rng: random.Random) -> tuple[str, list[str], list[str]]:
    a, b, c, k = *rng.sample(range(11, 40), 3), rng.randint(2, 5)
    forms = [f"{a * k}:{b * k}:{c * k}", f"{a} : {b} : {c}", f"${a}:{b}:{c}$"]
    return f"{a}:{b}:{c}", forms, [f"{b}:{a}:{c}", f"{a}:{b}:{c + 1}", f"{a}:{b}", f"{a}:{b}:{c}:1"]


def matrix(rng: random.Random) -> tuple[str, list[str], list[str]]:
    a, b, c, d = rng.sample(range(-9, 20), 4)
    body = f"{a}&{b}\\\\{c}&{d}"
    gold = f"\\begin{{pmatrix}}{body}\\end{{pmatrix}}"
    forms = [f"\\begin{{bmatrix}}{body}\\end{{bmatrix}}", f"[[{a},{b}],[{c},{d}]]"]
    forms += [f"\\left(\\begin{{array}}{{cc}}{a} & {b} \\\\ {c} & {d}\\end{{array}}\\right)"]
    changed = [f"\\begin{{pmatrix}}{a}&{c}\\\\{b}&{d}\\end{{pmatrix}}", f"2{gold}"]
    changed += [f"\\begin{{pmatrix}}{a}&{b}\\\\{c}&{d + 1}\\end{{pmatrix}}"]
    return gold, forms, changed


def clock(rng: random.Random) -> tuple[str, list[str], list[str]]:
    hour, minute = rng.randint(1, 11), rng.randint(10, 59)
    forms = [f"{hour}:{minute} pm", f"{hour}:{minute} p.m.", f"{hour + 12}:{minute}"]
    changed = [
        f"{hour}:{minute} AM",
        f"{hour}:{minute % 50 + 10} PM",
        f"{hour % 11 + 1}:{minute} PM",
    ]
    if changed[1] == f"{hour}:{minute} PM":
        changed.pop(1)
    return f"{hour}:{minute} PM", [*forms, f"0{hour}:{minute} PM"[-8:]], changed


def chemical(rng: random.Random) -> tuple[str, list[str], list[str]]:
    one, other = rng.sample(("Na", "Mg", "Al", "Ca", "Fe", "Cu", "Zn"), 2)
    a, b = rng.randint(2, 4), rng.randint(2, 7)
    forms = [f"{one}{a}O{b}", f"{one}_{{{a}}}O_{{{b}}}", f"\\mathrm{{{one}_{a}O_{b}}}"]
    forms += [f"\\ce{{{one}{a}O{b}}}", f"{one}{chr(0x2080 + a)}O{chr(0x2080 + b)}"]
    return f"{one}_{a}O_{b}", forms, [f"{other}{a}O{b}", f"{one}{a}O{b + 1}", f"{one}{a}S{b}"]


def scientific(rng: random.Random) -> tuple[str, list[str], list[str]]:
    a, n = rng.randint(2, 9), rng.randint(3, 12)
    up = str(n).translate(SUPERSCRIPT)
    forms = [f"{a}·10^{n}", f"{a}e{n}", f"{a} x 10^{n}", f"{a}×10{up}", f"{a * 10**n:,}"]
    changed = [f"{a}e{n + 1}", f"{a}e-{n}", f"{a + 1}e{n}", f"-{a}e{n}"]
    return f"{a}\\times 10^{{{n}}}", forms, changed


def approximated(rng: random.Random) -> tuple[str, list[str], list[str]]:
    n = rng.choice((2, 3, 5, 6, 7, 10, 11, 13))
    value = n**0.5
    gold = f"\\sqrt{{{n}}}\\approx {value:.3f}"
    forms = [f"\\sqrt{{{n}}}", f"{value:.3f}", f"√{n} ≈ {value:.4f}", f"{value:.4f}"]
    changed = [f"\\sqrt{{{n}}}\\approx {value + 1:.3f}", f"{value + 0.1:.3f}", f"\\sqrt{{{n + 1}}}"]
    return gold, forms, changed


MAKERS: tuple[Maker, ...] = (
    integer, decimal, fraction, percent, root, polynomial, pi, tiny, equation, named, listed,
    pointed, interval, inequality, union, measured, counted, money, based, ratio, matrix, clock,
    chemical, scientific, approximated,
)  # fmt: skip

WRAPPINGS = (
    "<answer>{}</answer>",
    "<answer>${}$</answer>",
    "So we get \\boxed{{{}}}.",
    "First we look at it.\n\nThe answer is {}",
    "<answer>**{}**</answer>",
    "Step one, step two.\n\n**Answer:** {}",
    "观察图形，答案是{}",
    "### Final Answer\n\n{}",
)
"""How a claim is stated. Text that cannot stand in dollar signs or one line is only put in tags."""


def made_pairs(count: int, seed: int) -> Iterator[tuple[MadePair, str]]:
    """Pairs with the response that states each claim, in turn over all makers.

    Args:
        count: How many.
        seed: What they are made from.
    """
    rng = random.Random(seed)
    for number in range(count):
        maker = MAKERS[number % len(MAKERS)]
        gold, forms, changed = maker(rng)
        right = rng.random() < 0.5
        claim = rng.choice(forms if right else changed)
        wrapping = rng.choice(WRAPPINGS)
        if "$" in claim or "\n" in claim or "text" in claim or claim.endswith(("。", ".", ",")):
            wrapping = WRAPPINGS[0]
        yield MadePair(maker.__name__, gold, claim, right), wrapping.format(claim)
