"""Questions over HTTP: every fault ends as a recorded state, nothing paid for is lost, and the wire is OpenAI's."""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from omr_data.errors import TeacherError
from omr_data.identity import NOT_IDENTITY
from omr_data.operators.rollout import PromptTemplate, Sample
from omr_data.records import ImageRef, Record, Response
from omr_data.store.rollouts import RolloutStore
from omr_data.teacher import Budget, Failure, Request
from omr_data.teachers.openai_api import Teacher
from omr_data.teachers.openai_api.endpoints import Endpoint, choose
from omr_data.teachers.openai_api.wire import prepare, read_reply, seed, tail
from tests.builders import png, record
from tests.servers import FaultServer, fault_server

PICTURE = png(size=(28, 28))
IMAGE = ImageRef("a" * 64, 28, 28, "PNG")


@pytest.fixture(scope="module")
def server() -> Iterator[FaultServer]:
    with fault_server() as running:
        yield running


def teacher(server: FaultServer, **changes: Any) -> Teacher:
    return Teacher(
        **{"model": "tiny", "max_tokens": 64, "urls": (server.url,), "timeout": 5.0} | changes
    )


def question(number: int = 0, fault: str = "", times: int = 10**6, **given: Any) -> Record:
    told = json.dumps({"fault": fault, "times": times}) if fault else ""
    return record(
        id=f"q/{number}",
        question=f"Question {number} {time.monotonic_ns()} {told}",
        answer="5",
        **given,
    )


def ask(
    asked: Teacher, records: Sequence[Record], n: int = 2, budget: Budget | None = None
) -> list[tuple[Request, Sequence[Response | Failure]]]:
    requests = [request for one in records for request in Sample(asked, n=n).requests(one)]
    found: dict[str, tuple[Request, list[Response | Failure]]] = {
        request.key: (request, []) for request in requests
    }
    with asked.open(1, lambda image: PICTURE, budget or Budget()) as session:
        for answers in session.answer(iter([requests])):
            for request, results in answers:
                found[request.key][1].extend(results)
    return list(found.values())


def only(answers: list[tuple[Request, Sequence[Response | Failure]]]) -> list[Response | Failure]:
    ((_, results),) = answers
    return sorted(results, key=lambda result: result.attempt)


# ---------------------------------------------------------------------------------------------- answers


def test_all_attempts_of_a_question_come_from_one_request_with_their_own_seeds(
    server: FaultServer,
) -> None:
    asked = teacher(server)
    one = question()
    before = server.told()["seen"]
    ((request, results),) = ask(asked, [one], n=8)
    assert server.told()["seen"] == before + 1
    assert [result.attempt for result in results] == list(range(8))
    first = results[0]
    assert isinstance(first, Response)
    assert (first.text, first.model, first.finish_reason) == (
        "<think>I count.</think><answer>5</answer>",
        "served-model",
        "stop",
    )
    assert first.key == request.key and first.seconds > 0
    responses = [result for result in results if isinstance(result, Response)]
    assert sum(response.prompt_tokens for response in responses) == 10
    assert sum(response.completion_tokens for response in responses) == 7 * 8
    assert server.told()["log"][-1] == [one.question, seed(0, request.key, 0), 8]


@pytest.mark.parametrize("single", ["ignore", "refuse"])
def test_a_server_that_gives_one_sample_a_request_is_noticed_and_asked_one_by_one(
    single: str,
) -> None:
    with fault_server(single=single) as alone:
        answers = ask(teacher(alone), [question(number) for number in range(10)], n=4)
        assert {tuple(sorted(result.attempt for result in results)) for _, results in answers} == {
            (0, 1, 2, 3)
        }
        assert all(isinstance(result, Response) for _, results in answers for result in results)
        samples = alone.samples()
        assert len(samples) == len(set(samples)) == 40


def test_reasoning_is_kept_apart_from_the_answer(server: FaultServer) -> None:
    (first, _) = only(ask(teacher(server), [question(fault="reasoning")]))
    assert isinstance(first, Response)
    assert (first.text, first.reasoning) == ("<answer>5</answer>", "I count.")


def test_what_was_cut_off_is_an_answer_and_is_not_asked_again(server: FaultServer) -> None:
    before = server.told()["seen"]
    (first, _) = only(ask(teacher(server), [question(fault="length")]))
    assert isinstance(first, Response)
    assert first.finish_reason == "length"
    assert server.told()["seen"] == before + 1


# ----------------------------------------------------------------------------------------------- faults

PASSING = [
    "429",
    "429 retry-after",
    "500",
    "503",
    "reset",
    "empty",
    "reasoning only",
    "malformed",
    "no choices",
    "html",
    "half",
    "hang",
]


@pytest.mark.parametrize("fault", PASSING)
def test_a_fault_that_passes_costs_another_try_and_nothing_else(
    server: FaultServer, fault: str
) -> None:
    began = time.monotonic()
    results = only(ask(teacher(server, timeout=0.5), [question(fault=fault, times=1)]))
    assert all(isinstance(result, Response) for result in results)
    assert len(results) == 2
    if fault == "429 retry-after":
        assert time.monotonic() - began >= 1.0


@pytest.mark.parametrize(
    ("fault", "kind", "status"),
    [
        ("429", "rate limited", 429),
        ("500", "server error", 500),
        ("503", "server error", 503),
        ("reset", "connection", 0),
        ("half", "connection", 0),
        ("hang", "timeout", 0),
        ("empty", "empty answer", 200),
        ("reasoning only", "reasoning without an answer", 200),
        ("malformed", "malformed answer", 200),
        ("html", "malformed answer", 200),
    ],
)
def test_a_fault_that_stays_is_a_recorded_failure_to_be_asked_again(
    server: FaultServer, fault: str, kind: str, status: int
) -> None:
    results = only(ask(teacher(server, tries=2, timeout=0.3), [question(fault=fault)]))
    assert [
        (result.kind, result.status, result.tries, result.retriable)
        for result in results
        if isinstance(result, Failure)
    ] == [(kind, status, 2, True)] * 2


@pytest.mark.parametrize("fault", ["400", "413"])
def test_what_cannot_succeed_is_refused_once_and_never_asked_again(
    server: FaultServer, fault: str, tmp_path: Path
) -> None:
    answers = ask(teacher(server), [question(fault=fault)])
    results = only(answers)
    assert [
        (result.kind, result.retriable) for result in results if isinstance(result, Failure)
    ] == [("rejected", False)] * 2
    with RolloutStore.write(tmp_path / "rollouts.sqlite") as store:
        store.put(answers)
        assert store.settled([answers[0][0].key]) == {answers[0][0].key: {0, 1}}


def test_a_question_that_is_refused_does_not_make_the_server_one_that_takes_no_n(
    server: FaultServer,
) -> None:
    before = server.told()["seen"]
    ask(
        teacher(server, concurrency=1),
        [question(0), question(1, fault="400"), question(2), question(3)],
        n=4,
    )
    assert server.told()["seen"] - before == 1 + 5 + 1 + 1


def test_a_wrong_key_stops_at_once_and_is_not_shown(
    server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMR_TEACHER_KEY", "401")
    with pytest.raises(TeacherError, match="answers 401 to tiny") as caught:
        ask(teacher(server), [question(fault="401")])
    assert "told to say ***" in str(caught.value)


def test_a_server_that_mostly_fails_is_left_before_more_is_spent(server: FaultServer) -> None:
    before = server.told()["seen"]
    with pytest.raises(TeacherError, match="of the last 200 requests failed"):
        ask(teacher(server), [question(number, fault="malformed") for number in range(400)], n=1)
    assert server.told()["seen"] - before < 600


def test_a_server_that_is_not_there_is_an_error_after_the_patience_is_over() -> None:
    gone = Teacher("tiny", urls=("http://127.0.0.1:9/v1",), patience=1.0)
    with pytest.raises(
        TeacherError,
        match=r"no answer for 1 s from http://127.0.0.1:9/v1; the last failure was: connection",
    ):
        ask(gone, [question()])


def test_without_a_url_the_message_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMR_TEACHER_URL", raising=False)
    with pytest.raises(TeacherError, match="set OMR_TEACHER_URL=http://HOST:8000/v1"):
        ask(Teacher("tiny"), [question()])
    with pytest.raises(TeacherError, match="is no http:// or https:// URL"):
        ask(Teacher("tiny", urls=("localhost:8000",)), [question()])


# ----------------------------------------------------------------------------------------- flow control


def serve(endpoint: Endpoint, now: float, slots: int, rounds: int) -> float:
    """Answers come from a server with so many slots and 0.1 s an answer, kept full by the client; returns the time after."""
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
    endpoint.too_much(now=10.0, sent=9.0, retry_after=None)
    endpoint.too_much(
        now=10.1, sent=9.5, retry_after=None
    )  # in flight at the cut: it tells nothing new
    assert endpoint.limit == 32
    assert not endpoint.free(10.0)
    assert endpoint.free(11.0)


def test_the_least_loaded_endpoint_is_taken_and_a_resting_one_is_not() -> None:
    idle, busy = Endpoint("idle", 100, in_flight=1), Endpoint("busy", 100, in_flight=5)
    assert choose([busy, idle], now=0.0) is idle
    idle.too_much(now=0.0, sent=0.0, retry_after=60.0)
    assert choose([busy, idle], now=1.0) is busy
    assert choose([busy, idle], now=61.0) is idle


def test_a_server_that_takes_few_requests_is_soon_asked_no_more_than_it_takes() -> None:
    with fault_server(latency=0.005, most=24) as small:
        answers = ask(teacher(small, tries=50), [question(number) for number in range(1_500)], n=1)
        assert all(isinstance(result, Response) for _, results in answers for result in results)
        assert small.told()["seen"] < 1.3 * 1_500


def test_one_of_two_servers_dies_and_nothing_is_lost() -> None:
    with fault_server(latency=0.01) as stays, fault_server(latency=0.01) as dies:
        asked = teacher(stays, urls=(stays.url, dies.url))
        requests = [
            request
            for number in range(600)
            for request in Sample(asked, n=1).requests(question(number))
        ]
        results: list[Response | Failure] = []
        with asked.open(1, lambda image: PICTURE, Budget()) as session:
            for answers in session.answer(iter([requests])):
                results += [result for _, group in answers for result in group]
                if len(results) > 150:
                    dies.process.kill()
        assert len(results) == 600
        assert all(isinstance(result, Response) for result in results)


# ------------------------------------------------------------------------------------------------ budget


def test_a_budget_pauses_and_the_answers_so_far_are_given(server: FaultServer) -> None:
    records = [question(number) for number in range(100)]
    budget = Budget(requests=10)
    answers = ask(teacher(server), records, n=4, budget=budget)
    assert sum(bool(results) for _, results in answers) == budget.sent == 10


def test_dollars_are_counted_from_what_the_server_counted(server: FaultServer) -> None:
    priced = teacher(server, prompt_price=1.0, completion_price=10.0, concurrency=4)
    budget = Budget(usd=0.0099)
    answers = ask(priced, [question(number) for number in range(100)], n=4, budget=budget)
    cost = (10 * 1.0 + 28 * 10.0) / 1e6
    done = sum(bool(results) for _, results in answers)
    assert budget.spent == pytest.approx(done * cost)
    assert 0.0099 - cost <= budget.spent <= 0.0099 + 4 * cost


# -------------------------------------------------------------------------------------------- the wire


def body(asked: Teacher, one: Record, n: int = 4) -> dict[str, Any]:
    (request,) = Sample(asked, n=n, prompt=PromptTemplate(system="Be brief.")).requests(one)
    made: dict[str, Any] = json.loads(
        prepare(asked, request, lambda image: PICTURE) + tail(asked, request.key, request.attempts)
    )
    return made


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
        answer = client.chat.completions.create(**ours)  # refuses a name that is not in the API
    assert len(answer.choices) == ours["n"] == 4
    assert server.told()["log"][-1] == ["<image>What is this?", ours["seed"], 4]
    assert ours["messages"][1]["content"][0]["image_url"]["url"].startswith(
        "data:image/png;base64,iVBOR"
    )
    assert ours["messages"][1]["content"][1] == {"type": "text", "text": "What is this?"}


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
    ours = read_reply(raw, "tiny", "k", (4, 5, 6), 0.1).responses
    assert [response.text for response in ours] == [
        choice.message.content for choice in theirs.choices
    ]
    assert [response.finish_reason for response in ours] == [
        choice.finish_reason for choice in theirs.choices
    ]
    assert theirs.usage is not None
    assert sum(response.completion_tokens for response in ours) == theirs.usage.completion_tokens
    assert ours[0].model == theirs.model


@pytest.mark.parametrize(
    "change",
    [
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
    ],
    ids=lambda change: next(iter(change)),
)
def test_each_request_field_changed_alone_changes_the_key(change: dict[str, Any]) -> None:
    base = Teacher("tiny", max_tokens=64)
    one = record()
    (before,), (after,) = Sample(base).requests(one), Sample(replace(base, **change)).requests(one)
    assert before.key != after.key


def test_every_field_is_either_in_the_key_or_a_place() -> None:
    """So that a field added later is thought about here."""
    identity = {
        field.name
        for field in fields(Teacher)
        if not NOT_IDENTITY.items() <= field.metadata.items()
    }
    changed = {
        next(iter(mark.args[1][number])) for mark in _marks() for number in range(len(mark.args[1]))
    }
    assert identity == changed


def _marks() -> list[Any]:
    return list(test_each_request_field_changed_alone_changes_the_key.pytestmark)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "change",
    [
        {"urls": ("http://else/v1",)},
        {"concurrency": 3},
        {"tries": 9},
        {"timeout": 1.0},
        {"samples_per_request": 1},
        {"prompt_price": 3.0},
        {"stop_share": 0.1},
        {"patience": 9.0},
        {"tokens_field": "max_completion_tokens"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_where_and_how_fast_do_not_change_the_key(change: dict[str, Any]) -> None:
    base = Teacher("tiny")
    (before,), (after,) = (
        Sample(base).requests(record()),
        Sample(replace(base, **change), n=3).requests(record(id="other/2")),
    )
    assert before.key == after.key


@pytest.mark.parametrize(
    "change",
    [{"question": "What is 3 + 5?"}, {"images": (IMAGE,), "question": "<image>What is 3 + 4?"}],
)
def test_words_and_images_change_the_key(change: dict[str, Any]) -> None:
    (before,), (after,) = (
        Sample(Teacher("tiny")).requests(record()),
        Sample(Teacher("tiny")).requests(record(**change)),
    )
    assert before.key != after.key


def test_a_parameter_that_no_server_takes_is_refused() -> None:
    with pytest.raises(TeacherError, match="max_tokens is 0"):
        Teacher("tiny", max_tokens=0)
    with pytest.raises(TeacherError, match="extra_body must be a JSON object"):
        Teacher("tiny", extra_body="[]")


def test_an_estimate_counts_requests_tokens_and_dollars() -> None:
    priced = Teacher("tiny", max_tokens=400, prompt_price=1.0, completion_price=2.0)
    one = record(question="<image>" + "x" * 400, images=(replace(IMAGE, width=280, height=280),))
    (request,) = Sample(priced, n=16).requests(one)
    estimate = priced.estimate(iter([request]))
    assert estimate.requests == 2
    assert estimate.prompt_tokens == 2 * (407 // 4 + 100)
    assert estimate.completion_tokens == 16 * 100
    assert estimate.usd == pytest.approx((estimate.prompt_tokens + 2 * 1600) / 1e6)
