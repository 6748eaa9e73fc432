"""Questions over HTTP: the wire is OpenAI's, keys hold what decides, and the limits adapt."""

import json
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

import pytest

from omr_data.errors import TeacherError
from omr_data.identity import NOT_IDENTITY
from omr_data.operators.rollout import PromptTemplate, Sample
from omr_data.records import Record, Response
from omr_data.teachers.openai_api import Teacher
from omr_data.teachers.openai_api.endpoints import STRIKES, Endpoint, choose
from omr_data.teachers.openai_api.replies import is_served_as_asked, read_reply
from omr_data.teachers.openai_api.wire import prepare, seed, tail
from tests.asking import IMAGE, PICTURE, all_answered, ask, only, question, teacher
from tests.builders import record
from tests.servers import FaultServer, fault_server


@pytest.fixture(scope="module")
def server() -> Iterator[FaultServer]:
    with fault_server() as running:
        yield running


# -------------------------------------------------------------------------------------- answers


@pytest.mark.build
def test_all_attempts_of_a_question_come_from_one_request_with_their_own_seeds(
    server: FaultServer,
) -> None:
    one = question()
    before = server.told()["seen"]
    ((request, results),) = ask(teacher(server), [one], n=8)
    assert server.told()["seen"] == before + 1
    assert [result.attempt for result in results] == list(range(8))
    responses = [result for result in results if isinstance(result, Response)]
    text = "<think>I count.</think><answer>5</answer>"
    assert {(one.text, one.model, one.finish_reason) for one in responses} == {
        (text, "tiny", "stop")
    }
    assert responses[0].key == request.key and responses[0].seconds > 0
    assert sum(response.prompt_tokens for response in responses) == 10
    assert sum(response.completion_tokens for response in responses) == 7 * 8
    assert server.told()["log"][-1] == [one.question, seed(0, request.key, 0), 8]


@pytest.mark.build
@pytest.mark.parametrize("single", ["ignore", "refuse"])
def test_a_server_that_gives_one_sample_a_request_is_noticed_and_asked_one_by_one(
    single: str,
) -> None:
    with fault_server(single=single) as alone:
        answers = ask(teacher(alone), [question(number) for number in range(10)], n=4)
        assert all_answered(answers)
        samples = alone.samples()
        assert len(samples) == len(set(samples)) == 40


@pytest.mark.build
def test_reasoning_is_kept_apart_from_the_answer(server: FaultServer) -> None:
    (first, _) = only(ask(teacher(server), [question(fault="reasoning")]))
    assert isinstance(first, Response)
    assert (first.text, first.reasoning) == ("<answer>5</answer>", "I count.")


@pytest.mark.build
def test_what_was_cut_off_is_an_answer_and_is_not_asked_again(server: FaultServer) -> None:
    before = server.told()["seen"]
    (first, _) = only(ask(teacher(server), [question(fault="length")]))
    assert isinstance(first, Response)
    assert first.finish_reason == "length"
    assert server.told()["seen"] == before + 1


def test_without_a_url_the_message_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMR_TEACHER_URL", raising=False)
    with pytest.raises(TeacherError, match="set OMR_TEACHER_URL=http://HOST:8000/v1"):
        ask(Teacher("tiny"), [question()])
    with pytest.raises(TeacherError, match="is not an http:// or https:// URL"):
        ask(Teacher("tiny", urls=("localhost:8000",)), [question()])


# --------------------------------------------------------------------------------- flow control


def serve(endpoint: Endpoint, now: float, slots: int, rounds: int) -> float:
    """Plays a server with some slots and 0.1 s an answer that the client keeps full."""
    for _ in range(rounds):
        for _ in range(int(endpoint.limit) * 10):
            endpoint.in_flight = int(endpoint.limit)
            assert not endpoint.free(now)
            now += 0.1 / min(slots, endpoint.limit)
            endpoint.succeeded(now)
    endpoint.in_flight = 0
    return now


def test_the_limit_climbs_to_what_the_server_can_do_and_no_further() -> None:
    endpoint = Endpoint("x", most=1_000)
    now = serve(endpoint, 0.0, slots=100, rounds=30)
    assert 100 <= endpoint.limit <= 160
    serve(endpoint, now, slots=300, rounds=60)
    assert endpoint.limit >= 250


def test_the_limit_is_halved_once_for_all_that_was_in_flight() -> None:
    endpoint = Endpoint("x", most=100, limit=64)
    endpoint.too_much(10.0, 9.0, None, "429")
    # This one was in flight at the cut: it tells nothing new.
    endpoint.too_much(10.1, 9.5, None, "429")
    assert endpoint.limit == 32
    assert not endpoint.free(10.0)
    assert endpoint.free(11.0)


def test_an_endpoint_that_is_away_is_tried_by_one_request_while_old_ones_still_run() -> None:
    endpoint = Endpoint("x", most=100, limit=64)
    for _ in range(3):
        endpoint.sent(0.0)
    for _ in range(STRIKES):
        endpoint.failed(1.0, 0.0, "reset")
    assert endpoint.away and not endpoint.free(1.1)
    assert endpoint.free(10.0)
    endpoint.sent(10.0)
    assert not endpoint.free(10.0)
    endpoint.probing = False
    endpoint.succeeded(11.0)
    assert not endpoint.away and endpoint.free(11.0)


def test_the_least_loaded_endpoint_is_taken_and_a_resting_one_is_not() -> None:
    idle, busy = Endpoint("idle", 100, in_flight=1), Endpoint("busy", 100, in_flight=5)
    assert choose([busy, idle], now=0.0) is idle
    idle.too_much(0.0, 0.0, 60.0, "429")
    assert choose([busy, idle], now=1.0) is busy
    assert choose([busy, idle], now=61.0) is idle


@pytest.mark.build
def test_a_server_that_takes_few_requests_is_soon_asked_no_more_than_it_takes() -> None:
    with fault_server(latency=0.005, most=24) as small:
        asked = [question(number) for number in range(1_500)]
        assert all_answered(ask(teacher(small), asked, n=1))
        assert small.told()["seen"] < 1.3 * 1_500


# ------------------------------------------------------------------------------------- the wire


def body(asked: Teacher, one: Record, n: int = 4) -> dict[str, Any]:
    """The body of a request as it is sent."""
    prompt = PromptTemplate(system="Be brief.")
    (request,) = Sample(asked, n=n, prompt=prompt).requests(one)
    start = prepare(asked, request, lambda image: PICTURE)
    made: dict[str, Any] = json.loads(start + tail(asked, request.key, request.attempts))
    return made


@pytest.mark.build
def test_the_request_is_one_that_openai_s_own_types_accept_and_its_client_sends(
    server: FaultServer,
) -> None:
    import openai
    from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
    from pydantic import TypeAdapter

    asked = Teacher(
        "tiny",
        top_p=0.9,
        stop=("END",),
        response_format='{"type": "json_object"}',
        presence_penalty=0.5,
    )
    ours = body(asked, record(question="<image>What is this?", images=(IMAGE,)))
    TypeAdapter(CompletionCreateParamsNonStreaming).validate_python(ours)
    with openai.OpenAI(api_key="x", base_url=server.url, max_retries=0) as client:
        # It refuses a name that is not in the API.
        answer = client.chat.completions.create(**ours)
    assert len(answer.choices) == ours["n"] == 4
    assert server.told()["log"][-1] == ["<image>What is this?", ours["seed"], 4]
    image, text = ours["messages"][1]["content"]
    assert image["image_url"]["url"].startswith("data:image/png;base64,iVBOR")
    assert text == {"type": "text", "text": "What is this?"}


@pytest.mark.build
def test_an_answer_is_read_as_openai_s_own_types_read_it(server: FaultServer) -> None:
    import urllib.request

    from openai.types.chat import ChatCompletion

    asked = body(teacher(server), record(), n=3)
    call = urllib.request.Request(
        f"{server.url}/chat/completions",
        json.dumps(asked).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(call) as answer:
        raw = answer.read()
    theirs = ChatCompletion.model_validate_json(raw)
    ours = read_reply(raw, Teacher("tiny"), "k", (4, 5, 6), 0.1).responses
    assert [one.text for one in ours] == [choice.message.content for choice in theirs.choices]
    assert [one.finish_reason for one in ours] == [one.finish_reason for one in theirs.choices]
    assert theirs.usage is not None
    assert sum(one.completion_tokens for one in ours) == theirs.usage.completion_tokens
    assert ours[0].model == theirs.model


@pytest.mark.parametrize(
    ("asked", "served", "same"),
    [
        ("gpt-4o", "gpt-4o-2024-08-06", True),
        ("Qwen/Qwen3-VL-8B", "Qwen3-VL-8B", True),
        ("/models/qwen", "qwen", True),
        ("tiny", "", True),
        ("tiny", "another", False),
        ("Qwen/Qwen3-VL-8B", "Qwen/Qwen3-VL-4B", False),
    ],
)
def test_a_served_model_is_compared_with_the_asked_one(asked: str, served: str, same: bool) -> None:
    assert is_served_as_asked(asked, served) is same


# ----------------------------------------------------------------------------------------- keys

CHANGES = [
    {"model": "other"},
    {"revision_of_model": "abc"},
    {"temperature": 0.5},
    {"top_p": 0.5},
    {"top_k": 5},
    {"min_p": 0.1},
    {"max_tokens": 65},
    {"presence_penalty": 0.1},
    {"frequency_penalty": 0.1},
    {"repetition_penalty": 1.1},
    {"stop": ("x",)},
    {"seed": 1},
    {"response_format": '{"type": "text"}'},
    {"extra_body": '{"a": 1}'},
]
PLACES = [
    {"urls": ("http://else/v1",)},
    {"served_as": ("tiny-1",)},
    {"concurrency": 3},
    {"tries": 9},
    {"timeout": 1.0},
    {"silence": 9.0},
    {"outage": 9.0},
    {"samples_per_request": 1},
    {"prompt_price": 3.0},
    {"completion_price": 3.0},
    {"image_tokens_at_most": 9},
    {"stop_share": 0.1},
    {"tokens_field": "max_completion_tokens"},
]


def named(change: dict[str, Any]) -> str:
    return next(iter(change))


@pytest.mark.parametrize("change", CHANGES, ids=named)
def test_each_request_field_changed_alone_changes_the_key(change: dict[str, Any]) -> None:
    base = Teacher("tiny", max_tokens=64)
    (before,) = Sample(base).requests(record())
    (after,) = Sample(replace(base, **change)).requests(record())
    assert before.key != after.key


@pytest.mark.parametrize("change", PLACES, ids=named)
def test_where_and_how_fast_do_not_change_the_key(change: dict[str, Any]) -> None:
    base = Teacher("tiny")
    (before,) = Sample(base).requests(record())
    (after,) = Sample(replace(base, **change), n=3, unanswered=0.5).requests(record(id="other/2"))
    assert before.key == after.key


def test_every_field_is_either_in_the_key_or_a_place() -> None:
    """So that a field added later is thought about here."""
    marks = {
        field.name: NOT_IDENTITY.items() <= field.metadata.items() for field in fields(Teacher)
    }
    assert {name for name, is_place in marks.items() if not is_place} == set(map(named, CHANGES))
    assert {name for name, is_place in marks.items() if is_place} == set(map(named, PLACES))


@pytest.mark.parametrize(
    "change",
    [{"question": "What is 3 + 5?"}, {"images": (IMAGE,), "question": "<image>What is 3 + 4?"}],
)
def test_words_and_images_change_the_key(change: dict[str, Any]) -> None:
    (before,) = Sample(Teacher("tiny")).requests(record())
    (after,) = Sample(Teacher("tiny")).requests(record(**change))
    assert before.key != after.key


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('{"a":1,"b":2}', '{ "b": 2,\n "a": 1 }'),
        ('{"a":"\\u00e9"}', '{"a":"é"}'),
        ('{"a":{"c":1,"b":[1, 2]}}', '{"a":{"b":[1,2],"c":1}}'),
    ],
)
def test_how_a_json_text_is_written_is_no_part_of_the_key(one: str, other: str) -> None:
    for name in ("extra_body", "response_format"):
        first, second = Teacher("tiny", **{name: one}), Teacher("tiny", **{name: other})
        assert Sample(first).requests(record()) == Sample(second).requests(record())


def test_the_order_of_a_schema_s_properties_is_kept_because_answers_follow_it() -> None:
    schema = '{"properties":{"think":{"type":"string"},"answer":{"type":"string"}}}'
    assert Teacher("tiny", response_format=schema).response_format == schema


def test_a_lone_surrogate_in_a_question_is_asked_and_does_not_crash() -> None:
    (request,) = Sample(Teacher("tiny")).requests(record(question="half \ud83d"))
    assert request.messages[-1].text == "half \ufffd"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"extra_body": "[]"}, "extra_body must be a JSON object"),
        ({"extra_body": '{"a": NaN}'}, "extra_body must be a JSON object"),
        ({"extra_body": '{"n": 4, "max_tokens": 9}'}, "extra_body sets max_tokens, n"),
    ],
)
def test_a_parameter_that_no_server_takes_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(TeacherError, match=message):
        Teacher("tiny", **change)


def test_an_estimate_counts_requests_tokens_and_dollars() -> None:
    priced = Teacher("tiny", max_tokens=400, prompt_price=1.0, completion_price=2.0)
    one = record(question="<image>" + "x" * 400, images=(replace(IMAGE, width=280, height=280),))
    (request,) = Sample(priced, n=16).requests(one)
    estimate = priced.estimate(iter([request]))
    assert estimate.requests == 2
    assert estimate.prompt_tokens == 2 * (407 // 4 + 100)
    assert estimate.completion_tokens == 16 * 100
    assert estimate.usd == pytest.approx((estimate.prompt_tokens + 2 * 1600) / 1e6)
