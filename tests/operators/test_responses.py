"""responses.Drop takes the responses and nothing else."""

from dataclasses import fields, replace

from omr_data.operators.responses import Drop
from omr_data.records import Message, Record
from tests.builders import record, response


def test_only_the_responses_go() -> None:
    full = record(
        responses=(response(), response(attempt=1)),
        prompt=(Message("user", "What is 3 + 4?"),),
        pass_rate=0.5,
        question_id="demo",
        meta={"subject": "sums"},
    )
    bare = Drop().apply(full)
    assert bare.responses == ()
    for one in fields(Record):
        if one.name != "responses":
            assert getattr(bare, one.name) == getattr(full, one.name), one.name
    assert Drop().apply(bare) == bare == replace(full, responses=())
