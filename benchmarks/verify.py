"""Verification against plain math-verify, on the same pairs in the same run, one core each.

    python benchmarks/verify.py                 5,000 pairs, three rounds
    python benchmarks/verify.py --pairs 1000 --rounds 1

The mix: 35% integers, 10% decimals, 10% fractions, 15% LaTeX, 20% choices, 5% sets, intervals and tuples, 5% units. Pairs are
made from a seed with their truth, 60% of them right, no two alike on purpose. This project reads the whole response
(thinking, then the answer in tags); math-verify gets what it asks for: gold and answer alone, between dollar signs, with
its time-outs off. A second peer figure gives it the bare strings, which is faster and refuses most LaTeX.
The last line is one JSON object: the medians over the rounds, wrong verdicts, and the ratio of the medians.
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

import math_verify

import omr_data
from omr_data.processes import mapper
from omr_data.records import RIGHT, UNDECIDED, WRONG, Verdict
from omr_data.verifiers.base import AnswerPair

RESPONSE = "<think>First I look at the image, and then I work it out step by step.</think><answer>{}</answer>"
SHARES = {
    "integer": 0.35,
    "decimal": 0.10,
    "fraction": 0.10,
    "latex": 0.15,
    "choice": 0.20,
    "structure": 0.05,
    "unit": 0.05,
}


@dataclass(frozen=True, slots=True)
class Case:
    """A gold answer, what was claimed, and whether that is right."""

    kind: str
    gold: str
    claim: str
    right: bool
    options: tuple[str, ...] = ()


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


MAKERS: dict[str, Callable[[random.Random, bool], Case]] = {
    "integer": integer,
    "decimal": decimal,
    "fraction": fraction,
    "latex": latex,
    "choice": choice,
    "structure": structure,
    "unit": unit,
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


def ours(pairs: list[AnswerPair], workers: int = 1) -> tuple[float, list[Verdict]]:
    """Pairs per second, and the verdicts."""
    began = time.perf_counter()
    verdicts = omr_data.verify_many(pairs, workers=workers)
    return len(pairs) / (time.perf_counter() - began), verdicts


def peer(made: list[Case], wrap: str) -> tuple[float, int]:
    """math-verify's pairs per second, and how many it gets wrong. A choice's gold answer is its letter, as its users give it."""
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
    """Pairs a second in this process, on pairs of its own, after a warm-up: what a build's worker does."""
    pairs = [
        AnswerPair(RESPONSE.format(case.claim), case.gold, case.options)
        for case in cases(40_000, seed)
    ]
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rounds = [cases(arguments.pairs, arguments.seed + number) for number in range(arguments.rounds)]
    # What is loaded on first need (pint, the worker of math-verify) is loaded before the clock starts.
    omr_data.verify_many(
        [
            AnswerPair("<answer>1 cm</answer>", "10 mm"),
            AnswerPair("<answer>\\int x dx</answer>", "\\frac{x^2}{2}"),
        ]
    )
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    math_verify.parse("$1$")
    rates, delimited, bare = [], [], []
    outcomes: Counter[tuple[str, str]] = Counter()
    by: Counter[str] = Counter()
    wrong = undecided = peer_wrong = 0
    for number, made in enumerate(rounds, 1):
        pairs = [AnswerPair(RESPONSE.format(case.claim), case.gold, case.options) for case in made]
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
            f"round {number}: {rate:,.0f} pairs/s, math-verify {delimited[-1][0]:,.0f}, on bare strings {bare[-1][0]:,.0f}",
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
        f"math-verify is wrong on {peer_wrong / total:.1%} (delimited) and {sum(miss for _, miss in bare) / total:.1%} (bare) of the pairs"
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
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
