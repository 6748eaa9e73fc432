"""A plan is run once, accounts for every row, continues after any interruption, and gives the same
bytes with any number of workers."""

import json
import random
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest

from tests.omr import LOGGED, ROOT, command, digests, environment, omr


def build(
    tmp_path: Path, *arguments: object, code: int = 0, workers: int = 1, **extra: object
) -> "subprocess.CompletedProcess[str]":
    places = (
        "--work",
        tmp_path / "work",
        "--releases",
        tmp_path / "releases",
        "--workers",
        workers,
    )
    return omr(
        "build", LOGGED, *places, *arguments, code=code, OMR_TEST_LOG=tmp_path / "log", **extra
    )


def plan(tmp_path: Path, *arguments: object) -> dict[str, dict[str, object]]:
    done = omr("plan", LOGGED, "--work", tmp_path / "work", "--json", *arguments)
    return {node["name"]: node for node in json.loads(done.stdout)["nodes"]}


def asked(tmp_path: Path) -> list[str]:
    log = tmp_path / "log"
    return log.read_text().splitlines() if log.exists() else []


def committed(tmp_path: Path) -> set[str]:
    path = tmp_path / "work" / "rollouts.sqlite"
    if not path.exists():
        return set()
    with sqlite3.connect(path) as store:
        try:
            return {
                f"{key.lower()} {attempt}"
                for key, attempt in store.execute("SELECT hex(key), attempt FROM rollouts")
            }
        except sqlite3.OperationalError:
            return set()  # killed before the tables were made


@pytest.mark.build
def test_a_second_build_runs_nothing_and_more_rollouts_ask_only_for_the_new_ones(
    tmp_path: Path,
) -> None:
    build(tmp_path, "--set", "questions=60")
    assert len(asked(tmp_path)) == 60 * 4
    assert {node["state"] for node in plan(tmp_path, "--set", "questions=60").values()} == {
        "CACHED"
    }
    again = build(tmp_path, "--set", "questions=60")
    assert again.stderr.count("CACHED") == 3
    assert len(asked(tmp_path)) == 60 * 4

    more = ("--set", "questions=60", "--set", "rollouts=6", "--set", "version=1.1.0")
    assert plan(tmp_path, *more)["rollout.Sample"]["teacher_calls"] == 60 * 2
    build(tmp_path, *more)
    assert len(asked(tmp_path)) == 60 * 6
    assert len(set(asked(tmp_path))) == 60 * 6


@pytest.mark.build
def test_changing_the_mix_runs_only_what_follows_it(tmp_path: Path) -> None:
    build(tmp_path, "--set", "questions=60")
    mixed = ("--set", "questions=60", "--set", "rows=5", "--set", "version=1.1.0")
    assert {
        name: node["state"]
        for name, node in plan(tmp_path, *mixed).items()
        if node["state"] == "RUN"
    } == {"mix.Take": "RUN"}
    build(tmp_path, *mixed)
    assert len(asked(tmp_path)) == 60 * 4


@pytest.mark.build
def test_every_row_is_accounted_for_and_a_dropped_one_can_be_looked_up(tmp_path: Path) -> None:
    build(tmp_path, "--set", "questions=60")
    manifest = json.loads((tmp_path / "releases/logged/1.0.0/manifest.json").read_text())
    before = None
    for count in manifest["counts"]:
        assert count["rows_in"] == count["rows_kept"] + sum(count["dropped"].values())
        assert before is None or count["rows_in"] == before
        before = count["rows_out"]
    assert manifest["rows"] == before
    tallies = {count["step"]: count["tally"] for count in manifest["counts"]}
    assert tallies["rollout.Sample"] == {"answers": 60 * 4}
    assert tallies["verify.Answers"]["RIGHT"] == before
    shown = omr(
        "show",
        LOGGED,
        "--set",
        "questions=60",
        "--work",
        tmp_path / "work",
        "--dropped",
        "--rows",
        1,
    ).stdout
    assert "explode.Right: no answer is right" in shown
    assert "answer: " in shown


@pytest.mark.build
@pytest.mark.parametrize("workers", [2, 4])
def test_the_release_has_the_same_bytes_for_any_number_of_workers(
    tmp_path: Path, workers: int
) -> None:
    build(tmp_path / "one", "--set", "questions=60")
    build(tmp_path / "many", "--set", "questions=60", workers=workers)
    assert digests(tmp_path / "one/releases") == digests(tmp_path / "many/releases")


@pytest.mark.slow
def test_killed_at_twenty_moments_the_release_is_the_same_and_no_stored_answer_is_asked_again(
    tmp_path: Path,
) -> None:
    """SIGKILL at random moments of a build with worker processes; each rerun continues it."""
    build(tmp_path / "calm")
    whole = tmp_path / "killed"
    (whole / "work").mkdir(parents=True)
    extra = environment(OMR_TEST_LOG=whole / "log", OMR_TEST_DELAY=0.05)
    moments = random.Random(0)
    kills = finished = 0
    while kills < 20:
        if finished:
            # It got to the end: begin anew, so that all twenty kills meet a build that is at work.
            assert digests(tmp_path / "calm/releases") == digests(whole / "releases")
            for path in (whole / "releases", whole / "work"):
                path.rename(tmp_path / f"{path.name}-{kills}")
            (whole / "log").unlink()
            finished = 0
        stored, said = committed(whole), len(asked(whole))
        places = ("--work", whole / "work", "--releases", whole / "releases", "--workers", 2)
        process = subprocess.Popen(
            command("build", LOGGED, *places),
            env=extra,
            cwd=ROOT,
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        try:
            finished = process.wait(timeout=moments.uniform(0.6, 3.5)) == 0
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
        else:
            assert finished, "a build that was not killed must end well"
        assert not stored & set(asked(whole)[said:])
    time.sleep(0.5)
    build(whole, workers=2)
    assert digests(tmp_path / "calm/releases") == digests(whole / "releases")
    assert committed(whole) == committed(tmp_path / "calm")
    assert not [path for path in whole.rglob(".*.tmp") if path.exists()]


@pytest.mark.build
def test_two_builds_in_one_workspace_do_not_run_at_once(tmp_path: Path) -> None:
    extra = environment(OMR_TEST_LOG=tmp_path / "log", OMR_TEST_DELAY=0.5)
    places = ("--work", tmp_path / "work", "--releases", tmp_path / "releases", "--workers", 1)
    first = subprocess.Popen(
        command("build", LOGGED, *places),
        env=extra,
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while not asked(tmp_path) and time.monotonic() < deadline:
            time.sleep(0.05)
        refused = build(tmp_path, code=1)
    finally:
        first.kill()
        first.wait()
    assert "another build is running" in refused.stderr
