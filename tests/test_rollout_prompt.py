"""`rollout.Sample` asks the record's own chat, and what it attaches keeps the given traces."""

import pytest

from omr_data.errors import StepError
from omr_data.operators.rollout import PromptTemplate, Sample
from omr_data.records import ImageRef, Message
from omr_data.teachers import echo
from tests.builders import record, response

IMAGES = (ImageRef("ab" * 32, 8, 6, "PNG"), ImageRef("cd" * 32, 8, 6, "PNG"))
TURNS = (
    Message("system", "Be brief."),
    Message("user", "<image>What is it?"),
    Message("assistant", "A square."),
    Message("user", "And <image> this?"),
)


def test_a_chat_of_several_turns_and_images_is_asked_as_it_is() -> None:
    step = Sample(echo.Teacher(), n=2)
    asked = record(question="<image>What is it?\nAnd <image> this?", images=IMAGES, turns=TURNS)
    (request,) = step.requests(asked)
    assert request.messages == TURNS
    assert request.images == IMAGES
    assert step.attach(asked, [[]]).prompt == TURNS


def test_a_system_message_is_added_only_where_there_is_none() -> None:
    template = PromptTemplate(system="Think first.", suffix="\nAnswer:")
    with_turns = template.messages(record(turns=TURNS))
    assert with_turns[:-1] == TURNS[:-1]
    assert with_turns[-1].text == "And <image> this?\nAnswer:"
    assert template.messages(record())[0] == Message("system", "Think first.")


def test_given_responses_stay_beside_the_new_ones() -> None:
    given, new = response("given", key=""), response("new", key="ab" * 32)
    step = Sample(echo.Teacher(), n=1)
    once = step.attach(record(responses=(given,)), [[new]])
    assert once.responses == (given, new)
    assert step.attach(once, [[new]]).responses == (given, new)
    assert step.tally(once) == {"answers": 1}


def test_a_record_that_lost_a_mark_on_the_way_is_named() -> None:
    with pytest.raises(StepError, match="cannot ask record demo/1"):
        Sample(echo.Teacher()).requests(record(images=IMAGES))
