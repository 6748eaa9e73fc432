"""A build that asks a server: killed, paused and replayed, it loses no answer, asks none twice."""

import json
import random
import re
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from omr_data.store.ledger import read_json
from omr_data.teacher import Budget
from tests.asking import rows
from tests.omr import ROOT, command, digests, environment, omr
from tests.servers import fault_server

pytestmark = pytest.mark.slow

SERVED = ROOT / "tests" / "recipes" / "served.py"
ROWED = ROOT / "tests" / "recipes" / "rowed.py"


def places(folder: Path) -> tuple[object, ...]:
    return ("--work", folder / "work", "--releases", folder / "releases", "--workers", 1)


def stored(folder: Path) -> int:
    path = folder / "work" / "rollouts.sqlite"
    if not path.exists():
        return 0
    with sqlite3.connect(path) as store:
        try:
            (count,) = store.execute("SELECT count(*) FROM rollouts").fetchone()
        except sqlite3.OperationalError:
            return 0  # killed before the tables were made
    return int(count)


def test_killed_at_twenty_moments_under_load_only_requests_in_flight_are_asked_again(
    tmp_path: Path,
) -> None:
    moments = random.Random(0)
    with fault_server(latency=0.1, most=16) as server:
        extra = environment(OMR_TEACHER_URL=server.url)
        kills = lost = 0
        while kills < 20:
            before = stored(tmp_path)
            process = subprocess.Popen(
                command("build", SERVED, *places(tmp_path)),
                env=extra,
                cwd=ROOT,
                stderr=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
            began = len(server.told()["log"])
            end = time.monotonic() + 20
            # The next kill comes a random while after the first answers of this run.
            while (
                len(server.told()["log"]) == began
                and process.poll() is None
                and time.monotonic() < end
            ):
                time.sleep(0.01)
            time.sleep(moments.uniform(0.0, 0.12))
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            lost += len(server.told()["log"]) - began - (stored(tmp_path) - before) // 4
            assert stored(tmp_path) >= before
        omr("build", SERVED, *places(tmp_path), OMR_TEACHER_URL=server.url)
        given = Counter(server.samples())
        assert stored(tmp_path) == 4 * 300
        assert len(given) == 4 * 300
        # Asked twice is only what was answered and not committed when a kill came: at most what
        # was in flight.
        assert sum(count - 1 for count in given.values()) == 4 * lost
        assert lost <= 20 * 32
    manifest = read_json(tmp_path / "releases/served/1.0.0/manifest.json")
    (asked,) = [line for line in manifest["counts"] if line["step"] == "rollout.Sample"]
    assert asked["tally"] == {"answers": 4 * 300}


def test_a_spent_budget_pauses_the_build_and_a_new_one_goes_on(tmp_path: Path) -> None:
    with fault_server() as server:
        paused = omr(
            "build",
            SERVED,
            *places(tmp_path),
            "--max-requests",
            40,
            code=1,
            OMR_TEACHER_URL=server.url,
        )
        assert "paused: the budget is spent (40 requests" in paused.stderr
        assert stored(tmp_path) == 4 * 40
        again = omr(
            "build",
            SERVED,
            *places(tmp_path),
            "--budget",
            "0.001usd",
            code=1,
            OMR_TEACHER_URL=server.url,
        )
        assert "paused: the budget is spent" in again.stderr
        omr("build", SERVED, *places(tmp_path), OMR_TEACHER_URL=server.url)
        assert stored(tmp_path) == 4 * 300
        assert max(Counter(server.samples()).values()) == 1


def test_a_budget_that_is_no_amount_is_refused(tmp_path: Path) -> None:
    assert (
        "--budget takes US dollars"
        in omr("build", SERVED, *places(tmp_path), "--budget", "lots", code=1).stderr
    )


def test_the_plan_says_what_asking_would_take(tmp_path: Path) -> None:
    with fault_server() as server:
        omr(
            "build",
            SERVED,
            *places(tmp_path),
            "--max-requests",
            0,
            code=1,
            OMR_TEACHER_URL=server.url,
        )
        planned = omr("plan", SERVED, "--work", tmp_path / "work").stdout
        assert re.search(
            r"expected: 300 requests, about \$0.\d\d,\s+"
            r"about [\d,]+ prompt tokens and 19,200 completion tokens",
            planned,
        )
        node = next(
            node
            for node in json.loads(
                omr("plan", SERVED, "--work", tmp_path / "work", "--json").stdout
            )["nodes"]
            if "Sample" in node["name"]
        )
        assert node["estimate"]["requests"] == 300


def test_published_rollouts_replay_a_release_without_a_teacher(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    with fault_server() as server:
        omr("build", SERVED, *places(first), OMR_TEACHER_URL=server.url)
    exported = tmp_path / "rollouts.parquet"
    assert (
        "1,200 rollouts of 300 requests"
        in omr("rollouts", "export", exported, "--work", first / "work").stdout
    )
    assert "1,200 rollouts" in omr("rollouts", "import", exported, "--work", second / "work").stdout
    assert "0 new" in omr("rollouts", "import", exported, "--work", second / "work").stdout
    omr("build", SERVED, *places(second))
    assert digests(first / "releases") == digests(second / "releases")
    stats = omr("rollouts", "stats", "--work", second / "work").stdout
    assert "tiny: 1,200" in stats and "1,200" in stats


def test_an_import_whose_key_is_not_that_of_its_request_is_refused_whole(tmp_path: Path) -> None:
    import polars as pl

    with fault_server() as server:
        omr("build", SERVED, *places(tmp_path), "--set", "questions=9", OMR_TEACHER_URL=server.url)
    exported = tmp_path / "rollouts.parquet"
    omr("rollouts", "export", exported, "--work", tmp_path / "work")
    frame = pl.read_parquet(exported)
    frame.with_columns(
        request=pl.col("request").str.replace("temperature", "temperament")
    ).write_parquet(exported)
    failed = omr("rollouts", "import", exported, "--work", tmp_path / "other", code=1)
    assert "is not the sha256 of its request" in failed.stderr
    assert "holds 0 rollouts" in omr("rollouts", "stats", "--work", tmp_path / "other").stdout


def test_a_server_that_goes_away_costs_nothing_and_the_next_run_asks_for_what_is_missing(
    tmp_path: Path,
) -> None:
    with fault_server() as server:
        omr(
            "build",
            SERVED,
            *places(tmp_path),
            "--max-requests",
            100,
            code=1,
            OMR_TEACHER_URL=server.url,
        )
    gone = omr("build", SERVED, *places(tmp_path), code=1, OMR_TEACHER_URL=server.url)
    assert "no answer for 2 s from http://127.0.0.1" in gone.stderr
    assert stored(tmp_path) == 4 * 100
    with fault_server() as back:
        omr("build", SERVED, *places(tmp_path), OMR_TEACHER_URL=back.url)
        assert len(back.samples()) == 4 * 200


def test_attempts_that_fail_are_counted_by_kind_and_asked_again(tmp_path: Path) -> None:
    with fault_server(latency=30) as stuck:
        failed = omr(
            "build",
            SERVED,
            *places(tmp_path),
            "--set",
            "questions=3",
            "--set",
            "timeout=0.3",
            "--set",
            "outage=60",
            code=1,
            OMR_TEACHER_URL=stuck.url,
        )
    assert "12 attempts failed: timeout" in failed.stderr
    assert "12 of 12 attempts got no answer, and may succeed later" in failed.stderr
    with fault_server() as back:
        omr(
            "build",
            SERVED,
            *places(tmp_path),
            "--set",
            "questions=3",
            "--set",
            "timeout=0.3",
            OMR_TEACHER_URL=back.url,
        )
        assert len(back.samples()) == 12


def test_a_request_that_could_cost_too_much_is_not_sent_and_nothing_is_reserved_for_it() -> None:
    budget = Budget(usd=1.0, spent=0.5)
    assert not budget.reserve(0.6)
    assert budget.reserve(0.4) and not budget.reserve(0.2)
    budget.settle(0.4, 0.1)
    assert budget.reserve(0.2)
    assert (budget.sent, budget.spent, budget.reserved) == (2, pytest.approx(0.6), 0.2)


def failures(folder: Path) -> list[tuple[object, ...]]:
    """Stored failures: status, kind, HTTP status, tries and how many."""
    with sqlite3.connect(folder / "work/rollouts.sqlite") as store:
        return store.execute(
            "SELECT status, kind, http_status, tries, count(*) FROM failures GROUP BY kind "
            "ORDER BY status, kind"
        ).fetchall()


def test_each_failure_is_a_stored_record_and_the_next_run_asks_exactly_those_that_may_succeed(
    tmp_path: Path,
) -> None:
    faults: list[dict[str, object]] = [
        {"fault": "500", "times": 2},
        {"fault": "reset", "times": 2},
        {"fault": "empty", "times": 3},
    ]
    given = rows(tmp_path / "rows", [{}, *faults, {"fault": "400", "times": 3}])
    with fault_server() as server:
        extra = {"OMR_TEACHER_URL": server.url, "OMR_TEST_ROWS": given}
        failed = omr("build", ROWED, *places(tmp_path), code=1, **extra)
        said = [line.strip() for line in failed.stderr.splitlines() if " attempts " in line]
        assert [line.partition(" (")[0] for line in said[:4]] == [
            "2 attempts failed: connection",
            "2 attempts failed: empty answer",
            "2 attempts failed: server error",
            "2 attempts rejected: rejected, and will not be asked again",
        ]
        assert "6 of 10 attempts got no answer, and may succeed later" in failed.stderr
        assert failures(tmp_path) == [
            ("failed", "connection", 0, 2, 2),
            ("failed", "empty answer", 200, 2, 2),
            ("failed", "server error", 500, 2, 2),
            ("rejected", "rejected", 400, 1, 2),
        ]
        shown = omr("rollouts", "failures", "--work", tmp_path / "work").stdout
        # Cells wrap where the output is no terminal.
        assert re.search("rejected.*400.*2.*told", shown, re.DOTALL)

        # The next run gets all answers but two of ten, which is more than a release may leave open.
        answered = len(server.told()["log"])
        blocked = omr("build", ROWED, *places(tmp_path), code=1, **extra)
        again = {question[:10] for question, *_ in server.told()["log"][answered:]}
        assert again == {"Question 1", "Question 2", "Question 3"}
        assert "2 of 10 attempts have no answer (2 rejected), which is 20.0%" in blocked.stderr
        assert "Most were rejected with 400: " in blocked.stderr
        assert "told to say 400" in blocked.stderr
        assert not (tmp_path / "releases").exists()

        # Mended, exactly the rejected ones are asked again, and what was built on them is rebuilt.
        answered = len(server.told()["log"])
        assert "2 attempts will be asked again" in (
            omr("rollouts", "retry", "--kind", "rejected", "--work", tmp_path / "work").stdout
        )
        planned = omr("plan", ROWED, "--work", tmp_path / "work", "--json", **extra).stdout
        (sample,) = [one for one in json.loads(planned)["nodes"] if "Sample" in one["name"]]
        assert (sample["state"], sample["teacher_calls"]) == ("RUN", 2)
        omr("build", ROWED, *places(tmp_path), **extra)
        again = {question[:10] for question, *_ in server.told()["log"][answered:]}
        assert again == {"Question 4"}
    manifest = read_json(tmp_path / "releases/rowed/1.0.0/manifest.json")
    (asked,) = [line for line in manifest["counts"] if line["step"] == "rollout.Sample"]
    assert (asked["tally"], manifest["rows"]) == ({"answers": 10}, 10)


def test_a_share_without_an_answer_that_the_step_allows_is_released_said_and_in_the_card(
    tmp_path: Path,
) -> None:
    given = rows(tmp_path / "rows", [{}, {"fault": "reason content_filter"}, {}])
    with fault_server() as server:
        extra = {"OMR_TEACHER_URL": server.url, "OMR_TEST_ROWS": given}
        allowed = ("--set", "unanswered=0.4")
        built = omr("build", ROWED, *places(tmp_path), *allowed, **extra)
        assert "rollout.Sample: attempts without an answer: 2 refused" in built.stderr
        exported = tmp_path / "rollouts.parquet"
        omr("rollouts", "export", exported, "--work", tmp_path / "work")
    card = (tmp_path / "releases/rowed/1.0.0/README.md").read_text()
    assert "answers: 4, refused: 2" in card
    # Refused attempts are exported, so that a replay has nothing to ask.
    omr("rollouts", "import", exported, "--work", tmp_path / "other/work")
    omr("build", ROWED, *places(tmp_path / "other"), *allowed, OMR_TEST_ROWS=given)
    assert digests(tmp_path / "releases") == digests(tmp_path / "other/releases")


def test_another_url_concurrency_number_of_tries_and_order_of_rows_ask_for_nothing(
    tmp_path: Path,
) -> None:
    given = rows(tmp_path / "rows", [{}] * 20)
    with fault_server() as server, fault_server() as other:
        omr("build", ROWED, *places(tmp_path), OMR_TEACHER_URL=server.url, OMR_TEST_ROWS=given)
        lines = (given / "rows.jsonl").read_text().splitlines(keepends=True)
        (given / "rows.jsonl").write_text("".join(reversed(lines)))
        changed = ("--set", "concurrency=3", "--set", "tries=5", "--releases", tmp_path / "again")
        omr(
            "build",
            ROWED,
            "--work",
            tmp_path / "work",
            *changed,
            OMR_TEACHER_URL=other.url,
            OMR_TEST_ROWS=given,
        )
        assert (len(server.samples()), other.told()["seen"]) == (40, 0)
