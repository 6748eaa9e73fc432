"""Compiled loops that cut texts into tokens and hash texts and runs of tokens.

One pass over the bytes writes every token in its one spelling to an output buffer. See
`omr_data.similar.tokens` for what the tokens mean. Nothing here checks a bound: the caller
allocates all arrays.
"""

from typing import TYPE_CHECKING

import numpy as np

from omr_data.similar.characters import (
    CHARACTER,
    CLASSES,
    DIGIT,
    DROPPED,
    HIGH,
    LETTER,
    NUMBER,
    OPERATOR,
    OTHER,
    SIGN,
    WORD,
    copy_number,
    is_sign,
    wide_kind,
)
from omr_data.similar.kernels import compiled, mixed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]
    Hashes = NDArray[np.uint64]
    Offsets = NDArray[np.int64]

DEPTH = 32
"""Round brackets are matched this deep; deeper ones are left out."""


@compiled
def find_spelled(data: "Bytes", offsets: "Offsets", flags: "NDArray[np.bool_]") -> None:
    """Marks texts with a byte that `respell` rewrites: LaTeX, an image mark, or beyond ASCII.

    Other texts skip `respell`, which costs 50 times as much a byte as these loops.

    Args:
        data: The bytes of all texts.
        offsets: Where each text begins in `data`, and where the last one ends.
        flags: Receives the marks.
    """
    for text in range(len(offsets) - 1):
        found = np.uint8(0)
        # Comparisons and no table: the loop then handles 32 bytes at a time.
        for at in range(offsets[text], offsets[text + 1]):
            byte = data[at]
            found |= np.uint8(
                (byte > 127) | (byte == 92) | (byte == 36) | (byte == 60) | (byte == 123)
            )
            found |= np.uint8((byte == 125) | (byte == 96))
        flags[text] = found != 0


@compiled
def cut_tokens(
    data: "Bytes",
    offsets: "Offsets",
    out: "Bytes",
    edges: "Offsets",
    kinds: "Bytes",
    bounds: "Offsets",
) -> int:
    """Cuts texts into tokens.

    Args:
        data: The bytes of all texts, one after the other.
        offsets: Where each text begins in `data`, and where the last one ends.
        out: Receives the bytes of the tokens. Twice the length of `data` is always enough.
        edges: Receives where each token begins and ends in `out`.
        kinds: Receives the kind of each token.
        bounds: Receives the number of the first token of each text, and the number of tokens.

    Returns:
        The number of tokens.
    """
    count = to = 0
    opened = np.empty(DEPTH, np.int64)
    for text in range(len(offsets) - 1):
        bounds[text] = count
        begin, end = offsets[text], offsets[text + 1]
        at, depth = begin, 0
        first = count
        unused = False
        while at < end:
            byte = data[at]
            group = CLASSES[byte]
            # Spaces and punctuation part tokens, and are not tokens themselves.
            if group == OTHER:
                at += 1
                continue
            start = to
            kind = WORD
            if group in (LETTER, HIGH):
                while at < end:
                    # Most bytes are letters: this loop is what a text costs.
                    while at < end:
                        low = np.uint8(data[at] | 32)
                        if np.uint8(low - 97) >= 26:
                            break
                        out[to] = low
                        to += 1
                        at += 1
                    if at == end:
                        break
                    byte = data[at]
                    group = CLASSES[byte]
                    if group == HIGH:
                        wide, size = wide_kind(byte, data[at + 1] if at + 1 < end else 0)
                        if wide != WORD and to > start:
                            break
                        size = min(size, end - at)
                        for step in range(size):
                            out[to + step] = data[at + step]
                        at += size
                        if wide != DROPPED:
                            to += size
                        if wide != WORD:
                            kind = wide
                            break
                    elif byte == 39 and to > start + 1 and at + 1 < end:
                        # Tom's is one word, however its apostrophe is typed; f'g is not.
                        if CLASSES[data[at + 1]] != LETTER:
                            break
                        at += 1
                    else:
                        break
                # Nothing but punctuation beyond ASCII was read.
                if to == start:
                    continue
            elif group == DIGIT:
                kind = NUMBER
                at, to = copy_number(data, at, end, out, to)
            elif byte == 46:
                # .5 is a number; the point of "end.5" or "3.": a full stop.
                follows = at + 1 < end and CLASSES[data[at + 1]] == DIGIT
                joined = at > begin and CLASSES[data[at - 1]] != OTHER
                joined &= at > begin and CLASSES[data[at - 1]] != OPERATOR
                if not follows or joined:
                    at += 1
                    continue
                kind = NUMBER
                at, to = copy_number(data, at, end, out, to)
            elif byte == 40:
                at += 1
                # An array of fixed size: no allocation for each text.
                if depth == DEPTH:
                    continue
                kind = SIGN
                out[to] = byte
                to += 1
                opened[depth] = count
                depth += 1
            elif byte == 41:
                at += 1
                # A closing bracket without an opening one, as in "a) 12 cm".
                if depth == 0:
                    continue
                depth -= 1
                # Brackets around a sum are part of the problem; around a remark they are not.
                # Those of an exponent always are: x^(2y) is not x^2 y.
                raised = opened[depth] > first and count > opened[depth] + 2
                if raised:
                    last = out[edges[2 * opened[depth] - 2]]
                    raised = kinds[opened[depth] - 1] == SIGN and (last == 94 or last == 95)
                sums = raised
                for inside in range(opened[depth] + 1, count):
                    sums |= kinds[inside] == SIGN
                    letters = edges[2 * inside + 1] - edges[2 * inside]
                    if kinds[inside] == CHARACTER or (kinds[inside] == WORD and letters > 4):
                        sums = False
                        break
                if not sums:
                    kinds[opened[depth]] = DROPPED
                    unused = True
                    continue
                kind = SIGN
                out[to] = byte
                to += 1
            else:
                sign = is_sign(data, at, begin, end)
                at += 1
                if not sign:
                    continue
                kind = SIGN
                out[to] = byte
                to += 1
            edges[2 * count] = start
            edges[2 * count + 1] = to
            kinds[count] = kind
            count += 1
        # Brackets that were never closed are a typo or a smiley, and no part of the problem.
        for left in range(depth):
            kinds[opened[left]] = DROPPED
            unused = True
        if unused:
            count = drop_tokens(first, count, edges, kinds)
    bounds[len(offsets) - 1] = count
    return count


@compiled
def drop_tokens(first: int, count: int, edges: "Offsets", kinds: "Bytes") -> int:
    """Closes the gaps that dropped tokens leave, and returns the number of tokens then.

    Args:
        first: The first token of the text.
        count: The number of tokens so far.
        edges: Where each token begins and ends.
        kinds: The kind of each token.
    """
    kept = first
    for token in range(first, count):
        if kinds[token] != DROPPED:
            edges[2 * kept] = edges[2 * token]
            edges[2 * kept + 1] = edges[2 * token + 1]
            kinds[kept] = kinds[token]
            kept += 1
    return kept


@compiled
def hash_texts(
    words: "Hashes",
    kinds: "Bytes",
    bounds: "Offsets",
    normal: "Hashes",
    skeleton: "Hashes",
    signs: "Offsets",
) -> None:
    """Hashes whole texts.

    Args:
        words: The hashes of the tokens.
        kinds: Their kinds.
        bounds: The first token of each text.
        normal: Receives two hashes of all tokens of each text, shape (texts, 2).
        skeleton: Receives a hash of the sequence of numbers and signs of each text.
        signs: Receives the length of that sequence.
    """
    for text in range(len(bounds) - 1):
        one, two, rule = np.uint64(1), np.uint64(2), np.uint64(3)
        length = 0
        for token in range(bounds[text], bounds[text + 1]):
            # Two hashes of different make: both collide once in 2^128 pairs of texts.
            one = mixed(one + words[token])
            two = (two ^ words[token]) * np.uint64(0x9E3779B97F4A7C15) + (two >> np.uint64(29))
            if kinds[token] == NUMBER or kinds[token] == SIGN:
                rule = mixed(rule + words[token])
                length += 1
        normal[text, 0], normal[text, 1] = one, two
        skeleton[text], signs[text] = rule, length


@compiled
def hash_grams(
    words: "Hashes",
    kinds: "Bytes",
    bounds: "Offsets",
    sizes: "Offsets",
    places: "Hashes",
    runs: "Hashes",
    offsets: "Offsets",
) -> int:
    """Hashes the grams of each text.

    Args:
        words: The hashes of the tokens.
        kinds: Their kinds.
        bounds: The first token of each text.
        sizes: Tokens of a gram that begins with a word, and with a character.
        places: A factor for each place of a gram.
        runs: Receives the grams.
        offsets: Receives the first gram of each text.

    Returns:
        The number of grams. A text that is shorter than a gram is one gram.
    """
    count = 0
    for text in range(len(bounds) - 1):
        offsets[text] = count
        begin, end = bounds[text], bounds[text + 1]
        for token in range(begin, end):
            size = sizes[1] if kinds[token] == CHARACTER else sizes[0]
            # Grams do not cross from one text into the next.
            if token + size > end:
                continue
            total = np.uint64(0)
            for place in range(size):
                total += words[token + place] * places[place]
            runs[count] = mixed(total)
            count += 1
        # A text shorter than a gram would otherwise have no shingle, and no copies.
        if count == offsets[text] and end > begin:
            total = np.uint64(0)
            for token in range(begin, end):
                total += words[token] * places[token - begin]
            runs[count] = mixed(total)
            count += 1
    offsets[len(bounds) - 1] = count
    return count
