"""Verification against plain math-verify, on the same pairs in the same run, one core each.

    python benchmarks/verify.py                 5,000 pairs, three rounds
    python benchmarks/verify.py --pairs 1000 --rounds 1
    python benchmarks/verify.py --table         type by type on the truth set, as Markdown

The mix: 32% integers, 9% decimals, 9% fractions, 13% LaTeX, 18% choices, 5% sets, intervals and
tuples, 4% units, 5% numbers stated in prose and 5% in Chinese. Pairs are made from a seed with
their truth, 60% of them right. This project reads the whole response (thinking, then the answer);
math-verify gets what it asks for: gold and answer alone, between dollar signs, with its time-outs
off. A second peer figure gives it the bare strings, which is faster and refuses most LaTeX.
The last line is one JSON object: the medians over the rounds, wrong verdicts, and their ratio.
"""

import argparse
import json
import logging
import os
import platform
import random
import statistics
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import math_verify

import omr_data
from omr_data.processes import mapper
from omr_data.records import RIGHT, UNDECIDED, WRONG, Verdict
from omr_data.verifiers.answers import parse
from omr_data.verifiers.base import AnswerPair

THINKING = "<think>First I look at the image, and then I work it out step by step.</think>"
RESPONSES = {
    "prose": THINKING + "There are several rows.\n\nTherefore, there are {} tiles in total.",
    "chinese": THINKING + "观察图形，每行都一样多。所以答案是{}。",
}
"""How a claim of some kinds is stated; the others stand in tags."""
TAGGED = THINKING + "<answer>{}</answer>"
SHARES = {
    "integer": 0.32,
    "decimal": 0.09,
    "fraction": 0.09,
    "latex": 0.13,
    "choice": 0.18,
    "structure": 0.05,
    "unit": 0.04,
    "prose": 0.05,
    "chinese": 0.05,
}
TRUTH = Path(__file__).parents[1] / "tests" / "truth" / "verdicts"


@dataclass(frozen=True, slots=True)
class Case:
    """A gold answer, what was claimed, and whether that is right."""

    kind: str
    """Its place in the mix."""
    gold: str
    """The gold answer."""
    claim: str
    """What is claimed."""
    right: bool
    """Whether the claim is right."""
    options: tuple[str, ...] = ()
    """The texts of the options."""


def integer(numbers: random.Random, right: bool) -> Case:
    value = numbers.randint(-999, 10 ** numbers.choice((2, 3, 5, 7)))
    given = (
        value
        if right
        else numbers.choice((value + numbers.randint(1, 9), value * 10 or 7, -value or 3))
    )
    form = numbers.choice(("{}", "{}", "{:,}", "${}$", "{}.", "x = {}"))
    return Case("integer", str(value), form.format(given), right)


def decimal(numbers: random.Random, right: bool) -> Case:
    value = numbers.randint(1, 99_999)
    given = value if right else value + numbers.choice((-7, 11, 100))
    tail = numbers.choice(("", "0"))
    return Case("decimal", f"{value / 100:.2f}", f"{given / 100:.2f}{tail}", right)


def fraction(numbers: random.Random, right: bool) -> Case:
    top, bottom, times = numbers.randint(1, 40), numbers.randint(2, 40), numbers.randint(1, 4)
    form = numbers.choice(("\\frac{{{}}}{{{}}}", "{}/{}", "\\dfrac{{{}}}{{{}}}"))
    return Case(
        "fraction",
        f"\\frac{{{top}}}{{{bottom}}}",
        form.format(top * times + (0 if right else 1), bottom * times),
        right,
    )


def latex(numbers: random.Random, right: bool) -> Case:
    a, b, c = numbers.randint(2, 9), numbers.randint(2, 19), numbers.randint(1, 9)
    off = 0 if right else 1
    return Case(
        "latex",
        *numbers.choice(
            (
                (f"{a}\\sqrt{{{b}}}+{c}", f"{c}+{a + off}\\sqrt{{{b}}}"),
                (f"x^2+{a}x+{c}", f"{c}+{a + off}x+x^{{2}}"),
                (f"\\frac{{{a}\\pi}}{{{b}}}", f"\\frac{{{a + off}}}{{{b}}}\\pi"),
                (f"(x+{a})(x-{c})", f"x^2+{a - c + off}x-{a * c}"),
                (f"y={a}x+{b}", f"y={b + off}+{a}x"),
                (f"2^{{{a}}}\\cdot{c}", f"{2**a * (c + off)}"),
                (f"\\log_{{{a}}} {b}", f"\\frac{{\\ln {b + off}}}{{\\ln {a}}}"),
                (f"\\sin({a}t)+{b}", f"{b + off}+\\sin({a}t)"),
            )
        ),
        right,
    )


def choice(numbers: random.Random, right: bool) -> Case:
    options = tuple(str(value) for value in numbers.sample(range(2, 999), 4))
    gold, given = numbers.sample(range(4), 2)
    given = gold if right else given
    form = numbers.choice(("{0}", "({0})", "{0}.", "({0}) {1}", "{1}"))
    return Case("choice", options[gold], form.format("ABCD"[given], options[given]), right, options)


def structure(numbers: random.Random, right: bool) -> Case:
    a, b, c = numbers.sample(range(1, 60), 3)
    wrong = c + 60
    return Case(
        "structure",
        *numbers.choice(
            (
                (f"\\{{{a},{b},{c}\\}}", f"\\{{{c if right else wrong}, {a}, {b}\\}}"),
                (f"({a},{b})", f"({a}, {b if right else wrong})"),
                (f"[{a},\\infty)", f"[{a if right else wrong}, \\infty)"),
                (f"({a},{a + b}]", f"({a}, {a + b}{']' if right else ')'}"),
            )
        ),
        right,
    )


def unit(numbers: random.Random, right: bool) -> Case:
    value = numbers.randint(2, 400)
    given = value if right else value + 3
    gold, form = numbers.choice(
        (
            ("{} cm", "{}\\text{{ cm}}"),
            ("{} km/h", "{} km/h"),
            ("{} m", "{}00 cm"),
            ("{} kg", "{} kilograms"),
        )
    )
    return Case("unit", gold.format(value), form.format(given), right)


def prose(numbers: random.Random, right: bool) -> Case:
    value = numbers.randint(2, 99_999)
    return Case("prose", str(value), str(value if right else value + 7), right)


def chinese(numbers: random.Random, right: bool) -> Case:
    value = numbers.randint(2, 99_999)
    return Case("chinese", str(value), str(value if right else value + 7), right)


MAKERS: dict[str, Callable[[random.Random, bool], Case]] = {
    "integer": integer,
    "decimal": decimal,
    "fraction": fraction,
    "latex": latex,
    "choice": choice,
    "structure": structure,
    "unit": unit,
    "prose": prose,
    "chinese": chinese,
}


def cases(count: int, seed: int) -> list[Case]:
    """So many cases in the mix, in random order."""
    numbers = random.Random(seed)
    made = [
        MAKERS[kind](numbers, numbers.random() < 0.6)
        for kind, share in SHARES.items()
        for _ in range(round(share * count))
    ]
    numbers.shuffle(made)
    return made


def pair_of(case: Case) -> AnswerPair:
    """The response that states a case's claim, with its gold answer."""
    response = RESPONSES.get(case.kind, TAGGED).format(case.claim)
    return AnswerPair(response, case.gold, case.options)


def ours(pairs: list[AnswerPair], workers: int = 1) -> tuple[float, list[Verdict]]:
    """Pairs per second, and the verdicts."""
    began = time.perf_counter()
    verdicts = omr_data.verify_many(pairs, workers=workers)
    return len(pairs) / (time.perf_counter() - began), verdicts


def peer(made: list[Case], wrap: str) -> tuple[float, int]:
    """math-verify's pairs per second, and how many it gets wrong.

    A choice's gold answer is its letter, as users of math-verify give it.
    """
    wrong = 0
    began = time.perf_counter()
    for case in made:
        gold = "ABCD"[case.options.index(case.gold)] if case.options else case.gold
        sides = [
            math_verify.parse(wrap.format(text), parsing_timeout=None)
            for text in (gold, case.claim)
        ]
        wrong += math_verify.verify(*sides, timeout_seconds=None) != case.right
    return len(made) / (time.perf_counter() - began), wrong


def shard(seed: int) -> float:
    """Pairs a second in this process, on its own pairs, after a warm-up, as in a build's worker."""
    pairs = [pair_of(case) for case in cases(40_000, seed)]
    ours(pairs[:500])
    return ours(pairs)[0]


def start() -> None:
    """A worker needs nothing of its own."""


def scaling(seed: int) -> float:
    """The rate of two processes at work at once over that of one, in the same run."""
    with mapper(1, start) as alone:
        (one,) = alone.map(shard, [seed])
    with mapper(2, start) as both:
        two = sum(both.map(shard, [seed, seed + 1]))
    print(f"{one:,.0f} pairs/s in one process, {two:,.0f} in two at once ({two / one:.2f}x)")
    return two / one


def peer_outcome(row: dict[str, Any], extracted: str | None) -> str:
    """What math-verify says of a pair of the truth set, given the answer that we extract."""
    gold = row["gold"]
    if row["options"] and gold in row["options"]:
        gold = "ABCD"[row["options"].index(gold)] if len(row["options"]) <= 4 else gold
    if extracted is None:
        return UNDECIDED
    sides = [math_verify.parse(f"${text}$", parsing_timeout=None) for text in (gold, extracted)]
    if not all(sides):
        return UNDECIDED
    return RIGHT if math_verify.verify(*sides, timeout_seconds=None) else WRONG


def table() -> None:
    """Prints right, false RIGHT, false WRONG and undecided by type, as Markdown."""
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    found: dict[str, dict[str, Counter[str]]] = {}
    for path in sorted(TRUTH.glob("*.jsonl")):
        for line in path.read_text().splitlines():
            row = json.loads(line)
            pair = AnswerPair(
                row["response"], row["gold"], tuple(row["options"]), row["finish_reason"]
            )
            (verdict,) = omr_data.verify_many([pair])
            readings = parse(row["gold"])
            kind = readings[0].kind if readings else "literal"
            kind = "choice" if row["options"] else kind
            outcomes = {
                "ours": verdict.outcome,
                "math-verify": peer_outcome(row, verdict.extracted),
            }
            for who, outcome in outcomes.items():
                counts = found.setdefault(kind, {}).setdefault(who, Counter())
                counts["pairs"] += 1
                counts["same"] += outcome == row["outcome"]
                counts["false RIGHT"] += outcome == RIGHT != row["outcome"]
                counts["false WRONG"] += outcome == WRONG != row["outcome"]
                counts["undecided"] += outcome == UNDECIDED != row["outcome"]
    names = ("same", "false RIGHT", "false WRONG", "undecided")
    print(
        "| type | pairs | " + " | ".join([*names, *(f"math-verify: {one}" for one in names)]) + " |"
    )
    print("|---" * 10 + "|")
    total = {who: Counter[str]() for who in ("ours", "math-verify")}
    for kind, by in sorted(found.items()):
        cells = [str(by[who][name]) for who in total for name in names]
        print(f"| {kind} | {by['ours']['pairs']} | " + " | ".join(cells) + " |")
        for who, counts in by.items():
            total[who] += counts
    cells = [str(total[who][name]) for who in total for name in names]
    print(f"| all | {total['ours']['pairs']} | " + " | ".join(cells) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--table", action="store_true", help="type by type on the truth set")
    arguments = parser.parse_args()
    if arguments.table:
        table()
        return
    rounds = [cases(arguments.pairs, arguments.seed + number) for number in range(arguments.rounds)]
    # What is loaded or compiled on first need (pint, patterns, the worker of math-verify) is not
    # part of a rate: a build pays it once for all of its pairs.
    warm = cases(400, arguments.seed - 1)
    ours([pair_of(case) for case in warm])
    peer(warm[:40], "${}$")
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    math_verify.parse("$1$")
    rates, delimited, bare = [], [], []
    outcomes: Counter[tuple[str, str]] = Counter()
    by: Counter[str] = Counter()
    wrong = undecided = peer_wrong = 0
    for number, made in enumerate(rounds, 1):
        pairs = [pair_of(case) for case in made]
        rate, verdicts = ours(pairs)
        rates.append(rate)
        delimited.append(peer(made, "${}$"))
        bare.append(peer(made, "{}"))
        peer_wrong += delimited[-1][1]
        for case, verdict in zip(made, verdicts, strict=True):
            outcomes[case.kind, verdict.outcome] += 1
            by[verdict.verifier] += 1
            undecided += verdict.outcome == UNDECIDED
            if verdict.outcome == (WRONG if case.right else RIGHT):
                wrong += 1
                print(f"  wrong: {case} {verdict}")
        print(
            f"round {number}: {rate:,.0f} pairs/s, math-verify {delimited[-1][0]:,.0f}, "
            f"on bare strings {bare[-1][0]:,.0f}",
            flush=True,
        )
    total = sum(map(len, rounds))
    print(
        "decided by: "
        + ", ".join(f"{name} {count / total:.1%}" for name, count in by.most_common())
    )
    for kind in SHARES:
        print(
            f"  {kind:<10}"
            + "".join(
                f"  {outcome} {outcomes[kind, outcome]:>6,}"
                for outcome in (RIGHT, WRONG, UNDECIDED)
            )
        )
    print(
        f"math-verify is wrong on {peer_wrong / total:.1%} (delimited) and "
        f"{sum(miss for _, miss in bare) / total:.1%} (bare) of the pairs"
    )
    times = scaling(arguments.seed + arguments.rounds)
    ours_median, peer_median = (
        statistics.median(rates),
        statistics.median(rate for rate, _ in delimited),
    )
    result = {
        "ratio": round(ours_median / peer_median, 1),
        "pairs_per_s": round(ours_median),
        "peer_pairs_per_s": round(peer_median),
        "peer_bare_pairs_per_s": round(statistics.median(rate for rate, _ in bare)),
        "wrong": wrong,
        "undecided": undecided,
        "pairs": total,
        "two_processes": round(times, 2),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, "
        f"Python {platform.python_version()}",
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
