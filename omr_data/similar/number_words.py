"""Compiled loops that read number words ("two hundred and five") and words that mean a sign.

They run over tokens that `omr_data.similar.token_kernels` has cut. The table of words comes from
`omr_data.similar.vocabulary`. The caller allocates all arrays.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from omr_data.similar.characters import NUMBER, SIGN, WORD
from omr_data.similar.kernels import compiled, hash_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]
    Hashes = NDArray[np.uint64]
    Offsets = NDArray[np.int64]

PLUS, MINUS, PERCENT, FUNCTION, BEFORE, AFTER, BOTH, AND = -1, -2, -3, -4, -5, -6, -7, -8
"""What a word in the table of words means, where it is not a number."""


@compiled
def look_up(table: "Hashes", meanings: "Offsets", word: Any) -> Any:
    """What a word means, 0 for one that is not in the table. Zero itself is stored as 10^18.

    Args:
        table: Hashes of the known words, an open hash table of 1,024 slots.
        meanings: Their values or meanings.
        word: The hash of a token.
    """
    # The top ten bits choose the slot. The table is at most a sixth full, so runs stay short.
    slot = word >> np.uint64(54)
    while table[slot] != 0:
        if table[slot] == word:
            return meanings[slot]
        slot = (slot + np.uint64(1)) & np.uint64(1023)
    return 0


@compiled
def read_words(
    table: "Hashes",
    meanings: "Offsets",
    out: "Bytes",
    loads: "Hashes",
    edges: "Offsets",
    kinds: "Bytes",
    bounds: "Offsets",
    words: "Hashes",
) -> int:
    """Turns number words into numbers and words like "plus" into signs, in place.

    Args:
        table: Hashes of the known words, an open hash table of 1,024 slots.
        meanings: Their values or meanings.
        out: The bytes of the tokens.
        loads: The 8 bytes from each byte of `out` on.
        edges: Where tokens begin and end in `out`.
        kinds: The kinds of the tokens.
        bounds: The first token of each text.
        words: The hashes of the tokens.

    Returns:
        The number of tokens that are left.
    """
    kept = 0
    for text in range(len(bounds) - 1):
        begin, end = bounds[text], bounds[text + 1]
        bounds[text] = kept
        token = begin
        before = 0
        while token < end:
            meaning = 0
            if kinds[token] == WORD:
                meaning = look_up(table, meanings, words[token])
            start, stop = edges[2 * token], edges[2 * token + 1]
            kind, value = kinds[token], words[token]
            used = 1
            if PERCENT <= meaning < 0:
                # "plus", "minus" and "percent" become +, - and %, as a copy may write them.
                out[start] = 37
                if meaning == PLUS:
                    out[start] = 43
                elif meaning == MINUS:
                    out[start] = 45
                kind, stop = SIGN, start + 1
                value = hash_bytes(loads, start, stop)
            elif meaning == FUNCTION:
                kind = SIGN
            elif meaning > 0:
                follows = 0
                if token + 1 < end and kinds[token + 1] == WORD:
                    follows = look_up(table, meanings, words[token + 1])
                # "no one", "the one that", "one of" and "one another" count nothing.
                article = meaning == 1 and (before in (BEFORE, BOTH) or follows in (AFTER, BOTH))
                # "3 million" keeps its word: its 3 is a token already, and stays one.
                scaled = meaning >= 1_000 and token > begin and kinds[token - 1] == NUMBER
                if not article and not scaled:
                    total, used = sum_words(table, meanings, words, kinds, token, end)
                    stop = write_number(total, out, start)
                    kind = NUMBER
                    value = hash_bytes(loads, start, stop)
            edges[2 * kept] = start
            edges[2 * kept + 1] = stop
            kinds[kept] = kind
            words[kept] = value
            kept += 1
            token += used
            before = meaning
    bounds[len(bounds) - 1] = kept
    return kept


@compiled
def sum_words(
    table: "Hashes",
    meanings: "Offsets",
    words: "Hashes",
    kinds: "Bytes",
    token: int,
    end: int,
) -> tuple[int, int]:
    """The value of the number words from `token` on, and how many tokens they are.

    English grammar: a ten takes a digit, a digit takes a hundred, these take a thousand or more.
    "two three" are two numbers.

    Args:
        table: Hashes of the known words.
        meanings: Their values.
        words: The hashes of the tokens.
        kinds: The kinds of the tokens.
        token: The first number word.
        end: Where the text's tokens end.
    """
    total = part = used = last = joined = 0
    while token + used + joined < end and kinds[token + used + joined] == WORD:
        value = look_up(table, meanings, words[token + used + joined])
        # "two hundred and five" is one number; "five and six" are two.
        if value == AND and last >= 100 and joined == 0:
            joined = 1
            continue
        if value <= 0:
            break
        value = 0 if value == 10**18 else value
        ten = 20 <= last < 100 and 0 < value < 10
        if used == 0 or ten or (last >= 100 and value < 100):
            part += value
        elif value == 100 and 0 < last < 10:
            part *= 100
        elif value >= 1_000 and last < 1_000:
            total += part * value
            part = 0
        elif last >= 1_000 and value < 1_000:
            part += value
        else:
            break
        used += 1 + joined
        joined = 0
        last = value
        if value == 0:
            break
    return total + part, used


@compiled
def write_number(value: int, out: "Bytes", start: int) -> int:
    """Writes decimal digits, and returns where they end.

    Args:
        value: The number.
        out: Receives the digits. A number word has at least as many letters, so they fit.
        start: Where the first digit goes.
    """
    digits = 1
    power = 10
    while power <= value:
        digits += 1
        power *= 10
    for place in range(digits):
        out[start + digits - 1 - place] = 48 + value % 10
        value //= 10
    return start + digits
