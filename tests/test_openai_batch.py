"""A provider's Batch API: bought once whatever happens, collected whole, the answers as live."""

import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest

from omr_data.errors import MissingExtra, StoreError, TeacherError
from omr_data.identity import identity_fields
from omr_data.operators.rollout import Sample
from omr_data.records import ImageRef, Record, Response
from omr_data.teacher import AttemptStatus, Budget, Failure, Request
from omr_data.teachers import openai_api, openai_batch
from omr_data.teachers.openai_api.wire import seed
from omr_data.teachers.openai_batch.journal import BatchJournal, Entry
from omr_data.teachers.openai_batch.lines import BatchLine, parse_line, read_line, write_line
from omr_data.teachers.openai_batch.provider import Provider
from tests.builders import png, record
from tests.omr import ROOT, command, digests, environment, omr
from tests.servers import BatchServer, batch_server, fault_server

pytestmark = pytest.mark.build

BATCHED = ROOT / "tests" / "recipes" / "batched.py"
SERVED = ROOT / "tests" / "recipes" / "served.py"
FAILED, REFUSED, REJECTED = AttemptStatus.FAILED, AttemptStatus.REFUSED, AttemptStatus.REJECTED
PICTURE = png(size=(28, 28))
IMAGE = ImageRef("a" * 64, 28, 28, "PNG")


@pytest.fixture(scope="module")
def server() -> Iterator[BatchServer]:
    with batch_server() as running:
        yield running


def teacher(server: BatchServer, folder: Path, **changes: Any) -> openai_batch.Teacher:
    usual = {
        "model": "tiny",
        "max_tokens": 64,
        "urls": (server.url,),
        "timeout": 5.0,
        "poll": 0.02,
        "outage": 1.0,
        "folder": folder,
    }
    return openai_batch.Teacher(**usual | changes)


def question(number: int = 0, fault: str = "", times: int = 10**6, **given: Any) -> Record:
    told = json.dumps({"fault": fault, "times": times}) if fault else ""
    return record(
        id=f"q/{number}",
        question=f"Question {number} {time.monotonic_ns()} {told}",
        answer="5",
        **given,
    )


Answered = list[tuple[Request, Sequence[Response | Failure]]]


def ask(
    asked: openai_batch.Teacher, records: Sequence[Record], n: int = 2, budget: Budget | None = None
) -> Answered:
    requests = [request for one in records for request in Sample(asked, n=n).requests(one)]
    found: dict[str, tuple[Request, list[Response | Failure]]] = {
        request.key: (request, []) for request in requests
    }
    with asked.open(1, lambda image: PICTURE, budget or Budget()) as session:
        for answers in session.answer(iter([requests])):
            for request, results in answers:
                found[request.key][1].extend(results)
    return [
        (request, sorted(results, key=lambda result: result.attempt))
        for request, results in found.values()
    ]


def only(answers: Answered) -> list[Response | Failure]:
    ((_, results),) = answers
    return list(results)


def places(folder: Path) -> tuple[object, ...]:
    return ("--work", folder / "work", "--releases", folder / "releases", "--workers", 1)


def stored(folder: Path, table: str = "rollouts") -> int:
    path = folder / "work" / "rollouts.sqlite"
    if not path.exists():
        return 0
    with sqlite3.connect(path) as store:
        try:
            (count,) = store.execute(f"SELECT count(*) FROM {table}").fetchone()
        except sqlite3.OperationalError:
            return 0
    return int(count)


def entries(folder: Path) -> list[Path]:
    return list((folder / "work" / "batches").iterdir())


# -------------------------------------------------------------------------------------- answers


def test_all_attempts_of_a_question_are_one_request_at_half_the_price_with_the_live_seeds(
    server: BatchServer, tmp_path: Path
) -> None:
    budget = Budget()
    one = record(images=(IMAGE,), question="<image>What is this?")
    asked = teacher(server, tmp_path, prompt_price=1.0, completion_price=10.0)
    ((request, results),) = ask(asked, [one], n=8, budget=budget)
    responses = [result for result in results if isinstance(result, Response)]
    assert [response.attempt for response in responses] == list(range(8))
    assert {(response.text, response.model, response.key) for response in responses} == {
        ("<think>I count.</think><answer>5</answer>", "tiny", request.key)
    }
    assert server.told()["bought"][-1] == [one.question, seed(0, request.key, 0), 8]
    assert budget.spent == pytest.approx((10 * 1.0 + 56 * 10.0) / 1e6 / 2)
    assert budget.sent == 1


def test_a_question_has_the_same_key_in_a_batch_as_live(tmp_path: Path) -> None:
    batched, live = (
        openai_batch.Teacher("m", top_p=0.5, batches_at_once=1, folder=tmp_path),
        openai_api.Teacher("m", top_p=0.5),
    )
    assert Sample(batched).requests(record())[0].key == Sample(live).requests(record())[0].key
    assert identity_fields(batched) == identity_fields(live)


def test_an_estimate_is_half_that_of_asking_live() -> None:
    prices = {"prompt_price": 1.0, "completion_price": 2.0}
    requests = Sample(live := openai_api.Teacher("m", **prices)).requests(record())
    batched = openai_batch.Teacher("m", **prices)
    whole, half = live.estimate(iter(requests)), batched.estimate(iter(requests))
    assert whole.usd is not None
    assert half == replace(whole, usd=whole.usd / 2)
    assert openai_batch.Teacher("m").estimate(iter(requests)).usd is None


@pytest.mark.parametrize("single", ["ignore", "refuse"])
def test_a_provider_that_gives_one_sample_a_request_is_asked_one_by_one(
    single: str, tmp_path: Path
) -> None:
    with batch_server(single=single) as alone:
        answers = ask(teacher(alone, tmp_path), [question(number) for number in range(5)], n=3)
        assert [[result.attempt for result in results] for _, results in answers] == [[0, 1, 2]] * 5
        assert all(isinstance(result, Response) for _, results in answers for result in results)


def test_a_limit_of_lines_or_bytes_makes_several_batches_and_few_at_once(tmp_path: Path) -> None:
    with batch_server(seconds=0.1, enqueued=2) as several:  # a third one at once would be refused
        ask(
            teacher(several, tmp_path, requests_per_file=4, batches_at_once=2),
            [question(number) for number in range(10)],
        )
        assert several.told()["batches"] == [4, 4, 2]
        ask(
            teacher(several, tmp_path, bytes_per_file=1_000, batches_at_once=2),
            [question(number) for number in range(10)],
        )
        assert several.told()["batches"][3:] == [3, 3, 3, 1]
        with pytest.raises(TeacherError, match="and the file of a batch may have 100"):
            ask(teacher(several, tmp_path, bytes_per_file=100), [question()])


def test_while_it_waits_it_says_how_far_the_provider_is(tmp_path: Path) -> None:
    with batch_server(seconds=1) as slow:
        asked = teacher(slow, tmp_path)
        requests = [
            request for number in range(3) for request in Sample(asked).requests(question(number))
        ]
        with asked.open(1, lambda image: PICTURE, Budget()) as session:
            notes = [
                (bool(answers), session.note()) for answers in session.answer(iter([requests]))
            ]
    assert (False, "1 batch, 0 of 3 requests done") in notes


# --------------------------------------------------------------------------------------- faults


@pytest.mark.parametrize(
    ("fault", "status", "kind", "http_status"),
    [
        ("400", REJECTED, "rejected", 400),
        ("422", REJECTED, "rejected", 422),
        ("429", FAILED, "rate limited", 429),
        ("500", FAILED, "server error", 500),
        ("503", FAILED, "server error", 503),
        ("402", FAILED, "refused access", 402),
        ("403", FAILED, "refused access", 403),
        ("302", FAILED, "refused access", 302),
        ("empty", FAILED, "empty answer", 200),
        ("content_filter", REFUSED, "content filter", 200),
        ("tool_calls", REJECTED, "tool call", 200),
        ("abort", FAILED, "finish reason abort", 200),
        ("null", FAILED, "no finish reason", 200),
        ("expired", FAILED, "expired", 0),
        ("lost", FAILED, "no answer", 0),
    ],
)
def test_a_line_that_fails_is_a_recorded_failure_and_the_others_are_answers(
    server: BatchServer,
    fault: str,
    status: AttemptStatus,
    kind: str,
    http_status: int,
    tmp_path: Path,
) -> None:
    (_, bad), (_, good) = ask(teacher(server, tmp_path), [question(0, fault), question(1)], n=2)
    found = [one for one in bad if isinstance(one, Failure)]
    assert [(one.attempt, one.status, one.kind, one.http_status) for one in found] == [
        (attempt, status, kind, http_status) for attempt in (0, 1)
    ]
    assert all(isinstance(one, Response) for one in good)
    assert not list(tmp_path.iterdir())


def test_an_attempt_that_this_run_did_not_want_is_kept_if_answered_and_is_no_failure_if_not() -> (
    None
):
    (request,) = Sample(openai_batch.Teacher("m"), n=2).requests(record())
    line = BatchLine(request, (0, 1, 2, 3))
    error = {"response": None, "error": {"code": "batch_expired", "message": "late"}}
    assert [
        one.attempt for one in read_line(line, error, openai_batch.Teacher("m"), 1.0).results
    ] == [0, 1]
    choices = [
        {"index": index, "message": {"content": "5"}, "finish_reason": "stop"} for index in range(4)
    ]
    good = {"response": {"status_code": 200, "body": {"choices": choices}}, "error": None}
    assert [
        one.attempt for one in read_line(line, good, openai_batch.Teacher("m"), 1.0).results
    ] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b'{"custom_id": "x"}',
        b'{"response": 5}',
        b'{"response": {"status_code": "x"}}',
        b"\xff",
    ],
)
def test_a_broken_line_of_an_output_file_is_a_failure_and_no_crash(raw: bytes) -> None:
    (request,) = Sample(openai_batch.Teacher("m"), n=1).requests(record())
    (failed,) = read_line(
        BatchLine(request, (0,)), parse_line(raw), openai_batch.Teacher("m"), 1.0
    ).results
    assert isinstance(failed, Failure) and failed.status is FAILED


@pytest.mark.slow
@pytest.mark.parametrize("outcome", ["expired", "cancelled"])
def test_a_batch_that_ended_early_keeps_its_answers_and_the_next_run_asks_for_the_rest(
    outcome: str, tmp_path: Path
) -> None:
    with batch_server(outcome=outcome) as early:
        failed = omr("build", BATCHED, *places(tmp_path), code=1, OMR_TEACHER_URL=early.url)
        assert f"120 attempts failed: {outcome}" in failed.stderr
        assert "120 of 240 attempts got no answer, and may succeed later" in failed.stderr
        assert (stored(tmp_path), stored(tmp_path, "failures")) == (120, 120)
        early.go("complete")
        omr("build", BATCHED, *places(tmp_path), OMR_TEACHER_URL=early.url)
        assert early.told()["batches"] == [60, 30]
    assert (stored(tmp_path), stored(tmp_path, "failures"), entries(tmp_path)) == (240, 0, [])


def test_each_choice_of_a_line_is_judged_alone(server: BatchServer, tmp_path: Path) -> None:
    results = only(ask(teacher(server, tmp_path), [question(0, "one empty")], n=4))
    assert [isinstance(one, Response) for one in results] == [False, True, True, True]


def test_an_answer_with_half_an_emoji_is_collected(server: BatchServer, tmp_path: Path) -> None:
    results = only(ask(teacher(server, tmp_path), [question(0, "surrogate")]))
    assert all(isinstance(one, Response) and one.text.endswith("\ufffd") for one in results)
    assert not list(tmp_path.iterdir())


def test_a_batch_that_is_completed_before_its_files_are_there_is_not_bought_again(
    tmp_path: Path,
) -> None:
    with batch_server(late=3) as late:
        results = only(ask(teacher(late, tmp_path, outage=20.0), [question()]))
        assert all(isinstance(one, Response) for one in results)
        assert late.told()["batches"] == [1]


def test_a_batch_that_is_refused_is_a_clear_error_and_costs_nothing(
    server: BatchServer, tmp_path: Path
) -> None:
    with pytest.raises(
        TeacherError,
        match=r"refused the batch batch_\d+ of 1 requests to absent.*"
        r"line 1: model_not_found: told so of",
    ):
        ask(teacher(server, tmp_path, model="absent"), [question()])
    assert not list(tmp_path.iterdir())


def test_more_than_an_account_may_have_waiting_is_bought_as_other_batches_end(
    tmp_path: Path,
) -> None:
    with batch_server(seconds=0.1, enqueued=1) as narrow:
        answers = ask(
            teacher(narrow, tmp_path, requests_per_file=2),
            [question(number) for number in range(8)],
        )
        assert all(isinstance(result, Response) for _, results in answers for result in results)
        assert max(Counter(narrow.samples()).values()) == 1
    with (
        batch_server(enqueued=-1) as full,
        pytest.raises(TeacherError, match="token_limit_exceeded.*or lower requests_per_file"),
    ):
        ask(teacher(full, tmp_path), [question()])


def test_a_batch_whose_making_got_no_answer_is_found_and_not_made_again(tmp_path: Path) -> None:
    with batch_server(flaky=1) as flaky:
        results = only(ask(teacher(flaky, tmp_path), [question()]))
        assert all(isinstance(result, Response) for result in results)
        told = flaky.told()
        assert (told["batches"], told["calls"]["make"]) == ([1], 1)


def test_a_provider_that_cannot_be_reached_is_an_error_after_the_patience_is_over(
    server: BatchServer, tmp_path: Path
) -> None:
    with pytest.raises(
        TeacherError,
        match="http://127.0.0.1:9/v1 does not take a file of requests: Connection error",
    ):
        ask(teacher(server, tmp_path, urls=("http://127.0.0.1:9/v1",), outage=0.1), [question()])


def test_what_it_needs_is_said(
    server: BatchServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TeacherError, match="only a build has a workspace"):
        ask(openai_batch.Teacher("tiny", urls=(server.url,)), [question()])
    with pytest.raises(TeacherError, match="at one provider, and OMR_TEACHER_URL names 2"):
        ask(teacher(server, tmp_path, urls=(server.url, server.url)), [question()])
    with pytest.raises(TeacherError, match="batches_at_once is 0"):
        teacher(server, tmp_path, batches_at_once=0)
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(
        MissingExtra, match="openai is not installed. It comes with the extra 'batch'"
    ):
        ask(teacher(server, tmp_path), [question()])


# --------------------------------------------------------------------------------------- budget


@pytest.mark.slow
def test_a_spent_budget_pauses_and_a_new_one_goes_on(tmp_path: Path) -> None:
    with batch_server() as server:
        paused = omr(
            "build",
            BATCHED,
            *places(tmp_path),
            "--max-requests",
            25,
            code=1,
            OMR_TEACHER_URL=server.url,
        )
        assert "paused: the budget is spent (25 requests" in paused.stderr
        omr("build", BATCHED, *places(tmp_path), OMR_TEACHER_URL=server.url)
        assert server.told()["batches"] == [25, 35]


def test_a_budget_in_dollars_is_kept_by_what_each_line_can_cost_at_most(tmp_path: Path) -> None:
    cost = (10 + 4 * 7) / 1e6 / 2
    with batch_server() as server:
        budget = Budget(usd=0.004)
        asked = teacher(server, tmp_path, prompt_price=1.0, completion_price=1.0)
        answers = ask(asked, [question(number) for number in range(300)], n=4, budget=budget)
        done = sum(bool(results) for _, results in answers)
        assert budget.reached
        assert budget.spent == pytest.approx(done * cost)
        # It pauses when not even one more line fits, whatever it would really cost.
        assert 0.004 - (1_200 + 4 * 64) / 1e6 / 2 <= budget.spent <= 0.004
        assert server.told()["batches"][0] <= 0.004 / ((1_024 + 4 * 64) / 1e6 / 2)
        assert sum(server.told()["batches"]) == done


# -------------------------------------------------------------------------- kill -9, and others


def build_and_kill(
    server: BatchServer, folder: Path, reached: Callable[[], bool], *arguments: object
) -> None:
    """Starts a build, and kills it when a moment is reached."""
    process = subprocess.Popen(
        command("build", BATCHED, *places(folder), *arguments),
        env=environment(OMR_TEACHER_URL=server.url),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    end = time.monotonic() + 60
    while not reached():
        assert process.poll() is None and time.monotonic() < end, (
            "the build ended before the moment came"
        )
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["upload", "before", "after"])
def test_killed_around_the_making_of_a_batch_it_is_bought_once(moment: str, tmp_path: Path) -> None:
    """Killed while the file is taken, before the batch is made, or when it is made unnoticed."""
    with batch_server(hold=moment) as server:
        build_and_kill(server, tmp_path, lambda: server.told()["holding"] == moment)
        server.go()
        omr("build", BATCHED, *places(tmp_path), OMR_TEACHER_URL=server.url)
        assert server.told()["batches"] == [60]
        assert Counter(server.samples()).most_common(1)[0][1] == 1
    assert (stored(tmp_path), entries(tmp_path)) == (240, [])


def test_a_list_that_lags_behind_what_was_just_made_is_waited_for(tmp_path: Path) -> None:
    with batch_server(lag=0.3) as server, openai.OpenAI(api_key="x", base_url=server.url) as client:
        asked, one = teacher(server, tmp_path, poll=0.5), question()
        (request,) = Sample(asked, n=2).requests(one)
        provider, journal = (
            Provider(client, server.url, (), poll=0.1, outage=1.0),
            BatchJournal(tmp_path),
        )
        (tmp_path / "requests").write_bytes(
            write_line(asked, BatchLine(request, (0, 1)), lambda image: PICTURE)
        )
        file = provider.upload(tmp_path / "requests")
        journal.write(Entry(journal.new_path(), server.url, file, None, ((request.key, 0, 2),)))
        provider.make(file)  # and the process that made it was killed here
        assert all(isinstance(result, Response) for result in only(ask(asked, [one])))
        assert server.told()["batches"] == [1]


@pytest.mark.slow
def test_killed_while_it_waits_for_several_batches_it_collects_them(tmp_path: Path) -> None:
    with batch_server(seconds=3) as server:
        build_and_kill(
            server,
            tmp_path,
            lambda: server.told()["calls"].get("retrieve", 0) > 4,
            "--set",
            "per_file=25",
        )
        assert (server.told()["batches"], len(entries(tmp_path))) == ([25, 25, 10], 3)
        omr("build", BATCHED, *places(tmp_path), "--set", "per_file=25", OMR_TEACHER_URL=server.url)
        assert server.told()["batches"] == [25, 25, 10]
    assert (stored(tmp_path), entries(tmp_path)) == (240, [])


@pytest.mark.slow
def test_killed_while_answers_are_stored_it_reads_the_rest_and_the_release_is_the_same(
    tmp_path: Path,
) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    many = ("--set", "questions=300", "--set", "rollouts=20", "--set", "samples=1")
    with batch_server() as server:
        build_and_kill(server, killed, lambda: stored(killed) > 0, *many)
        assert 0 < stored(killed) < 6_000
        omr("build", BATCHED, *places(killed), *many, OMR_TEACHER_URL=server.url)
        assert server.told()["batches"] == [6_000]
        omr("build", BATCHED, *places(whole), *many, OMR_TEACHER_URL=server.url)
    assert stored(killed) == 6_000
    assert digests(killed / "releases") == digests(whole / "releases")


@pytest.mark.slow
@pytest.mark.parametrize(("rollouts", "more"), [(6, 120), (2, 0)])
def test_a_recipe_that_changed_meanwhile_collects_what_was_bought_and_asks_for_the_difference(
    rollouts: int, more: int, tmp_path: Path
) -> None:
    with batch_server(seconds=2) as server:
        build_and_kill(server, tmp_path, lambda: server.told()["calls"].get("retrieve", 0) > 0)
        omr(
            "build",
            BATCHED,
            *places(tmp_path),
            "--set",
            f"rollouts={rollouts}",
            OMR_TEACHER_URL=server.url,
        )
        assert len(server.samples()) == len(set(server.samples())) == 240 + more
    assert (stored(tmp_path), entries(tmp_path)) == (240 + more, [])


@pytest.mark.slow
def test_a_budget_of_nothing_still_collects_what_an_earlier_run_paid_for(tmp_path: Path) -> None:
    with batch_server(seconds=2) as server:
        build_and_kill(server, tmp_path, lambda: server.told()["calls"].get("retrieve", 0) > 0)
        omr("build", BATCHED, *places(tmp_path), "--max-requests", 0, OMR_TEACHER_URL=server.url)
        assert server.told()["batches"] == [60]


@pytest.mark.slow
def test_batches_of_another_account_or_url_are_not_given_up_in_silence(tmp_path: Path) -> None:
    with batch_server(seconds=2) as server, batch_server() as other:
        build_and_kill(server, tmp_path, lambda: server.told()["calls"].get("retrieve", 0) > 0)
        (entry,) = entries(tmp_path)
        moved = omr("build", BATCHED, *places(tmp_path), code=1, OMR_TEACHER_URL=other.url)
        assert f"60 requests of this build are under way at {server.url}" in moved.stderr
        another = omr(
            "build",
            BATCHED,
            *places(tmp_path),
            code=1,
            OMR_TEACHER_URL=server.url,
            OMR_TEACHER_KEY="another",
        )
        assert "No such batch" in another.stderr and f"delete {entry}" in another.stderr
        assert entries(tmp_path) == [entry]
        omr("build", BATCHED, *places(tmp_path), OMR_TEACHER_URL=server.url)
        assert (server.told()["batches"], other.told()["batches"]) == ([60], [])


@pytest.mark.slow
def test_a_build_goes_on_in_batches_where_it_began_live_and_its_release_is_the_same(
    tmp_path: Path,
) -> None:
    mixed, alone = tmp_path / "mixed", tmp_path / "alone"
    with fault_server() as live, batch_server() as batched:
        omr(
            "build",
            SERVED,
            *places(mixed),
            "--set",
            "questions=60",
            "--max-requests",
            20,
            code=1,
            OMR_TEACHER_URL=live.url,
        )
        omr("build", BATCHED, *places(mixed), OMR_TEACHER_URL=batched.url)
        assert batched.told()["batches"] == [40]
        omr("build", SERVED, *places(alone), "--set", "questions=60", OMR_TEACHER_URL=live.url)
    assert digests(mixed / "releases") == digests(alone / "releases")


def test_an_entry_that_cannot_be_read_stops_the_build_before_it_buys(
    server: BatchServer, tmp_path: Path
) -> None:
    (tmp_path / "0.json").write_text('{"url": ')
    before = server.told()["batches"]
    with pytest.raises(
        StoreError, match="should hold a batch that was paid for, and cannot be read"
    ):
        ask(teacher(server, tmp_path), [question()])
    assert server.told()["batches"] == before
