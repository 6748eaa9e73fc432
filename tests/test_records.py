"""Records are values, and a table holds them without loss."""

import math

import pytest

from omr_data.errors import BadRow
from omr_data.records import (
    RIGHT,
    ImageRef,
    Message,
    Verdict,
    chat,
    check_marks,
    from_table,
    lettered,
    plain_number,
    schema,
    storable_text,
    to_table,
)
from tests.builders import record, response

IMAGE = ImageRef("ab" * 32, 8, 6, "PNG", 6)


def test_a_record_survives_the_arrow_table_unchanged() -> None:
    verdict = Verdict(RIGHT, "numeric", 1, "7", "both are 7")
    full = record(
        images=(IMAGE,),
        options=("7", "8"),
        prompt=(Message("user", "What is 3 + 4?"),),
        responses=(response(verdict=verdict), response(attempt=1, reasoning="hm")),
        pass_rate=0.5,
        meta={"kind": "sum", "a": "b"},
        turns=(Message("system", "Be brief."), Message("user", "What is 3 + 4?")),
        answers=("7", "seven"),
        accept="all",
        task="math",
        group="sums",
        parent="demo/0",
        split="train",
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


def test_the_chat_of_a_question_is_one_user_turn_with_its_lettered_options() -> None:
    assert lettered(["7", "8"]) == ["(A) 7", "(B) 8"]
    asked = chat(record(options=("7", "8")))
    assert asked == (Message("user", "What is 3 + 4?\nOptions:\n(A) 7\n(B) 8"),)


def test_the_chat_of_a_record_with_turns_is_those_turns_with_options_in_the_last() -> None:
    turns = (
        Message("system", "Be brief."),
        Message("user", "Hello"),
        Message("assistant", "Yes?"),
        Message("user", "Which?"),
    )
    assert chat(record(turns=turns)) == turns
    assert chat(record(turns=turns, options=("7",)))[-1].text == "Which?\nOptions:\n(A) 7"
    assert chat(record(turns=turns, options=("7",)))[:-1] == turns[:-1]


@pytest.mark.parametrize(
    "fields",
    [
        {"question": "Which?", "images": (IMAGE,)},
        {"question": "<image>Which?"},
        {"question": "<image>Which?", "images": (IMAGE,), "options": ("<image>", "none")},
        {
            "question": "<image>Which?",
            "images": (IMAGE,),
            "turns": (Message("user", "<image><image>"),),
        },
    ],
)
def test_marks_that_do_not_match_the_images_are_a_bad_row(fields: dict[str, object]) -> None:
    with pytest.raises(BadRow, match="image marks do not match") as caught:
        check_marks(record(**fields))
    assert "demo/1" in caught.value.detail


def test_marks_in_turns_and_options_count_towards_the_images() -> None:
    whole = record(
        question="Which?",
        images=(IMAGE, IMAGE),
        turns=(Message("user", "<image>Which?"),),
        options=("<image>", "none"),
    )
    assert check_marks(whole) is whole
