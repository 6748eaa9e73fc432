"""Records are values, and a table holds them without loss."""

import math

import pytest

from omr_data.records import (
    RIGHT,
    ImageRef,
    Message,
    Verdict,
    from_table,
    plain_number,
    schema,
    storable_text,
    to_table,
)
from tests.builders import record, response


def test_a_record_survives_the_arrow_table_unchanged() -> None:
    verdict = Verdict(RIGHT, "numeric", 1, "7", "both are 7")
    full = record(
        images=(ImageRef("ab" * 32, 8, 6, "PNG"),),
        options=("7", "8"),
        prompt=(Message("user", "What is 3 + 4?"),),
        responses=(response(verdict=verdict), response(attempt=1, reasoning="hm")),
        pass_rate=0.5,
        meta={"kind": "sum", "a": "b"},
    )
    bare = record("demo/2")
    assert from_table(to_table([full, bare])) == [full, bare]


def test_the_schema_is_the_same_with_and_without_rows() -> None:
    assert to_table([]).schema == schema() == to_table([record()]).schema


@pytest.mark.parametrize(
    ("text", "stored", "replaced"),
    [
        ("plain \u00e9 \U0001f600", "plain \u00e9 \U0001f600", 0),
        ("half \ud83d", "half \ufffd", 1),
        ("\ude00\ud83d swapped", "\ufffd\ufffd swapped", 2),
        ("both halves \ud83d\ude00", "both halves \U0001f600", 0),
        ("was \ufffd before", "was \ufffd before", 0),
        ("\x00 and \ud83d\ufffd", "\x00 and \ufffd\ufffd", 1),
    ],
)
def test_any_text_becomes_storable_and_what_was_replaced_is_counted(
    text: str, stored: str, replaced: int
) -> None:
    assert storable_text(text) == (stored, replaced)
    stored.encode()


@pytest.mark.parametrize(
    ("value", "plain"), [(3, 3), (3.0, 3), (-0.5, -0.5), (2**63 - 1, 2**63 - 1)]
)
def test_a_whole_number_is_an_integer_however_it_was_written(
    value: int | float, plain: int | float
) -> None:
    assert plain_number(value) == plain
    assert type(plain_number(value)) is type(plain)


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, 1e300, 10**30, 10**400, True, "3"]
)
def test_what_no_column_can_hold_is_not_a_number(value: object) -> None:
    with pytest.raises(ValueError):
        plain_number(value)
