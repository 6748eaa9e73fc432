"""Compiled loops that cut texts into tokens and read numbers, signs and words from them.

One pass over the bytes writes every token in its one spelling to an output buffer. A second pass
over the tokens, which are a fifth as many, reads number words. See `omr_data.similar.tokens` for
what the tokens mean. Nothing here checks a bound: the caller allocates all arrays.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from omr_data.similar.kernels import compiled, hash_bytes, mixed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]
    Hashes = NDArray[np.uint64]
    Offsets = NDArray[np.int64]

WORD, CHARACTER, NUMBER, SIGN, DROPPED = 0, 1, 2, 3, 4
"""Kinds of token. A character is one of a script that puts no spaces between words."""
OTHER, LETTER, DIGIT, HIGH, OPERATOR = 0, 1, 2, 3, 4
CLASSES = np.zeros(256, np.uint8)
CLASSES[[*range(65, 91), *range(97, 123)]] = LETTER
CLASSES[48:58] = DIGIT
CLASSES[128:] = HIGH
CLASSES[[ord(sign) for sign in "+-*/=<>^_!%|:'()[].~"]] = OPERATOR
DEPTH = 32
"""Round brackets are matched this deep; deeper ones are left out."""
PLUS, MINUS, PERCENT, FUNCTION, BEFORE, AFTER, BOTH, AND = -1, -2, -3, -4, -5, -6, -7, -8
"""What a word in the table of words means, where it is no number."""


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
def is_name(data: "Bytes", at: int, begin: int, end: int) -> bool:
    """Whether the letter at `at` stands alone, as names of variables do."""
    if CLASSES[data[at]] != LETTER:
        return False
    before = at > begin and CLASSES[data[at - 1]] == LETTER
    after = at + 1 < end and CLASSES[data[at + 1]] == LETTER
    return not before and not after


@compiled
def operand_before(data: "Bytes", at: int, begin: int, end: int) -> bool:
    """Whether a number, a variable or a closing bracket precedes, spaces aside."""
    at -= 1
    while at >= begin and data[at] == 32:
        at -= 1
    if at < begin:
        return False
    byte = data[at]
    if CLASSES[byte] == DIGIT or byte == 41 or byte == 93 or byte == 37 or byte == 124:
        return True
    # Two-byte letters are Greek or Cyrillic: one of them alone is a variable.
    greek = byte >= 128 and at > begin and (data[at - 1] == 0xCE or data[at - 1] == 0xCF)
    return is_name(data, at, begin, end) or greek or byte == 39


@compiled
def operand_after(data: "Bytes", at: int, begin: int, end: int) -> bool:
    """Whether a number, a variable, a sign or an opening bracket follows, spaces aside."""
    at += 1
    while at < end and data[at] == 32:
        at += 1
    if at >= end:
        return False
    byte = data[at]
    if CLASSES[byte] == DIGIT or byte == 40 or byte == 91 or byte == 46 or byte == 124:
        return True
    # Roots, sines and logarithms are operands too; telling them by their first letters is enough.
    if CLASSES[byte] == LETTER and at + 2 < end:
        root = byte == 115 and (data[at + 1] == 113 or data[at + 1] == 105)
        if root or (byte == 112 and data[at + 1] == 105) or (byte == 99 and data[at + 1] == 111):
            return True
    symbol = byte == 0xE2 or byte == 0xCE or byte == 0xCF
    return is_name(data, at, begin, end) or symbol or byte == 45 or byte == 43


@compiled
def is_sign(data: "Bytes", at: int, begin: int, end: int) -> bool:
    """Whether an ASCII sign is an operator or a relation here, and not punctuation."""
    byte = data[at]
    left = data[at - 1] if at > begin else 32
    right = data[at + 1] if at + 1 < end else 32
    if byte == 43 or byte == 60 or byte == 62 or byte == 94 or byte == 37 or byte == 126:
        return True  # + < > ^ % ~
    if byte == 61:  # one = for a row of them
        return left != 61
    if byte == 45:
        if right == 62 or right == 43:
            return True  # an arrow, or -+
        if right == 32 or right == 10 or right == 45:
            return operand_before(data, at, begin, end) and operand_after(data, at, begin, end)
        # well-known, 5-year-old and type-2 have a hyphen; x-3, 5-x, 10-15 and -3 have a minus.
        hyphen = CLASSES[left] == LETTER and not is_name(data, at - 1, begin, end)
        return not hyphen and operand_after(data, at, begin, end)
    if byte == 42 or byte == 47:  # * /
        double = left == byte or right == byte
        operands = operand_before(data, at, begin, end) and operand_after(data, at, begin, end)
        return operands and not double
    if byte == 95:  # an index, and not a blank to fill in
        inside = CLASSES[left] == LETTER or CLASSES[left] == DIGIT or left == 41
        follows = CLASSES[right] == LETTER or CLASSES[right] == DIGIT or right == 40
        return inside and follows
    if byte == 33:  # n! and !=
        number = CLASSES[left] == DIGIT or left == 41
        operand = number or (at > begin and is_name(data, at - 1, begin, end))
        return right == 61 or (operand and CLASSES[right] != LETTER)
    if byte == 124:  # an absolute value
        return CLASSES[left] != OTHER or CLASSES[right] != OTHER
    if byte == 58:  # 3:4, and no colon at the end of a clause
        return operand_before(data, at, begin, end) and CLASSES[right] == DIGIT
    if byte == 39:  # f' and f''
        derived = left == 39 or left == 41 or (at > begin and is_name(data, at - 1, begin, end))
        return derived and CLASSES[right] != LETTER
    if byte == 91:  # [0, 1) is another interval than (0, 1)
        return CLASSES[right] == DIGIT or right == 45
    if byte == 93:
        name = at > begin and is_name(data, at - 1, begin, end)
        return CLASSES[left] == DIGIT or name or left == 41
    return False


@compiled
def copy_number(data: "Bytes", at: int, end: int, out: "Bytes", to: int) -> tuple[int, int]:
    """Writes a number without separators of thousands and without zeros at its end.

    Returns:
        Where the number ends in `data`, and where what was written ends in `out`.
    """
    if data[at] == 46:
        out[to] = 48
        to += 1
    while at < end and CLASSES[data[at]] == DIGIT:
        out[to] = data[at]
        to += 1
        at += 1
        # 1,234 and 1 234: a separator, three digits, and no fourth one.
        if at + 3 < end and (data[at] == 44 or data[at] == 32):
            three = True
            for step in range(1, 4):
                three &= CLASSES[data[at + step]] == DIGIT
            fourth = at + 4 < end and CLASSES[data[at + 4]] == DIGIT
            if three and not fourth and is_group(data, at):
                at += 1
    if at + 1 < end and data[at] == 46 and CLASSES[data[at + 1]] == DIGIT:
        point = to
        out[to] = 46
        to += 1
        at += 1
        while at < end and CLASSES[data[at]] == DIGIT:
            out[to] = data[at]
            to += 1
            at += 1
        while to > point and (out[to - 1] == 48 or to - 1 == point):
            to -= 1
    return at, to


@compiled
def is_group(data: "Bytes", at: int) -> bool:
    """Whether one to three digits precede the separator at `at`, and then no further digit."""
    count = 0
    while at - count - 1 >= 0 and CLASSES[data[at - count - 1]] == DIGIT:
        count += 1
    return 1 <= count <= 3


@compiled
def wide_kind(first: int, second: int) -> tuple[int, int]:
    """What a character beyond ASCII is, and its bytes: WORD for a letter, DROPPED for the rest."""
    if first < 0xC0:
        return DROPPED, 1
    if first < 0xE0:
        return WORD, 2
    if first >= 0xF0:
        return CHARACTER, 4
    if first == 0xE2:
        # Punctuation (U+2000 to U+207F) is left out; arrows and mathematical signs count.
        return (DROPPED if second < 0x82 else SIGN), 3
    if first == 0xE0:
        return (CHARACTER if 0xB8 <= second <= 0xBB else WORD), 3
    if first == 0xE1:
        spaceless = second == 0x9E or second == 0x9F or 0x80 <= second <= 0x82
        return (CHARACTER if spaceless else WORD), 3
    if first == 0xE3:
        return (DROPPED if second == 0x80 else CHARACTER), 3
    if first <= 0xE9:
        return CHARACTER, 3
    return (DROPPED if first == 0xEF else WORD), 3


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
                if to == start:
                    continue
            elif group == DIGIT:
                kind = NUMBER
                at, to = copy_number(data, at, end, out, to)
            elif byte == 46:
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
                if depth == DEPTH:
                    continue
                kind = SIGN
                out[to] = byte
                to += 1
                opened[depth] = count
                depth += 1
            elif byte == 41:
                at += 1
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
        for left in range(depth):
            kinds[opened[left]] = DROPPED
            unused = True
        if unused:
            count = drop_tokens(first, count, edges, kinds)
    bounds[len(offsets) - 1] = count
    return count


@compiled
def drop_tokens(first: int, count: int, edges: "Offsets", kinds: "Bytes") -> int:
    """Closes the gaps that dropped tokens leave; returns the number of tokens then."""
    kept = first
    for token in range(first, count):
        if kinds[token] != DROPPED:
            edges[2 * kept] = edges[2 * token]
            edges[2 * kept + 1] = edges[2 * token + 1]
            kinds[kept] = kinds[token]
            kept += 1
    return kept


@compiled
def look_up(table: "Hashes", meanings: "Offsets", word: Any) -> Any:
    """What a word means, 0 for one that is not in the table. Zero itself is stored as 10^18."""
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
                out[start] = 43 if meaning == PLUS else 45 if meaning == MINUS else 37
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
    """Writes decimal digits; returns where they end. Number words are longer than their digits."""
    digits = 1
    power = 10
    while power <= value:
        digits += 1
        power *= 10
    for place in range(digits):
        out[start + digits - 1 - place] = 48 + value % 10
        value //= 10
    return start + digits


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
            if token + size > end:
                continue
            total = np.uint64(0)
            for place in range(size):
                total += words[token + place] * places[place]
            runs[count] = mixed(total)
            count += 1
        if count == offsets[text] and end > begin:
            total = np.uint64(0)
            for token in range(begin, end):
                total += words[token] * places[token - begin]
            runs[count] = mixed(total)
            count += 1
    offsets[len(bounds) - 1] = count
    return count
