"""The normal form of a problem's words, which every duplicate and contamination step uses.

**Token**: a word, a character of a script without spaces between words, a number, or a sign (an
operator, a relation or the name of a function such as `sin`). **Normal form**: the tokens of a
text after `respell`: case, spaces, punctuation, image marks, question numbers and option labels
are left out; 1,234, 1234 and "1 234" are one number; "five" is 5 where it counts something.
**Skeleton**: the sequence of numbers and signs alone. Two texts can only be one problem where
their skeletons are equal, or where one is a contiguous run of the other.

    normal_form("What is 3 × (4 + five)?")  ->  what is 3 * ( 4 + 5 )
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from omr_data.similar import characters, kernels, number_words, plain_kernels, token_kernels
from omr_data.similar.spelling import respell, split_options, strip_label
from omr_data.similar.vocabulary import hash_of, loads, word_table

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa
    from numpy.typing import NDArray

    Texts: TypeAlias = pl.Series | pa.Array | pa.ChunkedArray
    Hashes = NDArray[np.uint64]
    Offsets = NDArray[np.int64]

CHUNK = 2**18
"""Bytes of text worked on at once, so that they stay in the cache of the processor."""
OPTION = " ≀ "
"""Stands between a question and its options, which are sorted. It is a sign of its own, so that a
number cannot move from one option to the next unseen."""
MASK = np.uint64(0x5DEECE66D)
"""Stands for every number where numbers are to be ignored."""
_NUMBERED = (
    r"(?i)^\s*(?:(?:question|problem|exercise|example|ques|prob|ex|no|q|p|frage|aufgabe|pregunta)"
    r"\s*[.:#]?\s*\d|[#(\[]?\s*\d{1,4}\s*[)\].]|\(\s*[ivx]+\s*\))"
)
"""A cheap test for what may be a question number; `respell` decides."""
_LABELED = r"(?s)[\s(（]A\s*[.)、．:：）].*B\s*[.)、．:：）]"


@lru_cache(maxsize=1)
def option_mark() -> np.uint64:
    """The hash of the token that stands before each option."""
    return hash_of(OPTION.strip())


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of some texts, one text after the other."""

    words: "Hashes"
    """A hash of each token. Two tokens collide once in 2^64 pairs."""
    kinds: "NDArray[np.uint8]"
    """WORD, CHARACTER, NUMBER or SIGN of each token."""
    bounds: "Offsets"
    """Text i has the tokens bounds[i] : bounds[i + 1]."""
    spelled: "NDArray[np.uint8]"
    """The bytes of all tokens, for people to read."""
    edges: "Offsets"
    """Token i is spelled[edges[2 * i] : edges[2 * i + 1]]."""

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def of(self, text: int) -> "Hashes":
        """The hashes of one text's tokens."""
        return self.words[self.bounds[text] : self.bounds[text + 1]]

    def kinds_of(self, text: int) -> "NDArray[np.uint8]":
        """The kinds of one text's tokens."""
        return self.kinds[self.bounds[text] : self.bounds[text + 1]]

    def strings(self, text: int) -> list[str]:
        """The tokens of one text as strings."""
        places = range(self.bounds[text], self.bounds[text + 1])
        edges = self.edges
        return [
            self.spelled[edges[2 * at] : edges[2 * at + 1]].tobytes().decode(errors="replace")
            for at in places
        ]

    def keys(self) -> "tuple[Hashes, Hashes, Offsets]":
        """Hashes of whole texts.

        Returns:
            Two hashes of each normal form, shape (texts, 2), one of each skeleton, and the
            length of each skeleton.
        """
        normal = np.empty((len(self), 2), np.uint64)
        skeleton = np.empty(len(self), np.uint64)
        signs = np.empty(len(self), np.int64)
        token_kernels.hash_texts(self.words, self.kinds, self.bounds, normal, skeleton, signs)
        return normal, skeleton, signs


def tokenize(texts: "Texts", numbers: str = "compare") -> Iterator[Tokens]:
    """Cuts a column of texts into tokens, some texts at a time and in order.

    Args:
        texts: The texts. Missing ones have no tokens.
        numbers: "compare" keeps numbers; "ignore" makes one token of all of them, so that
            problems that differ in numbers only have one normal form.
    """
    import pyarrow as pa

    column = texts if isinstance(texts, pa.Array | pa.ChunkedArray) else texts.to_arrow()
    for chunk in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
        array = _strings(chunk)
        offsets = _offsets(array)
        start = 0
        while start < len(array):
            # At least one text, and then as many as fit into the cache.
            fitting = int(np.searchsorted(offsets, offsets[start] + CHUNK, "right")) - 1
            stop = max(start + 1, fitting)
            found = _cut(array.slice(start, stop - start))
            if numbers == "ignore":
                found.words[found.kinds == characters.NUMBER] = MASK
            yield found
            start = stop


def normal_form(question: str, options: tuple[str, ...] = ()) -> str:
    """The tokens of one problem with spaces between them, as the table in docs/dedup.md has them.

    Args:
        question: The question as its dataset has it.
        options: Its options, in any order.
    """
    import polars as pl

    rows = pl.DataFrame(
        {"question": [question], "options": [list(options)]},
        schema={"question": pl.String, "options": pl.List(pl.String)},
    )
    found = next(tokenize(problem_texts(rows)), None)
    return " ".join(found.strings(0)) if found else ""


def problem_texts(rows: "pl.DataFrame") -> "pl.Series":
    """The question and its options as one text, without labels and with options sorted.

    Args:
        rows: A frame with the columns `question` and `options`.
    """
    import polars as pl

    questions, options = rows["question"].fill_null(""), rows["options"]
    # Most rows have no options, so Python only sees the rows that have some.
    apart = options.list.len().fill_null(0) > 0
    # Options at the end of the question count as options; a regular expression finds the few.
    inline = ~apart & questions.str.contains(_LABELED)
    if not (apart.any() or inline.any()):
        return questions
    joined = questions.to_list()
    for row in (apart | inline).arg_true().to_list():
        if apart[row]:
            question, labeled = joined[row], tuple(options[row].to_list())
        else:
            question, labeled = split_options(joined[row])
        if labeled:
            choices = sorted(respell(strip_label(option or "")).strip() for option in labeled)
            joined[row] = OPTION.join([question, *choices])
    return pl.Series("question", joined, pl.String)


def _respell(array: Any) -> Any:
    """The texts of one piece, respelled where they hold anything that respelling changes."""
    import polars as pl

    data, offsets = _bytes(array)
    flags = np.empty(len(array), np.bool_)
    token_kernels.find_spelled(data, offsets, flags)
    texts = pl.Series(pl.from_arrow(array))
    # A question number needs no unusual byte, so that a regular expression looks for it.
    flags |= texts.str.contains(_NUMBERED).to_numpy()
    if not flags.any():
        return array
    joined = texts.to_list()
    # Respelling is Python and costs most of the time where it is needed; others skip it.
    for row in np.flatnonzero(flags).tolist():
        joined[row] = respell(joined[row])
    return _strings(pl.Series(joined, dtype=pl.String).to_arrow())


def _cut(array: Any) -> Tokens:
    """The tokens of one piece of texts."""
    data, offsets = _bytes(array)
    if plain_kernels.is_plain(data):
        return _cut_plain(data, offsets)
    data, offsets = _bytes(_respell(array))
    # A half more than the input: ".5" grows to "0.5", the most that any token grows.
    out = np.empty(len(data) + len(data) // 2 + 2 * kernels.PAD, np.uint8)
    edges = np.empty(2 * len(data) + 2, np.int64)
    kinds = np.empty(len(data) + 1, np.uint8)
    bounds = np.empty_like(offsets)
    count = token_kernels.cut_tokens(data, offsets, out, edges, kinds, bounds)
    return _read(out, edges, kinds[:count], bounds)


def _cut_plain(data: "NDArray[np.uint8]", offsets: "Offsets") -> Tokens:
    """The same for texts of letters only, three times as fast."""
    lower = np.empty(len(data) + plain_kernels.BLOCK, np.uint8)
    marks = np.empty(len(data) + plain_kernels.BLOCK, np.uint8)
    plain_kernels.classify(data, lower, marks)
    # A word and the space after it are two bytes and two edges.
    edges = np.empty(len(data) + 2, np.int64)
    bounds = np.empty_like(offsets)
    count = plain_kernels.find_words(loads(marks), offsets, edges, bounds)
    return _read(lower, edges, np.full(count, characters.WORD, np.uint8), bounds)


def _read(
    out: "NDArray[np.uint8]", edges: "Offsets", kinds: "NDArray[np.uint8]", bounds: "Offsets"
) -> Tokens:
    """Hashes the tokens and reads number words among them."""
    # Hashed before number words are read: these are found by their hash.
    words = np.empty(len(kinds), np.uint64)
    read = loads(out)
    kernels.hash_words(edges, read, words)
    count = number_words.read_words(*word_table(), out, read, edges, kinds, bounds, words)
    return Tokens(words[:count], kinds[:count], bounds, out, edges[: 2 * count])


def _strings(array: Any) -> Any:
    """An array as strings without nulls."""
    import pyarrow as pa
    import pyarrow.compute as pc

    # Views and categories come from other readers, and have no plain buffer of bytes.
    if array.type not in (pa.string(), pa.large_string()):
        array = array.cast(pa.large_string())
    return pc.fill_null(array, "") if array.null_count else array


def _offsets(array: Any) -> "Offsets":
    """Where each text of an array begins in its buffer of bytes, and where the last one ends."""
    import pyarrow as pa

    bounds = np.frombuffer(array.buffers()[1], np.int32 if array.type == pa.string() else np.int64)
    return bounds[array.offset : array.offset + len(array) + 1].astype(np.int64)


def _bytes(array: Any) -> "tuple[NDArray[np.uint8], Offsets]":
    """The bytes of an array's texts, and their offsets from 0."""
    offsets, data = _offsets(array), array.buffers()[2]
    # A sliced array shares the buffer of the whole one, so only its own part is kept.
    whole = np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)
    return whole[offsets[0] : offsets[-1]], offsets - offsets[0]
