"""Every fault of a server ends as a recorded state: nothing paid is lost or paid twice.

The faults are played by `tests.fault_server`. A cut of them runs in `make test`, and all of them in
`make test-slow`.
"""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from omr_data.errors import TeacherError
from omr_data.operators.rollout import Sample
from omr_data.records import Response
from omr_data.teacher import AttemptStatus, Budget, Failure
from omr_data.teachers.openai_api import Teacher
from tests.asking import PICTURE, all_answered, ask, only, question, teacher
from tests.builders import record
from tests.fault_server import FINISH_REASONS
from tests.servers import FaultServer, fault_server

FAILED, REFUSED, REJECTED = AttemptStatus.FAILED, AttemptStatus.REFUSED, AttemptStatus.REJECTED


@pytest.fixture(scope="module")
def server() -> Iterator[FaultServer]:
    with fault_server() as running:
        yield running


def tiered(cases: list[Any], cut: int) -> list[Any]:
    """The first cases for `make test`, the others for `make test-slow`."""
    return [
        pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=tier)
        for number, case in enumerate(cases)
        for tier in [pytest.mark.build if number < cut else pytest.mark.slow]
    ]


# ------------------------------------------------------------------------- faults that pass

PASSING = [
    "429",
    "503",
    "reset",
    "one empty",
    "429 retry-after",
    "408",
    "425",
    "500",
    "502",
    "504",
    "529",
    "half",
    "hang",
    "empty",
    "reasoning only",
    "malformed",
    "no choices",
    "html",
    "bomb",
    "broken choice",
    "reason abort",
    "reason None",
]


@pytest.mark.parametrize("fault", tiered(PASSING, 4))
def test_a_fault_that_passes_costs_another_try_and_nothing_else(
    server: FaultServer, fault: str
) -> None:
    began = time.monotonic()
    timeout = 1.0 if fault == "hang" else 20.0
    answers = ask(teacher(server, timeout=timeout), [question(fault=fault, times=1)])
    assert all_answered(answers)
    if fault == "429 retry-after":
        assert time.monotonic() - began >= 1.0


# ----------------------------------------------------------------------- faults that stay

STAYING = [
    # A choice without an answer.
    ("empty", FAILED, "empty answer", 200),
    ("reason content_filter", REFUSED, "content filter", 200),
    ("reason tool_calls", REJECTED, "tool call", 200),
    # A whole request.
    ("413", REJECTED, "rejected", 413),
    ("500", FAILED, "server error", 500),
    ("402", FAILED, "refused access", 402),
    ("reasoning only", FAILED, "reasoning without an answer", 200),
    ("reason abort", FAILED, "finish reason abort", 200),
    ("reason error", FAILED, "finish reason error", 200),
    ("reason odd", FAILED, "finish reason odd", 200),
    ("reason None", FAILED, "no finish reason", 200),
    ("refusal", REFUSED, "content filter", 200),
    ("policy", REFUSED, "content filter", 400),
    ("malformed", FAILED, "malformed answer", 200),
    ("html", FAILED, "malformed answer", 200),
    ("bomb", FAILED, "connection", 0),
    ("reset", FAILED, "connection", 0),
    ("half", FAILED, "connection", 0),
    ("hang", FAILED, "timeout", 0),
    ("400", REJECTED, "rejected", 400),
    ("406", REJECTED, "rejected", 406),
    ("409", REJECTED, "rejected", 409),
    ("415", REJECTED, "rejected", 415),
    ("422", REJECTED, "rejected", 422),
    ("501", FAILED, "server error", 501),
    ("302", FAILED, "refused access", 302),
    ("401", FAILED, "refused access", 401),
    ("403", FAILED, "refused access", 403),
    ("404", FAILED, "refused access", 404),
    ("410", FAILED, "refused access", 410),
    ("quota", FAILED, "refused access", 429),
]


@pytest.mark.parametrize(("fault", "status", "kind", "http_status"), tiered(STAYING, 6))
def test_a_fault_that_stays_is_a_recorded_failure_and_the_others_are_answered(
    server: FaultServer, fault: str, status: AttemptStatus, kind: str, http_status: int
) -> None:
    asked = teacher(server, tries=2, timeout=1.0 if fault == "hang" else 20.0, concurrency=1)
    good, bad, last = ask(asked, [question(0), question(1, fault), question(2)])
    assert all_answered([good, last])
    found = [one for one in bad[1] if isinstance(one, Failure)]
    assert [(one.attempt, one.status, one.kind, one.http_status) for one in found] == [
        (attempt, status, kind, http_status) for attempt in (0, 1)
    ]


def test_each_finish_reason_of_the_server_is_tried() -> None:
    """So that a reason that is added there is judged here."""
    tried = {fault for fault, *_ in STAYING}
    assert {f"reason {reason}" for reason in FINISH_REASONS} <= tried


@pytest.mark.build
@pytest.mark.parametrize(("fault", "status"), [("one empty", FAILED), ("one filtered", REFUSED)])
def test_one_bad_choice_leaves_the_others_and_only_it_is_asked_again(
    server: FaultServer, fault: str, status: AttemptStatus
) -> None:
    before = server.told()["seen"]
    results = only(ask(teacher(server, tries=3), [question(fault=fault)], n=8))
    assert [isinstance(one, Response) for one in results] == [False] + [True] * 7
    assert isinstance(results[0], Failure) and results[0].status is status
    # One request for all eight; then the empty one alone, until its tries are over.
    assert server.told()["seen"] - before == (3 if status is FAILED else 1)
    assert sum(one.prompt_tokens for one in results if isinstance(one, Response)) == 10


@pytest.mark.build
@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ("surrogate", "<answer>5</answer> \ufffd"),
        ("bad utf-8", "<think>I \ufffd count.</think><answer>5</answer>"),
    ],
)
def test_text_that_cannot_be_stored_is_an_answer_with_characters_replaced(
    server: FaultServer, fault: str, text: str
) -> None:
    results = only(ask(teacher(server), [question(fault=fault)]))
    assert isinstance(results[0], Response) and results[0].text == text


@pytest.mark.build
@pytest.mark.parametrize("fault", ["absurd usage", "infinite usage", "negative usage", "no usage"])
def test_usage_that_cannot_be_believed_counts_as_none(server: FaultServer, fault: str) -> None:
    results = only(ask(teacher(server), [question(fault=fault)]))
    assert [
        (one.prompt_tokens, one.completion_tokens) for one in results if isinstance(one, Response)
    ] == [(0, 0)] * 2


# --------------------------------------------------------------------------- when a run stops


@pytest.mark.build
@pytest.mark.parametrize("status", ["401", "402", "404", "302", "quota"])
def test_a_wrong_set_up_stops_at_once_with_the_server_s_words_and_without_the_key(
    server: FaultServer, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMR_TEACHER_KEY", "told")
    with pytest.raises(TeacherError) as caught:
        ask(teacher(server, concurrency=1), [question(one, status) for one in range(9)])
    shown = str(caught.value)
    assert f"answers {'429' if status == 'quota' else status} to tiny" in shown
    assert "*** to say" in shown and "hidden" not in shown
    assert ("redirects to http://elsewhere.example/v1" in shown) == (status == "302")


@pytest.mark.build
def test_twenty_refusals_of_access_in_a_row_stop_a_run_that_went_well(server: FaultServer) -> None:
    asked = teacher(server, concurrency=1)
    one_bad = [question(0), question(1, "404"), *(question(one) for one in range(2, 9))]
    assert (
        sum(isinstance(one, Failure) for _, results in ask(asked, one_bad) for one in results) == 2
    )
    many_bad = [question(0), *(question(one, "401") for one in range(1, 60))]
    before = server.told()["seen"]
    with pytest.raises(TeacherError, match="answers 401 to tiny: .*told to say 401"):
        ask(asked, many_bad)
    assert server.told()["seen"] - before == 1 + 20


@pytest.mark.build
def test_a_first_stretch_of_nothing_but_rejections_stops_and_settles_nothing(
    server: FaultServer,
) -> None:
    asked = teacher(server)
    found = []
    requests = [
        request
        for number in range(300)
        for request in Sample(asked, n=2).requests(question(number, "400"))
    ]
    before = server.told()["seen"]
    with (
        pytest.raises(TeacherError, match="were all rejected.*400: .*told to say 400"),
        asked.open(1, lambda image: PICTURE, Budget()) as session,
    ):
        for answers in session.answer(iter([requests])):
            found += answers
    assert not found
    assert server.told()["seen"] - before < 3 * 100


@pytest.mark.build
def test_rejections_before_the_first_success_are_settled_after_it(server: FaultServer) -> None:
    asked = teacher(server, concurrency=1)
    answers = ask(asked, [*(question(one, "400") for one in range(5)), question(9)], n=1)
    statuses = [one.status for _, results in answers for one in results if isinstance(one, Failure)]
    assert statuses == [REJECTED] * 5
    # So few say nothing about the set-up, even when nothing else is asked.
    (alone,) = only(ask(asked, [question(1, "400")], n=1))
    assert isinstance(alone, Failure) and alone.status is REJECTED


@pytest.mark.build
def test_paid_replies_that_mostly_hold_no_answer_stop_the_run(server: FaultServer) -> None:
    before = server.told()["seen"]
    with pytest.raises(TeacherError, match="of the last 200 requests failed .*malformed answer"):
        ask(teacher(server), [question(one, "malformed") for one in range(400)], n=1)
    assert server.told()["seen"] - before < 600


@pytest.mark.build
def test_answers_of_another_model_are_failures_where_the_names_are_given(
    server: FaultServer,
) -> None:
    strict = teacher(server, served_as=("tiny-1",), tries=1)
    results = only(ask(strict, [question(fault="another model")]))
    assert [(one.kind, one.status) for one in results if isinstance(one, Failure)] == [
        ("another model", FAILED)
    ] * 2
    assert all_answered(ask(strict, [question()]))


# ----------------------------------------------------------------------------------- outages


@pytest.mark.build
def test_a_server_that_is_not_there_is_waited_for_as_long_as_an_outage_may_last() -> None:
    gone = Teacher("tiny", urls=("http://127.0.0.1:9/v1",), outage=1.0)
    with pytest.raises(
        TeacherError,
        match=r"no answer for 1 s from http://127.0.0.1:9/v1; the last failure was: connection",
    ):
        ask(gone, [question()])


def outage(
    server: FaultServer, status: str, seconds: float, questions: int, **changes: Any
) -> None:
    """An outage in the middle of a run loses nothing, and nothing is paid twice."""
    asked = teacher(server, **changes)
    records = [question(number) for number in range(questions)]
    requests = [request for one in records for request in Sample(asked, n=1).requests(one)]
    found: Counter[str] = Counter()
    timers = [
        threading.Timer(0.3, server.mode, [status]),
        threading.Timer(0.3 + seconds, server.mode, [""]),
    ]
    with asked.open(1, lambda image: PICTURE, Budget()) as session:
        for timer in timers:
            timer.start()
        for answers in session.answer(iter([requests])):
            for request, results in answers:
                found[request.key] += sum(isinstance(one, Response) for one in results)
    for timer in timers:
        timer.join()
    assert set(found.values()) == {1} and len(found) == questions
    given = Counter(server.samples())
    assert max(given.values()) == 1


@pytest.mark.parametrize(
    ("status", "seconds", "questions"),
    [
        pytest.param("429", 2.0, 1_000, marks=pytest.mark.build),
        pytest.param("503", 2.0, 200, marks=pytest.mark.slow),
        pytest.param("500", 2.0, 200, marks=pytest.mark.slow),
        pytest.param("502", 2.0, 200, marks=pytest.mark.slow),
        pytest.param("529", 2.0, 200, marks=pytest.mark.slow),
        pytest.param("503", 12.0, 200, marks=pytest.mark.slow),
        pytest.param("429", 12.0, 1_000, marks=pytest.mark.slow),
    ],
)
def test_an_outage_in_the_middle_of_a_run_is_waited_out(
    status: str, seconds: float, questions: int
) -> None:
    with fault_server(latency=0.05) as server:
        outage(server, status, seconds, questions, outage=10 * seconds)


@pytest.mark.slow
def test_a_restarted_server_is_found_again() -> None:
    with fault_server(latency=0.05) as first:
        asked = teacher(first, outage=30.0)
        requests = [
            request for one in range(300) for request in Sample(asked, n=1).requests(question(one))
        ]
        found = []
        with asked.open(1, lambda image: PICTURE, Budget()) as session:
            answers = session.answer(iter([requests]))
            while len(found) < 50:
                found += next(answers)
            first.process.kill()
            first.process.wait()
            notes = set()
            for _ in range(3):
                found += next(answers)
                notes.add(session.note())
            with fault_server(latency=0.05, port=first.port):
                for group in answers:
                    found += group
        assert sum(isinstance(one, Response) for _, results in found for one in results) == 300
        assert any("waiting" in note and first.url in note for note in notes)


@pytest.mark.slow
def test_one_old_fault_and_slow_answers_do_not_stop_a_healthy_run() -> None:
    with fault_server(latency=2.0) as slow:
        asked = teacher(slow, outage=1.0, concurrency=4)
        records = [question(0, "500", times=1), *(question(one) for one in range(1, 9))]
        assert all_answered(ask(asked, records))


@pytest.mark.slow
def test_a_long_answer_of_a_living_server_is_waited_for_and_a_dead_one_is_not() -> None:
    with fault_server() as alive:
        asked = teacher(alive, silence=0.3)
        assert all_answered(ask(asked, [question(fault="slow")]))
        assert alive.told()["probed"] >= 2
    with fault_server() as stopped:
        asked = teacher(stopped, silence=0.3, outage=2.0)
        timer = threading.Timer(0.5, stopped.process.send_signal, [19])
        timer.start()
        with pytest.raises(
            TeacherError, match="the last failure was: (silence|timeout|connection)"
        ):
            ask(asked, [question(fault="hang")])
        timer.join()


@pytest.mark.slow
def test_one_of_two_servers_dies_and_nothing_is_lost() -> None:
    with fault_server(latency=0.01) as stays, fault_server(latency=0.01) as dies:
        asked = teacher(stays, urls=(stays.url, dies.url))
        requests = [
            request for one in range(600) for request in Sample(asked, n=1).requests(question(one))
        ]
        results: list[Response | Failure] = []
        with asked.open(1, lambda image: PICTURE, Budget()) as session:
            for answers in session.answer(iter([requests])):
                results += [result for _, group in answers for result in group]
                if len(results) > 150:
                    dies.process.kill()
        assert len(results) == 600
        assert all(isinstance(result, Response) for result in results)


# ------------------------------------------------------------------------------------ budget


@pytest.mark.build
def test_a_budget_of_requests_pauses_and_the_answers_so_far_are_given(server: FaultServer) -> None:
    budget = Budget(requests=10)
    answers = ask(teacher(server), [question(one) for one in range(100)], n=4, budget=budget)
    assert sum(bool(results) for _, results in answers) == budget.sent == 10
    assert budget.reached


def test_a_budget_in_dollars_without_prices_says_what_to_write() -> None:
    unpriced = Teacher("tiny", urls=("http://127.0.0.1:9/v1",), prompt_price=1.0)
    with pytest.raises(TeacherError, match=r"Write prompt_price=2.0, completion_price=8.0"):
        ask(unpriced, [question()], budget=Budget(usd=1.0))


@pytest.mark.build
def test_usage_above_what_a_request_can_use_contradicts_the_budget(server: FaultServer) -> None:
    priced = teacher(server, prompt_price=1.0, completion_price=1.0)
    with pytest.raises(TeacherError, match="counts 10,000,000 prompt .* at most 1,"):
        ask(priced, [question(fault="too much usage")], budget=Budget(usd=100.0))
    assert all_answered(ask(priced, [question(fault="too much usage")]))


@pytest.mark.parametrize(
    ("seed", "prices", "images"),
    [
        pytest.param(1, (1.0, 10.0), 0, marks=pytest.mark.build),
        pytest.param(2, (20.0, 0.5), 0, marks=pytest.mark.slow),
        pytest.param(3, (0.0, 3.0), 0, marks=pytest.mark.slow),
    ],
)
def test_over_random_replies_the_true_cost_stays_within_the_budget_and_most_of_it_is_used(
    seed: int, prices: tuple[float, float], images: int
) -> None:
    prompt_price, completion_price = prices
    # About 600 of the 1,000 questions fit.
    usd = 600 * (600 * prompt_price + 4 * 32 * completion_price) / 1e6
    with fault_server(random=seed, latency=0.01) as server:
        priced = teacher(
            server, prompt_price=prompt_price, completion_price=completion_price, concurrency=64
        )
        budget = Budget(usd=usd)
        long = "word " * 240
        records = [
            record(id=f"q/{one}", question=f"Question {seed} {one} {long}", answer="5")
            for one in range(1_000)
        ]
        ask(priced, records, n=4, budget=budget)
        used_prompt, used_completion = server.told()["used"]
    true_cost = (used_prompt * prompt_price + used_completion * completion_price) / 1e6
    assert true_cost <= budget.spent + 1e-9 <= usd + 1e-9
    if budget.reached:
        assert budget.spent >= 0.8 * usd
    assert budget.reserved == pytest.approx(0.0, abs=1e-9)


# ----------------------------------------------------------------------- secrets and proxies


@pytest.mark.build
def test_a_secret_in_a_url_is_sent_and_never_shown() -> None:
    hidden = "s3cretkey"
    gone = Teacher(
        "tiny", urls=(f"http://user:pass99@127.0.0.1:9/v1?api-key={hidden}",), outage=0.2
    )
    with pytest.raises(TeacherError) as caught:
        ask(gone, [question()])
    assert hidden not in str(caught.value) and "pass99" not in str(caught.value)
    with fault_server() as server:
        assert all_answered(
            ask(teacher(server, urls=(f"{server.url}?api-key={hidden}",)), [question()])
        )


def test_a_key_that_no_header_can_carry_is_an_error_that_does_not_show_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMR_TEACHER_KEY", "first\nsecond")
    with pytest.raises(TeacherError, match="OMR_TEACHER_KEY holds a line break") as caught:
        ask(Teacher("tiny", urls=("http://127.0.0.1:9/v1",)), [question()])
    assert "second" not in str(caught.value)


@pytest.mark.build
def test_a_proxy_in_the_environment_is_taken_and_exceptions_are_kept(
    server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.port}")
    monkeypatch.setenv("no_proxy", "")
    far = Teacher("tiny", urls=("http://far.example/v1",), max_tokens=64)
    assert all_answered(ask(far, [question()]))
    monkeypatch.setenv("no_proxy", "far.example")
    with pytest.raises(TeacherError, match="no answer for 0.2 s from http://far.example/v1"):
        ask(Teacher("tiny", urls=("http://far.example/v1",), outage=0.2), [question()])
