"""The words that mean a number or a sign, as a hash table for the compiled loops."""

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from omr_data.similar import kernels
from omr_data.similar.number_words import (
    AFTER,
    AND,
    BEFORE,
    BOTH,
    FUNCTION,
    MINUS,
    PERCENT,
    PLUS,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Hashes = NDArray[np.uint64]
    Offsets = NDArray[np.int64]

_SMALL = [
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
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_SCALES = {"hundred": 100, "thousand": 1_000, "million": 10**6}
_FUNCTIONS = [
    "sqrt",
    "root",
    "sin",
    "cos",
    "tan",
    "cot",
    "sec",
    "csc",
    "sinh",
    "cosh",
    "tanh",
    "arcsin",
    "arccos",
    "arctan",
    "log",
    "ln",
    "exp",
    "lim",
    "mod",
    "gcd",
    "lcm",
    "max",
    "min",
    "maximum",
    "minimum",
    "maximize",
    "minimize",
    "largest",
    "smallest",
    "highest",
    "lowest",
    "infinity",
]
_COMPARED = frozenset(
    [
        "half",
        "third",
        "thirds",
        "quarter",
        "quarters",
        "fourth",
        "fifth",
        "sixth",
        "twice",
        "thrice",
        "double",
        "triple",
        "dozen",
        "first",
        "zwei",
        "drei",
        "vier",
        "fünf",
        "sechs",
        "sieben",
        "acht",
        "neun",
        "zehn",
        "elf",
        "zwölf",
        "zwanzig",
        "dreißig",
        "vierzig",
        "fünfzig",
        "hundert",
        "tausend",
        "deux",
        "trois",
        "quatre",
        "cinq",
        "sept",
        "huit",
        "neuf",
        "dix",
        "onze",
        "douze",
        "quinze",
        "vingt",
        "trente",
        "quarante",
        "cinquante",
        "cent",
        "mille",
        "moitié",
        "dos",
        "tres",
        "cuatro",
        "cinco",
        "seis",
        "siete",
        "ocho",
        "nueve",
        "diez",
        "doce",
        "quince",
        "veinte",
        "treinta",
        "cuarenta",
        "cincuenta",
        "cien",
        "mil",
        "mitad",
        "doble",
    ]
)
"""Words that say how much and are not turned into numbers: compared as they are, since another one
makes another problem."""
_BEFORE = [
    "no",
    "any",
    "every",
    "each",
    "some",
    "the",
    "this",
    "that",
    "which",
    "other",
    "last",
    "next",
]
_AFTER = ["of"]


@lru_cache(maxsize=1)
def word_table() -> "tuple[Hashes, Offsets]":
    """The words that are numbers or signs, as an open hash table for the compiled loops."""
    # 0 means that a word is not in the table, so zero is stored as a number that none can reach.
    meanings = {word: value or 10**18 for value, word in enumerate(_SMALL)}
    meanings |= {word: 20 + 10 * place for place, word in enumerate(_TENS)}
    meanings |= _SCALES | dict.fromkeys([*_FUNCTIONS, *_COMPARED], FUNCTION)
    meanings |= dict.fromkeys(_BEFORE, BEFORE) | dict.fromkeys(_AFTER, AFTER)
    meanings |= {"plus": PLUS, "minus": MINUS, "percent": PERCENT, "and": AND, "another": BOTH}
    table = np.zeros(1_024, np.uint64)
    values = np.zeros(1_024, np.int64)
    for word, meaning in meanings.items():
        hashed = hash_of(word)
        slot = int(hashed) >> 54
        # Linear probing, as `number_words.look_up` does it.
        while table[slot]:
            slot = (slot + 1) % 1_024
        table[slot], values[slot] = hashed, meaning
    return table, values


def hash_of(word: str) -> np.uint64:
    """The hash of one token, as the compiled loops make it."""
    data = np.frombuffer(word.encode() + bytes(kernels.PAD), np.uint8)
    # Padded: the loops read eight bytes at a time, beyond the end of a short word.
    edges = np.array([0, len(word.encode())], np.int64)
    hashed = np.empty(1, np.uint64)
    kernels.hash_words(edges, loads(data), hashed)
    return np.uint64(hashed[0])


def loads(array: "NDArray[np.uint8]") -> "Hashes":
    """A view of the 8 bytes from each byte on, as one value."""
    return np.ndarray(len(array) - 7, "<u8", array, strides=(1,))
