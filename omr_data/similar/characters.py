"""Compiled tests of single characters: number, operator or punctuation.

`omr_data.similar.token_kernels` calls these while it cuts texts. Nothing here checks a bound of an
array: the caller passes places inside of one text.
"""

from typing import TYPE_CHECKING

import numpy as np

from omr_data.similar.kernels import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]

WORD, CHARACTER, NUMBER, SIGN, DROPPED = 0, 1, 2, 3, 4
"""Kinds of token. A character is one of a script that puts no spaces between words."""
OTHER, LETTER, DIGIT, HIGH, OPERATOR = 0, 1, 2, 3, 4
CLASSES = np.zeros(256, np.uint8)
CLASSES[[*range(65, 91), *range(97, 123)]] = LETTER
CLASSES[48:58] = DIGIT
CLASSES[128:] = HIGH
CLASSES[[ord(sign) for sign in "+-*/=<>^_!%|:'()[].~"]] = OPERATOR


@compiled
def is_name(data: "Bytes", at: int, begin: int, end: int) -> bool:
    """Whether a letter stands alone, as names of variables do.

    Args:
        data: The bytes of all texts.
        at: The place of the letter.
        begin: Where the text begins.
        end: Where the text ends.
    """
    if CLASSES[data[at]] != LETTER:
        return False
    before = at > begin and CLASSES[data[at - 1]] == LETTER
    after = at + 1 < end and CLASSES[data[at + 1]] == LETTER
    return not before and not after


@compiled
def operand_before(data: "Bytes", at: int, begin: int, end: int) -> bool:
    """Whether a number, a variable or a closing bracket precedes, spaces aside.

    Args:
        data: The bytes of all texts.
        at: The place of the sign.
        begin: Where the text begins.
        end: Where the text ends.
    """
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
    """Whether a number, a variable, a sign or an opening bracket follows, spaces aside.

    Args:
        data: The bytes of all texts.
        at: The place of the sign.
        begin: Where the text begins.
        end: Where the text ends.
    """
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
    return bool(is_name(data, at, begin, end) or symbol or byte == 45 or byte == 43)


@compiled
def is_sign(data: "Bytes", at: int, begin: int, end: int) -> bool:
    """Whether an ASCII sign is an operator or a relation here, and not punctuation.

    Args:
        data: The bytes of all texts.
        at: The place of the sign.
        begin: Where the text begins.
        end: Where the text ends.
    """
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
        return bool(right == 61 or (operand and CLASSES[right] != LETTER))
    if byte == 124:  # an absolute value
        return bool(CLASSES[left] != OTHER or CLASSES[right] != OTHER)
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

    Args:
        data: The bytes of all texts.
        at: Where the number begins.
        end: Where the text ends.
        out: Receives the number.
        to: Where it is written in `out`.

    Returns:
        Where the number ends in `data`, and where what was written ends in `out`.
    """
    # .5 and 0.5 are one number.
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
        # 2.50 is 2.5, and 2.0 is 2: the point goes where nothing follows it.
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
    # By UTF-8's first byte; the second one is looked at only where a script needs it.
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
